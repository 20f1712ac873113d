"""Ctrl-C and SIGTERM: the first ends a fit after its step; nothing is left in the middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from signal import Signals
from types import FrameType

__all__ = ["interruptible"]

_DEFAULTS = {Signals.SIGINT: signal.default_int_handler, Signals.SIGTERM: signal.SIG_DFL}


@contextmanager
def interruptible(signals: Iterable[Signals] = (Signals.SIGINT,)) -> Iterator[threading.Event]:
    """Tell whether a signal came, instead of obeying it; a second one does what it ever does.

    Handlers that others have set are left alone, and so are threads, which cannot set any.

    Args:
        signals: Ctrl-C, which is SIGINT, SIGTERM, or both.

    Raises:
        SystemExit: In the end, if SIGTERM came: with 143, as a process has that it ended.
    """
    asked, came = threading.Event(), set[Signals]()

    def note(number: int, frame: FrameType | None) -> None:
        came.add(Signals(number))
        asked.set()
        signal.signal(number, _DEFAULTS[Signals(number)])

    is_main = threading.current_thread() is threading.main_thread()
    taken = [s for s in signals if is_main and signal.getsignal(s) == _DEFAULTS[s]]
    for number in taken:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number in taken:
            signal.signal(number, _DEFAULTS[number])
    if Signals.SIGTERM in came:
        raise SystemExit(128 + Signals.SIGTERM)
