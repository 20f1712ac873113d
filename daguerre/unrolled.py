"""Time slices as steps of their own: what runs a chain that is written out as a plain graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MethodType

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform

from daguerre.families import combined
from daguerre.graph import Graph, GraphError, InadmissibleError, Variable
from daguerre.lags import spread_over
from daguerre.program import Outcome, Step
from daguerre.repeats import laws_of
from daguerre.structure.recurrence import TIME, temporal
from daguerre.structure.unroll import at, slices
from daguerre.structure.unroll import unroll as written_out

__all__ = ["Slice", "apart", "slice_steps", "source_of", "together"]


def source_of(graph: Graph, count: int) -> dict[str, tuple[str, int]]:
    """Map each variable of the written-out graph to that of the chain, and to its time slice."""
    return {name: (name, 0) for name in graph.names} | slices(graph, count)


def slice_steps(
    graph: Graph, steps: Iterable[Step], count: int, *, owner: object
) -> dict[str, Step]:
    """Return the steps of a chain, once per time slice, by the names of the slices.

    Args:
        graph: The graph of the chain.
        steps: Its steps.
        count: The number of slices.
        owner: The model that CPDs of slices that lack others are bound to.
    """
    source, by_name = source_of(graph, count), {step.name: step for step in steps}

    def sliced(v: Variable) -> Step:
        name, time = source[v.name]
        step = by_name[name]
        one = Slice(step, time, count)
        if step.cpd is None or not (one.lacks or one.has_law):
            return Step(v, step.cpd, step.place)
        return Step(v, MethodType(one, owner), step.place)

    return {v.name: sliced(v) for v in written_out(graph, count).variables}


def apart(graph: Graph, count: int, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut values of a chain, `[n, *plates, T, *event]`, into time slices.

    Raises:
        GraphError: An unknown name, another number of slices.
    """
    cut: dict[str, Tensor] = {}
    for name, value in values.items():
        time = 1 + len(_beside_time(graph[name]))
        if name not in temporal(graph):
            cut[name] = value
        elif value.dim() <= time or value.shape[time] != count:
            raise GraphError(
                f"{name} of the chain has {count} time slices in dimension {time}, but"
                f" the shape {list(value.shape)} came"
            )
        else:
            cut |= {at(name, t): one for t, one in enumerate(value.unbind(time))}
    return cut


def together(graph: Graph, count: int, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join values of time slices to those of a chain, `[n, *plates, T, *event]`.

    Raises:
        GraphError: A variable that lacks some of its slices.
    """
    joined: dict[str, Tensor] = {}
    for v in graph.variables:
        names = [at(v.name, t) for t in range(count)]
        found = [values[name] for name in names if name in values]
        if v.name in values:
            joined[v.name] = values[v.name]
        elif len(found) == count:
            joined[v.name] = torch.stack(found, 1 + len(_beside_time(v)))
        elif found:
            lacking = ", ".join(name for name in names if name not in values)
            raise GraphError(f"{v.name} lacks some of its time slices: {lacking}")
    return joined


def _beside_time(v: Variable) -> tuple[str, ...]:
    return tuple(plate for plate in v.plates if plate != TIME)


class Slice:
    """The CPD of a chain in a time slice that lacks earlier ones, or later ones.

    Attributes:
        step: The step of the chain.
        lacks: Per lagged parent, whether there is no such slice.
        has_law: Whether a law of its own holds here instead of the CPD.
    """

    def __init__(self, step: Step, time: int, count: int) -> None:
        self.step = step
        self.lacks = tuple(not 0 <= time - past.steps < count for past in step.past)
        self.place = count - 1 - time if any(past.steps < 0 for past in step.past) else time
        self.has_law = any(self.lacks) and self.place < len(self._laws())
        self.lacks = self.lacks if any(self.lacks) else ()

    def __call__(self, _: object, *parents: Tensor) -> Outcome:
        """Return the outcome of the CPD for values of the parents that there are."""
        rows = parents[0].shape[0] if parents else 1
        if self.has_law:
            law = self._laws()[self.place]
            return law.expand(torch.Size((rows, *law.batch_shape))) if parents else law
        given = iter(parents)
        found = [next(given) for _ in self.step.arguments]
        now = dict(zip(self.step.arguments, found, strict=True))
        for past, is_absent in zip(self.step.past, self.lacks, strict=True):
            start = past.start() if is_absent else next(given)
            assert not isinstance(start, Distribution), "a law holds instead of the CPD"
            value = torch.as_tensor(start)
            if past.variable in now:
                value = spread_over(value, now[past.variable].shape[1:])
            found.append(value.expand(rows, *value.shape) if is_absent else value)
        assert self.step.cpd is not None
        outcome = self.step.cpd(*found)
        return outcome if parents else self._one(outcome)

    def _laws(self) -> tuple[Distribution, ...]:
        return laws_of(self.step.past, [past.start() for past in self.step.past])

    def _one(self, outcome: Outcome) -> Outcome:
        """Return the one row that a CPD gave for constants alone: a root has no batch."""
        if isinstance(outcome, Transform):
            return outcome
        if isinstance(outcome, Tensor):
            return outcome[0]
        one = combined([outcome], lambda parts: parts[0][0])
        if one is None:
            raise InadmissibleError(
                f"{self.step}: in the first time slice it depends on nothing, but one row of a"
                f" {type(outcome).__name__} cannot be taken; give init a Distribution, the law of"
                f" {self.step.name} then"
            )
        return one
