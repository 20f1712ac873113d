"""What stands in the way of arrows: nodes on a grid, and the borders of plates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt

import numpy as np

from daguerre.draw.bodies import Body
from daguerre.draw.curves import Point, Trail
from daguerre.draw.picture import Box

__all__ = ["Ends", "Nodes", "Wall", "Walls"]

_CLEARANCE = 7.0  # pixels that an arrow keeps from a strange node
_OWN = 3.0  # pixels that a way to a node keeps from it till it arrives
_HIT, _INSIDE = 2000.0, 2.0  # what it costs to come nearer than this to a strange node
_NEAR = 40.0  # what each pixel costs that it comes nearer than it should
_APART = 2.0  # pixels that an arrow keeps from a strange plate
_ROUND = 10.0  # the radius of a plate's corners
_BESIDE = 4.0  # an arrow nearer than this runs on a border
_CELL = 64.0

Ends = frozenset[int]  # the numbers of the nodes that an arrow joins


@dataclass(frozen=True, slots=True)
class Wall:
    """The border of a plate and the names of the nodes in it."""

    box: Box
    members: frozenset[str]


class Nodes:
    """The outlines of all nodes, to be found by where they are.

    Args:
        centres: Centre of each node.
        bodies: Outline of each node.
    """

    def __init__(self, centres: Mapping[str, Point], bodies: Mapping[str, Body]) -> None:
        self.number = {name: i for i, name in enumerate(centres)}
        self._centres = np.array([*centres.values()]).reshape(-1, 2)
        rows = [(b.radius, b.stretch, b.rise, b.pointed) for b in (bodies[n] for n in centres)]
        self._bodies = np.array(rows, dtype=float).reshape(-1, 4)
        reach = self._bodies[:, :1] + self._bodies[:, 1:3] + _CLEARANCE
        first = np.floor((self._centres - reach) / _CELL).astype(int)
        last = np.floor((self._centres + reach) / _CELL).astype(int)
        self._corner = first.min(axis=0) - 1  # a ring of empty cells lies around
        self._grid = np.zeros(last.max(axis=0) - self._corner + 2, dtype=np.int32)
        held: dict[tuple[int, int], list[int]] = {}
        for i, (low, high) in enumerate(
            zip(first - self._corner, last - self._corner, strict=True)
        ):
            for cell in _cells(low, high):
                held.setdefault(cell, []).append(i)
        self._table = np.full((len(held) + 1, max(map(len, held.values()))), -1)
        for row, (cell, numbers) in enumerate(held.items(), 1):
            self._grid[cell] = row
            self._table[row, : len(numbers)] = numbers

    def distances(self, points: Trail, node: int | np.ndarray) -> np.ndarray:
        """Return the distance of each point from a node, or from one of its own."""
        dx, dy = np.abs(points - self._centres[node]).T
        radius, stretch, rise, pointed = self._bodies[node].T
        across, along = dx - stretch, dy - rise
        outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
        swept = outside + np.minimum(np.maximum(across, along), 0) - radius
        return np.where(pointed > 0, (dx + dy - radius) / sqrt(2), swept)

    def cost(self, points: Trail, ends: Ends) -> float:
        """Judge how near a way comes to nodes that it does not join.

        Args:
            points: Points along the way, shape [n, 2].
            ends: The nodes that it joins.
        """
        cells = np.floor(points / _CELL).astype(int) - self._corner
        i, j = np.clip(cells, 0, np.array(self._grid.shape) - 1).T
        near = self._table[self._grid[i, j]]
        strange = near >= 0
        for end in ends:
            strange &= near != end
        which, slot = np.nonzero(strange)
        nodes = near[which, slot]
        distances = self.distances(points[which], nodes)
        close = distances < _CLEARANCE
        least: dict[int, float] = {}
        for node, distance in zip(nodes[close].tolist(), distances[close].tolist(), strict=True):
            least[node] = min(distance, least.get(node, _CLEARANCE))
        return sum(_HIT if d < _INSIDE else _NEAR * (_CLEARANCE - d) for d in least.values())

    def blocked(self, points: Trail, ends: Ends) -> np.ndarray:
        """Say which points lie in or near nodes, in those that a way joins alone; shape [n]."""
        found = np.zeros(len(points), dtype=bool)
        for node in range(len(self._centres)):
            found |= self.distances(points, node) < (_OWN if node in ends else _CLEARANCE)
        return found


class Walls:
    """The borders of all plates.

    Args:
        walls: The plates.
        number: The number of each node.
    """

    def __init__(self, walls: Sequence[Wall], number: Mapping[str, int]) -> None:
        self._boxes = np.array([wall.box for wall in walls]).reshape(-1, 4)
        self._holds = np.zeros((len(walls), len(number)), dtype=int)
        for i, wall in enumerate(walls):
            self._holds[i, [number[name] for name in wall.members if name in number]] = 1

    def cost(self, points: Trail, ends: Ends) -> float:
        """Judge how a way meets plates: those around one of its ends may be crossed once.

        Args:
            points: Points along the way, shape [n, 2].
            ends: The nodes that it joins.
        """
        if not len(self._boxes):
            return 0.0
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        low, high = self._boxes[:, :2] - _BESIDE, self._boxes[:, 2:] + _BESIDE
        (near,) = np.nonzero(((low < (right, bottom)) & ((left, top) < high)).all(axis=1))
        if not len(near):
            return 0.0
        x, y = points.T
        left, top, right, bottom = self._boxes[near].T[..., None]
        # how far out of the box that its corners leave
        across, along = (
            _ROUND - np.minimum(x - left, right - x),
            _ROUND - np.minimum(y - top, bottom - y),
        )
        outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
        depth = _ROUND - outside - np.minimum(np.maximum(across, along), 0)  # from the border in
        inside = depth > 0
        changes = (inside[:, 1:] != inside[:, :-1]).sum(axis=1)
        beside = (np.abs(depth) < _BESIDE).sum(axis=1)
        held = self._holds[near][:, [*ends]].sum(axis=1)
        own, is_loop = held == len(ends), len(ends) == 1  # its own plate may yet grow around it
        cost = np.where(own, 25.0 * changes, 80.0 * np.maximum(0, changes - held))
        cost += np.where(own & is_loop, 5.0, 25.0) * np.maximum(0, beside - 4)
        cost += 400.0 * ((held == 0) & (depth > -_APART).any(axis=1))
        return float(cost.sum())

    def blocked(self, points: Trail, ends: Ends) -> np.ndarray:
        """Say which points lie in or near plates that hold no end of a way, shape [n]."""
        strange = self._holds[:, [*ends]].sum(axis=1) == 0
        left, top, right, bottom = self._boxes[strange].T[..., None]
        x, y, far = *points.T, _BESIDE
        inside = (left - far < x) & (x < right + far) & (top - far < y) & (y < bottom + far)
        return inside.any(axis=0)


def _cells(low: Sequence[int], high: Sequence[int]) -> Iterator[tuple[int, int]]:
    (left, top), (right, bottom) = map(tuple, (low, high))
    return product(range(left, right + 1), range(top, bottom + 1))
