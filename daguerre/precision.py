"""Mixed precision: nets compute in bfloat16; what they return is scored and summed in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.families import combined, is_short
from daguerre.graph import InadmissibleError

__all__ = ["called", "check_precision", "mixed_precision"]

T = TypeVar("T")

_active: list[tuple[str, torch.dtype]] = []  # of the innermost context last


@contextmanager
def mixed_precision(
    dtype: torch.dtype | None, device: torch.device | str = "cpu"
) -> Iterator[None]:
    """Let CPDs and critics compute in a shorter type for a while, under `torch.autocast`.

    Only they do: what a CPD returns becomes float32 at once, so that densities, divergences,
    penalties and means have all their digits. Parameters and gradients stay as they are.

    Args:
        dtype: `torch.bfloat16`, or None for what there is without.
        device: Where the nets are.

    Raises:
        ValueError: Another type.

    Example:
        >>> import daguerre as dg
        >>> p = dg.model(
        ...     z=dg.StandardNormal(8),
        ...     x=dg.deterministic(lambda z, net: net(z), net=torch.nn.Linear(8, 2)),
        ... )
        >>> with mixed_precision(torch.bfloat16):
        ...     p.sample(3)["x"].dtype
        torch.float32
    """
    if dtype is None:
        yield
        return
    check_precision(dtype)
    _active.append((torch.device(device).type, dtype))
    try:
        yield
    finally:
        _active.pop()


def check_precision(dtype: torch.dtype | None) -> None:
    """Check that nets can compute in a type.

    Raises:
        ValueError: They cannot.
    """
    if dtype not in (None, torch.bfloat16):
        raise ValueError(
            f"precision is torch.bfloat16 or None, not {dtype!r}; float16 has so small a range"
            " that losses must be rescaled, and other types are those of the model: p.double()"
        )


def called(function: Callable[..., T], *arguments: Any) -> T:
    """Call a CPD or a critic in the precision that is asked for."""
    if not _active:
        return function(*arguments)
    device, dtype = _active[-1]
    with torch.autocast(device, dtype):
        outcome = function(*arguments)
    return _single(outcome)


def _single(outcome: Any) -> Any:
    """Return a tensor or a distribution in float32, if it is shorter."""
    if isinstance(outcome, Tensor):
        return outcome.float() if outcome.dtype == torch.bfloat16 else outcome
    if isinstance(outcome, Distribution) and is_short(outcome):
        found = combined([outcome], lambda parts: parts[0].float())
        if found is None:
            raise InadmissibleError(
                f"a CPD gave a {type(outcome).__name__} with parameters in bfloat16, which cannot"
                " be made float32 from outside: do so in the CPD, net(z).float()"
            )
        return found
    return outcome
