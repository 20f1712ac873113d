"""Factor graphs: a square for each factor, lines to the variables it is a function of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from daguerre.draw.labels import label
from daguerre.draw.notation import Arrow, Figure, Node
from daguerre.graph import Graph, GraphError

__all__ = ["factor_figure"]


def factor_figure(
    factors: Graph | Mapping[str, Iterable[str]], *, observed: Iterable[str] = ()
) -> Figure:
    r"""Picture a product of factors, $\frac{1}{Z} \prod_c \psi_c(v_c)$.

    Args:
        factors: The variables of each factor, by the factor's name; of a directed model each CPD
            is a factor of a variable and its parents.
        observed: Names of the variables to shade.

    Raises:
        GraphError: No factor, a factor of nothing, one named as a variable is, or an observed
            name that no factor mentions.

    References:
        Kschischang, Frey and Loeliger (2001), Factor graphs and the sum-product algorithm.

    Example:
        >>> ring = factor_figure({"psi_1": "ab", "psi_2": "bc", "psi_3": "ca"}, observed="a")
        >>> [node.shape for node in ring.nodes].count("factor"), len(ring.arrows)
        (3, 6)
    """
    products = _conditionals(factors) if isinstance(factors, Graph) else factors
    scopes = {name: tuple(dict.fromkeys(scope)) for name, scope in products.items()}
    names = dict.fromkeys(name for scope in scopes.values() for name in scope)
    shaded = {*observed}
    for name in sorted(shaded - {*names}):
        raise GraphError(f"no factor mentions {name!r}, which is observed")
    for name, scope in scopes.items():
        if not scope:
            raise GraphError(f"the factor {name!r} is a function of no variable; leave it out")
    nodes = [Node(name, label(name), observed=name in shaded) for name in names]
    squares = [Node(name, _written(name), "factor") for name in scopes]
    lines: list[Arrow] = []
    placed: set[str] = set()
    for name, scope in scopes.items():
        lines += _lines(name, scope)
        if scope[-1] in placed:  # there may be no order from above to below: take two rows
            lines = [Arrow(n, f, undirected=True) for f in scopes for n in scopes[f]]
            break
        placed |= {*scope}
    return Figure((*nodes, *squares), tuple(lines))


def _conditionals(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {f"p({v.name})": (*v.parents, v.name) for v in graph.variables if v.map != "input"}


def _written(name: str) -> str:
    return "" if name.startswith("p(") else label(name)


def _lines(factor: str, scope: tuple[str, ...]) -> list[Arrow]:
    """Lines from all variables but the last, and one to it: read downwards."""
    *above, last = scope
    lines = [Arrow(name, factor, undirected=True) for name in above]
    return [*lines, Arrow(factor, last, undirected=True)]
