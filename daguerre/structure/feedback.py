"""What a chain hands on from slice to slice: whether what is observed comes back."""

from __future__ import annotations

from daguerre.graph import Graph, HasGraph, InadmissibleError, graph_of
from daguerre.structure.names import Names, check_apart, read_names
from daguerre.structure.recurrence import temporal
from daguerre.structure.separation import determined, independent
from daguerre.structure.unroll import at, unroll

__all__ = ["feedback"]


def feedback(g: Graph | HasGraph, observed: Names = ()) -> str:
    r"""Say whether the observed variables of a chain feed back, and what follows from it.

    With $h_t = f(h_{t-1}, y_{t-1})$ the output comes back: the past of y is an argument of $h_t$,
    and to condition on it is teacher forcing. Without the arrow from $y_{t-1}$ it is another
    graph, in which the outputs are independent given what drives h.

    Args:
        g: The graph of a chain, or its model.
        observed: What is observed; by default the random variables without children in their
            slice.

    Returns:
        A sentence per observed variable.

    Raises:
        GraphError: An unknown name.
        InadmissibleError: A graph without lagged edges.

    References:
        Goodfellow, Bengio and Courville (2016), *Deep Learning*, sections 10.2.1 to 10.2.3;
        Williams and Zipser (1989), *Neural Computation* 1, for teacher forcing.

    Example:
        >>> rnn = {"edges": [("h", "y")], "deterministic": ["h"]}
        >>> print(feedback(Graph.from_edges(lagged=[("h", "h", 1), ("y", "h", 1)], **rnn)))
        y feeds back into h: to condition on its past is teacher forcing, and determines h.
        >>> print(feedback(Graph.from_edges(lagged=[("h", "h", 1), ("e", "h", 1)], **rnn), "y"))
        y does not feed back: given h, its time slices are independent.
    """
    graph = graph_of(g)
    moving = temporal(graph)
    if not moving:
        raise InadmissibleError(
            "no variable has a parent in another time slice, so nothing can feed back"
        )
    leaves = (n for n in graph.leaves if n in moving and graph[n].map == "stochastic")
    names = read_names(graph, observed, "observed") or tuple(leaves)
    check_apart(observed=names)
    return "\n".join(_sentence(graph, name, names) for name in names if name in moving)


def _sentence(graph: Graph, name: str, observed: tuple[str, ...]) -> str:
    into = [v.name for v in graph.variables if name in {lag.variable for lag in v.lags}]
    if into:
        fixed = _determined(graph, observed)
        then = f", and determines {', '.join(fixed)}" if fixed else ""
        return (
            f"{name} feeds back into {', '.join(into)}: to condition on its past is teacher"
            f" forcing{then}."
        )
    above = [p for p in graph.parents(name) if p not in graph.inputs]
    for given in ([], above):
        if independent(graph, f"{name}[t]", f"{name}[:t]", given=given):
            known = ", ".join([*given, *graph.inputs])
            start = f"given {known}, " if known else ""
            return f"{name} does not feed back: {start}its time slices are independent."
    return f"{name} does not feed back, but what it depends on is not in its own time slice alone."


def _determined(graph: Graph, observed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the maps that what is observed before a slice determines, as do the inputs.

    What is known can only become less from slice to slice, as all parents of the first one from
    before the chain are constants. So it stays as it is after one slice per flag at the latest.
    """
    reach = max(lag.steps for v in graph.variables for lag in v.lags)
    if any(lag.steps < 0 for v in graph.variables for lag in v.lags):
        return ()
    last = reach * len(graph.names)
    chain = unroll(graph, last + 1)
    past = [at(name, time) for name in observed for time in range(last)]
    known = {*determined(chain, [name for name in past if name in chain])}
    maps = (v.name for v in graph.variables if v.map == "deterministic")
    return tuple(name for name in maps if name not in observed and at(name, last) in known)
