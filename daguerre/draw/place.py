"""Coordinates: columns by an exact L1 problem, rows by the room that plates and fans need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from daguerre.draw.bodies import Body
from daguerre.draw.curves import Point
from daguerre.draw.formula import Outline
from daguerre.draw.layers import Layers
from daguerre.draw.order import Token
from daguerre.draw.picture import Box
from daguerre.draw.plates import PAGE
from daguerre.draw.simplex import Gap, Pull, arrange, straightened

__all__ = ["LABEL_ROOM", "PAD", "Places", "place"]

PAD = 16  # from a plate's border to what it holds
LABEL_ROOM = 20  # the strip at the foot of a plate for its label
_NODES = 34  # between the outlines of neighbours
_BENDS = 22  # around the bend of a long arrow
_OUTSIDE = 26  # from a plate's border to a stranger
_ROW = 116  # between the centres of two rows
_CLEAR = 46  # between what two rows hold
_SLOPE = 0.56  # the least height of an arrow over its width, as far as _TALLEST allows
_TALLEST = 230


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything stands.

    Attributes:
        points: Centre of each vertex.
        boxes: Border of each plate.
        bands: Top and bottom of what each row holds, plates' borders included.
    """

    points: tuple[Point, ...]
    boxes: tuple[Box, ...]
    bands: tuple[tuple[float, float], ...]


def place(
    layers: Layers,
    rows: Sequence[Sequence[Token]],
    bodies: Sequence[Body],
    plate_labels: Sequence[Outline],
) -> Places:
    """Place vertices and plates.

    Args:
        layers: The skeleton.
        rows: The order in each row.
        bodies: Outlines of the nodes, which are the first vertices.
        plate_labels: The type at the foot of each plate.
    """
    columns = _columns(layers, rows, bodies, plate_labels)
    heights = _Heights(layers, bodies)
    levels = _levels(layers, columns, heights)
    count = len(layers.row)
    points = tuple(Point(columns[v], levels[layers.row[v]]) for v in range(count))
    boxes = tuple(
        Box(
            columns[count + 2 * plate],
            levels[first] - heights.above(plate, first),
            columns[count + 2 * plate + 1],
            levels[last] + heights.below(plate, last),
        )
        for plate, (first, last) in enumerate(layers.spans)
    )
    bands = tuple(
        (y - heights.above(PAGE, r), y + heights.below(PAGE, r)) for r, y in enumerate(levels)
    )
    return Places(points, boxes, bands)


def _columns(
    layers: Layers,
    rows: Sequence[Sequence[Token]],
    bodies: Sequence[Body],
    plate_labels: Sequence[Outline],
) -> tuple[float, ...]:
    """Return x of each vertex, then left and right border of each plate."""
    count = len(layers.row)

    def variable(token: Token) -> int:
        if token.kind == "vertex":
            return token.which
        return count + 2 * token.which + (token.kind == "close")

    gaps = [
        Gap(variable(a), variable(b), _distance(a, b, bodies))
        for row in rows
        for a, b in pairwise(row)
    ]
    pulls = [Pull(a, b, _weight(layers, a, b)) for a, b in layers.links]
    for plate, label in enumerate(plate_labels):
        left = count + 2 * plate
        gaps.append(Gap(left, left + 1, _least_width(layers, plate, label)))
        pulls.append(Pull(left, left + 1, 2))
    columns = arrange(count + 2 * len(plate_labels), gaps, pulls).middle
    return straightened(columns, gaps, pulls)


def _least_width(layers: Layers, plate: int, label: Outline) -> int:
    """Leave room for the label of a plate beside an arrow that leaves it in the middle."""
    last = layers.spans[plate][1]
    leaves = any(
        layers.row[a] == last
        and plate in layers.nesting.around(layers.home[a])
        and plate not in layers.nesting.around(layers.home[b])
        for a, b in layers.links
    )
    return ceil(label.width + PAD) * (2 if leaves else 1) + PAD


def _distance(a: Token, b: Token, bodies: Sequence[Body]) -> int:
    halves = [
        bodies[t.which].width if t.kind == "vertex" and t.which < len(bodies) else 0
        for t in (a, b)
    ]
    if a.kind == b.kind == "vertex":
        gap = _NODES if all(halves) else _BENDS
    else:
        leaves = a.kind == "close" and b.kind != "close"
        enters = b.kind == "open" and a.kind != "open"
        gap = _OUTSIDE if leaves or enters else PAD
    return ceil(sum(halves)) + gap


def _weight(layers: Layers, a: int, b: int) -> int:
    """Long arrows pull hardest at their bends, so that they run straight."""
    return (6, 12, 48)[layers.is_bend(a) + layers.is_bend(b)]


class _Heights:
    """How far what a plate (or the page) holds of a row reaches above and below its middle."""

    def __init__(self, layers: Layers, bodies: Sequence[Body]) -> None:
        self._spans = layers.spans
        self._inner: dict[int, list[int]] = {}
        for plate, parent in enumerate(layers.nesting.parent):
            self._inner.setdefault(parent, []).append(plate)
        self._nodes: dict[tuple[int, int], float] = {}
        for vertex, (row, home) in enumerate(zip(layers.row, layers.home, strict=True)):
            height = bodies[vertex].height if vertex < len(bodies) else 0.0
            self._nodes[home, row] = max(height, self._nodes.get((home, row), 0.0))

    def above(self, plate: int, row: int) -> float:
        """Return the reach above the middle, with the upper borders of plates that open here."""
        held = max(
            [self._tallest(plate, row), *(self.above(p, row) for p in self._in(plate, row))]
        )
        return held + (PAD if plate != PAGE and self._spans[plate][0] == row else 0)

    def below(self, plate: int, row: int) -> float:
        """Return the reach below the middle, with the feet of plates that close here."""
        held = max(
            [self._tallest(plate, row), *(self.below(p, row) for p in self._in(plate, row))]
        )
        return held + (
            PAD / 2 + LABEL_ROOM if plate != PAGE and self._spans[plate][1] == row else 0
        )

    def _tallest(self, plate: int, row: int) -> float:
        return self._nodes.get((plate, row), 0.0)

    def _in(self, plate: int, row: int) -> list[int]:
        inner = self._inner.get(plate, ())
        return [p for p in inner if self._spans[p][0] <= row <= self._spans[p][1]]


def _levels(layers: Layers, columns: Sequence[float], heights: _Heights) -> list[float]:
    widest = [0.0] * layers.depth
    for a, b in layers.links:
        if not layers.is_bend(a) and not layers.is_bend(b):
            row = layers.row[a]
            widest[row] = max(widest[row], abs(columns[a] - columns[b]))
    levels = [0.0]
    for row in range(1, layers.depth):
        room = heights.below(PAGE, row - 1) + _CLEAR + heights.above(PAGE, row)
        fan = min(_SLOPE * widest[row - 1], _TALLEST)
        levels.append(levels[-1] + max(_ROW, room, fan))
    return levels
