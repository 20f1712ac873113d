"""A joint with lags as slices: who is observed, who is hidden, what each CPD is called with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.compose import lags_of_cpd, start_of
from daguerre.graph import Graph, GraphError, InadmissibleError
from daguerre.joint import Factor, Joint, as_joint
from daguerre.lags import Lagged
from daguerre.program import Outcome, Step

__all__ = ["Reading", "read"]


@dataclass(frozen=True, eq=False)
class Reading:
    """A chain with its observations.

    Attributes:
        graph: The graph of one slice, with lags.
        steps: The CPDs of what bears on the question, parents first.
        data: Observed variables and inputs, `[B, T, *event]`.
        hidden: All others that bear on the question, parents first.
    """

    graph: Graph
    steps: dict[str, Step]
    data: dict[str, Tensor]
    hidden: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        hidden = tuple(name for name in self.steps if name not in self.data)
        object.__setattr__(self, "hidden", hidden)

    @cached_property
    def size(self) -> tuple[int, int]:
        """The number of sequences B and of steps T."""
        batch, steps = next(iter(self.data.values())).shape[:2]
        return batch, steps

    @property
    def like(self) -> Tensor:
        """A tensor of the type and device of the observations."""
        floats = [x for x in self.data.values() if x.is_floating_point()]
        any_ = next(iter(self.data.values()))
        return floats[0] if floats else torch.zeros((), device=any_.device)

    def lags(self, name: str) -> tuple[Lagged, ...]:
        """Return the lagged parents of a variable."""
        cpd = self.steps[name].cpd
        return () if cpd is None else lags_of_cpd(cpd)

    def start(self, name: str, lagged: Lagged) -> Tensor | Distribution:
        """Return what stands in for a lagged parent at the beginning.

        Raises:
            GraphError: It is the law of a variable, and the parent is another one.
        """
        cpd = self.steps[name].cpd
        assert cpd is not None
        found = start_of(cpd, lagged)
        if isinstance(found, Distribution):
            Lagged(lagged.variable, lagged.steps, found).check(name)
            return found
        found = torch.as_tensor(found, device=self.like.device)
        return found.to(self.like.dtype) if found.is_floating_point() else found

    def law(self, name: str) -> Distribution | None:
        """Return the law of a variable at t = 0, if a lag on itself gives it."""
        for lagged in self.lags(name):
            if isinstance(start := self.start(name, lagged), Distribution):
                return start
        return None

    def now(self, name: str, *, first: bool) -> Tensor:
        """Return data of the first slice, `[B, *event]`, or of the others, `[B (T-1), *event]`."""
        values = self.data[name]
        return values[:, 0] if first else values[:, 1:].flatten(0, 1)

    def before(self, name: str, lagged: Lagged, *, first: bool) -> Tensor:
        """Return data of an earlier slice, in the same way; `init` where there is none."""
        values, start = self.data[lagged.variable], self.start(name, lagged)
        if isinstance(start, Distribution):
            start = torch.zeros((), dtype=values.dtype)  # not looked at: the law holds at t = 0
        event = values.shape[2:]
        ahead = start.to(values).expand(values.shape[0], lagged.steps, *event)
        shifted = torch.cat([ahead, values], 1)[:, : values.shape[1]]
        return shifted[:, 0] if first else shifted[:, 1:].flatten(0, 1)

    def call(self, name: str, arguments: list[Tensor], rows: int) -> Outcome:
        """Call a CPD on rows of its parents; that of a root is repeated to one row.

        Raises:
            InadmissibleError: A parent is missing.
        """
        step = self.steps[name]
        assert step.cpd is not None
        for value in arguments:
            if value.is_floating_point() and bool(value.isnan().any()):
                raise InadmissibleError(
                    f"{step}: a parent of {name} is observed and missing (NaN) in some step, so"
                    f" p({name} | parents) cannot be read there; give its value, or leave the"
                    " variable out of what is observed"
                )
        found = step.cpd(*arguments)
        if arguments:
            return found
        if isinstance(found, Distribution):
            return found.expand(torch.Size((rows, *found.batch_shape)))
        return found.expand(rows, *found.shape) if isinstance(found, Tensor) else found


def read(joint: Joint | Factor, targets: Iterable[str], observed: Mapping[str, Tensor]) -> Reading:
    """Read a chain, leaving out what does not bear on the targets and the observed.

    Args:
        joint: A model with lags, or a product of some.
        targets: The variables asked for.
        observed: Values `[B, T, *event]` of observed variables and of inputs.

    Raises:
        GraphError: Unknown names, values of different sizes, an input without values.
        InadmissibleError: A bijection or plates, or an observed deterministic variable.
    """
    joint = as_joint(joint)
    graph, targets = joint.graph, tuple(targets)
    for name in (*targets, *observed):
        _ = graph[name]
    steps = {s.name: s for f in joint.factors for s in f.steps() if s.cpd is not None}
    _check_sizes(observed)
    reached = _bearing(graph, (*targets, *observed))
    missing = [n for n in reached if n not in steps and n not in observed]
    if missing:
        raise GraphError(
            f"{', '.join(missing)} must be given as [B, T, *event]: it has no CPD of its own"
        )
    for name in reached:
        variable = graph[name]
        if variable.inverts or variable.plates:
            what = "a bijection" if variable.inverts else "in a plate"
            raise InadmissibleError(f"{name} is {what}, which chains do not take yet")
        if variable.map == "deterministic" and name in observed:
            raise InadmissibleError(
                f"{name} is observed and deterministic, so it has no density; return a"
                " distribution around it with @dg.rv"
            )
    data = {name: value for name, value in observed.items() if name in reached}
    return Reading(graph, {n: steps[n] for n in graph.order if n in reached and n in steps}, data)


def _check_sizes(observed: Mapping[str, Tensor]) -> None:
    if not observed:
        raise GraphError("a chain is as long as what is observed or given of it; nothing is")
    shapes = {name: list(value.shape) for name, value in observed.items()}
    if any(len(s) < 2 or 0 in s[:2] for s in shapes.values()) or (
        len({tuple(s[:2]) for s in shapes.values()}) > 1
    ):
        raise GraphError(f"observed values are [B, T, *event] with one B and T, not {shapes}")


def _bearing(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """Return the names and all their ancestors, in earlier slices too."""
    found, frontier = set(names), list(names)
    while frontier:
        variable = graph[frontier.pop()]
        for parent in (*variable.parents, *(lag.variable for lag in variable.lags)):
            if parent not in found:
                found.add(parent)
                frontier.append(parent)
    return frozenset(found)
