"""What arrows must avoid: nodes, foreign plates, and the arrows already laid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import inf
from typing import NamedTuple

from daguerre.draw.bodies import Body
from daguerre.draw.curves import Curve, Point
from daguerre.draw.picture import Box

__all__ = ["CLEARANCE", "Terrain", "Wall"]

CLEARANCE = 7.0  # pixels that an arrow keeps from a strange node
_NARROW = 3.0  # and a straight line of a fan at least this
_CELL = 64.0
_TRACK = 4.0  # arrows nearer than this run on top of each other
_TIPS = 11.0  # heads nearer than this overlap
_STARTS = 8.5  # a line that starts nearer than this to a head runs through it


@dataclass(frozen=True, slots=True)
class Wall:
    """The border of a plate and the names of the nodes in it."""

    box: Box
    members: frozenset[str]

    def met(self, points: Sequence[Point]) -> Meeting:
        """Say how a way, given by points along it, meets the plate."""
        left, top, right, bottom = self.box
        inside, enters, changes, along = self.box.holds(points[0]), False, 0, 0
        for x, y in points:
            was, inside = inside, left < x < right and top < y < bottom
            enters = enters or inside
            changes += was != inside
            if left - _TRACK < x < right + _TRACK and top - _TRACK < y < bottom + _TRACK:
                across = min(abs(x - left), abs(x - right))
                along += min(across, abs(y - top), abs(y - bottom)) < _TRACK
        return Meeting(enters, changes, along)


class Meeting(NamedTuple):
    """How a way meets a plate.

    Attributes:
        enters: Whether some of it lies inside.
        changes: How often it crosses the border.
        along: How many of its points seem to lie on the border.
    """

    enters: bool
    changes: int
    along: int


@dataclass
class Terrain:
    """The plane while arrows are being laid on it.

    Attributes:
        centres: Centre of each node.
        bodies: Outline of each node.
        walls: The plates.
    """

    centres: Mapping[str, Point]
    bodies: Mapping[str, Body]
    walls: Sequence[Wall]
    _cells: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    _tracks: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    _ends: list[frozenset[str]] = field(default_factory=list)
    _tips: dict[str, list[Point]] = field(default_factory=dict)
    _starts: dict[str, list[Point]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (x, y) in self.centres.items():
            body = self.bodies[name]
            wide, high = body.width + CLEARANCE, body.height + CLEARANCE
            for i in range(int((x - wide) // _CELL), int((x + wide) // _CELL) + 1):
                for j in range(int((y - high) // _CELL), int((y + high) // _CELL) + 1):
                    self._cells.setdefault((i, j), []).append(name)

    def cost(
        self, curve: Curve, tip: Point, source: str, target: str, *, limit: float = inf
    ) -> float:
        """Judge a way from one node to another: 0 is a clear straight line.

        Hitting a node costs most, then entering a strange plate, lying on another arrow or head,
        crossing walls and arrows.

        Args:
            curve: The line of the way.
            tip: The point of its head.
            source: Where it starts.
            target: Where it ends.
            limit: What it may cost; beyond that, any number from the limit up is an answer.
        """
        ends = frozenset((source, target))
        points = curve.samples() if limit > 0 else []
        heads = (
            150.0 * _crowd(tip, self._tips.get(target, ()), _TIPS)
            + 100.0 * _crowd(tip, self._starts.get(target, ()), _STARTS)
            + 100.0 * _crowd(curve.points[0], self._tips.get(source, ()), _STARTS)
        )
        total = heads
        for judge in (self._hits, self._walls_met, self._tracks_met):
            if total >= limit:
                break
            total += judge(points, ends)
        return total

    def lay(self, curve: Curve, tip: Point, source: str, target: str) -> None:
        """Remember an arrow, so that later ones keep away."""
        self._tips.setdefault(target, []).append(tip)
        self._starts.setdefault(source, []).append(curve.points[0])
        number = len(self._ends)
        self._ends.append(frozenset((source, target)))
        for i, j in {_track(point) for point in curve.samples(_TRACK - 1)}:
            for near in product((i - 1, i, i + 1), (j - 1, j, j + 1)):
                self._tracks.setdefault(near, set()).add(number)

    def is_clear(self, curve: Curve, source: str, target: str) -> bool:
        """Say whether a curve misses strange nodes and plates, if narrowly."""
        points, ends = curve.samples(), frozenset((source, target))
        narrowly = 40.0 * (CLEARANCE - _NARROW)
        return self._hits(points, ends) <= narrowly and self._walls_met(points, ends) == 0

    def _hits(self, points: Sequence[Point], ends: frozenset[str]) -> float:
        nearest: dict[str, float] = {}
        for x, y in points:
            for name in self._cells.get((int(x // _CELL), int(y // _CELL)), ()):
                if name not in ends:
                    cx, cy = self.centres[name]
                    distance = self.bodies[name].distance(x - cx, y - cy)
                    nearest[name] = min(distance, nearest.get(name, CLEARANCE))
        return sum(
            2000.0 if d < 2.0 else 40.0 * (CLEARANCE - d)
            for d in nearest.values()
            if d < CLEARANCE
        )

    def _walls_met(self, points: Sequence[Point], ends: frozenset[str]) -> float:
        cost, reach = 0.0, Box.around(points)
        for wall in self.walls:
            if not reach.meets(wall.box, margin=_TRACK):
                continue
            enters, changes, along = wall.met(points)
            held = len(ends & wall.members)
            if held == 0 and enters:
                cost += 400.0
            if held == len(ends):  # the plate may yet grow around it
                cost += 25.0 * changes
            else:
                cost += 80.0 * max(0, changes - held)
            cost += 25.0 * max(0, along - 4)
        return cost

    def _tracks_met(self, points: Sequence[Point], ends: frozenset[str]) -> float:
        met: Counter[int] = Counter()
        for point in points:
            for number in self._tracks.get(_track(point), ()):
                shared = self._ends[number] & ends
                pair = len(shared) == len(ends)  # p and q of one pair must not touch at all
                if pair or not any(self._is_near(point, name) for name in shared):
                    met[number] += 1
        return sum(6.0 + 25.0 * max(0, count - 4) for count in met.values())

    def _is_near(self, point: Point, name: str) -> bool:
        dx, dy = self.centres[name].to(point)
        return self.bodies[name].distance(dx, dy) < 28.0


def _crowd(point: Point, others: Sequence[Point], least: float) -> int:
    return sum(other.to(point).length < least for other in others)


def _track(point: Point) -> tuple[int, int]:
    return int(point.x // _TRACK), int(point.y // _TRACK)
