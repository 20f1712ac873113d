"""Names in letters for which there is no font: numbers in their place, told under the picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from html import unescape
from math import ceil

from daguerre.draw.curves import Point
from daguerre.draw.formula import Outline, text
from daguerre.draw.markup import element, number
from daguerre.draw.sheet import Sheet
from daguerre.draw.svg import INK, svg

__all__ = ["told"]

_TEXT = re.compile(r"<text ([^>]*)>([^<]*)</text>")
_ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"')
_SIZE, _MARGIN, _LEADING, _LONGEST = 14.0, 26.0, 8.0, 12
_HEAD = "Written in letters for which there is no font here:"


def told(sheet: Sheet, is_set: Callable[[str], bool]) -> tuple[Sheet, str]:
    """Write a sheet as SVG in which no text is left that cannot be set.

    A number stands in the place of such text; a line under the picture gives its code points.

    Args:
        sheet: The placed panels.
        is_set: Says whether there are glyphs for all letters of a text.

    Returns:
        The sheet, higher by the lines, and the SVG document.
    """
    document = svg(sheet)
    texts = dict.fromkeys(unescape(found[2]) for found in _TEXT.finditer(document))
    unset = [piece for piece in texts if not is_set(piece)]
    if not unset:
        return sheet, document
    number_of = {piece: i for i, piece in enumerate(unset, 1)}
    lines = [text(line, size=_SIZE) for line in (_HEAD, *map(_line, number_of.items()))]
    height = sum(line.height + _LEADING for line in lines)
    width = ceil(max(sheet.width, *(line.width + 2 * _MARGIN for line in lines)))
    longer = replace(sheet, width=width, height=ceil(sheet.height + height))

    def numbered(found: re.Match[str]) -> str:
        return _numbered(found, number_of)

    notes = "".join(_notes(lines, sheet.height - _MARGIN / 2))
    return longer, _TEXT.sub(numbered, svg(longer)).replace("</svg>", f"{notes}</svg>")


def _line(unset: tuple[str, int]) -> str:
    piece, place = unset
    points = [f"U+{ord(letter):04X}" for letter in piece if letter != " "]
    rest = " …" * (len(points) > _LONGEST)
    return f"[{place}] {' '.join(points[:_LONGEST])}{rest}"


def _numbered(found: re.Match[str], number_of: Mapping[str, int]) -> str:
    """Put a number in the place of a text that cannot be set."""
    place = number_of.get(unescape(found[2]))
    if place is None:
        return found[0]
    at = dict(_ATTRIBUTE.findall(found[1]))
    outline = text(f"[{place}]", size=float(at["font-size"]))
    shift = Point(*map(float, at["transform"].removeprefix("translate(")[:-1].split()))
    middle = shift.plus(Point(float(at["x"]), float(at["y"])))
    return _path(outline, Point(middle.x - outline.width / 2, middle.y), at["class"], at["fill"])


def _notes(lines: list[Outline], y: float) -> Iterator[str]:
    for line in lines:
        yield _path(line, Point(_MARGIN, y + line.ascent), "note", INK)
        y += line.height + _LEADING


def _path(outline: Outline, at: Point, kind: str, fill: str) -> str:
    place = f"translate({number(at.x)} {number(at.y)})"
    return element("path", {"class": kind, "transform": place, "fill": fill, "d": outline.path})
