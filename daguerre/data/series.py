"""Time series from the columns of a CSV file."""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple, final

import torch
from torch import Tensor

from daguerre.data.split import NUMBERS
from daguerre.graph import did_you_mean

__all__ = ["Series", "series"]

LINE = 1 << 20  # bytes; a longer line is no row of numbers
MOST = torch.finfo(torch.float32).max


@final
@dataclass(frozen=True, eq=False, repr=False)
class Series:
    """Time series and what they are called.

    Attributes:
        x: float32 `[T, d]`, or `[n, T, d]` of several series; NaN is missing, or beyond the end.
        columns: The names of the d columns.
        ids: The n series, in the order in which they begin; empty where there is one.
        lengths: The steps of each, int64 `[n]`, or `[]` where there is one.
    """

    x: Tensor
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    lengths: Tensor

    def __repr__(self) -> str:
        return f"Series(x {list(self.x.shape)}: {shorten(', '.join(self.columns), 60)})"


def series(
    path: str | os.PathLike[str], *, columns: Sequence[str] | None = None, by: str | None = None
) -> Series:
    r"""Read time series from a CSV file with a header: a row a time step, a column a number.

    Args:
        path: A file of UTF-8, fields separated by commas, names in the first line.
        columns: The columns to read, in this order; by default all but `by`.
        by: The column that says which series a row belongs to. Rows of one series are its steps
            in the order of the file, together or among those of others.

    Returns:
        x: float32 `[T, d]`, with `by` `[n, T, d]`; NaN where a field is empty, and beyond the end
        of series that are shorter than the longest.

    Raises:
        TypeError: `columns` is a string.
        FileNotFoundError: There is no such file.
        ValueError: No header, an unknown or repeated column, a row of another length, a field
            that is no finite number, no UTF-8, or too much for memory; names line and column.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "own.csv").write_text("who,x,y\na,1,2\nb,3,\na,5,6\n")
        ...     found = series(f"{folder}/own.csv", by="who")
        >>> found.x.tolist(), found.ids, found.lengths
        ([[[1.0, 2.0], [5.0, 6.0]], [[3.0, nan], [nan, nan]]], ('a', 'b'), tensor([2, 1]))
    """
    if isinstance(columns, str):
        raise TypeError(f"columns is a list of names, not one: columns=[{columns!r}]")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with path.open("rb") as file:
        table = _Rows(path, csv.reader(_lines(file, path), strict=True))
        layout = _Layout.of(table, columns, by)
        values, ids = _read(table, layout)
    return _assembled(path, layout.names, values, ids if by is not None else None)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a file, with the lines that they end on."""

    path: Path
    reader: csv._reader  # type: ignore[name-defined] - the type has no public name

    def __iter__(self) -> Iterator[list[str]]:
        try:
            yield from self.reader
        except csv.Error as error:
            raise ValueError(f"{self.where}: {error}") from None

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.path}, line {self.reader.line_num}"


class _Layout(NamedTuple):
    """Which fields of a row are read.

    Attributes:
        width: The fields of each row.
        names: The columns that are read.
        places: Where they are.
        by: Where the name of the series is, if there is one.
    """

    width: int
    names: tuple[str, ...]
    places: tuple[int, ...]
    by: int | None

    @classmethod
    def of(cls, table: _Rows, columns: Sequence[str] | None, by: str | None) -> _Layout:
        """Read the header."""
        header = [name.strip() for name in next(iter(table), [])]
        if not header:
            raise ValueError(f"{table.path} is empty; expected names of columns in line 1")
        for i, name in enumerate(header):
            if not name or _number(name) is not None:
                raise ValueError(
                    f"{table.where}, column {i + 1}: expected a header, so a name, came {name!r}"
                )
        where = {name: i for i, name in reversed([*enumerate(header)])}
        for i, name in enumerate(header):
            if where[name] < i:
                raise ValueError(f"{table.where}, column {i + 1}: {name!r} is there already")
        names = tuple(n for n in header if n != by) if columns is None else tuple(columns)
        for name in (*names, *([] if by is None else [by])):
            if name not in where:
                hint = did_you_mean(name, header)
                raise ValueError(f"{table.path} has no column {name!r}{hint}")
        if not names or by in names or len({*names}) < len(names):
            raise ValueError(
                f"columns are names of different columns of numbers beside {by!r}, not {names}"
            )
        places = tuple(where[name] for name in names)
        return cls(len(header), names, places, None if by is None else where[by])


def _lines(file: BufferedIOBase, path: Path) -> Iterator[str]:
    """Read line by line, none of them longer than rows are."""
    for number, line in enumerate(iter(lambda: file.readline(LINE), b""), 1):
        if len(line) == LINE:
            raise ValueError(f"{path}, line {number}: {LINE:,} bytes or more; this is no row")
        try:
            decoded = line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: not UTF-8 at byte {error.start}; convert the file, as by"
                " iconv -t utf-8"
            ) from None
        yield decoded.removeprefix("\ufeff") if number == 1 else decoded


def _read(table: _Rows, layout: _Layout) -> tuple[list[array[float]], list[str]]:
    """Return the numbers of each series, row by row, and the names of the series."""
    found: dict[str, array[float]] = {}
    count, blank = 0, ""
    for row in table:
        if not row:  # nothing may follow the last row but empty lines
            blank = blank or table.where
            continue
        if blank or len(row) != layout.width:
            came = f"{blank}: an empty line" if blank else f"{table.where}: {len(row)} fields"
            raise ValueError(f"{came}; expected {layout.width}, as in the header")
        count += len(layout.places)
        if count > NUMBERS:
            raise ValueError(f"{table.where}: more than {NUMBERS:,} numbers; split the file")
        numbers = found.setdefault(row[layout.by] if layout.by is not None else "", array("f"))
        for name, place in zip(layout.names, layout.places, strict=True):
            numbers.append(_field(row[place], name, table))
    if not found:
        raise ValueError(f"{table.path} has a header and no rows")
    return [*found.values()], [*found]


def _field(field: str, name: str, table: _Rows) -> float:
    number = _number(field)
    if number is not None and abs(number) <= MOST:
        return number
    if not field.strip():
        return math.nan
    raise ValueError(
        f"{table.where}, column {name!r}: expected a finite number of float32, or nothing"
        f" where it is missing, came {shorten(field, 40)!r}; choose others by columns=[...]"
    )


def _number(field: str) -> float | None:
    try:
        return None if "_" in field else float(field)  # Python reads 1_000 as a number
    except ValueError:
        return None


def _assembled(
    path: Path, names: tuple[str, ...], values: list[array[float]], ids: list[str] | None
) -> Series:
    d = len(names)
    lengths = torch.tensor([len(numbers) // d for numbers in values])
    longest = int(lengths.max())
    if len(values) * longest * d > NUMBERS:
        raise ValueError(
            f"{path}: {len(values):,} series of up to {longest:,} steps are more than {NUMBERS:,}"
            " numbers when padded; cut the longest"
        )
    x = torch.full((len(values), longest, d), torch.nan)
    for i, numbers in enumerate(values):
        x[i, : len(numbers) // d] = torch.frombuffer(numbers, dtype=torch.float32).reshape(-1, d)
    if ids is None:
        return Series(x[0], names, (), lengths[0])
    return Series(x, names, tuple(ids), lengths)
