"""A log for TensorBoard, as a callback; the one module that needs tensorboardX.

Events are appended as they come, whole records to a file that is closed again, so that a run can
be killed at any moment. A fit that is resumed takes back what had been written of later steps.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from daguerre.draw import draw
from daguerre.evaluate.images import png_bytes
from daguerre.files import write_whole
from daguerre.model import Model
from daguerre.train.callbacks import Callback, Moment, Occasional, sampled
from daguerre.train.record import Record
from daguerre.train.turns import check_positive

__all__ = ["tensorboard"]

OURS = ".daguerre"  # the suffix of our files, which alone are ever cut


def tensorboard(
    folder: str | os.PathLike[str],
    *,
    every: int = 50,
    p: Model | None = None,
    grids: int = 1000,
) -> Callback:
    """Return a callback that writes what a fit does for TensorBoard.

    Losses and learning rates are written every so many steps, measures whenever an earlier
    callback takes them, so that this one comes last; the picture of the model and its cost, and
    the objective in words and LaTeX, at the first step.

    Args:
        folder: Where the events go, one folder for each run; made if it does not exist.
        every: Steps between two looks at losses and rates; a look waits for the device.
        p: A model of which samples are shown, from the same noise each time.
        grids: Steps between two grids of samples.

    Raises:
        ImportError: The extra `tensorboard` is not installed.
        ValueError: A number of steps out of range.

    Example:
        >>> import tempfile, torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> net = torch.nn.Linear(1, 1)
        >>> p = dg.model(x=dg.rv(lambda net: Normal(net.bias, 1.0), net=net))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = tensorboard(folder, every=2)
        ...     _ = dg.fit(dg.nll(p), torch.zeros(8, 1), steps=4, callbacks=[log], progress=False)
        ...     [path.suffix for path in Path(folder).iterdir()]
        ['.daguerre']
    """
    check_positive(every=every, grids=grids)
    log = _Log(Path(folder), _made())

    def is_due(record: Record) -> bool:
        begins = log.step is None or record.steps == 1
        looks = begins or 0 in (record.steps % every, record.steps % grids)
        return looks or any(taken[-1][0] == record.steps for taken in record.metrics.values())

    def write(now: Moment) -> None:
        if not now.is_main:
            log.step = now.step  # so that all processes are due at the same steps
            return
        if log.step is None or now.step <= log.step:
            log.begin(now)
        log.step = now.step
        scalars: dict[str, float] = {}
        if now.step % every == 0:
            scalars |= {f"loss/{name}": value for name, value in now.losses.items()}
            scalars |= {f"rate/{name}": value for name, value in now.rates.items()}
        scalars |= {k: v[-1][1] for k, v in now.metrics.items() if v[-1][0] == now.step}
        log.scalars(now.step, scalars)
        if p is not None and now.step % grids == 0:
            log.image(now.step, "samples", png_bytes(sampled(now, p)))

    return Occasional(write, is_due)


class _Log:
    """The files of one run.

    Args:
        folder: Where they are.
        made: What makes events, and their checksums.

    Attributes:
        step: The last one that was seen; None before the first.
    """

    def __init__(self, folder: Path, made: _Made) -> None:
        self.folder, self.made = folder, made
        self.path = folder
        self.step: int | None = None

    def begin(self, now: Moment) -> None:
        """Open a file of its own for this fit, without a later step in those before it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob(f"*{OURS}"):
            if now.step > 1:  # resumed; a fit that starts over leaves the files as they are
                self._cut(path, now.step)
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        self.path = self.folder / f"events.out.tfevents.{seconds}.{nanoseconds:09d}{OURS}"
        self._append(now.step, file_version="brain.Event:2")
        start = self.made.session(status=self.made.session.START)
        self._append(now.step, session_log=start)  # TensorBoard forgets later steps
        if now.step == 1:
            objective = now.objective
            self.image(0, "graph", draw(objective).png())
            words = f"{objective.latex()}\n\n{objective.explain()}".replace("\n", "\n    ")
            self._append(0, summary=self.made.text("objective", f"    {words}"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers."""
        if values:
            value = self.made.summary.Value
            found = [value(tag=name, simple_value=number) for name, number in values.items()]
            self._append(step, summary=self.made.summary(value=found))

    def image(self, step: int, name: str, png: bytes) -> None:
        """Write a picture."""
        width, height = struct.unpack(">II", png[16:24])
        image = self.made.summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=png
        )
        found = [self.made.summary.Value(tag=name, image=image)]
        self._append(step, summary=self.made.summary(value=found))

    def _append(self, step: int, **content: Any) -> None:
        event = self.made.event(wall_time=time.time(), step=step, **content)
        with self.path.open("ab") as file:
            file.write(_record(event.SerializeToString(), self.made.checksum))

    def _cut(self, path: Path, step: int) -> None:
        """Leave out events of a step and later, and what a kill has left of a record."""
        content, kept = path.read_bytes(), b""
        for record, data in _records(content):
            if self.made.event.FromString(data).step < step:
                kept += record
        if kept != content:
            write_whole(path, kept)


def _record(data: bytes, checksum: Callable[[bytes], int]) -> bytes:
    """Frame bytes as TensorFlow does: length, its checksum, bytes, their checksum."""
    length = struct.pack("<Q", len(data))
    checks = [struct.pack("<I", checksum(part)) for part in (length, data)]
    return b"".join((length, checks[0], data, checks[1]))


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield whole records, each with what it frames."""
    first = 0
    while first + 12 <= len(content):
        last = first + 16 + struct.unpack_from("<Q", content, first)[0]
        if last > len(content):
            return
        yield content[first:last], content[first + 12 : last - 4]
        first = last


class _Made(NamedTuple):
    """What tensorboardX makes: messages, a text as a summary, checksums."""

    event: Any
    summary: Any
    session: Any
    text: Callable[[str, str], Any]
    checksum: Callable[[bytes], int]


def _made() -> _Made:
    try:
        events, summaries, texts, records = (
            import_module(f"tensorboardX.{name}")
            for name in ("proto.event_pb2", "proto.summary_pb2", "summary", "record_writer")
        )
    except ImportError as error:
        raise ImportError(
            "to write for TensorBoard, install the extra: pip install daguerre[tensorboard]"
        ) from error
    session = events.SessionLog
    return _Made(events.Event, summaries.Summary, session, texts.text, records.masked_crc32c)
