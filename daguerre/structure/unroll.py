"""A chain written out: the plain graph of its first time slices."""

from __future__ import annotations

from dataclasses import replace

from daguerre.graph import Graph, GraphError, HasGraph, Variable, graph_of
from daguerre.structure.recurrence import TIME, temporal

__all__ = ["MOST", "at", "check_steps", "slices", "unroll"]

MOST = 1_000_000  # variables that a written-out graph may have


def at(name: str, time: int) -> str:
    """Return the name of a variable in one time slice, which a picture shows as a subscript.

    Example:
        >>> at("z", 0)
        'z[0]'
    """
    return f"{name}[{time}]"


def unroll(g: Graph | HasGraph, steps: int) -> Graph:
    r"""Write out the time slices of a chain as variables of their own: `z[0]`, `z[1]`, ...

    $p(v_{0:T-1}) = \prod_t p(v_t \mid \mathrm{pa}(v_t), \mathrm{pa}(v_{t-1}), \dots)$. Slices
    count from 0, as the dimension of time in a value does. What holds for all time stays one
    variable. An edge from before the first slice, or from after the last, is left out: what stands
    there is a constant or the law of the variable, and no parent. Plates are kept, and so are
    bijections.

    Args:
        g: A graph with lagged edges, or a model of a chain.
        steps: The number T of slices, 1 or more.

    Returns:
        The graph, slice after slice.

    Raises:
        GraphError: No lagged edge, no steps or too many, a variable that has the name of a slice.

    References:
        Goodfellow, Bengio and Courville (2016), *Deep Learning*, section 10.1.

    Example:
        >>> edges, time = [("s", "x"), ("z", "x")], {"t": ["z", "x"]}
        >>> chain = Graph.from_edges(edges, lagged=[("z", "z", 1)], plates=time)
        >>> unroll(chain, 2)
        Graph(-> s; -> z[0]; s, z[0] -> x[0]; z[0] -> z[1]; s, z[1] -> x[1])
    """
    graph = graph_of(g)
    check_steps(graph, steps)
    taken = next((n for n in slices(graph, steps) if n in graph), None)
    if taken is not None:
        raise GraphError(f"{taken!r} is a variable, and the name of a time slice: rename it")
    in_time = temporal(graph)
    still = [v for v in graph.variables if v.name not in in_time]
    moving = [graph[name] for name in graph.order if name in in_time]
    chain = (_slice(graph, v, time, steps) for time in range(steps) for v in moving)
    return Graph((*still, *chain), (p for p in graph.plates if p.name != TIME))


def _slice(graph: Graph, v: Variable, time: int, steps: int) -> Variable:
    in_time = temporal(graph)

    def name(parent: str) -> str:
        return at(parent, time) if parent in in_time else parent

    before = (at(x.variable, time - x.steps) for x in v.lags if 0 <= time - x.steps < steps)
    return replace(
        v,
        name=name(v.name),
        parents=(*map(name, v.parents), *before),
        inverts=None if v.inverts is None else name(v.inverts),
        plates=tuple(plate for plate in v.plates if plate != TIME),
        lags=(),
    )


def slices(graph: Graph, steps: int) -> dict[str, tuple[str, int]]:
    """Map the name of each slice of each variable to the variable and the time."""
    moving = temporal(graph)
    names = [name for name in graph.order if name in moving]
    return {at(name, time): (name, time) for time in range(steps) for name in names}


def check_steps(graph: Graph, steps: int) -> None:
    """Refuse what cannot be written out.

    Raises:
        GraphError: No lagged edge, no steps or too many.
    """
    if not any(v.lags for v in graph.variables):
        raise GraphError(
            "no variable has a parent in an earlier time slice, so there is no chain to write"
            ' out; dg.lag("z", init=...) makes one'
        )
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise GraphError(f"a chain is written out for 1 time slice or more, not {steps!r}")
    size = steps * len(graph.names)
    if size > MOST:
        raise GraphError(
            f"{steps} time slices of {len(graph.names)} variables are {size} variables, more than"
            f" {MOST}: ask for fewer, or leave the chain as it is"
        )
