"""Where a chain repeats itself: blocks of time slices with the same facts by the same rules."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from math import lcm
from typing import NamedTuple

from daguerre.structure.query import Query, State

__all__ = ["Slicing", "blocks", "covers", "period"]

Derived = tuple[int, State, State | None]  # the kind of a fact, the fact, what it follows from


class Slicing(NamedTuple):
    """How the numbers of a written-out chain go on.

    Attributes:
        still: How many variables hold for all time; they come first.
        moving: How many there are in each time slice.
        steps: The number of slices.
        width: The number of slices of a block.
    """

    still: int
    moving: int
    steps: int
    width: int

    def place(self, i: int) -> tuple[int | None, int]:
        """Return the slice of a variable, None if it holds for all time, and its number there."""
        return divmod(i - self.still, self.moving) if i >= self.still else (None, i)


def blocks(query: Query, reached: dict[State, State | None], cut: Slicing) -> list[Hashable]:
    """Return, per block, what is derived in it, by which rule, and in what order.

    Args:
        query: A question to a chain that is written out.
        reached: Where open paths get to.
        cut: How the chain is written out.
    """
    found: list[list[Hashable]] = [[] for _ in range(max(0, cut.steps - cut.width + 1))]
    for kind, (i, mark), source in _derived(query, reached):
        time, local = cut.place(i)
        if time is None:
            for block in found:
                block.append((kind, local, mark))
            continue
        rule = None
        if source is not None:
            before, by = cut.place(source[0])
            rule = None if before is None else before - time, by, source[1]
        for start in range(max(0, time - cut.width + 1), min(time + 1, len(found))):
            found[start].append((kind, local, mark, time - start, rule))
    return [tuple(block) for block in found]


def _derived(query: Query, reached: dict[State, State | None]) -> Iterator[Derived]:
    """Yield what is known, what is above it, and what is reached: each after what it follows."""
    for kind, facts in enumerate((query.found, query.above)):
        for i, by in facts.items():
            yield kind, (i, False), None if by is None else (by, False)
    for state, by in reached.items():
        yield 2, state, by


def period(found: Sequence[Hashable], within: range) -> int:
    """Return the least distance of two blocks that are alike; 0 if there are none.

    Example:
        >>> period("abcdcdc", range(7)), period("abc", range(3))
        (2, 0)
    """
    places: dict[Hashable, list[int]] = {}
    for start in within:
        places.setdefault(found[start], []).append(start)
    return min((b - a for same in places.values() for a, b in pairwise(same)), default=0)


def covers(repeats: Iterable[tuple[int, int]]) -> bool:
    """Whether every number from some on is one of these plus a multiple of its period.

    Example:
        >>> covers([(3, 1)]), covers([(2, 2), (4, 2)]), covers([(2, 2), (5, 4), (7, 4)])
        (True, False, True)
    """
    found = list(repeats)
    whole = lcm(*(p for _, p in found))
    met = {(start + k) % whole for start, p in found for k in range(0, whole, p)}
    return bool(found) and len(met) == whole
