r"""Products over plates and time: what runs from where to where, and what stands inside what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Range", "groups", "nested"]


class Range(NamedTuple):
    """What stands below and above the sign of a product, in LaTeX."""

    below: str
    above: str = ""

    @classmethod
    def over(cls, ranges: Iterable[Range]) -> Range:
        r"""Join ranges into that of one product over all their indices.

        Example:
            >>> print(Range.over([Range("i=1", "I"), Range("j=1", "J")]))
            _{i=1,\,j=1}^{I,\,J}
        """
        both = list(ranges)
        return cls(
            r",\,".join(r.below for r in both), r",\,".join(r.above for r in both if r.above)
        )

    def __str__(self) -> str:
        return f"_{{{self.below}}}" + f"^{{{self.above}}}" * bool(self.above)


def groups(plates: Sequence[str], members: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Order the plates around one variable from the outermost; those that cross stand together.

    Two plates cross if each holds a variable that the other does not.

    Args:
        plates: The plates, all of which hold the variable.
        members: Names of what each plate holds.

    Example:
        >>> groups(["i", "j", "n"], {"i": "ax", "j": "bx", "n": "abxy"})
        [['n'], ['i', 'j']]
    """
    found: list[list[str]] = []
    for plate in sorted(plates, key=lambda p: -len(set(members[p]))):
        inner = set(members[plate])
        if found and any(not inner <= set(members[outer]) for outer in found[-1]):
            found[-1].append(plate)
        else:
            found.append([plate])
    return found


def nested(factors: Iterable[tuple[Sequence[Range], str]]) -> str:
    r"""Write factors as products: what shares its outermost range stands in one product.

    Args:
        factors: The ranges of each, outermost first, and its LaTeX.

    Example:
        >>> n = Range("n=1", "N")
        >>> print(nested([([], "p(m)"), ([n], "p(z_n)"), ([n], "p(x_n)")]))
        p(m)\,\prod_{n=1}^{N} p(z_n)\,p(x_n)
    """
    pieces: list[str] = []
    inner: dict[Range, list[tuple[Sequence[Range], str]]] = {}
    for ranges, factor in factors:
        if ranges:
            inner.setdefault(ranges[0], []).append((ranges[1:], factor))
        else:
            pieces.append(factor)
    for i, (first, rest) in enumerate(inner.items(), 1):
        body = nested(rest)
        if len(rest) > 1 and i < len(inner):  # what follows would read as inside
            body = rf"\left[{body}\right]"
        pieces.append(rf"\prod{first} {body}")
    return r"\,".join(pieces)
