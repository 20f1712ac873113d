"""Models with plates as models without: a variable per member, with the same CPDs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import final

from torch import Tensor, nn

from daguerre.cpds import Conditional
from daguerre.declare import Input
from daguerre.graph import GraphError, Variable
from daguerre.joint import Factor, Joint, as_joint
from daguerre.lags import Past
from daguerre.model import Model
from daguerre.program import Step
from daguerre.structure.spread import members, plates_of, spread

__all__ = ["Spread"]


@final
class Spread(Model):
    r"""A model whose plates are written out: `theta[0]`, `theta[1]`, ... and no plate.

    The joint stays what it was, and the parameters are shared. What is known of models without
    plates then holds for it: exact inference, questions of independence, pictures.

    Args:
        base: The model, or a joint.
        sizes: The size of each plate whose declaration does not tell it.

    Raises:
        GraphError: As for `structure.spread`.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> school, given_mu = dg.Plate("school"), dg.rv(lambda mu: Normal(mu, 1.0))
        >>> p = dg.model(mu=Normal(0.0, 1.0), theta=school(given_mu))
        >>> two = Spread(p, {"school": 2})
        >>> two.graph
        Graph(-> mu; mu -> theta[0]; mu -> theta[1])
        >>> theta = torch.tensor([[1.0, 2.0]])
        >>> two.log_prob({"mu": torch.zeros(1), **two.apart({"theta": theta})})
        tensor([-5.2568])
    """

    def __init__(self, base: Factor | Joint, sizes: Mapping[str, int] | None = None) -> None:
        super().__init__()
        joint = as_joint(base)
        declared = {p.name: p.size for p in joint.graph.plates if p.size is not None}
        self.graph = spread(joint.graph, sizes)
        self.joint, self.bases = joint, nn.ModuleList(joint.modules)
        self.sizes = {**declared, **(sizes or {})}
        self.members = members(joint.graph, self.sizes)

    def inputs(self) -> dict[str, Input]:
        """Return the declared inputs, one per member."""
        models = [m for m in self.joint.modules if isinstance(m, Model)]
        declared = {n: one for model in models for n, one in model.inputs().items()}
        inputs = {n: one for n, one in declared.items() if n in self.joint.graph.inputs}
        return {name: one for n, one in inputs.items() for name in self.members[n]}

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the model, once per member."""
        origin = {name: base for base, names in self.members.items() for name in names}
        return tuple(
            self._step(v, self.joint.by_name[origin[v.name]]) for v in self.graph.variables
        )

    def _step(self, v: Variable, step: Step) -> Step:
        cpd, own = step.cpd, dict.fromkeys(plates_of(self.joint.graph, step.name), 0)
        if isinstance(cpd, Conditional) and own:
            cpd = cpd.renamed(*v.parents)
        pairs = zip(step.past, v.lags, strict=True)
        past = tuple(Past(lag.variable, one.steps, one.start) for one, lag in pairs)
        return replace(step, variable=v, cpd=cpd, past=past, repeat=None)

    def apart(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cut values `[n, *plates, *event]` into members, `[n, *event]` each.

        Raises:
            GraphError: A shape that does not begin with the sizes of the plates.
        """
        cut: dict[str, Tensor] = {}
        for name, value in values.items():
            own = plates_of(self.joint.graph, name)
            sizes = [self.sizes[plate] for plate in own]
            if [*value.shape[1 : 1 + len(own)]] != sizes:
                raise GraphError(
                    f"{name} is [n, {', '.join(own)}, *event] with the sizes {sizes}, but has the"
                    f" shape {list(value.shape)}"
                )
            each = value.flatten(1, len(own)).unbind(1) if own else (value,)
            cut |= dict(zip(self.members[name], each, strict=True))
        return cut
