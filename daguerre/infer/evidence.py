"""What is known: evidence as rows of values, some of them missing, some only likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from daguerre.graph import GraphError, did_you_mean
from daguerre.rows import alike, is_missing, unknown

__all__ = ["Distinct", "Evidence", "Given", "Value", "read_evidence"]

Names = Sequence[str | None]
Numbers = Sequence[float | None] | np.ndarray
Value = Tensor | float | str | Names | Sequence[Names] | Numbers | tuple[Tensor, Tensor]
Given = Mapping[str, Value]


class Distinct(NamedTuple):
    """Rows that differ.

    Attributes:
        rows: The numbers of the rows that stand for all.
        place: Per row, which of these says the same.
    """

    rows: Tensor
    place: Tensor


@dataclass(frozen=True)
class Evidence:
    """Rows of evidence.

    Attributes:
        rows: How many there are.
        values: Per observed variable its values, `[rows, *event]`; what a row lacks is NaN, or
            negative where values are integers.
        missing: Of the variables that some rows lack, in some components at least, which rows do,
            bool `[rows]`.
        soft: Per variable the likelihood of each of its states, `[rows, states]`.
        marked: The variables of which negative integers said that rows lack them: of states they
            do, but of a continuous variable they would be values.
    """

    rows: int
    values: Mapping[str, Tensor]
    missing: Mapping[str, Tensor]
    soft: Mapping[str, Tensor]
    marked: frozenset[str] = field(default_factory=frozenset)

    def __getitem__(self, rows: Tensor) -> Evidence:
        """Return some of the rows, without the variables of which they know no component."""
        parts = (self.values, self.missing, self.soft)
        values, missing, soft = ({k: v[rows] for k, v in part.items()} for part in parts)
        gone = {n for n, v in missing.items() if v.all() and is_missing(values[n]).all()}
        values = {k: v for k, v in values.items() if k not in gone}
        missing = {k: v for k, v in missing.items() if k not in gone and bool(v.any())}
        return Evidence(len(rows), values, missing, soft, self.marked)

    def patterns(self) -> list[Tensor]:
        """Return the numbers of the rows that lack the same variables, one tensor per pattern.

        A variable that is lacking in some components is told from one that is lacking as a whole.
        """
        if not self.missing:
            return [torch.arange(self.rows)]
        lacks = [partly.int() + is_missing(self.values[n]) for n, partly in self.missing.items()]
        pattern = alike(lacks).cpu()
        return [*pattern.argsort(stable=True).split(pattern.bincount().tolist())]

    def distinct(self) -> Distinct:
        """Return one row of each kind of rows that say the same."""
        columns = (c for v in self.values.values() for c in v.reshape(self.rows, -1).unbind(1))
        parts = ((unknown(c), c.masked_fill(unknown(c), 0)) for c in columns)
        place = alike(part for both in parts for part in both)
        first = place.new_full((int(place.max()) + 1,), self.rows)
        first.scatter_reduce_(0, place, torch.arange(self.rows, device=place.device), "amin")
        return Distinct(first, place)


def read_evidence(
    labels: Mapping[str, tuple[str, ...] | None],
    given: Given | None = None,
    soft: Mapping[str, Tensor] | None = None,
) -> Evidence:
    """Read evidence as a user writes it.

    Args:
        labels: Of all variables that may be named, the names of their states, if they have any.
        given: Per variable, values `[rows, *event]`, as a Tensor, an array or a list; or one
            number or name of a state for all rows, or a list of names; or a pair (values, which
            rows have one). Rows that hold NaN, a negative integer or None lack the value.
        soft: Per variable, likelihoods of its states `[rows, states]` or `[states]`, 0 or more.

    Raises:
        GraphError: An unknown state, a variable in both, sizes that differ, negative or NaN
            likelihoods.
        TypeError: It is no mapping.
    """
    for what, value in (("given", given), ("soft", soft)):
        if not isinstance(value, Mapping | None):
            raise TypeError(f"{what} maps names to values, as in {{'x': 1.0}}, not {value!r}")
    found = {name: _values(name, value, labels[name]) for name, value in (given or {}).items()}
    likely = {name: _likelihood(name, value) for name, value in (soft or {}).items()}
    if both := found.keys() & likely.keys():
        raise GraphError(f"{', '.join(sorted(both))} is both given and only likely; say which")
    rows = _rows({**found, **likely})
    values = {n: v if v.dim() and len(v) == rows else _repeat(v, rows) for n, v in found.items()}
    whole = {name for name, value in (given or {}).items() if isinstance(value, str | int)}
    columns = {n: v for n, v in values.items() if n not in whole}
    missing = {n: lacks for n, v in columns.items() if (lacks := is_missing(v, partly=True)).any()}
    likely = {n: v.expand(rows, v.shape[1]) for n, v in likely.items()}
    marked = frozenset(n for n in missing if not values[n].is_floating_point())
    return Evidence(rows, values, missing, likely, marked)


def _values(name: str, value: Value, labels: tuple[str, ...] | None) -> Tensor:
    """Return values `[rows, *event]`, or `[]` for all rows."""
    match value:
        case Tensor():
            return _checked(name, value)
        case str():
            return torch.tensor(_state(name, value, labels))
        case bool() | int() | float():
            return torch.tensor(value)
        case (Tensor() as values, Tensor() as present):
            return _masked(name, values, present)
        case [*names] if all(n is None for n in names):
            return torch.full((len(names),), float("nan"))
        case [*names] if all(n is None or isinstance(n, str) for n in names):
            return torch.tensor(
                [_state(name, n, labels) if isinstance(n, str) else -1 for n in names],
                dtype=torch.long,
            )
        case [*numbers]:
            return _read(name, [float("nan") if n is None else n for n in numbers], value)
        case np.ndarray() | np.generic():
            return _read(name, value, value)
    raise _no_evidence(name, value)


def _read(name: str, numbers: object, value: object) -> Tensor:
    try:
        return _checked(name, torch.as_tensor(numbers))
    except (TypeError, ValueError, RuntimeError):
        raise _no_evidence(name, value) from None


def _checked(name: str, value: Tensor) -> Tensor:
    if value.is_complex() or value.is_meta:
        what = "complex numbers" if value.is_complex() else "on the meta device, without values"
        raise GraphError(f"the evidence on {name} is {what}; give real numbers")
    return value


def _no_evidence(name: str, value: object) -> GraphError:
    return GraphError(
        f"{name} must be a Tensor or list [rows, *event], a number, the name of a state or a list"
        f" of names, not {value!r}"
    )


def _state(name: str, state: str, labels: tuple[str, ...] | None) -> int:
    if labels is None:
        raise GraphError(f"{name} is {state!r}, but its states have no names; give their numbers")
    if state not in labels:
        raise GraphError(f"{name} has no state {state!r}{did_you_mean(state, labels)}")
    return labels.index(state)


def _masked(name: str, values: Tensor, present: Tensor) -> Tensor:
    dims = present.dim()
    if present.dtype != torch.bool or not dims or present.shape != values.shape[:dims]:
        raise GraphError(
            f"{name}: which rows have a value is a bool Tensor [rows], with plates [rows, *plates]"
            f", not {present.dtype} {list(present.shape)} beside values {list(values.shape)}"
        )
    nothing = float("nan") if values.is_floating_point() else -1
    return values.masked_fill(~present[(..., *[None] * (values.dim() - dims))], nothing)


def _likelihood(name: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.dim() not in (1, 2):
        raise GraphError(f"soft evidence on {name} is a Tensor [rows, states], not {value!r}")
    if not (value >= 0).all() or value.isinf().any():
        raise GraphError(f"soft evidence on {name} must be likelihoods, 0 or more and finite")
    return value if value.dim() == 2 else value.unsqueeze(0)


def _rows(found: Mapping[str, Tensor]) -> int:
    sizes = {name: len(value) for name, value in found.items() if value.dim()}
    several = {name: n for name, n in sizes.items() if n != 1}
    if len(set(several.values())) > 1:
        raise GraphError(f"the first dimension is the rows of evidence, but they differ: {sizes}")
    return next(iter(several.values()), 1)


def _repeat(value: Tensor, rows: int) -> Tensor:
    """Return one value for all rows, `[]` or `[1, *event]`, as `[rows, *event]`."""
    one = value.reshape(1, *value.shape[1:])
    return one if rows == 1 else one.expand(rows, *value.shape[1:])
