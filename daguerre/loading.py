"""Loading what is large."""

from __future__ import annotations

import gc

__all__ = ["collecting", "loading"]


class loading:  # noqa: N801 - a context manager, called as a function
    """Let modules load, or code compile, without a look for garbage meanwhile.

    What they define stays, and to go through all of it again and again takes a third of the time
    in which torch's compiler loads.

    Example:
        >>> with loading():
        ...     gc.isenabled()
        False
    """

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *error: object) -> None:
        if self._was_enabled:
            gc.enable()


class collecting:  # noqa: N801 - a context manager, called as a function
    """Look for garbage meanwhile, within `loading` too.

    Example:
        >>> with loading(), collecting():
        ...     gc.isenabled()
        True
    """

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.enable()

    def __exit__(self, *error: object) -> None:
        if not self._was_enabled:
            gc.disable()
