"""All slices of a recursion by the code of one, as one function with a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node

from daguerre.derivatives import once
from daguerre.recorded.parted import Parted, Piece

__all__ = ["Order", "run_slices"]

Slot = tuple[int, int]


class Order(NamedTuple):
    """How slices follow each other.

    Attributes:
        counts: The rows of each.
        chosen: Which rows of the slice before reach each; None where all do.
        slots: The number of the variable, and how many slices ago, of what the code takes of the
            slices before.
        values: Which outputs are the values of the variables.
        depth: How many slices before are known of each.
    """

    counts: Sequence[int]
    chosen: Sequence[Tensor | None]
    slots: Sequence[Slot]
    values: Sequence[int]
    depth: int

    def windows(self, values: Sequence[Tensor]) -> list[list[Tensor]]:
        """Arrange the slices before by variable, the latest first."""
        return [[*values[i : i + self.depth]] for i in range(0, len(values), self.depth)]


def run_slices(
    parted: Parted,
    order: Order,
    before: Sequence[Tensor],
    known: Sequence[Tensor],
    held: Sequence[Tensor],
) -> Sequence[Tensor]:
    """Run all slices of a recursion.

    Args:
        parted: The code of one.
        order: How they follow each other.
        before: The slices before the first one of each variable, the latest first.
        known: What is known, the rows of all slices after each other.
        held: What is the same for all rows.

    Returns:
        Each output, the rows of all slices after each other.
    """
    return _Slices.apply(parted, order, *before, *known, *held)  # type: ignore[return-value]


class _Slices(torch.autograd.Function):
    """All slices of a recursion, with a gradient."""

    @staticmethod
    def forward(ctx: Any, parted: Parted, order: Order, *given: Tensor) -> Any:
        start = len(order.values) * order.depth
        window = order.windows([one.contiguous() for one in given[:start]])  # as was traced
        known = given[start : start + len(parted.known)]
        ran = _Ran(parted, order, parted.fixed(given[start + len(known) :]), known)
        call = ran.caller(parted.forwards)
        for i, chosen in enumerate(order.chosen):
            if chosen is not None:
                window = [[one.index_select(0, chosen) for one in line] for line in window]
            taken = [window[line][ago - 1] for line, ago in order.slots]
            made = call(order.counts[i], [*taken, *ran.of_known[i]])
            ran.taken.append(taken)
            ran.made.append(made)
            latest = [made[k].contiguous() for k in order.values]
            window = [[one, *w[:-1]] for one, w in zip(latest, window, strict=True)]
        outputs = [_whole(ran.made, i) for i in range(len(parted.outputs))]
        ctx.save_for_backward(*known, *outputs)
        ctx.ran = ran
        return tuple(outputs)

    @staticmethod
    @once("a recursion that a step has recorded", "make the step with compile=False")
    def backward(ctx: Any, *slopes: Tensor) -> Any:  # type: ignore[override]
        starts, *rest = ctx.ran.back(slopes, ctx.saved_tensors)
        return None, None, *starts, *rest


class _Ran:
    """What a run has left for its gradient.

    Attributes:
        of_known: What was known of each slice.
        taken: What each took of the slices before.
        made: What each gave: outputs, and what is kept.
    """

    def __init__(
        self, parted: Parted, order: Order, fixed: Mapping[Node, Any], known: Sequence[Tensor]
    ) -> None:
        self.parted, self.order, self._fixed = parted, order, fixed
        split = [one.contiguous().split([*order.counts]) for one in known]
        self.of_known = [*zip(*split, strict=True)] if split else [()] * len(order.counts)
        self.taken: list[Sequence[Tensor]] = []
        self.made: list[Sequence[Tensor]] = []

    def caller(self, piece: Piece) -> Callable[[int, Sequence[Any]], Sequence[Any]]:
        """Return what runs code for so many rows, given values in the order of the pool."""
        pool = self.parted.pool
        constants = [self._fixed[node] for node in piece.fixed]
        places = [pool.index(node) for node in piece.rows]
        pick = itemgetter(*places) if len(places) > 1 else lambda pool: [pool[i] for i in places]

        def call(rows: int, values: Sequence[Any]) -> Sequence[Any]:
            sizes = (self.parted.sizes(rows, node) for node in piece.sizes)
            return piece.run(*pick(values), *constants, *sizes)

        return call

    def back(self, slopes: Sequence[Tensor], saved: Sequence[Tensor]) -> Iterator[Any]:
        """Run the gradient back through the slices, and compute the rest for all at once.

        Args:
            slopes: The gradient by each output of all slices.
            saved: What is known, and the outputs, of all slices.

        Yields:
            The gradients by the slices before the first one; then that by each of what is known
            and of what is the same for all rows.
        """
        parted, order, call = self.parted, self.order, self.caller(self.parted.back)
        by_slice = [
            [*one] for one in zip(*(s.split([*order.counts]) for s in slopes), strict=True)
        ]
        flows = [i for i, slope in enumerate(parted.slopes) if slope is not None]
        left: list[Sequence[Tensor]] = []
        later: list[list[Tensor | None]] = [[None] * order.depth for _ in order.values]
        for i in reversed(range(len(order.counts))):
            by = by_slice[i]
            for k, to in zip(order.values, later, strict=True):
                by[k] = _sum(by[k], to[0])
            pool = [*self.taken[i], *self.of_known[i], *self.made[i], *(by[k] for k in flows)]
            found = call(order.counts[i], pool)
            left.append(found[len(order.slots) :])
            later = [[*to[1:], None] for to in later]
            for (line, ago), to in zip(order.slots, found, strict=False):
                later[line][ago - 1] = _sum(to, later[line][ago - 1])
            if (chosen := order.chosen[i]) is not None:
                rows = order.counts[i - 1]
                later = [[_put(one, chosen, rows) for one in to] for to in later]
        yield [one for to in later for one in to]
        yield from self._rest(by_slice, left[::-1], slopes, saved)

    def _rest(
        self,
        by_slice: Sequence[Sequence[Tensor]],
        left: Sequence[Sequence[Tensor]],
        slopes: Sequence[Tensor],
        saved: Sequence[Tensor],
    ) -> Sequence[Tensor | None]:
        """Compute what does not flow from slice to slice, for the rows of all at once."""
        parted, own = self.parted, {*self.order.values}
        whole = dict(zip((*parted.known, *parted.outputs), saved, strict=True))
        by = {n: i for i, n in enumerate(parted.slopes) if n is not None}
        whole |= {n: slopes[i] for n, i in by.items() if i not in own}
        parts = {n: (left, i) for i, n in enumerate(parted.left)}
        parts |= {n: (self.made, i) for i, n in enumerate((*parted.outputs, *parted.kept))}
        parts |= {n: (self.taken, i) for i, n in enumerate(parted.before)}
        parts |= {n: (by_slice, i) for n, i in by.items()}
        rows = [whole[n] if n in whole else _whole(*parts[n]) for n in parted.rest.rows]
        constants = [self._fixed[node] for node in parted.rest.fixed]
        sizes = [parted.sizes(sum(self.order.counts), node) for node in parted.rest.sizes]
        return parted.rest.run(*rows, *constants, *sizes)


def _whole(parts: Sequence[Sequence[Tensor]], place: int) -> Tensor:
    """Return the rows of all slices of what is found at a place of each."""
    return torch.cat([part[place] for part in parts])


def _sum(value: Tensor | None, other: Tensor | None) -> Any:
    if value is None or other is None:
        return other if value is None else value
    return value + other


def _put(value: Tensor | None, chosen: Tensor, rows: int) -> Tensor | None:
    """Return rows at their places among so many, zeros elsewhere."""
    if value is None:
        return None
    return value.new_zeros(rows, *value.shape[1:]).index_copy_(0, chosen, value)
