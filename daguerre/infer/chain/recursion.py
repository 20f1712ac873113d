"""Forward and backward recursions of a finite chain over any semiring and any plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.infer.chain.layout import Layout, keep
from daguerre.infer.chain.scan import Elements, prefixes, suffixes
from daguerre.infer.chain.semiring import Semiring

__all__ = ["Boundaries", "Recursion"]


class Boundaries(NamedTuple):
    """Vectors between blocks.

    Attributes:
        vectors: Per block, what enters it, `[n, B, K]`.
        last: What leaves the last block entered, `[B, K]`, up to `log_scale`.
        log_scale: The logarithm of what `last` was divided by, `[B]`.
    """

    vectors: Tensor
    last: Tensor
    log_scale: Tensor


@dataclass(frozen=True, eq=False)
class Recursion:
    """A chain of vectors times matrices, `x (M_1 diag w_1) (M_2 diag w_2) ...`, ready to run.

    Attributes:
        semiring: What the sums and products are.
        layout: How the blocks lie in rows.
        start: The first vector, `[B, K]`.
        matrices: `[K, K]`, or `[width, K, K, rows]` where they change.
        weights: `[width, K, rows]`.
    """

    semiring: Semiring
    layout: Layout
    start: Tensor
    matrices: Tensor
    weights: Tensor

    @cached_property
    def summaries(self) -> Elements:
        """The product of each block, `[n, B, K, K]`, and its log scale, `[n, B]`."""
        unit = self.semiring.unit(self.start)
        x, scale = self._through(unit.unsqueeze(-1).expand(-1, -1, self.layout.rows).contiguous())
        return self.layout.to_grid(x).mT, self.layout.to_grid(scale)

    def forward(self) -> Boundaries:
        """Carry the first vector across the blocks."""
        plan = self.layout.plan
        if plan.blocks == 1:
            x, scale = self._through(self.layout.to_rows(self.start[None]))
            last, log_scale = self.layout.to_grid(x)[0], self.layout.to_grid(scale)[0]
            return Boundaries(self.start[None], last, log_scale)
        if not plan.tree:
            return self._across(self.start, *self.summaries)
        products, scales = prefixes(self._join, self.summaries)
        vectors = self._carry(self.start, products)
        entering = torch.cat([self.start[None], vectors[:-1]])
        return Boundaries(entering, vectors[-1], scales[-1])

    def backward(self) -> Tensor:
        """Return what the steps after each block say of its last state, `[n, B, K]`."""
        plan, ones = self.layout.plan, self.semiring.encode(torch.zeros_like(self.start))
        if plan.blocks == 1:
            return ones[None]
        if not plan.tree:
            products, scales = self.summaries
            return self._across(ones, products.mT.flip(0), scales.flip(0)).vectors.flip(0)
        products = suffixes(self._join, self.summaries)[0][1:].mT
        return torch.cat([self._carry(ones, products), ones[None]])

    def forward_pass(self, entering: Tensor) -> Tensor:
        """Return the vector after each step up to scale, `[width, K, rows]`."""
        ring, x, found = self.semiring, self.layout.to_rows(entering), []
        for s, (count, m, w) in enumerate(self._steps(vectors=True)):
            x = ring.weigh(ring.step(x if x.shape[-1] == count else x[:, :count], m), w)
            x, _ = self._rescaled(s, x)
            found.append(x)
        return self.layout.stack(found) if found else x.new_zeros(self.weights.shape)

    def backward_pass(self, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Say what the later steps say of the state after each step, and of the first.

        Returns:
            Up to scale, `[width, K, rows]` and `[B, K]`.
        """
        ring, ends, found = self.semiring, self.layout.to_rows(ends), []
        x = ends[:, :0]
        for s, (count, m, w) in reversed(list(enumerate(self._steps(vectors=True)))):
            if x.shape[-1] < count:
                x = torch.cat([x, ends[:, x.shape[-1] : count]], -1)
            found.append(x)
            x, _ = self._rescaled(s, ring.step(ring.weigh(x, w), m.transpose(0, 1)))
        first = self.layout.to_grid(keep(x, ends))[0]
        return self.layout.stack(found[::-1]) if found else self.weights, first

    def _steps(self, *, vectors: bool) -> list[tuple[int, Tensor, Tensor]]:
        """Per step: the number of active rows, their matrices and their weights."""
        weights = (self.weights if vectors else self.weights.unsqueeze(2)).unbind(0)
        steps = []
        for s, (count, w) in enumerate(zip(self.layout.counts, weights, strict=True)):
            m = self.matrices if self.matrices.dim() == 2 else self.matrices[s, ..., :count]
            steps.append((count, m, w if count == self.layout.rows else w[..., :count]))
        return steps

    def _rescaled(self, step: int, x: Tensor) -> tuple[Tensor, Tensor | float]:
        every = self.semiring.every
        if not every or (step + 1) % every:
            return x, 0.0
        return self.semiring.rescale(x, *range(x.dim() - 1))

    def _through(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Carry vectors or matrices through all steps of their block."""
        ring, scale = self.semiring, x.new_zeros(x.shape[-1])
        for s, (count, m, w) in enumerate(self._steps(vectors=x.dim() == 2)):
            active = x if count == x.shape[-1] else x[..., :count]
            x = keep(ring.weigh(ring.step(active, m), w), x)
            x, more = self._rescaled(s, x)
            scale = scale + more
        x, more = ring.rescale(x, *range(x.dim() - 1))
        return x, scale + more

    def _across(self, start: Tensor, products: Tensor, scales: Tensor) -> Boundaries:
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
        return Boundaries(vectors[:-1], vectors[-1], torch.stack(grown).sum(0))

    def _carry(self, x: Tensor, products: Tensor) -> Tensor:
        """Carry one vector `[B, K]` through many products `[n, B, K, K]`."""
        return self.semiring.join(x.unsqueeze(-2), products).squeeze(-2)

    def _join(self, before: Elements, after: Elements) -> Elements:
        product, more = self.semiring.rescale(self.semiring.join(before[0], after[0]), -2, -1)
        return product, before[1] + after[1] + more
