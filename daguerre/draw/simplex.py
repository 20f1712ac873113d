r"""Places on a line, exactly: an L1 problem with minimal distances, solved as a flow.

Minimise $\sum_{(u,v)} w_{uv}\,|x_u - x_v|$ subject to $x_v - x_u \ge d_{uv}$. The dual is a
minimum-cost circulation (Gansner, Koutsofios, North and Vo 1993, section 4): a distance is an arc
of cost $-d$ without a limit, a pull a pair of arcs of cost 0 and capacity w. Places are potentials
of the residual graph; its two extreme ones, leftmost and rightmost, are both optimal, and so is
their mean, which centres a parent over its children.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from daguerre.graph import GraphError

__all__ = ["Extremes", "Gap", "Pull", "arrange", "straightened"]

_NEARLY = 24.0


class Gap(NamedTuple):
    """`after` stands at least `distance` to the right of `before`."""

    before: int
    after: int
    distance: int


class Pull(NamedTuple):
    """Two places that want to be the same."""

    one: int
    other: int
    weight: int


class Extremes(NamedTuple):
    """The leftmost and the rightmost of all optimal arrangements."""

    first: tuple[int, ...]
    last: tuple[int, ...]

    @property
    def middle(self) -> tuple[float, ...]:
        """The mean of both, as good as either."""
        return tuple((a + b) / 2 for a, b in zip(self.first, self.last, strict=True))


def arrange(count: int, gaps: Sequence[Gap], pulls: Sequence[Pull]) -> Extremes:
    """Place `count` items on a line that starts at 0.

    Args:
        count: Number of items, numbered from 0.
        gaps: Minimal distances.
        pulls: What should stand close.

    Raises:
        GraphError: The distances contradict one another.

    Example:
        >>> arrange(3, [Gap(0, 1, 10)], [Pull(2, 0, 1), Pull(2, 1, 1)]).middle
        (0.0, 10.0, 5.0)
    """
    left, right = count, count + 1  # walls, whose distance is kept small
    held = {gap.after for gap in gaps}, {gap.before for gap in gaps}
    walls = [Gap(left, i, 0) for i in range(count) if i not in held[0]]
    walls += [Gap(i, right, 0) for i in range(count) if i not in held[1]]
    arcs = _residual(count + 2, [*gaps, *walls], [*pulls, Pull(left, right, 1)])
    first = _furthest(count + 2, arcs, left)
    last = _furthest(count + 2, [(b, a, d) for a, b, d in arcs], right)
    width = first[right]
    return Extremes(tuple(first[:count]), tuple(width - x for x in last[:count]))


def straightened(
    places: Sequence[float], gaps: Sequence[Gap], pulls: Sequence[Pull]
) -> tuple[float, ...]:
    """Move single items onto a near neighbour where that costs nothing.

    Args:
        places: An optimal arrangement, as the middle of the extremes, in which a pull may be left
            slightly slanted though another optimum has it straight.
        gaps: Minimal distances, all kept.
        pulls: What should stand close.

    Example:
        >>> straightened([0.0, 100.0, 10.0], [], [Pull(2, 0, 1), Pull(2, 1, 1)])
        (10.0, 100.0, 10.0)
    """
    result = list(places)
    before: list[list[Gap]] = [[] for _ in places]
    after: list[list[Gap]] = [[] for _ in places]
    drawn: list[list[tuple[int, int]]] = [[] for _ in places]
    for gap in gaps:
        before[gap.after].append(gap)
        after[gap.before].append(gap)
    for one, other, weight in pulls:
        drawn[one].append((other, weight))
        drawn[other].append((one, weight))

    def cost(item: int, x: float) -> float:
        return sum(weight * abs(result[other] - x) for other, weight in drawn[item])

    for item in range(len(result)):
        least = max((result[g.before] + g.distance for g in before[item]), default=-inf)
        most = min((result[g.after] - g.distance for g in after[item]), default=inf)
        here = result[item]
        near = [result[o] for o, _ in drawn[item] if abs(result[o] - here) < _NEARLY]
        for x in sorted(near, key=lambda x: abs(x - here)):
            if least <= x <= most and cost(item, x) <= cost(item, here):
                result[item] = x
                break
    return tuple(result)


def _residual(
    count: int, gaps: Sequence[Gap], pulls: Sequence[Pull]
) -> list[tuple[int, int, int]]:
    """Return arcs (a, b, d), read x_b >= x_a + d, whose solutions are the optimal places."""
    import networkx

    net = networkx.MultiDiGraph()
    net.add_nodes_from(range(count))
    for key, gap in enumerate(gaps):
        net.add_edge(gap.before, gap.after, key=key, weight=-gap.distance)
    for key, pull in enumerate(pulls, len(gaps)):
        net.add_edge(pull.one, pull.other, key=key, weight=0, capacity=pull.weight)
        net.add_edge(pull.other, pull.one, key=key, weight=0, capacity=pull.weight)
    try:
        _, flow = networkx.network_simplex(net)
    except networkx.NetworkXUnbounded as error:
        raise GraphError("the plates ask for an order of nodes that cannot exist") from error
    arcs = [(gap.before, gap.after, gap.distance) for gap in gaps]
    for key, gap in enumerate(gaps):
        if flow[gap.before][gap.after][key]:
            arcs.append((gap.after, gap.before, -gap.distance))
    for key, pull in enumerate(pulls, len(gaps)):
        net_flow = flow[pull.one][pull.other][key] - flow[pull.other][pull.one][key]
        if net_flow < pull.weight:
            arcs.append((pull.one, pull.other, 0))
        if net_flow > -pull.weight:
            arcs.append((pull.other, pull.one, 0))
    return arcs


def _furthest(count: int, arcs: Sequence[tuple[int, int, int]], root: int) -> list[int]:
    """Return the longest distances from a root (Bellman and Ford, with a queue)."""
    out: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for a, b, d in arcs:
        out[a].append((b, d))
    far: list[int | None] = [None] * count
    far[root] = 0
    queue, queued = deque([root]), {root}
    while queue:
        a = queue.popleft()
        queued.discard(a)
        start = far[a] or 0
        for b, d in out[a]:
            known = far[b]
            if known is None or known < start + d:
                far[b] = start + d
                if b not in queued:
                    queue.append(b)
                    queued.add(b)
    return [place or 0 for place in far]
