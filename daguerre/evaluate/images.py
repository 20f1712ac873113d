"""Grey pictures of samples: a grid of them as one array, and that array as a PNG file."""

from __future__ import annotations

import math
import os
import struct
import zlib

import torch
from torch import Tensor
from torch.nn.functional import pad

from daguerre.files import write_whole

__all__ = ["grid", "png_bytes", "write_png"]


def grid(images: Tensor, *, columns: int, gap: int = 1, scale: int = 1) -> Tensor:
    """Lay images out row by row, black at 0 and white at 1, with a grey line between them.

    Args:
        images: Intensities, [N, height, width], or [N, D] of D = side * side pixels; values
            outside [0, 1], as a Gaussian model draws them, are shown as the nearer end.
        columns: How many images to a row.
        gap: Width of the line between images, in their pixels.
        scale: Side of the square that shows one pixel.

    Returns:
        uint8 [H, W], H = scale * (rows * (height + gap) - gap), W likewise.

    Raises:
        TypeError: `images` is not of a floating type.
        ValueError: The shape is another, a value is NaN or infinite, or a number is out of range.

    Example:
        >>> grid(torch.zeros(5, 64), columns=3).shape  # two rows of three
        torch.Size([17, 26])
    """
    if columns < 1 or gap < 0 or scale < 1:
        raise ValueError(
            f"columns={columns}, gap={gap}, scale={scale}; expected at least 1, 0 and 1"
        )
    pixels = _pictures(images)
    count, height, width = pixels.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    sheet = pixels.new_full((rows * columns, height + gap, width + gap), 128)
    sheet[:count, :height, :width] = pixels
    sheet = sheet.reshape(rows, columns, height + gap, width + gap).transpose(1, 2)
    sheet = sheet.reshape(rows * (height + gap), -1)[: -gap or None, : -gap or None]
    return sheet.repeat_interleave(scale, 0).repeat_interleave(scale, 1)


def png_bytes(image: Tensor) -> bytes:
    """Encode a grey image as a PNG.

    Args:
        image: uint8 [H, W], 0 black and 255 white.

    Raises:
        TypeError: `image` is not uint8.
        ValueError: `image` is not two-dimensional or is empty.

    References:
        Portable Network Graphics (W3C, 2003), ISO/IEC 15948.

    Example:
        >>> png_bytes(torch.zeros(2, 3, dtype=torch.uint8))[1:4]
        b'PNG'
    """
    image = image.cpu()
    if image.dtype != torch.uint8:
        raise TypeError(f"image has the type {image.dtype}; expected uint8, as grid() returns it")
    if image.ndim != 2 or image.numel() == 0:
        raise ValueError(f"image has the shape {list(image.shape)}; expected [height, width]")
    height, width = image.shape
    lines = pad(image.cpu(), (1, 0))  # each line begins with its filter: 0, none
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(lines.numpy().tobytes(), 9)),
            _chunk(b"IEND", b""),
        ]
    )


def write_png(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write a grey image as a PNG file, all of it or nothing.

    Args:
        path: The file, overwritten where it exists.
        image: uint8 [H, W], 0 black and 255 white.

    Raises:
        FileNotFoundError: The folder does not exist.
        TypeError: `image` is not uint8.
        ValueError: `image` is not two-dimensional or is empty.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_png(f"{folder}/black.png", torch.zeros(2, 3, dtype=torch.uint8))
        ...     os.listdir(folder)
        ['black.png']
    """
    write_whole(path, png_bytes(image))


def _pictures(images: Tensor) -> Tensor:
    """Return uint8 [N, height, width]."""
    shape = list(images.shape)
    if not images.is_floating_point():
        raise TypeError(f"images have the type {images.dtype}; expected floats in [0, 1]")
    if images.ndim not in (2, 3) or images.numel() == 0:
        raise ValueError(f"images have the shape {shape}; expected [N, height, width] or [N, D]")
    if images.ndim == 2:
        side = math.isqrt(shape[1])
        if side * side != shape[1]:
            raise ValueError(
                f"images have {shape[1]} pixels, which is no square; "
                "reshape them to [N, height, width]"
            )
        images = images.reshape(-1, side, side)
    if not images.isfinite().all():
        raise ValueError("images hold NaN or infinity; expected intensities in [0, 1]")
    return images.detach().cpu().float().clamp(0, 1).mul(255).round().to(torch.uint8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
