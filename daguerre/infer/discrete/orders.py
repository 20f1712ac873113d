"""In which order to sum variables out: several greedy rules, of which a caller keeps the best.

A rule scores each variable by what eliminating it would cost now; the cheapest goes, its
neighbours are joined, and the scores around it are renewed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp

__all__ = ["RULES", "Neighbours", "Rule", "elimination_order", "interaction_graph"]

Neighbours = dict[int, set[int]]
Rule = Callable[[int, Neighbours, Mapping[int, float]], float]


def interaction_graph(scopes: Iterable[Sequence[int]]) -> Neighbours:
    """Join all variables that meet in a factor.

    Example:
        >>> interaction_graph([(0, 1), (1, 2)])
        {0: {1}, 1: {0, 2}, 2: {1}}
    """
    neighbours: Neighbours = {}
    for scope in scopes:
        for v in scope:
            neighbours.setdefault(v, set()).update(scope)
    for v, others in neighbours.items():
        others.discard(v)
    return neighbours


def _missing(v: int, neighbours: Neighbours) -> Iterable[tuple[int, int]]:
    around = list(neighbours[v])
    for i, a in enumerate(around):
        known = neighbours[a]
        for b in around[i + 1 :]:
            if b not in known:
                yield a, b


def _fill(v: int, neighbours: Neighbours, _: Mapping[int, float]) -> float:
    return sum(1 for _ in _missing(v, neighbours))


def _weighted_fill(v: int, neighbours: Neighbours, weights: Mapping[int, float]) -> float:
    return sum(exp(weights[a] + weights[b]) for a, b in _missing(v, neighbours))


def _weight(v: int, neighbours: Neighbours, weights: Mapping[int, float]) -> float:
    return weights[v] + sum(weights[a] for a in neighbours[v])


RULES: dict[str, Rule] = {
    "min-fill": _fill,
    "weighted min-fill": _weighted_fill,
    "min-weight": _weight,
}


def elimination_order(
    graph: Neighbours,
    weights: Mapping[int, float],
    rule: Rule,
    *,
    last: Iterable[int] = (),
    seed: int | None = None,
) -> list[int]:
    """Order all variables of a graph greedily.

    Args:
        graph: The neighbours of each variable; it is left as it is.
        weights: Logarithms of the numbers of states.
        rule: What eliminating a variable costs now.
        last: Variables that go after all others.
        seed: Break ties at random; without it, in favour of the smaller clique.

    References:
        Koller and Friedman (2009), *Probabilistic Graphical Models*, section 9.4.3.

    Example:
        >>> chain = interaction_graph([(0, 1), (1, 2), (2, 3)])
        >>> elimination_order(chain, dict.fromkeys(range(4), 1.0), RULES["min-fill"], last=[0])
        [3, 2, 1, 0]
    """
    chance = None if seed is None else random.Random(seed)
    graph, late = {v: set(around) for v, around in graph.items()}, set(last)

    def entry(v: int) -> tuple[bool, float, float, int]:
        tie = _weight(v, graph, weights) if chance is None else chance.random()
        return v in late, rule(v, graph, weights), tie, v

    current = {v: entry(v) for v in graph}
    heap = list(current.values())
    heapq.heapify(heap)
    order: list[int] = []
    while heap:
        found = heapq.heappop(heap)
        v = found[-1]
        if current.get(v) is not found:
            continue
        order.append(v)
        del current[v]
        around = graph.pop(v)
        changed = set(around)
        if rule is not _weight:  # the fill of those who see a new edge changes as well
            for a, b in list(_new_edges(around, graph)):
                changed |= graph[a] & graph[b]
                graph[a].add(b)
                graph[b].add(a)
        for a in around:
            graph[a] |= around
            graph[a] -= {a, v}
        for a in changed & current.keys():
            current[a] = entry(a)
            heapq.heappush(heap, current[a])
    return order


def _new_edges(around: set[int], graph: Neighbours) -> Iterable[tuple[int, int]]:
    members = list(around)
    for i, a in enumerate(members):
        for b in members[i + 1 :]:
            if b not in graph[a]:
                yield a, b
