"""Letters that the font of formulas lacks: room for them, and the words that they make.

A viewer sets them in a font of its own, which knows how letters of Arabic join and that words of
Hebrew run to the left; so letters side by side become one piece of text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unicodedata import combining, east_asian_width
from xml.etree.ElementTree import Element

from daguerre.draw.markup import element, number

__all__ = ["Lenient", "Words", "words", "written"]

_WIDE, _NARROW = 1.0, 0.62  # advances in ems
_ASCENT, _DESCENT = 0.8, 0.15
_NEAR = 0.6  # ems between letters of one piece; from _SPACE on they are apart
_SPACE = 0.1


@dataclass(frozen=True, slots=True)
class Words:
    """Text that no outline shows, around the middle of a part of the baseline.

    Attributes:
        text: The letters, in the order in which they are read.
        x: The middle, in pixels from the left end of the line.
        y: The baseline, downwards.
        size: Font size in pixels.
        width: The room for it.
    """

    text: str
    x: float
    y: float
    size: float
    width: float


class Lenient:
    """A font of ziamath whose missing glyphs remember their letters.

    Args:
        font: The font, which answers everything else.
    """

    def __init__(self, font: Any) -> None:
        self._font = font

    def __getattr__(self, name: str) -> Any:
        return getattr(self._font, name)

    def findglyph(self, char: str, variant: object) -> Any:
        """Return the glyph of a letter, or what keeps its place."""
        glyph = self._font.findglyph(char, variant)
        return glyph if glyph.index else _Absent(char, glyph)


class _Absent:
    """What stands for a glyph: as wide as its letter is likely to be, and drawn as text."""

    index = 0

    def __init__(self, char: str, box: Any) -> None:
        self.char, self.font, self.id = char, box.font, f"absent_{ord(char):x}"
        self._advance = _advance(char)
        em = self.font.info.layout.unitsperem
        sides = (0, self._advance * em, -_DESCENT * em, _ASCENT * em)
        self.bbox = type(box.bbox)(*sides)
        self.path = SimpleNamespace(bbox=self.bbox)

    def advance(self, nextchr: object = None) -> float:
        return self._advance * self.font.info.layout.unitsperem

    def place(self, x: float, y: float, point_size: float) -> Element:
        room = self._advance * point_size
        places = {"x": x, "y": y, "font-size": point_size, "width": room}
        letter = Element("text", {key: str(value) for key, value in places.items()})
        letter.text = self.char
        return letter

    def svgsymbol(self) -> Element:
        return Element("symbol", {"id": self.id, "viewBox": "0 0 1 1"})


def words(painted: Iterable[Element]) -> tuple[Words, ...]:
    """Join the letters that stand side by side.

    Args:
        painted: What a formula paints, in its order.
    """
    found: list[Words] = []
    follows = False
    for node in painted:
        if node.tag == "text":
            one = _letter(node)
            joined = _joined(found[-1], one) if follows else None
            found[-1 if joined else len(found) :] = [joined or one]
        follows = node.tag == "text"
    return tuple(found)


def written(piece: Words, *, kind: str, transform: str = "", fill: str = "currentColor") -> str:
    """Write a piece of text as an element of SVG, in whatever font the viewer finds.

    Args:
        piece: The text.
        kind: Its class.
        transform: Where its line stands.
        fill: Its colour.
    """
    places = {
        "class": kind,
        **({"transform": transform} if transform else {}),
        "fill": fill,
        "x": number(piece.x),
        "y": number(piece.y),
        "font-family": "serif",
        "font-size": number(piece.size),
        "text-anchor": "middle",
    }
    return element("text", places, text=piece.text)


def _advance(char: str) -> float:
    if combining(char):
        return 0.0
    return _WIDE if east_asian_width(char) in "WF" else _NARROW


def _letter(node: Element) -> Words:
    x, y, size, width = (float(node.get(key, 0)) for key in ("x", "y", "font-size", "width"))
    return Words(node.text or "", x + width / 2, y, size, width)


def _joined(before: Words, after: Words) -> Words | None:
    """Return two pieces as one, where they are on one line and near."""
    left, right = before.x - before.width / 2, after.x + after.width / 2
    gap = after.x - after.width / 2 - (before.x + before.width / 2)
    if (before.y, before.size) != (after.y, after.size) or gap > _NEAR * after.size:
        return None
    text = before.text + " " * (gap > _SPACE * after.size) + after.text
    return replace(before, text=text, x=(left + right) / 2, width=right - left)
