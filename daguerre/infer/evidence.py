"""What is known: evidence as rows of values, some of them missing, some only likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daguerre.graph import GraphError, did_you_mean
from daguerre.rows import is_missing

__all__ = ["Evidence", "Given", "Value", "read_evidence"]

Names = Sequence[str | None]
Value = Tensor | float | str | Names | Sequence[Names] | tuple[Tensor, Tensor]
Given = Mapping[str, Value]


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
    """

    rows: int
    values: Mapping[str, Tensor]
    missing: Mapping[str, Tensor]
    soft: Mapping[str, Tensor]

    def __getitem__(self, rows: Tensor) -> Evidence:
        """Return some of the rows, without the variables of which they know no component."""
        parts = (self.values, self.missing, self.soft)
        values, missing, soft = ({k: v[rows] for k, v in part.items()} for part in parts)
        gone = {name for name in missing if bool(is_missing(values[name]).all())}
        values = {k: v for k, v in values.items() if k not in gone}
        missing = {k: v for k, v in missing.items() if k not in gone and bool(v.any())}
        return Evidence(len(rows), values, missing, soft)

    def patterns(self) -> list[Tensor]:
        """Return the numbers of the rows that lack the same variables, one tensor per pattern.

        A variable that is lacking in some components is told from one that is lacking as a whole.
        """
        if not self.missing:
            return [torch.arange(self.rows)]
        lacks = torch.stack(
            [partly.int() + is_missing(self.values[n]) for n, partly in self.missing.items()], 1
        )
        pattern = lacks.unique(dim=0, return_inverse=True)[1].cpu()
        return [(pattern == i).nonzero().squeeze(1) for i in range(int(pattern.max()) + 1)]


def read_evidence(
    labels: Mapping[str, tuple[str, ...] | None],
    given: Given | None = None,
    soft: Mapping[str, Tensor] | None = None,
) -> Evidence:
    """Read evidence as a user writes it.

    Args:
        labels: Of all variables that may be named, the names of their states, if they have any.
        given: Per variable, values `[rows, *event]`; or one number or name of a state for all
            rows, or a list of names; or a pair (values, which rows have one). Rows that hold NaN,
            a negative integer or None lack the value.
        soft: Per variable, likelihoods of its states `[rows, states]` or `[states]`, 0 or more.

    Raises:
        GraphError: An unknown state, a variable in both, sizes that differ, negative or NaN
            likelihoods.
    """
    found = {name: _values(name, value, labels[name]) for name, value in (given or {}).items()}
    likely = {name: _likelihood(name, value) for name, value in (soft or {}).items()}
    if both := found.keys() & likely.keys():
        raise GraphError(f"{', '.join(sorted(both))} is both given and only likely; say which")
    rows = _rows({**found, **likely})
    values = {n: v if v.dim() and len(v) == rows else _repeat(v, rows) for n, v in found.items()}
    words = {name for name, value in (given or {}).items() if isinstance(value, str)}
    columns = {n: v for n, v in values.items() if n not in words}
    missing = {n: lacks for n, v in columns.items() if (lacks := is_missing(v, partly=True)).any()}
    likely = {n: v.expand(rows, v.shape[1]) for n, v in likely.items()}
    return Evidence(rows, values, missing, likely)


def _values(name: str, value: Value, labels: tuple[str, ...] | None) -> Tensor:
    """Return values `[rows, *event]`, or `[]` for all rows."""
    match value:
        case Tensor():
            return value
        case str():
            return torch.tensor(_state(name, value, labels))
        case bool() | int() | float():
            return torch.tensor(value)
        case (Tensor() as values, Tensor() as present):
            return _masked(name, values, present)
        case [*names] if all(n is None or isinstance(n, str) for n in names):
            return torch.tensor(
                [_state(name, n, labels) if isinstance(n, str) else -1 for n in names]
            )
    raise GraphError(
        f"{name} must be a Tensor [rows, *event], a number, the name of a state or a list of"
        f" names, not {value!r}"
    )


def _state(name: str, state: str, labels: tuple[str, ...] | None) -> int:
    if labels is None:
        raise GraphError(f"{name} is {state!r}, but its states have no names; give their numbers")
    if state not in labels:
        raise GraphError(f"{name} has no state {state!r}{did_you_mean(state, labels)}")
    return labels.index(state)


def _masked(name: str, values: Tensor, present: Tensor) -> Tensor:
    if present.dtype != torch.bool or not values.dim() or present.shape != values.shape[:1]:
        raise GraphError(
            f"{name}: which rows have a value is a bool Tensor [rows], not {present.dtype}"
            f" {list(present.shape)} beside values {list(values.shape)}"
        )
    nothing = float("nan") if values.is_floating_point() else -1
    return values.masked_fill(~present.reshape(-1, *[1] * (values.dim() - 1)), nothing)


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
