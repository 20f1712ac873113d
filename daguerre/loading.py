"""Loading what is large."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["loading"]


@contextmanager
def loading() -> Iterator[None]:
    """Let modules load without a look for garbage meanwhile.

    What they define stays, and to go through all of it again and again takes a third of the time
    in which torch's compiler loads.

    Example:
        >>> with loading():
        ...     gc.isenabled()
        False
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
