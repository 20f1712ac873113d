"""What arrows must avoid: nodes, foreign plates, and the arrows already laid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from daguerre.draw.bodies import Body
from daguerre.draw.curves import Point, Trail
from daguerre.draw.obstacles import Ends, Nodes, Wall, Walls
from daguerre.draw.tracks import Tracks
from daguerre.draw.ways import Way

__all__ = ["Terrain", "Verdict"]

_NARROWLY = 160.0  # what passing 3 pixels from a node costs
_TIPS = 11.0  # heads nearer than this overlap
_STARTS = 8.5  # a line that starts nearer than this to a head runs through it
_LAID = 5.0  # pixels between the points of an arrow that is laid


class Verdict(NamedTuple):
    """What a way costs: 0 is a clear straight line.

    Attributes:
        heads: For heads and starts of arrows at its ends that it lies on.
        nodes: For strange nodes that it strikes or nearly strikes.
        walls: For strange plates that it enters and borders that it crosses or runs on.
        tracks: For arrows that it crosses or runs on.
    """

    heads: float
    nodes: float
    walls: float
    tracks: float

    @property
    def is_clear(self) -> bool:
        """Whether it misses strange nodes and plates, if narrowly."""
        return self.nodes <= _NARROWLY and self.walls == 0


class Terrain:
    """The plane while arrows are being laid on it.

    Args:
        centres: Centre of each node.
        bodies: Outline of each node.
        walls: The plates.

    Attributes:
        walls: The plates.
        step: Pixels between the points at which ways are judged.
    """

    def __init__(
        self, centres: Mapping[str, Point], bodies: Mapping[str, Body], walls: Sequence[Wall]
    ) -> None:
        self.walls = walls
        self.step = 6.0
        self._nodes = Nodes(centres, bodies)
        self._borders = Walls(walls, self._nodes.number)
        self._tracks = Tracks(self._nodes)
        self._tips: dict[str, list[Point]] = {}
        self._starts: dict[str, list[Point]] = {}
        self._laid: list[tuple[Way, str, str]] = []

    def judged(self, way: Way, source: str, target: str, *, limit: float = inf) -> Verdict | None:
        """Judge a way from one node to another, or say nothing if it costs a limit or more.

        Args:
            way: The way.
            source: Where it starts.
            target: Where it ends.
            limit: What it may cost.
        """
        found = [self._heads(way, source, target)]
        if found[0] >= limit:
            return None
        ends = self._ends(source, target)
        points = way.curve.trail(self.step)
        for obstacles in (self._nodes, self._borders, self._tracks):
            found.append(obstacles.cost(points, ends))
            if sum(found) >= limit:
                return None
        return Verdict(*found)

    def is_clear(self, way: Way, source: str, target: str) -> bool:
        """Say whether a way misses strange nodes and plates, if narrowly."""
        ends = self._ends(source, target)
        points = way.curve.trail(self.step)
        nodes = self._nodes.cost(points, ends)
        return nodes <= _NARROWLY and self._borders.cost(points, ends) == 0

    def surveyed(
        self, points: Trail, source: str, target: str
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Tell where a way must not go, and how many arrows pass there.

        Args:
            points: Some points, shape [n, 2].
            source: Where the way starts.
            target: Where it ends.

        Returns:
            Both by point, shape [n].
        """
        ends = self._ends(source, target)
        blocked = self._nodes.blocked(points, ends) | self._borders.blocked(points, ends)
        return blocked, self._tracks.met(points)

    def heads(self, name: str) -> list[tuple[Point, float]]:
        """List what stands on the outline of a node, with the distance that a head keeps."""
        tips, starts = self._tips.get(name, ()), self._starts.get(name, ())
        return [(tip, _TIPS) for tip in tips] + [(start, _STARTS) for start in starts]

    def tips(self, name: str) -> list[tuple[Point, float]]:
        """List the heads at a node, with the distance that the start of an arrow keeps."""
        return [(tip, _STARTS) for tip in self._tips.get(name, ())]

    def joins(self, source: str, target: str) -> bool:
        """Say whether an arrow between two nodes is laid."""
        return self._tracks.joins(self._ends(source, target))

    def lay(self, way: Way, source: str, target: str) -> int:
        """Remember an arrow, so that later ones keep away; return its number."""
        self._tips.setdefault(target, []).append(way.tip)
        self._starts.setdefault(source, []).append(way.curve.points[0])
        self._laid.append((way, source, target))
        return self._tracks.lay(way.curve.trail(_LAID), self._ends(source, target))

    def lift(self, number: int) -> None:
        """Forget an arrow."""
        way, source, target = self._laid[number]
        self._tips[target].remove(way.tip)
        self._starts[source].remove(way.curve.points[0])
        self._tracks.lift(number)

    def _ends(self, source: str, target: str) -> Ends:
        return frozenset((self._nodes.number[source], self._nodes.number[target]))

    def _heads(self, way: Way, source: str, target: str) -> float:
        return (
            150.0 * _crowd(way.tip, self._tips.get(target, ()), _TIPS)
            + 100.0 * _crowd(way.tip, self._starts.get(target, ()), _STARTS)
            + 100.0 * _crowd(way.curve.points[0], self._tips.get(source, ()), _STARTS)
        )


def _crowd(point: Point, others: Sequence[Point], least: float) -> float:
    """Count the others that are too near; one at the same point counts twice."""
    distances = (other.to(point).length for other in others)
    return sum(2.0 - distance / least for distance in distances if distance < least)
