"""The IDX format, in which MNIST and its kin are published.

A header is believed only as far as bytes follow it: one that announces gigabytes allocates none.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["read_idx"]

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> Tensor:
    """Read one IDX file, the format of MNIST, gzipped or not (told by content, not by name).

    Args:
        path: The file: bytes 0, 0, type, dimensions; the sizes as big-endian uint32; the items.

    Returns:
        A tensor of the type and shape in the header.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The magic is wrong, the gzip stream is damaged, or the items are fewer or more
            than the header announces.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "two").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
        ...     read_idx(f"{folder}/two")
        tensor([7, 9], dtype=torch.uint8)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with _open(path) as file:
            return _parse(file, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file: {error}. Fetch it again.") from error


def _open(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if gzipped else path.open("rb")


def _parse(file: BufferedIOBase, path: Path) -> Tensor:
    kind, shape = _header(file, path)
    dtype = np.dtype(kind)
    size = math.prod(shape) * dtype.itemsize
    payload = _read(file, size + 1)  # one byte more: sees a surplus, and has gzip check its sum
    if len(payload) != size:
        came = f"{len(payload):,}" if len(payload) < size else "more"
        raise ValueError(
            f"{path}: the header announces {dtype.name} {list(shape)}, "
            f"so {size:,} bytes must follow, but {came} came. Fetch it again."
        )
    items = np.frombuffer(payload, dtype).reshape(shape)
    return torch.from_numpy(items.astype(dtype.newbyteorder("="), copy=False))


def _header(file: BufferedIOBase, path: Path) -> tuple[str, tuple[int, ...]]:
    magic = _read(file, 4)
    ranks = range(1, 65)  # what a NumPy array can have
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or magic[3] not in ranks:
        raise ValueError(
            f"{path} is not an IDX file: expected a magic such as 00 00 08 03, "
            f"came {magic.hex(' ') or 'an empty file'}"
        )
    sizes = _read(file, 4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"{path} ends within its IDX header of {magic[3]} dimensions")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if 0 in shape:
        raise ValueError(f"{path} holds nothing: its IDX header announces the shape {list(shape)}")
    return _TYPES[magic[2]], shape


def _read(file: BufferedIOBase, count: int) -> bytearray:
    """Read up to `count` bytes, growing with what comes rather than with what was announced."""
    content = bytearray()
    while len(content) < count:
        chunk = file.read(min(_CHUNK, count - len(content)))
        if not chunk:
            break
        content += chunk
    return content
