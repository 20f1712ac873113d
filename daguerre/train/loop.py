"""The loop itself: passes through the players, with whatever watches them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from signal import Signals

from torch import Tensor

from daguerre.graph import GraphError
from daguerre.peers import ALONE
from daguerre.train.callbacks import Callback, Moment, Occasional
from daguerre.train.diagnosis import Place, diagnosed
from daguerre.train.exchange import Wishes
from daguerre.train.history import History
from daguerre.train.interrupt import interruptible
from daguerre.train.normalise import normalised_over
from daguerre.train.processes import agreed, check_alike, join, others
from daguerre.train.progress import Progress
from daguerre.train.session import Session, modules_of
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
        check_alike(self.session, self.total)
        with nullcontext() if self.store is None else self.session.whole(changes=True):
            chances = self.session.peers.once(lambda: self._begin(resume=resume))
        join(self.session, chances)
        self._watched = Place.of(self.session)
        try:
            with others(self.session, self.store), self.session.apart():
                interrupted = self._play(show=show and self.session.peers.is_main)
                for step in self.session.steps:
                    step.average.swap()
        finally:
            record.close()
        seconds = time.monotonic() - start if self.store is None else self.store.seconds
        return self._history(seconds, interrupted=interrupted)

    def _begin(self, *, resume: bool) -> dict[str, dict[str, Tensor]]:
        """Go back to a checkpoint, if there is one; return the generators of other processes."""
        found = self.store.begin(self.session, resume=resume) if self.store is not None else None
        parts = found.tensors if found is not None else {}
        return {name: state for name, state in parts.items() if name.startswith("chance ")}

    def _play(self, *, show: bool) -> bool:
        """Pass through the players; return whether Ctrl-C ended it."""
        record, now = self.session.record, Wishes()
        with Progress(self.total, show=show) as bar, interruptible(self._signals) as asked:
            try:
                while record.steps < self.total and not record.stopped and not now.stop:
                    record.add(self._pass())
                    self._call()
                    now = self._wishes(stop=asked.is_set())
                    if now.look or now.save:
                        self._look()
                    if now.save:
                        self._save()
                    bar.advance(record)
            except KeyboardInterrupt:  # in the middle of a step: no checkpoint could hold it
                if self.session.peers.world > 1:  # of which the others wait for the rest
                    raise
                self._look()
                return True
            self._look()
            self._save()
        return now.stop

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
        """Call back; what process 0 measured and decided counts for all."""
        self._disturbed = False
        record, peers = self.session.record, self.session.peers
        with ExitStack() as whole:
            for callback in self.callbacks:
                if not isinstance(callback, Occasional) or callback.is_due(record):
                    if not self._disturbed:
                        whole.enter_context(self.session.together())
                    self._disturbed = True
                    if found := callback(Moment(self.session, self.total)):
                        record.note(found)
        if self._disturbed and peers.world > 1:
            found, record.stopped = peers.once(lambda: (record.measured, record.stopped))
            record.note(found)

    def _wishes(self, *, stop: bool) -> Wishes:
        """Return what is to be done now, in all processes alike."""
        record, store = self.session.record, self.store
        due = store is not None and store.is_due(record.steps)
        wishes = Wishes(stop=stop, save=due, look=record.is_due)
        agreed = self.session.exchange.agree(wishes, record.steps)
        return agreed._replace(save=due) if store is not None and store.plan.every else agreed

    def _save(self) -> None:
        """Write a checkpoint, with the generators of all processes."""
        if self.store is not None:
            states = self.session.peers.gather(self.session.chance.state())
            with self.session.whole():
                if self.session.peers.is_main:
                    self.store.write(self.session, states[1:])

    def _look(self) -> None:
        """Read the losses; where one is not finite, say which and why."""
        told = nullcontext() if self.store is None else self.store.told("losses were not written")
        with told:
            bad = self.session.record.flush()
        if bad is not None:
            kept = self.store.last if self.store is not None else None
            modules = modules_of(self.session.objective).values()
            alone = normalised_over(modules, ALONE)  # each process looks at its own rows
            with self.session.together(), alone:
                error = diagnosed(self.session, self._watched, *bad)
            error = agreed(self.session.peers, error)
            mend = "no weight has moved since; try a lower lr, Turn(clip=...), or a bounded scale"
            last = f"; the last checkpoint, {kept}, is from before it" if kept else ""
            raise GraphError(f"{error}; {mend}{last}") from error
        self._watched = Place.of(self.session)

    def _history(self, seconds: float, *, interrupted: bool) -> History:
        record, batches = self.session.record, self.session.batches
        used = 1 + sum(step.turn.batches - 1 for step in self.session.steps)  # in a pass
        return History(
            {name: losses.clone() for name, losses in record.losses().items()},
            steps=record.steps,
            epochs=record.steps * used / batches.per_epoch,
            seconds=seconds,
            compiled=all(step.compiled for step in self.session.steps),
            interrupted=interrupted,
            metrics=record.series(),
            stopped=record.stopped,
        )
