"""The last resort of a layout: nodes down a diagonal, on which every law holds by construction.

Each node has a row and a column of its own. An arrow leaves its source along the row and enters
its target along the column, in a lane that no other arrow has, so it meets no node and runs on no
arrow. Plates are stretches of the diagonal, whose rows and columns pass through no other plate;
a label stands where a row and a column meet that no arrow uses.

References:
    Lano (1977), The N2 chart, TRW Software Series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import cos, sin
from typing import NamedTuple

from daguerre.draw.annotate import centred, small
from daguerre.draw.bodies import Body
from daguerre.draw.cells import LANE, SPACE, Cell, cell
from daguerre.draw.curves import Point
from daguerre.draw.families import Family, abreast
from daguerre.draw.formula import Outline
from daguerre.draw.notation import Arrow, Figure, Frame, Node
from daguerre.draw.order import Token
from daguerre.draw.picture import Box, PlacedFrame, PlacedNode, PlacedPath, PlacedType
from daguerre.draw.plates import PAGE, Nesting, nesting
from daguerre.draw.ways import End, threaded

__all__ = ["Staircase", "staircase"]

_EDGE = 12.0  # outside and inside of the border of a plate
_RADIUS = 12.0  # of corners


class Staircase(NamedTuple):
    """What stands on a staircase, and the plates that no stretch of it holds."""

    nodes: list[PlacedNode]
    paths: list[PlacedPath]
    frames: list[PlacedFrame]
    left_out: tuple[Frame, ...]


def staircase(
    figure: Figure,
    rank: Mapping[str, int],
    bodies: Mapping[str, Body],
    types: Mapping[str, Outline],
    counts: Mapping[Frame, Outline],
) -> Staircase:
    """Set a figure down a diagonal.

    Args:
        figure: What to draw.
        rank: The row that each node would like, where it has one.
        bodies: The outline of each node.
        types: The label of each node.
        counts: The label of each plate.
    """
    chosen = abreast(figure)
    nest, frames = nesting(chosen), chosen.figure.frames
    steps = _walk(nest, chosen, {n: rank.get(n, len(rank)) for n in chosen.rank}, PAGE)
    names = [node.name for node in figure.nodes]
    place = {names[s.which]: i for i, s in enumerate(s for s in steps if s.kind == "vertex")}
    arrows = list(dict.fromkeys(figure.arrows))
    nodes = {node.name: node for node in figure.nodes}
    tags = {n: types[n] for n in names if nodes[n].is_named_beside}
    cells = {n: cell(n, place, arrows, bodies[n], tags.get(n)) for n in names}
    labels = [_Label(frames[i], counts[frames[i]], i in nest.group_of) for i in range(len(frames))]
    centres, boxes = _placed(steps, [cells[n] for n in names], labels)
    ends = {n: End(n, c, cells[n].body) for n, c in zip(names, centres, strict=True)}
    return Staircase(
        [_node(nodes[n], ends[n], types[n], cells[n]) for n in names],
        [_path(arrow, ends, cells) for arrow in figure.arrows],
        [label.framed(box) for label, box in zip(labels, boxes, strict=True)],
        chosen.left_out,
    )


def _walk(nest: Nesting, family: Family, rank: Mapping[str, int], box: int) -> list[Token]:
    """List what one meets down the diagonal in a box: what likes a high row first."""
    names = [node.name for node in family.figure.nodes]
    if box in nest.groups:
        parts = [
            _walk(nest, family, rank, box + 1 + b.which)
            if b.kind == "strip"
            else [Token(b.kind, b.which)]
            for b in nest.groups[box].along()
        ]
        return list(chain.from_iterable(parts))
    parts = [[Token("vertex", i)] for i, name in enumerate(names) if nest.home[name] == box]
    for inner, parent in enumerate(nest.parent):
        if parent == box and inner not in nest.group_of:
            held = _walk(nest, family, rank, inner)
            is_group = inner in nest.groups
            parts.append(
                held if is_group else [Token("open", inner), *held, Token("close", inner)]
            )
    parts.sort(key=lambda part: min(rank[names[s.which]] for s in part if s.kind == "vertex"))
    return list(chain.from_iterable(parts))


class _Label(NamedTuple):
    """The label of a plate: at its lower right, of a scope at its upper left.

    That of a plate which crosses others is at its lower left, where no other plate reaches.
    """

    frame: Frame
    outline: Outline
    crosses: bool

    @property
    def is_high(self) -> bool:
        return self.frame.scope and not self.crosses

    @property
    def is_right(self) -> bool:
        return not self.frame.scope and not self.crosses

    def room(self, *, opens: bool) -> Point:
        """Return how far a border stands from what it opens or closes."""
        across = self.outline.width if self.is_right != opens else 0.0
        down = self.outline.height if self.is_high == opens else 0.0
        return Point(_EDGE + across, _EDGE + down)

    def framed(self, box: Box) -> PlacedFrame:
        outline = self.outline
        x = box.right - SPACE - outline.width if self.is_right else box.left + SPACE
        top, bottom = box.top + SPACE + outline.ascent, box.bottom - SPACE - outline.descent
        at = Point(x, top if self.is_high else bottom)
        return PlacedFrame(self.frame, box, PlacedType(self.frame.label, outline, at))


def _placed(
    steps: Sequence[Token], cells: Sequence[Cell], labels: Sequence[_Label]
) -> tuple[list[Point], list[Box]]:
    """Walk down the diagonal; return the centre of each node and the border of each plate."""
    here = Point(0.0, 0.0)
    edge = Point(_EDGE, _EDGE)
    centres, first, last = dict[int, Point](), dict[int, Point](), dict[int, Point]()
    for kind, which in steps:
        if kind == "vertex":
            centres[which] = here.plus(Point(cells[which].left, cells[which].above))
            here = centres[which].plus(Point(cells[which].right, cells[which].below))
        elif kind == "open":
            first[which] = here.plus(edge)
            here = first[which].plus(labels[which].room(opens=True))
        else:
            last[which] = here.plus(labels[which].room(opens=False))
            here = last[which].plus(edge)
    boxes = [Box(*first[i], *last[i]) for i in range(len(labels))]
    return [centres[i] for i in range(len(cells))], boxes


def _node(node: Node, end: End, outline: Outline, own: Cell) -> PlacedNode:
    label = centred(node.label, outline, end.centre)
    placed = PlacedNode(node, end.centre, end.body, label)
    if not node.is_named_beside:
        return placed
    x = end.centre.x + own.half[0] + SPACE + outline.width / 2
    return replace(placed, label=centred(node.label, outline, Point(x, end.centre.y + own.tag)))


def _path(arrow: Arrow, ends: Mapping[str, End], cells: Mapping[str, Cell]) -> PlacedPath:
    source, target = ends[arrow.source], ends[arrow.target]
    angle = cells[arrow.target].heads[arrow]
    falls = arrow.source == arrow.target or source.centre.y < target.centre.y
    port = Point(sin(angle), -cos(angle) if falls else cos(angle))
    points = list(_corners(arrow, source, target, cells))
    way = threaded(source, target, points, radius=_RADIUS, port=port)
    return PlacedPath(arrow, way.curve, way.tip, _written(arrow, source, points, cells))


def _corners(arrow: Arrow, source: End, target: End, cells: Mapping[str, Cell]) -> Iterator[Point]:
    """Leave along the row of the source, arrive along the column of the target."""
    start, end = cells[arrow.source], cells[arrow.target]
    y, x = source.centre.y + start.rows[arrow], target.centre.x + end.columns[arrow]
    side = -1 if target.centre.x < source.centre.x else 1
    level = -1 if source.centre.y <= target.centre.y else 1
    yield Point(source.centre.x + side * start.half[0], y)
    if arrow.source == arrow.target:
        lane = LANE * (1 + start.loops.index(arrow))
        right = source.centre.x + start.half[0] + start.beside[1] + lane
        top = source.centre.y - start.half[1] - lane
        yield from (Point(right, y), Point(right, top), Point(x, top))
    else:
        yield Point(x, y)
    yield Point(x, target.centre.y + level * end.half[1])


def _written(
    arrow: Arrow, source: End, points: Sequence[Point], cells: Mapping[str, Cell]
) -> PlacedType | None:
    """Set the label of an arrow above its lane, where it has left its source."""
    if not arrow.label:
        return None
    outline = small(arrow.label)
    is_left = points[0].x < source.centre.x
    x = points[0].x - SPACE - outline.width if is_left else points[0].x + SPACE
    return PlacedType(arrow.label, outline, Point(x, points[0].y - SPACE / 2 - outline.descent))
