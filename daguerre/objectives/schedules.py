"""Weights that change as training goes: a schedule is put on a term, not on a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Number", "Schedule", "at_step", "check_weight", "cyclical", "linear", "show"]


@dataclass(frozen=True)
class Schedule:
    """A number that depends on how many updates a player has made.

    Attributes:
        value: From the count, a scalar tensor, to the number.
        name: How the ledger writes it.
    """

    value: Callable[[Tensor], Tensor]
    name: str

    def __repr__(self) -> str:
        return self.name


Number = float | Schedule
"""A number, or one that changes as training goes."""


def linear(start: float, end: float, *, steps: int, after: int = 0) -> Schedule:
    """Return a number that goes from `start` to `end` in a straight line, and stays there.

    Args:
        start: Its value at first.
        end: Its value in the end.
        steps: How many updates it takes to get there.
        after: Updates before it begins to move.

    Raises:
        ValueError: Fewer than one step, or a value that is not finite.

    References:
        Bowman et al. (2016, arXiv 1511.06349): the weight of the KL term grows from 0 to 1.

    Example:
        >>> [at_step(linear(0.0, 1.0, steps=4), step) for step in (0, 1, 9)]
        [0.0, 0.25, 1.0]
    """
    _check(steps, start, end)

    def value(step: Tensor) -> Tensor:
        return start + (end - start) * ((step - after) / steps).clamp(0, 1)

    return Schedule(value, f"{start:g} to {end:g} in {steps} steps")


def cyclical(start: float, end: float, *, period: int, rise: float = 0.5) -> Schedule:
    """Return a number that climbs from `start` to `end` again and again.

    Args:
        start: Its value as a cycle begins.
        end: Its value in the rest of the cycle.
        period: Updates in a cycle.
        rise: The part of a cycle in which it climbs.

    Raises:
        ValueError: Fewer than one step, or a value that is not finite.

    References:
        Fu et al. (2019, arXiv 1903.10145).

    Example:
        >>> [at_step(cyclical(0.0, 1.0, period=8), step) for step in (0, 2, 6, 10)]
        [0.0, 0.5, 1.0, 0.5]
    """
    _check(period, start, end, rise)

    def value(step: Tensor) -> Tensor:
        return start + (end - start) * (step % period / (rise * period)).clamp(0, 1)

    return Schedule(value, f"{start:g} to {end:g} in cycles of {period} steps")


def at_step(number: Number, step: Tensor | int) -> Tensor | float:
    """Return a number as it is after so many updates: a float where the count is no tensor."""
    if not isinstance(number, Schedule):
        return number
    if isinstance(step, Tensor):
        return number.value(step)
    return number.value(torch.tensor(float(step), dtype=torch.float64)).item()


def show(number: Number) -> str:
    """Write a number for the ledger."""
    return f"({number.name})" if isinstance(number, Schedule) else f"{number:g}"


def check_weight(weight: Number, what: str) -> Number:
    """Return a weight that may stand before a divergence: finite, and not negative.

    Raises:
        TypeError: No number.
        ValueError: NaN, infinite or negative; a negative divergence would be driven to infinity.
    """
    if isinstance(weight, Schedule):
        return weight
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise TypeError(
            f"{what} is a number or a schedule such as dg.rates.linear, not {weight!r}"
        )
    if not 0 <= weight < math.inf:
        raise ValueError(
            f"{what} is {weight}; expected a finite number, 0 or more: what is minimised must not"
            " be driven to minus infinity"
        )
    return weight


def _check(steps: int, *numbers: float) -> None:
    if steps < 1:
        raise ValueError(f"a schedule takes one step or more, not {steps}")
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"a schedule goes between finite numbers, not {numbers}")
