r"""Formulas and plain words in ASCII for TeX, whatever their letters.

pdfTeX sets no Unicode letter in mathematics. Greek letters become commands, accented ones
accents, and a letter that has neither becomes `\unichar{...}`: the letter itself in XeTeX and
LuaTeX, a square in pdfTeX.
"""

from __future__ import annotations

import re
from unicodedata import normalize

from daguerre.draw.labels import GREEK

__all__ = ["UNICHAR", "math", "words"]

UNICHAR = (
    r"\providecommand\unichar[1]"
    r"{\ifdefined\Umathcode\text{\symbol{"
    '"#1}}'
    r"\else\ensuremath{\square}\fi}"
)
_TOKEN = re.compile(r"\\text\{[\^~]\}|\\[A-Za-z]+|\\.|.", re.DOTALL)
_TEXT: dict[str, str] = {
    **{c: rf"\{c}" for c in "$%#&_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "`": r"\textasciigrave{}",
    "-": "{-}",
}
_MATH = {
    "#": r"\#",
    "$": r"\$",
    r"\text{^}": r"\text{\textasciicircum}",
    r"\text{~}": r"\text{\textasciitilde}",
}
_SIGNS = {
    "⫫": r"\perp\!\!\!\perp",
    "ℓ": r"\ell",
    "…": r"\ldots",
    "−": "-",
    "∞": r"\infty",
    "∂": r"\partial",
    "∇": r"\nabla",
    "′": r"\prime",
}
_ACCENTS = {
    "\u0300": "grave",
    "\u0301": "acute",
    "\u0302": "hat",
    "\u0303": "tilde",
    "\u0304": "bar",
    "\u0306": "breve",
    "\u0307": "dot",
    "\u0308": "ddot",
    "\u030a": "mathring",
    "\u030c": "check",
}


def math(latex: str) -> str:
    r"""Write a formula in ASCII.

    Args:
        latex: A formula that `daguerre.draw.formula` accepts, without dollar signs.

    Example:
        >>> print(math(r"\theta + 𝜙 + \mathrm{é\#} + 变"))
        \theta + {\ensuremath{\phi}} + \mathrm{{\ensuremath{\acute{e}}}\#} + \unichar{53D8}
    """
    tokens: list[str] = _TOKEN.findall(normalize("NFC", latex))
    return "".join(_MATH.get(t, t) if t.isascii() else _letter(t) for t in tokens)


def words(text: str) -> str:
    r"""Write plain text in ASCII: no character has a meaning of its own.

    Args:
        text: Any string; line breaks become spaces.

    Example:
        >>> print(words("100% {x}"))
        100\% \{x\}
    """
    plain = normalize("NFC", " ".join(text.split()))
    letters = (c if c.isprintable() else "\ufffd" for c in plain)
    return "".join(_TEXT.get(c, c) if c.isascii() else _letter(c) for c in letters)


def _letter(token: str) -> str:
    character = token.removeprefix("\\")
    plain = normalize("NFKC", character)
    sign = _SIGNS.get(character) or GREEK.get(plain) or _accented(character)
    if sign:
        return rf"{{\ensuremath{{{sign}}}}}"
    if len(plain) == 1 and plain.isascii() and plain.isalnum():
        return plain
    return rf"\unichar{{{ord(character):04X}}}"


def _accented(character: str) -> str:
    base, *marks = normalize("NFD", character)
    if len(marks) == 1 and base.isascii() and base.isalpha() and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    return ""
