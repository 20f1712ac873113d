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

    Attributes:
        drawn: How many batches were drawn.

    Example:
        >>> one, other = (Batches({"x": torch.arange(10)}, 3, seed=0) for _ in range(2))
        >>> for _ in range(5):
        ...     batch = next(one)
        >>> other.set(one.state())
        >>> torch.equal(next(one)["x"], next(other)["x"])
        True
    """

    def __init__(self, data: Mapping[str, Tensor], size: int, seed: int) -> None:
        self.data = dict(data)
        self.rows = len(next(iter(self.data.values())))
        self.size = min(size, self.rows)
        self.per_epoch = self.rows // self.size
        self.seed, self.drawn = seed, 0
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._shuffle()

    def __next__(self) -> dict[str, Tensor]:
        i = self.drawn % self.per_epoch
        if self.drawn and i == 0:
            self._shuffle()
        self.drawn += 1
        rows = self._order[i * self.size : (i + 1) * self.size]
        return {name: values[rows] for name, values in self.data.items()}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def state(self) -> dict[str, Tensor]:
        """Return the place in the stream: batches drawn, and what shuffled this epoch."""
        return {"drawn": torch.tensor(self.drawn), "generator": self._before}

    def set(self, state: Mapping[str, Tensor]) -> None:
        """Go to a place in the stream."""
        self.drawn = int(state["drawn"])
        self._generator.set_state(state["generator"])
        self._shuffle()

    def _shuffle(self) -> None:
        self._before = self._generator.get_state()
        self._order = torch.randperm(self.rows, generator=self._generator, device="cpu")
