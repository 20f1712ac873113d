r"""The variational recurrent net: a latent per step, and units that remember both of the past.

$h_t = f(h_{t-1}, x_{t-1}, z_{t-1})$, $z_t \mid h_t$ and $x_t \mid z_t, h_t$, where q draws
$z_t \mid x_t, h_t$. The units are deterministic, and the same map in p and in q: q runs it step by
step as it draws, p all steps at once on what was drawn. The paper's $h_{t-1}$ is our $h_t$, which
holds what is known before step t.

References:
    Chung et al. (2015, arXiv 1506.02216), equations 5 to 11.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre.game import Game

__all__ = ["VRNN", "Encoder", "piano_rolls"]


class VRNN(dg.Model):
    """Binary events `[n, T, pixels]`, such as the keys of a piano.

    Args:
        pixels: The size of x.
        latent: The size of z.
        hidden: Units.

    Example:
        >>> VRNN(6, 2, 8).graph
        Graph(h[t-1], z[t-1], x[t-1] => h; h -> z; z, h -> x)
    """

    def __init__(self, pixels: int, latent: int = 16, hidden: int = 64) -> None:
        super().__init__()
        self.pixels, self.latent, self.hidden = pixels, latent, hidden
        self.cell = nn.GRUCell(latent + pixels, hidden)
        self.prior = nn.Linear(hidden, 2 * latent)
        self.decode = dg.nn.mlp(latent + hidden, hidden, pixels)

    def zeros(self, size: int) -> Tensor:
        """Return what stands before the first step, `[size]`."""
        return self.prior.weight.new_zeros(size)

    def all_h(self, before: Tensor, z: Tensor, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the units of all steps at once."""
        return dg.nn.over_time(self.cell, torch.cat([z, x], 2), before, lengths=lengths)

    @dg.deterministic(over_time=all_h)
    def h(
        self,
        before: Tensor = dg.lag("h", init=lambda self: self.zeros(self.hidden)),
        z: Tensor = dg.lag("z", init=lambda self: self.zeros(self.latent)),
        x: Tensor = dg.lag("x", init=lambda self: self.zeros(self.pixels)),
    ):
        return self.cell(torch.cat([z, x], 1), before)

    @dg.rv
    def z(self, h: Tensor):
        mean, log_scale = self.prior(h).chunk(2, 1)
        return Normal(mean, log_scale.exp())

    @dg.rv
    def x(self, z: Tensor, h: Tensor):
        return Bernoulli(logits=self.decode(torch.cat([z, h], 1)))


class Encoder(dg.Model):
    """q(z_t | x_t, h_t), with the units of the model that it is made for.

    Args:
        p: The model.
    """

    x = dg.Input()

    def __init__(self, p: VRNN) -> None:
        super().__init__()
        self.p = p
        self.encode = dg.nn.mlp(p.pixels + p.hidden, p.hidden, 2 * p.latent)

    @dg.deterministic
    def h(
        self,
        before: Tensor = dg.lag("h", init=lambda self: self.p.zeros(self.p.hidden)),
        z: Tensor = dg.lag("z", init=lambda self: self.p.zeros(self.p.latent)),
        x: Tensor = dg.lag("x", init=lambda self: self.p.zeros(self.p.pixels)),
    ):
        return self.p.h(before, z, x)

    @dg.rv
    def z(self, x: Tensor, h: Tensor):
        mean, log_scale = self.encode(torch.cat([x, h], 1)).chunk(2, 1)
        return Normal(mean, log_scale.exp())


def piano_rolls(pixels: int = 88, latent: int = 16, hidden: int = 64) -> Game:
    """Build model, inference net and bound for chords `[n, T, 88]`, some of them shorter."""
    p = VRNN(pixels, latent, hidden)
    q = Encoder(p)
    cost = dg.elbo(p, q, partial=["x"])
    return Game({"p": p, "q": q}, cost, {"epochs": 50, "batch_size": 32, "lr": 3e-3})
