"""What is to be run slice by slice, and one slice of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from torch import Tensor

from daguerre.program import Realise, Step
from daguerre.repeats import Sizes

__all__ = ["Line", "Slots", "Source", "Tape", "slice_of"]

Slots = Sequence[Sequence[Tensor]]


class Source(NamedTuple):
    """Where an argument of a CPD comes from.

    Attributes:
        line: The number of the variable whose slice it is; None where it is known.
        ago: How many slices before.
    """

    line: int | None = None
    ago: int = 0


class Line(NamedTuple):
    """One variable of a recursion.

    Attributes:
        step: Its step.
        sources: Where the arguments of its CPD come from.
        parameters: Where in its distribution the parameters are that are kept, such as
            `base_dist.loc`.
    """

    step: Step
    sources: tuple[Source, ...]
    parameters: tuple[str, ...] = ()


class Tape(NamedTuple):
    """Slices of a recursion that are to be run, all of the same kind.

    Attributes:
        lines: Its variables, parents of the same slice first.
        before: The slices before the first one, of each variable the latest first, with the rows
            that reach the first one, `[rows, *event]`.
        known: What is known of each variable, the rows of all slices after each other,
            `[rows of all, *event]`.
        counts: The rows of each slice.
        chosen: Which rows of the slice before reach each slice; None where all do.
        within: The sizes of plates within a slice.
        copies: How many rows each example has in a slice.
    """

    lines: tuple[Line, ...]
    before: tuple[tuple[Tensor, ...], ...]
    known: tuple[tuple[Tensor, ...], ...]
    counts: tuple[int, ...]
    chosen: tuple[Tensor | None, ...]
    within: Mapping[str, int]
    copies: int

    def head(self, count: int) -> Tape:
        """Return the first slices, their values apart from what they were computed from."""
        rows = sum(self.counts[:count])

        def apart(value: Tensor, rows: int) -> Tensor:
            return value[:rows].detach().requires_grad_(value.requires_grad)

        return self._replace(
            before=tuple(tuple(apart(v, len(v)) for v in line) for line in self.before),
            known=tuple(tuple(apart(v, rows) for v in line) for line in self.known),
            counts=self.counts[:count],
            chosen=self.chosen[:count],
        )


def slice_of(
    lines: Sequence[Line],
    before: Slots,
    known: Slots,
    within: Mapping[str, int],
    copies: int,
    value_of: Realise,
) -> list[Tensor]:
    """Make one slice: the rows of each variable, then of each parameter that is kept."""
    rows = before[0][0].shape[0]
    sizes = Sizes(rows // copies, within)
    made: list[Tensor] = []
    parameters: list[Tensor] = []
    for line, given in zip(lines, known, strict=True):
        of_known = iter(given)
        found: list[Tensor] = []
        for number, ago in line.sources:
            if number is None:
                found.append(next(of_known))
            else:
                found.append(before[number][ago - 1] if ago else made[number])
        outcome = line.step.called(found, {})
        named = dict(zip(line.step.arguments, found, strict=False))
        made.append(value_of(line.step, outcome, named, rows, sizes))
        for path in line.parameters:
            parameters.append(reduce(getattr, path.split("."), outcome))
    return made + parameters
