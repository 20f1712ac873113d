"""Functions whose gradient is written by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from daguerre.graph import InadmissibleError

__all__ = ["once"]

Backward = Callable[..., Any]


def once(what: str, instead: str) -> Callable[[Backward], Backward]:
    """Let a gradient be taken, but refuse that of it, which torch would take for zero.

    Args:
        what: What has the gradient.
        instead: What to do where its gradient is wanted.
    """

    def decorate(backward: Backward) -> Backward:
        alone = once_differentiable(backward)

        @wraps(backward)
        def checked(ctx: Any, *by: Any) -> Any:
            if torch.is_grad_enabled() and not torch.compiler.is_compiling():
                raise InadmissibleError(
                    f"{what} has a gradient, but create_graph=True asks for one that has a"
                    f" gradient itself; {instead}"
                )
            return alone(ctx, *by)

        return checked

    return decorate
