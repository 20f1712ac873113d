"""Blocks of sequences as rows of one batch, so that one step of all of them is one call.

The rows come last, so that small matrices lie far apart and whole rows are added at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from daguerre.infer.chain.plan import Plan

__all__ = ["Layout", "keep"]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Where the transitions of sequences of unequal length are.

    Attributes:
        order: The block and sequence of each row, `block * B + sequence`, `[rows]`.
        place: The row of each block and sequence, `[rows]`.
        source: Per step and row, the transition, `sequence * steps + time`, `[width, rows]`.
        target: Per transition, its `step * rows + row`, `[B, steps]`; beyond the end of a
            sequence, that of its last.
        inside: Whether a transition lies inside its sequence, `[B, steps]`.
        active: Whether a row has such a step, `[width, rows]`.
    """

    order: Tensor
    place: Tensor
    source: Tensor
    target: Tensor
    inside: Tensor
    active: Tensor


@dataclass(frozen=True, eq=False)
class Layout:
    """The n blocks of B sequences as rows, the longest first.

    At step s of the blocks the first `counts[s]` rows are active, so that a short block or a
    short sequence costs nothing and needs no mask.

    Attributes:
        plan: How the transitions are split.
        batch: The number of sequences, B.
        counts: Per step of a block, the number of rows that are that long.
        ragged: Where things are, if the sequences are of unequal length.
    """

    plan: Plan
    batch: int
    counts: tuple[int, ...]
    ragged: Ragged | None

    @classmethod
    def of(cls, plan: Plan, batch: int, transitions: Tensor | None) -> Layout:
        """Lay out sequences of so many transitions each, `[B]`; None where all are full."""
        n, width = plan.blocks, plan.width
        if transitions is None:
            short = width - (n * width - plan.steps)  # steps of the last block
            counts = tuple((n if s < short else n - 1) * batch for s in range(width))
            return cls(plan, batch, counts, None)
        device = transitions.device
        starts = torch.arange(n, device=device)[:, None] * width
        lengths = (transitions - starts).clamp(0, width).flatten()  # [n B], block by block
        order = lengths.argsort(descending=True, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(n * batch, device=device)
        s = torch.arange(width, device=device)[:, None]
        active = s < lengths[order]
        time = (s + order // batch * width).clamp(max=max(plan.steps - 1, 0))
        source = order % batch * plan.steps + time
        t = torch.arange(plan.steps, device=device)
        t = torch.minimum(t, (transitions[:, None] - 1).clamp(min=0))  # [B, steps]
        size = max(width, 1)
        row = place[t // size * batch + torch.arange(batch, device=device)[:, None]]
        inside = torch.arange(plan.steps, device=device) < transitions[:, None]
        ragged = Ragged(order, place, source, t % size * n * batch + row, inside, active)
        return cls(plan, batch, tuple(active.sum(1).tolist()), ragged)

    @property
    def rows(self) -> int:
        """The number of rows, n B."""
        return self.plan.blocks * self.batch

    def pack(self, values: Tensor) -> Tensor:
        """Arrange values `[B, steps, ...]` of the transitions as `[width, ..., rows]`."""
        if self.ragged is not None:
            flat = values.flatten(0, 1).index_select(0, self.ragged.source.flatten())
            return flat.unflatten(0, (self.plan.width, self.rows)).movedim(1, -1).contiguous()
        inner = values.shape[2:]
        packed = values.new_empty(self.plan.width, *inner, self.plan.blocks, self.batch)
        for place, part in self._pairs(packed, values):
            place[: len(part)] = part
            place[len(part) :] = 0
        return packed.flatten(-2)

    def _pairs(self, packed: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Pair the parts of `[width, ..., n, B]` with the steps `[s, ..., n, B]` of `[B, steps]`.

        The last block, which may be shorter, comes apart from the others.
        """
        n, width = self.plan.blocks, self.plan.width
        whole = values[:, : (n - 1) * width].view(self.batch, n - 1, width, *values.shape[2:])
        last = values[:, None, (n - 1) * width :]
        for place, part in ((slice(n - 1), whole), (slice(n - 1, n), last)):
            yield packed[..., place, :], part.permute(2, *range(3, part.dim()), 1, 0)

    def stack(self, found: list[Tensor]) -> Tensor:
        """Stack the active rows of all steps, `[..., counts[s]]` each, as `[width, ..., rows]`."""
        lacking = [self.rows - f.shape[-1] for f in found]
        pairs = zip(found, lacking, strict=True)
        return torch.stack([pad(f, (0, more)) if more else f for f, more in pairs])

    def unpack(self, packed: Tensor, *, after: Tensor | None = None) -> Tensor:
        """Arrange `[width, ..., rows]` as `[B, steps, ...]`.

        Args:
            packed: The values of transitions; beyond the end of a sequence its last counts on.
            after: What comes before the first transition, `[B, ...]`, to be put in front.
        """
        lead = 0 if after is None else 1
        found = packed.new_empty(self.batch, lead + self.plan.steps, *packed.shape[1:-1])
        if after is not None:
            found[:, 0] = after
        if self.ragged is None:
            spread = packed.unflatten(-1, (self.plan.blocks, self.batch))
            for part, place in self._pairs(spread, found[:, lead:]):
                place.copy_(part[: len(place)])
        elif self.plan.steps:
            flat, target = packed.movedim(-1, 1).flatten(0, 1), self.ragged.target
            values = flat.index_select(0, target.flatten()).unflatten(0, target.shape)
            if after is not None:  # a sequence of one step has no transition
                some = self.ragged.inside[(..., *[None] * (values.dim() - 2))][:, :1]
                values = torch.where(some, values, found[:, :1])
            found[:, lead:] = values
        return found

    def to_rows(self, values: Tensor) -> Tensor:
        """Arrange values `[n, B, ...]` of blocks as rows, `[..., rows]`."""
        flat = values.flatten(0, 1)
        if self.ragged is not None:
            flat = flat.index_select(0, self.ragged.order)
        return flat.movedim(0, -1).contiguous()

    def to_grid(self, rows: Tensor) -> Tensor:
        """Arrange rows `[..., rows]` as `[n, B, ...]`."""
        flat = rows.movedim(-1, 0)
        if self.ragged is not None:
            flat = flat.index_select(0, self.ragged.place)
        return flat.reshape(self.plan.blocks, self.batch, *rows.shape[:-1])


def keep(new: Tensor, old: Tensor) -> Tensor:
    """Return all rows after a step of the first of them."""
    count = new.shape[-1]
    return new if count == old.shape[-1] else torch.cat([new, old[..., count:]], -1)
