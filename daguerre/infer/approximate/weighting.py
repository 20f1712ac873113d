"""Weighted draws of the posterior, for rows of evidence: what all weighting methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.devices import on_device_of
from daguerre.discrete import state_count, states
from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.approximate.acts import Act, plan_acts
from daguerre.infer.approximate.passes import Known, Pass, draw_latent, run_pass
from daguerre.infer.approximate.proposals import Proposal, read_proposal
from daguerre.infer.evidence import Evidence
from daguerre.infer.joined import join_draws, join_rows, order_of
from daguerre.infer.product import Factors
from daguerre.infer.question import Question
from daguerre.joint import Factor, Joint
from daguerre.locate import located
from daguerre.program import Step, validation
from daguerre.rows import as_copies

__all__ = ["Distance", "Weighted", "Weighting", "joint_of", "plan_weighting", "weighted_draws"]

PASS = 20_000  # rows of evidence times draws that run at once
MOST = 4096  # states that are listed

Distance = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""Says how far simulations lie from what is known, `[draws, rows]`."""


@dataclass(frozen=True)
class Weighted:
    """Weighted draws.

    Attributes:
        values: Per target, `[draws, rows, *event]`.
        log_weights: `[draws, rows]`, in float64, without a simulation's nearness.
        distances: How far simulations of implicit variables lie from what is known,
            `[draws, rows]`; None where none is known.
        states: The states of the targets that are finite, `[k, *event]`.
    """

    values: dict[str, Tensor]
    log_weights: Tensor
    distances: Tensor | None
    states: dict[str, Tensor]


@dataclass(frozen=True)
class Weighting:
    """A plan: what is done with each variable, and what is proposed by q.

    Attributes:
        joint: The model.
        targets: The variables asked for.
        acts: What is done with each variable that matters, in order.
        proposal: q as a proposal.
    """

    joint: Joint
    targets: tuple[str, ...]
    acts: tuple[Act, ...]
    proposal: Proposal | None

    @property
    def latents(self) -> tuple[str, ...]:
        """The variables that are drawn."""
        return tuple(act.name for act in self.acts if act.kind == "draw")

    @property
    def simulated(self) -> tuple[str, ...]:
        """The known variables that are random maps: implicit, if their values are no states."""
        return tuple(act.name for act in self.acts if act.kind == "agree" and act.is_random)

    def run(self, known: Known) -> Pass:
        """Draw once for each row of what is known."""
        if self.proposal is None:
            return run_pass(self.joint.program, self.acts, known, draw_latent)
        proposed, log_density = self.proposal.draw(known)

        def latent(step: Step, cpd: Distribution) -> tuple[Tensor, Tensor | float]:
            if step.name not in proposed:
                return draw_latent(step, cpd)
            value = proposed[step.name]
            scores = cpd.log_prob(value)
            return value, scores.flatten(1).sum(1) if scores.dim() > 1 else scores

        found = run_pass(self.joint.program, self.acts, known, latent)
        found.log_weight = found.log_weight - log_density
        return found


def joint_of(question: Question) -> Joint:
    """Return the directed model that is asked.

    Raises:
        InadmissibleError: It is a product of tables, which cannot be drawn forwards.
    """
    if isinstance(question.subject, Factors):
        raise InadmissibleError(
            "a product of tables has no direction to draw in, so approximate methods do not take"
            " it; leave out method and q for the exact answer"
        )
    return question.subject


def plan_weighting(question: Question, q: Factor | Joint | None = None) -> Weighting:
    """Plan weighted draws; nothing is drawn yet.

    Raises:
        GraphError: q does not fit the model.
        InadmissibleError: A bijection that cannot be inverted, a q without density.
    """
    joint, evidence = joint_of(question), question.evidence
    complete = {n for n in evidence.values if n not in evidence.missing}
    proposal = None if q is None else read_proposal(joint, q, complete)
    asked = {*question.targets, *evidence.values, *evidence.soft}
    asked |= set(proposal.names if proposal else ())
    needed = {*asked, *joint.graph.ancestors(asked)}
    if lost := [n for n in joint.given if n in needed and n not in complete]:
        raise GraphError(f"{', '.join(lost)} must be given in every row, [rows, *event]")
    acts = plan_acts(joint.graph, needed, complete, evidence.missing)
    return Weighting(joint, question.targets, acts, proposal)


def weighted_draws(
    question: Question, draws: int, *, q: Factor | Joint | None, distance: Distance | None = None
) -> Weighted:
    """Draw for every row of evidence.

    Args:
        question: What is asked.
        draws: How many draws for each row.
        q: What proposes latent variables; the model itself, if None.
        distance: Compares simulations with what is known; without one, a known implicit variable
            is refused.
    """
    found: list[Weighted] = []
    parts: list[Tensor] = []
    with (
        torch.no_grad(),
        located(),
        validation(enabled=False),
        on_device_of([*joint_of(question).modules, *_modules(q)]),
    ):
        for rows, part in _apart(question, q):
            plan = plan_weighting(part, q)
            for chunk in torch.arange(len(rows)).split(max(1, PASS // draws)):
                found.append(_draw(plan, _some(part.evidence, chunk), draws, distance))
                parts.append(rows[chunk])
    return _join(found, parts)


def _modules(q: Factor | Joint | None) -> tuple[torch.nn.Module, ...]:
    if isinstance(q, Joint):
        return q.modules
    return (q,) if isinstance(q, torch.nn.Module) else ()


def _apart(question: Question, q: Factor | Joint | None) -> Iterator[tuple[Tensor, Question]]:
    """Split rows that lack different variables, where a map or q asks for that."""
    graph, missing = joint_of(question).graph, question.evidence.missing
    proposed = set() if q is None else {*q.graph.names}
    if any(graph[n].map == "deterministic" or n in proposed for n in missing):
        for rows in question.evidence.patterns():
            yield rows, question.rows(rows)
    else:
        yield torch.arange(question.evidence.rows), question


def _draw(plan: Weighting, evidence: Evidence, draws: int, distance: Distance | None) -> Weighted:
    """Draw for a few rows, as many draws at a time as run at once."""
    rows, passes = evidence.rows, []
    for chunk in torch.arange(draws).split(max(1, PASS // rows)):
        known = _tiled(evidence, len(chunk))
        found = plan.run(known)
        passes.append(_weighted(plan, found, known, rows, distance))
    return Weighted(
        {n: torch.cat([p.values[n] for p in passes]) for n in plan.targets},
        torch.cat([p.log_weights for p in passes]),
        None
        if distance is None
        else torch.cat([p.distances for p in passes if p.distances is not None]),
        passes[0].states,
    )


def _some(evidence: Evidence, rows: Tensor) -> Evidence:
    """Return some rows with all variables, also those that they lack."""
    parts = (evidence.values, evidence.missing, evidence.soft)
    values, missing, soft = ({n: v[rows] for n, v in part.items()} for part in parts)
    return Evidence(len(rows), values, missing, soft, evidence.marked)


def _tiled(evidence: Evidence, copies: int) -> Known:
    """Return evidence with its rows repeated, `[copies * rows, ...]`."""

    def tiled(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            n: v.expand(copies, *v.shape).flatten(0, 1) if copies > 1 else v
            for n, v in values.items()
        }

    return Known(
        copies * evidence.rows,
        tiled(evidence.values),
        frozenset(evidence.missing),
        tiled(evidence.soft),
    )


def _weighted(
    plan: Weighting, found: Pass, known: Known, rows: int, distance: Distance | None
) -> Weighted:
    logs = torch.as_tensor(found.log_weight, dtype=torch.float64).expand(known.rows)
    if bool(logs.isnan().any()):
        row = int(logs.isnan().nonzero()[0]) % rows
        raise GraphError(f"a draw for row {row} of the evidence has a density that is NaN")
    if found.simulated and distance is None:
        name = next(iter(found.simulated))
        raise InadmissibleError(
            f"{name} is implicit: a deterministic function of random variables without a density,"
            f" so draws cannot be weighed by it; use method=dg.infer.ABC(), or observe"
            f" Normal({name}, scale)"
        )
    apart = None
    if distance is not None:
        seen = {n: as_copies(found.values[n], rows) for n in found.simulated}
        apart = distance({n: as_copies(v, rows) for n, v in found.simulated.items()}, seen)
    return Weighted(
        {n: as_copies(found.values[n], rows) for n in plan.targets},
        as_copies(logs, rows),
        apart,
        {n: listed for n in plan.targets if (listed := _states(plan, found, n)) is not None},
    )


def _states(plan: Weighting, found: Pass, name: str) -> Tensor | None:
    """Return the states of a variable whose CPD lists them."""
    outcome, is_root = found.outcomes.get(name), plan.joint.program.by_name[name].is_root
    if not isinstance(outcome, Distribution):
        return None
    count = state_count(outcome, is_root=is_root)
    return states(outcome, is_root=is_root) if count and count <= MOST else None


def _join(parts: list[Weighted], rows: list[Tensor]) -> Weighted:
    """Put the rows together again."""
    apart, order = [p.distances for p in parts if p.distances is not None], order_of(rows)
    return Weighted(
        join_draws([p.values for p in parts], order),
        join_rows([p.log_weights for p in parts], order, 1),
        join_rows(apart, order, 1) if apart else None,
        parts[0].states,
    )
