"""One page: pictures side by side, their lowest rows level, titles above and costs below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from daguerre.draw.breaking import broken
from daguerre.draw.curves import Point
from daguerre.draw.formula import Outline, formula, text
from daguerre.draw.layout import layout
from daguerre.draw.notation import Figure
from daguerre.draw.picture import Picture, PlacedType

__all__ = ["Panel", "Sheet", "sheet"]

_MARGIN = 26.0
_BETWEEN = 64.0
_TITLE, _CAPTION = 19.0, 18.0
_LONGEST = 100  # characters of a title
_AIR = 30.0  # between a picture and its title or caption
_WIDEST = 640.0  # of a caption, unless the picture is wider


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture on the page.

    Attributes:
        figure: What it shows.
        picture: Its numbers.
        offset: Where the picture's origin falls on the page.
        title: Type above, on the page.
        caption: Type below, on the page.
    """

    figure: Figure
    picture: Picture
    offset: Point
    title: PlacedType | None
    caption: PlacedType | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page with its panels from left to right; width and height in pixels."""

    width: int
    height: int
    panels: tuple[Panel, ...]


def sheet(figures: Sequence[Figure]) -> Sheet:
    """Lay out figures and set them side by side.

    Args:
        figures: At least one, from left to right.

    Raises:
        GraphError: As for `layout`.
        ValueError: A label or caption that cannot be set.
    """
    pictures = [layout(f) for f in figures]
    words = [_cut(f.title) for f in figures]
    costs = [_caption(f, p) for f, p in zip(figures, pictures, strict=True)]
    titles = [text(title, size=_TITLE) if title else None for title in words]
    captions = [formula(cost, size=_CAPTION) if cost else None for cost in costs]
    title_line = _MARGIN + max((t.ascent for t in titles if t), default=0.0)
    head = title_line + max((t.descent + _AIR for t in titles if t), default=0.0)
    level = max(head, _MARGIN) + max(p.baseline - p.box.top for p in pictures)
    foot = level + max(p.box.bottom - p.baseline for p in pictures)
    caption_line = foot + max((c.ascent + _AIR for c in captions if c), default=0.0)
    panels: list[Panel] = []
    x = _MARGIN
    for i, (figure, picture) in enumerate(zip(figures, pictures, strict=True)):
        title, caption = titles[i], captions[i]
        half = max((t.width / 2 for t in (title, caption) if t), default=0.0)
        middle = x + max(half, picture.axis - picture.box.left)
        offset = Point(middle - picture.axis, level - picture.baseline)
        above = title and _centred(words[i], title, middle, title_line)
        below = caption and _centred(costs[i], caption, middle, caption_line)
        panels.append(Panel(figure, picture, offset, above, below))
        x = middle + max(half, picture.box.right - picture.axis) + _BETWEEN
    bottom = caption_line + max((c.descent for c in captions if c), default=0.0)
    return Sheet(ceil(x - _BETWEEN + _MARGIN), ceil(bottom + _MARGIN), tuple(panels))


def _caption(figure: Figure, picture: Picture) -> str:
    """Write the cost on lines that are not much wider than the picture."""
    most = max(_WIDEST, picture.box.right - picture.box.left)
    return broken(figure.caption, most=most, size=_CAPTION) if figure.caption else ""


def _cut(title: str) -> str:
    return title if len(title) <= _LONGEST else title[: _LONGEST - 1] + "…"


def _centred(source: str, outline: Outline, middle: float, line: float) -> PlacedType:
    return PlacedType(source, outline, Point(middle - outline.width / 2, line))
