"""What a player keeps from batch to batch beside its weights: their average, and gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from daguerre.objectives.objective import Player

__all__ = ["Average", "Gathered"]


@dataclass(frozen=True, eq=False)
class Average:
    """A running average of a player's parameters, and of what its layers keep of the data.

    Attributes:
        decay: How much of the average stays at an update; 0 keeps none.
        weights: What is averaged: parameters, and buffers of a floating type.
        means: Their averages.

    References:
        Polyak and Juditsky (1992); the warm-up is that of Abadi et al. (2016, arXiv 1603.04467).
    """

    decay: float
    weights: list[Tensor]
    means: list[Tensor]

    @classmethod
    def of(cls, player: Player, decay: float | None) -> Average:
        """Start an average of a player's weights, or none."""
        if decay is None:
            return cls(0.0, [], [])
        buffers = [b for m in player.modules for b in m.buffers() if b.is_floating_point()]
        weights: list[Tensor] = [*player.parameters(), *dict.fromkeys(buffers)]
        return cls(decay, weights, [w.detach().clone() for w in weights])

    def follow(self, made: Tensor) -> None:
        """Move the averages towards the weights, after so many updates."""
        if self.weights:
            rate = 1 - ((1 + made) / (10 + made)).clamp(max=self.decay)
            for mean, weight in zip(self.means, self.weights, strict=True):
                mean.add_(rate * (weight - mean))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages in the place of the weights for a while."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange averages and weights."""
        with torch.no_grad():
            for mean, weight in zip(self.means, self.weights, strict=True):
                kept = weight.clone()
                weight.copy_(mean)
                mean.copy_(kept)


class Gathered:
    """Gradients and losses of several batches, whose mean makes one update.

    Args:
        parameters: What the gradients are by.
        batches: How many make an update.
    """

    def __init__(self, parameters: Sequence[Tensor], batches: int) -> None:
        self.batches = batches
        self.seen = 0
        kept = parameters if batches > 1 else ()
        self.sums = [torch.zeros_like(p, requires_grad=False) for p in kept]
        self.loss = torch.zeros((), device=parameters[0].device)

    @property
    def is_next_last(self) -> bool:
        """Whether the next batch completes an update."""
        return self.seen == self.batches - 1

    def count(self, done: bool) -> None:  # noqa: FBT001 - what `is_next_last` was
        """Note that a batch was seen."""
        self.seen = 0 if done else self.seen + 1

    def mean(
        self, loss: Tensor, gradients: Sequence[Tensor | None], *, done: bool
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        """Add a batch and, where it is the last, return the means and start again.

        Before, the loss is that of the batch, and the gradients are no means yet.
        """
        if not self.sums:
            return loss, gradients
        share = 1 / self.batches
        for total, gradient in zip(self.sums, gradients, strict=True):
            if gradient is not None:
                total.add_(share * gradient)
        self.loss.add_(share * loss)
        if not done:
            return loss, gradients
        means = [
            None if gradient is None else total.clone()
            for total, gradient in zip(self.sums, gradients, strict=True)
        ]
        mean = self.loss.clone()
        for total in (*self.sums, self.loss):
            total.zero_()
        return mean, means
