"""Learning rates that change as training goes: plain functions of the updates made.

They are computed inside the compiled step, so that a new rate is no new graph. `dg.rates.linear`
and `dg.rates.cyclical`, which weigh terms of a cost, serve here as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from daguerre.objectives.schedules import Number, Schedule, show

__all__ = ["cosine", "stepped", "warm_up"]


def warm_up(rate: Number, *, updates: int) -> Schedule:
    """Return a rate that rises from 0 in a straight line to what it would be without.

    Args:
        rate: The rate afterwards: a number, or a schedule, which runs on meanwhile.
        updates: How many updates it takes to get there; the first is made with 1 / updates of it.

    Raises:
        ValueError: Fewer than one update, or a rate that is not positive.

    Example:
        >>> rate = warm_up(0.1, updates=4)
        >>> [round(rate.value(torch.tensor(made)).item(), 3) for made in (0, 1, 3, 9)]
        [0.025, 0.05, 0.1, 0.1]
    """
    _check(rate, updates)

    def value(made: Tensor) -> Tensor:
        full = rate.value(made) if isinstance(rate, Schedule) else rate
        return full * ((made + 1) / updates).clamp(max=1)

    return Schedule(value, f"0 to {show(rate)} in {updates} updates")


def cosine(rate: float, *, updates: int, end: float = 0.0) -> Schedule:
    """Return a rate that falls from `rate` to `end` along half a wave, and stays there.

    Args:
        rate: The rate at first.
        updates: How many updates it takes to fall.
        end: The rate in the end.

    Raises:
        ValueError: Fewer than one update, or a rate that is not positive.

    References:
        Loshchilov and Hutter (2017, arXiv 1608.03983), without restarts.

    Example:
        >>> rate = cosine(0.2, updates=10)
        >>> [round(rate.value(torch.tensor(made)).item(), 3) for made in (0, 5, 10, 99)]
        [0.2, 0.1, 0.0, 0.0]
    """
    _check(rate, updates)

    def value(made: Tensor) -> Tensor:
        return end + (rate - end) * 0.5 * (1 + torch.cos(math.pi * (made / updates).clamp(0, 1)))

    return Schedule(value, f"{rate:g} to {end:g} along a cosine in {updates} updates")


def stepped(rate: float, *, at: Sequence[int], factor: float = 0.1) -> Schedule:
    """Return a rate that is multiplied by a factor at each of some counts of updates.

    Args:
        rate: The rate at first.
        at: The counts, rising.
        factor: What each multiplies it by.

    Raises:
        ValueError: Counts that do not rise from 1 or more, or a rate that is not positive.

    Example:
        >>> rate = stepped(0.1, at=[10, 20], factor=0.5)
        >>> [round(rate.value(torch.tensor(made)).item(), 3) for made in (9, 10, 25)]
        [0.1, 0.05, 0.025]
    """
    _check(rate, *at)
    if list(at) != sorted({*at}):
        raise ValueError(f"the counts of updates at which the rate steps must rise, not {at!r}")

    def value(made: Tensor) -> Tensor:
        passed = torch.stack([made >= count for count in at]).sum()
        return rate * factor**passed

    return Schedule(value, f"{rate:g}, times {factor:g} at {', '.join(map(str, at))}")


def _check(rate: Number, *updates: int) -> None:
    if not isinstance(rate, Schedule) and not 0 < rate < math.inf:
        raise ValueError(f"a learning rate must be positive and finite, not {rate!r}")
    if not updates or min(updates) < 1:
        raise ValueError(f"a rate changes after 1 update or more, not {updates or 'none'}")
