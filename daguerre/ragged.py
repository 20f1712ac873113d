"""Sequences of different lengths, without what is beyond their ends.

The rows of a variable over time are those of its first slice, then those of the second, each with
the examples that reach it: nothing is computed for a step that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

__all__ = ["Cells", "Ragged"]


@dataclass(frozen=True, eq=False)
class Cells:
    """Which cells of a grid hold something: rows are read from them, and written to them.

    The gradient of each is the other, so that neither fills a grid more often than once.

    Attributes:
        held: The cell of each row, `[rows]`.
        empty: The cells of no row.

    Example:
        >>> two = Cells(torch.tensor([2, 0]), torch.tensor([1]))
        >>> two.write(torch.tensor([[5.0], [7.0]])).flatten().tolist()
        [7.0, 0.0, 5.0]
    """

    held: Tensor
    empty: Tensor

    def read(self, grid: Tensor, dim: int = 0) -> Tensor:
        """Return the rows of a grid, whose cells are a dimension."""
        return _Read.apply(grid, self, dim)  # type: ignore[return-value]

    def write(self, rows: Tensor, dim: int = 0) -> Tensor:
        """Return a grid that holds rows, and zeros elsewhere."""
        return _Write.apply(rows, self, dim)  # type: ignore[return-value]

    def of_rows(self, order: Tensor) -> Cells:
        """Return the cells of the same rows in another order."""
        return Cells(self.held[order], self.empty)


class _Read(torch.autograd.Function):
    """Rows from a grid."""

    @staticmethod
    def forward(ctx: Any, grid: Tensor, cells: Cells, dim: int) -> Tensor:
        ctx.cells, ctx.dim = cells, dim
        return grid.index_select(dim, cells.held)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> Any:
        return ctx.cells.write(*by, ctx.dim), None, None


class _Write(torch.autograd.Function):
    """A grid of rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, cells: Cells, dim: int) -> Tensor:
        ctx.cells, ctx.dim = cells, dim
        size = [*rows.shape]
        size[dim] = len(cells.held) + len(cells.empty)
        grid = rows.new_empty(size).index_copy_(dim, cells.held, rows)
        return grid.index_fill_(dim, cells.empty, 0)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> Any:
        return ctx.cells.read(*by, ctx.dim), None, None


@dataclass(frozen=True, eq=False)
class Ragged:
    """Which steps there are, and in which rows they are found.

    Attributes:
        active: Whether an example has a step, `[T, n]`, on the CPU. It has all before one it has.
        device: Where the rows are.

    Example:
        >>> two = Ragged(torch.tensor([[True, True], [True, False]]), torch.device("cpu"))
        >>> two.counts, two.examples.tolist()
        ((2, 1), [0, 1, 0])
    """

    active: Tensor
    device: torch.device

    @classmethod
    def of(cls, lengths: Tensor, device: torch.device) -> Ragged:
        """Let each example have so many steps, `[n]` on the CPU, one or more."""
        steps = torch.arange(int(lengths.max()))
        return cls(steps[:, None] < lengths, device)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many examples reach each slice."""
        return tuple(self.active.sum(1).tolist())

    @cached_property
    def rows(self) -> int:
        """All steps of all examples."""
        return sum(self.counts)

    @cached_property
    def cells(self) -> Cells:
        """Where the rows are in the grid of all slices and examples, numbers of T n."""
        empty = (~self.active.flatten()).nonzero().squeeze(1)
        return Cells(self._places.to(self.device), empty.to(self.device))

    @cached_property
    def examples(self) -> Tensor:
        """The example of each row, `[rows]`."""
        return (self._places % self.active.shape[1]).to(self.device)

    @cached_property
    def lengths(self) -> Tensor:
        """How many steps each example has, `[n]`, on the CPU."""
        return self.active.sum(0)

    @cached_property
    def turned(self) -> Tensor:
        """The row of the step that is as far from the end as each one from the start, `[rows]`."""
        t, example = self._steps
        return self._numbers[self.lengths[example] - 1 - t, example].to(self.device)

    def shifted(self, steps: int) -> Tensor:
        """Return the row of so many steps before each one, `[rows]`; `rows` where there is none.

        Example:
            >>> two = Ragged(torch.tensor([[True, True], [True, False]]), torch.device("cpu"))
            >>> two.shifted(1).tolist(), two.shifted(-1).tolist()
            ([3, 3, 0], [2, 3, 3])
        """
        t, example = self._steps
        t = t - steps
        inside = (t >= 0) & (t < len(self.active))
        found = self._numbers[t.clamp(0, len(self.active) - 1), example]
        return torch.where(inside, found, self.rows).to(self.device)

    def left(self, earlier: int, later: int) -> Tensor | None:
        """Return the rows of a slice whose examples reach a later one; None where all do.

        Args:
            earlier: The slice; -1 for all examples.
            later: The later one.
        """
        if self.counts[later] == (self.counts[earlier] if earlier >= 0 else self.active.shape[1]):
            return None
        reach = self.active[later]
        reach = reach[self.active[earlier]] if earlier >= 0 else reach
        return reach.nonzero().squeeze(1).to(self.device)

    def start(self, i: int) -> int:
        """Return the row where a slice begins."""
        return sum(self.counts[:i])

    def window(self, first: int, steps: int) -> Ragged:
        """Return some slices in a row."""
        return Ragged(self.active[first : first + steps], self.device)

    @cached_property
    def _places(self) -> Tensor:
        return self.active.flatten().nonzero().squeeze(1)

    @cached_property
    def _steps(self) -> tuple[Tensor, Tensor]:
        """The step and the example of each row."""
        return self._places // self.active.shape[1], self._places % self.active.shape[1]

    @cached_property
    def _numbers(self) -> Tensor:
        """The row of each step, `[T, n]`; `rows` for those that are not there."""
        numbers = torch.full((self.active.numel(),), self.rows)
        numbers[self._places] = torch.arange(self.rows)
        return numbers.view_as(self.active)
