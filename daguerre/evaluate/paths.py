r"""A model's latents as free numbers, given what is observed: what annealing moves in.

Each latent $z = T(u)$ is the image of free numbers under the bijection that torch gives for its
support, so that $\log p(u) = \log p(z) + \log |\det \partial T / \partial u|$.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to
from torch.distributions.constraints import Constraint

from daguerre.families import support
from daguerre.graph import InadmissibleError
from daguerre.joint import as_joint
from daguerre.model import Model
from daguerre.program import Program, Step, Trace, realise
from daguerre.running import draw
from daguerre.scoring import negative_log_density, obstacle, sum_event

__all__ = ["Latent", "Point", "latent_of"]


class Point(NamedTuple):
    """Free numbers `[rows, size]` with their log-densities `[rows]`.

    Attributes:
        free: The numbers.
        prior: log p(u).
        likelihood: log p(x | u).
    """

    free: Tensor
    prior: Tensor
    likelihood: Tensor


@dataclass(frozen=True)
class Latent:
    """The latent variables of a model as free numbers.

    Attributes:
        program: The steps of the model.
        shapes: Of each latent variable, the shape of its free numbers in a row.
    """

    program: Program
    shapes: Mapping[str, torch.Size]

    def at(self, free: Tensor, given: Mapping[str, Tensor]) -> Point:
        """Score free numbers `[rows, size]` with the observed rows, in float64 sums."""
        values, parts = dict(given), free.split([s.numel() for s in self.shapes.values()], 1)
        each = dict(zip(self.shapes, parts, strict=True))
        prior = likelihood = torch.zeros(len(free), dtype=torch.float64)
        for step in self.program.steps:
            if step.variable.map == "input":
                continue
            outcome = step.outcome(values)
            if step.name in self.shapes:
                value, weight = self._latent(step, outcome, each[step.name])
                values[step.name], prior = value, prior + weight
            elif step.variable.map == "stochastic":
                trace = Trace(values, {step.name: outcome})
                likelihood = likelihood - negative_log_density(step, trace)
            else:
                values[step.name] = realise(step, outcome, values, len(free), pathwise=True)
        return Point(free, prior, likelihood)

    def _latent(self, step: Step, outcome: object, free: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(outcome, Distribution), "a latent is drawn"
        free = free.reshape(len(free), *self.shapes[step.name])
        transform = biject_to(_continuous(step, outcome))
        value = transform(free)
        assert isinstance(value, Tensor)
        jacobian = sum_event(transform.log_abs_det_jacobian(free, value))
        trace = Trace({step.name: value}, {step.name: outcome})
        return value, jacobian - negative_log_density(step, trace)

    def draw(self, given: Mapping[str, Tensor], rows: int) -> Tensor:
        """Draw free numbers `[rows, size]` from their prior, what is observed held fixed."""
        return self.free(draw(self.program, rows, given, pathwise=False).values)

    def free(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the free numbers `[rows, size]` of values of all variables."""
        parts = []
        for step in self.program.steps:
            if step.name in self.shapes:
                outcome = step.outcome(values)
                assert isinstance(outcome, Distribution), "a latent is drawn"
                free = biject_to(_continuous(step, outcome)).inv(values[step.name])
                assert isinstance(free, Tensor)
                parts.append(free.reshape(len(free), -1))
        return torch.cat(parts, 1)


def latent_of(p: Model, observed: Mapping[str, Tensor], what: str) -> Latent:
    """Read the latents of a model off one draw, or say why they cannot be moved.

    Args:
        p: The model.
        observed: Values of what is not latent.
        what: Who asks, for messages.

    Raises:
        InadmissibleError: Plates or time; an observed variable without a density; a latent that
            is discrete, or draws of which carry no gradient; no latent at all.
    """
    program = as_joint(p).program
    if program.plates:
        raise InadmissibleError(
            f"{what} moves the latents of one row of data, but {', '.join(program.plates)} repeat"
            " in plates or time; take dg.log_evidence(p, ...), or dg.recipes.fivo for chains"
        )
    for name in observed:
        if program.graph[name].map == "deterministic":
            said = obstacle(program.graph, name) or f"{name} is a function of other variables"
            raise InadmissibleError(f"{what} takes the density of what is observed. {said}")
    given = {n: observed[n][:1] for n in program.graph.inputs}
    values = p.sample(1, given)
    shapes: dict[str, torch.Size] = {}
    for step in program.steps:
        if step.variable.map == "stochastic" and step.name not in observed:
            outcome = step.outcome(values)
            assert isinstance(outcome, Distribution), "a latent is drawn"
            allowed = _continuous(step, outcome)
            shapes[step.name] = biject_to(allowed).inverse_shape(values[step.name].shape)[1:]
    if not shapes:
        raise InadmissibleError(
            f"{what} has nothing to move: every variable is observed, so p.log_prob(x) is exact"
        )
    return Latent(program, shapes)


def _continuous(step: Step, outcome: Distribution) -> Constraint:
    allowed = support(outcome)
    if allowed is None or allowed.is_discrete or not outcome.has_rsample:
        raise InadmissibleError(
            f"{step.name} ~ {type(outcome).__name__} is discrete or its draws carry no gradient,"
            " and Hamiltonian moves follow one: sum it out (dg.log_evidence), or take IWAE with a"
            " q, which draws it"
        )
    return allowed
