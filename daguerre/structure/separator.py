"""Small sets of variables that make others independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set

from daguerre.graph import Graph, HasGraph, graph_of
from daguerre.structure.names import Names, check_apart, check_static, read_names
from daguerre.structure.separation import independent

__all__ = ["minimal_separator"]


def minimal_separator(
    g: Graph | HasGraph, xs: Names, ys: Names, *, given: Names = (), deterministic: bool = True
) -> tuple[str, ...] | None:
    """Return a set that separates xs from ys and of which nothing can be left out.

    If any set of ancestors separates them, all ancestors of xs, ys and `given` do (van der
    Zander and Liskiewicz 2020); a declared bijection below them may determine one of them as
    well. What is not needed is then dropped, what lies far from xs first.

    Args:
        g: The graph, or a model.
        xs: One variable or several.
        ys: One variable or several.
        given: Variables that the set must hold.
        deterministic: False for plain d-separation.

    Returns:
        Names in order of declaration, those of `given` included, or None where nothing separates
        the two. No single variable but those of `given` can be left out. Inputs are always given
        and never named.

    Raises:
        GraphError: As for `independent`.

    References:
        van der Zander and Liskiewicz (2020), *Finding minimal d-separators in linear time*, UAI.

    Example:
        >>> g = Graph.from_edges([("a", "b"), ("b", "c"), ("a", "d"), ("d", "c")])
        >>> minimal_separator(g, "a", "c"), minimal_separator(g, "a", "b")
        (('b', 'd'), None)
    """
    graph = check_static(graph_of(g))
    sides = (read_names(graph, xs, "xs"), read_names(graph, ys, "ys"))
    kept = read_names(graph, given, "given")
    check_apart(xs=sides[0], ys=sides[1], given=kept)

    def separates(names: Names) -> bool:
        return independent(graph, *sides, given=names, deterministic=deterministic)

    for candidates in _candidates(graph, sides, kept):
        if separates(candidates):
            return _pruned(graph, candidates, kept, separates)
    return None


def _candidates(
    graph: Graph, sides: tuple[tuple[str, ...], tuple[str, ...]], kept: tuple[str, ...]
) -> Iterator[list[str]]:
    """Yield sets to start from: what lies above the question, and what recovers it from below."""
    asked = {*sides[0], *sides[1]}
    above = {*kept, *graph.ancestors([*asked, *kept])}

    def allowed(names: Set[str]) -> list[str]:
        return [n for n in graph.names if n in names and n not in asked and n not in graph.inputs]

    yield allowed(above)
    recovered, frontier = set[str](), [*asked, *above]
    while frontier:
        name = frontier.pop()
        below = [c for c in graph.children(name) if graph[c].inverts == name]
        frontier += [c for c in below if c not in recovered]
        recovered.update(below)
    yield allowed(above | recovered | graph.ancestors(recovered))


def _pruned(
    graph: Graph, names: list[str], kept: tuple[str, ...], separates: Callable[[Names], bool]
) -> tuple[str, ...]:
    """Drop halves, quarters and single variables for as long as the rest separates."""
    size = len(names)
    while size:
        dropped = False
        for start in range(0, len(names), size):
            rest = [n for i, n in enumerate(names) if n in kept or not start <= i < start + size]
            if len(rest) < len(names) and separates(rest):
                names, dropped = rest, True
                break
        if not dropped:
            size //= 2
    return tuple(n for n in graph.names if n in {*names})
