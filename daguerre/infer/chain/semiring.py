"""Sums of products in three ways: scaled probabilities, logarithms, and maxima.

Rows come last while a chain is stepped through: vectors are `[K, rows]`, matrices (one vector for
each state that a block may begin with) `[K, K, rows]`. Blocks are joined with rows first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

__all__ = ["SMALLEST", "Logarithms", "Maxima", "Scaled", "Semiring", "guarded"]

SMALLEST = 1e-60  # down to where sums of scaled probabilities stay exact, see Scaled


def guarded(top: Tensor) -> Tensor:
    """Return a maximum of logarithms, and 0 where it is -inf: what may be subtracted."""
    return top.masked_fill(top == -torch.inf, 0.0)


class Semiring(ABC):
    """What addition, multiplication and rescaling mean.

    Attributes:
        every: After how many steps to rescale; 0 for never.
        least: The least transition, if it is above zero and the largest are about 1; else 0.
    """

    every: int
    least: float = 0.0

    @abstractmethod
    def encode(self, logs: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Return what stands for numbers with these logarithms."""

    @abstractmethod
    def step(self, x: Tensor, m: Tensor, *, out: Tensor | None = None) -> Tensor:
        r"""Return $y_j = \sum_i m_{ji} x_i$ for x `[K, ..., rows]`, m `[K, K]` or with rows.

        It may be written to `out`, and need not be.
        """

    @abstractmethod
    def weigh(self, x: Tensor, weights: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Multiply by what broadcasts."""

    @abstractmethod
    def join(self, x: Tensor, m: Tensor) -> Tensor:
        """Multiply matrices, `[..., r, K]` by `[..., K, K]`."""

    @abstractmethod
    def rescale(self, x: Tensor, *dims: int) -> tuple[Tensor, Tensor]:
        """Return x divided by its largest over some dimensions, and the logarithm of that."""

    @abstractmethod
    def total(self, x: Tensor) -> Tensor:
        """Return the logarithm of the sum over states, `[..., K]` to `[...]`."""

    @abstractmethod
    def normalised(self, x: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
        """Return probabilities along a dimension; zeros where all are zero."""

    def unit(self, like: Tensor) -> Tensor:
        """Return the unit matrix of the size, type and device of `[..., K]`."""
        k = like.shape[-1]
        eye = torch.eye(k, dtype=torch.bool, device=like.device)
        zeros = torch.zeros(k, k, dtype=like.dtype, device=like.device)
        return self.encode(zeros.masked_fill(~eye, -torch.inf))


@final
class Scaled(Semiring):
    r"""Probabilities, divided by their largest from time to time: plain matrix products.

    Let the transitions lie in [a, 1] and the largest likelihood of each step be 1. Then a step
    leaves at least a of the sum, and gives every state at least a / K of it before the likelihood:
    what underflows was negligible for all that follows, however unlikely the later observations.
    That is not so where transitions are zero; use `Logarithms` there.

    Args:
        least: The least transition, a >= 1e-60.
    """

    def __init__(self, least: float) -> None:
        bits = torch.tensor([SMALLEST, least], dtype=torch.float64).log2().clamp(max=-1)
        self.least = least
        self.every = max(1, min(64, int(bits[0] / bits[1])))

    def encode(self, logs: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Return the exponentials."""
        return torch.exp(logs, out=out)

    def step(self, x: Tensor, m: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Multiply matrices."""
        if m.dim() == 3:
            return torch.einsum("i...n,jin->j...n", x, m)
        return torch.mm(m, x, out=out) if x.dim() == 2 else (m @ x.flatten(1)).view(x.shape)

    def weigh(self, x: Tensor, weights: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Multiply."""
        return torch.mul(x, weights, out=out)

    def join(self, x: Tensor, m: Tensor) -> Tensor:
        """Multiply matrices."""
        return x @ m

    def rescale(self, x: Tensor, *dims: int) -> tuple[Tensor, Tensor]:
        """Divide by the largest entry; zeros stay."""
        top = x.detach().amax(dims, keepdim=True)
        top = top.masked_fill(top == 0, 1.0)
        return x / top, top.log().squeeze(dims)

    def total(self, x: Tensor) -> Tensor:
        """Sum."""
        return x.sum(-1).log()

    def normalised(self, x: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
        """Divide by the sum."""
        total = x.sum(dim, keepdim=True)
        return torch.div(x, total.masked_fill(total == 0, 1.0), out=out)


class _Logs(Semiring):
    every = 0

    @abstractmethod
    def add(self, x: Tensor, dim: int) -> Tensor:
        """Add over one dimension."""

    def encode(self, logs: Tensor, *, out: Tensor | None = None) -> Tensor:
        return logs

    def step(self, x: Tensor, m: Tensor, *, out: Tensor | None = None) -> Tensor:
        if m.dim() == 2:
            m = m.unsqueeze(-1)
        return self.add(x.unsqueeze(0) + (m if x.dim() == 2 else m.unsqueeze(2)), 1)

    def join(self, x: Tensor, m: Tensor) -> Tensor:
        return self.add(x.unsqueeze(-1) + m.unsqueeze(-3), -2)

    def weigh(self, x: Tensor, weights: Tensor, *, out: Tensor | None = None) -> Tensor:
        return torch.add(x, weights, out=out)

    def rescale(self, x: Tensor, *dims: int) -> tuple[Tensor, Tensor]:
        return x, torch.zeros_like(x).amax(dims)

    def total(self, x: Tensor) -> Tensor:
        return self.add(x, -1)

    def normalised(self, x: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
        probs = (x - guarded(x.detach().amax(dim, keepdim=True))).exp()
        total = probs.sum(dim, keepdim=True)
        return torch.div(probs, total.masked_fill(total == 0, 1.0), out=out)


@final
class Logarithms(_Logs):
    """Logarithms, added by logsumexp: slower than `Scaled`, and exact with any zeros."""

    def add(self, x: Tensor, dim: int) -> Tensor:
        """Return the logarithm of the sum of the exponentials."""
        return x.logsumexp(dim)


@final
class Maxima(_Logs):
    """Logarithms of which only the largest counts: the most probable path."""

    def add(self, x: Tensor, dim: int) -> Tensor:
        """Return the largest."""
        return x.amax(dim)
