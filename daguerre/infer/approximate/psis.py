r"""Pareto-smoothed importance weights, and how far to trust them.

The largest weights are replaced by the expected order statistics of a generalized Pareto
distribution fitted to them; its shape k says how heavy their tail is. Moments of the weights
exist up to order 1/k: below 0.7 a smoothed estimate is dependable, above it is not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Smoothed", "effective_size", "fit_pareto", "pareto_smooth", "threshold"]

FEW = 4  # a tail of so few draws tells nothing
FLAT = 1e-4  # log-weights of a tail that differ by less are one weight and rounding errors
STRENGTH = 10  # draws that the prior of k, centred at 1/2, counts for


class Smoothed(NamedTuple):
    """Smoothed weights.

    Attributes:
        log_weights: `[draws, rows]`, the logarithms of weights that sum to one.
        pareto_k: The shape of the tail, `[rows]`; infinite where too few draws have weight, minus
            infinity where the largest weights are all alike.
    """

    log_weights: Tensor
    pareto_k: Tensor


def pareto_smooth(log_weights: Tensor) -> Smoothed:
    """Smooth the largest min(S / 5, 3 sqrt(S)) of S weights, for each row.

    Args:
        log_weights: `[draws, rows]`, normalised or not.

    References:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), *Pareto smoothed importance sampling*,
        JMLR 25, arXiv 1507.02646.

    Example:
        >>> ranks = (torch.arange(4000) + 0.5) / 4000
        >>> heavy = -torch.log1p(-ranks).unsqueeze(1)  # of weights with P(w > x) = 1 / x: k = 1
        >>> round(pareto_smooth(heavy).pareto_k.item(), 2)
        0.96
    """
    logs = log_weights.double()
    logs = logs - logs.amax(0)
    draws, rows = logs.shape
    size = math.ceil(min(draws / 5, 3 * draws**0.5))
    order, index = logs.sort(0)
    lowest = math.log(torch.finfo(torch.float64).tiny)
    cutoff = (order[-size - 1] if draws > size else order[0]).clamp(min=lowest)
    sizes = (order > cutoff).sum(0)
    shape = torch.full((rows,), math.inf, dtype=torch.float64, device=logs.device)
    for count in sizes.unique().tolist():
        if count <= FEW:
            continue
        chosen = (sizes == count).nonzero().squeeze(1)
        tail = order[-count:, chosen].T  # [rows, count], ascending
        base = cutoff[chosen].exp().unsqueeze(1)
        shape[chosen], smooth = _smooth(tail.exp() - base)
        order[-count:, chosen] = (smooth + base).log().clamp(max=0).T
    flat = cutoff > -FLAT
    shape[flat] = -math.inf
    order = torch.where(flat, logs.gather(0, index), order)
    smoothed = torch.empty_like(logs).scatter(0, index, order)
    return Smoothed(smoothed.log_softmax(0), shape)


def _smooth(tail: Tensor) -> tuple[Tensor, Tensor]:
    """Return k `[rows]`, and what stands in for sorted exceedances `[rows, m]`."""
    k, scale = fit_pareto(tail)
    count = tail.shape[1]
    ranks = (torch.arange(count, dtype=tail.dtype, device=tail.device) + 0.5) / count
    spread = torch.log1p(-ranks)
    bent = torch.expm1(-k.unsqueeze(1) * spread) / k.unsqueeze(1)
    smooth = scale.unsqueeze(1) * torch.where(k.unsqueeze(1) == 0, -spread, bent)
    return k, torch.where(k.isfinite().unsqueeze(1), smooth, tail)


def fit_pareto(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Fit generalized Pareto distributions to exceedances.

    The posterior mean of $b = -k / \sigma$ over a grid, under a prior from the data; k is shrunk
    towards 1/2 as if ten more draws had said so.

    Args:
        x: `[rows, m]`, ascending, positive.

    Returns:
        The shapes k and the scales, `[rows]` each.

    References:
        Zhang and Stephens (2009), *A new and efficient estimation method for the generalized
        Pareto distribution*, Technometrics 51(3); Vehtari et al. (2024), appendix C.

    Example:
        >>> ranks = (torch.arange(2000) + 0.5) / 2000
        >>> exponential = -torch.log1p(-ranks.double()).unsqueeze(0)  # k = 0, scale 1
        >>> [round(v.item(), 2) for v in fit_pareto(exponential)]
        [0.0, 1.0]
    """
    count = x.shape[1]
    points = 30 + int(count**0.5)
    steps = torch.arange(1, points + 1, dtype=x.dtype, device=x.device) - 0.5
    quartile = x[:, int(count / 4 + 0.5) - 1 : int(count / 4 + 0.5)]
    b = (1 - (points / steps).sqrt()) / (3 * quartile) + 1 / x[:, -1:]  # [rows, points]
    k = torch.log1p(-b.unsqueeze(2) * x.unsqueeze(1)).mean(2)
    profile = count * ((-b / k).log() - k - 1)
    share = profile.softmax(1)
    share = torch.where(share < 10 * torch.finfo(x.dtype).eps, 0.0, share)
    best = (b * share / share.sum(1, keepdim=True)).sum(1)
    k = torch.log1p(-best.unsqueeze(1) * x).mean(1)
    return (count * k + STRENGTH * 0.5) / (count + STRENGTH), -k / best


def threshold(draws: int) -> float:
    r"""Return the k above which so many draws are too few: $\min(1 - 1 / \log_{10} S, 0.7)$.

    References:
        Vehtari et al. (2024), section 3.2.4.

    Example:
        >>> round(threshold(1000), 3), threshold(100_000)
        (0.667, 0.7)
    """
    return min(1 - 1 / math.log10(max(draws, 10)), 0.7)


def effective_size(log_weights: Tensor) -> Tensor:
    r"""Return $(\sum_s w_s)^2 / \sum_s w_s^2$ for each row: `[draws, rows]` to `[rows]`.

    References:
        Kong (1992), *A note on importance sampling using standardized weights*.

    Example:
        >>> effective_size(torch.tensor([[0.0, 0.0], [0.0, -torch.inf]]))
        tensor([2., 1.])
    """
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()
