"""Questions of a form that was asked before: of the evidence, only the states change.

To read a small network and to plan its sum takes longer than to sum it. What both give hangs on
the names in the question alone, where all CPDs are tables; so it is kept with the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor

from daguerre.cpds import Tabular
from daguerre.infer.discrete.plan import Sum
from daguerre.infer.discrete.run import is_small, run_small
from daguerre.infer.distributions import Finite
from daguerre.infer.evidence import Evidence, Given
from daguerre.infer.exact import Exact
from daguerre.infer.question import Question
from daguerre.model import Model
from daguerre.program import Step

__all__ = ["Found", "recall", "remember"]

KEPT = 256  # forms of questions to one model

Form = tuple[tuple[str, ...], tuple[str, ...]]  # targets, and what is given


class Found(NamedTuple):
    """What a routine gives for one row: see `Answer`."""

    marginals: dict[str, Finite]
    log_evidence: Tensor
    engines: tuple[str, ...]


class Slice(NamedTuple):
    """A table of the sum: a CPD at the known states of some of its axes.

    Attributes:
        step: The number of the CPD's step.
        cpd: The CPD.
        known: Per axis of its table, the variable if it is given, else None.
    """

    step: int
    cpd: Tabular
    known: tuple[str | None, ...]

    def of(self, state: Mapping[str, int]) -> Any:
        """Return the slice as an array that shares the memory of the table."""
        array = self.cpd.probs.numpy()
        if not any(self.known):
            return array
        return array[tuple(slice(None) if n is None else state[n] for n in self.known)]


@dataclass(frozen=True, eq=False)
class Routine:
    """How questions of one form are answered.

    Attributes:
        slices: The tables, in the order of the plan.
        plan: The sum.
        number: Per given variable, the number of each name of a state and of each state.
        states: Per target, its states.
        engines: The names of the engines that take part.
    """

    slices: tuple[Slice, ...]
    plan: Sum
    number: Mapping[str, Mapping[str | int, int]]
    states: Mapping[str, Tensor]
    engines: tuple[str, ...]

    def suits(self, steps: Sequence[Step]) -> bool:
        """Say whether the model still has the CPDs that were laid out."""
        return all(steps[s.step].cpd is s.cpd and _is_fixed(s.cpd) for s in self.slices)

    def run(self, given: Given) -> Found | None:
        """Answer for one row; None if it holds anything but states, or may underflow."""
        state: dict[str, int] = {}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, str | int):
                return None
            if (number := self.number[name].get(value)) is None:
                return None
            state[name] = number
        totals = run_small(self.plan, [one.of(state) for one in self.slices], rows=1)
        if totals is None:
            return None
        each = zip(self.states.items(), totals.marginals, strict=True)
        marginals = {name: Finite(probs, states) for (name, states), probs in each}
        return Found(marginals, totals.log_total.reshape(1), self.engines)


_ROUTINES: WeakKeyDictionary[Model, dict[Form, Routine]] = WeakKeyDictionary()


def recall(p: object, targets: Sequence[str], given: Given) -> Found | None:
    """Answer a question of one row by the routine of its form, if there is one.

    Args:
        p: What is asked.
        targets: The variables asked for.
        given: Evidence as a user writes it.
    """
    if not isinstance(p, Model) or (routines := _ROUTINES.get(p)) is None:
        return None
    routine = routines.get((tuple(targets), tuple(given)))
    return routine.run(given) if routine is not None and routine.suits(p.steps()) else None


def remember(p: object, question: Question, exact: Exact) -> None:
    """Keep how a question of one row was answered, where it is about small tables alone.

    Args:
        p: What is asked.
        question: The question.
        exact: The plan that answered it.
    """
    evidence, network = question.evidence, exact.network
    is_plain = network.values.keys() == evidence.values.keys() and not evidence.soft
    if not isinstance(p, Model) or network.rows != 1 or not is_plain:
        return
    steps = p.steps()
    place = {step.name: i for i, step in enumerate(steps)}

    def table_of(name: str) -> Tabular | None:
        cpd = steps[place[name]].cpd
        return cpd if isinstance(cpd, Tabular) and _is_fixed(cpd) else None

    needed = {*evidence.values, *question.targets, *(table.of for table in network.tables)}
    cpds = {name: cpd for name in needed if (cpd := table_of(name)) is not None}
    types = {cpd.probs.dtype for cpd in cpds.values()}
    if len(cpds) < len(needed) or len(types) != 1 or not is_small(exact.sum, 1):
        return
    slices = [
        Slice(place[t.of], cpds[t.of], _known(t.of, cpds[t.of], evidence)) for t in network.tables
    ]
    routines = _ROUTINES.setdefault(p, {})
    if len(routines) >= KEPT:
        del routines[next(iter(routines))]
    routines[question.targets, tuple(evidence.values)] = Routine(
        tuple(slices),
        exact.sum,
        {name: _numbers(cpds[name]) for name in evidence.values},
        {name: network.states[name] for name in question.targets},
        exact.engines,
    )


def _known(name: str, cpd: Tabular, evidence: Evidence) -> tuple[str | None, ...]:
    return tuple(n if n in evidence.values else None for n in (*cpd.parents, name))


def _is_fixed(cpd: Tabular) -> bool:
    """Whether a table can be read as it is: no parameter, and on the processor."""
    return cpd.table is not None and cpd.table.is_cpu and not cpd.table.requires_grad


def _numbers(cpd: Tabular) -> dict[str | int, int]:
    """Return the number of each state by its name and by itself."""
    named = {name: i for i, name in enumerate(cpd.states or ())}
    return {**named, **{i: i for i in range(cpd.probs.shape[-1])}}
