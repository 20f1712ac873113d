"""The order of the vertices in each row: few crossings, boxes contiguous by construction.

Every box (and the page) keeps one permutation of what lies directly in it, nodes, bends and
inner boxes; rows are read off these permutations, so a plate can never be torn apart. The strips
of plates that cross keep their order, or turn it round.
Barycentre sweeps (Sugiyama, Tagawa and Toda 1981), then exchanges of neighbours.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise, product
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
    """One permutation for each plate: the place of every item among those beside it.

    Items are vertices, then plates, shifted past them. A row is read from the items that reach
    it, so no step looks at the whole picture.
    """

    def __init__(self, layers: Layers) -> None:
        self.layers, self.nest = layers, layers.nesting
        self.first_plate = len(layers.row)
        self.above: list[list[int]] = [[] for _ in layers.row]
        self.below: list[list[int]] = [[] for _ in layers.row]
        for a, b in layers.links:
            self.below[a].append(b)
            self.above[b].append(a)
        self.place = [-1] * (self.first_plate + len(layers.spans))
        self.held: dict[tuple[int, int], list[int]] = {}  # items of each (plate, row)
        filled: Counter[int] = Counter()
        for vertex in self._walk():
            self._insert(vertex, filled)

    def copy(self) -> list[int]:
        return list(self.place)

    def restore(self, place: list[int]) -> None:
        self.place = place

    def tokens(self) -> list[list[Token]]:
        return [list(self._read(PAGE, row)) for row in range(self.layers.depth)]

    def crossings(self) -> int:
        return sum(self._counts(range(self.layers.depth - 1)).values())

    def sweep(self, *, downwards: bool) -> None:
        """Sort each row by the mean place of its neighbours in the row just passed."""
        last = self.layers.depth - 1
        near = self.above if downwards else self.below
        rows = range(last + 1) if downwards else range(last, -1, -1)
        for passed, row in pairwise(rows):
            place = _shares(self._row(passed))
            own = _shares(self._row(row))
            wish = {
                v: sum(place[u] for u in near[v]) / len(near[v]) if near[v] else own[v]
                for v in own
            }
            self._sort(PAGE, row, wish)

    def exchange(self) -> bool:
        """Exchange neighbours wherever that saves crossings; say whether it did."""
        improved = False
        tried = set[tuple[int, int]]()  # pairs that reach many rows are beside in each of them
        counts = self._counts(range(self.layers.depth - 1))
        for plate, row in sorted(self.held):
            if plate in self.nest.groups:
                continue
            items = self._items(plate, row)
            beside = self._places(row - 1) | self._places(row + 1)
            for i in range(len(items) - 1):
                a, b = items[i : i + 2]
                if max(a, b) < self.first_plate:
                    swaps = self._swapped(a, b, beside, counts)
                elif (a, b) in tried:
                    continue
                else:
                    tried.add((a, b))
                    swaps = self._exchanged(a, b, plate, counts)
                    beside = self._places(row - 1) | self._places(row + 1) if swaps else beside
                if swaps:
                    items[i], items[i + 1] = b, a
                    improved = True
        return improved

    def _places(self, row: int) -> dict[int, int]:
        is_there = 0 <= row < self.layers.depth
        return {v: i for i, v in enumerate(self._row(row))} if is_there else {}

    def _swapped(self, a: int, b: int, beside: dict[int, int], counts: dict[int, int]) -> bool:
        """Exchange two vertices side by side in one row if that saves crossings."""
        row = self.layers.row[a]
        won = {
            gap: sum(
                (beside[u] > beside[v]) - (beside[u] < beside[v])
                for u, v in product(near[a], near[b])
            )
            for gap, near in ((row - 1, self.above), (row, self.below))
        }
        if sum(won.values()) <= 0:
            return False
        self._swap(a, b)
        for gap, less in won.items():
            if gap in counts:
                counts[gap] -= less
        return True

    def _exchanged(self, a: int, b: int, plate: int, counts: dict[int, int]) -> bool:
        """Exchange two items of a box, or undo it if nothing is won."""
        turned = self._turned(a, b, plate)
        gaps = sorted({gap for row in turned for gap in (row - 1, row)} & counts.keys())
        old = sum(counts[gap] for gap in gaps)
        if not old:
            return False
        self._swap(a, b)
        new = self._counts(gaps)
        if sum(new.values()) >= old:
            self._swap(a, b)
            return False
        counts |= new
        return True

    def _turned(self, a: int, b: int, plate: int) -> Iterator[int]:
        """List the rows whose order changes if two items of a box change places."""
        low, high = sorted((self.place[a], self.place[b]))
        rows = {
            row for item in (a, b) for row in range(self._rows(item)[0], self._rows(item)[1] + 1)
        }
        for row in rows:
            if sum(low <= self.place[item] <= high for item in self.held[plate, row]) > 1:
                yield row

    def _swap(self, a: int, b: int) -> None:
        self.place[a], self.place[b] = self.place[b], self.place[a]

    def _counts(self, gaps: Iterable[int]) -> dict[int, int]:
        """Count the crossings below each of some rows, given from top to bottom."""
        result: dict[int, int] = {}
        upper, row = -1, []
        for gap in gaps:
            above = row if upper == gap else self._row(gap)
            upper, row = gap + 1, self._row(gap + 1)
            result[gap] = self._between(above, row)
        return result

    def _between(self, upper: list[int], lower: list[int]) -> int:
        place = {v: i for i, v in enumerate(lower)}
        ends: list[int] = []
        crossings = 0
        for v in upper:
            mine = sorted(place[u] for u in self.below[v])
            crossings += sum(len(ends) - bisect_right(ends, end) for end in mine)
            for end in mine:
                insort(ends, end)
        return crossings

    def _sort(self, plate: int, row: int, wish: dict[int, float]) -> list[float]:
        """Sort what a plate holds of one row, inner plates first; return the wishes met."""
        met: list[float] = []
        wanted: list[tuple[float, int]] = []
        for item in self._items(plate, row):
            inner = item - self.first_plate
            wishes = self._sort(inner, row, wish) if inner >= 0 else [wish[item]]
            if wishes:  # a plate may hold nothing in a row that it reaches
                wanted.append((sum(wishes) / len(wishes), item))
                met += wishes
        if plate in self.nest.groups:
            self._turn_round(plate, wanted)
            return met
        slots = [self.place[item] for _, item in wanted]
        for slot, (_, item) in zip(slots, sorted(wanted, key=lambda w: w[0]), strict=True):
            self.place[item] = slot
        return met

    def _turn_round(self, group: int, wanted: list[tuple[float, int]]) -> None:
        """Reverse the strips of a group if that suits the wishes better."""
        strips = self.nest.strips(group)
        middle = sum(wish for wish, _ in wanted) / max(len(wanted), 1)
        bias = sum((wish - middle) * self.place[item] for wish, item in wanted)
        if bias < 0:
            for strip in strips:
                item = self.first_plate + strip
                self.place[item] = len(strips) - 1 - self.place[item]

    def _row(self, row: int, plate: int = PAGE) -> list[int]:
        """Return the vertices that a box holds of a row, from left to right."""
        if plate in self.nest.groups:  # whose strips may hold bends above and below their nodes
            strips = self.nest.strips(plate)
            items = sorted((self.first_plate + s for s in strips), key=self.place.__getitem__)
        else:
            items = self._items(plate, row)
        found: list[int] = []
        for item in items:
            inner = item - self.first_plate
            found += [item] if inner < 0 else self._row(row, inner)
        return found

    def _read(self, plate: int, row: int) -> Iterator[Token]:
        for item in self._items(plate, row):
            inner = item - self.first_plate
            if inner < 0:
                yield Token("vertex", item)
            elif inner in self.nest.groups:
                yield from self._across(inner, row)
            else:
                yield Token("open", inner)
                yield from self._read(inner, row)
                yield Token("close", inner)

    def _across(self, group: int, row: int) -> Iterator[Token]:
        borders, (left, *rest) = self.nest.groups[group].along(), self.nest.strips(group)
        if rest and self.place[self.first_plate + left] > 0:
            borders = [border.turned for border in reversed(borders)]
        for kind, which in borders:
            if kind == "strip":
                yield from self._read(left + which, row)
            elif self.layers.spans[which][0] <= row <= self.layers.spans[which][1]:
                yield Token(kind, which)

    def _items(self, plate: int, row: int) -> list[int]:
        return sorted(self.held.get((plate, row), ()), key=self.place.__getitem__)

    def _rows(self, item: int) -> tuple[int, int]:
        if item < self.first_plate:
            return self.layers.row[item], self.layers.row[item]
        return self.layers.spans[item - self.first_plate]

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

    def _insert(self, vertex: int, filled: Counter[int]) -> None:
        item, plate = vertex, self.layers.home[vertex]
        while self.place[item] < 0:
            is_strip = plate in self.nest.groups
            self.place[item] = item - self.first_plate - plate - 1 if is_strip else filled[plate]
            filled[plate] += 1
            first, last = self._rows(item)
            for row in range(first, last + 1):
                self.held.setdefault((plate, row), []).append(item)
            if plate == PAGE:
                return
            item, plate = self.first_plate + plate, self.nest.parent[plate]


def _shares(row: list[int]) -> dict[int, float]:
    """Return the middle of the share of a row's width that each of its items has."""
    return {v: (i + 0.5) / len(row) for i, v in enumerate(row)}
