r"""Formulas as one line of text, for formats that know no mathematics."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree.ElementTree import Element, fromstring

from daguerre.draw.mathml import mathml

__all__ = ["plain", "shown"]

_LONGEST = 60
_SHORT = re.compile(r"[\w,]*|\(\w+\)")  # scripts that need no braces
_SCRIPTS = {
    "msub": "_",
    "munder": "_",
    "msup": "^",
    "mover": "^",
    "msubsup": "_^",
    "munderover": "_^",
}

Mark = Callable[[str, str], str]


def _braced(sign: str, script: str) -> str:
    return sign + (script if _SHORT.fullmatch(script) else f"{{{script}}}")


def plain(
    latex: str,
    *,
    escape: Callable[[str], str] = str,
    mark: Mark = _braced,
) -> str:
    r"""Write a LaTeX formula as text.

    Args:
        latex: The formula, without dollar signs.
        escape: Applied to each piece of text.
        mark: Writes a script, given `"_"` or `"^"` and what stands there.

    Raises:
        ValueError: A formula that cannot be set.

    Example:
        >>> plain(r"p_\theta(x \mid z_{1})"), plain(r"\mathrm{fc}^{(2)}")
        ('p_θ(x ∣ z_1)', 'fc^(2)')
    """

    def text(node: Element) -> str:
        tag = node.tag.rpartition("}")[2]
        if tag in _SCRIPTS:
            base, *scripts = map(text, node)
            return base + "".join(map(mark, _SCRIPTS[tag], scripts))
        if tag == "mfrac":
            return "/".join(map(text, node))
        own = node.text or ""
        spaced = f" {own} " if tag == "mo" and own in "∣=+∼−" and own else own
        rows = " ; " if tag == "mtr" else ""
        return escape(spaced) + "".join(map(text, node)) + rows

    return " ".join(text(fromstring(mathml(latex))).split()).removesuffix(" ;")


def shown(words: str) -> str:
    r"""Return words on one line, cut where they are long, with a sign for what nobody can see.

    Example:
        >>> shown("a\nb\x00"), len(shown("x" * 10_000))
        ('a b�', 60)
    """
    line = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(words.split()))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
