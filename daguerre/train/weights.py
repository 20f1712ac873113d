"""The weights of a fit on several processes: split in its steps, whole at all other times.

| when | modules hold |
|---|---|
| before and after the fit, in callbacks, where NaN is looked for | the whole, in every process |
| in steps | shares |
| while a checkpoint is written | the whole in process 0, on the CPU; shares elsewhere |

So what a user calls, in all processes or in one, is a module like any other, and nothing of it
waits for other processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from daguerre.devices import device_named, device_of
from daguerre.peers import ALONE, Peers
from daguerre.train.average import Average
from daguerre.train.split import Split, share_of, whole_of
from daguerre.train.turns import check_positive

__all__ = ["Sharding", "Weights", "as_sharding", "place_of"]


@dataclass(frozen=True)
class Sharding:
    """What each of several processes keeps its share of only.

    State of optimisers and sums of gradients it always is.

    Attributes:
        weights: Whether weights, their averages and gradients are shared out too.
        least: The fewest numbers of a parameter whose weights are; smaller ones stay whole.
        device: Where nets are computed, if not where the modules are: `"cuda"` trains modules
            that only the memory of the CPU holds on the GPU of each process, a share of every
            parameter on each, and they return to the CPU.

    Raises:
        ValueError: A number out of range; a device that is to hold whole weights.

    References:
        Rajbhandari, Rasley, Ruwase and He (2020, arXiv 1910.02054), ZeRO, stages 2 and 3.

    Example:
        >>> Sharding(weights=True)
        Sharding(weights=True, least=4096, device=None)
    """

    weights: bool = False
    least: int = 4096
    device: str | None = None

    def __post_init__(self) -> None:
        check_positive(least=self.least)
        if self.device is not None and not self.weights:
            raise ValueError(
                f"whole weights are where their modules are, not on {self.device!r}; move the"
                " modules there, or split weights: Sharding(weights=True, device=...)"
            )


def as_sharding(shard: Sharding | bool) -> Sharding | None:  # noqa: FBT001 - what users say
    """Read what is to be shared out; True is for all but weights.

    Raises:
        TypeError: Something else was said.
    """
    if isinstance(shard, bool):
        return Sharding() if shard else None
    if not isinstance(shard, Sharding):
        raise TypeError(f"shard is True, False or a dg.train.Sharding, not {shard!r}")
    return shard


def place_of(plan: Sharding | None, modules: Sequence[nn.Module]) -> torch.device | None:
    """Return where nets are to be computed: where they are, unless a plan says otherwise."""
    if plan is not None and plan.device is not None:
        return device_named(plan.device)
    return device_of(modules)


@final
class Weights:
    """The parameters of modules that are to be split, and what stands in their place meanwhile.

    Every method but `str` is called by all processes at the same place.

    Args:
        modules: Whose parameters.
        peers: The processes; alone, nothing is split.
        plan: Which parameters; none by default.

    Attributes:
        splits: What each parameter is replaced by.
        device: Where nets are computed, if the plan says so.

    Example:
        >>> net = nn.Linear(100, 50)
        >>> print(Weights([net], Peers(rank=0, world=2), Sharding(weights=True)))
        5,000 of 5,050 weights are split
    """

    def __init__(
        self, modules: Sequence[nn.Module] = (), peers: Peers = ALONE, plan: Sharding | None = None
    ) -> None:
        self.peers = peers
        self.device: torch.device | None = None
        self.splits: dict[nn.Parameter, Split] = {}
        self._owners: dict[Tensor, nn.Parameter] = {}  # of shares
        self._layers = list(dict.fromkeys(part for module in modules for part in module.modules()))
        self._home = device_of(modules)
        self._is_apart = False
        if plan is not None and plan.weights and peers.world > 1:
            self.device = device_named(plan.device) if plan.device else None
            self._split(plan.least)

    def _split(self, least: int) -> None:
        for parameter in self._parameters():
            is_large = parameter.is_contiguous() and parameter.numel() >= least
            if is_large or self.device not in (None, self._home):
                split = Split.of(parameter, self.peers, self.device)
                self.splits[parameter], self._owners[split.share] = split, parameter

    def __str__(self) -> str:
        """Say how many numbers are split."""
        every = sum(parameter.numel() for parameter in self._parameters())
        shared = sum(split.numel() for split in self.splits.values())
        return f"{shared:,} of {every:,} weights are split"

    @contextmanager
    def apart(self, averages: Sequence[Average]) -> Iterator[None]:
        """Let modules and averages be shares for a while; averages stay so.

        After an error nobody knows whether the others are there to gather from: weights that
        were apart are NaN then.
        """
        self._part(averages)
        try:
            yield
        except BaseException:
            if self._is_apart:
                self._give_up()
            raise
        self._join(())

    @contextmanager
    def together(self, averages: Sequence[Average]) -> Iterator[None]:
        """Let modules and averages be whole for a while, in every process; after an error too."""
        self._join(averages)
        yield
        self._part(averages)

    @contextmanager
    def collected(self, averages: Sequence[Average]) -> Iterator[None]:
        """Let process 0 have modules and averages as a whole for a while, on the CPU.

        They are gathered tensor by tensor, so that no device holds more than one of them.
        """
        if not self._is_apart:
            yield
            return
        kept = [[*average.means] for average in averages]
        try:
            self._collect(averages)
            yield
        finally:
            for average, means in zip(averages, kept, strict=True):
                average.means[:] = means
            for parameter in self.splits:
                parameter.data = _nothing_like(parameter).to(self._home)
            self._put(self.splits)

    def _part(self, averages: Sequence[Average]) -> None:
        for parameter, split in self.splits.items():
            split.share.data = share_of(parameter, self.peers).to(split.device, copy=True)
            parameter.data = _nothing_like(parameter)
        for average, i, owner in self._averaged(averages):
            split, mean = self.splits[owner], share_of(average.means[i], self.peers)
            average.weights[i], average.means[i] = split.share, mean.to(split.device, copy=True)
        self._put(self.splits)
        self._carry(averages, self.device)
        self._is_apart = True

    @torch.no_grad()
    def _join(self, averages: Sequence[Average]) -> None:
        for parameter, split in self.splits.items():
            parameter.data = split.whole().to(self._home)
            split.share.data = _nothing_like(split.share)
        for average, i, owner in self._averaged(averages):
            mean = whole_of(average.means[i], owner.shape, self.peers)
            average.weights[i], average.means[i] = owner, mean.to(owner.device)
        self._put_wholes()
        self._carry(averages, self._home)
        self._is_apart = False

    @torch.no_grad()
    def _collect(self, averages: Sequence[Average]) -> None:
        for parameter, split in self.splits.items():
            parameter.data = self._on_main(split.whole())
        for average, i, owner in self._averaged(averages):
            mean = whole_of(average.means[i], self.splits[owner].shape, self.peers)
            average.means[i] = self._on_main(mean)
        if self.peers.is_main:
            self._put_wholes()

    def _on_main(self, whole: Tensor) -> Tensor:
        return whole.cpu() if self.peers.is_main else whole.new_empty(0)

    def _give_up(self) -> None:
        for parameter, split in self.splits.items():
            parameter.data = parameter.data.new_full(split.shape, torch.nan)
        self._put_wholes()
        self._carry((), self._home)

    def _put_wholes(self) -> None:
        self._put({split: parameter for parameter, split in self.splits.items()})

    def _put(self, places: Mapping[Any, nn.Parameter]) -> None:
        for layer in self._layers:
            for name, parameter in layer._parameters.items():
                if parameter in places:
                    setattr(layer, name, places[parameter])

    def _carry(self, averages: Sequence[Average], device: torch.device | None) -> None:
        """Bring buffers, which every process has all of, to where nets are computed, or home."""
        if self.device is None:
            return
        for layer in self._layers:
            for buffer in layer._buffers.values():
                if buffer is not None:
                    buffer.data = buffer.data.to(device)
        for average in averages:
            for weight, mean in zip(average.weights, average.means, strict=True):
                mean.data = mean.data.to(weight.device)

    def _averaged(
        self, averages: Sequence[Average]
    ) -> Iterator[tuple[Average, int, nn.Parameter]]:
        """Find split parameters, or shares of them, among what is averaged."""
        for average in averages:
            for i, weight in enumerate(average.weights):
                owner = self._owners.get(weight, weight)
                if isinstance(owner, nn.Parameter) and owner in self.splits:
                    yield average, i, owner

    def _parameters(self) -> list[nn.Parameter]:
        found = (p for layer in self._layers for p in layer._parameters.values() if p is not None)
        return list(dict.fromkeys(found))


def _nothing_like(tensor: Tensor) -> Tensor:
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device)
