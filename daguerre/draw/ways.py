"""Candidate ways for an arrow: straight, bowed, through bends, around the rows, or a loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, pi, radians

from daguerre.draw.bodies import Body
from daguerre.draw.curves import Curve, Point, line, rounded, turned

__all__ = ["HEAD", "End", "Way", "bowed", "loop", "straight", "threaded"]

HEAD = 12.0  # length of an arrow's head in pixels
_LOOP = 14.0  # least radius of the circle on which a loop stands


@dataclass(frozen=True, slots=True)
class End:
    """Where an arrow begins or ends."""

    name: str
    centre: Point
    body: Body

    def rim(self, direction: Point, *, beyond: float = 0.0) -> Point:
        """Return the point of the outline in a direction, or `beyond` pixels further out."""
        reach = self.body.reach(direction.x, direction.y) + beyond
        return self.centre.plus(direction, reach / direction.length)


@dataclass(frozen=True, slots=True)
class Way:
    """A candidate: its line up to the base of the head, its tip, and how plain it is.

    Attributes:
        curve: The line.
        tip: The point of the head.
        bend: Cost of its shape alone: 0 for a straight line.
    """

    curve: Curve
    tip: Point
    bend: float


def straight(source: End, target: End, *, port: Point | None = None) -> Way:
    """Go straight to the target's centre, or to a given direction on its outline."""
    inward = port or target.centre.to(source.centre)
    tip = target.rim(inward)
    back = tip.to(source.centre)
    base = tip.plus(back, HEAD / back.length)
    return Way(line(source.rim(source.centre.to(tip)), base), tip, 0.0)


def bowed(source: End, target: End, angle: float) -> Way:
    """Leave and arrive at an angle (degrees) from the straight line; positive bows to the left.

    On a page whose y points down, left of an upward arrow is left on the page.
    """
    chord = source.centre.to(target.centre)
    out = turned(chord, -radians(angle))
    back = turned(Point(-chord.x, -chord.y), radians(angle))
    start, tip = source.rim(out), target.rim(back)
    base = target.rim(back, beyond=HEAD)
    arm = start.to(base).length / (3 * cos(radians(angle) / 2) ** 2)  # as on a circle
    curve = Curve((start, start.plus(out, arm), base.plus(back, arm), base))
    return Way(curve, tip, 2.0 + abs(angle) / 8)


def threaded(
    source: End,
    target: End,
    points: Sequence[Point],
    *,
    radius: float,
    port: Point | None = None,
) -> Way:
    """Go through given points, with corners rounded off, to the target or a port of it."""
    first, last = source.centre.to(points[0]), port or target.centre.to(points[-1])
    tip, base = target.rim(last), target.rim(last, beyond=HEAD)
    corners = list(_apart([source.rim(first), *points, base]))
    turns = sum(
        abs(a.to(b).x * b.to(c).y - a.to(b).y * b.to(c).x) / (a.to(b).length * b.to(c).length)
        for a, b, c in zip(corners, corners[1:], corners[2:], strict=False)
    )
    return Way(rounded(corners, radius=radius), tip, 4.0 + 28 * turns)


def loop(end: End, side: Point) -> Way:
    """Leave a node and come back on a side of it, lower down where it is right or left."""
    angle = -pi / 5 if side.x < 0 else pi / 5
    out, back = turned(side, -angle), turned(side, angle)
    body = end.body
    corner = Point(_sign(side.x) * body.stretch, _sign(side.y) * body.rise)
    start, tip = (end.rim(corner.plus(d, max(body.radius, _LOOP))) for d in (out, back))
    base = tip.plus(back, HEAD)
    curve = Curve((start, start.plus(out, 30.0), base.plus(back, 26.0), base))
    return Way(curve, tip, 2.0)


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _apart(points: Sequence[Point]) -> Iterator[Point]:
    """Drop points that coincide with the one before."""
    last: Point | None = None
    for point in points:
        if last is None or last.to(point).length > 0.5:
            yield point
            last = point
