"""Condition many rows at once: those that miss the same components share one factorisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.infer.gaussian.evidence import condition

__all__ = ["Linear", "Posterior", "condition_rows"]

PATTERNS = 16  # rows with more patterns of missing components than this are solved as one batch
CHUNK = 2**22  # how many numbers the factors of such a batch may hold


class Linear(NamedTuple):
    r"""Variables $m + M \epsilon$ with standard noise $\epsilon$.

    Attributes:
        mean: m, `[rows or 1, *batch, d]`.
        factor: M, `[1, *batch, d, e]`.
    """

    mean: Tensor
    factor: Tensor


class Posterior(NamedTuple):
    """What `condition_rows` returns; `many` is `rows`, or 1 where all rows have the same.

    Attributes:
        log_evidence: `[rows, *batch]`.
        atoms: Observed components without density, `[many, *batch]`.
        mean: `[rows, *batch, d]`.
        covariance: `[many, *batch, d, d]`.
    """

    log_evidence: Tensor
    atoms: Tensor
    mean: Tensor
    covariance: Tensor


def condition_rows(evidence: Linear, wanted: Linear, value: Tensor, *, eps: float) -> Posterior:
    """Condition variables on the values of others, row by row.

    Args:
        evidence: The observed variables, o components.
        wanted: The variables asked for, with the same noise.
        value: `[rows, o]`; NaN marks a missing component.
        eps: Relative precision of all of them.
    """
    present = ~value.isnan()
    system = _system(evidence, value, present, eps)
    groups = list(_groups(evidence, present))
    found = [_solve(system, wanted, group) for group in groups]
    if len(groups) == 1 and groups[0].keep is not None:
        return found[0]._replace(mean=wanted.mean + found[0].mean)
    order = torch.cat([group.rows for group in groups]).argsort()
    parts = []
    for pieces in zip(*found, strict=True):
        whole = [x.expand(len(g.rows), *x.shape[1:]) for x, g in zip(pieces, groups, strict=True)]
        parts.append(torch.cat(whole)[order])
    log_evidence, atoms, mean, covariance = parts
    return Posterior(log_evidence, atoms, wanted.mean + mean, covariance)


class _System(NamedTuple):
    r"""What is to be conditioned on: $M \epsilon$ is the residual.

    Attributes:
        factor: M, `[1, *batch, o, e]`.
        residual: Value less mean, 0 where it is missing, `[rows, *batch, o]`.
        slack: What rounding may make of that.
        eps: Relative precision.
    """

    factor: Tensor
    residual: Tensor
    slack: Tensor
    eps: float


class _Group(NamedTuple):
    """Rows `[n]` that are solved together.

    Attributes:
        rows: Their numbers.
        keep: The components that all of them have; None if they differ.
        present: Which components each has, `[n, o]`.
    """

    rows: Tensor
    keep: Tensor | None
    present: Tensor


def _groups(evidence: Linear, present: Tensor) -> Iterator[_Group]:
    numbers = torch.arange(len(present), device=present.device)
    patterns, which = present.new_ones(1, present.shape[1]), numbers * 0
    if not present.all():
        patterns, which = torch.unique(present, dim=0, return_inverse=True)
    if len(patterns) <= PATTERNS:
        for i, pattern in enumerate(patterns):
            rows = numbers[which == i]
            yield _Group(rows, pattern.nonzero()[:, 0], present[rows])
        return
    each = evidence.factor.numel() + evidence.factor[..., 0].numel() * present.shape[1]
    for rows in numbers.split(max(1, CHUNK // each)):
        yield _Group(rows, None, present[rows])


def _system(evidence: Linear, value: Tensor, present: Tensor, eps: float) -> _System:
    shape = (len(value), *[1] * (evidence.mean.dim() - 2), value.shape[1])
    filled = value.nan_to_num(nan=0.0).reshape(shape)
    residual = torch.where(present.reshape(shape), filled - evidence.mean, 0.0)
    size = filled.abs() + evidence.mean.detach().abs()
    return _System(evidence.factor, residual, size * eps**0.6, eps)


def _solve(system: _System, wanted: Linear, group: _Group) -> Posterior:
    """Return the posterior of a group; its mean is the difference from the prior mean."""
    factor, present = system.factor, None
    residual, slack = system.residual[group.rows], system.slack[group.rows]
    if group.keep is not None:  # the rows become the columns of one system
        factor = factor[..., group.keep, :]
        residual, slack = (x[..., group.keep].movedim(0, -1)[None] for x in (residual, slack))
    else:
        shape = (len(group.rows), *[1] * (factor.dim() - 3), factor.shape[-2])
        present = group.present.reshape(shape)
        residual, slack = residual[..., None], slack[..., None]
    found = condition(factor, residual, present=present, slack=slack, eps=system.eps)
    shift = wanted.factor @ found.noise
    rest = wanted.factor - wanted.factor @ found.basis.mT @ found.basis
    log_prob, shift = (
        x[..., 0] if group.keep is None else x[0].movedim(-1, 0) for x in (found.log_prob, shift)
    )
    return Posterior(log_prob, found.atoms, shift, rest @ rest.mT)
