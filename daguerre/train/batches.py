"""The stream of batches of data in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

import torch
from torch import Tensor

__all__ = ["Batches"]


@final
class Batches:
    """An endless, reshuffled stream of equal batches.

    Args:
        data: `{name: Tensor[N, *event]}`.
        size: Rows in a batch; the remainder of an epoch waits for the next shuffle.
        seed: Of the order.
    """

    def __init__(self, data: Mapping[str, Tensor], size: int, seed: int) -> None:
        self.data = dict(data)
        self.rows = len(next(iter(self.data.values())))
        self.size = min(size, self.rows)
        self.per_epoch = self.rows // self.size
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._stream = self._shuffled()

    def __next__(self) -> dict[str, Tensor]:
        return next(self._stream)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def _shuffled(self) -> Iterator[dict[str, Tensor]]:
        while True:
            order = torch.randperm(self.rows, generator=self._generator, device="cpu")
            for i in range(self.per_epoch):
                rows = order[i * self.size : (i + 1) * self.size]
                yield {name: values[rows] for name, values in self.data.items()}
