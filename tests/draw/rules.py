"""What every picture must satisfy: nodes apart, boxes exact, arrows clear, all on the page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations, product
from math import hypot

import numpy as np

from daguerre.draw import Arrow
from daguerre.draw.curves import Point
from daguerre.draw.picture import Box, Picture, PlacedFrame, PlacedNode

__all__ = [
    "check",
    "check_clear",
    "check_crowd",
    "check_frames",
    "check_nodes",
    "check_page",
    "check_paths",
    "check_types",
    "clashes",
    "trespasses",
]

ROUND = 10.0  # radius of the corners of plates


def check(picture: Picture) -> None:
    check_nodes(picture)
    check_frames(picture)
    check_paths(picture)
    check_page(picture)
    check_types(picture)


def types(picture: Picture) -> list[Box]:
    """List the boxes of all labels that are not in nodes."""
    beside = [path.label.box for path in picture.paths if path.label]
    beside += [node.label.box for node in picture.nodes if node.node.is_named_beside]
    return beside + [frame.label.box for frame in picture.frames]


def check_types(picture: Picture) -> None:
    """No label lies on a node, on a border or on another label."""
    for label in types(picture):
        assert not any(label.meets(node.box) for node in picture.nodes)
        for box in (frame.box for frame in picture.frames):
            assert not label.meets(box) or all(box.holds(corner) for corner in label.corners)
    assert not any(a.meets(b) for a, b in combinations(types(picture), 2))


def check_clear(picture: Picture) -> None:
    """No label is struck by an arrow."""
    assert struck(picture) == []


def check_crowd(picture: Picture) -> None:
    """No arrow strikes a label, lies on another arrow or enters a strange plate."""
    assert struck(picture) == []
    assert clashes(picture) == []
    assert trespasses(picture) == []


def struck(picture: Picture) -> list[Box]:
    """List labels that are struck by an arrow."""
    points = [p for path in picture.paths for p in (*path.curve.samples(2.0), path.tip)]
    return [label for label in types(picture) if any(map(label.holds, points))]


def trespasses(picture: Picture) -> list[tuple[Arrow, str]]:
    """List arrows that enter a plate which holds neither of their ends."""
    return [
        (path.arrow, frame.frame.name)
        for path, frame in product(picture.paths, picture.frames)
        if {path.arrow.source, path.arrow.target}.isdisjoint(frame.frame.members)
        and any(_lies_in(frame.box, point) for point in path.curve.samples(3.0))
    ]


def _lies_in(box: Box, point: Point) -> bool:
    """Say whether a point lies in a box whose corners are rounded."""
    across = ROUND - min(point.x - box.left, box.right - point.x)
    along = ROUND - min(point.y - box.top, box.bottom - point.y)
    return max(across, along) < ROUND and hypot(max(across, 0), max(along, 0)) < ROUND


def clashes(picture: Picture) -> list[tuple[Arrow, Arrow]]:
    """List arrows whose heads overlap or that run on each other; equal arrows are one."""
    nodes = {node.node.name: node for node in picture.nodes}
    found = []
    for one, other in combinations(picture.paths, 2):
        ends = {one.arrow.source, one.arrow.target} & {other.arrow.source, other.arrow.target}
        far = [
            p
            for p in one.curve.samples(6.0)
            if all(nodes[e].body.distance(*nodes[e].centre.to(p)) > 24.0 for e in ends)
        ]
        beside = other.curve.trail(3.0)
        along = sum(np.hypot(*(beside - p).T).min() < 2.0 for p in far) > 4
        heads = one.arrow.target == other.arrow.target and one.tip.to(other.tip).length < 6.0
        if one.arrow != other.arrow and (along or heads):
            found.append((one.arrow, other.arrow))
    return found


def crossings(nodes: tuple[PlacedNode, ...]) -> list[tuple[str, str]]:
    """List pairs of nodes whose bounding boxes overlap."""
    pairs = combinations(nodes, 2)
    return [(a.node.name, b.node.name) for a, b in pairs if a.box.meets(b.box)]


def check_nodes(picture: Picture) -> None:
    assert crossings(picture.nodes) == []
    for node in picture.nodes:
        if node.node.is_named_beside:
            continue
        for x in (node.label.box.left, node.label.box.right):
            for y in (node.label.box.top, node.label.box.bottom):
                assert node.body.distance(x - node.centre.x, y - node.centre.y) < 1.0


def check_frames(picture: Picture) -> None:
    for frame in picture.frames:
        for node in picture.nodes:
            if node.node.name in frame.frame.members:
                assert all(frame.box.holds(corner) for corner in node.box.corners)
            else:
                assert not frame.box.meets(node.box)
        assert all(frame.box.holds(corner) for corner in frame.label.box.corners)
    for a, b in combinations(picture.frames, 2):  # outer ones come first
        if set(b.frame.members) <= set(a.frame.members):
            assert all(a.box.holds(corner) for corner in b.box.corners)
        elif set(a.frame.members).isdisjoint(b.frame.members):
            assert not a.box.meets(b.box)
        else:
            check_crossing(a, b)
    for a, b in permutations(picture.frames, 2):  # a label says which plate it counts
        if not set(b.frame.members) >= set(a.frame.members):
            assert not a.label.box.meets(b.box)


def check_crossing(a: PlacedFrame, b: PlacedFrame) -> None:
    """No sides of two plates lie on one another, and they do cross."""
    assert a.box.meets(b.box)
    one, other = a.box, b.box
    for x, y in product((one.left, one.right), (other.left, other.right)):
        assert abs(x - y) > 5.0 or not _overlap(one[1::2], other[1::2])
    for x, y in product((one.top, one.bottom), (other.top, other.bottom)):
        assert abs(x - y) > 5.0 or not _overlap(one[::2], other[::2])


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def check_paths(picture: Picture) -> None:
    nodes = {node.node.name: node for node in picture.nodes}
    for path in picture.paths:
        target, source = nodes[path.arrow.target], nodes[path.arrow.source]
        dx, dy = target.centre.to(path.tip)
        assert abs(target.body.distance(dx, dy)) < 0.01
        dx, dy = source.centre.to(path.curve.points[0])
        assert abs(source.body.distance(dx, dy)) < 0.01
        points = [*path.curve.samples(3.0), path.tip]
        reach = Box.around(points, margin=2.0)
        for end in (source, target):
            assert min(end.body.distance(*end.centre.to(point)) for point in points) > -2.0
        for other in picture.nodes:
            strange = other.node.name not in (path.arrow.source, path.arrow.target)
            if strange and reach.meets(other.box):
                away = (other.body.distance(*other.centre.to(point)) for point in points)
                assert min(away) > 1.5, (path.arrow, other.node.name)


def check_page(picture: Picture) -> None:
    for node in picture.nodes:
        assert all(picture.box.holds(corner) for corner in node.box.corners)
    for path in picture.paths:
        assert all(picture.box.holds(point) for point in path.curve.samples())
