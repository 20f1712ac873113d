"""The rows of one block `probability` of a BIF file, read all at once."""

from __future__ import annotations

import math
import re
from typing import final

import numpy as np
from numpy.typing import NDArray

from daguerre.formats.bif_text import BifText
from daguerre.formats.network import bad_row, normalised, place_of_row
from daguerre.formats.text import close_to, numbers
from daguerre.graph import GraphError

__all__ = ["Rows", "States"]

States = dict[str, int]  # the number of each state, in their order
KEYWORD = re.compile(r"(table|default)\b(.*+)", re.DOTALL)


@final
class Rows:
    """The rows of the table of one variable.

    Args:
        text: The file.
        block: The block, of which the third group holds the rows.
        name: The variable.
        count: How many states it has.
        parents: Per parent, its states.
    """

    def __init__(
        self,
        text: BifText,
        block: re.Match[str],
        name: str,
        *,
        count: int,
        parents: dict[str, States],
    ) -> None:
        self.text, self.block, self.name = text, block, name
        self.count, self.parents = count, parents
        self.rows = math.prod(len(states) for states in parents.values())
        self.tokens: list[str] = []
        self.which: list[int] = []
        self.where: list[int] = []
        self.default: tuple[int, list[str]] | None = None
        self.flat: tuple[int, list[str]] | None = None

    def table(self) -> NDArray[np.float64]:
        """Return the table `[rows, states]`, the last parent fastest, rows divided by their sum.

        Raises:
            GraphError: A row that is unknown, missing, repeated or no distribution.
        """
        self._read()
        where = np.full(self.rows, -1)
        table = np.empty((self.rows, self.count))
        if self.flat:
            place, tokens = self.flat
            table[:] = self._numbers(tokens, [place], len(tokens)).reshape(self.count, -1).T
            where[:] = place
        if self.default:
            place, tokens = self.default
            table[:], where[:] = self._numbers(tokens, [place], self.count), place
        if self.tokens:
            self._refuse_twice()
            given = self._numbers(self.tokens, self.where, self.count)
            table[self.which], where[self.which] = given.reshape(-1, self.count), self.where
        if (where < 0).any():
            if not self.parents:
                raise self._expected(self.block.start(), "")
            row = int(np.flatnonzero(where < 0)[0])
            raise self._error(self.block.start(), f"no row for {self._states(row)}and no default")
        bad = bad_row(table, strict=self.text.strict)
        if bad:
            raise self._error(
                int(where[bad.row]), f"the row {self._states(bad.row)}{bad.why}".strip()
            )
        return normalised(table)

    def _read(self) -> None:
        """Cut the block into statements; their numbers stay text."""
        body, place = self.block[3], self.block.start(3)
        if body.count(";") > self.rows + 2:
            raise self._error(place, f"more statements than rows, {self.rows}")
        *pieces, rest = body.split(";")
        for piece in pieces:
            statement = piece.strip()
            at = place + len(piece) - len(piece.lstrip())
            if statement.startswith("("):
                self._row(statement, at)
            elif keyword := KEYWORD.match(statement):
                self._keyword(keyword, at)
            elif statement:
                raise self._expected(at, statement)
            place += len(piece) + 1
        if rest.strip():
            at = place + len(rest) - len(rest.lstrip())
            raise self._error(at, f"expected ';' after {self.text.shown(rest)}")
        if self.flat and (self.default or self.tokens):
            raise self._error(self.flat[0], "has a table and rows besides; expected one of them")

    def _row(self, statement: str, place: int) -> None:
        listed, close, values = statement[1:].partition(")")
        states = listed.split(",")
        if not close or not self.parents:
            raise self._expected(place, statement)
        number = 0
        try:
            for state, known in zip(states, self.parents.values(), strict=True):
                number = number * len(known) + known[state.strip()]
        except (KeyError, ValueError):  # a slip, or a name in quotes
            number = self._number(listed, place)
        self.which.append(number)
        self.where.append(place)
        self.tokens += self._split(values, self.count, place)

    def _number(self, listed: str, place: int) -> int:
        """Return the number of a row by the names of its states, read with care."""
        names = self.text.names(place, listed, len(self.parents))
        if len(names) != len(self.parents):
            above = ", ".join(self.parents)
            shown = self.text.shown(listed)
            raise self._error(
                place,
                f"the row names ({shown}), not {len(self.parents)} states, one of each of {above}",
            )
        number = 0
        for name, (parent, known) in zip(names, self.parents.items(), strict=True):
            if name not in known:
                hint = close_to(name, known)
                raise self._error(place, f"{parent!r} has no state {name!r}{hint}")
            number = number * len(known) + known[name]
        return number

    def _keyword(self, keyword: re.Match[str], place: int) -> None:
        if keyword[1] == "table":
            if self.flat:
                raise self._error(place, "has two tables")
            self.flat = place, self._split(keyword[2], self.count * self.rows, place)
        else:
            if self.default:
                raise self._error(place, "has two defaults")
            self.default = place, self._split(keyword[2], self.count, place)

    def _split(self, text: str, count: int, place: int) -> list[str]:
        """Cut a row into its numbers, which must be so many."""
        tokens = text.replace(",", " ").split(None, count)
        if len(tokens) != count:
            more = "more" if len(tokens) > count else str(len(tokens))
            raise self._error(place, f"expected {count} numbers, found {more}")
        return tokens

    def _numbers(self, tokens: list[str], where: list[int], count: int) -> NDArray[np.float64]:
        """Return the numbers of rows of so many each."""
        values = numbers(tokens)
        if isinstance(values, int):
            at = where[values // count]
            raise self._error(at, f"expected a number, found {self.text.shown(tokens[values])}")
        return np.frombuffer(values)

    def _refuse_twice(self) -> None:
        seen = np.bincount(self.which, minlength=self.rows)
        if seen.max() > 1:
            row = int(seen.argmax())
            place = self.where[len(self.which) - 1 - self.which[::-1].index(row)]
            raise self._error(place, f"has two rows {self._states(row)}".strip())

    def _states(self, row: int) -> str:
        """Return the states of the parents in a row."""
        sizes = [len(known) for known in self.parents.values()]
        place = zip(self.parents.values(), place_of_row(row, sizes), strict=True)
        names = [next(n for n, i in known.items() if i == state) for known, state in place]
        return f"({', '.join(names)}) " if names else ""

    def _expected(self, place: int, statement: str) -> GraphError:
        form = "(STATE, ...) NUMBER, ...;" if self.parents else "table NUMBER, ...;"
        return self._error(place, f"expected `{form}`, found {self.text.shown(statement)}")

    def _error(self, place: int, message: str) -> GraphError:
        return self.text.error(place, f"{self.name!r}: {message}")
