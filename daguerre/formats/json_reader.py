"""Reading networks in JSON: tables, linear Gaussians, conditional Gaussians.

The form, version 1, is one object:

    {"format": "daguerre network", "version": 1, "variables": {NAME: CPD, ...}}

A CPD is a table, whose `states` are a list of names or just their number,

    {"kind": "table", "states": ["no", "yes"], "parents": [NAME, ...],
     "table": [*states of each parent, states]}

or a linear Gaussian, N(bias + sum of weights times parents, scale), one per state of `given`:

    {"kind": "linear gaussian", "event": [] or [d], "given": [NAME, ...],
     "bias": [*states of given, *event],
     "weights": {NAME: [*states of given, *event, *event of NAME], ...},
     "scale": [*states of given, *event] or "scale_tril": [*states of given, d, d]}

Numbers in brackets are nested lists, the first dimension outermost. `parents`, `given`, `weights`
and `event` may be left out where they are empty. Other keys are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple, final

import torch
from torch import Tensor

from daguerre.cpds import LinearGaussian, Tabular
from daguerre.formats.json_entry import Entry, parse
from daguerre.formats.network import (
    assemble,
    bad_row,
    check_size,
    normalised,
    place_of_row,
)
from daguerre.formats.text import MAX_BYTES, MAX_ENTRIES, MAX_VARIABLES, close_to, read_source
from daguerre.graph import GraphError
from daguerre.model import Model

__all__ = ["FORMAT", "GAUSSIAN", "TABLE", "VERSION", "read_network"]

FORMAT = "daguerre network"
VERSION = 1
TABLE = "table"
GAUSSIAN = "linear gaussian"
Shape = tuple[int, ...]


def read_network(
    path: str | os.PathLike[str],
    *,
    strict: bool = False,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
    learned: bool = False,
) -> Model:
    r"""Read a network of tables and linear Gaussians in JSON, plain or gzipped.

    $p(v) = \prod_i p(v_i \mid \mathrm{pa}(v_i))$. The form is that of `write_network`; it is
    described at the head of this module. All numbers become float64.

    Args:
        path: The file.
        strict: Refuse rows of tables whose sum is off by more than 1e-6. Otherwise a row may be
            off by 0.05, as rounding explains, and is divided by its sum.
        max_bytes: The most text that is read, decompressed.
        max_entries: The most entries of all tables and weights together.
        learned: Whether the tables have parameters that gradients reach; otherwise they are
            buffers, and questions to the model are faster.

    Returns:
        The model; its CPDs are `Tabular` and `LinearGaussian`.

    Raises:
        GraphError: The file is no such network; the message begins with the file and says the
            line, or the variable and the key.
        OSError: The file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> height = '''{"format": "daguerre network", "version": 1, "variables": {
        ...     "height": {"kind": "linear gaussian", "bias": 170, "scale": 10}}}'''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "height.json")
        ...     _ = path.write_text(height)
        ...     p = read_network(path)
        >>> p.log_prob({"height": torch.tensor([170.0]).double()}).detach()
        tensor([-3.2215], dtype=torch.float64)
    """
    source = read_source(path, max_bytes)
    marks, most = sum(map(source.text.count, "[{,")), 2 * max_entries + 20 * MAX_VARIABLES
    if marks > most:
        raise GraphError(
            f"{source.name} has {marks:,} brackets and commas, more than {most:,}; if they are"
            " meant to, pass a larger max_entries="
        )
    document = Entry.of(source.name, parse(source))
    document.only("format", "version", "variables")
    if document.fields.get("format") != FORMAT or document.fields.get("version") != VERSION:
        raise document.error(f'expected "format": "{FORMAT}" and "version": {VERSION}')
    variables = document.object("variables").fields
    if not 1 <= len(variables) <= MAX_VARIABLES:
        raise document.error(
            f"expected from 1 to {MAX_VARIABLES:,} variables, found {len(variables):,}"
        )
    entries = {n: Entry.of(f"{source.name}, {n[:60]!r}", v) for n, v in variables.items()}
    sizes = {n: _size(entry, max_entries) for n, entry in entries.items()}
    reader = Reader(sizes, max_entries, learned=learned)
    cpds = {n: reader.cpd(n, entry, strict=strict) for n, entry in entries.items()}
    return assemble(source.name, cpds)


class Size(NamedTuple):
    """What one event of a variable is: one of so many states, or a number or vector."""

    states: int | None
    event: Shape


def _size(entry: Entry, most: int) -> Size:
    """Return the size of a variable, after the keys of its kind are checked."""
    match entry.fields.get("kind"):
        case "table":
            entry.only("kind", "states", "parents", "table")
            states = entry.fields.get("states")
            count = len(entry.names("states")) if isinstance(states, list) else states
            return Size(entry.count("states", count, most), ())
        case "linear gaussian":
            entry.only("kind", "event", "given", "bias", "weights", "scale", "scale_tril")
            event = entry.fields.get("event", [])
            if not isinstance(event, list) or len(event) > 1:
                raise entry.error("event: expected [] of a number, or [d] of a vector")
            return Size(None, tuple(entry.count("event", d, most) for d in event))
    raise entry.error(f'expected "kind": "{TABLE}" or "{GAUSSIAN}"')


@final
class Reader:
    """CPDs read one after another, by the sizes of all variables, up to so many entries."""

    def __init__(self, sizes: Mapping[str, Size], max_entries: int, *, learned: bool) -> None:
        self.sizes, self.max_entries, self.entries = sizes, max_entries, 0
        self.learned = learned

    def cpd(self, name: str, entry: Entry, *, strict: bool) -> Tabular | LinearGaussian:
        """Read the CPD of a variable."""
        states, event = self.sizes[name]
        if states is None:
            return self._gaussian(entry, event)
        return self._table(entry, states, strict=strict)

    def _table(self, entry: Entry, states: int, *, strict: bool) -> Tabular:
        parents = entry.names("parents")
        above = tuple(self._states(entry, "parents", parent) for parent in parents)
        probs = self._tensor(entry, "table", (*above, states)).reshape(-1, states).numpy()
        bad = bad_row(probs, strict=strict)
        if bad:
            raise entry.error(f"table: row {place_of_row(bad.row, above)} {bad.why}")
        named = isinstance(entry.fields["states"], list)
        table = torch.from_numpy(normalised(probs)).reshape(*above, states)
        names = entry.names("states") if named else None
        return Tabular(table, *parents, states=names, learned=self.learned)

    def _gaussian(self, entry: Entry, event: Shape) -> LinearGaussian:
        given = entry.names("given")
        lead = (*(self._states(entry, "given", parent) for parent in given), *event)
        slopes = entry.object("weights")
        weights = {
            parent: self._tensor(slopes, parent, (*lead, *self._event(slopes, parent)))
            for parent in slopes.fields
        }
        bias = self._tensor(entry, "bias", lead)
        full = "scale_tril" in entry.fields
        if full and ("scale" in entry.fields or not event):
            raise entry.error("expected scale, or for a vector either scale or scale_tril")
        spread = self._tensor(
            entry, *(("scale_tril", (*lead, *event)) if full else ("scale", lead))
        )
        if full and spread.triu(1).any():
            raise entry.error("scale_tril: expected zeros above the diagonal")
        scale, factor = (None, spread) if full else (spread, None)
        try:
            return LinearGaussian(bias, scale, weights=weights, given=given, scale_tril=factor)
        except GraphError as error:
            raise entry.error(str(error)) from None

    def _states(self, entry: Entry, key: str, parent: str) -> int:
        states = self._size(entry, key, parent).states
        if states is None:
            raise entry.error(
                f"{key}: {parent[:60]!r} has no states; a parent of weights is continuous"
            )
        return states

    def _event(self, entry: Entry, parent: str) -> Shape:
        states, event = self._size(entry, "parent", parent)
        if states is not None:
            raise entry.error(f"{parent[:60]!r} is no number; name it in given")
        return event

    def _size(self, entry: Entry, key: str, parent: str) -> Size:
        if parent not in self.sizes:
            hint = close_to(parent, self.sizes)
            raise entry.error(f"{key}: no variable {parent[:60]!r} is declared{hint}")
        return self.sizes[parent]

    def _tensor(self, entry: Entry, key: str, shape: Shape) -> Tensor:
        try:
            self.entries = check_size(shape, self.entries, self.max_entries)
        except GraphError as error:
            raise entry.error(f"{key}: {error}") from None
        return entry.tensor(key, shape)
