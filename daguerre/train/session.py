"""Everything that moves in a fit, taken down and set back: what a checkpoint holds."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daguerre.objectives.objective import Objective
from daguerre.peers import Peers
from daguerre.train.average import Average
from daguerre.train.batches import Batches
from daguerre.train.chance import Chance
from daguerre.train.checkpoint import Saved, saved, set_weights
from daguerre.train.exchange import Exchange
from daguerre.train.record import Record
from daguerre.train.step import Step

__all__ = ["Session", "modules_of", "set_averages"]

ROWS = 1024  # of the data that its checksum looks at


@dataclass(frozen=True, eq=False)
class Session:
    """A fit between two passes.

    Attributes:
        objective: What is minimised.
        steps: The players' steps, in the order in which they move.
        batches: The stream of the data.
        record: What happened until now.
        chance: The generators it draws from.
        exchange: With the other processes that take part, if there are any.
    """

    objective: Objective
    steps: Sequence[Step]
    batches: Batches
    record: Record
    chance: Chance
    exchange: Exchange = field(default_factory=Exchange)

    @property
    def peers(self) -> Peers:
        """The processes that take part."""
        return self.exchange.peers

    def saved(self, seconds: float, chances: Sequence[Mapping[str, Tensor]] = ()) -> Saved:
        """Take down everything, with the time it took and the generators of other processes."""
        notes = {
            "call": self.call(),
            "steps": self.record.steps,
            "seconds": seconds,
            "metrics": self.record.metrics,
            "stopped": self.record.stopped,
        }
        weights = saved(modules_of(self.objective), notes=notes)
        others = {f"chance {rank}": dict(state) for rank, state in enumerate(chances, 1)}
        return Saved({**weights.tensors, **self._parts(), **others}, weights.graphs, notes)

    def restore(self, found: Saved, path: Path) -> float:
        """Set everything back, or nothing; return the time that it had taken.

        Raises:
            ValueError: The file is no checkpoint, or that of a call with other options.
            GraphError: It is that of another model.
        """
        if not {"call", "steps"} <= found.notes.keys():
            raise ValueError(f"{path} holds weights only: it is no checkpoint of dg.fit")
        _check_call(found.notes["call"], self.call(), path)
        parts = self._parts()
        _check_parts(found, parts, path)
        try:  # first what a file can get wrong, so that weights are set last, or not at all
            seconds = self._go_to(found)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no state of a fit: {error!r}") from error
        set_weights(found, modules_of(self.objective), path)
        with torch.no_grad():
            for part in ("moves", "averages"):
                for name, tensor in parts[part].items():
                    tensor.copy_(found.tensors[part][name])
        return seconds

    def _go_to(self, found: Saved) -> float:
        """Go to the place of a checkpoint in draws, data and history."""
        self.chance.set(found.tensors["chance"])
        self.batches.set(found.tensors["batches"])
        self.record.restore(found.tensors["losses"], found.notes["metrics"])
        self.record.stopped = str(found.notes["stopped"])
        return float(found.notes["seconds"])

    def moving(self) -> list[Tensor]:
        """Return what moves in place, alike in all processes: weights, state, averages."""
        weights = (t for m in modules_of(self.objective).values() for t in m.state_dict().values())
        moves = (t for s in self.steps for t in (s.made, *s.shards.common(s.state)))
        return [*weights, *moves, *self._parts()["averages"].values()]

    @contextmanager
    def whole(self, *, changes: bool = False) -> Iterator[None]:
        """Let process 0 have all weights and state for a while, and, say, change the state."""
        with ExitStack() as stack:
            stack.enter_context(self.exchange.weights.collected(self._averages))
            for step in self.steps:
                stack.enter_context(step.shards.gathered(step.state, changes=changes))
            yield

    def apart(self) -> AbstractContextManager[None]:
        """Let modules hold shares of split weights for a while, as in steps."""
        return self.exchange.weights.apart(self._averages)

    def together(self) -> AbstractContextManager[None]:
        """Let modules hold whole weights for a while, in all processes."""
        return self.exchange.weights.together(self._averages)

    @property
    def _averages(self) -> list[Average]:
        return [step.average for step in self.steps]

    def call(self) -> dict[str, Any]:
        """Describe what must be the same for a fit to go on as if it had never ended."""
        turns = {step.player.name: _text(step.turn) for step in self.steps}
        data = {name: _described(values) for name, values in self.batches.data.items()}
        precision = self.steps[0].precision
        members = {plate: one.size for plate, one in self.batches.members.items()}
        return {
            "objective": _text(self.objective),
            "batch_size": self.batches.size,
            "seed": self.batches.seed,
            **({"precision": str(precision)} if precision is not None else {}),
            **{f"subsample of {plate}": size for plate, size in members.items()},
            **{f"optimizer of {name}": turn for name, turn in turns.items()},
            **{f"data {name}": text for name, text in data.items()},
        }

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        """Name the tensors that move beside the weights."""
        moves: dict[str, Tensor] = {}
        averages: dict[str, Tensor] = {}
        for step in self.steps:
            player = step.player.name
            moves[f"{player}/made"] = step.made
            for name, tensors in step.state.items():
                moves |= {f"{player}/{name}/{i}": t for i, t in enumerate(tensors)}
            averages |= {f"{player}/{i}": t for i, t in enumerate(step.average.means)}
        return {
            "moves": moves,
            "averages": averages,
            "chance": self.chance.state(),
            "batches": self.batches.state(),
            "losses": self.record.losses(),
        }


def set_averages(objective: Objective, found: Saved) -> None:
    """Put the averages of a checkpoint in the place of weights, where a player has some."""
    means = found.tensors["averages"]
    for player in objective.players:
        if f"{player.name}/0" in means:
            average = Average.of(player, decay=0.0)
            for i, mean in enumerate(average.means):
                mean.copy_(means[f"{player.name}/{i}"])
            average.swap()


def modules_of(objective: Objective) -> dict[str, nn.Module]:
    """Name the modules of a game by their player and place, each once."""
    named: dict[nn.Module, str] = {}
    for player in objective.players:
        for i, module in enumerate(player.modules):
            named.setdefault(module, f"{player.name}.{i}")
    return {name: module for module, name in named.items()}


def _text(thing: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))


def _described(values: Tensor) -> str:
    """Describe data by its shape, type and a checksum of some of its rows."""
    rows = values[:: max(1, len(values) // ROWS)].detach().cpu().contiguous()
    checksum = zlib.crc32(rows.flatten().view(torch.uint8).numpy().data)
    return f"{list(values.shape)} {values.dtype}, checksum {checksum:08x}"


def _check_call(there: Mapping[str, Any], here: Mapping[str, Any], path: Path) -> None:
    for key in dict.fromkeys((*here, *there)):
        if there.get(key) != here.get(key):
            raise ValueError(
                f"{path} was written by a fit of another {key}: {there.get(key, 'none')}, here"
                f" {here.get(key, 'none')}; resume a fit with what it was started with, or start"
                " another one in another folder"
            )


def _check_parts(found: Saved, parts: Mapping[str, Mapping[str, Tensor]], path: Path) -> None:
    for part, tensors in parts.items():
        there = found.tensors.get(part, {})
        for name, tensor in tensors.items():
            is_same = name in there and there[name].dtype == tensor.dtype
            if not is_same or (
                part in ("moves", "averages") and there[name].shape != tensor.shape
            ):
                raise ValueError(f"{path} holds no {name} of {part} that fits this fit")
