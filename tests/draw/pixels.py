"""Reading of PNG files."""

import io
import struct
import zlib

__all__ = ["read_png"]


def read_png(data: bytes) -> tuple[tuple[int, int], list[int]]:
    """Return the size and the lightness of each pixel (8-bit RGBA, no interlace)."""
    stream = io.BytesIO(data[8:])
    packed, size = b"", (0, 0)
    while header := stream.read(8):
        length, kind = struct.unpack(">I4s", header)
        body = stream.read(length + 4)[:length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) == (8, 6)
            size = (width, height)
        packed += body if kind == b"IDAT" else b""
    raw, stride = zlib.decompress(packed), 4 * size[0]
    last, pixels = bytearray(stride), []
    for row in range(size[1]):
        start = row * (stride + 1)
        last = unfiltered(raw[start], raw[start + 1 : start + 1 + stride], last)
        pixels += [(last[i] + last[i + 1] + last[i + 2]) // 3 for i in range(0, stride, 4)]
    return size, pixels


def unfiltered(kind: int, line: bytes, above: bytearray) -> bytearray:
    """Undo one of the five filters of PNG (RFC 2083, section 6)."""
    out = bytearray(line)
    for i in range(len(out)):
        a, b, c = (out[i - 4] if i > 3 else 0), above[i], (above[i - 4] if i > 3 else 0)
        near = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
        out[i] = (out[i] + (0, a, b, (a + b) // 2, near)[kind]) & 255
    return out
