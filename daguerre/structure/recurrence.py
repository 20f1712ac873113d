"""What time does to a graph: which variables have time slices, and which feed themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from daguerre.graph import Graph, InadmissibleError

__all__ = ["TIME", "Block", "blocks", "temporal", "upstream"]

TIME = "t"  # the plate that time is


class Block(NamedTuple):
    """Variables that are run together.

    Attributes:
        names: Parents of the same time slice first.
        direction: 1 if each slice needs the one before, -1 if it needs the one after, 0 if all
            slices can be run at once.
    """

    names: tuple[str, ...]
    direction: int = 0


@lru_cache(maxsize=1024)
def temporal(graph: Graph, also: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the variables that have a value in each time slice.

    In a graph with lags these are all variables, unless some are in the plate `t`: then they
    are those, the ones that are linked across slices, and what follows from any of them, and
    the others hold for all time.

    Args:
        graph: The graph.
        also: Variables that have time slices in another graph, which this one meets.

    Example:
        >>> edges, lagged = [("s", "x"), ("z", "x")], [("z", "z", 1)]
        >>> sorted(temporal(Graph.from_edges(edges, lagged=lagged)))
        ['s', 'x', 'z']
        >>> sorted(temporal(Graph.from_edges(edges, lagged=lagged, plates={"t": ["x"]})))
        ['x', 'z']
    """
    linked = {v.name for v in graph.variables if v.lags}
    linked |= {lag.variable for v in graph.variables for lag in v.lags}
    linked |= {name for name in also if name in graph}
    if not linked:
        return frozenset()
    named = {v.name for v in graph.variables if TIME in v.plates}
    if not named:
        return frozenset(graph.names)
    return frozenset(linked | named | graph.descendants(linked | named))


def upstream(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """Return all that some variables follow from, in their own time slice and in others.

    Example:
        >>> sorted(upstream(Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)]), ["z"]))
        ['z']
    """
    if not graph.adjacency.lagged:
        return graph.ancestors(names)
    found: set[str] = set()
    frontier = [graph[name].name for name in names]
    while frontier:
        feeds = {*_feeds(graph, frontier.pop())} - found
        found |= feeds
        frontier += feeds
    return frozenset(found)


@lru_cache(maxsize=4096)
def blocks(graph: Graph, known: frozenset[str] = frozenset()) -> tuple[Block, ...]:
    """Order the variables that are not known so that each can be run after those before it.

    Variables on a cycle through time are one block, to be run slice by slice.

    Args:
        graph: The graph.
        known: What has a value already.

    Raises:
        InadmissibleError: A cycle with lags of both signs: it can be run from neither end.

    Example:
        >>> rnn = Graph.from_edges([("h", "y")], lagged=[("h", "h", 1), ("y", "h", 1)])
        >>> blocks(rnn)
        (Block(names=('h', 'y'), direction=1),)
        >>> blocks(rnn, frozenset({"y"})), blocks(rnn, frozenset({"h"}))
        ((Block(names=('h',), direction=1),), (Block(names=('y',), direction=0),))
    """
    free = [name for name in graph.order if name not in known]
    if not graph.adjacency.lagged:
        return tuple(Block((name,)) for name in free)
    above = {n: [p for p in _feeds(graph, n) if p not in known] for n in free}
    reach = {n: _reached(above, n) for n in free}  # what a variable needs
    cycles = {n: frozenset({n, *(m for m in reach[n] if n in reach[m])}) for n in free}
    groups = sorted(dict.fromkeys(cycles.values()), key=lambda g: len(reach[min(g)] | g))
    return tuple(_block(graph, tuple(n for n in free if n in g), reach) for g in groups)


def _feeds(graph: Graph, name: str) -> tuple[str, ...]:
    return (*graph.parents(name), *(lag.variable for lag in graph[name].lags))


def _reached(above: Mapping[str, Collection[str]], name: str) -> frozenset[str]:
    found, frontier = set[str](), [*above[name]]
    while frontier:
        if (one := frontier.pop()) not in found:
            found.add(one)
            frontier += above[one]
    return frozenset(found)


def _block(graph: Graph, names: tuple[str, ...], reach: Mapping[str, frozenset[str]]) -> Block:
    if names[0] not in reach[names[0]]:
        return Block(names)
    inner = [(n, lag) for n in names for lag in graph[n].lags if lag.variable in names]
    signs = {1 if lag.steps > 0 else -1 for _, lag in inner}
    if len(signs) > 1:
        both = ", ".join(f"{lag.variable}[t{-lag.steps:+d}] -> {n}" for n, lag in inner)
        raise InadmissibleError(
            f"{', '.join(names)} depend on their past and on their future ({both}), so they can be"
            " run from neither end; give the backward net a variable of its own"
        )
    return Block(names, signs.pop())
