"""SVG to PNG, through resvg: no browser, no system library, fonts of the machine for text."""

from __future__ import annotations

from functools import cache, lru_cache
from unicodedata import category

__all__ = ["fitting", "is_set", "png"]

_LARGEST = 16_000  # pixels on a side; beyond, memory goes first
_NOBODY = "\U0010fffd"  # a letter for private use, which shows what a font does without a glyph
# resvg takes a family that is there, and then for each letter any font that has it
_FAMILIES = ("Times New Roman", "DejaVu Sans", "Noto Serif", "FreeSerif", "Liberation Serif")
_FAMILIES += ("Noto Sans", "FreeSans", "Liberation Sans", "Arial")
_PROBE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32"><text x="8" y="22" '
    'font-family="{}" font-size="16">&#{};</text></svg>'
)


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
    has_text = "<text " in svg
    family = _family() if has_text else ""
    return _rendered(svg, round(width * scale), round(height * scale), family)


def is_set(text: str) -> bool:
    """Say whether the fonts of this machine have glyphs for all letters of a text.

    Example:
        >>> is_set("\U0010fffd")
        False
    """
    return all(map(_has_glyph, text))


@lru_cache(maxsize=4096)
def _has_glyph(letter: str) -> bool:
    """Compare a letter with one that no font has; a joiner or a space needs no glyph."""
    family = _family()
    if not family or category(letter)[0] in "CZ":
        return bool(family) and letter != _NOBODY
    return _probe(family, letter) != _probe(family, _NOBODY)


@cache
def _family() -> str:
    """Return a family of fonts of this machine, or nothing."""
    blank = _probe(_FAMILIES[0], " ")
    return next((f for f in _FAMILIES if _probe(f, "x") != blank), "")


def _probe(family: str, letter: str) -> bytes:
    return _rendered(_PROBE.format(family, ord(letter)), 32, 32, family)


def _rendered(svg: str, width: int, height: int, family: str) -> bytes:
    """Render with the fonts of the machine, or without any where no family is named."""
    import resvg_py

    image = resvg_py.svg_to_bytes(
        svg_string=svg,
        width=width,
        height=height,
        dpi=96,
        skip_system_fonts=not family,
        serif_family=family or None,
    )
    return bytes(image)
