"""Measure questions of independence beside networkx and pgmpy, in one process on one core.

    python benchmarks/structure.py

Every query goes to all contestants in turn, another one first each time, and the answers must
agree. Half of the timed queries are separated: early exits flatter. Building the graphs is not
timed, nor is the first query of Daguerre, which numbers the graph.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from statistics import median
from time import perf_counter

import networkx as nx

import daguerre as dg
from report import circumstances, table

__all__ = ["main"]

Query = tuple[str, str, list[str]]
Ask = Callable[[str, str, list[str]], bool]


def main() -> None:
    """Print one table per graph."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    packages = ["daguerre", "networkx", *(["pgmpy"] if _pgmpy() else [])]
    print(circumstances(packages), end="\n\n")
    rng = random.Random(0)
    small, large = _random_edges(rng, 300, 900), _random_edges(rng, 10_000, 30_000)
    _race("random, 300 nodes, 900 edges", small, _queries(rng, small, 40), pgmpy=True)
    _race("random, 10,000 nodes, 30,000 edges", large, _queries(rng, large, 200))
    names = [f"v{i}" for i in range(100_000)]
    chain = list(itertools.pairwise(names))
    tree = [(names[(i - 1) // 2], names[i]) for i in range(1, 100_000)]
    _race("chain, 100,000 nodes", chain, [("v0", "v99999", []), ("v0", "v99999", ["v50000"])])
    _race("tree, 100,000 nodes", tree, [("v99998", "v99999", []), ("v1", "v2", ["v0"])])
    graph, queries = dg.Graph.from_edges(large), _queries(rng, large, 1000)
    start = perf_counter()
    for x, y, given in queries:
        dg.independent(graph, x, y, given=given)
    print(f"1,000 queries on the second graph, numbering included: {perf_counter() - start:.2f} s")


def _race(
    title: str, edges: list[tuple[str, str]], queries: list[Query], *, pgmpy: bool = False
) -> None:
    contestants = {"Daguerre": _daguerre(edges), "networkx": _networkx(edges)}
    if pgmpy and (ask := _pgmpy(edges)) is not None:
        contestants["pgmpy"] = ask
    contestants["Daguerre"](*queries[0])
    times: dict[str, list[float]] = {name: [] for name in contestants}
    separated = 0
    for turn, (x, y, given) in enumerate(queries):
        order = list(contestants)
        order = order[turn % len(order) :] + order[: turn % len(order)]
        answers = {}
        for name in order:
            start = perf_counter()
            answers[name] = contestants[name](x, y, given)
            times[name].append(perf_counter() - start)
        assert len(set(answers.values())) == 1, f"{x}, {y} given {given}: {answers}"
        separated += answers["Daguerre"]
    print(f"{title}; {len(queries)} queries, {separated} of them separated:\n")
    head = ["query by", "median, ms", "most, ms", "mean, ms", "x Daguerre, median", "x, mean"]
    print(table(head, [_row(name, times) for name in contestants]), end="\n\n")


def _row(name: str, times: dict[str, list[float]]) -> list[str]:
    own, ours = times[name], times["Daguerre"]
    ratio = median(a / b for a, b in zip(own, ours, strict=True))
    milliseconds = [f"{1e3 * f(own):.3f}" for f in (median, max, lambda t: sum(t) / len(t))]
    return [name, *milliseconds, f"{ratio:.1f}", f"{sum(own) / sum(ours):.1f}"]


def _random_edges(rng: random.Random, nodes: int, edges: int) -> list[tuple[str, str]]:
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < edges:
        a, b = sorted(rng.sample(range(nodes), 2))
        pairs.add((a, b))
    return [(f"v{a}", f"v{b}") for a, b in sorted(pairs)]


def _queries(rng: random.Random, edges: list[tuple[str, str]], count: int) -> list[Query]:
    """Draw queries, as many separated as not."""
    graph = dg.Graph.from_edges(edges)
    kept: dict[bool, list[Query]] = {True: [], False: []}
    while min(map(len, kept.values())) < count // 2:
        x, y, *given = rng.sample(graph.names, 2 + rng.choice((0, 1, 3, 20)))
        answer = dg.independent(graph, x, y, given=given)
        kept[answer].append((x, y, given))
    queries = [*kept[True][: count // 2], *kept[False][: count // 2]]
    rng.shuffle(queries)
    return queries


def _daguerre(edges: list[tuple[str, str]]) -> Ask:
    graph = dg.Graph.from_edges(edges)
    return lambda x, y, given: dg.independent(graph, x, y, given=given)


def _networkx(edges: list[tuple[str, str]]) -> Ask:
    graph = nx.DiGraph(edges)
    return lambda x, y, given: nx.is_d_separator(graph, {x}, {y}, set(given))


def _pgmpy(edges: list[tuple[str, str]] = ()) -> Ask | None:
    """Return pgmpy's question, or None where it is not installed."""
    try:
        from pgmpy.base import DAG
    except ImportError:
        return None
    graph = DAG(edges)
    return lambda x, y, given: not graph.is_dconnected(x, y, observed=given)


if __name__ == "__main__":
    main()
