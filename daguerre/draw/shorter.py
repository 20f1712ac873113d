"""Path data in fewer characters: steps instead of places, and no more signs than needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from daguerre.draw.markup import number

__all__ = ["shorter"]

_AXES = {"M": (0, 1), "L": (0, 1), "H": (0,), "V": (1,), "Q": (0, 1) * 2, "C": (0, 1) * 3, "Z": ()}
_COMMAND = re.compile(r"([A-Za-z])([^A-Za-z]*)")
_NUMBER = re.compile(r"-?\d*\.?\d+")
_SCALE = 100  # two decimals, as all coordinates have


def shorter(path: str) -> str:
    """Write the path data of an outline or a line in steps from point to point.

    Nothing is lost: each step leads from one rounded place to the next. Only the first place is
    written as such, so what follows it is the same wherever a shape stands.

    Args:
        path: Data of M, L, H, V, Q, C and Z, places or steps.

    Raises:
        ValueError: Another command, such as an arc.

    Example:
        >>> shorter("M100.25 7L100.5 7.25L99.5 8Z")
        'M100.25 7l.25 .25-1 .75z'
        >>> shorter("M1 1H2V2Z M5 1H6V2Z")
        'M1 1h1v1zm4 0h1v1z'
    """
    written: list[str] = []
    at = start = (0, 0)
    last = ""  # an m is always written, as what follows one without a letter is a line
    for letter, values in _steps(path):
        axes, base = _AXES[letter.upper()], at if letter.islower() else (0, 0)
        places = [round(v * _SCALE) + base[a] for a, v in zip(axes, values, strict=True)]
        end = {**dict(enumerate(at)), **dict(zip(axes, places, strict=True))}
        low = letter.lower()
        if not written:
            written.append("M" + _joined(places))
        else:
            steps = _joined([p - at[a] for a, p in zip(axes, places, strict=True)])
            gap = "" if steps.startswith("-") else " "
            written.append(gap + steps if low == last != "m" else low + steps)
        if low == "m":
            start = (end[0], end[1])
        at, last = start if low == "z" else (end[0], end[1]), low
    return "".join(written)


def _steps(path: str) -> Iterator[tuple[str, list[float]]]:
    """Read one command after the other, each with the numbers of one step."""
    for letter, rest in _COMMAND.findall(path):
        if letter.upper() not in _AXES:
            raise ValueError(
                f"cannot shorten the path command {letter!r}: write {' '.join(_AXES)}"
            )
        values, count = [float(n) for n in _NUMBER.findall(rest)], len(_AXES[letter.upper()])
        for k in range(0, max(len(values), 1), count or 1):
            is_line = k > 0 and letter in "Mm"  # what follows the first place is drawn
            yield chr(ord(letter) - 1) if is_line else letter, values[k : k + count]


def _joined(hundredths: Sequence[int]) -> str:
    words = [re.sub(r"^(-?)0\.", r"\1.", number(n / _SCALE)) for n in hundredths]
    return " ".join(words).replace(" -", "-")
