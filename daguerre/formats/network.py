"""Between files and models: CPDs checked against one another, and read off a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daguerre.compose import Composed
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.formats.text import MAX_VARIABLES
from daguerre.graph import Graph, GraphError, InadmissibleError, Variable
from daguerre.model import Model

__all__ = [
    "MAX_DIMS",
    "BadRow",
    "Network",
    "assemble",
    "bad_row",
    "check_size",
    "cpds_of",
    "normalised",
    "place_of_row",
    "probs_of",
    "tables_of",
]

Network = Mapping[str, Tabular | LinearGaussian]

STRICT, ROUNDED = 1e-6, 0.05  # how far from one the sum of a row may be
MAX_DIMS = 64  # of a tensor


class BadRow(NamedTuple):
    """A row of a table that is no distribution: its number, and why."""

    row: int
    why: str


def bad_row(table: NDArray[np.float64], *, strict: bool) -> BadRow | None:
    """Return the first row of a table `[rows, states]` that is no distribution.

    Args:
        table: Probabilities, as they were printed.
        strict: Whether rounding beyond 1e-6 counts; otherwise a row may be off by 0.05, which
            is what few printed digits explain.

    Example:
        >>> bad_row(np.array([[0.5, 0.5], [0.3, 0.3]]), strict=False)
        BadRow(row=1, why='sums to 0.6; expected 1 within 0.05')
    """
    wrong = ~((table >= 0) & (table < np.inf))
    if wrong.any():
        row, state = (int(i) for i in np.argwhere(wrong)[0])
        return BadRow(row, f"holds {table[row, state]:g}; probabilities are from 0 to 1")
    tolerance = STRICT if strict else ROUNDED
    totals = table.sum(1)
    off = np.flatnonzero(np.abs(totals - 1) > tolerance)
    if not off.size:
        return None
    return BadRow(int(off[0]), f"sums to {totals[off[0]]:.9g}; expected 1 within {tolerance:g}")


def place_of_row(row: int, sizes: Sequence[int]) -> list[int]:
    """Return the states of the parents in a row, the last parent fastest.

    Example:
        >>> place_of_row(4, [2, 3])
        [1, 1]
    """
    place: list[int] = []
    for size in reversed(sizes):
        row, state = divmod(row, size)
        place.append(state)
    return place[::-1]


def normalised(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a table with each row divided by its sum."""
    return table / table.sum(-1, keepdims=True)


def check_size(sizes: tuple[int, ...], entries: int, max_entries: int) -> int:
    """Return how many entries a network has with one more table, before it is made.

    Args:
        sizes: The dimensions of the table.
        entries: Those of the tables before.
        max_entries: The most of all together.

    Raises:
        GraphError: Too many dimensions or entries.
    """
    if len(sizes) > MAX_DIMS:
        raise GraphError(
            f"a table over {len(sizes)} variables; a tensor has at most {MAX_DIMS} dimensions"
        )
    entries += math.prod(sizes)
    if entries > max_entries:
        raise GraphError(
            f"the tables have {entries:,} entries so far, more than {max_entries:,}; if they are"
            " meant to, pass a larger max_entries="
        )
    return entries


def assemble(source: str, cpds: Network) -> Model:
    """Build the model of a network whose CPDs name their parents.

    Args:
        source: The file, which errors begin with.
        cpds: Per variable, its CPD; parents are checked against it.

    Raises:
        GraphError: Unknown parents, a cycle, sizes that differ between a parent and its child.
    """
    if len(cpds) > MAX_VARIABLES:
        raise GraphError(f"{source} has {len(cpds):,} variables, more than {MAX_VARIABLES:,}")
    try:
        graph = Graph(Variable(name, cpd.parents) for name, cpd in cpds.items())
        for name, cpd in cpds.items():
            _check_parents(name, cpd, cpds)
    except GraphError as error:
        raise GraphError(f"{source}: {error}") from None
    return Composed(graph, dict(cpds))


def _check_parents(name: str, cpd: Tabular | LinearGaussian, cpds: Network) -> None:
    finite = cpd.parents if isinstance(cpd, Tabular) else cpd.given
    table = cpd.probs if isinstance(cpd, Tabular) else cpd.bias
    for parent, size in zip(finite, table.shape, strict=False):
        above = cpds[parent]
        if not isinstance(above, Tabular):
            raise GraphError(f"{name!r} has a table over {parent!r}, which is continuous")
        if above.probs.shape[-1] != size:
            raise GraphError(
                f"{name!r} has a table for {size} states of {parent!r}, which has"
                f" {above.probs.shape[-1]}"
            )
    if isinstance(cpd, LinearGaussian):
        for parent, weight in zip(cpd.continuous, cpd.weights, strict=True):
            above = cpds[parent]
            event = weight.shape[cpd.bias.dim() :]
            if not isinstance(above, LinearGaussian) or above.event != event:
                what = list(above.event) if isinstance(above, LinearGaussian) else "of states"
                raise GraphError(
                    f"{name!r} has a weight for an event {list(event)} of {parent!r}, whose event"
                    f" is {what}"
                )


def cpds_of(model: Model) -> Network:
    """Return the CPDs of a model that consists of tables and linear Gaussians.

    Returns:
        `{name: CPD}`, in the order of declaration.

    Raises:
        InadmissibleError: Another CPD, or an input.
        GraphError: Sizes that differ between a parent and its child.
    """
    by_name = {step.name: step for step in model.steps()}
    cpds: dict[str, Tabular | LinearGaussian] = {}
    for name in model.graph.names:
        step = by_name[name]
        if not isinstance(step.cpd, Tabular | LinearGaussian):
            what = "an input" if step.cpd is None else f"{step.variable.map}, of other code"
            raise InadmissibleError(
                f"{name!r} is {what}: a file holds numbers only; give it a dg.Tabular or a"
                " dg.LinearGaussian"
            )
        cpds[name] = step.cpd
    for name, cpd in cpds.items():
        _check_parents(name, cpd, cpds)
    return cpds


def tables_of(model: Model, form: str) -> dict[str, Tabular]:
    """Return the CPDs of a model that consists of tables.

    Raises:
        InadmissibleError: Another CPD, which the form of file does not hold, or an input.
    """
    tables: dict[str, Tabular] = {}
    for name, cpd in cpds_of(model).items():
        if not isinstance(cpd, Tabular):
            raise InadmissibleError(
                f"{name!r} is a linear Gaussian, and {form} holds finite tables only; use"
                " write_network"
            )
        tables[name] = cpd
    return tables


def probs_of(name: str, cpd: Tabular) -> Tensor:
    """Return a table in float64, `[*states of each parent, states]`, to be written.

    Raises:
        GraphError: It holds NaN.
    """
    probs = cpd.probs.detach().double()
    if probs.isnan().any():
        raise GraphError(f"the table of {name!r} holds NaN, which no reader would take")
    exact = cpd.probs.dtype == torch.float64  # rows of shorter numbers sum to one less exactly
    return probs if exact else probs / probs.sum(-1, keepdim=True)
