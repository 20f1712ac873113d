r"""A masked autoregressive net: a density of binary vectors in one pass.

$p(x) = \prod_i p(x_i \mid x_{<i})$. Masks on the weights of a net let output i see the inputs
before i alone, so that one call gives all conditionals; sampling takes one call per component.
There is no latent variable, and the cost is `dg.nll(p)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.nn.functional import binary_cross_entropy_with_logits, linear

import daguerre as dg
from daguerre.game import Game

__all__ = ["MADE", "Autoregressive", "MaskedLinear", "made"]


class MaskedLinear(nn.Linear):
    """A linear layer some of whose weights are zero for good.

    Args:
        degrees_in: A number for each input.
        degrees_out: A number for each output; it sees the inputs that are not above it.
    """

    mask: Tensor

    def __init__(self, degrees_in: Tensor, degrees_out: Tensor) -> None:
        super().__init__(len(degrees_in), len(degrees_out))
        self.register_buffer("mask", (degrees_out[:, None] >= degrees_in).float())

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's word for it
        """Return the outputs, `[n, out]`."""
        return linear(input, self.weight * self.mask, self.bias)


class Autoregressive(Distribution):
    """Binary vectors by a net whose output i is the logit of component i given those before it."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}  # type: ignore[override]
    support = constraints.independent(constraints.boolean, 1)  # type: ignore[assignment]

    def __init__(self, net: nn.Module, size: int, batch: Iterable[int] = ()) -> None:
        self.net, self.size = net, size
        super().__init__(torch.Size(batch), torch.Size([size]), validate_args=False)

    def expand(self, batch_shape: Iterable[int], _instance: object = None) -> Autoregressive:
        """Return the distribution of independent copies."""
        return Autoregressive(self.net, self.size, batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of vectors `[..., size]`."""
        logits = self.net(value)
        return -binary_cross_entropy_with_logits(logits, value, reduction="none").sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw, one component after the other."""
        weight = next(self.net.parameters())
        x = weight.new_zeros((*sample_shape, *self.batch_shape, self.size))
        for i in range(self.size):
            x[..., i] = torch.bernoulli(self.net(x)[..., i].sigmoid())
        return x


class MADE(dg.Model):
    """One variable whose CPD is a masked net.

    Args:
        size: Components of x.
        hidden: Widths of the hidden layers.

    References:
        Germain, Gregor, Murray and Larochelle (2015, arXiv 1502.03509).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> p, every = MADE(3, 16), torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        >>> round(p.log_prob({"x": every}).exp().sum().item(), 5)
        1.0
    """

    def __init__(self, size: int = 64, *hidden: int) -> None:
        super().__init__()
        self.size = size
        degrees = [torch.arange(size)]  # of input i; a hidden unit of degree m sees inputs 0..m
        degrees += [torch.arange(width) % max(size - 1, 1) for width in hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(degrees):
            layers += [MaskedLinear(before, after), nn.ReLU()]
        self.net = nn.Sequential(*layers, MaskedLinear(degrees[-1], torch.arange(size) - 1))

    @dg.rv
    def x(self):
        return Autoregressive(self.net, self.size)


def made(pixels: int = 64) -> Game:
    """Build the density of binary pictures, with two hidden layers."""
    p = MADE(pixels, 8 * pixels, 8 * pixels)
    return Game({"p": p}, dg.nll(p), {"epochs": 50})
