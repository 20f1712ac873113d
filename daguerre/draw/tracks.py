"""The arrows already laid, to be found by where they are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain

import numpy as np

from daguerre.draw.curves import Trail
from daguerre.draw.obstacles import Ends, Nodes

__all__ = ["Tracks"]

_CELL = 6.0  # arrows about this near, and no more than half as near again, run on each other
_STEP = 5.0  # pixels between the points of an arrow that is laid
_SIDES = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))
_ROWS = 1 << 32  # more than the cells in a column of any page
_SHARED = 28.0  # arrows may meet nearer than this to a node that both join
_LOOPS = 200.0  # what it costs a loop to meet another of its node
_MET, _ALONG = 6.0, 25.0  # what it costs to meet an arrow, and each point more on it than four


class Tracks:
    """Cells of the page, each with the numbers of the arrows that pass it.

    Args:
        nodes: What the arrows join.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._cells: defaultdict[int, list[int]] = defaultdict(list)
        self._ends: list[Ends] = []
        self._passed: list[list[int]] = []
        self._at: defaultdict[int, list[int]] = defaultdict(list)

    def lay(self, points: Trail, ends: Ends) -> int:
        """Remember an arrow.

        Args:
            points: Points along it, at most `step` pixels apart, shape [n, 2].
            ends: The nodes that it joins.

        Returns:
            Its number.
        """
        number = len(self._ends)
        self._ends.append(ends)
        for end in ends:
            self._at[end].append(number)
        beside = [_keys(points / _CELL + side) for side in _SIDES]
        self._passed.append(np.unique(np.concatenate(beside)).tolist())
        for key in self._passed[number]:
            self._cells[key].append(number)
        return number

    def lift(self, number: int) -> None:
        """Forget an arrow."""
        for key in self._passed[number]:
            self._cells[key].remove(number)
        for end in self._ends[number]:
            self._at[end].remove(number)
        self._ends[number] = frozenset()

    def met(self, points: Trail) -> np.ndarray:
        """Count the arrows that pass each of some points, shape [n]."""
        return np.array([len(self._cells.get(key, ())) for key in _keys(points / _CELL).tolist()])

    def joins(self, ends: Ends) -> bool:
        """Say whether an arrow between two nodes is laid."""
        return ends in self._ends

    def cost(self, points: Trail, ends: Ends) -> float:
        """Judge how a way meets the arrows; two of one pair of nodes must not touch at all.

        Args:
            points: Points along the way, shape [n, 2].
            ends: The nodes that it joins.
        """
        keys = _keys(points / _CELL)
        met = self._count(keys.tolist())
        for end in ends:
            shared = [n for n in self._at[end] if n in met and self._ends[n] & ends != ends]
            if shared:
                is_near = self._nodes.distances(points, end) < _SHARED
                met -= {
                    n: count
                    for n, count in self._count(keys[is_near].tolist()).items()
                    if n in shared
                }
        twins = sum(len(ends) == 1 and self._ends[n] == ends for n in met)
        return _LOOPS * twins + sum(_MET + _ALONG * max(0, c - 4) for c in met.values())

    def _count(self, keys: Iterable[int]) -> Counter[int]:
        return Counter(chain.from_iterable(filter(None, map(self._cells.get, keys))))


def _keys(cells: np.ndarray) -> np.ndarray:
    """Number cells, given by coordinates of which the whole part counts."""
    i, j = np.floor(cells).astype(np.int64).T
    return i * _ROWS + j
