"""Reading the interchange format of Bayesian networks (BIF), as bnlearn and others write it."""

from __future__ import annotations

import os
import re

import torch

from daguerre.cpds import Tabular
from daguerre.formats.bif_table import Rows, States
from daguerre.formats.bif_text import BifText
from daguerre.formats.network import assemble, check_size
from daguerre.formats.text import MAX_BYTES, MAX_ENTRIES, close_to, read_source
from daguerre.graph import GraphError
from daguerre.model import Model

__all__ = ["read_bif"]

MAX_NAMES = 1000  # in one header


def read_bif(
    path: str | os.PathLike[str],
    *,
    strict: bool = False,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
    learned: bool = False,
) -> Model:
    r"""Read a discrete Bayesian network in the interchange format (BIF), plain or gzipped.

    $p(v) = \prod_i p(v_i \mid \mathrm{pa}(v_i))$, each CPD a `Tabular` in float64. Names of
    variables and states hold anything but `{}()[],;|"`, and in quotes anything. A row names the
    states of its parents, `(yes, no) 0.1, 0.9;`, and `default` stands for rows that are not given.
    A `table` with parents runs through the states of the variable slowest, and through those of
    the last parent fastest, as the format says. Comments and properties are passed over.

    Args:
        path: The file.
        strict: Refuse rows whose sum is off by more than 1e-6, names with spaces and no quotes,
            and a file without a block `network`. Otherwise a row may be off by 0.05, as rounding
            explains, and is divided by its sum.
        max_bytes: The most text that is read, decompressed.
        max_entries: The most entries of all tables together.
        learned: Whether the tables have parameters that gradients reach; otherwise they are
            buffers, and questions to the model are faster.

    Returns:
        The model: its values are state numbers `[n]`, and `Tabular.states` names the states.

    Raises:
        GraphError: The file is no such network; the message begins with file and line.
        OSError: The file cannot be read.

    References:
        Cozman (1998), The interchange format for Bayesian networks, version 0.15;
        Scutari (2010), arXiv 0908.3817 (bnlearn).

    Example:
        >>> import pathlib, tempfile
        >>> rain = '''network n { }
        ... variable rain { type discrete [ 2 ] { no, yes }; }
        ... probability ( rain ) { table 0.8, 0.2; }'''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "rain.bif")
        ...     _ = path.write_text(rain)
        ...     p = read_bif(path)
        >>> p.log_prob({"rain": torch.tensor([1])}).exp().detach()
        tensor([0.2000], dtype=torch.float64)
    """
    text = BifText.of(read_source(path, max_bytes), strict=strict)
    found: dict[str, list[re.Match[str]]] = {"network": [], "variable": [], "probability": []}
    for kind, block in text.blocks():
        found[kind].append(block)
    if strict and not found["network"]:
        raise text.error(0, "expected a block `network NAME { }`, and found none")
    variables: dict[str, States] = {}
    for block in found["variable"]:
        _declare(text, block, variables, max_entries)
    cpds: dict[str, Tabular] = {}
    entries = 0
    for block in found["probability"]:
        name, *parents = _header(text, block, variables)
        if name in cpds:
            raise text.error(block.start(), f"{name!r} has two blocks `probability`")
        states, above = variables[name], {parent: variables[parent] for parent in parents}
        sizes = (*(len(known) for known in above.values()), len(states))
        try:
            entries = check_size(sizes, entries, max_entries)
        except GraphError as error:
            raise text.error(block.start(), f"{name!r}: {error}") from None
        table = Rows(text, block, name, count=len(states), parents=above).table()
        cpds[name] = Tabular(
            torch.from_numpy(table).reshape(sizes),
            *parents,
            states=tuple(states),
            learned=learned,
        )
    return assemble(text.source.name, _complete(text, variables, cpds))


def _complete(
    text: BifText, variables: dict[str, States], cpds: dict[str, Tabular]
) -> dict[str, Tabular]:
    """Return the CPDs in the order in which the variables are declared."""
    for name in variables:
        if name not in cpds:
            raise GraphError(f"{text.source.name}: {name!r} has no block `probability`")
    if not variables:
        raise GraphError(f"{text.source.name}: expected a network, and it declares no variable")
    return {name: cpds[name] for name in variables}


def _declare(
    text: BifText, block: re.Match[str], variables: dict[str, States], max_entries: int
) -> None:
    """Add a declared variable with the numbers of its states."""
    place, names = block.start(), text.names(block.start(), block[1], 1)
    if len(names) != 1:
        raise text.error(place, f"expected the name of a variable, found {text.shown(block[1])}")
    name, digits, listed = names[0], block[2].lstrip("0"), block[3]
    if name in variables:
        raise text.error(place, f"the variable {name!r} is declared twice")
    count = int(digits[:20] or "0")
    if not 1 <= count <= min(len(listed), max_entries):
        raise text.error(
            place, f"{name!r} declares {digits[:20]} states; found fewer, or too many"
        )
    states = text.names(place, listed, count)
    if len(states) != count:
        raise text.error(
            place,
            f"{name!r} declares {count} states and lists"
            f" {'more' if len(states) > count else len(states)}",
        )
    numbered = {state: number for number, state in enumerate(states)}
    if len(numbered) != count:
        twice = next(state for number, state in enumerate(states) if numbered[state] != number)
        raise text.error(place, f"{name!r} lists the state {twice!r} twice")
    variables[name] = numbered


def _header(text: BifText, block: re.Match[str], variables: dict[str, States]) -> list[str]:
    """Return the variable whose table a block is, and its parents."""
    place = block.start()
    names = text.names(place, block[1], MAX_NAMES)
    if block[2] is not None:
        if len(names) != 1:
            raise text.error(place, f"expected one name before '|', found {text.shown(block[1])}")
        names += text.names(place, block[2], MAX_NAMES)
    if not names:
        raise text.error(place, "expected the name of a variable in `probability ( )`")
    for name in names:
        if name not in variables:
            hint = close_to(name, variables)
            raise text.error(place, f"{names[0]!r}: no variable {name!r} is declared{hint}")
    if len(set(names)) != len(names):
        raise text.error(place, f"{names[0]!r}: a variable is named twice, {', '.join(names)}")
    return names
