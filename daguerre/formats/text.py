"""Reading text files that may be hostile: bounded, decoded, and errors that say file and line."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from daguerre.files import write_whole
from daguerre.graph import GraphError, did_you_mean

__all__ = [
    "MAX_BYTES",
    "MAX_ENTRIES",
    "MAX_VARIABLES",
    "Source",
    "close_to",
    "excerpt",
    "numbers",
    "read_source",
    "write_text",
]

MAX_BYTES = 256 * 2**20  # of text, decompressed
MAX_ENTRIES = 2**24  # of all tables together: 128 MiB in float64
MAX_VARIABLES = 100_000
NUMBER = re.compile(r"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+")
NUMBERS = re.compile(r"[0-9eE.+ -]*+")  # keeps out what float() takes beyond: nan, inf, 1_000


@dataclass(frozen=True)
class Source:
    """The text of a file, and how its errors begin.

    Attributes:
        name: The path, as it was given.
        text: All of it.
    """

    name: str
    text: str

    def error(self, offset: int, message: str) -> GraphError:
        """Return an error at a place in the text, as `file:line: message`."""
        line = self.text.count("\n", 0, offset) + 1
        return GraphError(f"{self.name}:{line}: {message}")


def read_source(path: str | os.PathLike[str], max_bytes: int) -> Source:
    """Read a text file in UTF-8, plain or compressed by gzip.

    Args:
        path: The file; what is compressed is seen by its first bytes, not by its name.
        max_bytes: The most that is read, after decompression.

    Returns:
        The text, without a byte order mark.

    Raises:
        GraphError: More bytes than that, damaged compression, other bytes than UTF-8, or nothing.
        OSError: The file cannot be read.
    """
    name = os.fspath(path)
    with Path(path).open("rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        try:
            content = (gzip.GzipFile(fileobj=file) if packed else file).read(max_bytes + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise GraphError(f"{name}: damaged gzip file: {error}") from None
    if len(content) > max_bytes:
        raise GraphError(
            f"{name} holds more than {max_bytes:,} bytes{' when unpacked' * packed}; if it is"
            " meant to, pass a larger max_bytes="
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise GraphError(f"{name}:{line}: not UTF-8: {error.reason}") from None
    if not text.strip():
        raise GraphError(f"{name} is empty; expected a network")
    return Source(name, text)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file whole or not at all, compressed where its name ends in `.gz`.

    Returns:
        The path.

    Raises:
        GraphError: A name in the text that no file can hold (a lone half of a surrogate pair).
        OSError: The folder or the disk does not take it.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise GraphError(
            f"a name holds {error.object[error.start]!r}, which is no character; rename it"
        ) from None
    packed = os.fspath(path).endswith(".gz")
    return write_whole(path, gzip.compress(content, mtime=0) if packed else content)


def numbers(tokens: Sequence[str]) -> array[float] | int:
    """Return decimal numbers as doubles, or the place of the first token that is none.

    Example:
        >>> numbers(["1", ".5e-1"]), numbers(["1", "nan"])
        (array('d', [1.0, 0.05]), 1)
    """
    if NUMBERS.fullmatch(" ".join(tokens)):
        try:
            return array("d", map(float, tokens))
        except ValueError:
            pass
    return next(i for i, token in enumerate(tokens) if not NUMBER.fullmatch(token))


def excerpt(text: str) -> str:
    """Return the beginning of a text for an error, in quotes."""
    text = text[:200].strip()
    return repr(text if len(text) <= 40 else f"{text[:40]}...") if text else "nothing"


def close_to(name: str, known: Iterable[str]) -> str:
    """Return `did_you_mean` where it is short and quickly found, else nothing."""
    short = [n for n in known if len(n) <= 60]
    return did_you_mean(name, short) if len(name) <= 60 and len(short) <= 200 else ""
