r"""Parameters of which each process keeps a share: whole only while something computes with them.

Process r of W has elements r c to (r + 1) c of a parameter of n elements, with c = ceil(n / W).
Whatever function is called with such a parameter is given all of it, gathered by one message, and
its gradient comes back as the share of the mean over the processes' gradients. What autograd keeps
of it for the backward pass is where to find it: it is gathered once more when it is asked for. All
of this is differentiable, so that a gradient may be taken of a gradient. (Torch's `fully_shard`
frees weights that such a gradient still needs, and does not undo what it did to a module.)

References:
    Rajbhandari, Rasley, Ruwase and He (2020, arXiv 1910.02054), ZeRO, its third stage; Zhao et al.
    (2023, arXiv 2304.11277) for layers gathered twice; Zhang et al. (2024, arXiv 2411.00284) for
    gathering as a differentiable function of shares, without hooks on modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F  # noqa: N812 - its name everywhere
from torch.nn.functional import pad
from torch.utils._pytree import tree_leaves, tree_map_only

from daguerre.graph import InadmissibleError
from daguerre.peers import Peers

__all__ = ["Split", "padded", "share_of", "whole_of"]


def share_of(whole: Tensor, peers: Peers) -> Tensor:
    """Return a process's share `[c]` of a tensor, a view where it is contiguous.

    Example:
        >>> share_of(torch.arange(6.0).view(2, 3), Peers(rank=1, world=4))
        tensor([2., 3.])
    """
    size = -(-whole.numel() // peers.world)
    return whole.detach().reshape(-1)[size * peers.rank :][:size]


def whole_of(share: Tensor, shape: Sequence[int], peers: Peers) -> Tensor:
    """Return the tensor of a shape that all processes have shares of, with its gradient."""
    count = prod(shape)
    return peers.rows(padded(share, -(-count // peers.world)))[:count].view(shape)


def padded(flat: Tensor, size: int) -> Tensor:
    """Return a tensor `[n]` with zeros up to a size."""
    return pad(flat, (0, size - len(flat))) if len(flat) < size else flat


class Split(nn.Parameter):
    """A parameter in the place of another, of which this process holds a share.

    It has the shape, type and device of the whole, and no numbers of its own.

    Attributes:
        share: Elements of this process `[c]`, which gradients are by.
        peers: The processes.
    """

    share: Tensor
    peers: Peers

    @classmethod
    def of(cls, parameter: Tensor, peers: Peers, device: torch.device | None = None) -> Split:
        """Split a parameter, which stays as it is."""
        device = device or parameter.device
        blank = torch.full((), torch.nan, dtype=parameter.dtype, device=device)
        found = cls(blank.expand(parameter.shape), requires_grad=parameter.requires_grad)
        share = share_of(parameter, peers).to(device, copy=True)
        found.share, found.peers = share.requires_grad_(parameter.requires_grad), peers
        return found

    def whole(self) -> Tensor:
        """Return all of it, with the gradient of the share; all processes ask at once."""
        return whole_of(self.share, self.shape, self.peers)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function with the whole in the place of the share."""
        del types
        kwargs = kwargs or {}
        if _asks_about(func):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        changed = [leaf for leaf in tree_leaves(args[:1]) if isinstance(leaf, Split)]
        if func is Tensor.clamp_ and changed:  # by a cost that bounds the weights of its critic
            changed[0].share.clamp_(*args[1:], **kwargs)
            return changed[0]
        if _changes(func) and changed:
            raise InadmissibleError(
                f"{func.__name__} would change a parameter of which each process has a share;"
                " change it between two fits or in a callback, or leave its weights whole:"
                " shard=True"
            )
        return _called(func, args, kwargs)


def _asks_about(func: Callable[..., Any]) -> bool:
    """Whether a function looks at shape, type or place, and not at numbers."""
    if func.__name__ in ("__get__", "__set__"):
        return func.__self__.__name__ not in _OF_NUMBERS  # type: ignore[attr-defined]
    return func in _OF_KIND


def _changes(func: Callable[..., Any]) -> bool:
    """Whether a function changes its first argument in place."""
    name = func.__name__
    return name in _ASSIGNING or (name.endswith("_") and not name.endswith("__"))


_ASSIGNING = {"__setitem__", *(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "pow"))}
_OF_NUMBERS = {"data", "T", "mT", "H", "mH", "real", "imag"}
_OF_KIND = {
    Tensor.dim,
    Tensor.element_size,
    Tensor.is_complex,
    Tensor.is_floating_point,
    Tensor.ndimension,
    Tensor.nelement,
    Tensor.numel,
    Tensor.requires_grad_,
    Tensor.size,
    Tensor.__len__,
    torch.is_complex,
    torch.is_floating_point,
    torch.numel,
}
_LOWERED = {  # what autocast computes in the shorter type
    F.conv1d,
    F.conv2d,
    F.conv3d,
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
    F.linear,
    F.multi_head_attention_forward,
    Tensor.__matmul__,
    Tensor.matmul,
    torch.addmm,
    torch.bmm,
    torch.matmul,
    torch.mm,
}


def _called(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    found: dict[Split, Tensor] = {}

    def given(split: Split) -> Tensor:
        if split not in found:
            found[split] = split.whole().to(_kind(func, split))
        return found[split]

    args, kwargs = tree_map_only(Split, given, (args, kwargs))
    with _kept_as_shares(found):
        return func(*args, **kwargs)


def _kind(func: Callable[..., Any], split: Split) -> torch.dtype:
    """Return the type that a function computes in: autocast would keep a copy in it otherwise."""
    device = split.device.type
    lowered = func in _LOWERED and torch.is_autocast_enabled(device)
    is_single = split.dtype == torch.float32
    return torch.get_autocast_dtype(device) if lowered and is_single else split.dtype


class _Place(NamedTuple):
    """A view of a whole parameter, without its numbers."""

    split: Split
    kind: torch.dtype
    size: Sequence[int]
    stride: Sequence[int]
    offset: int

    def again(self) -> Tensor:
        with torch.no_grad():
            whole = self.split.whole().to(self.kind)
            return whole.as_strided(self.size, self.stride, self.offset)


def _kept_as_shares(wholes: Mapping[Split, Tensor]) -> AbstractContextManager[object]:
    """Let autograd keep shares in the place of whole parameters for a while.

    Function transforms, such as those of penalties, know no hooks: they keep the whole.
    """
    if torch._C._are_functorch_transforms_active() or not torch.is_grad_enabled():
        return nullcontext()
    splits = {whole.untyped_storage().data_ptr(): split for split, whole in wholes.items()}
    keep, find = _hooks()

    def keep_place(tensor: Tensor) -> Any:
        split = splits.get(tensor.untyped_storage().data_ptr())
        if split is None:
            return keep(tensor)
        size, stride, first = tensor.size(), tensor.stride(), int(tensor.storage_offset())
        return _Place(split, tensor.dtype, size, stride, first)

    return saved_tensors_hooks(
        keep_place, lambda kept: kept.again() if isinstance(kept, _Place) else find(kept)
    )


def _hooks() -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
    """Return what is done already with tensors that autograd keeps, as by checkpointing."""
    autograd: Any = torch._C._autograd  # type: ignore[attr-defined]
    found = autograd._top_saved_tensors_default_hooks(False)  # noqa: FBT003 - of torch
    return found or (_itself, _itself)


def _itself(thing: Any) -> Any:
    return thing
