"""What arrows must avoid: nodes, foreign plates, and the arrows already laid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, product
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
_NEIGHBOURS = tuple(product((-1, 0, 1), repeat=2))
_HIT, _INSIDE = 2000.0, 2.0  # what it costs to come nearer than this to a strange node
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


Runs = Sequence[tuple[tuple[int, int], Sequence[Point]]]  # points by the cells they pass


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
        step: Pixels between the points at which ways are judged.
    """

    centres: Mapping[str, Point]
    bodies: Mapping[str, Body]
    walls: Sequence[Wall]
    step: float = 6.0
    _cells: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    _borders: dict[tuple[int, int], list[Wall]] = field(default_factory=dict)
    _tracks: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    _ends: list[frozenset[str]] = field(default_factory=list)
    _tips: dict[str, list[Point]] = field(default_factory=dict)
    _starts: dict[str, list[Point]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (x, y) in self.centres.items():
            body = self.bodies[name]
            wide, high = body.width + CLEARANCE, body.height + CLEARANCE
            for cell in _cells(Box(x - wide, y - high, x + wide, y + high)):
                self._cells.setdefault(cell, []).append(name)
        for wall in self.walls:
            for i, j in _cells(Box.around(wall.box.corners, margin=_TRACK)):
                cell = Box(i * _CELL, j * _CELL, (i + 1) * _CELL, (j + 1) * _CELL)
                if not all(map(wall.box.holds, Box.around(cell.corners, margin=_TRACK).corners)):
                    self._borders.setdefault((i, j), []).append(wall)

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
        points = curve.samples(self.step) if limit > 0 else []
        runs = [(cell, list(run)) for cell, run in groupby(points, _cell)]
        heads = (
            150.0 * _crowd(tip, self._tips.get(target, ()), _TIPS)
            + 100.0 * _crowd(tip, self._starts.get(target, ()), _STARTS)
            + 100.0 * _crowd(curve.points[0], self._tips.get(source, ()), _STARTS)
        )
        total = heads
        for judge in (self._hits, self._walls_met, self._tracks_met):
            if total >= limit:
                break
            total += judge(runs, ends, limit - total)
        return total

    def lay(self, curve: Curve, tip: Point, source: str, target: str) -> None:
        """Remember an arrow, so that later ones keep away."""
        self._tips.setdefault(target, []).append(tip)
        self._starts.setdefault(source, []).append(curve.points[0])
        number = len(self._ends)
        self._ends.append(frozenset((source, target)))
        own = {_track(point) for point in curve.samples(_TRACK + 1)}
        for near in {(i + a, j + b) for i, j in own for a, b in _NEIGHBOURS}:
            self._tracks.setdefault(near, []).append(number)

    def is_clear(self, curve: Curve, source: str, target: str) -> bool:
        """Say whether a curve misses strange nodes and plates, if narrowly."""
        runs = [(cell, list(run)) for cell, run in groupby(curve.samples(self.step), _cell)]
        ends, narrowly = frozenset((source, target)), 40.0 * (CLEARANCE - _NARROW)
        hits = self._hits(runs, ends, narrowly)
        return hits <= narrowly and self._walls_met(runs, ends, inf) == 0

    def _hits(self, runs: Runs, ends: frozenset[str], limit: float) -> float:
        nearest: dict[str, float] = {}
        for cell, near in runs:
            for name in self._cells.get(cell, ()):
                if name in ends:
                    continue
                cx, cy = self.centres[name]
                distance = self.bodies[name].distance
                least = min([distance(x - cx, y - cy) for x, y in near])
                nearest[name] = min(least, nearest.get(name, CLEARANCE))
                if least < _INSIDE and limit < _HIT:
                    return _HIT
        return sum(
            _HIT if d < _INSIDE else 40.0 * (CLEARANCE - d)
            for d in nearest.values()
            if d < CLEARANCE
        )

    def _walls_met(self, runs: Runs, ends: frozenset[str], _limit: float) -> float:
        cost, start = 0.0, runs[0][1][0]
        near = {id(wall): (wall, [start]) for wall in self.walls if wall.box.holds(start)}
        for cell, run in runs if self.walls else ():
            for wall in self._borders.get(cell, ()):
                near.setdefault(id(wall), (wall, [start]))[1].extend(run)
        for wall, points in near.values():
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

    def _tracks_met(self, runs: Runs, ends: frozenset[str], limit: float) -> float:
        met: Counter[int] = Counter()
        for _, run in runs:
            if 6.0 * len(met) >= limit:
                break
            self._count(met, run, ends)
        return sum(6.0 + 25.0 * max(0, count - 4) for count in met.values())

    def _count(self, met: Counter[int], run: Sequence[Point], ends: frozenset[str]) -> None:
        for point in run:
            for number in self._tracks.get(_track(point), ()):
                shared = self._ends[number] & ends
                pair = len(shared) == len(ends)  # p and q of one pair must not touch at all
                if pair or not any(self._is_near(point, name) for name in shared):
                    met[number] += 1

    def _is_near(self, point: Point, name: str) -> bool:
        dx, dy = self.centres[name].to(point)
        return self.bodies[name].distance(dx, dy) < 28.0


def _crowd(point: Point, others: Sequence[Point], least: float) -> int:
    return sum(other.to(point).length < least for other in others)


def _cells(box: Box) -> Iterator[tuple[int, int]]:
    (left, top), (right, bottom) = map(_cell, box.corners)
    return product(range(left, right + 1), range(top, bottom + 1))


def _cell(point: Point) -> tuple[int, int]:
    return int(point[0] // _CELL), int(point[1] // _CELL)


def _track(point: Point) -> tuple[int, int]:
    return int(point[0] // _TRACK), int(point[1] // _TRACK)
