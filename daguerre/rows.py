"""Rows: values that belong to the same examples, but of which some were drawn more often.

A value has m rows, m a multiple of the batch size n; row i belongs to example i mod n. Where a
value of n rows meets one of m = c n, it counts c times over, so that what was computed once (the
features of an observation, say) is shared by all draws that follow from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["align", "alike", "as_copies", "is_missing", "tile", "unknown"]

MANY = 2**62  # numbers that fit an integer


def tile(value: Tensor, rows: int) -> Tensor:
    """Repeat a value `[m, ...]` until it has so many rows.

    Example:
        >>> import torch
        >>> tile(torch.tensor([1, 2]), 6)
        tensor([1, 2, 1, 2, 1, 2])
    """
    copies = rows // value.shape[0] if value.shape[0] else 1
    return value if copies == 1 else value.expand(copies, *value.shape).flatten(0, 1)


def align(values: Sequence[Tensor]) -> Sequence[Tensor]:
    """Repeat values until all have as many rows as the longest.

    Example:
        >>> import torch
        >>> [len(value) for value in align([torch.zeros(2), torch.zeros(6, 3)])]
        [6, 6]
    """
    sizes = [value.shape[0] for value in values]
    longest = max(sizes) if sizes else 0
    return values if sizes.count(longest) == len(sizes) else [tile(v, longest) for v in values]


def alike(columns: Iterable[Tensor]) -> Tensor:
    """Number rows in lexical order, those that agree in all columns alike, `[n]`.

    Args:
        columns: One column `[n]` or more, without NaN.

    Example:
        >>> alike([torch.tensor([1, 0, 1, 0]), torch.tensor([0.5, 2.0, 0.5, 0.0])])
        tensor([2, 1, 2, 0])
    """
    number, bound = torch.zeros((), dtype=torch.long), 1
    for column in columns:
        found, code = column.unique(return_inverse=True)
        if bound * len(found) > MANY:
            number, bound = number.unique(return_inverse=True)[1], len(column)
        number, bound = number.to(code.device) * len(found) + code, bound * len(found)
    return number.unique(return_inverse=True)[1]


def as_copies(value: Tensor, rows: int) -> Tensor:
    """View a value `[c * rows, ...]` as `[c, rows, ...]`.

    Example:
        >>> import torch
        >>> as_copies(torch.tensor([1, 2, 3, 4]), 2)
        tensor([[1, 2],
                [3, 4]])
    """
    return value.unflatten(0, (value.shape[0] // rows, rows))


def is_missing(value: Tensor, *, partly: bool = False) -> Tensor:
    """Whether each row lacks a value, `[n]`: NaN, or below 0 where it is of integers.

    Args:
        value: `[n, *event]`.
        partly: Whether one missing component is enough; otherwise all must be.

    Example:
        >>> import torch
        >>> is_missing(torch.tensor([0.5, float("nan")])), is_missing(torch.tensor([3, -1]))
        (tensor([False,  True]), tensor([False,  True]))
    """
    lacks = unknown(value).unsqueeze(-1).flatten(1)
    return lacks.any(1) if partly else lacks.all(1)


def unknown(value: Tensor) -> Tensor:
    """Whether each component is lacking, of the shape of the value: NaN, or a negative integer.

    Example:
        >>> import torch
        >>> unknown(torch.tensor([[0.5, float("nan")]]))
        tensor([[False,  True]])
    """
    return value.isnan() if value.is_floating_point() else value < 0
