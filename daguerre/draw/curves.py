"""Curves for arrows: chains of cubic Bezier pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, cos, hypot, sin
from typing import NamedTuple

__all__ = ["Curve", "Point", "line", "rounded", "toward", "turned"]


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

    def samples(self, step: float = 6.0) -> list[Point]:
        """Return points along the curve, at most about `step` pixels apart, with both ends."""
        result = [self.points[0]]
        for a, b, c, d in self.pieces:
            length = a.to(b).length + b.to(c).length + c.to(d).length
            count = max(2, ceil(length / step))
            (ax, ay), (bx, by), (cx, cy), (dx, dy) = a, b, c, d
            result += [
                Point(ax * p + bx * q + cx * r + dx * s, ay * p + by * q + cy * r + dy * s)
                for p, q, r, s in _weights(count)
            ]
        return result


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
def _weights(count: int) -> list[tuple[float, float, float, float]]:
    """Return the Bernstein polynomials at 1 / count, 2 / count, ..., 1."""
    times = [i / count for i in range(1, count + 1)]
    return [((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t**3) for t in times]
