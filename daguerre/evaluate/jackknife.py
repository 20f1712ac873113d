"""Error bars of statistics that are no means: each is taken again without a tenth of the rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Jackknifed", "jackknife"]

GROUPS = 10


class Jackknifed(NamedTuple):
    """A statistic with its standard error, of the same shape, in float64."""

    value: Tensor
    stderr: Tensor


def jackknife(
    statistic: Callable[..., Tensor], *samples: Tensor, groups: int = GROUPS
) -> Jackknifed:
    r"""Estimate a statistic of independent samples and its standard error.

    $\mathrm{stderr}^2 = \frac{G-1}{G} \sum_g (t_{-g} - \bar t)^2$, where $t_{-g}$ leaves the g-th
    part out of every sample. Rows are dealt to the parts in turn.

    Args:
        statistic: Maps samples to a tensor of any shape.
        samples: Each `[N, ...]`, of at least two rows a part.
        groups: G, the parts.

    Raises:
        ValueError: A sample with fewer rows.

    References:
        Efron (1982), *The jackknife, the bootstrap and other resampling plans*.

    Example:
        >>> x = torch.arange(100.0)
        >>> found = jackknife(torch.mean, x, groups=100)  # of a mean it is the usual one
        >>> torch.allclose(found.stderr, x.double().std() / 10, atol=1e-6)
        True
    """
    if short := [len(sample) for sample in samples if len(sample) < max(2, groups)]:
        raise ValueError(
            f"an error bar from {groups} parts takes {groups} rows at least, not {min(short)}"
        )
    found = []
    for group in range(groups):
        kept = (s[torch.arange(len(s), device=s.device) % groups != group] for s in samples)
        found.append(statistic(*kept))
    parts = torch.stack(found).double()
    spread = parts.std(0, correction=0) * math.sqrt(groups - 1)
    return Jackknifed(statistic(*samples).double(), spread)
