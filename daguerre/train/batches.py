"""The stream of batches of data in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple, final

import torch
from torch import Tensor

from daguerre.graph import GraphError, did_you_mean
from daguerre.peers import ALONE, Peers

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
        device: Where batches are wanted. Data is moved there once if it fits into half of what is
            free there; else each batch is, while the device still works on the one before.
        peers: The processes that share the rows of each batch; all see the same order.

    Raises:
        ValueError: The rows of a batch cannot be shared equally.

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

    def __init__(
        self,
        data: Mapping[str, Tensor],
        size: int,
        seed: int,
        members: Mapping[str, Members] | None = None,
        device: torch.device | None = None,
        peers: Peers = ALONE,
    ) -> None:
        self.device = device or next(iter(data.values())).device
        self.data = _placed(data, self.device)
        self.rows = len(next(iter(self.data.values())))
        self.size = min(size, self.rows)
        self.seed, self.drawn = seed, 0
        self.members = dict(members or {})
        self._peers = peers
        if self.size % peers.world:
            raise ValueError(_unequal(self.size, size, peers.world))
        where = next(iter(self.data.values())).device
        self._is_placed = where == self.device
        self._rows = _Deck(self.rows, self.size, seed, where)
        self._chosen = {
            plate: _Deck(one.whole, one.size, seed + i, where)
            for i, (plate, one) in enumerate(self.members.items(), 1)
        }
        decks = (self._rows, *self._chosen.values())
        self.per_epoch = prod(deck.hands for deck in decks)

    def __next__(self) -> dict[str, Tensor]:
        rows = self._peers.share(self._rows.hand(self.drawn))
        batch = {name: values.index_select(0, rows) for name, values in self.data.items()}
        for plate, one in self.members.items():
            chosen = self._chosen[plate].hand(self.drawn)
            for name, dim in one.dims.items():
                batch[name] = batch[name].index_select(dim, chosen)
        self.drawn += 1
        if self._is_placed:
            return batch
        return {n: v.pin_memory().to(self.device, non_blocking=True) for n, v in batch.items()}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def peek(self) -> dict[str, Tensor]:
        """Return the next batch and stay where it is."""
        place = self.state()
        batch = next(self)
        self.set(place)
        return batch

    def state(self) -> dict[str, Tensor]:
        """Return the place in the stream: batches drawn, and what shuffled last."""
        members = {f"generator of {plate}": deck.before for plate, deck in self._chosen.items()}
        drawn = torch.tensor(self.drawn)
        return {"drawn": drawn, "generator": self._rows.before, **members}

    def set(self, state: Mapping[str, Tensor]) -> None:
        """Go to a place in the stream."""
        self.drawn = int(state["drawn"])
        self._rows.shuffle_as(state["generator"])
        for plate, deck in self._chosen.items():
            deck.shuffle_as(state[f"generator of {plate}"])


def _unequal(size: int, asked: int, world: int) -> str:
    whole = f", as many as the data has rows (batch_size={asked})," if size < asked else ""
    few = f" or {size - size % world}" if size > world else ""
    return (
        f"a batch of {size} rows{whole} cannot be shared equally by {world} processes; take a"
        f" batch_size that {world} divides, such as {world}{few}"
    )


def _placed(data: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move data to a device at once, where it fits into half of what is free there."""
    if device.type == "cuda":
        size = sum(v.nbytes for v in data.values() if v.device != device)
        if size > torch.cuda.mem_get_info(device)[0] // 2:
            return {name: values.cpu() for name, values in data.items()}
    return {name: values.to(device) for name, values in data.items()}


class _Deck:
    """Numbers below a count, so many at a time, without replacement until all came.

    Args:
        count: How many numbers.
        size: How many at a time; the remainder waits for the next shuffle.
        seed: Of the order, which is the same on all devices.
        device: Where the numbers are wanted.
    """

    def __init__(self, count: int, size: int, seed: int, device: torch.device) -> None:
        self.count, self.size, self.hands = count, size, count // size
        self.device = device
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._shuffle()

    def hand(self, i: int) -> Tensor:
        """Return the i-th numbers; they are asked for in turn."""
        place = i % self.hands
        if i and place == 0:
            self._shuffle()
        return self._dealt[place]

    def shuffle_as(self, generator: Tensor) -> None:
        """Shuffle as a generator in some state does."""
        self._generator.set_state(generator)
        self._shuffle()

    def _shuffle(self) -> None:
        self.before = self._generator.get_state()
        order = torch.randperm(self.count, generator=self._generator, device="cpu")
        self._dealt = order.to(self.device).split(self.size)
