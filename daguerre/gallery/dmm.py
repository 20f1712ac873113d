r"""A deep Markov model of music, and the net that reads a piece backwards to infer its states.

$p(z_{1:T}, x_{1:T}) = \prod_t p(z_t \mid z_{t-1})\, p(x_t \mid z_t)$: the graph of a hidden Markov
model or a Kalman filter, with Gaussian states that move by a gated net. The posterior has the
structure $q(z_{1:T} \mid x) = \prod_t q(z_t \mid z_{t-1}, x_{t:T})$, where what is yet to come is
read backwards. Pieces `[n, T, keys]` may be of different lengths: NaN beyond the end.

References:
    Krishnan, Shalit and Sontag (2017, arXiv 1609.09869), *Structured inference networks for
    nonlinear state space models*.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal
from torch.nn.functional import softplus

import daguerre as dg
from daguerre.game import Game
from daguerre.objectives.schedules import linear

__all__ = ["DeepMarkov", "Smoother", "music"]


class DeepMarkov(dg.Model):
    """Gaussian states that mix a linear move with one that a net proposes; keys that sound.

    Args:
        keys: Numbers that are seen at a step.
        latent: The size of a state.
        emission: Hidden units between a state and its keys.
        transition: Hidden units of a move.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> DeepMarkov(5, 2).sample(3, t=4)["x"].shape
        torch.Size([3, 4, 5])
    """

    def __init__(
        self, keys: int = 88, latent: int = 100, emission: int = 100, transition: int = 200
    ) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(latent))
        self.gate = dg.nn.mlp(latent, transition, latent)
        self.proposal = dg.nn.mlp(latent, transition, latent)
        self.linear, self.spread = nn.Linear(latent, latent), nn.Linear(latent, latent)
        self.emit = dg.nn.mlp(latent, emission, emission, keys)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @dg.rv
    def z(self, last: Tensor = dg.lag("z", init=lambda self: self.start)):
        proposed = self.proposal(last)
        mean = torch.lerp(self.linear(last), proposed, self.gate(last).sigmoid())
        return Normal(mean, softplus(self.spread(proposed.relu())))

    @dg.rv
    def x(self, z: Tensor):
        return Bernoulli(logits=self.emit(z))


class Smoother(dg.Model):
    """q(z | x): units b read the piece backwards, and a state follows them and the one before.

    Args:
        keys: Numbers that are seen at a step.
        latent: The size of a state.
        units: How many read backwards.
    """

    x = dg.Input()

    def __init__(self, keys: int = 88, latent: int = 100, units: int = 600) -> None:
        super().__init__()
        self.cell = nn.RNNCell(keys, units)
        self.end = nn.Parameter(torch.zeros(units))
        self.start = nn.Parameter(torch.zeros(latent))
        self.recall = nn.Linear(latent, units)
        self.mean, self.spread = nn.Linear(units, latent), nn.Linear(units, latent)

    def all_b(self, x: Tensor, after: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the units of all steps at once."""
        return dg.nn.over_time(self.cell, x, after, lengths=lengths)

    @dg.deterministic(over_time=all_b)
    def b(self, x: Tensor, after: Tensor = dg.lag("b", -1, init=lambda self: self.end)):
        return self.cell(x, after)

    @dg.rv
    def z(self, b: Tensor, last: Tensor = dg.lag("z", init=lambda self: self.start)):
        both = (self.recall(last).tanh() + b) / 2
        return Normal(self.mean(both), softplus(self.spread(both)))


def music(keys: int = 88, latent: int = 100, *, anneal: int = 5000) -> Game:
    """Build the game of the two, whose KL is weighed from 0.2 up to 1.

    Args:
        keys: Numbers that are seen at a step.
        latent: The size of a state.
        anneal: Training steps until the KL counts in full.
    """
    p, q = DeepMarkov(keys, latent), Smoother(keys, latent)
    rate = linear(0.2, 1.0, steps=anneal)
    options = {"epochs": 500, "batch_size": 20, "lr": 8e-4}
    return Game({"p": p, "q": q}, dg.elbo(p, q, rate=rate, partial=["x"]), options)
