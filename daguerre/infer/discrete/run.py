"""Running a plan: sums of products, of which no row underflows unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.infer.discrete.contraction import Axes, contract
from daguerre.infer.discrete.plan import Marginal, Sum, bind
from daguerre.infer.discrete.tree import BATCH

__all__ = ["Factor", "Totals", "largest", "run_sum"]


@dataclass(frozen=True)
class Factor:
    """A table over some axes, scaled so that its largest entry in each row is at most one.

    Attributes:
        axes: Its axes; `BATCH`, if there, comes first.
        table: The entries, not negative.
        log_scale: What the entries of each row were divided by, as a logarithm: `[rows]` or a
            number.
    """

    axes: Axes
    table: Tensor
    log_scale: Tensor | None = None


class Totals(NamedTuple):
    """What a run gives.

    Attributes:
        log_total: The logarithm of the sum over all states, `[rows]`.
        marginals: Per target, its states given the evidence, `[rows or 1, *states]`; those
            of a row whose total is zero mean nothing, but are no NaN.
    """

    log_total: Tensor
    marginals: list[Tensor]


def run_sum(plan: Sum, factors: Sequence[Factor], rows: int, *, is_network: bool = True) -> Totals:
    r"""Sum a product of factors over all states of all variables, for each row of evidence.

    In a Bayesian network each factor is at most one, and so is each partial sum: summing out E
    leaves $\sum_E \prod_{v \in E} p(v \mid \mathrm{pa}) \prod_{\text{others}} \le 1$. What
    underflows on the way is then below the smallest number times the entries of one table; so a
    total that is well above that is right, and plain products will do. Other products, and rows
    with a smaller total, are run again with each step divided by its largest entry.

    Args:
        plan: The plan.
        factors: The factors, in the order of the plan.
        rows: Rows of evidence.
        is_network: Whether the factors are the CPDs of a network, sliced by evidence.
    """
    scale = sum((f.log_scale for f in factors if f.log_scale is not None), torch.zeros(()))
    if is_network and not torch.compiler.is_compiling():
        slots = _plain(plan, factors, rows)
        total = _product([slots[root] for root in plan.tree.roots])
        if not total.numel() or total.min() > _safe(total.dtype):
            marginals = [_normal(slots[m.slot], m) for m in plan.marginals]
            return Totals((total.log() + scale).expand(rows), marginals)
    slots, logs = _scaled(plan, factors, rows)
    marginals = [_normal(slots[m.slot], m) for m in plan.marginals]
    for root in plan.tree.roots:  # each on its own: the product of many may underflow
        logs = logs + slots[root].log()
    return Totals((logs + scale).expand(rows), marginals)


def _safe(dtype: torch.dtype) -> float:
    """Return a total above which underflow on the way has cost less than rounding did."""
    return torch.finfo(dtype).tiny ** 0.75


def _plain(plan: Sum, factors: Sequence[Factor], rows: int) -> list[Tensor]:
    slots = [factor.table for factor in factors]
    for kernel in bind(plan, rows):
        slots.append(contract(kernel, slots))
    return slots


def _scaled(plan: Sum, factors: Sequence[Factor], rows: int) -> tuple[list[Tensor], Tensor]:
    """Run with each result divided by its largest entry; return the logarithms of those too."""
    slots = [factor.table for factor in factors]
    logs = torch.zeros((), dtype=slots[0].dtype if slots else None)
    for i, kernel in enumerate(bind(plan, rows)):
        slot = len(slots)
        value = contract(kernel, slots)
        most = largest(value, plan.axes[slot])
        slots.append(value / most)
        if i < len(plan.tree.steps):
            logs = logs + most.log().reshape(-1)
    return slots, logs


def largest(value: Tensor, axes: Axes) -> Tensor:
    """Return the largest entry of each row, for broadcasting; one where all are zero."""
    others = tuple(i for i, axis in enumerate(axes) if axis != BATCH)
    most = value.detach().amax(others, keepdim=True) if others else value.detach()
    return torch.where(most > 0, most, 1.0)


def _product(values: Sequence[Tensor]) -> Tensor:
    """Return the product of numbers, each one for all rows or one a row."""
    total = values[0] if values else torch.ones(())
    for value in values[1:]:
        total = total * value
    return total


def _normal(value: Tensor, marginal: Marginal) -> Tensor:
    """Divide a marginal by its sum in each row, `[rows or 1, *states of the target]`."""
    axes = marginal.axes
    if BATCH not in axes:
        axes, value = (BATCH, *axes), value.unsqueeze(0)
    order = tuple(axes.index(axis) for axis in (BATCH, *marginal.target))
    value = value.permute(order)
    total = value.flatten(1).sum(1).reshape(-1, *[1] * (value.dim() - 1))
    return value / torch.where(total > 0, total, 1.0)
