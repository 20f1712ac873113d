"""The last resort of an arrow: the cheapest way over a grid, around whatever stands there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import pairwise, product
from math import cos, hypot, pi, sin

import numpy as np

from daguerre.draw.curves import Point, Trail, line
from daguerre.draw.picture import Box
from daguerre.draw.terrain import Terrain
from daguerre.draw.ways import HEAD, End, Way, threaded

__all__ = ["Maze"]

_CELL = 8.0  # pixels between the points of the grid
_MARGIN = 72.0  # of the grid around all nodes and plates
_CROSSED = 12.0  # pixels of detour that a cell with an arrow is worth
_UNLIKED = 120.0  # what a way may cost more before one over the grid is taken
_SIDES = 24  # of a node, from which ways leave and at which they arrive
_OUT = 6.0  # from the outline to where a way leaves
_IN = HEAD + 8.0  # and to where it arrives
_RADII = (48.0, 24.0, 12.0)  # of corners
_STEPS = [s for s in product((-1, 0, 1), repeat=2) if any(s)]

Cell = tuple[int, int]


class Maze:
    """A grid over the page, on which a way avoids nodes and strange plates and seldom crosses.

    Args:
        ends: All nodes.
        terrain: What stands on the page, and the arrows laid so far.
    """

    def __init__(self, ends: Sequence[End], terrain: Terrain) -> None:
        corners = [p for wall in terrain.walls for p in wall.box.corners]
        corners += [end.centre.plus(Point(*r)) for end in ends for r in _corners(end)]
        page = Box.around(corners, margin=_MARGIN)
        self._origin, self._terrain = page.corners[0], terrain
        width, height = (int(s / _CELL) + 1 for s in self._origin.to(page.corners[1]))
        xs, ys = np.meshgrid(np.arange(width), np.arange(height), indexing="ij")
        self._shape = (width, height)
        cells = np.stack((xs, ys), axis=2).reshape(-1, 2).astype(np.float64)
        self._points: Trail = cells * _CELL + (self._origin.x, self._origin.y)

    def ways(self, source: End, target: End) -> Iterator[Way]:
        """Propose the cheapest way with corners of several radii, if there is one.

        Args:
            source: Where it starts.
            target: Where it ends.
        """
        tolls = self._tolls(source, target)
        starts = self._gates(source, self._terrain.tips(source.name), _OUT, tolls)
        goals = self._gates(target, self._terrain.heads(target.name), _IN, tolls)
        path = _cheapest(tolls, [*starts], {*goals})
        if not path:
            return
        points = [self._at(cell) for cell in self._straightened(path, tolls)]
        port = goals[path[-1]]
        points[-1] = target.rim(port, beyond=_IN)
        for radius in _RADII:
            way = threaded(source, target, points, radius=radius, port=port)
            yield replace(way, bend=way.bend + _UNLIKED)

    def _tolls(self, source: End, target: End) -> np.ndarray:
        """Return what it costs to enter each point, infinite where a way must not go."""
        blocked, met = self._terrain.surveyed(self._points, source.name, target.name)
        return np.where(blocked, np.inf, _CROSSED * met).reshape(self._shape)

    def _gates(
        self, end: End, taken: Sequence[tuple[Point, float]], out: float, tolls: np.ndarray
    ) -> dict[Cell, Point]:
        """Return the points around a node, each with its direction, where no head is near."""
        gates: dict[Cell, Point] = {}
        for i in range(_SIDES):
            side = Point(sin(2 * pi * i / _SIDES), -cos(2 * pi * i / _SIDES))
            rim, cell = end.rim(side), self._cell(end.rim(side, beyond=out))
            if tolls[cell] < np.inf and all(rim.to(p).length > least for p, least in taken):
                gates.setdefault(cell, side)
        return gates

    def _straightened(self, path: Sequence[Cell], tolls: np.ndarray) -> list[Cell]:
        """Leave out the cells between two that are joined as cheaply by a straight line."""
        kept, here = [path[0]], 0
        spent = np.cumsum([0.0, *(_cost(a, b, tolls) for a, b in pairwise(path))])
        while here < len(path) - 1:
            after = len(path) - 1
            while after > here + 1 and self._toll(path[here], path[after], tolls) > (
                spent[after] - spent[here] + 1e-6
            ):
                after -= 1
            kept.append(path[after])
            here = after
        return kept

    def _toll(self, start: Cell, end: Cell, tolls: np.ndarray) -> float:
        trail = line(self._at(start), self._at(end)).trail(_CELL)
        i, j = np.rint((trail - (self._origin.x, self._origin.y)) / _CELL).astype(int).T
        length = hypot(end[0] - start[0], end[1] - start[1]) * _CELL
        passed = np.unique(i * tolls.shape[1] + j)
        return length + float(tolls.ravel()[passed].sum() - tolls[start])

    def _at(self, cell: Cell) -> Point:
        return self._origin.plus(Point(*cell), _CELL)

    def _cell(self, point: Point) -> Cell:
        across, down = self._origin.to(point)
        return round(across / _CELL), round(down / _CELL)


def _corners(end: End) -> list[tuple[float, float]]:
    return [(s * end.body.width, s * end.body.height) for s in (-1, 1)]


def _cost(before: Cell, after: Cell, tolls: np.ndarray) -> float:
    step = hypot(after[0] - before[0], after[1] - before[1])
    return _CELL * step + float(tolls[after])


def _cheapest(tolls: np.ndarray, starts: Sequence[Cell], goals: set[Cell]) -> list[Cell]:
    """Find the cheapest path over a grid (Hart, Nilsson and Raphael 1968), or none."""
    if not goals:
        return []
    left, top, right, bottom = Box.around(Point(*goal) for goal in goals)

    def ahead(x: int, y: int) -> float:
        """Return how far the goals are at least."""
        return _CELL * hypot(max(left - x, x - right, 0), max(top - y, y - bottom, 0))

    queue = [(ahead(*start), 0.0, start, start) for start in starts]
    heapify(queue)
    came: dict[Cell, Cell] = {}
    width, height = tolls.shape
    while queue:
        _, spent, cell, before = heappop(queue)
        if cell in came:
            continue
        came[cell] = before
        if cell in goals:
            return _traced(came, cell)
        for dx, dy in _STEPS:
            after = (cell[0] + dx, cell[1] + dy)
            if 0 <= after[0] < width and 0 <= after[1] < height and after not in came:
                further = spent + _cost(cell, after, tolls)
                if further < np.inf:
                    heappush(queue, (further + ahead(*after), further, after, cell))
    return []


def _traced(came: Mapping[Cell, Cell], cell: Cell) -> list[Cell]:
    path = [cell]
    while came[path[-1]] != path[-1]:
        path.append(came[path[-1]])
    return path[::-1]
