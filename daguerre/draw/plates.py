"""Which plate or scope lies in which: the nesting that the layout keeps together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    # Outer plates have more members; of equal ones the first named lies outside.
    members = [set(frame.members) for frame in figure.frames]
    parent = [PAGE] * len(members)
    home = dict.fromkeys((node.name for node in figure.nodes), PAGE)
    for i in sorted(range(len(members)), key=lambda i: -len(members[i])):
        around = {home[name] for name in members[i]}
        if len(around) > 1:
            raise _crossing(figure.frames)
        (parent[i],) = around
        home.update(dict.fromkeys(members[i], i))
    return Nesting(tuple(parent), home)


def _crossing(frames: Sequence[Frame]) -> GraphError:
    """Say which frames cross, the first named ones if several do."""
    one, other, a, b = next(
        (one, other, a, b)
        for one, other in combinations(frames, 2)
        for a, b in [(set(one.members), set(other.members))]
        if a & b and a - b and b - a
    )
    what = "scopes" if one.scope and other.scope else "plates"
    return GraphError(
        f"the {what} {one.name!r} and {other.name!r} cross: both hold {min(a & b)!r}, only "
        f"{one.name!r} holds {min(a - b)!r}, only {other.name!r} holds {min(b - a)!r}. "
        f"Crossing {what} cannot be drawn yet: leave one of them out of the figure."
    )
