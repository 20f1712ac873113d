"""The few lines of XML that the writers need: elements, escaping, short numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

__all__ = ["clean", "element", "number"]

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(tag: str, attributes: Mapping[str, str], *children: str, text: str = "") -> str:
    """Write one element; attributes and text are escaped, children are taken as they are.

    Example:
        >>> element("g", {"id": "a<b"}, element("title", {}, text="x & y"))
        '<g id="a&lt;b"><title>x &amp; y</title></g>'
    """
    head = "".join(f" {key}={quoteattr(clean(value))}" for key, value in attributes.items())
    body = escape(clean(text)) + "".join(children)
    return f"<{tag}{head}>{body}</{tag}>" if body else f"<{tag}{head}/>"


def clean(text: str) -> str:
    """Replace what XML cannot hold (control characters, lone surrogates) by U+FFFD."""
    return _ILLEGAL.sub("\ufffd", text)


def number(value: float) -> str:
    """Write a coordinate with at most two decimals.

    Example:
        >>> number(2.50), number(-0.001)
        ('2.5', '0')
    """
    short = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if short == "-0" else short
