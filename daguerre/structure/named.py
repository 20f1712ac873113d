"""What a question to a chain names: where in it, seen from its start and from the slice t."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from daguerre.graph import Graph
from daguerre.structure.moments import Bound, Moments

__all__ = ["Named", "Window"]


class Window(NamedTuple):
    """The slice t in a chain of some length."""

    t: int
    steps: int


@dataclass(frozen=True)
class Named:
    """What a question to a chain names.

    Attributes:
        graph: The graph of one slice.
        sides: What is asked, against what, and what is given.
    """

    graph: Graph
    sides: Sequence[tuple[Moments, ...]]

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        """All points in time."""
        return tuple(b for side in self.sides for one in side for b in one.bounds)

    @cached_property
    def moves(self) -> bool:
        """Whether t is named."""
        return any(bound.from_t for bound in self.bounds)

    @cached_property
    def first(self) -> int:
        """The slice before which everything lies that is counted from the start."""
        return max((b.steps for b in self.bounds if not b.from_t), default=0)

    @cached_property
    def around(self) -> tuple[int, int]:
        """The slices around t, from and to, in which everything lies that is counted from t."""
        found = [b.steps for b in self.bounds if b.from_t]
        return min(found, default=0), max(found, default=0)

    @cached_property
    def lags(self) -> tuple[int, int]:
        """How far lags go back, and ahead."""
        found = [lag.steps for v in self.graph.variables for lag in v.lags]
        return max(0, *found), max(0, *(-steps for steps in found))

    @cached_property
    def width(self) -> int:
        """The most slices that a family spans beside that of its child."""
        families = ([0, *(lag.steps for lag in v.lags)] for v in self.graph.variables)
        return max(max(steps) - min(steps) for steps in families)

    @cached_property
    def roomy(self) -> Window:
        """A chain in which all that is named has a place of its own."""
        low, high = self.around
        t = self.first - min(low, 0) + 1 if self.moves else 0
        return Window(t, max(t + max(high, 0), self.first) + 2)

    def needed(self, t: int) -> int:
        """Return the length from which on later slices hold no end of what is named."""
        return max(t + 1, self.first, t + self.around[1])

    def is_barren(self, *, later: bool) -> bool:
        """Whether all slices later than what is named, or earlier, are below it and not asked for.

        What has no known descendant, and is not asked for, lies on no open path.
        """
        moments = [one for side in self.sides for one in side if not one.is_still]
        back, ahead = self.lags
        if later:
            return not ahead and all(one.stop is not None for one in moments)
        return not back and all(one.first is not None and one.first.from_t for one in moments)

    def alike(self, window: Window, *, before: bool) -> range:
        """Return where blocks may begin among slices that are all alike, before t or after."""
        t, steps = window
        low, high = self.around
        first, stop = self.first, steps
        if before:
            stop = t + low if self.moves else 0
        elif self.moves:
            first = max(first, t + high)
        back, ahead = self.lags
        return range(max(first, back), min(stop, steps - ahead) - self.width + 1)

    def names(self, window: Window) -> list[list[str]] | None:
        """Return both sides and what is given; None where not all of it is there."""
        found = [[one.names(*window) for one in side] for side in self.sides]
        if any(names is None for side in found for names in side):
            return None
        return [[n for names in side for n in names or ()] for side in found]
