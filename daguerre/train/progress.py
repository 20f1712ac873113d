"""A progress bar that reads losses a few times a second, and only where someone looks."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from daguerre.train.record import Record

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["Progress"]

INTERVAL = 0.2  # seconds between looks at the losses


class Progress:
    """Steps done, steps a second, time left, and the latest loss of each player.

    Args:
        total: The number of steps.
        show: Whether to show anything; nothing is shown without a terminal.
    """

    def __init__(self, total: int, *, show: bool) -> None:
        self.total = total
        self.shown = show and sys.stderr.isatty()
        self._next = 0.0

    def __enter__(self) -> Self:
        if self.shown:
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total)
        return self

    def advance(self, record: Record) -> None:
        """Note that a step is done; look at the losses if it is time to."""
        if self.shown and (now := time.monotonic()) >= self._next:
            self._next = now + INTERVAL
            losses = zip(record.players, record.latest, strict=True)
            text = "  ".join(f"{name} {loss.item():.4g}" for name, loss in losses)
            self._bar.update(self._task, completed=record.steps, description=text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.shown:
            if kind is None:
                self._bar.update(self._task, completed=self.total)
            self._bar.stop()


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True))
