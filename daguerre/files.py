"""Writing files: all of a file, or nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["sweep", "write_whole"]


def write_whole(path: str | os.PathLike[str], *content: bytes | memoryview) -> Path:
    """Write a file under another name, flush it to disk, and move it into place.

    Whatever happens meanwhile, the path holds the old content or the new, and nothing else is
    left in its folder.

    Args:
        path: The file, overwritten where it exists.
        content: All of it, in parts that follow one another.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The folder does not exist.
        OSError: The folder or the disk does not take it.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(f"{folder}/a.txt", b"whole").read_bytes()
        b'whole'
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} to write {path.name} to")
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_mask())  # mkstemp lets only the owner read
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _sync(folder: Path) -> None:
    """See to it that the names in a folder are on the disk, where folders can be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what processes that were killed left of the files they were writing."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
