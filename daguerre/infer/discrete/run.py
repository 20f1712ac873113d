"""Running a plan: sums of products, of which no row underflows unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daguerre.infer.discrete.contraction import Axes, Permute, contract
from daguerre.infer.discrete.plan import Marginal, Sum, bind
from daguerre.infer.discrete.tree import BATCH

__all__ = ["Factor", "Totals", "is_small", "largest", "run_small", "run_sum"]

SMALL = 1_000_000  # multiplications a step on average, up to which numpy is the faster one


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
    scales = [factor.log_scale for factor in factors if factor.log_scale is not None]
    if is_network and not torch.compiler.is_compiling():
        tables = [factor.table for factor in factors]
        found = _in_numpy(plan, tables, rows) if is_small(plan, rows) else None
        found = _plain(plan, tables, rows) if found is None else found
        if found is not None:
            return Totals(_each(sum(scales, found.log_total), rows), found.marginals)
    slots, logs = _scaled(plan, factors, rows)
    for root in plan.tree.roots:  # each on its own: the product of many may underflow
        logs = logs + slots[root].log()
    marginals = [_normal(slots[m.slot], m) for m in plan.marginals]
    return Totals(_each(sum(scales, logs), rows), marginals)


def _each(value: Tensor, rows: int) -> Tensor:
    """Return one number for all rows, or one each, as one each."""
    return value if value.shape == (rows,) else value.expand(rows)


def _safe(tiny: float) -> float:
    """Return a total above which underflow on the way has cost less than rounding did."""
    return tiny**0.75


def _plain(plan: Sum, slots: list[Tensor], rows: int) -> Totals | None:
    """Run without scaling; None if a total is too small for that."""
    slots = _filled(plan, slots, rows, Tensor.permute)
    total = _product([slots[root] for root in plan.tree.roots])
    if total.numel() and not total.min() > _safe(torch.finfo(total.dtype).tiny):
        return None
    return Totals(total.log(), [_normal(slots[m.slot], m) for m in plan.marginals])


def _filled(plan: Sum, factors: Sequence[Any], rows: int, permute: Permute) -> list[Any]:
    """Return all slots that are read after the run; the others are let go as soon as may be."""
    slots = [*factors]
    for kernel, spent in zip(bind(plan, rows), plan.spent, strict=True):
        slots.append(contract(kernel, slots, permute))
        for slot in spent:
            slots[slot] = None
    return slots


def _product(values: Sequence[Any]) -> Tensor:
    """Return the product of numbers, each one for all rows or one a row."""
    total = values[0] if values else torch.ones(())
    for value in values[1:]:
        total = total * value
    return total


def is_small(plan: Sum, rows: int) -> bool:
    """Whether a run is over before torch has found its kernels."""
    share = rows / plan.sizes[BATCH]  # the plan counts for a nominal number of rows
    return share * plan.work <= SMALL * len(plan.steps)


def _in_numpy(plan: Sum, tables: Sequence[Tensor], rows: int) -> Totals | None:
    """Run without scaling in numpy; None if it cannot be, or must not."""
    if not tables or any(t.requires_grad or t.device.type != "cpu" for t in tables):
        return None
    return run_small(plan, [table.numpy() for table in tables], rows)


def run_small(plan: Sum, arrays: Sequence[np.ndarray], rows: int) -> Totals | None:
    """Run without scaling in numpy, which calls small products ten times faster than torch.

    Args:
        plan: The plan, of factors of a network.
        arrays: The factors, of one type.
        rows: Rows of evidence.

    Returns:
        The totals; None if one is so small that something may have underflowed.
    """
    with np.errstate(all="ignore"):  # products in single precision warn of lanes that are no data
        slots = _filled(plan, arrays, rows, np.ndarray.transpose)
    total = np.asarray(_product([slots[root] for root in plan.tree.roots]))
    if total.size and not total.min() > _safe(np.finfo(arrays[0].dtype).tiny):
        return None
    marginals = []
    for marginal in plan.marginals:
        value = slots[marginal.slot]
        value = value.reshape(marginal.lead(value.shape)).transpose(marginal.order)
        sums = value.sum(tuple(range(1, value.ndim)), keepdims=True)
        marginals.append(torch.from_numpy(value / sums))
    return Totals(torch.as_tensor(np.log(total)), marginals)


def _scaled(plan: Sum, factors: Sequence[Factor], rows: int) -> tuple[list[Tensor], Tensor]:
    """Run with each result divided by its largest entry; return the logarithms of those too."""
    slots = [factor.table for factor in factors]
    logs = torch.zeros((), dtype=slots[0].dtype if slots else None)
    for i, kernel in enumerate(bind(plan, rows)):
        slot = len(slots)
        value = contract(kernel, slots, Tensor.permute)
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


def _normal(value: Tensor, marginal: Marginal) -> Tensor:
    """Divide a marginal by its sum in each row, `[rows or 1, *states of the target]`."""
    value = value.reshape(marginal.lead(value.shape)).permute(marginal.order)
    total = value.flatten(1).sum(1).reshape(-1, *[1] * (value.dim() - 1))
    return value / torch.where(total > 0, total, 1.0)
