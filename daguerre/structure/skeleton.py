"""Undirected views of a graph: blankets, moral edges, equivalence."""

from __future__ import annotations

from itertools import combinations

from daguerre.graph import Graph, GraphError, HasGraph, graph_of
from daguerre.structure.names import Names, check_apart, check_static, read_names

__all__ = ["equivalent", "markov_blanket", "moralize"]


def markov_blanket(g: Graph | HasGraph, names: Names) -> tuple[str, ...]:
    """Return the parents, children and co-parents: given these, all others are independent.

    Args:
        g: The graph, or a model.
        names: One variable or several, whose common blanket it is.

    Returns:
        Names in order of declaration.

    Raises:
        GraphError: An unknown name, or none.

    References:
        Pearl (1988), *Probabilistic Reasoning in Intelligent Systems*, section 3.3.

    Example:
        >>> markov_blanket(Graph.from_edges([("a", "b"), ("b", "c"), ("d", "c")]), "b")
        ('a', 'c', 'd')
    """
    graph = check_static(graph_of(g))
    inside = read_names(graph, names, "names")
    check_apart(names=inside)
    children = {c for name in inside for c in graph.children(name)}
    parents = {p for name in (*inside, *children) for p in graph.parents(name)}
    number = graph.adjacency.number
    return tuple(sorted((children | parents) - {*inside}, key=number.__getitem__))


def moralize(g: Graph | HasGraph) -> tuple[tuple[str, str], ...]:
    """Return the edges of the moral graph: arrows without heads, and parents joined.

    Args:
        g: The graph, or a model.

    Returns:
        Pairs, each once, both in order of declaration.

    References:
        Lauritzen and Spiegelhalter (1988), *Journal of the Royal Statistical Society B* 50.

    Example:
        >>> moralize(Graph.from_edges([("a", "c"), ("b", "c")]))
        (('a', 'c'), ('a', 'b'), ('c', 'b'))
    """
    graph = check_static(graph_of(g))
    pairs: set[tuple[int, int]] = set()
    for child, parents in enumerate(graph.adjacency.parents):
        family = sorted((child, *parents))
        pairs.update(combinations(family, 2))
    return tuple((graph.names[a], graph.names[b]) for a, b in sorted(pairs))


def equivalent(g: Graph | HasGraph, h: Graph | HasGraph) -> bool:
    """Whether two graphs imply the same independences by d-separation.

    They do if and only if they have the same skeleton and the same v-structures: pairs of
    parents of one child that no edge joins.

    Args:
        g: A graph, or a model.
        h: Another over the same variables.

    Raises:
        GraphError: Graphs over different variables.

    References:
        Verma and Pearl (1990), *Equivalence and synthesis of causal models*.

    Example:
        >>> chain, fork = Graph.from_edges([("a", "b"), ("b", "c")]), [("b", "a"), ("b", "c")]
        >>> equivalent(chain, Graph.from_edges(fork))
        True
    """
    one, other = check_static(graph_of(g)), check_static(graph_of(h))
    if apart := sorted({*one.names} ^ {*other.names}):
        raise GraphError(f"only one of the two graphs has {', '.join(apart)}; both must have all")
    return _class(one) == _class(other)


def _class(
    graph: Graph,
) -> tuple[frozenset[frozenset[str]], frozenset[tuple[frozenset[str], str]]]:
    skeleton = frozenset(frozenset(edge) for edge in graph.edges)
    structures = (
        (frozenset(pair), v.name) for v in graph.variables for pair in combinations(v.parents, 2)
    )
    return skeleton, frozenset(s for s in structures if s[0] not in skeleton)
