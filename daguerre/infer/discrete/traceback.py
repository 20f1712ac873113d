"""Choosing states backwards along a tree: the most probable ones, or a draw.

Forwards, each step sums (or maximises) some variables out. Backwards, the last ones are chosen
first: given all that is chosen already, what a step took out has a weight per state, read off the
two tensors that it multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.discrete import split_numbers
from daguerre.infer.discrete.contraction import Axes, Contraction, Kernel, Side, contract
from daguerre.infer.discrete.plan import Sum, bind
from daguerre.infer.discrete.run import Factor, largest
from daguerre.infer.discrete.tree import BATCH

__all__ = ["maximise", "sample_states"]

Choose = Callable[[Tensor], Tensor]  # weights [rows, k] -> numbers of states [rows]


def maximise(
    plan: Sum, factors: Sequence[Factor], rows: int, *, summed: Collection[int] = ()
) -> tuple[dict[int, Tensor], Tensor]:
    """Return the states of greatest probability, `[rows]` each, and its logarithm.

    Args:
        plan: A plan that holds all variables but `summed` back.
        factors: The factors, in the order of the plan.
        rows: Rows of evidence.
        summed: Variables that are summed out (marginal MAP).
    """
    chosen = _Chosen(plan, _forward(plan, factors, rows, set(summed)), rows, set(summed))
    return chosen.backwards(lambda weights: weights.argmax(-1)), chosen.slots.log_total


def sample_states(
    plan: Sum, factors: Sequence[Factor], rows: int, copies: int
) -> dict[int, Tensor]:
    """Draw all variables given the evidence, `[copies * rows]` each, copies slowest."""
    everything = {axis for axes in plan.axes for axis in axes}
    slots = _forward(plan, factors, rows, everything)
    return _Chosen(plan, slots, rows, everything, copies).backwards(_draw)


def _draw(weights: Tensor) -> Tensor:
    return torch.multinomial(weights, 1).squeeze(-1)


class _Slots(NamedTuple):
    """All slots, each row scaled, and the logarithm of the total with its scale."""

    values: list[Tensor]
    log_total: Tensor


def _forward(plan: Sum, factors: Sequence[Factor], rows: int, summed: set[int]) -> _Slots:
    """Run the tree with sums over some variables and the maximum over all others."""
    slots = [factor.table for factor in factors]
    logs = sum((f.log_scale for f in factors if f.log_scale is not None), torch.zeros(()))
    for step, k in zip(plan.tree.steps, bind(plan, rows), strict=False):
        out = {*step.alone[0], *step.alone[1], *step.sums}
        value = (
            contract(k, slots, Tensor.permute)
            if out <= summed
            else _greatest(step, k, slots, summed)
        )
        most = largest(value, plan.axes[len(slots)])
        slots.append(value / most)
        logs = logs + most.log().reshape(-1)
    for root in plan.tree.roots:
        logs = logs + slots[root].log()
    return _Slots(slots, logs.expand(rows))


def _greatest(step: Contraction, k: Kernel, slots: Sequence[Tensor], summed: set[int]) -> Tensor:
    """Contract with the maximum over what is not to be summed."""
    left = _form(k.one, slots[step.left], step.alone[0], summed)
    if k.two is None:
        return left.reshape(k.shape)
    right = _form(k.two, slots[step.right], step.alone[1], summed)
    if not k.is_product:
        return (left * right).reshape(k.shape)
    return (left.unsqueeze(-1) * right.unsqueeze(-3)).amax(-2).reshape(k.shape)


def _form(side: Side, value: Tensor, alone: Axes, summed: set[int]) -> Tensor:
    """Bring a tensor into the form of a product; what it alone holds is summed or maximised."""
    value = _reduce(value, side.alone, alone, summed)
    value = value.permute(side.permute) if side.permute is not None else value
    return value.reshape(side.shape)


def _reduce(value: Tensor, dims: Sequence[int], axes: Axes, summed: set[int]) -> Tensor:
    """Sum some of the dimensions, then maximise the others, each named by its axis."""
    add = tuple(d for d, axis in zip(dims, axes, strict=True) if axis in summed)
    top = tuple(d for d, axis in zip(dims, axes, strict=True) if axis not in summed)
    value = value.sum(add, keepdim=True) if add else value
    value = value.amax(top, keepdim=True) if top else value
    gone = {*add, *top}
    return value.reshape([s for d, s in enumerate(value.shape) if d not in gone])


class _Chosen:
    """States chosen so far, and the choice of the next."""

    def __init__(
        self, plan: Sum, slots: _Slots, rows: int, summed: set[int], copies: int = 1
    ) -> None:
        self.plan, self.slots, self.summed = plan, slots, summed
        self.is_draw = copies > 1 or all(a in summed for axes in plan.axes for a in axes)
        self.row = torch.arange(rows).repeat(copies)
        self.states: dict[int, Tensor] = {}

    def backwards(self, choose: Choose) -> dict[int, Tensor]:
        """Choose along the tree from its roots, and return all states by axis."""
        for step in reversed(self.plan.tree.steps):
            sides = [(step.left, step.alone[0])]
            sides += [(step.right, step.alone[1])] if step.right >= 0 else []
            self._choose(step.sums, sides, choose)
            for slot, alone in sides:
                self._choose(alone, [(slot, ())], choose)
        return self.states

    def _choose(self, axes: Axes, sides: Sequence[tuple[int, Axes]], choose: Choose) -> None:
        """Choose some axes at once, by the product of what the sides say about them."""
        wanted = tuple(a for a in axes if self.is_draw or a not in self.summed)
        if not wanted:
            return
        weights = torch.ones(())
        for slot, alone in sides:
            gone = (*alone, *(a for a in axes if a not in wanted))
            weights = weights * self._weights(slot, gone, wanted)
        sizes = [self.plan.sizes[a] for a in wanted]
        number = choose(weights.reshape(len(self.row), prod(sizes)))
        self.states |= zip(wanted, split_numbers(number, sizes), strict=True)

    def _weights(self, slot: int, gone: Axes, wanted: Axes) -> Tensor:
        """Return a slot at the states chosen so far, `[copies * rows, *wanted]`."""
        axes, value = self.plan.axes[slot], self.slots.values[slot]
        value = _reduce(value, [axes.index(a) for a in gone], gone, self.summed)
        axes = tuple(a for a in axes if a not in gone)
        fixed = tuple(a for a in axes if a not in wanted)
        value = value.permute([axes.index(a) for a in (*fixed, *wanted)])
        index = tuple(self.row if a == BATCH else self.states[a] for a in fixed)
        return value[index] if index else value.expand(len(self.row), *value.shape)
