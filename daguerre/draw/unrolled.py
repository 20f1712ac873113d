"""Chains written out: the first time slices of a graph with lags, from left to right."""

from __future__ import annotations

from dataclasses import replace

from daguerre.draw.labels import index
from daguerre.draw.notation import Arrow, Figure, figure
from daguerre.graph import Graph
from daguerre.structure.recurrence import TIME
from daguerre.structure.unroll import slices, unroll

__all__ = ["unrolled"]


def unrolled(graph: Graph, steps: int) -> Figure:
    r"""Picture the first time slices of a chain, $z_0 \to z_1 \to \dots$, from left to right.

    It is the graph that `dg.structure.unroll` gives, laid out so that time runs along a row.
    What reaches back before the first slice is left out: the picture shows no beginning. A plate
    called `t` or `T` is time; others are drawn around all slices of what they hold, and what is
    outside a plate of time holds for all slices.

    Args:
        graph: A graph with lagged parents.
        steps: How many slices.

    Raises:
        GraphError: No lagged parent, fewer than one step.

    Example:
        >>> chain = Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)])
        >>> [(a.source, a.target) for a in unrolled(chain, 2).arrows if a.level]
        [('z[0]', 'z[1]')]
    """
    chain = _with_time(graph)
    picture = figure(unroll(chain, steps))
    times = {name: time for name, (_, time) in slices(chain, steps).items()}

    def along(arrow: Arrow) -> Arrow:
        ends = {times.get(arrow.source), times.get(arrow.target)} - {None}
        return replace(arrow, level=True) if len(ends) == 2 else arrow

    return replace(picture, arrows=tuple(map(along, picture.arrows)))


def _with_time(graph: Graph) -> Graph:
    """Call the plate of time by its name."""
    new = {p.name: TIME if index(p) == TIME else p.name for p in graph.plates}
    plates = (replace(p, name=new[p.name]) for p in graph.plates)
    return Graph(
        (replace(v, plates=tuple(new[p] for p in v.plates)) for v in graph.variables), plates
    )
