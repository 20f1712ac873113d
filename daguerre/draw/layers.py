"""The skeleton of a layout: vertices in rows, long arrows cut into steps of one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from daguerre.draw.notation import Figure
from daguerre.draw.plates import PAGE, Nesting, nesting
from daguerre.draw.ranks import downward, ranks

__all__ = ["Layers", "layers"]


@dataclass(frozen=True, slots=True)
class Layers:
    """Vertices are numbers: first the nodes of the figure, then the bends of long arrows.

    Attributes:
        names: Names of the nodes that stand in rows; vertex i is `names[i]`.
        row: Row of each vertex.
        home: Innermost plate around each vertex, or `PAGE`.
        chains: For each pair (upper node, lower node): the vertices from one to the other.
        nesting: The tree of plates.
        spans: First and last row of each plate.
    """

    names: tuple[str, ...]
    row: tuple[int, ...]
    home: tuple[int, ...]
    chains: Mapping[tuple[str, str], tuple[int, ...]]
    nesting: Nesting
    spans: tuple[tuple[int, int], ...]

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


def layers(figure: Figure) -> Layers:
    """Put the nodes of a figure in rows and cut its long arrows at every row they pass.

    Raises:
        GraphError: Plates that cross.
    """
    nest, rank = nesting(figure), ranks(figure)
    number = {name: i for i, name in enumerate(rank)}
    row, home = list(rank.values()), [nest.home[name] for name in rank]
    chains: dict[tuple[str, str], tuple[int, ...]] = {}
    for arrow in downward(figure):
        top, bottom = arrow.source, arrow.target
        if (top, bottom) in chains:
            continue
        bends = range(rank[top] + 1, rank[bottom])
        first = len(row)
        row += bends
        home += [nest.shared(nest.home[top], nest.home[bottom])] * len(bends)
        chains[top, bottom] = (number[top], *range(first, len(row)), number[bottom])
    spans = [_span(plate, nest, row, home) for plate in range(len(figure.frames))]
    return Layers(tuple(rank), tuple(row), tuple(home), chains, nest, tuple(spans))


def _span(plate: int, nest: Nesting, row: list[int], home: list[int]) -> tuple[int, int]:
    inside = [r for r, h in zip(row, home, strict=True) if h != PAGE and plate in nest.around(h)]
    return min(inside), max(inside)
