"""What a reader stumbles over: struck labels, arrows on one another or in strange plates."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from daguerre.draw.curves import Trail
from daguerre.draw.picture import Box, Picture, PlacedNode, PlacedPath

__all__ = ["faults"]

_STEP = 3.0  # pixels between the points of arrows
_ON, _LONG = 2.2, 12.0  # arrows this near run on each other, if that far
_SHARED = 23.0  # pixels from a node within which its arrows may meet
_TIPS = 7.0  # heads nearer than this overlap
_ROUND = 9.0  # radius of the corners of plates


def faults(picture: Picture) -> int:
    """Count labels that an arrow strikes, arrows that overlap, and arrows in strange plates.

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
    return _struck(picture, trails) + _astray(picture, trails) + _overlapping(picture, trails)


def _struck(picture: Picture, trails: list[Trail]) -> int:
    labels = [path.label.box for path in picture.paths if path.label]
    labels += [frame.label.box for frame in picture.frames]
    return sum(any(_within(box, trail).any() for trail in trails) for box in labels)


def _astray(picture: Picture, trails: list[Trail]) -> int:
    """Count pairs of an arrow and a plate that holds none of its ends, yet the arrow."""
    return sum(
        bool((_depth(frame.box, trail) > 0).any())
        for frame in picture.frames
        for path, trail in zip(picture.paths, trails, strict=True)
        if {path.arrow.source, path.arrow.target}.isdisjoint(frame.frame.members)
    )


def _overlapping(picture: Picture, trails: list[Trail]) -> int:
    nodes = {node.node.name: node for node in picture.nodes}
    pairs = combinations(zip(picture.paths, trails, strict=True), 2)
    return sum(
        _is_on(*one, *other, nodes) for one, other in pairs if one[0].arrow != other[0].arrow
    )


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
