"""The words of a UAI file: counts and numbers, one after another."""

from __future__ import annotations

import re
from array import array
from itertools import islice
from typing import final

from daguerre.formats.text import Source, excerpt, numbers
from daguerre.graph import GraphError

__all__ = ["Tokens"]

COUNT = re.compile(r"[0-9]{1,18}")
CHUNK = 4096


@final
class Tokens:
    """The words of a text, one after another, so that no more is held than is read."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.words = re.finditer(r"\S++", source.text)
        self.place = 0

    def word(self, what: str) -> str:
        """Return the next word, which is there to say `what`."""
        found = next(self.words, None)
        if found is None:
            raise self._early(what)
        self.place = found.start()
        return found[0]

    def count(self, what: str, most: int, *, least: int = 0) -> int:
        """Return the next word as a whole number."""
        word = self.word(what)
        if not COUNT.fullmatch(word) or not least <= int(word) <= most:
            raise self.error(f"expected {what}, from {least} to {most:,}; found {excerpt(word)}")
        return int(word)

    def numbers(self, count: int, what: str) -> array[float]:
        """Return the next words as numbers."""
        found = array("d")
        while left := count - len(found):
            words = list(islice(self.words, min(left, CHUNK)))
            if not words:
                raise self._early(f"{left} more {what}")
            values = numbers([word[0] for word in words])
            if isinstance(values, int):
                self.place = words[values].start()
                raise self.error(f"expected a number, found {excerpt(words[values][0])}")
            found += values
        return found

    def end(self) -> None:
        """Refuse words that nothing asks for."""
        if found := next(self.words, None):
            self.place = found.start()
            raise self.error(f"expected the end of the file, found {excerpt(found[0])}")

    def error(self, message: str) -> GraphError:
        """Return an error at the last word."""
        return self.source.error(self.place, message)

    def _early(self, what: str) -> GraphError:
        return self.source.error(len(self.source.text), f"expected {what}, and the file ends")
