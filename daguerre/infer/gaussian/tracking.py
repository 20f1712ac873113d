"""Proof that a function is affine: follow its arguments through every operation it does.

A tracked tensor is an affine function of the arguments. An operation that keeps it so returns
tracked tensors again; any other is refused, by name, whatever the values are. Probing could not
tell |x| from x on positive numbers; this can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["NoDraws", "NotAffineError", "Tracked"]

# linear in the first argument, all others constant
# fmt: off
LINEAR = frozenset([
    "_adaptive_avg_pool2d", "_to_copy", "_unsafe_view", "alias", "avg_pool2d", "clone",
    "constant_pad_nd", "cumsum", "detach", "diag_embed", "diagonal", "div", "expand", "flip",
    "gather", "index", "index_select", "mean", "movedim", "neg", "permute", "pixel_shuffle",
    "positive", "repeat", "reshape", "roll", "select", "slice", "split", "split_with_sizes",
    "squeeze", "sum", "t", "transpose", "tril", "triu", "unbind", "unfold", "unsqueeze",
    "upsample_bilinear2d", "upsample_nearest2d", "view",
])
# fmt: on
# sums, in which any argument may depend on the parents
SUMS = frozenset(["add", "cat", "rsub", "stack", "sub", "where"])
# products of two arguments, of which one is constant; what is added to them is free
PRODUCTS = {
    **dict.fromkeys(["bmm", "convolution", "dot", "linear", "mm", "mul", "mv"], (0, 1)),
    **dict.fromkeys(["addcmul", "addmm", "addmv", "baddbmm"], (1, 2)),
}
# what looks at the shape of its argument alone
# fmt: off
SHAPES = frozenset([
    "empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_zeros", "ones_like",
    "zeros_like",
])
# fmt: on


class NotAffineError(Exception):
    """An operation is not affine; the message says which."""


@final
class Tracked(Tensor):
    """A tensor that is an affine function of the arguments.

    Args:
        value: Its values.
    """

    value: Tensor
    __torch_function__: ClassVar[Any] = torch._C._disabled_torch_function_impl  # type: ignore[misc]

    @staticmethod
    def __new__(cls: type[Tracked], value: Tensor) -> Tracked:
        """Make a tensor without storage, so that no code can read values past the operations."""
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, value.shape, strides=value.stride(), dtype=value.dtype, device=value.device
        )

    def __init__(self, value: Tensor) -> None:
        self.value = value

    @classmethod
    def __torch_dispatch__(
        cls,
        func: OpOverload,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name not in SHAPES and not _keeps_affine(name, args, kwargs):
            raise NotAffineError(f"{name.strip('_')} of a parent is not affine")
        values = tree_map_only(Tracked, lambda t: t.value, (args, kwargs))
        found = func(*values[0], **values[1])
        return found if name in SHAPES else tree_map_only(Tensor, _track, found)

    def __repr__(self, **_: object) -> str:  # type: ignore[override]
        return f"Tracked({self.value})"


def _track(value: Tensor) -> Tracked:
    if not value.is_floating_point():
        raise NotAffineError(f"a parent becomes {str(value.dtype).removeprefix('torch.')}")
    return Tracked(value)


def _keeps_affine(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an operation on tracked tensors is affine in all that is tracked."""
    if name in SUMS:
        return True
    if name in PRODUCTS:
        return sum(_depends(args[i]) for i in PRODUCTS[name]) < 2
    rounds = kwargs.get("rounding_mode") is not None
    return name in LINEAR and not rounds and not _depends((args[1:], kwargs))


def _depends(arguments: object) -> bool:
    return any(isinstance(leaf, Tracked) for leaf in tree_leaves(arguments))


class NoDraws(TorchDispatchMode):
    """Refuse random numbers: what draws is no function of its arguments."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation unless it draws."""
        if isinstance(func, OpOverload) and torch.Tag.nondeterministic_seeded in func.tags:
            raise NotAffineError(f"{func.overloadpacket.__name__.strip('_')} draws at random")
        return func(*args, **(kwargs or {}))
