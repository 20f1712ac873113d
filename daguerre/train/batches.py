"""The stream of batches of data in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple, final

import torch
from torch import Tensor

from daguerre.graph import GraphError, did_you_mean

__all__ = ["Batches", "Members", "read_members"]


class Members(NamedTuple):
    """Members of a plate that a batch holds.

    Attributes:
        size: How many.
        whole: Of how many.
        dims: Per observed variable in the plate, which dimension that is.
    """

    size: int
    whole: int
    dims: Mapping[str, int]


def read_members(
    plates: Mapping[str, Sequence[str]], data: Mapping[str, Tensor], subsample: Mapping[str, int]
) -> dict[str, Members]:
    """Check of which plates a batch is to hold some members.

    Args:
        plates: The plates of each variable.
        data: `{name: Tensor[N, *plates, *event]}`.
        subsample: Per plate, how many members a batch holds.

    Raises:
        GraphError: A plate that holds no variable, or none of the data.
        ValueError: No whole number of members, or more than there are.
    """
    known = dict.fromkeys(plate for own in plates.values() for plate in own)
    found: dict[str, Members] = {}
    for plate, size in subsample.items():
        dims = {n: 1 + list(plates[n]).index(plate) for n in data if plate in plates.get(n, ())}
        if plate not in known:
            hint = did_you_mean(plate, known)
            raise GraphError(f"subsample names the plate {plate!r}, which holds no variable{hint}")
        if not dims:
            raise GraphError(
                f"subsample names the plate {plate}, but it holds nothing of the data"
                f" ({', '.join(data)}), so a batch cannot hold some of its members"
            )
        name, dim = next(iter(dims.items()))
        whole = data[name].shape[dim]
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= whole:
            raise ValueError(
                f"subsample takes 1 to {whole} members of the plate {plate}, of which {name} has"
                f" {whole}, not {size!r}"
            )
        found[plate] = Members(size, whole, dims)
    return found


@final
class Batches:
    """An endless, reshuffled stream of equal batches.

    Args:
        data: `{name: Tensor[N, *plates, *event]}`.
        size: Rows in a batch; the remainder of an epoch waits for the next shuffle.
        seed: Of the order.
        members: Per plate of which a batch holds some members, which those are; an epoch then
            has as many batches as hold all entries of the data.
    """

    def __init__(
        self,
        data: Mapping[str, Tensor],
        size: int,
        seed: int,
        members: Mapping[str, Members] | None = None,
    ) -> None:
        self.data = dict(data)
        self.rows = len(next(iter(self.data.values())))
        self.size = min(size, self.rows)
        self.members = dict(members or {})
        parts = (one.whole // one.size for one in self.members.values())
        self.per_epoch = (self.rows // self.size) * prod(parts)
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._rows = self._shuffled(self.rows, self.size)
        self._chosen = {
            plate: self._shuffled(one.whole, one.size) for plate, one in self.members.items()
        }

    def __next__(self) -> dict[str, Tensor]:
        rows = next(self._rows)
        batch = {name: values[rows] for name, values in self.data.items()}
        for plate, one in self.members.items():
            chosen = next(self._chosen[plate])
            for name, dim in one.dims.items():
                batch[name] = batch[name].index_select(dim, chosen.to(batch[name].device))
        return batch

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def _shuffled(self, count: int, size: int) -> Iterator[Tensor]:
        """Yield numbers below count, so many at a time, without replacement until all came."""
        while True:
            order = torch.randperm(count, generator=self._generator, device="cpu")
            yield from (order[i * size : (i + 1) * size] for i in range(count // size))
