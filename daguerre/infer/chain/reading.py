"""A joint with lags as slices: who is observed, who is hidden, what each CPD is called with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.graph import Graph, GraphError, InadmissibleError
from daguerre.infer.chain.evidence import missing_steps
from daguerre.joint import Joint
from daguerre.lags import Lagged, Past, spread_over
from daguerre.program import Outcome, Step, misfit

__all__ = ["Reading", "bearing", "float_of", "read"]


@dataclass(frozen=True, eq=False)
class Reading:
    """A chain with its observations.

    Attributes:
        steps: The CPDs of what bears on the question, parents first.
        data: Observed variables, inputs and functions of both, `[B, T, *event]`.
        pinned: Hidden variables that are known at some steps, `[B, T, *event]`: observed ones
            that others depend on, and that are missing elsewhere.
        size: The number of sequences B and of steps T.
        like: A tensor of the type and device of continuous values.
        lengths: How many steps each sequence has, `[B]`; None where all have T.
        hidden: All that bears on the question and is not data, parents first.
    """

    steps: dict[str, Step]
    data: dict[str, Tensor]
    pinned: dict[str, Tensor]
    size: tuple[int, int]
    like: Tensor
    lengths: Tensor | None = None
    hidden: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        hidden = tuple(name for name in self.steps if name not in self.data)
        object.__setattr__(self, "hidden", hidden)

    @property
    def observed(self) -> tuple[str, ...]:
        """Observed variables that have a density, parents first."""
        maps = {n: s.variable.map for n, s in self.steps.items()}
        return tuple(n for n, m in maps.items() if n in self.data and m == "stochastic")

    def lags(self, name: str) -> tuple[Past, ...]:
        """Return the lagged parents of a variable."""
        return self.steps[name].past

    def start(self, name: str, lagged: Past) -> Tensor | Distribution:
        """Return what stands in for a lagged parent at the beginning.

        Raises:
            GraphError: It is the law of a variable, and the parent is another one.
        """
        found = lagged.start()
        if isinstance(found, Distribution):
            Lagged(lagged.variable, lagged.steps, found).check(name)
            return found
        found = torch.as_tensor(found, device=self.like.device)
        found = found.to(self.like.dtype) if found.is_floating_point() else found
        return found if found.dim() else spread_over(found, self._event(lagged.variable))

    def _event(self, name: str) -> Sequence[int]:
        """Return the event of a variable, as far as data or what it starts with tell it."""
        for values in (self.data, self.pinned):
            if name in values:
                return values[name].shape[2:]
        starts = [
            (step.name, past.start())
            for step in self.steps.values()
            for past in step.past
            if past.variable == name
        ]
        for child, start in starts:
            if isinstance(start, Distribution) and child == name:
                return (*start.batch_shape, *start.event_shape)
            if isinstance(start, Tensor) and start.dim():
                return start.shape
        return ()

    def law(self, name: str) -> Distribution | None:
        """Return the law of a variable at t = 0, if a lag on itself gives it."""
        for lagged in self.lags(name):
            if isinstance(start := self.start(name, lagged), Distribution):
                return start
        return None

    def now(self, name: str, *, first: bool) -> Tensor:
        """Return data of the first slice, `[B, *event]`, or of the others, `[B (T-1), *event]`."""
        return _rows(self.data[name], first=first)

    def before(self, name: str, lagged: Past, *, first: bool) -> Tensor:
        """Return data of an earlier slice, in the same way; `init` where there is none."""
        return _rows(self.shifted(name, lagged), first=first)

    def shifted(self, name: str, lagged: Past) -> Tensor:
        """Return data of an earlier slice for all slices, `[B, T, *event]`."""
        values, start = self.data[lagged.variable], self.start(name, lagged)
        if isinstance(start, Distribution):
            start = torch.zeros((), dtype=values.dtype)  # not looked at: the law holds at t = 0
        event = values.shape[2:]
        ahead = start.to(values).expand(values.shape[0], lagged.steps, *event)
        return torch.cat([ahead, values], 1)[:, : values.shape[1]]

    def call(self, name: str, arguments: list[Tensor]) -> Outcome:
        """Call a CPD on rows of its parents; that of a root is repeated to one row.

        Raises:
            TypeError: It returns something else than it is declared to.
        """
        step = self.steps[name]
        assert step.cpd is not None
        found = step.cpd(*arguments)
        kind = Distribution if step.variable.map == "stochastic" else Tensor
        if not isinstance(found, kind):
            raise TypeError(f"{step}: {misfit(step, found)}")
        if arguments:
            return found
        if isinstance(found, Distribution):
            return found.expand(torch.Size((1, *found.batch_shape)))
        return found.unsqueeze(0)  # type: ignore[union-attr]

    def example(self, name: str, known: Mapping[str, Tensor]) -> Outcome:
        """Call the CPD of a variable on one row of parents, as they are at t = 0.

        Args:
            name: The variable.
            known: A value `[1, *event]` of each parent in the slice that is not data.
        """
        arguments = [
            known[parent] if parent in known else self.now(parent, first=True)[:1]
            for parent in self.steps[name].arguments
        ]
        for lagged in self.lags(name):
            if lagged.variable in self.data:
                arguments.append(self.before(name, lagged, first=True)[:1])
            else:
                start = self.start(name, lagged)
                start = start.sample() if isinstance(start, Distribution) else start
                if lagged.variable in known:
                    start = spread_over(start, known[lagged.variable].shape[1:])
                arguments.append(start.unsqueeze(0))
        return self.call(name, arguments)


def read(
    joint: Joint, targets: Iterable[str], values: Mapping[str, Tensor], lengths: Tensor | None
) -> Reading:
    """Read a chain, leaving out what does not bear on the targets and the observed.

    Args:
        joint: A model with lags, or a product of some.
        targets: The variables asked for.
        values: Values `[B, T, *event]` of observed variables and of inputs.
        lengths: The number of steps of each sequence, `[B]`.

    Raises:
        GraphError: An input without values.
        InadmissibleError: A bijection or plates, or an observed deterministic variable.
    """
    graph = joint.graph
    steps = {s.name: s for f in joint.factors for s in f.steps() if s.cpd is not None}
    reached = bearing(graph, (*targets, *values))
    if unknown := [n for n in graph.order if n in reached and n not in (*steps, *values)]:
        raise GraphError(
            f"{', '.join(unknown)} must be given as [B, T, *event]: it has no CPD of its own"
        )
    for name in reached:
        _check(graph, name, name in values)
    steps = {n: steps[n] for n in graph.order if n in reached and n in steps}
    data = {name: _padded(value, lengths) for name, value in values.items()}
    parents = {
        p
        for step in steps.values()
        for p in (*step.arguments, *(lagged.variable for lagged in step.past))
    }
    pinned = {n: data.pop(n) for n in steps if n in data and n in parents and _has_gaps(data[n])}
    for name in graph.inputs:
        if name in data and data[name].is_floating_point() and bool(data[name].isnan().any()):
            raise GraphError(f"{name} is an input, which has a value at every step, but holds NaN")
    first = next(iter(values.values()))
    size = (first.shape[0], first.shape[1])
    return Reading(steps, data, pinned, size, float_of(joint, values), lengths)


def _check(graph: Graph, name: str, is_observed: bool) -> None:  # noqa: FBT001 - private
    variable = graph[name]
    if variable.inverts or variable.plates:
        what = "a bijection" if variable.inverts else "in a plate"
        raise InadmissibleError(f"{name} is {what}, which chains do not take yet")
    if variable.map == "deterministic" and is_observed:
        raise InadmissibleError(
            f"{name} is observed and deterministic, so it has no density; return a distribution"
            " around it with @dg.rv"
        )


def float_of(joint: Joint, values: Mapping[str, Tensor]) -> Tensor:
    """Return a float of the observations, else of the parameters."""
    parameters = [p.detach() for module in joint.modules for p in module.parameters()]
    met = [*values.values(), *parameters]
    found = next((x for x in met if x.is_floating_point()), torch.zeros(()))
    return found.new_zeros((), device=met[0].device if met else None)


def _rows(values: Tensor, *, first: bool) -> Tensor:
    return values[:, 0] if first else values[:, 1:].flatten(0, 1)


def _has_gaps(values: Tensor) -> bool:
    return bool(missing_steps(values).any())


def _padded(values: Tensor, lengths: Tensor | None) -> Tensor:
    """Fill what lies beyond the end of a sequence with what it begins with."""
    if lengths is None:
        return values
    time = torch.arange(values.shape[1], device=values.device)
    inside = time < lengths.to(values.device)[:, None]
    return torch.where(inside[(..., *[None] * (values.dim() - 2))], values, values[:, :1])


def bearing(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """Return the names and all their ancestors, in earlier slices too."""
    found, frontier = set(names), list(names)
    while frontier:
        variable = graph[frontier.pop()]
        for parent in (*variable.parents, *(lag.variable for lag in variable.lags)):
            if parent not in found:
                found.add(parent)
                frontier.append(parent)
    return frozenset(found)
