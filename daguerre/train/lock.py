"""One fit at a time in a folder: a lock that the system takes back when its process dies."""

from __future__ import annotations

import errno
import os
import warnings
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

__all__ = ["Lock"]

NAME = ".lock"
_CANNOT = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # some network file systems


class Lock:
    """A folder held against every other fit, of this process too.

    Where files cannot be locked, on Windows and on some network file systems, nothing is held.

    Args:
        folder: The folder; a file `.lock` in it holds the number of the process meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._handle: int | None = None

    def acquire(self) -> None:
        """Hold the folder.

        Raises:
            BlockingIOError: Another fit holds it; says of which process.
        """
        if fcntl is not None:
            self._handle = _held(self._path)

    def release(self) -> None:
        """Let it go, if it is held."""
        if self._handle is not None:
            self._path.unlink(missing_ok=True)  # while it is held: nobody locks what is removed
            os.close(self._handle)
            self._handle = None


def _held(path: Path) -> int:
    """Open a file and lock it; again where whoever had it removed it in between."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _lock(handle, path)
            if _is_at(handle, path):
                with suppress(OSError):  # a full disk takes no number, and the lock holds
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, str(os.getpid()).encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    assert fcntl is not None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(handle, 20, 0).decode("ascii", "replace")
        raise BlockingIOError(
            error.errno,
            f"process {pid or 'of unknown number'} is fitting into this folder; wait until it"
            " ends, or choose another one",
            path.parent,
        ) from None
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        warnings.warn(
            f"{path.parent} cannot be locked ({error.strerror}): see to it that one fit at a time"
            " writes to it",
            stacklevel=2,
        )


def _is_at(handle: int, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
