"""What processes tell one another at each update: gradients, losses, and what they wish.

One all-reduce carries all of it, so that several processes cost one message an update. A process
that is to stop, write or look says so in the next one; all have heard it then, at the same step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple, final

import torch
from torch import Tensor

from daguerre.peers import ALONE, Peers
from daguerre.train.weights import Weights

__all__ = ["Exchange", "Wishes"]

PATIENCE = 8  # steps between two looks at what was said, where to look waits for a device


class Wishes(NamedTuple):
    """What is to be done after a step.

    Attributes:
        stop: End the fit, as after Ctrl-C in any of the processes.
        save: Write a checkpoint.
        look: Read the losses.
    """

    stop: bool = False
    save: bool = False
    look: bool = False


@final
class Exchange:
    """The means over processes of what each computed of its share of a batch.

    Args:
        peers: The processes; alone, everything is as it is.
        device: Where gradients are.
        shard: Whether each of several processes moves its share of every parameter.
        weights: The parameters that are split, if any are.
    """

    def __init__(
        self,
        peers: Peers = ALONE,
        device: torch.device | None = None,
        *,
        shard: bool = False,
        weights: Weights | None = None,
    ) -> None:
        self.peers, self.shard = peers, shard and peers.world > 1
        self.weights = weights or Weights()
        self._posted = Wishes()
        self._mine = torch.zeros(len(self._posted), device=device)
        self._heard = torch.zeros_like(self._mine)

    def mean(
        self, loss: Tensor, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        """Return the mean loss, and the mean gradients of what any process's loss reaches.

        Shares of gradients are means already.
        """
        if self.peers.world == 1:
            return loss, gradients
        if self.shard:
            return self._mean(loss, (), ())[0], gradients
        return self._mean(loss, gradients, parameters)

    def _mean(
        self, loss: Tensor, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        reached = [g is not None for g in gradients]
        pairs = zip(gradients, parameters, strict=True)
        sent = [torch.zeros_like(p) if g is None else g for g, p in pairs]
        marks = torch.tensor(reached, dtype=torch.float32, device=loss.device)
        parts = [*sent, loss, self._mine, marks]
        kind = reduce(torch.promote_types, (part.dtype for part in parts))
        flat = self.peers.mean(torch.cat([part.reshape(-1).to(kind) for part in parts]))
        cut = flat.split([part.numel() for part in parts])
        *means, mean, heard, marks = (
            c.view_as(p).to(p.dtype) for c, p in zip(cut, parts, strict=True)
        )
        self._heard.copy_(heard)
        if not (all(reached) or torch.compiler.is_compiling()):  # a trace is that of all
            reached = (marks > 0).tolist()
        return mean, [m if there else None for m, there in zip(means, reached, strict=True)]

    def agree(self, wishes: Wishes, steps: int) -> Wishes:
        """Return what all do after a step: at once where alone, else what was said with it.

        Writing and looking are wished for by process 0.
        """
        if self.peers.world == 1:
            return wishes
        if self._heard.device.type != "cpu" and steps % PATIENCE:
            heard = Wishes()
        else:
            heard = Wishes(*(self._heard > 0).tolist())
        if not self.peers.is_main:
            wishes = Wishes(stop=wishes.stop)
        self._post(Wishes(*(w and not h for w, h in zip(wishes, heard, strict=True))))
        return heard

    def _post(self, wishes: Wishes) -> None:
        if wishes != self._posted:
            self._posted = wishes
            self._mine.copy_(torch.tensor(wishes, dtype=self._mine.dtype))
