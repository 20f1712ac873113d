r"""LaTeX to outlines: a formula becomes one SVG path, so it looks the same on every machine.

Formulas are set by ziamath in STIX Two Math. What it would set wrongly without a word (unknown
commands, unbalanced braces, comments, colours) is an error here. It sets each row twice, so what
lies in n rows, one in another, 2^n times: rows that hold one thing are taken away first.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from daguerre.draw.letters import Lenient, Words, words, written
from daguerre.draw.markup import clean, element, number

if TYPE_CHECKING:
    from ziafont.glyph import SimpleGlyph
    from ziamath.drawable import Drawable
    from ziamath.zmath import Math

__all__ = ["Outline", "formula", "formula_svg", "text"]

_COMMAND = re.compile(r"\\[A-Za-z]+")
_ESCAPED = re.compile(r"\\(?:[A-Za-z]+|.)", re.DOTALL)
# understood by the parser, yet never part of a formula: what defines, links, styles or quotes
_REFUSED = re.compile(
    r"\\(def|newcommand|newenvironment|DeclareMathOperator|href|unicode|class|style|tag|verb)"
    r"(?![A-Za-z])"
)
_ROWS = ("mrow", "msub", "msup", "msubsup")  # that may stand in place of a row around them
_INDEX = re.compile(r"mo ,|mn [0-9]+|mi [a-z]")
_ITALIC = {ord("a") + i: chr(0x1D44E + i) for i in range(26)} | {ord("h"): "ℎ"}
_FILLS = (None, "black")
_FONT = "daguerre"  # what ziamath calls the font that keeps room for letters it lacks
_SYMBOLS: dict[str, ElementTree.Element] = {}  # the outlines of glyphs by their names
_INDEPENDENT = (r"\perp\!\!\!\perp", r"\;⫫\;")  # its negative spaces would put one on the other
# ziamath slants every Greek letter but these variants, whose slanted signs are given outright.
_SLANTED = {
    r"\phi": "𝜙",
    r"\epsilon": "𝜖",
    r"\vartheta": "𝜗",
    r"\varkappa": "𝜘",
    r"\varrho": "𝜚",
    r"\varpi": "𝜛",
}


@dataclass(frozen=True, slots=True)
class Outline:
    """A line of type as a filled path whose origin is the left end of its baseline.

    Attributes:
        path: SVG path data, y downwards, in pixels.
        width: Advance width in pixels.
        ascent: Pixels above the baseline.
        descent: Pixels below the baseline.
        words: What the font has no outlines for, set as text.
    """

    path: str
    width: float
    ascent: float
    descent: float
    words: tuple[Words, ...] = ()

    @property
    def height(self) -> float:
        """Pixels from top to bottom."""
        return self.ascent + self.descent


@lru_cache(maxsize=4096)
def formula(latex: str, *, size: float = 20.0) -> Outline:
    r"""Set a LaTeX formula.

    Args:
        latex: The formula, without dollar signs.
        size: Font size in pixels.

    Raises:
        ValueError: A command that cannot be set, unbalanced braces, a comment or a colour.

    Example:
        >>> outline = formula(r"p_\theta(x \mid z)", size=20)
        >>> 60 < outline.width < 90
        True
    """
    _check(latex)
    try:
        math = _set(_COMMAND.sub(_slanted, latex.replace(*_INDEPENDENT)), size)
    except Exception as error:  # its parser raises bare subclasses of Exception
        raise ValueError(f"cannot set the formula {_quoted(latex)}: {_reason(error)}") from error
    for node in math.mathml.iter():
        if unknown := _COMMAND.search(node.text or ""):
            raise ValueError(
                f"unknown LaTeX command {unknown.group()} in {_quoted(latex)}; "
                r"use a standard one, or \mathrm{...} for words"
            )
    return _outline(math, latex)


@lru_cache(maxsize=1024)
def text(line: str, *, size: float = 18.0) -> Outline:
    """Set plain words: no character has a meaning of its own.

    Args:
        line: The text.
        size: Font size in pixels.

    Example:
        >>> text("100% $x$", size=10).width > 30
        True
    """
    math = ElementTree.Element("math")
    ElementTree.SubElement(math, "mtext").text = clean(" ".join(line.split())) or " "
    return _outline(_ziamath().Math(math, size=size, font=_FONT), line)


def formula_svg(latex: str, *, size: float = 20.0) -> str:
    r"""Set a LaTeX formula as an SVG element for the middle of a line of HTML.

    Args:
        latex: The formula, without dollar signs.
        size: Font size in pixels.

    Raises:
        ValueError: As for `formula`.

    Example:
        >>> formula_svg("x^2").startswith('<svg class="formula"')
        True
    """
    outline = formula(latex, size=size)
    box = (0.0, -outline.ascent - 1, outline.width + 1, outline.height + 2)
    return element(
        "svg",
        {
            "class": "formula",
            "role": "img",
            "width": number(box[2]),
            "height": number(box[3]),
            "viewBox": " ".join(map(number, box)),
            "style": f"vertical-align:{number(-outline.descent - 1)}px;overflow:visible",
            "xmlns": "http://www.w3.org/2000/svg",
        },
        element("title", {}, text=latex),
        element("path", {"fill": "currentColor", "d": outline.path}),
        *(written(piece, kind="words") for piece in outline.words),
    )


def _ziamath() -> ModuleType:
    with warnings.catch_warnings():  # it reads its font through a deprecated importlib function
        warnings.simplefilter("ignore", DeprecationWarning)
        import ziamath
    fonts: dict[str, Any] = ziamath.zmath.loadedfonts
    if _FONT not in fonts:
        fonts[_FONT] = Lenient(fonts["default"])
    return ziamath


def _set(latex: str, size: float) -> Math:
    ziamath = _ziamath()
    tree = ElementTree.fromstring(ziamath.escapes.unescape(ziamath.tex.tex2mml(latex)))
    return ziamath.Math(_bare(tree), size=size, font=_FONT)


def _bare(node: ElementTree.Element) -> ElementTree.Element:
    """Take away rows that hold one thing, where they change no spacing."""
    node[:] = map(_bare, node)
    if _kind(node) == "msub" and (indices := _indices(node[1])):
        node[1] = ElementTree.Element("mn")
        node[1].text = indices
    elif _kind(node) == "msub" and _is_bare_row(node[1]):
        (index,) = node[1]
        if _kind(index) == "mn" or (_kind(index) == "mi" and len(index.text or "") == 1):
            node[1] = index
    is_whole = _kind(node) == "math" and len(node) == 1
    if (is_whole or _is_bare_row(node)) and _kind(node[0]) in _ROWS:
        return node[0]
    return node


def _indices(node: ElementTree.Element) -> str:
    """Return indices with commas between as one word, which is set once instead of twice."""
    parts = [f"{_kind(part)} {part.text}" for part in node if not part.attrib]
    if "mo ," not in parts or len(parts) < len(node) or not all(map(_INDEX.fullmatch, parts)):
        return ""
    return "".join(part.partition(" ")[2].translate(_ITALIC) for part in parts)


def _is_bare_row(node: ElementTree.Element) -> bool:
    return _kind(node) == "mrow" and len(node) == 1 and not node.attrib


def _kind(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _check(latex: str) -> None:
    plain = _ESCAPED.sub("", latex)
    if not latex.strip():
        raise ValueError("cannot set an empty formula")
    if "%" in plain:
        raise ValueError(rf"the formula {_quoted(latex)} has a bare %: write \% for the sign")
    if (refused := _REFUSED.search(latex)) or "^^" in plain:
        came = refused.group() if refused else "^^"
        raise ValueError(f"the formula {_quoted(latex)} uses {came}, which no formula needs")
    depth = 0
    for character in plain:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            break
    if depth:
        raise ValueError(f"the braces of the formula {_quoted(latex)} do not balance")


def _slanted(command: re.Match[str]) -> str:
    return _SLANTED.get(command.group(), command.group())


def _quoted(latex: str) -> str:
    return repr(latex if len(latex) <= 80 else latex[:79] + "…")


def _reason(error: Exception) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return f"{words}: {error}" if str(error) else words


def _outline(math: Math, source: str) -> Outline:
    root = ElementTree.Element("svg")
    root.extend(_symbol(glyph) for glyph in _glyphs(math.node))
    math.node.draw(0.0, 0.0, root)
    symbols = {symbol.get("id", ""): symbol for symbol in root.iter("symbol")}
    width, height = math.getsize()
    descent = -math.getyofst()
    painted = [child for child in _painted(root) if not _is_blank(child, symbols)]
    pieces = [p for child in painted for p in _piece(child, symbols, source)]
    absent = words(painted)
    if not (pieces or absent):
        return Outline("", 0.0, 0.0, 0.0)
    return Outline(" ".join(pieces), width, height - descent, descent, absent)


def _glyphs(node: Drawable) -> Iterator[SimpleGlyph]:
    if glyph := getattr(node, "glyph", None):
        yield glyph
    for inner in node.nodes:
        yield from _glyphs(inner)


def _symbol(glyph: SimpleGlyph) -> ElementTree.Element:
    """Return the outline of a glyph, which is slow to write and the same in all formulas."""
    if glyph.id not in _SYMBOLS:
        _SYMBOLS[glyph.id] = glyph.svgsymbol()
    return _SYMBOLS[glyph.id]


def _painted(node: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for child in node:
        if child.tag == "g":
            yield from _painted(child)
        elif child.tag != "symbol":
            yield child


def _is_blank(node: ElementTree.Element, symbols: Mapping[str, ElementTree.Element]) -> bool:
    return node.tag == "use" and not len(symbols[node.get("href", "#")[1:]])


def _piece(
    node: ElementTree.Element, symbols: Mapping[str, ElementTree.Element], source: str
) -> Iterator[str]:
    plain = node.get("fill") in _FILLS and node.get("stroke") is None
    if node.tag == "text" and plain:
        return
    if node.tag == "use" and plain:
        yield from _glyph(node, symbols[node.get("href", "#")[1:]])
    elif node.tag == "rect" and plain:
        x, y, w, h = (number(float(node.get(key, 0))) for key in ("x", "y", "width", "height"))
        yield f"M{x} {y}h{w}v{h}h-{w}Z"
    elif node.tag == "path" and plain:
        yield _moved(node.get("d", ""), 0.0, 0.0, 1.0)
    else:
        raise ValueError(
            f"the formula {_quoted(source)} uses colour, a box or a strike, which cannot be set; "
            "write it without"
        )


def _glyph(use: ElementTree.Element, symbol: ElementTree.Element) -> Iterator[str]:
    left, top, _, height = map(float, symbol.get("viewBox", "").split())
    scale = float(use.get("height", 0)) / height
    x, y = float(use.get("x", 0)) - left * scale, float(use.get("y", 0)) - top * scale
    x, y = round(x, 2), round(y, 2)  # so that a letter has one shape wherever it stands
    for path in symbol.iter("path"):
        yield _moved(path.get("d", ""), x, y, scale)


@lru_cache(maxsize=4096)
def _moved(path: str, x: float, y: float, scale: float) -> str:
    pieces: list[str] = []
    offsets = (x, y)
    place = 0  # even: an x coordinate
    for token in path.split():
        if token.isalpha():
            pieces.append(token)
        else:
            pieces.append(number(round(float(token) * scale, 2) + offsets[place % 2]))
            place += 1
    return re.sub(r"(?<=[A-Z]) | (?=[A-Z])", "", " ".join(pieces))
