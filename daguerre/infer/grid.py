"""All states of some finite parents at once, for every row of evidence: the rows of one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from daguerre.graph import InadmissibleError

__all__ = ["ROWS", "Grid", "grid_of"]

ROWS = ""  # the name of the axis of rows


@dataclass(frozen=True)
class Grid:
    """The values that a CPD is called with.

    Attributes:
        free: The parents whose states are listed.
        sizes: Their numbers of states.
        values: The values of all parents, `[size, *event]`: states slowest, then rows.
        size: How many rows the call has.
        has_rows: Whether some parent is known, so that each row of evidence has rows of its own.
    """

    free: tuple[str, ...]
    sizes: tuple[int, ...]
    values: Mapping[str, Tensor]
    size: int
    has_rows: bool

    def axes(self, *, known: bool = False) -> tuple[str, ...]:
        """Return the axes of a table over the parents; with rows, too, if the child is known."""
        return (*[ROWS] * (self.has_rows or known), *self.free)

    def arrange(self, entries: Tensor) -> Tensor:
        """Arrange what a call gave, `[size, k]`, by axes: `[rows if any, *sizes, k]`."""
        if not self.has_rows:
            return entries.reshape(*self.sizes, entries.shape[-1])
        spread = entries.reshape(*self.sizes, self.size // prod(self.sizes), entries.shape[-1])
        return spread.movedim(len(self.sizes), 0)


def grid_of(
    name: str,
    parents: Sequence[str],
    *,
    known: Mapping[str, Tensor],
    states: Mapping[str, Tensor],
    max_entries: float,
) -> Grid:
    """List the states of the parents that are not known, beside the values of those that are.

    Args:
        name: The variable that is called.
        parents: Its parents.
        known: Values `[rows, *event]`.
        states: States `[k, *event]` of those that are not known.
        max_entries: The size above which the call is refused rather than made.

    Raises:
        InadmissibleError: The grid would be too large; says how large.

    Example:
        >>> grid = grid_of("y", ["a", "x"], known={"x": torch.zeros(3, 4)},
        ...                states={"a": torch.arange(2)}, max_entries=1e6)
        >>> grid.values["a"], grid.values["x"].shape
        (tensor([0, 0, 0, 1, 1, 1]), torch.Size([6, 4]))
    """
    free = tuple(p for p in parents if p not in known)
    sizes = tuple(len(states[p]) for p in free)
    seen = {p: known[p] for p in parents if p in known}
    rows = max([1, *(len(value) for value in seen.values())])
    size = prod(sizes) * rows
    if size > max_entries:
        raise InadmissibleError(
            f"the table of {name} given {', '.join(parents)} would have {size:.3g} entries, more"
            f" than max_memory allows ({max_entries:.3g})"
        )
    values = {p: v.repeat(prod(sizes), *[1] * (v.dim() - 1)) for p, v in seen.items()}
    numbers = torch.meshgrid(*(torch.arange(k) for k in sizes), indexing="ij") if free else ()
    for p, number in zip(free, numbers, strict=True):
        values[p] = states[p][number.flatten().repeat_interleave(rows).to(states[p].device)]
    return Grid(free, sizes, values, size, bool(seen))
