"""Running a program forwards: every variable once, parents first, and slice by slice over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.lags import Start
from daguerre.program import Outcome, Program, Step, Trace, Values, check_batch, realise
from daguerre.repeats import Repeat, Sizes, check_end, laws_of
from daguerre.rows import tile
from daguerre.structure.recurrence import TIME, blocks

__all__ = ["Realise", "draw", "recur"]

Realise = Callable[[Step, Outcome, Values, int], Tensor]


def draw(
    program: Program, n: int, given: Values, *, pathwise: bool, sizes: Sizes | None = None
) -> Trace:
    """Draw every variable that is not given, parents first.

    Args:
        program: The steps to run.
        n: The batch size.
        given: Rows that replace the variables of the same name.
        pathwise: Whether gradients flow through the draws (`rsample`).
        sizes: How many there are of what repeats; None in a program where nothing does.
    """
    trace = Trace(dict(given), {}, sizes)

    def one(step: Step, outcome: Outcome, values: Values, rows: int) -> Tensor:
        value = realise(step, outcome, values, rows, pathwise=pathwise)
        check_batch(step, value.shape, rows)
        return value

    if sizes is None:
        for step in program.steps:
            if step.name not in trace.values:
                outcome = trace.outcomes[step.name] = step.outcome(trace.values)
                trace.values[step.name] = one(step, outcome, trace.values, n)
        return trace
    for block in blocks(program.graph, frozenset(given)):
        steps = [program.by_name[name] for name in block.names]
        if block.direction:
            trace.values.update(recur(steps, block.direction, trace.values, sizes, one))
        else:
            (step,) = steps
            outcome = trace.outcomes[step.name] = step.outcome(trace.values, sizes=sizes)
            rows = step.rows(trace.values, n, sizes)
            trace.values[step.name] = one(step, outcome, trace.values, rows)
    return trace


def recur(
    steps: Sequence[Step], direction: int, values: Values, sizes: Sizes, value_of: Realise
) -> dict[str, Tensor]:
    """Run variables that feed each other through time, slice by slice.

    Args:
        steps: Their steps, parents of the same slice first.
        direction: 1 from the first slice on, -1 from the last one back.
        values: Rows of what they depend on beside each other.
        sizes: How many there are of what repeats.
        value_of: Makes rows of one slice of what a CPD gave.

    Returns:
        Rows of each.
    """
    made: dict[str, dict[int, Tensor]] = {step.name: {} for step in steps}
    slices = [_Slices.of(step, values, made, sizes) for step in steps]
    count = sizes.of[TIME]
    for t in range(count) if direction > 0 else reversed(range(count)):
        for one in slices:
            found = one.parents(t, made)
            outcome, rows = one.outcome(t, found)
            mapped = dict(zip(one.step.arguments, found, strict=False))
            made[one.step.name][t] = value_of(one.step, outcome, mapped, rows)
    return {
        one.step.name: one.repeat.stacked([made[one.step.name][t] for t in range(count)], sizes)
        for one in slices
    }


@dataclass(frozen=True, eq=False)
class _Slices:
    """One variable of a chain, and what its CPD takes in each time slice.

    Attributes:
        step: Its step.
        repeat: How it repeats.
        known: Per parent outside the chain, rows of each slice.
        starts: What stands in for each lagged parent before there is one.
        laws: The law of each slice that has one instead of the CPD, outermost first.
        sizes: How many there are of what repeats within a slice.
        count: The number of slices.
        active: Which slices each example has, `[T, n]`; None where all have all of them.
    """

    step: Step
    repeat: Repeat
    known: Mapping[str, Sequence[Tensor]]
    starts: tuple[Start, ...]
    laws: tuple[Distribution, ...]
    sizes: Sizes
    count: int
    active: Tensor | None = None

    @classmethod
    def of(cls, step: Step, values: Values, chain: Mapping[str, object], sizes: Sizes) -> _Slices:
        """Cut what is known into slices."""
        repeat = step.repeat
        assert repeat is not None, "a program with time says how its variables repeat"
        parents = dict.fromkeys((*step.arguments, *(past.variable for past in step.past)))
        known = {p: repeat.slices(values[p], p, sizes) for p in parents if p not in chain}
        starts = tuple(past.start() for past in step.past)
        laws = laws_of(step.past, starts)
        count, within = sizes.of[TIME], sizes.without_time()
        return cls(step, repeat, known, starts, laws, within, count, sizes.active)

    def parents(self, t: int, made: Mapping[str, Mapping[int, Tensor]]) -> list[Tensor]:
        """Return rows of what the CPD takes in a slice; none where a law of its own holds."""
        if self.law(t) is not None:
            return []
        found = [self._at(name, t, made) for name in self.step.arguments]
        for past, start in zip(self.step.past, self.starts, strict=True):
            other = t - past.steps
            is_there = 0 <= other < self.count
            value = self._at(past.variable, other, made) if is_there else self._start(start)
            if is_there and past.steps < 0 and self.active is not None:
                check_end(past, start)
                value = self._until_the_end(value, other, start)
            found.append(value)
        return found

    def _until_the_end(self, value: Tensor, t: int, start: Start) -> Tensor:
        """Return what is to come, which ends where the sequence does."""
        assert self.active is not None, "only ragged sequences have an end of their own"
        inside = tile(self.active[t], len(value)).reshape(-1, *[1] * (value.dim() - 1))
        return torch.where(inside, value, torch.as_tensor(start).to(value.dtype))

    def _at(self, name: str, t: int, made: Mapping[str, Mapping[int, Tensor]]) -> Tensor:
        if name in self.known:
            return self.known[name][t]
        inner = [plate for plate in self.repeat.taken[name] if plate != TIME]
        return self.sizes.aligned(made[name][t], inner, self.repeat.inner)

    def _start(self, start: Start) -> Tensor:
        value = torch.as_tensor(start)
        return value.expand(self.sizes.rows(self.repeat.inner), *value.shape)

    def law(self, t: int) -> Distribution | None:
        """Return the law that a slice has instead of the CPD."""
        if not self.laws:
            return None
        behind = self.count - 1 - t if self.step.past[0].steps < 0 else t
        return self.laws[behind] if behind < len(self.laws) else None

    def outcome(self, t: int, found: Sequence[Tensor]) -> tuple[Outcome, int]:
        """Return what a slice is drawn from, and its rows."""
        rows = max([self.sizes.rows(self.repeat.inner), *map(len, found)])
        law = self.law(t)
        if law is None:
            return self.step.called(found, {}, rows), rows
        return law.expand(torch.Size((rows, *law.batch_shape))), rows
