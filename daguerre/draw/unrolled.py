"""Chains written out: the first time slices of a graph with lags, from left to right."""

from __future__ import annotations

from dataclasses import replace

from daguerre.draw.notation import Arrow, Figure, figure
from daguerre.graph import Graph, GraphError
from daguerre.structure.unroll import slices, unroll

__all__ = ["unrolled"]


def unrolled(graph: Graph, steps: int) -> Figure:
    r"""Picture the first time slices of a chain, $z_0 \to z_1 \to \dots$, from left to right.

    It is the graph that `dg.structure.unroll` gives, laid out so that time runs along a row.
    What reaches back before the first slice is left out: the picture shows no beginning.

    Args:
        graph: A graph with lagged parents; it may have one plate, that of time, around all.
        steps: How many slices.

    Raises:
        GraphError: No lagged parent, other plates, fewer than one step.

    Example:
        >>> chain = Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)])
        >>> [(a.source, a.target) for a in unrolled(chain, 2).arrows if a.level]
        [('z[0]', 'z[1]')]
    """
    inside = {v.plates for v in graph.variables}
    if len(inside) > 1 or len(graph.plates) > 1:
        names = ", ".join(plate.name for plate in graph.plates)
        raise GraphError(f"unrolled takes one plate at most, of time and around all, not {names}")
    picture = figure(unroll(Graph(replace(v, plates=()) for v in graph.variables), steps))
    times = {name: time for name, (_, time) in slices(graph, steps).items()}

    def along(arrow: Arrow) -> Arrow:
        ends = {times.get(arrow.source), times.get(arrow.target)} - {None}
        return replace(arrow, level=True) if len(ends) == 2 else arrow

    return replace(picture, arrows=tuple(map(along, picture.arrows)))
