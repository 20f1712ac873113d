r"""Switching linear dynamics: a hidden state moves linearly, by one of several laws in turn.

$k_t \sim p(k_t \mid k_{t-1})$, $z_t \sim N(A_{k_t} z_{t-1} + b_{k_t}, Q_{k_t})$,
$x_t \sim N(C z_t + d, R)$. Given all regimes k it is a state space, but there are $K^T$ paths of
them: exact inference ends at a few steps, on the plain graph `p.unroll(T)`. Longer
sequences are filtered by particles, `dg.posterior(p, ["k", "z"], given={"x": x},
method=dg.infer.SMC(1000))`, whose evidence is unbiased and has a variance that grows with T, or
learned by a bound: q draws the states z, and the regimes given them are a hidden Markov chain,
which `dg.elbo` sums out exactly, `dg.posterior(p, "k", given={"x": x, "z": z})` likewise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import softplus

import daguerre as dg
from daguerre.game import Game

__all__ = ["Smoother", "Switching", "learn", "regimes"]


class Switching(dg.Model):
    """Regimes `[n, T]`, states `[n, T, latent]` and what is seen, `[n, T, observed]`.

    References:
        Ghahramani and Hinton (2000), *Variational learning for switching state-space models*;
        Murphy (1998), *Switching Kalman filters*.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = Switching(2, 1, 1).sample(4, t=5)["x"]
        >>> x.shape
        torch.Size([4, 5, 1])
    """

    def __init__(self, regimes: int, latent: int, observed: int) -> None:
        super().__init__()
        self.first = dg.Tabular(torch.full([regimes], 1 / regimes))
        self.start = dg.LinearGaussian(torch.zeros(latent), torch.ones(latent))
        self.turn = dg.Tabular(0.8 * torch.eye(regimes) + 0.2 / regimes, "last")
        near_one = 0.9 * torch.eye(latent) + 0.1 * torch.randn(regimes, latent, latent)
        self.move = dg.LinearGaussian(
            torch.randn(regimes, latent),
            torch.full([regimes, latent], 0.5),
            weights={"last": near_one},
            given=["k"],
        )
        self.see = dg.LinearGaussian(
            torch.zeros(observed),
            torch.full([observed], 0.5),
            weights={"z": torch.eye(observed, latent)},
        )

    @dg.rv
    def k(self, last: Tensor = dg.lag("k", init=lambda self: self.first())):
        return self.turn(last)

    @dg.rv
    def z(self, k: Tensor, last: Tensor = dg.lag("z", init=lambda self: self.start())):
        return self.move(last, k)

    @dg.rv
    def x(self, z: Tensor):
        return self.see(z)


class Smoother(dg.Model):
    """q(z | x), without the regimes: units b read backwards, and a state follows them.

    Args:
        latent: The size of a state.
        observed: Numbers that are seen at a step.
        units: How many read backwards.
    """

    x = dg.Input()

    def __init__(self, latent: int, observed: int, units: int = 32) -> None:
        super().__init__()
        self.cell = nn.GRUCell(observed, units)
        self.end, self.start = (nn.Parameter(torch.zeros(size)) for size in (units, latent))
        self.mean, self.spread = (nn.Linear(units + latent, latent) for _ in range(2))

    def all_b(self, x: Tensor, after: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the units of all steps at once."""
        return dg.nn.over_time(self.cell, x, after, lengths=lengths)

    @dg.deterministic(over_time=all_b)
    def b(self, x: Tensor, after: Tensor = dg.lag("b", -1, init=lambda self: self.end)):
        return self.cell(x, after)

    @dg.rv
    def z(self, b: Tensor, last: Tensor = dg.lag("z", init=lambda self: self.start)):
        both = torch.cat([b, last], 1)
        return Normal(self.mean(both), softplus(self.spread(both)))


def regimes(count: int, latent: int, observed: int) -> Game:
    """Build the game of the two, for sequences of any length.

    References:
        Dong, Seybold, Murphy and Bui (2020), arXiv 1910.09588, with nets for all laws.

    Example:
        >>> game = regimes(2, 1, 1)
        >>> [row["estimator"].partition("; ")[2] for row in game.objective.explain()][1]
        'k summed out exactly by a scan over the steps'
    """
    p, q = Switching(count, latent, observed), Smoother(latent, observed)
    return Game({"p": p, "q": q}, dg.elbo(p, q, partial=["x"]), {"steps": 2000, "lr": 0.01})


def learn(p: Switching, x: Tensor, *, steps: int = 200, lr: float = 0.05) -> dg.Objective:
    """Fit by the gradient of the exact likelihood of short sequences, in place.

    Args:
        p: The model.
        x: Sequences `[n, T, d]`; time and memory are exponential in T, so of a few steps, such as
            windows of a long one (whose law of the first state is then that of any state).
        steps: Of the optimiser.
        lr: Its learning rate.

    Returns:
        The cost, in nats per sequence.
    """
    plain = p.unroll(x.shape[1])
    data = plain.apart({"x": x})
    cost = dg.nll(plain, observed=list(data))
    dg.fit(cost, data, steps=steps, batch_size=min(256, len(x)), lr=lr, progress=False)
    return cost
