"""The stream of batches of data in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

import numpy as np
import torch
from torch import Tensor

__all__ = ["Batches"]


@final
class Batches:
    """An endless stream of equal batches, reshuffled every epoch.

    The order of an epoch depends on the seed and its number alone, so that the place in the
    stream is one number: how many batches were drawn.

    Args:
        data: `{name: Tensor[N, *event]}`.
        size: Rows in a batch; the remainder of an epoch waits for the next shuffle.
        seed: Of the order.
        drawn: How many batches were drawn before.

    Example:
        >>> x = {"x": torch.arange(10)}
        >>> stream = Batches(x, 3, seed=0)
        >>> before = [next(stream) for _ in range(5)]
        >>> torch.equal(next(stream)["x"], next(Batches(x, 3, seed=0, drawn=5))["x"])
        True
    """

    def __init__(
        self, data: Mapping[str, Tensor], size: int, seed: int, *, drawn: int = 0
    ) -> None:
        self.data = dict(data)
        self.rows = len(next(iter(self.data.values())))
        self.size = min(size, self.rows)
        self.per_epoch = self.rows // self.size
        self.seed, self.drawn = seed, drawn
        self._epoch, self._order = -1, torch.empty(0)

    def __next__(self) -> dict[str, Tensor]:
        epoch, i = divmod(self.drawn, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        rows = self._order[i * self.size : (i + 1) * self.size]
        self.drawn += 1
        return {name: values[rows] for name, values in self.data.items()}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def _shuffled(self, epoch: int) -> Tensor:
        mixed = np.random.SeedSequence([self.seed % 2**64, epoch]).generate_state(1)
        generator = torch.Generator("cpu").manual_seed(int(mixed[0]))
        return torch.randperm(self.rows, generator=generator, device="cpu")
