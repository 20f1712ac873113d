r"""Shares of what a player's updates take: each process moves its part of every parameter.

Process r of W has elements r c to (r + 1) c of a parameter of n elements, with c = ceil(n / W). It
keeps the optimiser's state and sums of gradients for these alone. Gradients are reduced to shares
of their mean, one parameter after the other, and what has moved is gathered again. Of a parameter
that is split there is no more than the share: its gradient comes as one, and nothing is gathered.

References:
    Rajbhandari, Rasley, Ruwase and He (2020, arXiv 1910.02054), ZeRO, its second stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from daguerre.graph import InadmissibleError
from daguerre.peers import ALONE, Peers
from daguerre.train.optimizers import State
from daguerre.train.split import Split, padded, share_of, whole_of

__all__ = ["Shards"]


@final
class Shards:
    """A process's shares of parameters; alone, it has all of each.

    Every method but `cut` and `common` is called by all processes at the same place.

    Args:
        parameters: What is shared out; some may be split.
        peers: The processes.

    Attributes:
        own: The shares `[c]`, views of the parameters; alone, the parameters.
        leaves: What gradients are by: parameters, and shares of those that are split.

    Raises:
        ValueError: A parameter is not contiguous, and has no flat view.

    Example:
        >>> weight = torch.arange(6.0).view(2, 3)
        >>> [share.tolist() for share in Shards([weight], Peers(rank=1, world=4)).own]
        [[2.0, 3.0]]
    """

    def __init__(self, parameters: Sequence[Tensor], peers: Peers = ALONE) -> None:
        self.parameters, self.peers = parameters, peers
        if peers.world > 1:
            for parameter in parameters:
                if not (isinstance(parameter, Split) or parameter.is_contiguous()):
                    raise ValueError(
                        f"shard=True takes contiguous parameters, not one of"
                        f" {list(parameter.shape)} with strides {list(parameter.stride())};"
                        " make it so with .contiguous(), or leave shard=True out"
                    )
        self.own: Sequence[Tensor] = [self.cut(p) for p in parameters]
        self.leaves = [p.share if isinstance(p, Split) else p for p in parameters]
        self._blanks = [p for p in parameters if isinstance(p, Split)]

    def cut(self, whole: Tensor) -> Tensor:
        """Return the share `[c]` of a tensor like a parameter, a view of it."""
        if isinstance(whole, Split):
            return whole.share
        return whole if self.peers.world == 1 else share_of(whole, self.peers)

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Return the gradients of a loss by the leaves, None where it does not reach.

        Raises:
            InadmissibleError: Something was computed of a split parameter behind torch's back.
        """
        if not self._blanks:
            return [*torch.autograd.grad(loss, self.leaves, allow_unused=True)]
        of = [*self.leaves, *self._blanks]
        with torch._C.DisableTorchFunctionSubclass():
            found = torch.autograd.grad(loss, of, allow_unused=True)
        for blank, gradient in zip(self._blanks, found[len(self.leaves) :], strict=True):
            if gradient is not None:
                raise InadmissibleError(
                    f"a parameter of {list(blank.shape)}, of which each process has a share, was"
                    " given to a torch.autograd.Function, which takes no share for the whole; give"
                    " it a function of the parameter, such as weight.view_as(weight), or leave"
                    " weights whole: shard=True"
                )
        return [*found[: len(self.leaves)]]

    def reduce(self, gradients: list[Tensor | None]) -> None:
        """Put the shares of mean gradients in the place of whole ones, which go one by one.

        Args:
            gradients: Of this process's loss, by the leaves; None where it does not reach,
                and afterwards where that of no process does.
        """
        if self.peers.world == 1:
            return
        reached = self._reached([g is not None for g in gradients])
        for i, parameter in enumerate(self.parameters):
            found = gradients[i]
            if isinstance(parameter, Split):
                gradients[i] = None if found is None else found / self.peers.world
            elif reached[i]:
                whole = torch.zeros_like(parameter) if found is None else found
                gradients[i] = self._mean(whole)[: len(self.own[i])]

    def spread(self, moved: Sequence[int]) -> None:
        """Give all processes the parameters of these places as their owners have moved them."""
        for i in moved if self.peers.world > 1 else ():
            if not isinstance(self.parameters[i], Split):
                self.parameters[i].copy_(self._whole(self.own[i], self.parameters[i]))

    def common(self, state: State) -> list[Tensor]:
        """Return what of an optimiser's state is the same in all processes."""
        return [t for tensors in state.values() if not self._shares(tensors) for t in tensors]

    @contextmanager
    def gathered(self, state: State, *, changes: bool = False) -> Iterator[None]:
        """Let process 0 have an optimiser's whole state in the place of its shares for a while.

        It lies on the CPU, and other processes have nothing meanwhile.

        Args:
            state: The state.
            changes: Whether process 0 changes it, and all take their shares of what it is then.
        """
        shared = [tensors for tensors in state.values() if self._shares(tensors)]
        kept = [[*tensors] for tensors in shared]
        try:
            for tensors in shared:
                for i, share in enumerate(tensors):
                    whole = self._whole(share, self.parameters[i])
                    tensors[i] = whole.cpu() if self.peers.is_main else whole.new_empty(0)
            yield
            if changes:
                for tensors, shares in zip(shared, kept, strict=True):
                    self._scatter(tensors, shares)
        finally:
            for tensors, shares in zip(shared, kept, strict=True):
                tensors[:] = shares

    def _scatter(self, tensors: Sequence[Tensor], shares: Sequence[Tensor]) -> None:
        for found, share, like in zip(tensors, shares, self.parameters, strict=True):
            whole = torch.empty(like.shape, dtype=share.dtype, device=share.device)
            if self.peers.is_main:
                whole.copy_(found)
            self.peers.broadcast([whole])
            share.copy_(self.cut(whole))

    def _shares(self, tensors: Sequence[Tensor]) -> bool:
        """Whether a list of a state has one tensor for the share of each parameter."""
        is_like = [t.shape for t in tensors] == [share.shape for share in self.own]
        return self.peers.world > 1 and is_like

    def _reached(self, mine: list[bool]) -> list[bool]:
        marks = torch.tensor(mine, dtype=torch.float32, device=self.parameters[0].device)
        marks = self.peers.sum(marks)
        return mine if all(mine) else (marks > 0).tolist()

    def _mean(self, whole: Tensor) -> Tensor:
        size, world = -(-whole.numel() // self.peers.world), self.peers.world
        return self.peers.rows_of_sum(padded(whole.reshape(-1), size * world)).div_(world)

    def _whole(self, share: Tensor, like: Tensor) -> Tensor:
        return whole_of(share, like.shape, self.peers)
