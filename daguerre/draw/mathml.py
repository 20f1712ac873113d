r"""LaTeX to MathML, through latex2mathml, so that browsers set it as it was meant.

MathML Core, which browsers read, knows no `mathvariant` but `normal`, so bold letters become
letters of their own; and some things that latex2mathml writes would be set wrongly: a single
upright letter, `\sim` and `\perp` as identifiers, words letter by letter, negative spaces by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby, pairwise
from unicodedata import category
from xml.etree.ElementTree import Element, SubElement, tostring

from daguerre.draw.formula import formula
from daguerre.draw.markup import clean

__all__ = ["mathml"]

_ENTITY = re.compile(r"&#x([0-9A-Fa-f]{4,6});")
_FUNCTIONS = ("log", "ln", "exp", "sin", "cos", "tanh", "det", "dim", "Pr")
_LIMITS = ("min", "max", "sup", "inf", "lim")
_SPACES = {
    "negativethinmathspace": "-0.167em",
    "negativemediummathspace": "-0.222em",
    "negativethickmathspace": "-0.278em",
}
# where the letters of a style begin: Latin capitals, small letters, Greek capitals and small
_STYLES = {
    "bold": (0x1D400, 0x1D41A, 0x1D6A8, 0x1D6C2),
    "italic": (0x1D434, 0x1D44E, 0x1D6E2, 0x1D6FC),
    "bold-italic": (0x1D468, 0x1D482, 0x1D71C, 0x1D736),
}
_ALPHABETS = ("AZ", "az", "ΑΩ", "αω")
_ITALIC_H = "\u210e"  # which Unicode had before its alphabets


@lru_cache(maxsize=1024)
def mathml(latex: str, *, block: bool = False) -> str:
    r"""Write a LaTeX formula as MathML Core.

    Args:
        latex: The formula, without dollar signs.
        block: Whether it stands on a line of its own.

    Returns:
        A `math` element that a page takes as it is; whatever text is in it is escaped.

    Raises:
        ValueError: A command that cannot be set, unbalanced braces, a comment or a colour.

    Example:
        >>> print(mathml(r"x \sim p"))  # doctest: +ELLIPSIS
        <math ... display="inline"><mrow><mi>x</mi><mo>∼</mo><mi>p</mi></mrow></math>
    """
    from latex2mathml.converter import convert_to_element

    formula(latex)  # what cannot be set is refused in the same words
    tree = convert_to_element(_columns(latex), display="block" if block else "inline")
    for node in tree.iter():
        _mend(node)
    for node in list(tree.iter()):
        _close_up(node)
        _join_words(node)
        _set_apart(node)
        if block and node.tag == "msub" and node[0].text in _LIMITS:
            node.tag = "munder"
    return tostring(tree, encoding="unicode")


def _columns(latex: str) -> str:
    """Call aligned lines `split`: of the two names latex2mathml knows this one."""
    return re.sub(r"\\(begin|end)\{aligned\}", r"\\\1{split}", latex)


def _mend(node: Element) -> None:
    text = node.text or ""
    coded, text = text, clean(_ENTITY.sub(lambda match: chr(int(match[1], 16)), text))
    if node.tag == "mi" and coded != text and text.isascii() and text.isalpha():
        node.set("mathvariant", "normal")  # it writes only upright letters by number
    style = node.get("mathvariant", "")
    if style in _STYLES:
        text = "".join(_styled(character, style) for character in text)
        del node.attrib["mathvariant"]
    if node.tag == "mi" and len(text) == 1 and not style:
        if text == "~":
            text = "∼"
        if category(text) == "Sm":
            node.tag = "mo"
    if node.tag == "mtd":  # what MathML Core has no attributes for
        align = node.attrib.pop("columnalign", "center")
        node.set("style", f"text-align:{align};padding-left:0;padding-right:0")
    if (width := node.get("width", "")) in _SPACES:
        node.set("width", _SPACES[width])
    node.text = text or None


def _styled(character: str, style: str) -> str:
    if (character, style) == ("h", "italic"):
        return _ITALIC_H
    for (first, last), start in zip(_ALPHABETS, _STYLES[style], strict=True):
        if first <= character <= last:
            return chr(start + ord(character) - ord(first))
    return character


def _close_up(row: Element) -> None:
    r"""Let negative space pull operators together, as in `\perp\!\!\!\perp`."""
    for before, after in pairwise(row):
        if before.tag == "mo" and after.get("width", "").startswith("-"):
            before.set("rspace", "0")
        elif after.tag == "mo" and before.get("width", "").startswith("-"):
            after.set("lspace", "0")


def _set_apart(row: Element) -> None:
    """Put a thin space between a function and what it is applied to without brackets."""
    for i, (name, argument) in reversed([*enumerate(pairwise(row), 1)]):
        is_function = name.tag == "mi" and (name.text or "") in _FUNCTIONS
        if is_function and argument.tag not in ("mo", "mspace"):
            row.insert(i, Element("mspace", {"width": "0.167em"}))


def _join_words(row: Element) -> None:
    """Join upright letters side by side: a word is one identifier."""
    children = list(row)
    if row.tag != "mrow" or sum(map(_is_upright, children)) < 2:
        return
    for child in children:
        row.remove(child)
    for upright, run in groupby(children, _is_upright):
        if upright:
            _add_word(row, run)
        else:
            row.extend(run)


def _add_word(row: Element, letters: Iterable[Element]) -> None:
    word = SubElement(row, "mi", {"mathvariant": "normal"})
    word.text = "".join(letter.text or "" for letter in letters)


def _is_upright(node: Element) -> bool:
    return node.tag == "mi" and node.get("mathvariant") == "normal"
