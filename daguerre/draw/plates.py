"""Which plate lies in which: the nesting that the layout keeps together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from daguerre.draw.notation import Figure, Frame
from daguerre.graph import GraphError

__all__ = ["PAGE", "Nesting", "nesting"]

PAGE = -1  # the plate that holds everything


@dataclass(frozen=True, slots=True)
class Nesting:
    """A tree of plates, numbered in the order of the figure.

    Attributes:
        parent: The plate around each plate, or `PAGE`.
        home: The innermost plate around each node, or `PAGE`.
    """

    parent: tuple[int, ...]
    home: Mapping[str, int]

    def around(self, plate: int) -> list[int]:
        """Return a plate and all plates around it, innermost first, without the page."""
        chain = []
        while plate != PAGE:
            chain.append(plate)
            plate = self.parent[plate]
        return chain

    def shared(self, one: int, other: int) -> int:
        """Return the innermost plate around both of two plates."""
        outer = self.around(one)
        return next((p for p in self.around(other) if p in outer), PAGE)

    def depth(self, plate: int) -> int:
        """Return how many plates lie around and at this one."""
        return len(self.around(plate))


def nesting(figure: Figure) -> Nesting:
    """Read the tree of plates of a figure.

    Raises:
        GraphError: Two plates cross: each has a member that the other has not, and they share one.
    """
    frames = figure.frames
    for one, other in combinations(frames, 2):
        _check_nested(one, other)
    sets = [frozenset(frame.members) for frame in frames]
    # Outer plates have more members; of equal ones the first named lies outside.
    by_size = sorted(range(len(sets)), key=lambda i: (len(sets[i]), -i))

    def innermost(holders: Iterable[int]) -> int:
        among = set(holders)
        return next((i for i in by_size if i in among), PAGE)

    parent = tuple(
        innermost(j for j, s in enumerate(sets) if sets[i] < s or (sets[i] == s and j < i))
        for i in range(len(sets))
    )
    home = {
        node.name: innermost(i for i, s in enumerate(sets) if node.name in s)
        for node in figure.nodes
    }
    return Nesting(parent, home)


def _check_nested(one: Frame, other: Frame) -> None:
    a, b = set(one.members), set(other.members)
    if a & b and a - b and b - a:
        raise GraphError(
            f"the plates {one.name!r} and {other.name!r} cross: both hold {min(a & b)!r}, only "
            f"{one.name!r} holds {min(a - b)!r}, only {other.name!r} holds {min(b - a)!r}. "
            "Crossing plates cannot be drawn yet: leave one of them out of the figure."
        )
