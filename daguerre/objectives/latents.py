"""Drawing the latents of one side, each by its estimator.

Rows (see `daguerre.rows`) are laid out as [states, draws, examples], the examples fastest: several
draws for each example come first, and each enumerated variable multiplies the rows by its states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)

from daguerre.discrete import draw_state, state_log_probs, states
from daguerre.graph import InadmissibleError
from daguerre.joint import Joint
from daguerre.loops import recur
from daguerre.objectives.estimators import Enumerate, Estimator, Pathwise, Relaxed
from daguerre.objectives.objective import Round
from daguerre.objectives.schedules import at_step
from daguerre.peers import Peers
from daguerre.program import (
    Outcome,
    Program,
    Step,
    Trace,
    Values,
    check_batch,
    is_learned,
    misfit,
    realise,
    sample,
)
from daguerre.repeats import Sizes
from daguerre.rows import as_copies, is_missing, tile
from daguerre.scoring import negative_log_density
from daguerre.structure.recurrence import TIME, Block

__all__ = ["Drawn", "Latents", "filled", "shared_keys"]


@dataclass
class Drawn:
    """What was drawn.

    Attributes:
        trace: Values `[rows, *event]` and outcomes.
        n: Examples in the batch.
        copies: Draws for each example.
        rows: All rows, n times the copies times the states of what was enumerated.
        log_weight: Log-probability of the states of each row, `[rows]`; None where all is one.
        seen: For each variable that is observed in part, whether it is, `[n]`.
        listed: The log-probability of each variable whose states are listed, `[rows]`.
        history: What `log_weight` was when there were so many rows.
        peers: The processes that hold the other rows of the batch.
    """

    trace: Trace
    n: int
    copies: int
    rows: int
    log_weight: Tensor | None = None
    seen: dict[str, Tensor] = field(default_factory=dict)
    listed: dict[str, Tensor] = field(default_factory=dict)
    history: dict[int, Tensor] = field(default_factory=dict)
    peers: Peers = field(default_factory=Peers)

    def average(self, value: Tensor) -> Tensor:
        """Return the mean of `[m]` over examples and draws, the states weighed: a scalar."""
        weighed = self._weighed(value)
        return value.mean() if weighed is None else weighed.sum() / (self.n * self.copies)

    def per_example(self, value: Tensor) -> Tensor:
        """Return the mean of `[m, ...]` over draws and states, `[n, ...]`."""
        weighed = self._weighed(value)
        if weighed is not None:
            return as_copies(weighed, self.n).sum(0) / self.copies
        value = tile(value, max(len(value), self.n))
        return value if len(value) == self.n else as_copies(value, self.n).mean(0)

    def _weighed(self, value: Tensor) -> Tensor | None:
        """Weigh the states of each row; None where the value is the same for all states."""
        if self.log_weight is None or len(value) <= self.n * self.copies:
            return None
        weight = self.log_weight.exp().reshape(-1, *[1] * (value.dim() - 1))
        return weight * tile(value, self.rows)

    def reduced(self, value: Tensor, rows: int) -> Tensor:
        """Sum `[m]` over the states of what a draw of so many rows does not tell apart."""
        if len(value) <= rows or self.log_weight is None:
            return tile(value, rows)
        before = tile(self.history[rows], self.rows) if rows in self.history else 0.0
        later = (self.log_weight - before).exp()
        return as_copies(later * tile(value, self.rows), rows).sum(0)


@dataclass(frozen=True)
class Latents:
    """How the variables of one side are drawn.

    Attributes:
        program: The steps that draw.
        given: Names that the batch holds.
        how: The estimator of each latent.
        partial: Variables that the batch holds for some examples.
        learns: Whether gradients flow through the draws.
        copies: Draws for each example.
        keys: What an outcome that depends on the data alone is remembered by in a round.
        blocks: What is drawn together, in a program where something repeats.
    """

    program: Program
    given: tuple[str, ...]
    how: Mapping[str, Estimator]
    partial: tuple[str, ...] = ()
    learns: bool = True
    copies: int = 1
    keys: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()

    def draw(self, at: Round) -> Drawn:
        """Draw every variable that is not given, parents first."""
        trace = Trace({name: at.given[name] for name in self.given}, {}, at.sizes)
        drawn = Drawn(trace, at.n, self.copies, at.n * self.copies, peers=at.peers)
        for name in self.given:
            if name in self.partial:
                missing = is_missing(at.given[name])
                drawn.seen[name] = ~missing
                trace.values[name] = filled(at.given[name], missing)
        if at.sizes is not None:
            self._draw_repeated(drawn, at, at.sizes)
            return drawn
        for step in self.program.steps:
            if step.name not in trace.values:
                trace.outcomes[step.name] = self._outcome(step, trace, at)
                trace.values[step.name] = self._value(step, drawn, at)
        return drawn

    def _draw_repeated(self, drawn: Drawn, at: Round, sizes: Sizes) -> None:
        """Draw what repeats: all slices and members at once, or slice by slice."""
        trace = drawn.trace
        for block in self.blocks:
            steps = [self.program.by_name[name] for name in block.names]
            if block.direction:
                draw = partial(self._slice, at=at)
                run = recur(steps, block.direction, trace.values, sizes, draw, keep=True)
                trace.values.update(run.values)
                trace.outcomes.update(run.laws)
            for step in steps:
                is_drawn = step.variable.map == "stochastic" and step.name not in trace.outcomes
                if step.name not in trace.values or is_drawn:
                    trace.outcomes[step.name] = self._outcome(step, trace, at)
                if step.name not in trace.values:
                    trace.values[step.name] = self._value(step, drawn, at)

    def _slice(
        self, step: Step, outcome: Outcome, values: Values, rows: int, within: Sizes, *, at: Round
    ) -> Tensor:
        """Draw one time slice of a variable for every copy of every example."""
        if step.variable.map != "stochastic":
            return realise(step, outcome, values, rows, pathwise=True)
        if not isinstance(outcome, Distribution):
            raise TypeError(f"{step}: {misfit(step, outcome)}")
        inner = [plate for plate in step.plates if plate != TIME]
        return self._draw(step, outcome, self.how[step.name], at, within.rows(inner))

    def _outcome(self, step: Step, trace: Trace, at: Round) -> Outcome:
        """Call a CPD, once in a round where it depends on the data alone."""
        key = self.keys.get(step.name)
        if key is None:
            return step.outcome(trace.values, sizes=trace.sizes)
        if key not in at.memo:
            at.memo[key] = step.outcome(trace.values, sizes=trace.sizes)
        return at.memo[key]

    def _value(self, step: Step, drawn: Drawn, at: Round) -> Tensor:
        outcome, values = drawn.trace.outcomes[step.name], drawn.trace.values
        if step.variable.map != "stochastic":
            rows = step.rows(values, at.n, at.sizes)
            value = realise(step, outcome, values, rows, pathwise=True)
            check_batch(step, value.shape, rows)
            return value
        if not isinstance(outcome, Distribution):
            raise TypeError(f"{step}: {misfit(step, outcome)}")
        if not step.is_root:
            shape = outcome.batch_shape + outcome.event_shape
            check_batch(step, shape, step.rows(values, at.n, at.sizes))
        estimator = self.how[step.name]
        if isinstance(estimator, Enumerate):
            return self._enumerate(step, outcome, drawn, at)
        rows = at.n if at.sizes is None else at.sizes.rows(step.plates)
        value = self._draw(step, outcome, estimator, at, rows)
        if step.name not in self.partial:
            return value
        data = at.given[step.name]
        missing = is_missing(data)
        seen = drawn.seen[step.name] = ~missing
        mask = tile(seen, len(value)).reshape(-1, *[1] * (value.dim() - 1))
        known = filled(data, missing).to(value.dtype)
        return torch.where(mask, tile(known, len(value)), value)

    def _draw(
        self, step: Step, cpd: Distribution, estimator: Estimator, at: Round, rows: int
    ) -> Tensor:
        """Draw for every copy of so many rows."""
        rows *= self.copies
        if step.is_root:
            cpd = cpd.expand(torch.Size((rows, *cpd.batch_shape)))
        copies = max(1, rows // cpd.batch_shape[0]) if rows else 1
        if copies > 1:
            cpd = cpd.expand(torch.Size((copies, *cpd.batch_shape)))
        value = self._sample(step, cpd, estimator, at)
        return value.flatten(0, 1) if copies > 1 else value

    def _sample(self, step: Step, cpd: Distribution, estimator: Estimator, at: Round) -> Tensor:
        if isinstance(estimator, Relaxed) and self.learns:
            return _relaxed(cpd, at_step(estimator.temperature, at.step), hard=estimator.hard)
        if cpd.has_rsample and (isinstance(estimator, Pathwise) or not self.learns):
            return sample(step, cpd, pathwise=self.learns)
        if isinstance(estimator, Pathwise) and self.learns and is_learned(cpd):
            return sample(step, cpd, pathwise=True)  # which says why it cannot
        return draw_state(cpd)

    def _enumerate(self, step: Step, cpd: Distribution, drawn: Drawn, at: Round) -> Tensor:
        """Let every row meet every state, and weigh it with its probability."""
        every = states(cpd, is_root=step.is_root)
        value = every.repeat_interleave(drawn.rows, 0)
        drawn.rows = len(value)
        drawn.trace.values[step.name] = value
        weight = drawn.listed[step.name] = _log_probs(step, cpd, drawn)
        if step.name in self.partial:
            data = at.given[step.name]
            seen = drawn.seen[step.name] = ~is_missing(data)
            same = tile(data.to(value.dtype), drawn.rows) == value
            same = same.reshape(drawn.rows, -1).all(1)
            known = torch.zeros_like(weight).masked_fill(~same, -torch.inf)
            weight = torch.where(tile(seen, drawn.rows), known, weight)
        before = drawn.log_weight
        drawn.log_weight = weight if before is None else weight + tile(before, drawn.rows)
        drawn.history[drawn.rows] = drawn.log_weight
        return value


def _log_probs(step: Step, cpd: Distribution, drawn: Drawn) -> Tensor:
    """Return the log-probability of each row's state, `[rows]`."""
    found = state_log_probs(cpd, is_root=step.is_root)
    if found is None:
        return -negative_log_density(step, drawn.trace)
    before = drawn.rows // found.shape[0]
    return found.repeat(1, before // found.shape[1]).reshape(-1)


def shared_keys(side: Joint, observed: set[str]) -> dict[str, str]:
    """Name the outcomes of a side that follow from what every row of the batch holds.

    They are the same in every part of a cost.
    """
    return {
        step.name: f"{id(getattr(step.cpd, '__self__', step.cpd))}.{step.name}"
        for step in side.program.steps
        if step.arguments
        and observed >= {*step.variable.parents, *(past.variable for past in step.past)}
        and step.name not in side.given
    }


def filled(value: Tensor, missing: Tensor) -> Tensor:
    """Return a value with 0 in the rows that lack it, so that nothing computed from it is NaN.

    Args:
        value: `[n, *event]`.
        missing: Which rows lack it, `[n]`, as `is_missing` says.

    Example:
        >>> filled(torch.tensor([0.5, float("nan")]), torch.tensor([False, True]))
        tensor([0.5000, 0.0000])
    """
    return value.masked_fill(missing.reshape(-1, *[1] * (value.dim() - 1)), 0)


def _relaxed(cpd: Distribution, temperature: Tensor | float, *, hard: bool) -> Tensor:
    """Draw from the relaxation of a Bernoulli or one-hot distribution."""
    match cpd:
        case Bernoulli():
            soft = RelaxedBernoulli(torch.as_tensor(temperature), logits=cpd.logits).rsample()
            state = (soft > 0.5).to(soft.dtype)
        case OneHotCategorical():
            family = RelaxedOneHotCategorical(torch.as_tensor(temperature), logits=cpd.logits)
            soft = family.rsample()
            state = torch.nn.functional.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
        case _:
            raise InadmissibleError(
                f"{type(cpd).__name__} cannot be relaxed; return Bernoulli or OneHotCategorical"
            )
    return state + (soft - soft.detach()) if hard else soft
