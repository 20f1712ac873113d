"""What a net is called with: nested arguments, whose tensors have the batch first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.utils._pytree as pytree
from torch import Tensor

__all__ = ["batch_size", "copied", "map_rows", "tensors_of"]


def tensors_of(example: Sequence[Any]) -> list[Tensor]:
    """Return the tensors among the leaves of an example, in order."""
    return [leaf for leaf in pytree.tree_leaves(tuple(example)) if isinstance(leaf, Tensor)]


def batch_size(example: Sequence[Any]) -> int:
    """Return the length of the first dimension of the first tensor that has one."""
    return next((t.shape[0] for t in tensors_of(example) if t.dim()), 1)


def map_rows(function: Callable[[Tensor], Any], example: Any, *, n: int) -> Any:
    """Apply a function to the tensors of an example that hold n rows, and leave the others.

    Example:
        >>> import torch
        >>> map_rows(len, (torch.zeros(3, 2), {"mask": None}, 5), n=3)
        (3, {'mask': None}, 5)
    """

    def mapped(leaf: Any) -> Any:
        holds = isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == n
        return function(leaf) if holds else leaf

    return pytree.tree_map(mapped, example)


def copied(example: Any) -> Any:
    """Return an example that a net may change, in which no tensor is there twice."""
    return pytree.tree_map(
        lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, example
    )
