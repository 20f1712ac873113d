"""The processes that play one game together, each on its share of the rows of every batch.

Rank r of W takes rows r n / W to (r + 1) n / W of a batch of n. What is a mean over rows is the
mean of the means of the shares; what compares rows, or bends a mean, asks for the rows of all.
Both ways gradients flow: the mean over the ranks of each rank's gradient is that of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["ALONE", "Peers"]

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Peers:
    """One of several processes, and what it may ask of the others; one alone answers itself.

    Every method but `share` is called by all of them at the same place, or none goes on.

    Attributes:
        rank: Its number, from 0.
        world: How many there are.
        group: Torch's name of the group.

    Example:
        >>> alone = Peers()
        >>> alone.is_main, alone.mean(torch.tensor(3.0)), alone.once(lambda: "done")
        (True, tensor(3.), 'done')
        >>> Peers(rank=1, world=2).share(torch.arange(6))
        tensor([3, 4, 5])
    """

    rank: int = 0
    world: int = 1
    group: str = ""

    @classmethod
    def of_group(cls) -> Peers:
        """Return this process of torch's default group."""
        import torch.distributed._functional_collectives  # noqa: F401 - registers gradients

        group = dist.group.WORLD
        assert group is not None, "a group has been initialised"
        return cls(dist.get_rank(), dist.get_world_size(), group.group_name)

    @property
    def is_main(self) -> bool:
        """Whether this is process 0, which writes files and shows progress."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Return the rows of a batch `[n, ...]` that are this process's, `[n / world, ...]`."""
        return rows.chunk(self.world)[self.rank] if self.world > 1 else rows

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes, with its gradient."""
        if self.world == 1:
            return value
        found = torch.ops._c10d_functional.all_reduce(value.contiguous(), "sum", self.group)
        return torch.ops._c10d_functional.wait_tensor(found)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes, with its gradient."""
        return value if self.world == 1 else self.sum(value) / self.world

    def rows(self, value: Tensor) -> Tensor:
        """Return the rows `[world n, ...]` of all shares `[n, ...]`, with their gradient."""
        if self.world == 1:
            return value
        ops = torch.ops._c10d_functional
        found = ops.all_gather_into_tensor(value.contiguous(), self.world, self.group)
        return ops.wait_tensor(found)

    def rows_of_sum(self, value: Tensor) -> Tensor:
        """Return this process's rows `[n]` of the sum of a tensor `[world n, ...]` over all."""
        if self.world == 1:
            return value
        ops = torch.ops._c10d_functional
        found = ops.reduce_scatter_tensor(value.contiguous(), "sum", self.world, self.group)
        return ops.wait_tensor(found)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to those of process 0, in place."""
        if self.world > 1:
            with torch.no_grad():
                for tensor in tensors:
                    whole = tensor.contiguous()
                    dist.broadcast(whole, 0)
                    tensor.copy_(whole)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def once(self, work: Callable[[], T]) -> T:
        """Do something in process 0 alone; all get its result, or raise its error."""
        if self.world == 1:
            return work()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = work()
            except Exception as error:  # noqa: BLE001 - raised below, in all processes
                outcome[1] = error
        dist.broadcast_object_list(outcome, 0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]


ALONE = Peers()
"""A process by itself."""
