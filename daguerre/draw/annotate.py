"""Type beside arrows, at the feet of plates and the heads of scopes, where nothing strikes it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, pairwise, product
from math import inf
from typing import NamedTuple

import numpy as np

from daguerre.draw.curves import Point, Trail, line
from daguerre.draw.formula import Outline, formula
from daguerre.draw.notation import Figure, Frame, Node
from daguerre.draw.obstacles import Wall
from daguerre.draw.picture import Box, PlacedFrame, PlacedNode, PlacedPath, PlacedType

__all__ = [
    "NAME",
    "Captions",
    "Spot",
    "centred",
    "label_room",
    "labelled",
    "legend",
    "small",
    "tagged",
]

NAME = 21.0  # size of the type in nodes
_SIZE = 17.0
_BESIDE = 8.0  # pixels between a label and its arrow
_AIR = 7.0  # and between it and others, if there is room
_INSET = 9.0  # from a plate's border to its label
_SHORT = 25.0  # half the width of a label that needs no room of its own
_LEADING, _LISTED = 10.0, 12  # between lines of the legend, and names in one
_GAPS = (0.0, 10.0, 20.0)  # further from the arrow, where it is crowded
_SIDES = ((1, 0), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1))
_PLACES = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82)


def centred(source: str, outline: Outline, centre: Point) -> PlacedType:
    """Set type in the middle of a node; a subscript hardly lifts the letter."""
    drop = (outline.ascent - min(outline.descent, 0.2 * outline.ascent)) / 2
    return PlacedType(source, outline, Point(centre.x - outline.width / 2, centre.y + drop))


def small(latex: str) -> Outline:
    """Set type of the size that stands beside arrows."""
    return formula(latex, size=_SIZE)


def tagged(
    nodes: Sequence[PlacedNode], paths: Sequence[PlacedPath], walls: Sequence[Wall]
) -> list[PlacedNode]:
    """Set the names of factors and dots, which cannot hold them, next to them and off all arrows.

    Args:
        nodes: All nodes.
        paths: All arrows, with their labels.
        walls: The plates; those around a node may still grow around its name.
    """
    ink = _Ink(paths)
    taken = [n.box for n in nodes] + [path.label.box for path in paths if path.label]
    result = []
    for node in nodes:
        if node.node.is_named_beside:
            name = node.node.name
            borders = [wall.box for wall in walls if name not in wall.members]
            best = min(_around(node), key=lambda t: _struck(t.box, taken, ink, borders))
            taken.append(best.box)
            node = replace(node, label=best)
        result.append(node)
    return result


def _around(node: PlacedNode) -> Iterator[PlacedType]:
    """Propose places right, left, at the corners, above and below."""
    outline = node.label.outline
    for dx, dy in (*_SIDES, (0, -1), (0, 1)):
        x = node.centre.x + dx * (node.body.width + _BESIDE / 2 + outline.width / 2)
        y = node.centre.y + dy * (node.body.height + outline.height / 2)
        yield centred(node.node.label, outline, Point(x, y))


class Spot(NamedTuple):
    """A place for a label, and how much of the arrows and their labels strikes it."""

    label: PlacedType
    struck: float


class Captions:
    """The labels of plates, at their lower right, and of scopes, at their upper left.

    Where an arrow passes there, a label moves along the border to where none does.

    Args:
        frames: The plates and scopes.
        outlines: Their labels.
        paths: All arrows, with their labels.
    """

    def __init__(
        self, frames: Sequence[Frame], outlines: Sequence[Outline], paths: Sequence[PlacedPath]
    ) -> None:
        self.frames, self._outlines = frames, outlines
        self._ink = _Ink(paths)
        self._taken = [path.label.box for path in paths if path.label]
        held = [frozenset(frame.members) for frame in frames]
        self._others = [
            [i for i, outer in enumerate(held) if not outer >= inner] for inner in held
        ]

    def spot(self, which: int, boxes: Sequence[Box]) -> Spot:
        """Choose a place for one label.

        Args:
            which: The number of its frame.
            boxes: The borders of all frames.
        """
        frame, outline, box = self.frames[which], self._outlines[which], boxes[which]
        others = [boxes[i] for i in self._others[which]]
        corners = list(_corners(frame, box, outline))
        best = Spot(PlacedType(frame.label, outline, corners[0]), inf)
        for corner in corners:
            label = PlacedType(frame.label, outline, corner)
            near = _widened(label.box, 3.0)
            if any(map(near.meets, others)):
                continue
            struck = self._ink.within(near) + 100.0 * sum(map(near.meets, self._taken))
            if struck < best.struck:
                best = Spot(label, struck)
            if not struck:
                break
        return best

    def framed(self, boxes: Sequence[Box]) -> list[PlacedFrame]:
        """Set all labels.

        Args:
            boxes: The borders of all frames.
        """
        labels = [self.spot(i, boxes).label for i in range(len(boxes))]
        return list(map(PlacedFrame, self.frames, boxes, labels))

    def width(self, which: int) -> float:
        """Return how much wider a plate must be for its label."""
        return self._outlines[which].width + _INSET


def _corners(frame: Frame, box: Box, outline: Outline) -> Iterator[Point]:
    """Propose origins of a frame's label, from its corner along the border."""
    room = int(box.right - box.left - outline.width - 2 * _INSET)
    for shift in range(0, max(room, 1), 6):
        if frame.scope:
            yield Point(box.left + _INSET + shift, box.top + _INSET + outline.ascent)
        else:
            x = box.right - _INSET - outline.width - shift
            yield Point(x, box.bottom - _INSET - outline.descent)


def legend(frames: Sequence[Frame], nodes: Sequence[Node], box: Box) -> list[PlacedType]:
    """Say under a picture what the plates hold that have no rectangle in it, a line each.

    Args:
        frames: Those plates.
        nodes: All nodes, for their labels.
        box: The rectangle of the picture.
    """
    label_of, lines, y = {node.name: node.label for node in nodes}, [], box.bottom + _LEADING
    for frame in frames:
        labels = [label_of[name] for name in frame.members]
        held = [*labels[:_LISTED], *([r"\ldots"] if len(labels) > _LISTED else [])]
        source = rf"{frame.label}{{:}}\quad {', '.join(held)}"
        outline = small(source)
        lines.append(PlacedType(source, outline, Point(box.left, y + outline.ascent)))
        y += outline.height + _LEADING
    return lines


def labelled(
    paths: Sequence[PlacedPath], nodes: Sequence[PlacedNode], walls: Sequence[Wall]
) -> list[PlacedPath]:
    """Set the label of each arrow beside it, where it strikes least.

    Args:
        paths: All arrows.
        nodes: All nodes.
        walls: The plates; one that holds both ends of an arrow may still grow around its label.
    """
    taken = [node.box for node in nodes]
    ink = _Ink(paths)
    result = []
    for path in paths:
        if path.arrow.label:
            ends = {path.arrow.source, path.arrow.target}
            borders = [wall.box for wall in walls if not ends <= wall.members]
            best, _ = min(
                _spots(path),
                key=lambda s: _struck(s[0].box, taken, ink, borders) + 8.0 * ink.within(s[1]),
            )
            taken.append(best.box)
            path = replace(path, label=best)
        result.append(path)
    return result


def label_room(figure: Figure) -> dict[str, float]:
    """Return how far nodes should keep others, each side, for the labels of their arrows.

    A label that stands outside of the plate of a node needs no room in it. The name of a factor
    or a dot does, and some without a plate.
    """
    held = {name for frame in figure.frames for name in frame.members}
    room = {
        n.name: max(formula(n.label, size=NAME).width - (0.0 if n.name in held else _SHORT), 0.0)
        for n in figure.nodes
        if n.is_named_beside
    }
    for arrow in figure.arrows:
        half = small(arrow.label).width / 2 if arrow.label else 0.0
        ends = {arrow.source, arrow.target}
        if half > _SHORT and not any(len(ends & {*f.members}) == 1 for f in figure.frames):
            room.update((name, max(room.get(name, 0.0), half)) for name in sorted(ends))
    return room


def _spots(path: PlacedPath) -> Iterator[tuple[PlacedType, Box]]:
    """Propose places in order of liking: near the middle, outside a bow, else left or above.

    With each comes what lies between the label and its arrow, where no other arrow should pass.
    """
    outline = small(path.arrow.label)
    points = path.curve.samples(1.0)
    points += line(points[-1], path.tip).samples(1.0)[1:]
    behind = list(accumulate(a.to(b).length for a, b in pairwise(points)))
    chord = points[0].to(points[-1])
    middle = points[_index(behind, 0.5)]
    half = points[0].plus(chord, 0.5)
    for gap, share in product(_GAPS, _PLACES):
        at = _index(behind, share)
        along = points[at].to(points[at + 1])
        normal = Point(along.y / along.length, -along.x / along.length)
        bow = normal.x * half.to(middle).x + normal.y * half.to(middle).y
        outward = 1 if bow > 1 or (abs(bow) <= 1 and normal.x + normal.y < 0) else -1
        for side in (outward, -outward):
            away = Point(side * normal.x, side * normal.y)
            shifted = points[at].plus(away, gap)
            between = Box.around((points[at].plus(away, _BESIDE), shifted.plus(away, _BESIDE)))
            label = _beside(path.arrow.label, outline, shifted, away)
            yield label, Box.around(between.corners, margin=3.0)


def _index(behind: Sequence[float], share: float) -> int:
    """Return which point of a chain a share of its length lies behind; never the last one.

    Args:
        behind: The length up to each point but the first.
        share: From 0 to 1.
    """
    return min(bisect_left(behind, share * behind[-1]), len(behind) - 1)


def _beside(source: str, outline: Outline, at: Point, normal: Point) -> PlacedType:
    away = _BESIDE + abs(normal.x) * outline.width / 2 + abs(normal.y) * outline.height / 2
    x, y = at.plus(normal, away)
    drop = (outline.ascent - outline.descent) / 2
    return PlacedType(source, outline, Point(x - outline.width / 2, y + drop))


def _struck(box: Box, taken: Sequence[Box], ink: _Ink, borders: Sequence[Box]) -> float:
    near = _widened(box, 3.0)
    types = 400.0 * sum(near.meets(other) for other in taken)
    walls = sum(near.meets(border) and not _inside(near, border) for border in borders)
    touched = ink.within(_widened(box, _AIR))
    return types + 20.0 * walls + 8.0 * ink.within(near) + 2.0 * touched


def _inside(box: Box, other: Box) -> bool:
    return all(other.holds(corner) for corner in box.corners)


def _widened(box: Box, margin: float) -> Box:
    return Box.around(box.corners, margin=margin)


class _Ink:
    """All arrows as points, to be found by where they are."""

    def __init__(self, paths: Sequence[PlacedPath]) -> None:
        self._paths = paths

    @cached_property
    def _points(self) -> Trail:
        """All points from left to right."""
        trails = [path.curve.trail(4.0) for path in self._paths]
        points = np.concatenate([*trails, *([path.tip] for path in self._paths)])
        return points[np.argsort(points[:, 0], kind="stable")]

    @cached_property
    def _across(self) -> Trail:
        return np.ascontiguousarray(self._points[:, 0])

    def within(self, box: Box) -> int:
        """Count the points inside a box."""
        if not self._paths:
            return 0
        first = np.searchsorted(self._across, box.left, side="right")
        down = self._points[first : np.searchsorted(self._across, box.right), 1]
        return int(((box.top < down) & (down < box.bottom)).sum())
