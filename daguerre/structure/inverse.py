"""The structure that an inference model needs: a graph turned round, without a false claim."""

from __future__ import annotations

from daguerre.graph import Graph, HasGraph, Variable, graph_of
from daguerre.structure.names import Names, check_apart, check_static, read_names
from daguerre.structure.separation import determined, independent
from daguerre.structure.skeleton import moralize

__all__ = ["inverse", "with_random_inputs"]


def inverse(g: Graph | HasGraph, *, given: Names) -> Graph:
    r"""Return a minimal faithful structure for $q(\text{latents} \mid \text{given})$.

    It claims no independence that the graph does not imply, and no arrow can be left out. The
    latents are the random variables that are not given, drawn in the reverse of an elimination
    order (parents before children, fewest new edges first); each takes what it depends on among
    the given and the earlier ones. Deterministic variables are left out: they follow. A latent
    that the given variables determine, through declared bijections, becomes deterministic.

    Args:
        g: The graph, or a model.
        given: What is observed, one variable or several.

    Returns:
        A graph whose inputs are `given` and the inputs of g.

    Raises:
        GraphError: An unknown name, or none.
        InadmissibleError: A variable that depends on an earlier time slice.

    References:
        Webb, Golinski, Zinkov, Siddharth, Teh and Wood (2018), *Faithful inversion of generative
        models for effective amortized inference*, arXiv 1712.00287.

    Example:
        >>> inverse(Graph.from_edges([("z1", "x"), ("z2", "x")]), given="x")
        Graph(x; x -> z2; z2, x -> z1)
    """
    graph = check_static(graph_of(g))
    observed = read_names(graph, given, "given")
    check_apart(observed=observed)
    known = tuple(dict.fromkeys((*observed, *graph.inputs)))
    told = {*determined(graph, observed)}
    graph = with_random_inputs(graph)  # each is a candidate parent of its own
    variables = [Variable(name, map="input") for name in known]
    placed: list[str] = []
    for name in reversed(_elimination_order(graph, known)):
        parents = _needed(graph, name, [*placed, *known])
        variables.append(
            Variable(name, parents, "deterministic" if name in told else "stochastic")
        )
        placed.append(name)
    return Graph(variables)


def with_random_inputs(graph: Graph) -> Graph:
    """Return the graph with its inputs as random roots, which nobody takes as given unnamed."""
    return graph.with_variables(*(Variable(name) for name in graph.inputs))


def _needed(graph: Graph, name: str, before: list[str]) -> tuple[str, ...]:
    """Drop what the variable does not depend on given the rest, one after another.

    One test for each would not do: of two copies of a variable either can be dropped, not both.
    """
    near = {*graph.parents(name), *graph.children(name)}
    rest = sorted(before, key=lambda n: (n in near, before.index(n)))
    for candidate in tuple(rest):
        others = [n for n in rest if n != candidate]
        if independent(graph, name, candidate, given=others):
            rest = others
    return tuple(n for n in before if n in rest)


def _elimination_order(graph: Graph, known: tuple[str, ...]) -> list[str]:
    """Order the latents: each after its latent parents, that with the fewest new edges first."""
    latents = [n for n in graph.order if graph[n].map == "stochastic" and n not in known]
    beside: dict[str, set[str]] = {name: set() for name in graph.names}
    for a, b in moralize(graph):
        beside[a].add(b)
        beside[b].add(a)
    above = {n: graph.ancestors([n]) & {*latents} for n in latents}
    order: list[str] = []
    while len(order) < len(latents):
        free = [n for n in latents if n not in order and above[n] <= {*order}]
        best = min(free, key=lambda n: _fill(beside, n))
        for neighbour in beside[best]:
            beside[neighbour] |= beside[best] - {neighbour}
            beside[neighbour].discard(best)
        order.append(best)
    return order


def _fill(beside: dict[str, set[str]], name: str) -> int:
    """Count the edges that eliminating a variable would add, each twice."""
    neighbours = beside[name]
    return sum(len(neighbours - beside[n]) - 1 for n in neighbours)
