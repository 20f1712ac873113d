"""SVG to PNG, through resvg: no browser, no system library, no fonts of the machine."""

from __future__ import annotations

__all__ = ["fitting", "png"]

_LARGEST = 16_000  # pixels on a side; beyond, memory goes first


def fitting(width: float, height: float, *, scale: float = 2.0) -> float:
    """Return a scale, or the largest one at which an image is not too large.

    Example:
        >>> fitting(300, 800), fitting(300, 32_000)
        (2.0, 0.5)
    """
    return min(scale, _LARGEST / max(width, height))


def png(svg: str, *, width: float, height: float, scale: float = 2.0) -> bytes:
    """Render an SVG document.

    Args:
        svg: The document.
        width: Its width in pixels.
        height: Its height in pixels.
        scale: Pixels of the image for one pixel of the document.

    Raises:
        ValueError: A scale that is not positive, or an image of more than 16,000 pixels a side.
    """
    side = max(width, height) * scale
    if not 0 < side <= _LARGEST:
        raise ValueError(
            f"scale {scale} makes an image of {width * scale:.0f} x {height * scale:.0f} pixels; "
            f"choose a positive one that keeps each side at or below {_LARGEST}"
        )
    import resvg_py

    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            width=round(width * scale),
            height=round(height * scale),
            dpi=96,
            skip_system_fonts=True,
        )
    )
