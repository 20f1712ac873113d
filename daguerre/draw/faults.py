"""What a reader stumbles over: things on one another, strangers in plates, struck labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, permutations, product

import numpy as np
from numpy.typing import NDArray

from daguerre.draw.curves import Point, Trail
from daguerre.draw.picture import Box, Picture, PlacedNode, PlacedPath

__all__ = ["faults"]

_STEP = 3.0  # pixels between the points of arrows
_ON, _LONG = 2.2, 18.0  # arrows this near run on each other, if that far
_SHARED = 23.0  # pixels from a node within which its arrows may meet
_TIPS = 7.0  # heads nearer than this overlap
_ROUND = 9.0  # radius of the corners of plates
_PAST, _INTO = 2.5, 1.0  # pixels that an arrow keeps from a strange node, may enter its own
_SIDES = 5.0  # pixels between parallel sides of plates that cross
_AIR = 1.0  # pixels between a label and an arrow


def faults(picture: Picture) -> int:
    """Count nodes, borders, labels and arrows that are where they must not be.

    Nodes and labels lie on nothing; plates hold their members and no other, and their sides
    tell them apart; arrows strike no label and no strange node, enter no strange plate, and
    neither run on each other nor hide a head.

    Args:
        picture: What was laid out.

    Example:
        >>> from daguerre.draw.layout import layout
        >>> from daguerre.draw.notation import figure
        >>> from daguerre.graph import Graph
        >>> faults(layout(figure(Graph.from_edges([("z", "x")]))))
        0
    """
    trails = [np.concatenate((p.curve.trail(_STEP), [p.tip])) for p in picture.paths]
    found = (
        *(_covered(picture), _misplaced(picture), _confused(picture), _struck(picture, trails)),
        *(_hit(picture, trails), _astray(picture, trails), _overlapping(picture, trails)),
    )
    return sum(map(sum, found))


def _types(picture: Picture) -> list[Box]:
    """List the boxes of the labels that stand in no node."""
    boxes = [path.label.box for path in picture.paths if path.label]
    boxes += [node.label.box for node in picture.nodes if node.node.is_named_beside]
    return boxes + [frame.label.box for frame in picture.frames]


def _covered(picture: Picture) -> Iterator[bool]:
    """Find nodes on nodes, and labels on nodes, borders and labels."""
    nodes, labels = [node.box for node in picture.nodes], _types(picture)
    yield from (a.meets(b) for a, b in combinations(nodes, 2))
    yield from (label.meets(node) for label, node in product(labels, nodes))
    yield from (a.meets(b) for a, b in combinations(labels, 2))
    for label, frame in product(labels, picture.frames):
        yield label.meets(frame.box) and not _holds(frame.box, label)


def _misplaced(picture: Picture) -> Iterator[bool]:
    """Find members outside of their plate, strangers inside, and labels of other plates."""
    for frame, node in product(picture.frames, picture.nodes):
        is_in = node.node.name in frame.frame.members
        yield not _holds(frame.box, node.box) if is_in else frame.box.meets(node.box)
    yield from (not _holds(frame.box, frame.label.box) for frame in picture.frames)
    for a, b in permutations(picture.frames, 2):
        yield not {*b.frame.members} >= {*a.frame.members} and a.label.box.meets(b.box)


def _confused(picture: Picture) -> Iterator[bool]:
    """Find plates that do not nest, part or cross as their members do; outer ones come first."""
    for a, b in combinations(picture.frames, 2):
        outer, inner = {*a.frame.members}, {*b.frame.members}
        if inner <= outer:
            yield not _holds(a.box, b.box)
        elif outer.isdisjoint(inner):
            yield a.box.meets(b.box)
        else:
            yield not a.box.meets(b.box) or _run_along(a.box, b.box)


def _run_along(a: Box, b: Box) -> bool:
    """Say whether a side of one box lies on a side of another."""
    across = a.top < b.bottom and b.top < a.bottom
    along = a.left < b.right and b.left < a.right
    return (across and _meet(a[::2], b[::2])) or (along and _meet(a[1::2], b[1::2]))


def _meet(one: Iterable[float], other: Iterable[float]) -> bool:
    return any(abs(x - y) <= _SIDES for x, y in product(one, other))


def _holds(outer: Box, inner: Box) -> bool:
    return all(map(outer.holds, inner.corners))


def _struck(picture: Picture, trails: list[Trail]) -> Iterator[bool]:
    for box in _types(picture):
        near = Box.around(box.corners, margin=_AIR)
        yield any(_within(near, trail).any() for trail in trails)


def _hit(picture: Picture, trails: list[Trail]) -> Iterator[bool]:
    """Find pairs of an arrow and a node that it comes too near to, or enters if it is its own."""
    for node in picture.nodes:
        near = Box.around(node.box.corners, margin=_PAST)
        for path, trail in zip(picture.paths, trails, strict=True):
            is_own = node.node.name in (path.arrow.source, path.arrow.target)
            least = -_INTO if is_own else _PAST
            points = trail[_within(near, trail)]
            yield any(node.body.distance(*node.centre.to(Point(*p))) < least for p in points)


def _astray(picture: Picture, trails: list[Trail]) -> Iterator[bool]:
    """Find pairs of an arrow and a plate that holds none of its ends, yet the arrow."""
    for frame in picture.frames:
        for path, trail in zip(picture.paths, trails, strict=True):
            if {path.arrow.source, path.arrow.target}.isdisjoint(frame.frame.members):
                yield bool((_depth(frame.box, trail) > 0).any())


def _overlapping(picture: Picture, trails: list[Trail]) -> Iterator[bool]:
    nodes = {node.node.name: node for node in picture.nodes}
    for one, other in combinations(zip(picture.paths, trails, strict=True), 2):
        if one[0].arrow != other[0].arrow:
            yield _is_on(*one, *other, nodes)


def _is_on(
    one: PlacedPath, trail: Trail, other: PlacedPath, beside: Trail, nodes: dict[str, PlacedNode]
) -> bool:
    if one.arrow.target == other.arrow.target and one.tip.to(other.tip).length < _TIPS:
        return True
    low, high = beside.min(axis=0) - _ON, beside.max(axis=0) + _ON
    near = trail[((low < trail) & (trail < high)).all(axis=1)]
    for end in {one.arrow.source, one.arrow.target} & {other.arrow.source, other.arrow.target}:
        near = near[_depth(nodes[end].box, near) < -_SHARED]
    if not len(near):
        return False
    gaps = np.hypot(*(near[:, None] - beside[None]).transpose(2, 0, 1)).min(axis=1)
    return _STEP * int((gaps < _ON).sum()) > _LONG


def _within(box: Box, trail: Trail) -> NDArray[np.bool_]:
    x, y = trail.T
    return (box.left < x) & (x < box.right) & (box.top < y) & (y < box.bottom)


def _depth(box: Box, trail: Trail) -> np.ndarray:
    """Return how far points lie in a box with round corners; negative outside."""
    left, top, right, bottom = box
    x, y = trail.T
    across = _ROUND - np.minimum(x - left, right - x)
    along = _ROUND - np.minimum(y - top, bottom - y)
    outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
    return _ROUND - outside - np.minimum(np.maximum(across, along), 0)
