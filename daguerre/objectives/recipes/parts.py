"""Parts of models that the recipes need: what draws some variables, what has a density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from torch import Tensor, nn
from torch.distributions import Laplace

from daguerre.compose import Composed
from daguerre.graph import Graph, GraphError
from daguerre.joint import Empirical, Joint, as_joint
from daguerre.model import Model
from daguerre.program import Outcome, Step

__all__ = ["Fixed", "drawn_by", "encoded", "ends_of", "held_fixed", "with_density"]


@final
@dataclass(frozen=True)
class Fixed:
    """A factor whose parameters, if any, do not move.

    Attributes:
        graph: Its graph.
        parts: Its steps.
    """

    graph: Graph
    parts: tuple[Step, ...]

    def steps(self) -> tuple[Step, ...]:
        """Return one step per variable."""
        return self.parts


@final
class Around(nn.Module):
    """A deterministic CPD made a density: Laplace of scale 1 around its output."""

    def __init__(self, owner: Model, step: Step) -> None:
        super().__init__()
        self.owner, self.step = owner, step

    def forward(self, *parents: Tensor) -> Outcome:
        """Return the distribution."""
        assert self.step.cpd is not None
        centre = self.step.cpd(*parents)
        assert isinstance(centre, Tensor)
        return Laplace(centre, 1.0)


def drawn_by(p: Model, q: Model) -> tuple[str, ...]:
    """Return the variables of p that q draws, in the order of p; of q alone, last."""
    own = [n for n in q.graph.names if n not in q.graph.inputs]
    shared = [n for n in p.graph.names if n in own]
    return tuple(shared or own)


def encoded(p: Model, q: Model, names: tuple[str, ...]) -> Joint:
    """Return the joint of the data, inputs of p included, and q."""
    return Empirical((*names, *p.graph.inputs)) * q


def held_fixed(p: Model) -> Joint:
    """Return the joint of a model whose parameters do not move."""
    return as_joint(Fixed(p.graph, p.steps()))


def ends_of(forward: Model, backward: Model) -> tuple[str, str]:
    """Return the variables between which two models lead to and fro."""
    ends = (*forward.graph.inputs, *backward.graph.inputs)
    if len({*ends}) == len(ends) == 2 and ends[1] in forward.graph and ends[0] in backward.graph:
        return ends[0], ends[1]
    raise GraphError(
        "forward takes one input a and draws b, backward takes b and draws a; these are"
        f" {forward.graph!r} and {backward.graph!r}"
    )


def with_density(model: Model, name: str) -> Model:
    """Return the model, its variable spread by a Laplace where it is deterministic."""
    variable = model.graph[name]
    if variable.map == "stochastic" or variable.inverts is not None:
        return model
    step = next(s for s in model.steps() if s.name == name)
    graph = model.graph.with_variables(replace(variable, map="stochastic"))
    return Composed(graph, {name: Around(model, step)}, base=model)
