"""Members of a plate, or slices of time, that share a CPD: read off it together, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from daguerre.cpds import Affine, Conditional
from daguerre.infer.gaussian.affine import read_affine
from daguerre.program import Outcome, Program, Step

__all__ = ["Siblings"]

MEMBER = "the number of the member"


class Reading(NamedTuple):
    """What was read of a variable together with its siblings.

    Attributes:
        affine: Bias, weights and scale, what it knows of its parents put in.
        events: Event shapes of the parents that are followed.
    """

    affine: Affine
    events: Mapping[str, Sequence[int]]


@dataclass
class Siblings:
    """Variables by the CPD that they share, and what was read of them.

    Attributes:
        of: Per CPD that several variables have, their steps.
        found: What was read and not yet asked for.
    """

    of: dict[int, list[Step]] = field(default_factory=dict)
    found: dict[str, Reading] = field(default_factory=dict)

    @classmethod
    def among(cls, program: Program) -> Siblings:
        """Find the variables of a program that share a CPD; modules are read as they are."""
        groups: dict[int, list[Step]] = {}
        for step in program.steps:
            if step.cpd is not None and not isinstance(step.cpd, Conditional):
                groups.setdefault(id(step.cpd), []).append(step)
        return cls({key: steps for key, steps in groups.items() if len(steps) > 1})

    def read(
        self, step: Step, known: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> Affine | None:
        """Return what a CPD says, read with those of all its siblings that know as much.

        Args:
            step: The variable.
            known: Values of the variables that a single row knows, `[1, *event]`.
            options: As for `read_affine`; its states are the known values that are put in.

        Returns:
            None where it has no siblings, or is no linear Gaussian.
        """
        if id(step.cpd) not in self.of:
            return None
        events: Mapping[str, Sequence[int]] = options["events"]
        if step.name not in self.found:
            self._together(step, known, options)
        reading = self.found.pop(step.name, None)
        if reading is None or {**reading.events} != {**events}:
            return None  # a parent was expected to be otherwise
        return reading.affine

    def _together(
        self, step: Step, known: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> None:
        events, fixed = options["events"], [p in options["states"] for p in step.arguments]
        alike = [
            one
            for one in self.of[id(step.cpd)]
            if [p in known for p in one.arguments] == fixed or one is step
        ]
        columns = zip(*(one.arguments for one in alike), strict=True)
        rows = [
            torch.cat([known[p] for p in column]) if is_fixed else None
            for column, is_fixed in zip(columns, fixed, strict=True)
        ]
        free = [p for p, is_fixed in zip(step.arguments, fixed, strict=True) if not is_fixed]
        states = {MEMBER: torch.arange(len(alike))} if any(fixed) else {}
        assert step.cpd is not None
        whole = read_affine(
            _for_all(step.cpd, rows) if states else step.cpd,
            [*free, *states],
            **{**options, "states": states},
        )
        if isinstance(whole, str):
            return
        for i, one in enumerate(alike):
            names = [p for p, is_fixed in zip(one.arguments, fixed, strict=True) if not is_fixed]
            shapes = {name: events[p] for name, p in zip(names, free, strict=True)}
            self.found[one.name] = Reading(_one(whole, i if states else None, names), shapes)


def _for_all(cpd: Callable[..., Outcome], rows: Sequence[Tensor | None]) -> Callable[..., Outcome]:
    """Return the CPD as a function of the parents that are followed, and of the member."""

    def called(*found: Tensor) -> Outcome:
        *free, number = found
        given = iter(free)
        return cpd(*(next(given) if values is None else values[number] for values in rows))

    return called


def _one(whole: Affine, i: int | None, names: Sequence[str]) -> Affine:
    """Return what the member of a number has, with the names of its own parents."""
    at = ... if i is None else i
    weights = {
        name: weight[at] for name, weight in zip(names, whole.weights.values(), strict=True)
    }
    return Affine(whole.bias[at], weights, whole.scale[at])
