"""Forward and backward recursions of a finite chain over any semiring and any plan.

Blocks are joined by their products, or by guesses that are then proved, see `Recursion`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.infer.chain.layout import Layout, keep
from daguerre.infer.chain.plan import MOST_RETRIES
from daguerre.infer.chain.scan import Elements, prefixes, suffixes
from daguerre.infer.chain.semiring import Semiring

__all__ = ["BURN", "Backward", "Forward", "Recursion"]

BURN = 32  # steps from which a guess is made
ROUNDING = 1e-13  # relative error of a guess that is taken
HOPELESS = 1e-2  # relative error of one that is given up


class Forward(NamedTuple):
    """What the earlier steps say.

    Attributes:
        states: The vector after each step up to scale, `[width, K, rows]`.
        log_total: The logarithm of the sum of the last vector, `[B]`.
    """

    states: Tensor
    log_total: Tensor


class Backward(NamedTuple):
    """What the later steps say, up to scale.

    Attributes:
        states: Of the state after each step, `[width, K, rows]`.
        first: Of the first state, `[B, K]`.
    """

    states: Tensor
    first: Tensor


class _Pass(NamedTuple):
    """One pass: states `[width, K, rows]`, ends `[n, B, K]` and what they were divided by."""

    states: Tensor
    ends: Tensor
    log_scale: Tensor


class _Step(NamedTuple):
    """How many rows are active, their matrices (next by last, last by next) and weights."""

    rows: int
    ahead: Tensor
    back: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Recursion:
    r"""A chain of vectors times matrices, `x (M_1 diag w_1) (M_2 diag w_2) ...`, ready to run.

    What enters a block may be guessed from the last steps before it. A step whose transitions lie
    in $[a, 1]$ contracts Hilbert's projective metric by $\tau = (1 - a) / (1 + a)$, whatever its
    weights, and a block of w steps by $\tau^w$. So if what leaves the blocks is within $\epsilon$
    of what was guessed, every guess is within $\epsilon / (1 - \tau^w)$ of the truth. Where that
    is more than rounding, blocks are joined by the products of their matrices instead.

    Attributes:
        semiring: What the sums and products are.
        layout: How the blocks lie in rows.
        start: The first vector, `[B, K]`.
        matrices: `[K, K]`, or `[width, K, K, rows]` where they change.
        weights: `[width, K, rows]`.

    References:
        Birkhoff (1957), Extensions of Jentzsch's theorem.
    """

    semiring: Semiring
    layout: Layout
    start: Tensor
    matrices: Tensor
    weights: Tensor

    @cached_property
    def forward(self) -> Forward:
        """Carry the first vector through the chain."""
        ring = self.semiring
        if self._guesses:
            first, total = self._unit(self.start[None])

            def entering(ends: Tensor) -> Tensor:
                return torch.cat([first, self._unit(ends[:-1])[0]])

            guess = entering(self._forward_pass(self._ones, self._steps[-BURN:]).ends)
            if (found := self._proved(guess, self._forward_pass, entering)) is not None:
                logs = ring.total(found.ends) + found.log_scale
                return Forward(found.states, logs.sum(0) + total[0].log())
        entering_, last, log_scale = self._boundaries
        return Forward(self._forward_pass(entering_).states, ring.total(last) + log_scale)

    @cached_property
    def log_total(self) -> Tensor:
        """The logarithm of the sum of the last vector, `[B]`."""
        if self._guesses or self.layout.plan.blocks == 1:
            return self.forward.log_total
        _, last, log_scale = self._boundaries
        return self.semiring.total(last) + log_scale

    def backward(self) -> Backward:
        """Carry ones back through the chain; the states are the caller's to write to."""
        if self._guesses:

            def leaving(ends: Tensor) -> Tensor:
                return torch.cat([self._unit(ends[1:])[0], self._ones[:1]])

            guess = leaving(self._backward_pass(self._ones, self._steps[:BURN]).ends)
            if (found := self._proved(guess, self._backward_pass, leaving)) is not None:
                return Backward(found.states, found.ends[0])
        found = self._backward_pass(self._leaving)
        return Backward(found.states, found.ends[0])

    # Guesses

    @property
    def has_gradient(self) -> bool:
        """Whether gradients flow through, so that nothing is written in place."""
        tensors = (self.start, self.matrices, self.weights)
        return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)

    @property
    def _guesses(self) -> bool:
        plan = self.layout.plan
        mixes = self.semiring.least > 0 and self.matrices.dim() == 2
        return mixes and plan.blocks > 1 and not plan.tree and not self.has_gradient

    def _proved(
        self, guess: Tensor, run: Callable[[Tensor], _Pass], joined: Callable[[Tensor], Tensor]
    ) -> _Pass | None:
        """Return the pass from a guess, or from what it leads to, if it is proved right."""
        least, ragged = self.semiring.least, self.layout.ragged
        contraction = max(1 - least, 0.0) / (1 + least)
        slack = ROUNDING * (1 - contraction**self.layout.plan.width)
        there = None if ragged is None else self.layout.to_grid(ragged.active[:1])
        for _ in range(MOST_RETRIES):
            found = run(guess)
            better = joined(found.ends)
            off = (better - guess).abs()
            off = (off if there is None else off * there) / guess.masked_fill(guess == 0, 1e-300)
            if (error := float(off.amax())) <= slack:
                return found
            if error > HOPELESS:
                return None
            guess = better
        return None

    @cached_property
    def _ones(self) -> Tensor:
        ones = torch.ones_like(self.start)
        return ones.expand(self.layout.plan.blocks, *ones.shape)

    @staticmethod
    def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
        """Divide vectors by their sums; return these, too."""
        total = x.sum(-1, keepdim=True)
        return x / total.masked_fill(total == 0, 1.0), total.squeeze(-1)

    # Products

    @cached_property
    def summaries(self) -> Elements:
        """The product of each block, `[n, B, K, K]`, and its log scale, `[n, B]`."""
        ring, unit = self.semiring, self.semiring.unit(self.start)
        x = unit.unsqueeze(-1).expand(-1, -1, self.layout.rows).contiguous()
        scale = x.new_zeros(x.shape[-1])
        for s, (count, m, _, w) in enumerate(self._steps):
            active = x if count == x.shape[-1] else x[..., :count]
            x = keep(ring.weigh(ring.step(active, m), w.unsqueeze(1)), x)
            if ring.every and (s + 1) % ring.every == 0:
                x, more = ring.rescale(x, 0, 1)
                scale = scale + more
        x, more = ring.rescale(x, 0, 1)
        return self.layout.to_grid(x).mT, self.layout.to_grid(scale + more)

    @cached_property
    def _boundaries(self) -> tuple[Tensor, Tensor, Tensor]:
        """What enters each block, `[n, B, K]`; what leaves the last, and its log scale."""
        plan = self.layout.plan
        if plan.blocks == 1:
            found = self._forward_pass(self.start[None])
            return self.start[None], found.ends[0], found.log_scale[0]
        if not plan.tree:
            return self._across(self.start, *self.summaries)
        products, scales = prefixes(self._join, self.summaries)
        vectors = self._carry(self.start, products)
        return torch.cat([self.start[None], vectors[:-1]]), vectors[-1], scales[-1]

    @cached_property
    def _leaving(self) -> Tensor:
        """What the steps after each block say of its last state, `[n, B, K]`."""
        plan, ones = self.layout.plan, self.semiring.encode(torch.zeros_like(self.start))
        if plan.blocks == 1:
            return ones[None]
        if not plan.tree:
            products, scales = self.summaries
            return self._across(ones, products.mT.flip(0), scales.flip(0))[0].flip(0)
        products = suffixes(self._join, self.summaries)[0][1:].mT
        return torch.cat([self._carry(ones, products), ones[None]])

    def _across(
        self, start: Tensor, products: Tensor, scales: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Carry a vector across the blocks, one after another."""
        grown: list[Tensor] = [scales.sum(0)]

        def carry(x: Tensor, block: tuple[int, Tensor]) -> Tensor:
            x = self.semiring.join(x, block[1])
            if self.semiring.every and (block[0] + 1) % self.semiring.every == 0:
                x, more = self.semiring.rescale(x, -2, -1)
                grown.append(more)
            return x

        carried = list(accumulate(enumerate(products), carry, initial=start.unsqueeze(-2)))
        vectors = torch.stack(carried).squeeze(-2)
        return vectors[:-1], vectors[-1], torch.stack(grown).sum(0)

    def _carry(self, x: Tensor, products: Tensor) -> Tensor:
        """Carry one vector `[B, K]` through many products `[n, B, K, K]`."""
        return self.semiring.join(x.unsqueeze(-2), products).squeeze(-2)

    def _join(self, before: Elements, after: Elements) -> Elements:
        product, more = self.semiring.rescale(self.semiring.join(before[0], after[0]), -2, -1)
        return product, before[1] + after[1] + more

    # Passes

    @cached_property
    def _steps(self) -> list[_Step]:
        steps, shared, rows = [], self.matrices.dim() == 2, self.layout.rows
        turned = self.matrices.transpose(-1, -2) if shared else self.matrices.transpose(1, 2)
        for s, (count, w) in enumerate(zip(self.layout.counts, self.weights, strict=True)):
            ahead = turned if shared else turned[s, ..., :count]
            back = self.matrices if shared else self.matrices[s, ..., :count]
            steps.append(_Step(count, ahead, back, w if count == rows else w[:, :count]))
        return steps

    def _forward_pass(self, entering: Tensor, steps: Sequence[_Step] | None = None) -> _Pass:
        steps = self._steps if steps is None else steps
        ring, x, states = self.semiring, self.layout.to_rows(entering), self._states(steps)
        scale, ended = x.new_zeros(x.shape[-1]), []
        for s, (count, m, _, w) in enumerate(steps):
            if x.shape[-1] > count:
                ended.append(x[:, count:])
                x = x[:, :count]
            place = states.places[s]
            x = ring.weigh(ring.step(x, m, out=place), w, out=place)
            if ring.every and (s + 1) % ring.every == 0:
                x, more = ring.rescale(x, 0)
                scale = keep(scale[:count] + more, scale)
            states.put(s, x)
        ends = torch.cat([x, *ended[::-1]], -1) if ended else x
        grid = self.layout.to_grid
        return _Pass(states.all(self.layout, ends), grid(ends), grid(scale))

    def _backward_pass(self, leaving: Tensor, steps: Sequence[_Step] | None = None) -> _Pass:
        steps = self._steps if steps is None else steps
        ring, ends, states = self.semiring, self.layout.to_rows(leaving), self._states(steps)
        x = ends[:, :0]
        for s in reversed(range(len(steps))):
            count, _, m, w = steps[s]
            if x.shape[-1] < count:
                x = torch.cat([x, ends[:, x.shape[-1] : count]], -1)
            states.put(s, x)
            place = states.places[s - 1] if s and count == steps[s - 1].rows else None
            x = ring.step(ring.weigh(x, w), m, out=place)
            if ring.every and (s + 1) % ring.every == 0:
                x, _ = ring.rescale(x, 0)
        ends = keep(x, ends)
        return _Pass(states.all(self.layout, ends), self.layout.to_grid(ends), ends)

    def _states(self, steps: Sequence[_Step]) -> _States:
        if steps is not self._steps:  # a guess
            return _States(self.weights[:0], [None] * len(steps), {})
        if self.has_gradient:
            return _States(None, [None] * len(steps), {})
        rows = self.layout.rows
        is_full = all(step.rows == rows for step in steps)  # else some places are never written
        make = self.weights.new_empty if is_full else self.weights.new_zeros
        buffer = make(len(steps), *self.weights.shape[1:])
        pairs = zip(buffer, steps, strict=True)
        places = [x if step.rows == rows else x[:, : step.rows] for x, step in pairs]
        return _States(buffer, places, {})


class _States(NamedTuple):
    """The states of a pass: written to their places, or stacked if a gradient is wanted."""

    buffer: Tensor | None
    places: Sequence[Tensor | None]
    found: dict[int, Tensor]

    def put(self, step: int, x: Tensor) -> None:
        """Keep a state, `[K, count]`."""
        place = self.places[step]
        if place is None:
            self.found[step] = x
        elif place is not x:
            place.copy_(x)

    def all(self, layout: Layout, like: Tensor) -> Tensor:
        """Return all states, `[width, K, rows]`."""
        if self.buffer is not None:
            return self.buffer
        found = [self.found[s] for s in range(len(self.places))]
        return layout.stack(found) if found else like.new_zeros(0, *like.shape)
