"""Plates written out: a variable for each member."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from daguerre.graph import Graph, GraphError, HasGraph, Lag, Variable, did_you_mean, graph_of
from daguerre.structure.recurrence import TIME, temporal
from daguerre.structure.unroll import MOST

__all__ = ["member", "members", "plates_of", "spread"]

Place = Mapping[str, int]  # a member of each plate


def spread(g: Graph | HasGraph, sizes: Mapping[str, int] | None = None) -> Graph:
    r"""Write out plates: one variable per member, `theta[0]`, `theta[1]`, ..., and no plate.

    $p(v) = \prod_i \prod_{m \in \text{plates}(i)} p(v_{i,m} \mid \mathrm{pa}(v_i)_m)$. In two
    plates the members are `x[0,2]`, in the order of its plates. What is outside all plates stays
    one variable, the parent of all members. Time is no plate here: `unroll` writes that out.

    Args:
        g: A graph with plates, or a model.
        sizes: The size of each plate whose declaration does not tell it.

    Raises:
        GraphError: A size that is unknown, below 1 or other than declared; a plate that is not
            there; a parent in a plate that its child is outside of; too many members.

    Example:
        >>> g = Graph.from_edges([("mu", "x")], plates={"i": ["x"]})
        >>> spread(g, {"i": 2})
        Graph(-> mu; mu -> x[0]; mu -> x[1])
    """
    graph = graph_of(g)
    found = _sizes(graph, sizes or {})
    apart = members(graph, found)
    count = sum(map(len, apart.values()))
    if count > MOST:
        raise GraphError(
            f"plates of {', '.join(f'{size} {name}' for name, size in found.items())} are {count}"
            f" variables, more than {MOST}; leave the model as it is"
        )
    named = {name for v in graph.variables if plates_of(graph, v.name) for name in apart[v.name]}
    if taken := sorted(named & {*graph.names}):
        raise GraphError(f"{taken[0]!r} is a variable, and the name of a member: rename it")
    whole = (_member(graph, v, at) for v in graph.variables for at in _places(graph, v, found))
    return Graph(whole, (p for p in graph.plates if p.name == TIME and temporal(graph)))


def members(graph: Graph, sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Return the names of all members of each variable, the last plate running fastest.

    Example:
        >>> g = Graph.from_edges([("a", "x")], plates={"i": ["x"], "j": ["x"]})
        >>> members(g, {"i": 2, "j": 2})
        {'a': ('a',), 'x': ('x[0,0]', 'x[0,1]', 'x[1,0]', 'x[1,1]')}
    """
    return {
        v.name: tuple(member(graph, v.name, at) for at in _places(graph, v, sizes))
        for v in graph.variables
    }


def plates_of(graph: Graph, name: str) -> tuple[str, ...]:
    """Return the plates that a variable is in, outermost first, without time."""
    has_time = bool(temporal(graph))
    return tuple(plate for plate in graph[name].plates if not (has_time and plate == TIME))


def member(graph: Graph, name: str, at: Place) -> str:
    """Return the name of a variable for a member of each plate that it is in."""
    own = plates_of(graph, name)
    return f"{name}[{','.join(str(at[plate]) for plate in own)}]" if own else name


def _places(graph: Graph, v: Variable, sizes: Mapping[str, int]) -> Iterator[Place]:
    own = plates_of(graph, v.name)
    for numbers in product(*(range(sizes[plate]) for plate in own)):
        yield dict(zip(own, numbers, strict=True))


def _member(graph: Graph, v: Variable, at: Place) -> Variable:
    def name(parent: str) -> str:
        if beyond := [plate for plate in plates_of(graph, parent) if plate not in at]:
            raise GraphError(
                f"{v.name} is outside the plate {beyond[0]} of its parent {parent}, so it would"
                f" see all of its members; put {v.name} into the plate"
            )
        return member(graph, parent, at)

    return replace(
        v,
        name=name(v.name),
        parents=tuple(map(name, v.parents)),
        inverts=None if v.inverts is None else name(v.inverts),
        plates=tuple(plate for plate in v.plates if plate not in at),
        lags=tuple(Lag(name(lag.variable), lag.steps) for lag in v.lags),
    )


def _sizes(graph: Graph, given: Mapping[str, int]) -> dict[str, int]:
    """Return the size of each plate, declared or given."""
    names = dict.fromkeys(plate for v in graph.variables for plate in plates_of(graph, v.name))
    for name, size in given.items():
        if name not in names:
            raise GraphError(f"no plate {name!r} to have a size{did_you_mean(name, names)}")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise GraphError(f"the size of the plate {name} is 1 or more, not {size!r}")
    declared = {plate.name: plate.size for plate in graph.plates if plate.size is not None}
    for name in names:
        if name not in declared and name not in given:
            raise GraphError(f"the size of the plate {name} is not known: give it in sizes")
        if name in declared and given.get(name, declared[name]) != declared[name]:
            raise GraphError(
                f"the plate {name} is declared with the size {declared[name]}, not {given[name]}"
            )
    return {name: given.get(name, declared.get(name, 0)) for name in names}
