r"""Long formulas on several lines: they break before signs, inside sized brackets too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from daguerre.draw.formula import formula

__all__ = ["broken"]

_ALIGNED = re.compile(r"\\begin\{aligned\}(.*)\\end\{aligned\}", re.DOTALL)
_TOKEN = re.compile(
    r"\\(?:left|right)(?![A-Za-z])(?:\\[A-Za-z]+|\\?.)|\\(?:[A-Za-z]+|.)| [+-] |.", re.DOTALL
)
_SIGNS = (" + ", " - ")
_NEXT = r" \\ "  # between lines
_LONGEST = 2000  # characters of a line that may be set whole


class _Summand(NamedTuple):
    r"""A part of a formula, and how many `\left` are open before and after it."""

    latex: str
    before: int
    after: int


def broken(latex: str, *, most: float, size: float = 20.0) -> str:
    r"""Break the lines of a formula that are too wide; what has no sign to break at stays wide.

    Args:
        latex: A formula, or `aligned` ones.
        most: The width that is wanted, in pixels.
        size: Font size in pixels.

    Raises:
        ValueError: As for `formula`.

    Example:
        >>> print(broken(r"\left[a + b - c\right]", most=60))
        \begin{aligned}& \left[a + b\right. \\ & \quad \left. - c\right]\end{aligned}
        >>> broken("a + b", most=60)
        'a + b'
    """
    aligned = _ALIGNED.fullmatch(latex)
    body = aligned[1] if aligned else latex
    if r"\begin" in body or (not aligned and ("&" in body or r"\\" in body)):
        return latex
    lines = [_lines(line, most, size) for line in body.split(_NEXT)]
    if all(len(parts) == 1 for parts in lines):
        return latex
    pieces = (part if "&" in part else f"& {part}" for parts in lines for part in parts)
    return rf"\begin{{aligned}}{_NEXT.join(pieces)}\end{{aligned}}"


def _lines(line: str, most: float, size: float) -> list[str]:
    """Fill lines with summands; what stands before the point of alignment stays there."""
    head, tab, body = line.rpartition("&")
    if len(line) <= _LONGEST and formula(line.replace("&", ""), size=size).width <= most:
        return [line]
    lines: list[list[_Summand]] = []
    room = 0.0
    for summand in _summands(body):
        width = formula(_closed([summand]) or r"\,", size=size).width
        if lines and width <= room:
            lines[-1].append(summand)
        else:
            room = most - size * bool(lines)
            lines.append([summand])
        room -= width
    first, *rest = map(_closed, lines)
    return [f"{head}{tab}{first}", *(rf"& \quad {part.lstrip()}" for part in rest)]


def _closed(summands: list[_Summand]) -> str:
    r"""Join the summands of a line, with `\left.` and `\right.` for brackets of other lines."""
    opened, closed = r"\left." * summands[0].before, r"\right." * summands[-1].after
    return f"{opened}{''.join(s.latex for s in summands)}{closed}"


def _summands(body: str) -> Iterator[_Summand]:
    """Split a formula before signs that are in no braces and no plain brackets."""
    latex, before = "", 0
    left = braces = brackets = 0
    for token in _TOKEN.findall(body):
        if token in _SIGNS and not braces and not brackets and latex.strip():
            yield _Summand(latex, before, left)
            latex, before = "", left
        left += (token[:5] == r"\left" != token) - (token[:6] == r"\right" != token)
        braces += (token == "{") - (token == "}")
        brackets += (token in "([") - (token in ")]")
        latex += token
    yield _Summand(latex, before, left)
