"""Independence statements as people write them: `x1, x2 _||_ y | z`."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Statement", "read_statement"]

_SIGNS = re.compile(r"_\|\|_|\u2aeb|\u27c2|\u22a5\s*\u22a5|\u22a5")
_COMMAS = re.compile(r",(?![^\[]*\])")  # those inside brackets belong to the name of a unit


class Statement(NamedTuple):
    """What is asked to be independent of what, given what."""

    xs: tuple[str, ...]
    ys: tuple[str, ...]
    given: tuple[str, ...]


def read_statement(text: str) -> Statement:
    """Read `x1, x2 _||_ y | z, w`; the sign may be U+2AEB too, and the last part may be absent.

    Raises:
        ValueError: Another form, with the form that is expected.

    Example:
        >>> read_statement("x[0,1] _||_ y | z, w")
        Statement(xs=('x[0,1]',), ys=('y',), given=('z', 'w'))
    """
    sides = _SIGNS.split(text)
    if len(sides) == 2:
        second, bar, last = sides[1].partition("|")
        parts = [_names(sides[0]), _names(second), _names(last) if bar else ()]
        if all(parts[:2]) and (parts[2] or not bar) and "|" not in last:
            return Statement(*(tuple(names) for names in parts))
    raise ValueError(
        f"cannot read {text!r} as a statement of independence: write x1, x2 _||_ y | z, with names"
        " apart by commas and the part from | on where something is given"
    )


def _names(text: str) -> tuple[str, ...]:
    """Return the names between commas; nothing where one of them is empty or holds a space."""
    names = tuple(name.strip() for name in _COMMAS.split(text))
    return names if all(name and not re.search(r"\s", name) for name in names) else ()
