"""Ways around: through the gaps of the rows between, along the free strips between rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product
from math import copysign

from daguerre.draw.curves import Point
from daguerre.draw.obstacles import Wall
from daguerre.draw.picture import Box
from daguerre.draw.ways import End, Way, threaded

__all__ = ["Plan", "detours"]

_LANES = (0.0, -9.0, 9.0, -18.0, 18.0)
_CHOICES = 3  # gaps of a row that are tried
_NARROWEST = 18.0
_STRAY = 40.0  # a way goes on straight rather than shift by less than this
_OUTER = 28.0  # from the outermost node of a row to a way around it

Span = tuple[float, float]  # a left and a right end


@dataclass(frozen=True)
class Plan:
    """What the routes start from.

    Attributes:
        ends: Each node by name.
        bends: For each pair (upper, lower): the points that the layout kept free for it.
        bands: Top and bottom of each row.
        row: The row of each node that stands in one.
        blocks: The left and right ends of the nodes in each row.
    """

    ends: Mapping[str, End]
    bends: Mapping[tuple[str, str], tuple[Point, ...]]
    bands: Sequence[tuple[float, float]]
    row: Mapping[str, int]
    blocks: Sequence[Sequence[Span]]

    @cached_property
    def taken(self) -> list[list[Span]]:
        """The same, from left to right, those that overlap as one."""
        return [_merged(row) for row in self.blocks]


def detours(source: End, target: End, plan: Plan, walls: Sequence[Wall]) -> Iterator[Way]:
    """Propose ways around all nodes; the last ones exist and are clear whatever stands where."""
    if source.name not in plan.row or target.name not in plan.row:
        return
    i, j = plan.row[source.name], plan.row[target.name]
    step = 1 if i <= j else -1
    between = range(i + step, j, step) if i != j else range(0)
    foreign = [w.box for w in walls if not w.members & {source.name, target.name}]
    nodes = {r: plan.taken[r] for r in between}
    blocks = {r: _beside(taken, foreign, plan.bands[r]) for r, taken in nodes.items()}
    tries = [_gaps(source, target, blocks, choice) for choice in range(_CHOICES)]
    for gaps in [*tries, *_outer(blocks)] if between else ():
        points = [Point(x, _strip(plan, r, s)) for r, x in gaps.items() for s in (-step, step)]
        for radius in (90.0, 40.0):
            yield threaded(source, target, points, radius=radius)
    for side, taken in product((step,) if i != j else (1, -1), (blocks, nodes)):
        gaps = _gaps(source, target, taken, 0)
        for lane in _LANES:
            points = _corridor(source, target, plan, gaps, side, lane)
            way = threaded(source, target, points, radius=28.0)
            yield replace(way, bend=way.bend + 20.0 + abs(lane) / 4)


def _corridor(
    source: End, target: End, plan: Plan, gaps: Mapping[int, float], step: int, lane: float
) -> list[Point]:
    i, j = plan.row[source.name], plan.row[target.name]
    inner = [
        Point(x + lane / 3, _strip(plan, row, side) + lane)
        for row, x in gaps.items()
        for side in (-step, step)
    ]
    last = _strip(plan, j, -step if i != j else step)
    first_x = _aside(source, inner[0].x if inner else target.centre.x)
    last_x = _aside(target, inner[-1].x if inner else source.centre.x)
    return [
        Point(first_x, _strip(plan, i, step) + lane),
        *inner,
        Point(last_x, last + lane),
    ]


def _aside(end: End, towards: float) -> float:
    """Leave a node a little to one side, away from the arrows that come straight."""
    return end.centre.x + copysign(26.0, towards - end.centre.x)


def _strip(plan: Plan, row: int, step: int) -> float:
    """Return the y of the free strip below (step 1) or above (step -1) a row."""
    top, bottom = plan.bands[row]
    if step > 0:
        is_last = row + 1 == len(plan.bands)
        return bottom + _OUTER if is_last else (bottom + plan.bands[row + 1][0]) / 2
    return top - _OUTER if row == 0 else (plan.bands[row - 1][1] + top) / 2


def _outer(blocks: Mapping[int, Sequence[Span]]) -> list[dict[int, float]]:
    """Pass all rows on the left, or all on the right."""
    left = min((taken[0][0] for taken in blocks.values()), default=0.0) - _OUTER
    right = max((taken[-1][1] for taken in blocks.values()), default=0.0) + _OUTER
    return [dict.fromkeys(blocks, left), dict.fromkeys(blocks, right)]


def _beside(taken: Sequence[Span], foreign: Sequence[Box], band: Span) -> Sequence[Span]:
    """Add the foreign plates in a row to what stands in it."""
    walls = [(b.left, b.right) for b in foreign if b.top < band[1] and band[0] < b.bottom]
    return _merged([*taken, *walls]) if walls else taken


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Sort spans; those that overlap become one."""
    result: list[Span] = []
    for left, right in sorted(spans):
        if result and left <= result[-1][1]:
            left, right = result[-1][0], max(result.pop()[1], right)
        result.append((left, right))
    return result


def _gaps(
    source: End, target: End, blocks: Mapping[int, Sequence[Span]], choice: int
) -> dict[int, float]:
    """Choose one gap in each row: the nearest to the straight line, or a further one."""
    result: dict[int, float] = {}
    x = source.centre.x
    for count, (row, taken) in enumerate(blocks.items()):
        ideal = x + (target.centre.x - x) / (len(blocks) - count + 1)
        places = _places(taken, ideal)
        best = places[min(choice, len(places) - 1)]
        keeps = result and abs(best - x) < _STRAY and _is_free(x, taken)
        x = result[row] = x if keeps else best
    return result


def _is_free(x: float, taken: Sequence[Span]) -> bool:
    """Say whether nothing stands near an x; it does if the nearest on either side does not."""
    i = bisect_left(taken, (x, x))
    margin = _NARROWEST / 2
    return all(
        x < left - margin or x > right + margin for left, right in taken[max(i - 1, 0) : i + 1]
    )


def _places(taken: Sequence[Span], ideal: float) -> list[float]:
    """List some middles of the gaps of a row, the one nearest to an ideal first."""
    middles = [taken[0][0] - _OUTER]
    middles += [(a + b) / 2 for (_, a), (b, _) in pairwise(taken) if b - a >= _NARROWEST]
    middles.append(taken[-1][1] + _OUTER)
    i = bisect_left(middles, ideal)
    near = middles[max(i - _CHOICES, 0) : i + _CHOICES]
    return sorted(near, key=lambda middle: abs(middle - ideal))
