"""Chains written out: the first time slices of a graph with lags, from left to right."""

from __future__ import annotations

from dataclasses import replace

from daguerre.draw.notation import Arrow, Figure, figure
from daguerre.graph import Graph, GraphError, Variable

__all__ = ["unrolled"]


def unrolled(graph: Graph, steps: int) -> Figure:
    r"""Picture the first time slices of a chain, $z_1 \to z_2 \to \dots$, from left to right.

    What reaches back before the first slice is left out: the picture shows no beginning. Every
    variable has a value in each slice.

    Args:
        graph: A graph with lagged parents; it may have one plate, that of time, around all.
        steps: How many slices.

    Raises:
        GraphError: No lagged parent, or other plates.
        ValueError: Fewer than one step.

    Example:
        >>> chain = Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)])
        >>> [(a.source, a.target) for a in unrolled(chain, 2).arrows]
        [('z_1', 'x_1'), ('z_2', 'x_2'), ('z_1', 'z_2')]
    """
    if steps < 1:
        raise ValueError(f"unrolled draws time slices from 1, not {steps}")
    inside = {v.plates for v in graph.variables}
    if len(inside) > 1 or len(graph.plates) > 1:
        names = ", ".join(plate.name for plate in graph.plates)
        raise GraphError(f"unrolled takes one plate at most, of time and around all, not {names}")
    if not any(v.lags for v in graph.variables):
        raise GraphError("no variable has a parent in an earlier time slice: there is no chain")
    times = range(1, steps + 1)
    slices = (_at(v, t) for t in times for v in graph.variables)
    picture = figure(Graph(slices))
    along = (
        Arrow(
            f"{lag.variable}_{t - lag.steps}",
            f"{v.name}_{t}",
            deterministic=v.map == "deterministic",
            level=True,
        )
        for t in times
        for v in graph.variables
        for lag in v.lags
        if t > lag.steps
    )
    return replace(picture, arrows=(*picture.arrows, *along))


def _at(variable: Variable, time: int) -> Variable:
    parents = tuple(f"{parent}_{time}" for parent in variable.parents)
    name = f"{variable.name}_{time}"
    return replace(variable, name=name, parents=parents, lags=(), plates=())
