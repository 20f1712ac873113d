"""What chains of any kind answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.distributions import Distribution

__all__ = ["Solved"]


class Solved(NamedTuple):
    """The posterior of a chain.

    Attributes:
        marginals: Per target, its posterior at each step; the batch shape is `[B, T]`.
        log_evidence: `[B]`.
        draw: Draws n values of the targets, `[n, B, T, *event]`.
    """

    marginals: dict[str, Distribution]
    log_evidence: Tensor
    draw: Callable[[int], dict[str, Tensor]]
