"""The text of a BIF file, cut into its blocks: what is network, variable, and probability.

Comments and properties are blanked first, and what is special inside quotes is hidden, so that
each block is one regular expression. All places stay where they were, for the errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from daguerre.formats.text import MAX_VARIABLES, Source, excerpt
from daguerre.graph import GraphError

__all__ = ["BifText", "quoted"]

# Every quantifier is possessive, so that no text makes these backtrack; each way begins with a
# letter of its own, so that the search between them is fast.
BLANKED = re.compile(
    r"""
    "(?P<quoted>[^"\n]*+)"
    | /(?<![^\s{}()\[\],;|"]/) (?: /[^\n]*+ | (?P<comment>\*(?:[^*]++|\*(?!/))*+(?:\*/)?+) )
    | property(?<=[{};\s]property)(?=\s++[^\s,{};|)])(?P<property>(?:"[^"\n]*+"|[^;"]++)*+;?+)
    """,
    re.VERBOSE,
)
MAX_MARKS = 2**23  # quotes, comments and properties
BLOCKS = {
    "network": (r"network(?=[\s{])[^{}]*+\{\s*+\}", "network NAME { }"),
    "variable": (
        r"variable\s++([^{}()\[\],;|]*+)\{\s*+type\s++discrete\s*+\[\s*+([0-9]++)\s*+\]"
        r"\s*+\{([^{}]*+)\}\s*+;?+\s*+\}",
        "variable NAME { type discrete [ COUNT ] { STATE, ... }; }",
    ),
    "probability": (
        r"probability\b\s*+\(([^()|{}]*+)(?:\|([^()|{}]*+))?+\)\s*+\{([^{}]*+)\}",
        "probability ( NAME | PARENT, ... ) { table NUMBER, ...; }",
    ),
}
PATTERNS = {kind: re.compile(pattern) for kind, (pattern, _) in BLOCKS.items()}
WORD, SPACE = re.compile(r"\w*+"), re.compile(r"\s*+")
BARE = re.compile(r'(?!//|/\*)[^\s{}()\[\],;|"]++')
SPECIAL = ' \t\r\v\f,;|(){}[]"/'
HIDDEN = str.maketrans({c: chr(0xDC00 + ord(c)) for c in SPECIAL})  # no UTF-8 decodes to these
SHOWN = str.maketrans({chr(0xDC00 + ord(c)): c for c in SPECIAL})
MAX_NAME = 1000


@dataclass(frozen=True)
class BifText:
    """The text of a file, of which only blocks are left.

    Attributes:
        source: The text without comments, properties and quotes, and where it comes from.
        strict: Whether names that lack their quotes are refused.
    """

    source: Source
    strict: bool

    @classmethod
    def of(cls, source: Source, *, strict: bool) -> BifText:
        """Blank comments and properties, and hide what is special inside quotes."""

        def blank(match: re.Match[str]) -> str:
            hidden, comment, told = match["quoted"], match["comment"], match["property"]
            if hidden is not None:
                return f" {hidden.translate(HIDDEN)} "
            if comment and not comment.endswith("*/", 1):
                raise source.error(match.start(), "a comment begins here and does not end")
            if told and not told.endswith(";"):
                raise source.error(match.start(), "expected ';' at the end of this property")
            return "\n".join(" " * len(line) for line in match[0].split("\n"))

        marks = sum(map(source.text.count, ('"', "//", "/*", "property")))
        if marks > MAX_MARKS:
            raise GraphError(f"{source.name}: more than {MAX_MARKS:,} quotes and comments")
        return cls(Source(source.name, BLANKED.sub(blank, source.text)), strict)

    def error(self, place: int, message: str) -> GraphError:
        """Return an error at a place in the text."""
        return self.source.error(place, message)

    def shown(self, text: str) -> str:
        """Return the beginning of a text for an error, as it stands in the file."""
        return excerpt(text[:200].translate(SHOWN))

    def blocks(self) -> Iterator[tuple[str, re.Match[str]]]:
        """Cut the text into its blocks: network, variable or probability, and what it holds.

        Raises:
            GraphError: Something else than a block, or too many of them.
        """
        text, place, count = self.source.text, _end(SPACE, self.source.text, 0), 0
        while place < len(text):
            word = text[place : _end(WORD, text, place)]
            block = PATTERNS[word].match(text, place) if word in BLOCKS else None
            if not block:
                form = BLOCKS.get(word, ("", "a block network, variable or probability"))[1]
                raise self.error(
                    place, f"expected {form}; found {self.shown(text[place : place + 200])}"
                )
            count += 1
            if count > 3 * MAX_VARIABLES:
                raise self.error(place, f"there are more than {MAX_VARIABLES:,} variables")
            yield word, block
            place = _end(SPACE, text, block.end())

    def names(self, place: int, text: str, most: int) -> list[str]:
        """Read names parted by commas, or by spaces where there is no comma.

        Args:
            place: Where the text begins.
            text: The names.
            most: How many there can be; what is beyond comes as one more.

        Raises:
            GraphError: Nothing where a name should be; when strict, spaces without quotes.
        """
        names = []
        for part in text.split(",", most) if "," in text else text.split(None, most):
            words = part.split(None, MAX_NAME)
            if not words or len(part) > MAX_NAME or '"' in part:
                raise self.error(place, f"expected a name, found {self.shown(part)}")
            if self.strict and len(words) > 1:
                raise self.error(place, f"the name {self.shown(part)} has spaces and no quotes")
            names.append(" ".join(words).translate(SHOWN))
        return names


def quoted(name: str) -> str:
    """Return a name as it stands in a file: in quotes where it needs them.

    Raises:
        GraphError: No file of this format can hold the name.

    Example:
        >>> quoted("Asy/Patch"), quoted("very low")
        ('Asy/Patch', '"very low"')
    """
    if (
        not name
        or len(name) > MAX_NAME
        or re.search(r'["\n]|[^\S \t\r\v\f]|[\ud800-\udfff]', name)
    ):
        raise GraphError(
            f"{excerpt(name)} is no name for BIF, which takes 1 to {MAX_NAME} characters, without"
            " quotes and no white space but blanks and tabs; rename it, or use write_network"
        )
    return name if BARE.fullmatch(name) and name != "property" else f'"{name}"'


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place
