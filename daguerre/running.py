"""Running a program forwards: every variable once, parents first."""

from __future__ import annotations

from torch import Tensor

from daguerre.loops import recur
from daguerre.program import Outcome, Program, Step, Trace, Values, check_batch, realise
from daguerre.repeats import Sizes
from daguerre.structure.recurrence import blocks

__all__ = ["draw"]


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

    def one(
        step: Step, outcome: Outcome, values: Values, rows: int, _: Sizes | None = None
    ) -> Tensor:
        value = realise(step, outcome, values, rows, pathwise=pathwise)
        check_batch(step, value.shape, rows)
        return value

    if sizes is None:
        for step in program.steps:
            if step.name not in trace.values:
                outcome = trace.outcomes[step.name] = step.outcome(trace.values)
                trace.values[step.name] = one(step, outcome, trace.values, n)
        return trace
    wanted = {step.name for step in program.steps}
    for block in blocks(program.graph, frozenset(given)):
        if not wanted & {*block.names}:
            continue
        steps = [program.by_name[name] for name in block.names]
        if block.direction:
            made = recur(steps, block.direction, trace.values, sizes, one)
            trace.values.update(made.values)
        else:
            (step,) = steps
            outcome = trace.outcomes[step.name] = step.outcome(trace.values, sizes=sizes)
            rows = step.rows(trace.values, n, sizes)
            trace.values[step.name] = one(step, outcome, trace.values, rows)
    return trace
