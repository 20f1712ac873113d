"""Coordinates: rows by the room that plates and fans need, around columns solved apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from daguerre.draw.bodies import Body
from daguerre.draw.columns import PAD, Columns, Door, columns, doors
from daguerre.draw.curves import Point
from daguerre.draw.formula import Outline
from daguerre.draw.layers import Layers
from daguerre.draw.order import Token
from daguerre.draw.picture import Box
from daguerre.draw.plates import PAGE

__all__ = ["Places", "place"]

_ROUNDS = 2  # in which scopes widen until nothing that enters strikes a name
_NEARLY = 4.0
_INSET = 9  # from the top of a scope to its name
_LABEL_ROOM = 20  # the strip at the foot of a plate for its label
_ROW = 116  # between the centres of two rows, unless both are low
_LOW, _LOW_BESIDE = 20, 24  # half the height of a low row, and of one that holds modules
_CLEAR, _CLEAR_LOW = 46, 38  # between what two rows hold
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
    room: int = 0,
) -> Places:
    """Place vertices and plates.

    Args:
        layers: The skeleton.
        rows: The order in each row.
        bodies: Outlines of the nodes, which are the first vertices.
        plate_labels: The type at the foot of each plate, or at the head of each scope.
        room: Pixels between neighbours and rows more than usual.
    """
    heights = _Heights(layers, bodies, room)
    across, down = _arranged(layers, rows, bodies, plate_labels, heights)
    points = tuple(Point(x, down[row]) for x, row in zip(across.vertices, layers.row, strict=True))
    boxes = tuple(
        Box(
            left,
            down[first] - heights.above(plate, first),
            right,
            down[last] + heights.below(plate, last),
        )
        for plate, ((left, right), (first, last)) in enumerate(
            zip(across.borders, layers.spans, strict=False)
        )
    )
    bands = tuple(
        (y - heights.above(PAGE, r), y + heights.below(PAGE, r)) for r, y in enumerate(down)
    )
    return Places(points, boxes, bands)


def _arranged(
    layers: Layers,
    rows: Sequence[Sequence[Token]],
    bodies: Sequence[Body],
    labels: Sequence[Outline],
    heights: _Heights,
) -> tuple[Columns, list[float]]:
    """Solve columns and rows, and again while what enters a scope may strike its name."""
    entered = doors(layers)

    def solved(leans: Sequence[float]) -> tuple[Columns, list[float]]:
        across = columns(
            layers, rows, bodies, labels, list(zip(entered, leans, strict=True)), heights.room
        )
        return across, _levels(layers, across.vertices, heights)

    leans = [0.0] * len(entered)
    found = solved(leans)
    for _ in range(_ROUNDS):
        wished = [_lean(door, layers, *found, heights) for door in entered]
        if all(new <= old + _NEARLY for old, new in zip(leans, wished, strict=True)):
            break
        leans = list(map(max, leans, wished))
        found = solved(leans)
    return found


def _lean(
    door: Door, layers: Layers, across: Columns, down: Sequence[float], heights: _Heights
) -> float:
    """Return how far left of its end an arrow is where it passes a scope's name."""
    run = across.vertices[door.below] - across.vertices[door.above]
    row = layers.row[door.below]
    share = (heights.above(door.scope, row) - _INSET) / (down[row] - down[row - 1])
    return max(run * share, 0.0)


class _Heights:
    """How far what a plate (or the page) holds of a row reaches above and below its middle."""

    def __init__(self, layers: Layers, bodies: Sequence[Body], room: int) -> None:
        self.room = room  # between rows, and as much between columns
        self._spans, self._scopes = layers.spans, layers.scopes
        self._nest, self._inner = layers.nesting, dict[int, list[int]]()
        for plate, parent in enumerate(layers.nesting.parent):
            if plate not in layers.nesting.group_of:
                self._inner.setdefault(parent, []).append(plate)
        self._nodes: dict[tuple[int, int], float] = {}
        self._rows: dict[int, float] = {}
        self._modules = {row for row, body in zip(layers.row, bodies, strict=False) if body.rise}
        for vertex, (row, home) in enumerate(zip(layers.row, layers.home, strict=True)):
            height = bodies[vertex].height if vertex < len(bodies) else 0.0
            self._nodes[home, row] = max(height, self._nodes.get((home, row), 0.0))
            self._rows[row] = max(height, self._rows.get(row, 0.0))

    def above(self, plate: int, row: int) -> float:
        """Return the reach above the middle, with the heads of plates that open here."""
        reach = max(
            [self._tallest(plate, row), *(self.above(p, row) for p in self._in(plate, row))]
        )
        opening = [p for p in self._borders(plate) if self._spans[p][0] == row]
        return reach + max(map(self._head, opening), default=0)

    def below(self, plate: int, row: int) -> float:
        """Return the reach below the middle, with the feet of plates that close here."""
        reach = max(
            [self._tallest(plate, row), *(self.below(p, row) for p in self._in(plate, row))]
        )
        closing = [p for p in self._borders(plate) if self._spans[p][1] == row]
        return reach + max(map(self._foot, closing), default=0)

    def is_low(self, row: int) -> bool:
        """Say whether the nodes of a row are modules, or as low as modules are."""
        return self._rows.get(row, 0.0) <= (_LOW_BESIDE if row in self._modules else _LOW)

    def _head(self, plate: int) -> float:
        head = PAD / 2 + _LABEL_ROOM if self._scopes[plate] else PAD
        return head * self._level(plate, foot=False)

    def _foot(self, plate: int) -> float:
        foot = PAD if self._scopes[plate] else PAD / 2 + _LABEL_ROOM
        return foot * self._level(plate, foot=True)

    def _level(self, plate: int, *, foot: bool) -> int:
        if plate not in self._nest.group_of:
            return 1
        crossing = self._nest.groups[self._nest.group_of[plate]]
        return (crossing.feet if foot else crossing.heads)[plate]

    def _borders(self, box: int) -> Iterable[int]:
        """List the plates whose borders stand around a box; a strip has none."""
        if box in self._nest.groups:
            return self._nest.groups[box].reach
        return () if box == PAGE or self._nest.parent[box] in self._nest.groups else (box,)

    def _tallest(self, plate: int, row: int) -> float:
        return self._nodes.get((plate, row), 0.0)

    def _in(self, plate: int, row: int) -> list[int]:
        inner = self._inner.get(self._nest.group_of.get(plate, plate), ())
        return [p for p in inner if self._spans[p][0] <= row <= self._spans[p][1]]


def _levels(layers: Layers, columns: Sequence[float], heights: _Heights) -> list[float]:
    widest = [0.0] * layers.depth
    for a, b in layers.links:
        if not layers.is_bend(a) and not layers.is_bend(b):
            row = layers.row[a]
            widest[row] = max(widest[row], abs(columns[a] - columns[b]))
    levels = [0.0]
    for row in range(1, layers.depth):
        low = heights.is_low(row - 1) and heights.is_low(row)
        room = heights.below(PAGE, row - 1) + heights.above(PAGE, row)
        room = room + _CLEAR_LOW if low else max(_ROW, room + _CLEAR)
        fan = min(_SLOPE * widest[row - 1], _TALLEST)
        levels.append(levels[-1] + max(room, fan) + heights.room)
    return levels
