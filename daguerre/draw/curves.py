"""Curves for arrows: chains of cubic Bezier pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import cos, hypot, sin
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curve", "Point", "Trail", "line", "rounded", "toward", "turned"]

Trail: TypeAlias = NDArray[np.float64]  # points along a curve, shape [n, 2]


class Point(NamedTuple):
    """A place on the page, or a displacement."""

    x: float
    y: float

    def plus(self, other: Point, scale: float = 1.0) -> Point:
        """Return this point moved by `scale` times a displacement."""
        return Point(self.x + scale * other.x, self.y + scale * other.y)

    def to(self, other: Point) -> Point:
        """Return the displacement from this point to another."""
        return Point(other.x - self.x, other.y - self.y)

    @property
    def length(self) -> float:
        """Length of the displacement."""
        return hypot(self.x, self.y)


@dataclass(frozen=True, slots=True)
class Curve:
    """A smooth line: a start, then (control, control, end) for each cubic piece."""

    points: tuple[Point, ...]

    @property
    def pieces(self) -> tuple[tuple[Point, ...], ...]:
        """The cubic pieces, four points each."""
        return tuple(self.points[i : i + 4] for i in range(0, len(self.points) - 1, 3))

    @property
    def is_straight(self) -> bool:
        """Whether one straight line draws the curve."""
        a, *controls, d = self.points
        chord = a.to(d)
        bulge = (abs(chord.x * a.to(c).y - chord.y * a.to(c).x) for c in controls)
        return len(self.points) == 4 and max(bulge) <= 1e-9 * chord.length**2

    @property
    def corners(self) -> tuple[Point, Point]:
        """The top left and the bottom right corner of what it fills."""
        trail = self.trail()
        low, high = trail.min(axis=0).tolist(), trail.max(axis=0).tolist()
        return Point(*low), Point(*high)

    def samples(self, step: float = 6.0) -> list[Point]:
        """Return points along the curve, at most about `step` pixels apart, with both ends."""
        return list(map(Point._make, self.trail(step).tolist()))

    def trail(self, step: float = 6.0) -> Trail:
        """Return the same points as rows (x, y)."""
        corners = np.fromiter(chain.from_iterable(self.points), float).reshape(-1, 2)
        legs = np.hypot(*(corners[1:] - corners[:-1]).T).reshape(-1, 3)
        counts = np.maximum(np.ceil(legs.sum(axis=1) / step), 2).astype(int)
        ends = (corners[:-1:3], corners[1::3], corners[2::3], corners[3::3])
        if len(counts) > 1:
            ends = (np.repeat(end, counts, axis=0) for end in ends)
        weights = np.concatenate([_weights(count) for count in counts.tolist()], axis=1)
        a, b, c, d = (w * end for w, end in zip(weights, ends, strict=True))
        return np.concatenate((corners[:1], a + b + c + d))


def line(start: Point, end: Point) -> Curve:
    """Return a straight line."""
    return Curve((start, *_leg(start, end)))


def rounded(corners: Sequence[Point], *, radius: float) -> Curve:
    """Return a polyline whose corners are rounded off; a large radius gives a smooth spline.

    The curve stays inside the triangles at the corners.

    Example:
        >>> path = rounded([Point(0, 0), Point(0, 50), Point(50, 50)], radius=10)
        >>> len(path.pieces)
        3
    """
    points = [corners[0]]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        cut = min(radius, corner.to(before).length / 2, corner.to(after).length / 2)
        enter, leave = toward(corner, before, cut), toward(corner, after, cut)
        points += _leg(points[-1], enter)
        bend = 2 / 3  # a quadratic corner, raised to a cubic
        points += [
            enter.plus(enter.to(corner), bend),
            leave.plus(leave.to(corner), bend),
            leave,
        ]
    return Curve((*points, *_leg(points[-1], corners[-1])))


def toward(start: Point, end: Point, distance: float) -> Point:
    """Return the point at a distance from `start` in the direction of `end`."""
    step = start.to(end)
    return start.plus(step, distance / step.length) if step.length else start


def turned(direction: Point, angle: float) -> Point:
    """Return the unit vector of a direction, turned by an angle in radians."""
    c, s, n = cos(angle), sin(angle), direction.length
    return Point(
        (c * direction.x - s * direction.y) / n,
        (s * direction.x + c * direction.y) / n,
    )


def _leg(start: Point, end: Point) -> tuple[Point, Point, Point]:
    step = start.to(end)
    return start.plus(step, 1 / 3), start.plus(step, 2 / 3), end


@lru_cache(maxsize=512)
def _weights(count: int) -> np.ndarray:
    """Return the Bernstein polynomials at 1 / count, 2 / count, ..., 1; shape [4, count, 1]."""
    t = np.arange(1, count + 1)[:, None] / count
    s = 1 - t
    return np.stack((s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t))
