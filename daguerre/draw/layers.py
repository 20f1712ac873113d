"""The skeleton of a layout: vertices in rows, long arrows cut into steps of one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import NamedTuple

from daguerre.draw.families import Family
from daguerre.draw.notation import Arrow
from daguerre.draw.plates import PAGE, Nesting, nesting

__all__ = ["Layers", "layers"]


@dataclass(frozen=True, slots=True)
class Layers:
    """Vertices are numbers: first the nodes of the figure, then the bends of long arrows.

    Attributes:
        names: Names of the nodes that stand in rows; vertex i is `names[i]`.
        row: Row of each vertex.
        home: Innermost box around each vertex, or `PAGE`.
        chains: For each pair (upper node, lower node): the vertices from one to the other.
        nesting: The tree of boxes.
        spans: First and last row of each box, and of plates that cross.
        scopes: Which of these are scopes.
    """

    names: tuple[str, ...]
    row: tuple[int, ...]
    home: tuple[int, ...]
    chains: Mapping[tuple[str, str], tuple[int, ...]]
    nesting: Nesting
    spans: tuple[tuple[int, int], ...]
    scopes: tuple[bool, ...]

    @property
    def depth(self) -> int:
        """Number of rows."""
        return max(self.row) + 1

    @property
    def links(self) -> list[tuple[int, int]]:
        """All steps (upper vertex, lower vertex), from one row to the next."""
        return [pair for c in self.chains.values() for pair in pairwise(c)]

    def is_bend(self, vertex: int) -> bool:
        """Say whether a vertex is a bend of a long arrow instead of a node."""
        return vertex >= len(self.names)


def layers(family: Family, down: Sequence[Arrow]) -> Layers:
    """Put the nodes of a figure in rows and cut its long arrows at every row they pass.

    Args:
        family: The figure, with the row of each node.
        down: The arrows that point down.
    """
    nest, rank, frames = nesting(family), family.rank, family.figure.frames
    number = {name: i for i, name in enumerate(rank)}
    held = [frame.members for frame in frames]
    for found in nest.groups.values():
        held += [tuple(n for strip in found.strips for n in strip), *found.strips]
    boxes = _Boxes(
        nest,
        tuple(i < len(frames) and frames[i].scope for i in range(len(held))),
        tuple(_span([rank[name] for name in names if name in rank]) for names in held),
    )
    row, home = list(rank.values()), [nest.home[name] for name in rank]
    chains: dict[tuple[str, str], tuple[int, ...]] = {}
    for arrow in down:
        top, bottom = arrow.source, arrow.target
        if (top, bottom) in chains:
            continue
        bends = range(rank[top] + 1, rank[bottom])
        first = len(row)
        row += bends
        home += boxes.passed(nest.home[top], nest.home[bottom], bends)
        chains[top, bottom] = (number[top], *range(first, len(row)), number[bottom])
    return Layers(tuple(rank), tuple(row), tuple(home), chains, nest, boxes.spans, boxes.scopes)


def _span(rows: Sequence[int]) -> tuple[int, int]:
    return min(rows), max(rows)


class _Boxes(NamedTuple):
    nest: Nesting
    scopes: tuple[bool, ...]
    spans: tuple[tuple[int, int], ...]

    def passed(self, top: int, bottom: int, rows: Sequence[int]) -> list[int]:
        """Return the innermost plate around a long arrow in each row between its ends.

        An arrow stays in the plates that hold both ends. From a scope it goes straight out
        through the bottom, and into one through the top: nothing is repeated there. From one
        strip to another it falls in the first and turns aside at the end.
        """
        if not rows:
            return []
        shared = self.nest.shared(top, bottom)
        left, entered = self._within(top, shared), self._within(bottom, shared)
        homes = ((self._at(row, left), self._at(row, entered)) for row in rows)
        if shared in self.nest.groups:
            shared = next(b for b in self.nest.around(top) if self.nest.parent[b] == shared)
        return [shared if (a == PAGE) == (b == PAGE) else max(a, b) for a, b in homes]

    def _within(self, plate: int, shared: int) -> list[int]:
        """Return the scopes around an end of an arrow that the other end is not in, outer first.

        Those inside a plate do not count.
        """
        chain = self.nest.around(plate)[::-1]
        inner = chain[chain.index(shared) + 1 :] if shared != PAGE else chain
        return list(takewhile(self.scopes.__getitem__, inner))

    def _at(self, row: int, chain: Sequence[int]) -> int:
        """Return the innermost of some nested plates that reach a row, or `PAGE`."""
        inside = [p for p in chain if self.spans[p][0] <= row <= self.spans[p][1]]
        return inside[-1] if inside else PAGE
