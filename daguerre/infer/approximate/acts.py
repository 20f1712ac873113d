"""One pass through a model under evidence, planned on the graph alone.

What is known is weighed, what is not is drawn, and what follows is filled in. A known value of a
declared bijection is inverted; one of another map must agree with what its parents give.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from daguerre.graph import Graph, InadmissibleError

__all__ = ["Act", "Kind", "plan_acts"]

Kind = Literal["weigh", "draw", "fill", "invert", "agree"]


@dataclass(frozen=True)
class Act:
    """What is done with one variable.

    Attributes:
        name: The variable.
        kind: A known stochastic variable is weighed, an unknown one drawn; an unknown map is
            filled in, a known bijection inverted, another known map must agree.
        is_random: Whether what the CPD gives depends on what was drawn.
    """

    name: str
    kind: Kind
    is_random: bool


def plan_acts(
    graph: Graph, needed: Collection[str], complete: Collection[str], partial: Collection[str] = ()
) -> tuple[Act, ...]:
    """Order what is done with the variables that are needed.

    Args:
        graph: The graph.
        needed: The variables that matter, with their ancestors.
        complete: Those with a value in every row.
        partial: Those with a value in some rows or components; where they have none they are
            drawn, once their parents are known.

    Raises:
        InadmissibleError: A bijection whose parameters depend on what it would recover.

    Example:
        >>> g = Graph.from_edges([("z", "x"), ("x", "y")])
        >>> [(act.name, act.kind) for act in plan_acts(g, g.names, ["y"])]
        [('z', 'draw'), ('x', 'draw'), ('y', 'weigh')]
    """
    inverted = dict(_inverted(graph, needed, complete))  # bijection -> what it recovers
    observed = {*complete, *partial, *inverted.values()}
    done = {*complete, *(name for name in graph.inputs if name in needed)} - {*partial}
    drawn: set[str] = set()
    waiting = [n for n in graph.order if n in needed and n not in graph.inputs]
    acts: list[Act] = []
    while waiting:
        ready = [n for n in waiting if _needs(graph, n, inverted, observed) <= done]
        if not ready:
            raise InadmissibleError(_stuck(graph, waiting, inverted))
        name = ready[0]
        waiting.remove(name)
        kind = _kind(graph, name, inverted, observed)
        is_random = kind == "draw" or bool(drawn & {name, *graph[name].parents})
        acts.append(Act(name, kind, is_random))
        done |= {name, inverted.get(name, name)}
        if kind == "draw" or name in partial or (kind == "fill" and is_random):
            drawn.add(name)
        elif kind == "invert" and bool(drawn & ({*graph[name].parents} - {inverted[name]})):
            drawn.add(inverted[name])
    return tuple(acts)


def _inverted(
    graph: Graph, needed: Collection[str], complete: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield bijections that lead from known values to unknown ones."""
    known = {*complete}
    for name in reversed(graph.order):
        source = graph[name].inverts
        if name in needed and name in known and source is not None and source not in known:
            known.add(source)
            yield name, source


def _needs(graph: Graph, name: str, inverted: dict[str, str], observed: set[str]) -> set[str]:
    """Return what must be known before a variable's turn."""
    parents = {*graph[name].parents}
    if name in inverted:
        return {name, *parents} - {inverted[name]}
    is_recovered = name in observed and name in inverted.values()
    return parents | {name} if is_recovered else parents


def _kind(graph: Graph, name: str, inverted: dict[str, str], observed: set[str]) -> Kind:
    if name in inverted:
        return "invert"
    if graph[name].map == "stochastic":
        return "weigh" if name in observed else "draw"
    return "agree" if name in observed else "fill"


def _stuck(graph: Graph, waiting: list[str], inverted: dict[str, str]) -> str:
    name = next(n for n in waiting if n in inverted)
    others = [p for p in graph[name].parents if p != inverted[name]]
    return (
        f"{name} is a bijection of {inverted[name]} with the parameters {', '.join(others)}, which"
        f" depend on {inverted[name]} themselves, so it cannot be inverted; observe"
        f" {inverted[name]}, or ask by dg.infer.ABC()"
    )
