"""Where tensors are made: a CPD that writes `torch.zeros(8)` means the device of its model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain

import torch
from torch import nn

__all__ = ["device_named", "device_of", "on_device", "on_device_of"]


def device_named(name: str) -> torch.device:
    """Return the device that a user names; `cuda` is that of this process, of several.

    Raises:
        ValueError: There is none of that name here.

    Example:
        >>> device_named("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(name)
        if device == torch.device("cuda"):
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # torch raises either
        reason = str(error).partition("\n")[0]
        raise ValueError(f"there is no device {name!r} here: {reason}") from error
    return device


def device_of(modules: Iterable[nn.Module]) -> torch.device | None:
    """Return the device of the first parameter or buffer; None where there is none."""
    parts = (part for module in modules for part in module.modules())
    tensors = (t for p in parts for t in chain(p._parameters.values(), p._buffers.values()))
    return next((tensor.device for tensor in tensors if tensor is not None), None)


def on_device_of(modules: Iterable[nn.Module]) -> AbstractContextManager[object]:
    """Make the device of some modules the default for a while.

    Example:
        >>> with on_device_of([nn.Linear(1, 1, device="meta")]):
        ...     torch.zeros(2).device.type
        'meta'
    """
    if torch.compiler.is_compiling():
        return nullcontext()  # whoever compiles sets the default
    return on_device(device_of(modules))


def on_device(device: torch.device | None) -> AbstractContextManager[object]:
    """Make a device the default for a while."""
    if device is None or device == torch.get_default_device():
        return nullcontext()
    return device
