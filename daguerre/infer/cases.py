"""Finite variables that hold for all time and are unknown: a chain for each of their states.

Given them, what is left is a chain. Its answers are averaged over the cases, each by its
probability given the evidence: conditioning on a cutset.

References:
    Pearl (1988), *Probabilistic Reasoning in Intelligent Systems*, section 4.3; Smyth (1997),
    *Clustering sequences with hidden Markov models*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.discrete import split_numbers, state_count, states
from daguerre.graph import InadmissibleError
from daguerre.infer.answer import Answer, Most, check_names
from daguerre.infer.distributions import finite_of
from daguerre.infer.joined import mixed
from daguerre.infer.plan import Part, Plan
from daguerre.joint import Joint
from daguerre.program import Outcome, Step, realise
from daguerre.rows import is_missing

__all__ = ["Cases"]

MOST = 2**16  # cases


@dataclass(frozen=True, eq=False)
class Cases:
    """The states that some variables may have for all time.

    Attributes:
        states: The value of each of these variables in each of the S cases, `[S, *event]`.
        log_prior: The log-probability of each case and of what is known for all time,
            `[rows, S]`.
        prior: The model of both.
        values: Its variables in all cases, `[rows S, *event]`.
    """

    states: Mapping[str, Tensor]
    log_prior: Tensor
    prior: Joint
    values: Mapping[str, Tensor]

    @classmethod
    def of(
        cls, prior: Joint, names: Sequence[str], values: Mapping[str, Tensor], rows: int
    ) -> Cases:
        """List the states of variables.

        Args:
            prior: The model of these variables, and of what else holds for all time.
            names: The variables, some values of which are unknown.
            values: What is known for all time, `[rows, *event]`.
            rows: How many rows there are.

        Raises:
            InadmissibleError: A variable is not finite, or there are too many cases.
        """
        known = {name: value for name, value in values.items() if name not in names}
        each = _supports(prior, names, {name: value[:1] for name, value in known.items()})
        counts = [len(value) for value in each.values()]
        count = prod(counts)
        numbers = split_numbers(torch.arange(count), counts)
        pairs = zip(each.items(), numbers, strict=True)
        cases = {name: value[number.to(value.device)] for (name, value), number in pairs}
        whole = {name: value.repeat_interleave(count, 0) for name, value in known.items()}
        whole |= {name: _per_row(value, rows) for name, value in cases.items()}
        log_prior = prior.log_prob(whole).unflatten(0, (rows, count))
        for name in values.keys() & cases.keys():  # known in some rows
            fits = is_missing(values[name])[:, None] | _same(values[name], cases[name])
            log_prior = log_prior.where(fits, -torch.inf)
        return cls(cases, log_prior, prior, whole)

    @property
    def count(self) -> int:
        """How many cases there are."""
        return self.log_prior.shape[1]

    def enter(self, values: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
        """Repeat values `[rows, T, *event]` for the cases, and add the variables of these."""
        found = {
            name: value.repeat_interleave(self.count, 0)
            for name, value in values.items()
            if name not in self.states
        }
        for name, value in self.states.items():
            whole = _per_row(value, len(self.log_prior)).unsqueeze(1)
            found[name] = whole.expand(-1, steps, *value.shape[1:])
        return found

    def over_time(self, targets: Sequence[str]) -> tuple[str, ...]:
        """Return those of some variables that do not hold for all time."""
        return tuple(name for name in targets if name not in self.states)

    def total(self, log_evidence: Tensor) -> Tensor:
        """Return the log-evidence `[rows]` of that of all cases, `[rows S]`."""
        return self._joint(log_evidence).logsumexp(1)

    def _joint(self, log_evidence: Tensor) -> Tensor:
        return log_evidence.unflatten(0, self.log_prior.shape) + self.log_prior

    def answer(self, found: Answer, targets: Sequence[str]) -> Answer:
        """Average an answer of all cases, whose rows are `[rows S]`.

        Args:
            found: The answer for the targets that have time slices.
            targets: All targets.
        """
        log_weights = self._joint(found.log_evidence).log_softmax(1)
        weights = log_weights.exp()
        marginals = {name: mixed(one, weights) for name, one in found.marginals.items()}
        marginals |= {n: finite_of(weights, v) for n, v in self.states.items() if n in targets}

        def draw(n: int) -> dict[str, Tensor]:
            chosen = torch.multinomial(weights.detach(), n, replacement=True).T
            first = torch.arange(len(weights), device=chosen.device) * self.count
            each = torch.arange(n, device=chosen.device)[:, None]
            drawn = {name: one[each, first + chosen] for name, one in found.draw(n).items()}
            drawn |= {n: v[chosen.to(v.device)] for n, v in self.states.items() if n in targets}
            return {name: drawn[name] for name in targets}

        def density_of(values: Mapping[str, Tensor]) -> Tensor:
            check_names(values, tuple(targets))
            return self._density(found.density, log_weights, values)

        return replace(
            found,
            targets=tuple(targets),
            marginals={name: marginals[name] for name in targets},
            log_evidence=self.total(found.log_evidence),
            draw=draw,
            diagnostics={name: self._least(one) for name, one in found.diagnostics.items()},
            density=None if found.density is None else density_of,
        )

    def _density(self, density: Any, log_weights: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Return that of values `[rows, T, *event]`, constant where they hold for all time."""
        moving = {n: values[n].repeat_interleave(self.count, 0) for n in self.over_time([*values])}
        each = log_weights + (density(moving).view_as(log_weights) if moving else 0.0)
        for name, state in self.states.items():
            if name in values:
                each = each.where(_same(values[name][:, 0], state), -torch.inf)
        return each.logsumexp(1)

    def _least(self, one: Any) -> Any:
        """Return the worst of the cases, of which many say little."""
        if not isinstance(one, Tensor) or not one.dim():
            return one
        return one.unflatten(0, self.log_prior.shape).amin(1)

    def most(self, found: Most) -> Most:
        """Return the most probable values of all cases."""
        log_prob, chosen = self._joint(found.log_prob).max(1)
        rows = torch.arange(len(chosen), device=chosen.device) * self.count + chosen
        values = {name: value[rows] for name, value in found.values.items()}
        return Most(values | {n: v[chosen] for n, v in self.states.items()}, log_prob)

    def plan(self, found: Plan) -> Plan:
        """Return the plan of a chain in all cases."""
        why = f"a chain for each of {self.count} states, which hold for all time"
        part = Part("conditioning", tuple(self.states), why)
        work, memory = found.work * self.count, found.memory * self.count
        return replace(found, parts=(part, *found.parts), work=work, memory=memory)


def _supports(prior: Joint, names: Sequence[str], values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the states of each variable, `[k, *event]`, given one row of what is known."""
    found, total = dict.fromkeys(names, torch.empty(0)), 1
    for step in (step for step in prior.program.steps if step.name not in values):
        outcome = step.outcome(values)
        if step.name not in found:
            values[step.name] = realise(step, outcome, values, 1, pathwise=False)
            continue
        total *= _count(step, outcome)
        if total > MOST:
            raise InadmissibleError(
                f"{', '.join(names)} hold for all time and have {total:,} states or more, each of"
                f" which would be a chain; the most is {MOST:,}"
            )
        assert isinstance(outcome, Distribution), "it has states"
        found[step.name] = states(outcome, is_root=step.is_root)
        values[step.name] = found[step.name][:1]
    return found


def _count(step: Step, outcome: Outcome) -> int:
    """Return how many states a variable has."""
    if isinstance(outcome, Distribution):
        count = state_count(outcome, is_root=step.is_root)
        if count is not None:
            return count
    raise InadmissibleError(
        f"{step.name} holds for all time, and it is neither known nor finite: chains take each"
        " state of such a variable in turn. Give it; where all is linear Gaussian, let it be a"
        f" state that stays, {step.name}(last) = Normal(last, 0.0), with its law as init of the"
        " lag; write the steps out with p.unroll(steps), or infer it by a q with dg.elbo(p, q)"
    )


def _per_row(value: Tensor, rows: int) -> Tensor:
    """Repeat values of cases `[S, *event]` for each row, `[rows S, *event]`."""
    return value.repeat(rows, *[1] * (value.dim() - 1))


def _same(value: Tensor, cases: Tensor) -> Tensor:
    """Whether values `[rows, *event]` are those of cases `[S, *event]`, `[rows, S]`."""
    same = value.unsqueeze(1) == cases
    return same.flatten(2).all(2) if same.dim() > 2 else same
