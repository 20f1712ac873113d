"""The loop itself: passes through the players, with whatever watches them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from signal import Signals

from torch import Tensor

from daguerre.graph import GraphError
from daguerre.train.callbacks import Callback, Moment, Occasional
from daguerre.train.diagnosis import Place, diagnosed
from daguerre.train.history import History
from daguerre.train.interrupt import interruptible
from daguerre.train.progress import Progress
from daguerre.train.session import Session
from daguerre.train.store import Store

__all__ = ["Loop"]


class Loop:
    """A fit that can be run.

    Args:
        session: What moves.
        total: Steps until it ends.
        callbacks: What is called after each step.
        store: The folder that it keeps, if any.
    """

    def __init__(
        self, session: Session, total: int, callbacks: Sequence[Callback], store: Store | None
    ) -> None:
        self.session, self.total, self.callbacks = session, total, callbacks
        self.store = store
        self._watched = Place.of(session)
        self._disturbed = True  # whether code of the user's has run since the last pass

    def run(self, *, resume: bool, show: bool) -> History:
        """Run it to its end, from where it was left if it is resumed."""
        start = time.monotonic()
        record = self.session.record
        if self.store is not None:
            self.store.begin(self.session, resume=resume)
        self._watched = Place.of(self.session)
        try:
            interrupted = self._play(show=show)
        finally:
            record.close()
        seconds = time.monotonic() - start if self.store is None else self.store.seconds
        for step in self.session.steps:
            step.average.swap()
        return self._history(seconds, interrupted=interrupted)

    def _play(self, *, show: bool) -> bool:
        """Pass through the players; return whether Ctrl-C ended it."""
        record = self.session.record
        with Progress(self.total, show=show) as bar, interruptible(self._signals) as asked:
            try:
                while record.steps < self.total and not record.stopped and not asked.is_set():
                    record.add(self._pass())
                    self._call()
                    if record.is_due:
                        self._look()
                    if self.store is not None and self.store.is_due(record.steps):
                        self._look()
                        self.store.write(self.session)
                    bar.advance(record)
            except KeyboardInterrupt:  # in the middle of a step: no checkpoint could hold it
                self._look()
                return True
            self._look()
            if self.store is not None:
                self.store.write(self.session)
        return asked.is_set()

    @property
    def _signals(self) -> tuple[Signals, ...]:
        """What ends the fit after its step; without a folder there is nothing to end well for."""
        return (Signals.SIGINT,) if self.store is None else (Signals.SIGINT, Signals.SIGTERM)

    def _pass(self) -> list[Tensor]:
        """Let every player move; after a callback, steps look whether it has changed anything."""
        batches = self.session.batches
        batch = next(batches)
        losses = []
        for step in self.session.steps:
            move = step if self._disturbed else step.again
            loss = move(batch)
            for _ in range(step.turn.batches - 1):
                loss = move(next(batches))
            losses.append(loss)
        return losses

    def _call(self) -> None:
        self._disturbed = False
        record = self.session.record
        for callback in self.callbacks:
            if not isinstance(callback, Occasional) or callback.is_due(record):
                self._disturbed = True
                if found := callback(Moment(self.session, self.total)):
                    record.note(found)

    def _look(self) -> None:
        """Read the losses; where one is not finite, say which and why."""
        told = nullcontext() if self.store is None else self.store.told("losses were not written")
        with told:
            bad = self.session.record.flush()
        if bad is not None:
            kept = self.store.last if self.store is not None else None
            error = diagnosed(self.session, self._watched, *bad)
            mend = "no weight has moved since; try a lower lr, Turn(clip=...), or a bounded scale"
            last = f"; the last checkpoint, {kept}, is from before it" if kept else ""
            raise GraphError(f"{error}; {mend}{last}") from error
        self._watched = Place.of(self.session)

    def _history(self, seconds: float, *, interrupted: bool) -> History:
        record, batches = self.session.record, self.session.batches
        used = 1 + sum(step.turn.batches - 1 for step in self.session.steps)  # in a pass
        return History(
            record.losses(),
            steps=record.steps,
            epochs=record.steps * used / batches.per_epoch,
            seconds=seconds,
            compiled=all(step.compiled for step in self.session.steps),
            interrupted=interrupted,
            metrics=record.series(),
            stopped=record.stopped,
        )
