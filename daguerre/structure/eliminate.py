"""Substituting deterministic variables away: the joint of the rest stays what it was."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from daguerre.graph import Graph, InadmissibleError, Variable
from daguerre.structure.names import Names, read_names

__all__ = ["eliminate", "eliminated_names"]


def eliminate(graph: Graph, names: Names) -> Graph:
    r"""Substitute deterministic variables into their children.

    $\int \delta(h - f(z))\, p(x \mid h)\, dh = p(x \mid f(z))$: the children of h take its
    parents, at the place where h stood. A bijection of a bijection is one; a bijection of
    anything else is a map without a density.

    Args:
        graph: The graph.
        names: Deterministic variables, one or several, none for no change.

    Returns:
        The graph of the other variables.

    Raises:
        GraphError: An unknown name.
        InadmissibleError: A random variable or an input, or a variable of several time slices.

    References:
        Goodfellow, Bengio and Courville (2016), *Deep Learning*, section 10.2.3: without its
        hidden states the graph of a recurrent net is complete.

    Example:
        >>> decoder = Graph.from_edges([("z", "h"), ("h", "x")], deterministic=["h"])
        >>> eliminate(decoder, "h").edges
        (('z', 'x'),)
    """
    gone = eliminated_names(graph, names)
    above: dict[str, tuple[str, ...]] = {}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}  # units of one layer share their parents
    for name in graph.order:
        if name in gone:
            parents = _substituted(graph.parents(name), above)
            above[name] = shared.setdefault(parents, parents)
    kept = {v.name: _rewritten(graph, v, above) for v in graph.variables if v.name not in gone}
    order = tuple(name for name in graph.order if name in kept)
    rest = Graph(kept.values(), graph.plates)
    if rest.order == order:
        return rest
    return Graph((kept[name] for name in order), graph.plates)  # draws keep their order


def eliminated_names(graph: Graph, names: Names) -> frozenset[str]:
    """Return the names as a set, if all of them can be substituted away.

    Raises:
        GraphError: An unknown name.
        InadmissibleError: A random variable or an input, or a variable of several time slices.
    """
    gone = frozenset(read_names(graph, names, "names"))
    for name in sorted(gone, key=graph.adjacency.number.__getitem__):
        if graph[name].map != "deterministic":
            raise InadmissibleError(_refusal(graph, name, gone))
    for v in graph.variables:
        if v.lags and (v.name in gone or any(lag.variable in gone for lag in v.lags)):
            raise InadmissibleError(
                f"{v.name} depends on {v.lags[0].variable} of an earlier time slice, so"
                " substituting would go back without end, to parents in all earlier slices; write"
                " the time slices out, then eliminate: dg.structure.unroll(g, steps)"
            )
    return gone


def _substituted(parents: tuple[str, ...], above: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the parents with those that go replaced by theirs; what several share, once."""
    groups = [above.get(p, p) for p in parents]
    distinct = {id(group): group for group in groups}.values()
    flat = (name for g in distinct for name in ((g,) if isinstance(g, str) else g))
    return tuple(dict.fromkeys(flat))


def _rewritten(graph: Graph, v: Variable, above: dict[str, tuple[str, ...]]) -> Variable:
    if not any(p in above for p in v.parents):
        return v
    parents = _substituted(v.parents, above)
    return replace(v, parents=parents, inverts=_source(graph, v, above))


def _source(graph: Graph, v: Variable, above: dict[str, tuple[str, ...]]) -> str | None:
    """Return what a chain of bijections leads back to, unless a side branch holds it as well."""
    others: list[str] = []
    source = v.inverts
    while source is not None:
        others += [p for p in v.parents if p != source]
        if source not in above:
            break
        v = graph[source]
        source = v.inverts
    return None if source in _substituted(tuple(others), above) else source


def _refusal(graph: Graph, name: str, gone: Collection[str]) -> str:
    if graph[name].map == "input":
        return f"{name} is an input, which is always given; only deterministic variables go"
    rest = [f'"{n}"' for n in graph.names if n not in gone and n not in graph.inputs]
    return (
        f"{name} is random: leaving it out would integrate it out, which is no substitution and"
        f" ties its children together; only deterministic variables go. The marginal of the rest"
        f" is model[{', '.join(rest)}]"
    )
