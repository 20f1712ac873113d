"""The folder of a run: checkpoints of which the newest whole one counts, and the losses.

| file | holds |
|---|---|
| `checkpoints/000001000.safetensors` | everything that moves, after so many steps |
| `history.jsonl` | losses and measures, a line per step |
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from daguerre.files import sweep
from daguerre.objectives.objective import Objective
from daguerre.train.checkpoint import Saved, read, set_weights, write
from daguerre.train.lock import Lock
from daguerre.train.session import Session, modules_of, set_averages
from daguerre.train.turns import check_positive

__all__ = ["Checkpoints", "Store", "checkpoints", "newest", "released", "restore", "store_of"]

HISTORY = "history.jsonl"


@dataclass(frozen=True)
class Checkpoints:
    """Where a fit keeps checkpoints, how often, and how many.

    Attributes:
        folder: The folder of the run; made if it does not exist.
        every: Steps between two checkpoints; where None, it is time that counts.
        seconds: Time between two checkpoints.
        keep: How many are kept, the newest ones.

    Raises:
        ValueError: A number out of range.
    """

    folder: str | os.PathLike[str]
    every: int | None = None
    seconds: float = 300.0
    keep: int = 3

    def __post_init__(self) -> None:
        check_positive(every=self.every, seconds=self.seconds, keep=self.keep)


class Store:
    """The folder of a run while its fit goes on.

    Args:
        plan: Where, how often, how many.
    """

    def __init__(self, plan: Checkpoints) -> None:
        self.plan = plan
        self.folder = Path(plan.folder)
        self._inner = self.folder / "checkpoints"
        self._lock = Lock(self.folder)
        self._started = self._written_at = time.monotonic()
        self._before = 0.0
        self._newest: Path | None = None

    def prepare(self, *, resume: bool) -> None:
        """Make the folder and hold it, before any work is done for it.

        Raises:
            BlockingIOError: Another fit is at work in it; says which process.
            FileExistsError: It holds a run, which is not to be resumed.
            OSError: It cannot be made or written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._open(resume=resume)
        except BaseException:
            self.release()
            raise

    def _open(self, *, resume: bool) -> None:
        if not resume and (checkpoints(self.folder) or (self.folder / HISTORY).exists()):
            raise FileExistsError(
                f"{self.folder} holds a run already; say resume=True to go on with it, or choose"
                " another folder"
            )
        self._inner.mkdir(exist_ok=True)
        if not os.access(self._inner, os.W_OK):
            raise PermissionError(f"{self._inner} cannot be written to")
        sweep(self.folder)
        sweep(self._inner)

    def release(self) -> None:
        """Let go of the folder."""
        self._lock.release()

    def begin(self, session: Session, *, resume: bool) -> Saved | None:
        """Go on where the newest checkpoint that can be read left off, if there is one.

        Returns:
            The checkpoint.

        Raises:
            ValueError: It was written by another call, or of another model.
        """
        saved = None
        if resume and (found := newest(self.folder, aside=True)) is not None:
            saved, path = found
            self._before = session.restore(saved, path)
            self._newest = path
        with self.told("the losses cannot be written"):
            session.record.open(self.folder / HISTORY)
        self._started = self._written_at = time.monotonic()
        return saved

    @property
    def seconds(self) -> float:
        """How long the fit has taken, all sessions of it together."""
        return self._before + time.monotonic() - self._started

    @property
    def last(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        found = checkpoints(self.folder)
        return found[-1] if found else None

    def is_due(self, steps: int) -> bool:
        """Whether it is time for a checkpoint."""
        if self.plan.every is not None:
            return steps % self.plan.every == 0
        return time.monotonic() - self._written_at >= self.plan.seconds

    def write(self, session: Session, chances: Sequence[Mapping[str, Tensor]] = ()) -> None:
        """Write a checkpoint, and remove the oldest where there are too many.

        Args:
            session: The fit.
            chances: The generators of the other processes.

        Raises:
            OSError: The disk does not take it; the last one is intact, and named.
        """
        path = self._inner / f"{session.record.steps:09d}.safetensors"
        if path == self._newest:  # written after this very step
            return
        with self.told("no checkpoint was written"):
            session.record.sync()
            write(path, session.saved(self.seconds, chances))
        for old in checkpoints(self.folder)[: -self.plan.keep]:
            old.unlink(missing_ok=True)
        self._newest, self._written_at = path, time.monotonic()

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Say of an error of the disk what it did, and which checkpoint is intact.

        Raises:
            OSError: The same, in these words.
        """
        try:
            yield
        except OSError as error:
            last = f"the last checkpoint, {self.last}, is intact, and resume=True goes on from it"
            kept = last if self.last else "there is no checkpoint yet"
            raise OSError(
                error.errno, f"{error.strerror or error}: {what}; {kept}", error.filename
            ) from error


@contextmanager
def released(store: Store | None) -> Iterator[None]:
    """Let go of the folder of a fit in the end, if it has one."""
    try:
        yield
    finally:
        if store is not None:
            store.release()


def store_of(out: str | os.PathLike[str] | Checkpoints | None) -> Store | None:
    """Return the store that a fit was asked to keep, if it was."""
    if out is None:
        return None
    return Store(out if isinstance(out, Checkpoints) else Checkpoints(out))


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted((Path(folder) / "checkpoints").glob("[0-9]*.safetensors"))


def newest(folder: str | os.PathLike[str], *, aside: bool = False) -> tuple[Saved, Path] | None:
    """Read the newest checkpoint that can be read; warn of each that cannot.

    Args:
        folder: The run.
        aside: Whether to rename those that cannot be read, `*.damaged`.

    Raises:
        ValueError: There are checkpoints, but none can be read.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return read(path), path
        except ValueError as error:
            if path == found[0]:
                raise
            warnings.warn(f"{error}; the checkpoint before it is taken", stacklevel=2)
            if aside:
                path.rename(path.with_suffix(".damaged"))
    return None


def restore(objective: Objective, folder: str | os.PathLike[str]) -> int:
    """Set the modules of a game to the newest checkpoint of a run, and return its step.

    Averages take the place of weights where there are some, as at the end of a fit.

    Args:
        objective: The game that was played, or the same one made again.
        folder: The run.

    Raises:
        FileNotFoundError: The folder holds no checkpoint.
        GraphError: It is that of another model; nothing is changed.
        ValueError: None of its checkpoints can be read.
    """
    if (found := newest(folder)) is None:
        raise FileNotFoundError(f"{Path(folder) / 'checkpoints'} holds no checkpoint")
    saved, path = found
    set_weights(saved, modules_of(objective), path)
    set_averages(objective, saved)
    return saved.notes["steps"]
