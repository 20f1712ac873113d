"""Loading and compiling what is large."""

from __future__ import annotations

import gc

__all__ = ["collecting"]


class collecting:  # noqa: N801 - a context manager, called as a function
    """Set whether Python looks for garbage, for a while, and give the switch back.

    What modules define stays while they load, and to go through all of it again and again takes a
    third of the time in which torch's compiler loads.

    Example:
        >>> with collecting(enabled=False):
        ...     gc.isenabled()
        False
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled

    def __enter__(self) -> None:
        self.before = gc.isenabled()
        self._set(self.enabled)

    def __exit__(self, *error: object) -> None:
        self._set(self.before)

    def _set(self, enabled: bool) -> None:  # noqa: FBT001 - what it is set to
        (gc.enable if enabled else gc.disable)()
