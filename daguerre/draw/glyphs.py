"""The letters and words of a page, each outline written once and used wherever it stands.

A picture and its formulas say the same names again and again, and an outline is some ten times
as long as its place. Files of SVG alone keep their outlines: they shall need no references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from daguerre.draw.markup import element, number
from daguerre.draw.shorter import shorter

__all__ = ["Glyphs"]

_TYPE = re.compile(r'<path class="(label|note|type)"([^>]*) d="([^"]+)"/>')
_DATA = re.compile(r' d="([^"]+)"')
_BETWEEN = re.compile(r" (?=M)")  # as `Outline.path` parts its glyphs
_START = re.compile(r"M(-?[\d.]+) ?(-?[\d.]+)(.*)")
_SHORTEST = 4  # letters of a word
_ROUNDED = 0.025  # by which two steps of equal words may differ


class _Use(NamedTuple):
    """An outline or a word at its place."""

    name: str
    x: float
    y: float

    def __str__(self) -> str:
        places = {"x": number(self.x), "y": number(self.y)}
        moved = {key: place for key, place in places.items() if place != "0"}
        return element("use", {"href": f"#{self.name}", **moved})


class Glyphs:
    """The outlines that the pieces of a page share; each piece adds those that are new.

    Labels are words: what they say is not spelled again in formulas that come after them.

    Example:
        >>> glyphs = Glyphs()
        >>> glyphs.shared('<path class="label" fill="red" d="M1 2h3v3Z M9 1h3v3Z"/>')
        '<g class="label" fill="red"><use href="#g0" x="1"/><use href="#g0" x="9" y="-1"/></g>'
        >>> glyphs.outlines
        '<path id="g0" d="M0 2h3v3z"/>'
    """

    def __init__(self) -> None:
        self._shapes: dict[str, _Use] = {}  # where each shape was met first: its name and height
        self._words: dict[str, list[Sequence[_Use]]] = {}  # by their first letters
        self._named: dict[Sequence[_Use], str] = {}

    def shared(self, markup: str) -> str:
        """Return markup whose lines of type use shared outlines, and whose other paths are short.

        Args:
            markup: SVG elements, type as paths of the class `label`, `note` or `type`.
        """
        return _DATA.sub(_short, _TYPE.sub(self._line, markup))

    @property
    def outlines(self) -> str:
        """The outlines used so far, to be written before the markup that uses them."""
        paths = (
            element("path", {"id": at.name, "d": shorter(f"M0 {number(at.y)}{shape}")})
            for shape, at in self._shapes.items()
        )
        words = (
            element("g", {"id": name}, *map(str, letters)) for letters, name in self._named.items()
        )
        return "".join([*paths, *words])

    def _line(self, line: re.Match[str]) -> str:
        kind, looks, path = line.groups()
        letters = tuple(map(self._letter, _BETWEEN.split(path)))
        if kind == "label" and len(letters) >= _SHORTEST and self._word(letters) is None:
            self._learn(letters)
        return f'<g class="{kind}"{looks}>{"".join(map(str, self._spelled(letters)))}</g>'

    def _letter(self, glyph: str) -> _Use:
        start = _START.fullmatch(shorter(glyph))
        assert start is not None
        x, y, shape = start.groups()
        first = self._shapes.setdefault(shape, _Use(f"g{len(self._shapes)}", 0.0, float(y)))
        return _Use(first.name, float(x), float(y) - first.y)

    def _learn(self, letters: Sequence[_Use]) -> None:
        start = letters[0]
        word = tuple(_Use(a.name, a.x - start.x, a.y - start.y) for a in letters)
        self._named[word] = f"w{len(self._named)}"
        self._words.setdefault(start.name, []).append(word)

    def _spelled(self, letters: Sequence[_Use]) -> Iterator[_Use]:
        """Put words in the place of their letters."""
        i = 0
        while i < len(letters):
            word = self._word(letters[i:])
            yield letters[i]._replace(name=self._named[word]) if word else letters[i]
            i += len(word) if word else 1

    def _word(self, letters: Sequence[_Use]) -> Sequence[_Use] | None:
        """Find the longest word that some letters begin with."""
        known = self._words.get(letters[0].name, ())
        return max((w for w in known if _begins(letters, w)), key=len, default=None)


def _begins(letters: Sequence[_Use], word: Sequence[_Use]) -> bool:
    x, y = letters[0].x, letters[0].y
    return len(letters) >= len(word) and all(
        a.name == b.name and abs(a.x - x - b.x) < _ROUNDED and abs(a.y - y - b.y) < _ROUNDED
        for a, b in zip(letters, word, strict=False)
    )


def _short(data: re.Match[str]) -> str:
    return f' d="{shorter(data[1])}"'
