"""Chains in words and formulas: variables with their steps, and the density in LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from daguerre.draw.labels import label
from daguerre.graph import Graph
from daguerre.joint import Joint
from daguerre.shapes import Shape
from daguerre.structure.recurrence import temporal

__all__ = ["density_over_time", "is_chain", "over_time"]


def is_chain(joint: Joint) -> bool:
    """Whether a joint has parents in earlier time slices."""
    return bool(joint.graph.adjacency.lagged)


def over_time(joint: Joint, name: str, steps: str = "1:T") -> str:
    """Write a variable with its steps, as text: `x[1:T]`; as it is, if it holds for all time."""
    return f"{name}[{steps}]" if name in temporal(joint.graph) else name


def density_over_time(
    graph: Graph, scored: Iterable[str], hidden: Iterable[str], shapes: Mapping[str, Shape]
) -> str:
    r"""Write the density of what is observed of a chain.

    Args:
        graph: The graph.
        scored: The variables that have a density, parents first.
        hidden: Those of them that are summed or integrated out.
        shapes: What is known of a slice.

    Example:
        >>> import daguerre as dg
        >>> g = Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)])
        >>> print(density_over_time(g, ["z", "x"], ["z"], {"z": Shape((), states=2)}))
        \sum_{z_{1:T}} \prod_{t=1}^{T} p_\theta(z_{t} \mid z_{t-1})\, p_\theta(x_{t} \mid z_{t})
    """

    def factor(name: str) -> str:
        variable = graph[name]
        given = [label(parent, ["t"]) for parent in variable.parents]
        given += [label(lag.variable, [f"t-{lag.steps}"]) for lag in variable.lags]
        bar = rf" \mid {', '.join(given)}" if given else ""
        return rf"p_\theta({label(name, ['t'])}{bar})"

    body = r"\prod_{t=1}^{T} " + r"\, ".join(map(factor, scored))
    hidden = tuple(hidden)
    finite = [n for n in hidden if n in shapes and shapes[n].states]
    if others := [label(n, ["1:T"]) for n in hidden if n not in finite]:
        body = rf"\int {body}\, " + r"\, ".join(rf"\mathrm{{d}}{n}" for n in others)
    names = ", ".join(label(n, ["1:T"]) for n in finite)
    return rf"\sum_{{{names}}} {body}" if finite else body
