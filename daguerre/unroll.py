"""Chains as models without time: a variable per slice, CPDs and parameters those of the chain."""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform

from daguerre.draw import Figure, unrolled
from daguerre.families import combined
from daguerre.graph import GraphError, InadmissibleError, Variable
from daguerre.model import Input, Model
from daguerre.program import Outcome, Step
from daguerre.repeats import laws_of
from daguerre.structure.recurrence import TIME, temporal
from daguerre.structure.unroll import at, slices
from daguerre.structure.unroll import unroll as written_out

__all__ = ["Unrolled", "unroll"]


def unroll(model: Model, steps: int) -> Unrolled:
    r"""Write out the time slices of a chain as variables of their own: `z[0]`, `z[1]`, ...

    The joint stays what it was, $p(v_0, \dots, v_{T-1})$; the CPDs are those of the chain, whose
    parameters the new model shares. What is written for graphs without time then holds for the
    chain: questions of any kind, elimination, pictures.

    Args:
        model: A model of a chain; it stays as it is.
        steps: The number T of slices, 1 or more.

    Raises:
        GraphError: No lagged parent, no steps or too many.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> start = Normal(0.0, 1.0)
        >>> p = dg.model(z=lambda before=dg.lag("z", init=start): Normal(0.9 * before, 1.0))
        >>> two = unroll(p, 2)
        >>> two.graph, two.log_prob({"z[0]": torch.zeros(1), "z[1]": torch.zeros(1)})
        (Graph(-> z[0]; z[0] -> z[1]), tensor([-1.8379]))
    """
    return Unrolled(model, steps)


class Unrolled(Model):
    """A chain with its time slices as variables of their own."""

    def __init__(self, base: Model, steps: int) -> None:
        super().__init__()
        self.graph = written_out(base.graph, steps)
        self.base, self.count = base, steps

    def inputs(self) -> dict[str, Input]:
        """Return the declared inputs, one per time slice."""
        declared, places = self.base.inputs(), self._places()
        return {name: declared[places[name][0]] for name in self.graph.inputs}

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the chain, once per time slice."""
        base, places = {step.name: step for step in self.base.steps()}, self._places()

        def step(v: Variable) -> Step:
            name, time = places[v.name]
            return self._step(v, base[name], time)

        return tuple(map(step, self.graph.variables))

    def figure(self) -> Figure:
        """Return what `dg.draw` draws: time from left to right, where there are no plates."""
        has_plates = any(v.plates for v in self.graph.variables)
        return super().figure() if has_plates else unrolled(self.base.graph, self.count)

    def _places(self) -> dict[str, tuple[str, int]]:
        still = {v.name: (v.name, 0) for v in self.base.graph.variables}
        return still | slices(self.base.graph, self.count)

    def _step(self, v: Variable, step: Step, time: int) -> Step:
        one = Slice(step, time, self.count)
        if step.cpd is None or not (one.lacks or one.has_law):
            return Step(v, step.cpd, step.place)
        return Step(v, MethodType(one, self), step.place)

    def apart(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cut values of the chain, `[n, *plates, T, *event]`, into time slices.

        Raises:
            GraphError: An unknown name, another number of slices.
        """
        cut: dict[str, Tensor] = {}
        for name, value in values.items():
            time = 1 + len(_beside_time(self.base.graph[name]))
            if name not in temporal(self.base.graph):
                cut[name] = value
            elif value.dim() <= time or value.shape[time] != self.count:
                raise GraphError(
                    f"{name} of the chain has {self.count} time slices in dimension {time}, but"
                    f" the shape {list(value.shape)} came"
                )
            else:
                cut |= {at(name, t): one for t, one in enumerate(value.unbind(time))}
        return cut

    def together(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join values of time slices to those of the chain, `[n, *plates, T, *event]`.

        Raises:
            GraphError: A variable that lacks some of its slices.
        """
        joined: dict[str, Tensor] = {}
        for v in self.base.graph.variables:
            names = [at(v.name, t) for t in range(self.count)]
            found = [values[name] for name in names if name in values]
            if v.name in values:
                joined[v.name] = values[v.name]
            elif len(found) == self.count:
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

    def __call__(self, _: Model, *parents: Tensor) -> Outcome:
        """Return the outcome of the CPD for values of the parents that there are."""
        rows = parents[0].shape[0] if parents else 1
        if self.has_law:
            law = self._laws()[self.place]
            return law.expand(torch.Size((rows, *law.batch_shape))) if parents else law
        given = iter(parents)
        found = [next(given) for _ in self.step.arguments]
        for past, is_absent in zip(self.step.past, self.lacks, strict=True):
            start = past.start() if is_absent else next(given)
            assert not isinstance(start, Distribution), "a law holds instead of the CPD"
            value = torch.as_tensor(start)
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
