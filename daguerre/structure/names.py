"""Reading the sets of variables that a question is about."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from daguerre.graph import Graph, GraphError, InadmissibleError

__all__ = ["Names", "check_apart", "check_static", "read_names"]

Names = str | Iterable[str]


def read_names(graph: Graph, names: Names, role: str) -> tuple[str, ...]:
    """Return the named variables, each once, in the order given; one name may stand alone.

    Args:
        graph: The graph that has them.
        names: A name, or several; perhaps none.
        role: What the message calls them.

    Raises:
        GraphError: A name that the graph has not.
        TypeError: Something that is no name.

    Example:
        >>> read_names(Graph.from_edges([("z", "x")]), "z", "xs")
        ('z',)
    """
    several = (names,) if isinstance(names, str) else tuple(names)
    for name in several:
        if not isinstance(name, str):
            raise TypeError(f"{role} holds names of variables, not {name!r}")
    return tuple(dict.fromkeys(graph[name].name for name in several))


def check_apart(**sets: tuple[str, ...]) -> None:
    """Refuse empty sets, but for `given`, and sets that share a variable.

    Raises:
        GraphError: Says which set is empty, or which variable is in which two.
    """
    for role, names in sets.items():
        if not names and role != "given":
            raise GraphError(f"{role} is empty: name at least one variable")
    for (one, ours), (other, theirs) in combinations(sets.items(), 2):
        if both := [name for name in ours if name in set(theirs)]:
            raise GraphError(f"{', '.join(both)} is in both {one} and {other}; sets must be apart")


def check_static(graph: Graph) -> Graph:
    """Return a graph without lagged edges.

    Raises:
        InadmissibleError: A variable depends on an earlier time slice.
    """
    for name in (graph.names[i] for i in graph.adjacency.lagged):
        lag = graph[name].lags[0]
        raise InadmissibleError(
            f"{name} depends on {lag.variable} at t - {lag.steps}: the graph of one slice does not"
            " tell how variables of different times hang together; write the time slices out as"
            " variables of their own: dg.structure.unroll(g, steps)"
        )
    return graph
