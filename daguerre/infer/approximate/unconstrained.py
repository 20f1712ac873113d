r"""The posterior of continuous variables as a density over the whole space.

Each latent variable $z = T(u)$ is the image of free numbers under the bijection that
`torch.distributions.biject_to` gives for its support, so
$\log p(u, e) = \log p(z, e) + \log |\det \partial T / \partial u|$. A support may depend on other
latent variables: the bijection is made anew in every pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to
from torch.distributions.constraints import Constraint

from daguerre.families import support
from daguerre.graph import InadmissibleError
from daguerre.infer.approximate.acts import Act
from daguerre.infer.approximate.passes import Known, Pass, draw_latent, run_pass
from daguerre.infer.approximate.weighting import Weighting
from daguerre.infer.evidence import Evidence
from daguerre.program import Program, Step
from daguerre.scoring import sum_event

__all__ = ["Unconstrained", "unconstrained"]


@dataclass(frozen=True)
class Unconstrained:
    """The log-density of free numbers, for one row of evidence.

    Attributes:
        program: The steps of the model.
        acts: What is done with each variable.
        evidence: One row.
        shapes: Per latent variable, the shape of its free numbers: `[members, *event]`.
        dtype: Of the free numbers.
    """

    program: Program
    acts: tuple[Act, ...]
    evidence: Evidence
    shapes: Mapping[str, torch.Size]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """How many free numbers there are."""
        return sum(shape.numel() for shape in self.shapes.values())

    def run(self, free: Tensor) -> Pass:
        """Map free numbers `[n, size]` to values, and weigh them: `log_weight` is the density."""
        parts = free.split([shape.numel() for shape in self.shapes.values()], 1)
        each = {
            name: part.reshape(len(free), *shape).transpose(0, 1).flatten(0, 1)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }  # members slowest, as rows are

        def latent(step: Step, cpd: Distribution) -> tuple[Tensor, Tensor]:
            transform = biject_to(_continuous(step, cpd))
            value = transform(each[step.name])
            assert isinstance(value, Tensor)
            jacobian = transform.log_abs_det_jacobian(each[step.name], value)
            return value, sum_event(cpd.log_prob(value)) + sum_event(jacobian)

        return run_pass(self.program, self.acts, _known(self.evidence, len(free)), latent)


def unconstrained(plan: Weighting, evidence: Evidence) -> Unconstrained:
    """Read the shapes of the latent variables off one draw.

    Args:
        plan: What is drawn and what is weighed.
        evidence: One row.

    Raises:
        InadmissibleError: A latent variable is discrete, a known one implicit or partly known.
    """
    for name in plan.simulated:
        raise InadmissibleError(
            f"{name} is implicit: a deterministic function of random variables without a density;"
            f" use method=dg.infer.ABC(), or observe Normal({name}, scale)"
        )
    needed = {act.name for act in plan.acts}
    for name in evidence.missing:
        if below := sorted({*plan.joint.graph.children(name)} & needed):
            raise InadmissibleError(
                f"{name} is known in part, and {', '.join(below)} depends on all of it: NUTS takes"
                f" {name} whole or not at all; split it in two variables, or use likelihood"
                " weighting"
            )
    shapes: dict[str, torch.Size] = {}
    types: list[torch.dtype] = []

    def latent(step: Step, cpd: Distribution) -> tuple[Tensor, float]:
        value, weight = draw_latent(step, cpd)
        shapes[step.name] = biject_to(_continuous(step, cpd)).inverse_shape(value.shape)
        types.append(value.dtype)
        return value, weight

    run_pass(plan.joint.program, plan.acts, _known(evidence, 1), latent)
    return Unconstrained(plan.joint.program, plan.acts, evidence, shapes, _widest(types))


def _widest(types: Sequence[torch.dtype]) -> torch.dtype:
    widest = torch.float32
    for dtype in types:
        widest = torch.promote_types(widest, dtype)
    return widest


def _continuous(step: Step, cpd: Distribution) -> Constraint:
    """Return the support of a latent variable.

    Raises:
        InadmissibleError: The variable is discrete, or its support is not declared.
    """
    allowed = support(cpd)
    if allowed is None:
        raise InadmissibleError(f"{step.name}: {type(cpd).__name__} does not declare its support")
    if cpd.support is not None and cpd.support.is_discrete:
        raise InadmissibleError(
            f"{step.name} ~ {type(cpd).__name__} is discrete, and NUTS moves in continuous space:"
            f" observe it, sum it out in the CPD that it leads to (MixtureSameFamily), or use"
            " likelihood weighting"
        )
    return allowed


def _known(evidence: Evidence, rows: int) -> Known:
    """Return the one row of evidence, repeated."""
    values, soft = (
        {n: v.expand(rows, *v.shape[1:]) for n, v in part.items()}
        for part in (evidence.values, evidence.soft)
    )
    return Known(rows, values, frozenset(evidence.missing), soft)
