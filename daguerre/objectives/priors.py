"""Part of a model as a factor of its own: what it draws before anything else is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from daguerre.declare import Input
from daguerre.graph import Graph
from daguerre.joint import Joint
from daguerre.model import Model
from daguerre.program import Step

__all__ = ["Prior", "prior"]


def prior(p: Model, names: Iterable[str]) -> Joint:
    r"""Return $p(z)$ as a joint that multiplies with what gives the other variables of p.

    `p["z"]` is the marginal of z in p, a joint that has x inside; `data("x") * prior(p, ["z"])` is
    $p_{\mathrm{data}}(x)\, p(z)$, in which x and z are independent.

    Args:
        p: The model.
        names: Variables of p; their ancestors come along.

    Raises:
        GraphError: An unknown variable.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> (dg.data("x") * prior(p, ["z"])).graph
        Graph(-> x; -> z)
    """
    names = tuple(p.graph[n].name for n in names)
    return Joint((Prior(p, names),), names)


@final
class Prior(Model):
    """Some variables of a model and their ancestors, with its CPDs."""

    def __init__(self, base: Model, names: tuple[str, ...]) -> None:
        super().__init__()
        self.base = base
        kept = {*names, *base.graph.ancestors(names)}
        self.graph = Graph(v for v in base.graph.variables if v.name in kept)

    def inputs(self) -> dict[str, Input]:
        """Return the declared inputs."""
        return {n: i for n, i in self.base.inputs().items() if n in self.graph}

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the base that are kept."""
        return tuple(step for step in self.base.steps() if step.name in self.graph)
