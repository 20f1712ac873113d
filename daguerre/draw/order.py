"""The order of the vertices in each row: few crossings, plates contiguous by construction.

Every plate (and the page) keeps one permutation of what lies directly in it, nodes, bends and
inner plates; rows are read off these permutations, so a plate can never be torn apart.
Barycentre sweeps (Sugiyama, Tagawa and Toda 1981), then exchanges of neighbours.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

from daguerre.draw.layers import Layers
from daguerre.draw.plates import PAGE

__all__ = ["Token", "ordered_rows"]

_SWEEPS = 12
_EXCHANGES = 4


class Token(NamedTuple):
    """What one meets walking along a row: a vertex, or the border of a plate."""

    kind: Literal["vertex", "open", "close"]
    which: int


def ordered_rows(layers: Layers) -> list[list[Token]]:
    """Return the rows from top to bottom, each from left to right with the borders of plates.

    Args:
        layers: The skeleton.
    """
    order = _Order(layers)
    best, fewest = order.copy(), order.crossings()
    for sweep in range(_SWEEPS):
        order.sweep(downwards=sweep % 2 == 0)
        crossings = order.crossings()
        if crossings < fewest:
            best, fewest = order.copy(), crossings
        if fewest == 0:
            break
    order.restore(best)
    for _ in range(_EXCHANGES):
        if not order.exchange():
            break
    return order.tokens()


class _Order:
    """One permutation for each plate. Items are vertices, then plates shifted past them."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.first_plate = len(layers.row)
        self.above: list[list[int]] = [[] for _ in layers.row]
        self.below: list[list[int]] = [[] for _ in layers.row]
        for a, b in layers.links:
            self.below[a].append(b)
            self.above[b].append(a)
        self.inside: dict[int, list[int]] = {PAGE: []}
        self.inside |= {plate: [] for plate in range(len(layers.spans))}
        for vertex in self._walk():
            self._insert(vertex)

    def copy(self) -> dict[int, list[int]]:
        return {plate: list(items) for plate, items in self.inside.items()}

    def restore(self, inside: dict[int, list[int]]) -> None:
        self.inside = inside

    def tokens(self) -> list[list[Token]]:
        rows: list[list[Token]] = [[] for _ in range(self.layers.depth)]
        self._read(PAGE, rows)
        return rows

    def rows(self) -> list[list[int]]:
        return [[t.which for t in row if t.kind == "vertex"] for row in self.tokens()]

    def crossings(self) -> int:
        rows = self.rows()
        return self._count(rows, range(len(rows)))

    def sweep(self, *, downwards: bool) -> None:
        """Sort each row by the mean place of its neighbours in the row just passed."""
        last = self.layers.depth - 1
        for r in range(1, last + 1) if downwards else range(last - 1, -1, -1):
            rows = self.rows()
            fixed = rows[r - 1] if downwards else rows[r + 1]
            place = {v: (i + 0.5) / len(fixed) for i, v in enumerate(fixed)}
            wish: dict[int, float] = {}
            for i, v in enumerate(rows[r]):
                near = self.above[v] if downwards else self.below[v]
                own = (i + 0.5) / len(rows[r])
                wish[v] = sum(place[u] for u in near) / len(near) if near else own
            self._sort(PAGE, wish)

    def exchange(self) -> bool:
        """Exchange neighbours wherever that saves crossings; say whether it did."""
        improved = False
        rows = self.rows()
        for items in self.inside.values():
            for r in range(self.layers.depth):
                slots = [i for i, item in enumerate(items) if self._is_in_row(item, r)]
                for i, j in pairwise(slots):
                    better = self._exchanged(rows, items, i, j)
                    improved |= better is not None
                    rows = better or rows
        return improved

    def _exchanged(
        self, rows: list[list[int]], items: list[int], i: int, j: int
    ) -> list[list[int]] | None:
        """Exchange two items of a plate; return the new rows, or undo it if nothing is won."""
        a, b = items[i], items[j]
        items[i], items[j] = b, a
        if a < self.first_plate and b < self.first_plate:
            row = self.layers.row[a]
            swapped = [b if v == a else a if v == b else v for v in rows[row]]
            new, gaps = [*rows[:row], swapped, *rows[row + 1 :]], (row - 1, row)
        else:
            new, gaps = self.rows(), range(len(rows))
        if self._count(new, gaps) < self._count(rows, gaps):
            return new
        items[i], items[j] = a, b
        return None

    def _count(self, rows: list[list[int]], gaps: Iterable[int]) -> int:
        return sum(self._between(rows, r) for r in gaps if 0 <= r < len(rows) - 1)

    def _between(self, rows: list[list[int]], upper: int) -> int:
        place = {v: i for i, v in enumerate(rows[upper + 1])}
        ends: list[int] = []
        crossings = 0
        for v in rows[upper]:
            mine = sorted(place[u] for u in self.below[v])
            crossings += sum(len(ends) - bisect_right(ends, end) for end in mine)
            for end in mine:
                insort(ends, end)
        return crossings

    def _sort(self, plate: int, wish: dict[int, float]) -> list[float]:
        """Sort what a plate holds of one row, inner plates first; return the wishes met."""
        items, met = self.inside[plate], []
        wanted: list[tuple[float, int]] = []
        for item in items:
            inner = item - self.first_plate
            wishes = (
                self._sort(inner, wish) if inner >= 0 else [wish[item]] if item in wish else []
            )
            if wishes:
                wanted.append((sum(wishes) / len(wishes), item))
                met += wishes
        here = {item for _, item in wanted}
        slots = [i for i, item in enumerate(items) if item in here]
        for slot, (_, item) in zip(slots, sorted(wanted, key=lambda w: w[0]), strict=True):
            items[slot] = item
        return met

    def _is_in_row(self, item: int, row: int) -> bool:
        if item < self.first_plate:
            return self.layers.row[item] == row
        first, last = self.layers.spans[item - self.first_plate]
        return first <= row <= last

    def _read(self, plate: int, rows: list[list[Token]]) -> None:
        for item in self.inside[plate]:
            inner = item - self.first_plate
            if inner < 0:
                rows[self.layers.row[item]].append(Token("vertex", item))
                continue
            first, last = self.layers.spans[inner]
            for row in rows[first : last + 1]:
                row.append(Token("open", inner))
            self._read(inner, rows)
            for row in rows[first : last + 1]:
                row.append(Token("close", inner))

    def _walk(self) -> Iterator[int]:
        """Visit the vertices depth first from the top, in the order of the figure."""
        seen: set[int] = set()
        tops = sorted(range(self.first_plate), key=lambda v: bool(self.above[v]))
        stack = tops[::-1]
        while stack:
            v = stack.pop()
            if v not in seen:
                seen.add(v)
                yield v
                stack += self.below[v][::-1]

    def _insert(self, vertex: int) -> None:
        item, plate = vertex, self.layers.home[vertex]
        while item not in self.inside[plate]:
            self.inside[plate].append(item)
            if plate == PAGE:
                return
            item, plate = self.first_plate + plate, self.layers.nesting.parent[plate]
