"""Losses and measures as they come: read from the device now and then, written line by line."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from daguerre.files import write_whole
from daguerre.train.history import Series

__all__ = ["Record"]

MOST, SECONDS = 64, 1.0  # steps, and time, that pass at most between two looks at the losses


class Record:
    """The table of a fit while it grows; losses stay on their device until somebody must look.

    They are copied to one place there: kept as they come, they would lie between the large tensors
    of two steps, whose room could not be used again.

    Args:
        players: Whose losses it holds.

    Attributes:
        steps: How many steps are done.
        metrics: Pairs of steps done and value, by name.
        stopped: Why the fit is to end, where a callback said so.
        latest: The losses of the last step, one per player.
    """

    def __init__(self, players: Sequence[str]) -> None:
        self.players = tuple(players)
        self.steps = 0
        self.metrics: dict[str, list[tuple[int, float]]] = {}
        self.stopped = ""
        self.latest: Sequence[Tensor] = ()
        self._columns = {name: _Column() for name in players}
        self._pending, self._places = 0, torch.empty(0, len(players))
        self._place: Sequence[Tensor] = ()
        self._noted: dict[int, dict[str, float]] = {}
        self._file: int | None = None
        self._read_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to look at the losses."""
        return self._pending >= MOST or time.monotonic() - self._read_at >= SECONDS

    def add(self, losses: Sequence[Tensor]) -> None:
        """Note the losses of a step, one per player."""
        if self._pending == len(self._place):
            self._make_room(losses[0].device)
        torch.stack([*losses], out=self._place[self._pending])
        self._pending += 1
        self.steps += 1
        self.latest = losses

    def note(self, metrics: Mapping[str, float]) -> None:
        """Note what was measured after the last step; of the same measure the last counts."""
        for name, value in metrics.items():
            taken = self.metrics.setdefault(name, [])
            if taken and taken[-1][0] == self.steps:
                taken.pop()
            taken.append((self.steps, float(value)))
        self._noted.setdefault(self.steps, {}).update(metrics)

    @property
    def measured(self) -> dict[str, float]:
        """What was measured after the last step."""
        return self._noted.get(self.steps, {})

    def flush(self) -> tuple[int, str] | None:
        """Read the losses that are pending, and write them; find the first that is not finite.

        Returns:
            Its step, counted from 1, and its player.
        """
        self._read_at = time.monotonic()
        if not self._pending:
            return None
        rows = self._places[: self._pending].cpu()
        first = self.steps - self._pending + 1
        self._pending = 0
        for name, column in zip(self.players, rows.T, strict=True):
            self._columns[name].add(column)
        self._write(first)
        bad = (~rows.isfinite()).nonzero()
        return (first + int(bad[0, 0]), self.players[int(bad[0, 1])]) if len(bad) else None

    def losses(self) -> dict[str, Tensor]:
        """Return the losses that have been read, `[steps]` by player; not to be changed."""
        return {name: column.values for name, column in self._columns.items()}

    def series(self) -> dict[str, Series]:
        """Return the measures taken, by name."""
        return {
            name: Series(*(torch.tensor(part) for part in zip(*taken, strict=True)))
            for name, taken in self.metrics.items()
        }

    def restore(
        self, losses: Mapping[str, Tensor], metrics: Mapping[str, Sequence[Sequence[float]]]
    ) -> None:
        """Go back to the table that a checkpoint holds."""
        columns = {name: _Column() for name in self.players}
        for name, column in columns.items():
            column.add(losses[name])
        self._columns = columns
        self.steps = len(columns[self.players[0]].values)
        self.metrics = {name: [(int(s), v) for s, v in taken] for name, taken in metrics.items()}
        self._noted = {}
        for name, taken in self.metrics.items():
            for step, value in taken:
                self._noted.setdefault(step, {})[name] = value

    def open(self, path: Path) -> None:
        """Write to a file from now on; it holds all steps until now, and nothing else."""
        write_whole(path, self._lines(1).encode())
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def sync(self) -> None:
        """See to it that what was written is on the disk."""
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _make_room(self, device: torch.device) -> None:
        room = torch.empty(MOST + 2 * len(self._place), len(self.players), device=device)
        room[: len(self._place)] = self._places
        self._places, self._place = room, room.unbind(0)

    def _write(self, first: int) -> None:
        """Append lines; where the disk takes but a part of them, it takes nothing."""
        if self._file is None:
            return
        lines, before = self._lines(first).encode(), os.fstat(self._file).st_size
        try:
            written = os.write(self._file, lines)
            if written < len(lines):
                os.write(self._file, lines[written:])
        except OSError:
            os.ftruncate(self._file, before)
            raise

    def _lines(self, first: int) -> str:
        columns = [column.values[first - 1 :].tolist() for column in self._columns.values()]
        return "".join(
            self._line(step, row) for step, row in enumerate(zip(*columns, strict=True), first)
        )

    def _line(self, step: int, row: Sequence[float]) -> str:
        losses = dict(zip(self.players, map(_exact, row), strict=True))
        metrics = {name: _finite(value) for name, value in self._noted.pop(step, {}).items()}
        found = {"step": step, "losses": losses} | ({"metrics": metrics} if metrics else {})
        return json.dumps(found, allow_nan=False) + "\n"


class _Column:
    """Numbers that come one after the other; those that were returned stay as they are."""

    def __init__(self) -> None:
        self._room = torch.empty(1024, dtype=torch.float32, device="cpu")
        self._count = 0

    @property
    def values(self) -> Tensor:
        """All of them, not copied."""
        return self._room[: self._count]

    def add(self, more: Tensor) -> None:
        """Put more behind them; where there is no room, move to twice as much."""
        count = self._count + len(more)
        if count > len(self._room):
            room = self._room.new_empty(2 * count)
            room[: self._count] = self.values
            self._room = room
        self._room[self._count : count] = more
        self._count = count


def _exact(value: float) -> float | None:
    """Return the shortest decimal number that stands for a number of single precision."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
