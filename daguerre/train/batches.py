"""Data in memory, checked once, and the stream of its batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

import torch
from torch import Tensor
from torch.distributions import Bernoulli

from daguerre.objectives.objective import Divergence, Objective
from daguerre.shapes import Shape

__all__ = ["Batches", "read_data"]

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
            row, value and what to do.
    """
    n, given = objective.read(data)
    if not given:
        raise ValueError(
            "the objective observes no data, so there is nothing to draw batches from; call"
            " dg.Step(objective)(n) in a loop, n the number of draws"
        )
    if n == 0:
        raise ValueError(f"the data is empty: {', '.join(given)} has no rows")
    for name, values in given.items():
        _check_finite(name, values)
    for _, part in objective.parts:
        _check_support(part, given)
    return given


def _check_finite(name: str, values: Tensor) -> None:
    if not values.is_floating_point() or all(bound.isfinite() for bound in values.aminmax()):
        return  # one pass without temporaries: NaN comes through it
    rows = [i for i, row in enumerate(values) if not row.isfinite().all()]
    raise ValueError(
        f"{name} has NaN or infinite values in {len(rows)} of {len(values)} rows, the first at"
        f" row {rows[0]}; drop these rows or fill them in"
    )


def _check_support(part: Divergence, given: Mapping[str, Tensor]) -> None:
    """Check every observed variable that has a density against the support of its CPD."""
    for step in part.b.program.steps:
        shape = part.shapes.b.get(step.name)
        if step.name not in given or shape is None or shape.support is None:
            continue
        for first in range(0, len(given[step.name]), ROWS):
            values = given[step.name][first : first + ROWS]
            inside = _inside(shape, values)
            if not inside.all():
                at = (~inside).nonzero()[0].tolist()
                raise ValueError(
                    f"{step}: {_allowed(shape)}, but the data holds {step.name} ="
                    f" {values[tuple(at)].tolist()} at {[first + at[0], *at[1:]]}; rescale the"
                    " data, or return another family"
                )


def _inside(shape: Shape, values: Tensor) -> Tensor:
    if shape.cpd is Bernoulli:  # intensities are data too: cross-entropy allows all of [0, 1]
        return (values >= 0) & (values <= 1)
    assert shape.support is not None, "asked only where it is known"
    return shape.support.check(values)


def _allowed(shape: Shape) -> str:
    name = shape.cpd.__name__ if shape.cpd is not None else "CPD"
    return f"the support of {name} is {'[0, 1]' if shape.cpd is Bernoulli else shape.support}"


@final
class Batches:
    """An endless, reshuffled stream of equal batches.

    Args:
        data: `{name: Tensor[N, *event]}`.
        size: Rows in a batch; the remainder of an epoch waits for the next shuffle.
        seed: Of the order.
    """

    def __init__(self, data: Mapping[str, Tensor], size: int, seed: int) -> None:
        self.data = dict(data)
        self.rows = len(next(iter(self.data.values())))
        self.size = min(size, self.rows)
        self.per_epoch = self.rows // self.size
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._stream = self._shuffled()

    def __next__(self) -> dict[str, Tensor]:
        return next(self._stream)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def _shuffled(self) -> Iterator[dict[str, Tensor]]:
        while True:
            order = torch.randperm(self.rows, generator=self._generator, device="cpu")
            for i in range(self.per_epoch):
                rows = order[i * self.size : (i + 1) * self.size]
                yield {name: values[rows] for name, values in self.data.items()}
