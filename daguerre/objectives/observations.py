"""Data that an objective observes, checked once before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from daguerre.objectives.latents import filled
from daguerre.objectives.objective import Divergence, Objective, as_objective
from daguerre.rows import is_missing, unknown

__all__ = ["Data", "read_data"]

Data = Tensor | Mapping[str, Tensor]

ROWS = 4096  # looked at together, so that checking a large data set takes no memory to speak of


def read_data(objective: Objective, data: Data) -> dict[str, Tensor]:
    """Check a data set against an objective: names, shapes, NaN, and the support of its CPDs.

    Args:
        objective: The game that will be played on the data.
        data: `{name: Tensor[N, *event]}` (further names are left out), or a Tensor where one
            variable is observed.

    Returns:
        The tensors that the objective observes.

    Raises:
        GraphError: A missing or misspelt name, a wrong shape.
        ValueError: No rows, NaN or infinity, or values outside the support of their CPD: variable,
            row, value and what to do; numbers of another type than a critic's.
    """
    n, given = as_objective(objective).read(data)
    if not given:
        raise ValueError(
            "the objective observes no data, so there is nothing to draw batches from; call"
            " dg.train.Step(objective)(n) in a loop, n the number of draws"
        )
    if n == 0:
        raise ValueError(f"the data is empty: {', '.join(given)} has no rows")
    parts = [part for _, part in objective.parts]
    for name, values in given.items():
        _check_kind(name, values, parts)
    partial = {name for part in parts for name in part.partial}
    whole = {
        name
        for part in parts
        for name in part.given
        if not part.piecewise and not part.plates.get(name)
    }
    for name, values in given.items():
        known = filled(values, is_missing(values)) if name in partial else values
        if name in partial - whole:
            known = values.masked_fill(unknown(values), 0)
        _check_finite(name, known, may_lack=name not in whole)
    for _, part in objective.parts:
        _check_support(part, given)
    return given


def _check_kind(name: str, values: Tensor, parts: Iterable[Divergence]) -> None:
    """Check that batches can be cut from a tensor, and that critics take numbers of its type."""
    if values.layout != torch.strided or values.is_meta:
        came = "on the device meta, without contents" if values.is_meta else values.layout
        raise ValueError(f"{name} must be a dense tensor in memory, not {came}; use .to_dense()")
    critics = (part.critic for part in parts if part.critic is not None and name in part.names)
    for weight in (w for critic in critics for w in critic.parameters()):
        if (
            values.is_floating_point()
            and weight.is_floating_point()
            and weight.dtype != values.dtype
        ):
            raise ValueError(
                f"{name} is {values.dtype}, but the critic's weights are {weight.dtype}; convert"
                f" the data with .to({weight.dtype}), or the modules with .to({values.dtype})"
            )


def _check_finite(name: str, values: Tensor, *, may_lack: bool) -> None:
    if not values.is_floating_point() or all(bound.isfinite() for bound in values.aminmax()):
        return  # one pass without temporaries: NaN comes through it
    rows = [i for i, row in enumerate(values) if not row.isfinite().all()]
    mark = f", or, if NaN marks what is missing, say partial=[{name!r}]" if may_lack else ""
    raise ValueError(
        f"{name} has NaN or infinite values in {len(rows)} of {len(values)} rows, the first at"
        f" row {rows[0]}; drop these rows or fill them in{mark}"
    )


def _check_support(part: Divergence, given: Mapping[str, Tensor]) -> None:
    """Check every observed variable that has a density against the support of its CPD."""
    for step in part.b.by_name.values():
        shape = part.shapes.b.get(step.name)
        if step.name not in given or shape is None or shape.support is None:
            continue
        for first in range(0, len(given[step.name]), ROWS):
            values = given[step.name][first : first + ROWS]
            inside = shape.support.check(values)
            if step.name in part.partial:  # a constraint may look at several components at once
                inside |= unknown(values).unsqueeze(-1).flatten(inside.dim()).any(-1)
            if not inside.all():
                at = (~inside).nonzero()[0].tolist()
                family = shape.cpd.__name__ if shape.cpd is not None else "CPD"
                raise ValueError(
                    f"{step}: the support of {family} is {shape.support}, but the data holds"
                    f" {step.name} = {values[tuple(at)].tolist()} at {[first + at[0], *at[1:]]};"
                    " rescale the data, or return another family"
                )
