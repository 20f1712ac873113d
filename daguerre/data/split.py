"""What the readers of data return, and how they read a file that may be anything."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

__all__ = ["LARGEST", "NUMBERS", "Split", "read_bytes", "read_text"]

LARGEST = 1 << 28  # bytes of a file that is read whole
NUMBERS = 1 << 28  # in a padded tensor: one gigabyte of float32


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Observations to train on and observations held out, each `{variable: Tensor[N, ...]}`.

    Attributes:
        train: What parameters are fitted to.
        test: What a finished model is scored on.
        valid: What choices are made by, where a data set comes with it; else empty.
    """

    train: dict[str, Tensor]
    test: dict[str, Tensor]
    valid: dict[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        def one(name: str, part: dict[str, Tensor]) -> str:
            return f"{name}: " + ", ".join(f"{n} {list(v.shape)}" for n, v in part.items())

        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return f"Split({'; '.join(one(n, p) for n, p in parts.items() if p or n != 'valid')})"


def read_bytes(path: str | os.PathLike[str], *, most: int = LARGEST) -> bytes:
    """Read a file whole, if it is not larger than what is meant to be read so.

    Args:
        path: The file.
        most: Bytes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, or has more bytes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a").write_bytes(b"abc")
        ...     read_bytes(f"{folder}/a")
        b'abc'
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if not content:
        raise ValueError(f"{path} is empty")
    if len(content) > most:
        raise ValueError(
            f"{path} has more than {most:,} bytes, the most that is read into memory; split it"
        )
    return content


def read_text(path: str | os.PathLike[str], *, most: int = LARGEST) -> str:
    r"""Read a file of UTF-8, without the mark that some editors put before it.

    Args:
        path: The file.
        most: Bytes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, has more bytes, or is not UTF-8; names the byte.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a").write_bytes(b"caf\xc3\xa9")
        ...     read_text(f"{folder}/a")
        'café'
    """
    content = read_bytes(path, most=most)
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {error.start} is {content[error.start]:02x}; convert it,"
            " as by iconv -t utf-8"
        ) from None
