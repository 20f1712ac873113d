"""Plates grow sideways around the arrows and labels that belong to them, where there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

import numpy as np

from daguerre.draw.annotate import Captions
from daguerre.draw.columns import PAD
from daguerre.draw.notation import Arrow
from daguerre.draw.obstacles import Wall
from daguerre.draw.picture import Box, PlacedNode, PlacedPath
from daguerre.draw.plates import Nesting

__all__ = ["grown"]

_AIR = 8.0  # from a border to an arrow inside or a stranger outside


def grown(
    walls: Sequence[Wall],
    nest: Nesting,
    nodes: Sequence[PlacedNode],
    paths: Sequence[PlacedPath],
    captions: Captions,
) -> list[Wall]:
    """Widen plates until what joins their members lies inside; strangers stay outside.

    Where arrows leave no place for its label, a plate becomes wider by one.

    Args:
        walls: The plates as the columns set them.
        nest: Which plate lies in which.
        nodes: All nodes.
        paths: All arrows, with their labels.
        captions: The labels of the plates.
    """
    result = list(walls)
    if not walls:
        return result
    passing, names = _Passing(paths), [n for n in nodes if n.node.is_named_beside]
    reaches = [(p.arrow, [*_reach(p)]) for p in paths]
    for plate in sorted(range(len(walls)), key=lambda p: -nest.depth(p)):
        if plate in nest.group_of or any(box in nest.groups for box in nest.around(plate)):
            continue  # a border between strips stays where it is
        inner = [result[p].box for p in range(len(walls)) if nest.parent[p] == plate]
        held = [Box.around(box.corners, margin=PAD) for box in inner]
        held += [_widened(box) for box in _own(result[plate], reaches)]
        held += [_widened(n.label.box) for n in names if n.node.name in result[plate].members]
        family = {p for p in range(len(walls)) if plate in nest.around(p)} | {*nest.around(plate)}
        others = [n for n in nodes if n.node.name not in result[plate].members]
        strangers = [box for n in others for box in (n.box, n.label.box)]
        strangers += [wall.box for p, wall in enumerate(result) if p not in family]
        strangers += passing.beside(result[plate])
        margin = _AIR + PAD * nest.depth(plate)
        box = _stretched(result[plate].box, held, strangers, margin)
        boxes = [wall.box for wall in result]
        for wider in _wider(box, captions.width(plate)):
            boxes[plate] = _stretched(box, [wider], strangers, margin)
            if not captions.spot(plate, boxes).struck:
                box = boxes[plate]
                break
        result[plate] = Wall(box, result[plate].members)
    return result


def _wider(box: Box, by: float) -> Iterator[Box]:
    """Propose a box, and wider ones: on the right, on the left, on both sides."""
    for left, right in ((0.0, 0.0), (0.0, by), (by, 0.0), (by, by)):
        yield Box(box.left - left, box.top, box.right + right, box.bottom)


def _reach(path: PlacedPath) -> Iterator[Box]:
    yield Box.around(path.curve.corners)
    if path.label:
        yield path.label.box


def _own(wall: Wall, reaches: Sequence[tuple[Arrow, Sequence[Box]]]) -> Iterator[Box]:
    for arrow, boxes in reaches:
        if {arrow.source, arrow.target} <= wall.members:
            yield from boxes


class _Passing:
    """The points of all arrows, of which those that join no member of a plate stay outside."""

    def __init__(self, paths: Sequence[PlacedPath]) -> None:
        self._ends = [(path.arrow.source, path.arrow.target) for path in paths]
        trails = [path.curve.trail() for path in paths]
        self._owner = np.repeat(np.arange(len(paths)), list(map(len, trails)))
        self._points = np.concatenate([*trails, np.empty((0, 2))])

    def beside(self, wall: Wall) -> Iterator[Box]:
        """List the nearest such point on the left of a plate, and on the right."""
        strange = np.array([wall.members.isdisjoint(ends) for ends in self._ends], dtype=bool)
        x, y = self._points[strange[self._owner]].T
        level = (wall.box.top - _AIR < y) & (y < wall.box.bottom + _AIR)
        left, right = x[level & (x < wall.box.left)], x[level & (x > wall.box.right)]
        for at in (*left.max(initial=-inf, keepdims=True), *right.min(initial=inf, keepdims=True)):
            yield Box(at, wall.box.top, at, wall.box.bottom)


def _stretched(box: Box, held: Sequence[Box], strangers: Sequence[Box], margin: float) -> Box:
    level = [s for s in strangers if s.top < box.bottom + _AIR and box.top < s.bottom + _AIR]
    left = min([box.left, *(h.left for h in held)])
    right = max([box.right, *(h.right for h in held)])
    if any(s.right + margin > left and s.left < box.left for s in level):
        left = box.left
    if any(s.left - margin < right and s.right > box.right for s in level):
        right = box.right
    return Box(left, box.top, right, box.bottom)


def _widened(box: Box) -> Box:
    return Box.around(box.corners, margin=_AIR)
