"""The text format of the UAI inference competitions: networks of both kinds, and evidence.

A file is white space and numbers: the kind (BAYES or MARKOV), the number of variables and their
states, the number of factors and their scopes, then per factor the count of its entries and the
entries, the last variable of the scope fastest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from daguerre.cpds import Tabular
from daguerre.formats.network import (
    MAX_DIMS,
    assemble,
    bad_row,
    check_size,
    normalised,
    probs_of,
    tables_of,
)
from daguerre.formats.text import (
    MAX_BYTES,
    MAX_ENTRIES,
    MAX_VARIABLES,
    Source,
    excerpt,
    read_source,
    write_text,
)
from daguerre.formats.uai_text import Tokens
from daguerre.graph import GraphError
from daguerre.infer.product import Factors
from daguerre.model import Model

__all__ = ["read_uai", "read_uai_evidence", "write_uai"]


class Factor(NamedTuple):
    """One factor of a file: where its entries stand, the numbers of its variables, the entries."""

    place: int
    scope: tuple[int, ...]
    entries: NDArray[np.float64]


def read_uai(
    path: str | os.PathLike[str],
    *,
    strict: bool = False,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
    learned: bool = False,
) -> Model | Factors:
    r"""Read a network in the format of the UAI competitions, plain or gzipped.

    The format knows numbers only: variables are called x0, x1, ... In a Bayesian network,
    $p(v) = \prod_i p(v_i \mid \mathrm{pa}(v_i))$, the last variable of each scope is the child.

    Args:
        path: The file.
        strict: Refuse rows of a Bayesian network whose sum is off by more than 1e-6. Otherwise a
            row may be off by 0.05, as rounding explains, and is divided by its sum.
        max_bytes: The most text that is read, decompressed.
        max_entries: The most entries of all tables together.
        learned: Whether the tables have parameters that gradients reach; otherwise they are
            buffers, and questions to the model are faster.

    Returns:
        Of a file that begins with BAYES a model of `Tabular` CPDs; with MARKOV, the factors as
        they are. All in float64.

    Raises:
        GraphError: The file is no such network; the message begins with file and line.
        OSError: The file cannot be read.

    References:
        Dechter et al., the file format of the UAI 2014 inference competition.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "pair.uai")
        ...     _ = path.write_text("MARKOV 2 2 3 1 2 0 1 6 1 2 3 4 5 6")
        ...     pair = read_uai(path)
        >>> pair.sizes, pair.tables[0].shape
        ({'x0': 2, 'x1': 3}, torch.Size([2, 3]))
    """
    tokens = Tokens(read_source(path, max_bytes))
    kind = tokens.word("BAYES or MARKOV")
    if kind not in ("BAYES", "MARKOV"):
        raise tokens.error(f"expected BAYES or MARKOV, found {excerpt(kind)}")
    count = tokens.count("the number of variables", MAX_VARIABLES, least=1)
    sizes = [
        tokens.count(f"the number of states of variable {i}", max_entries, least=1)
        for i in range(count)
    ]
    factors = _factors(tokens, sizes, max_entries)
    if kind == "BAYES":
        return _bayes(tokens.source, sizes, factors, strict=strict, learned=learned)
    return _markov(tokens.source, sizes, factors)


def _factors(tokens: Tokens, sizes: list[int], max_entries: int) -> list[Factor]:
    """Read the scopes, then the entries."""
    count = tokens.count("the number of factors", 10 * MAX_VARIABLES)
    scopes: list[tuple[int, ...]] = []
    total = 0
    for number in range(count):
        length = tokens.count(f"the number of variables of factor {number}", MAX_DIMS)
        scope = tuple(
            tokens.count(f"a variable of factor {number}", len(sizes) - 1) for _ in range(length)
        )
        if len(set(scope)) != length:
            raise tokens.error(f"factor {number} repeats a variable: {excerpt(str(scope))}")
        try:
            total = check_size(tuple(sizes[i] for i in scope), total, max_entries)
        except GraphError as error:
            raise tokens.error(f"factor {number}: {error}") from None
        scopes.append(scope)
    factors = []
    for number, scope in enumerate(scopes):
        expected = math.prod(sizes[i] for i in scope)
        said = tokens.count(f"the number of entries of factor {number}", max_entries)
        place = tokens.place
        if said != expected:
            raise tokens.error(f"factor {number} has {expected:,} entries; the file says {said:,}")
        entries = np.frombuffer(tokens.numbers(expected, f"entries of factor {number}"))
        factors.append(Factor(place, scope, entries))
    tokens.end()
    return factors


def _bayes(
    source: Source, sizes: list[int], factors: list[Factor], *, strict: bool, learned: bool
) -> Model:
    cpds: dict[str, Tabular] = {}
    for number, (place, scope, entries) in enumerate(factors):
        if not scope:
            raise source.error(place, f"factor {number} of a BAYES file has no variable")
        name = f"x{scope[-1]}"
        if name in cpds:
            raise source.error(place, f"{name} has two tables; factor {number} is the second")
        shape = [sizes[i] for i in scope]
        table = entries.reshape(-1, shape[-1])
        bad = bad_row(table, strict=strict)
        if bad:
            raise source.error(place, f"row {bad.row} of the table of {name} {bad.why}")
        probs = torch.from_numpy(normalised(table)).reshape(shape)
        cpds[name] = Tabular(probs, *(f"x{i}" for i in scope[:-1]), learned=learned)
    missing = next((f"x{i}" for i in range(len(sizes)) if f"x{i}" not in cpds), None)
    if missing:
        raise GraphError(f"{source.name}: {missing} is the last variable of no factor")
    return assemble(source.name, {f"x{i}": cpds[f"x{i}"] for i in range(len(sizes))})


def _markov(source: Source, sizes: list[int], factors: list[Factor]) -> Factors:
    named = {f"x{i}": size for i, size in enumerate(sizes)}
    scopes, tables = [], []
    for place, scope, entries in factors:
        wrong = np.flatnonzero(~((entries >= 0) & (entries < np.inf)))
        if wrong.size:
            raise source.error(
                place, f"entry {wrong[0]} is {entries[wrong[0]]:g}; expected 0 or more, and finite"
            )
        scopes.append(tuple(f"x{i}" for i in scope))
        tables.append(torch.tensor(entries).reshape([sizes[i] for i in scope]))
    return Factors(named, tuple(scopes), tuple(tables))


def read_uai_evidence(
    path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES
) -> dict[str, int]:
    """Read a file of evidence for a network in the format of the UAI competitions.

    Both forms are read: that of 2014, `COUNT VARIABLE STATE ...`, and the older one, in which the
    number of samples comes first (here it must be 1).

    Args:
        path: The file.
        max_bytes: The most text that is read, decompressed.

    Returns:
        `{"x3": state, ...}`, names as `read_uai` gives them.

    Raises:
        GraphError: Other counts than words, several samples, a variable with two states.
        OSError: The file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "pair.evid")
        ...     _ = path.write_text("2 0 1 3 0")
        ...     read_uai_evidence(path)
        {'x0': 1, 'x3': 0}
    """
    tokens = Tokens(read_source(path, max_bytes))
    words = len(tokens.source.text.split(None, 4 * MAX_VARIABLES))
    count = tokens.count("the number of observed variables", MAX_VARIABLES)
    if words != 1 + 2 * count:
        if words > 1 and count > 1:
            raise tokens.error(
                f"{count} observations take {1 + 2 * count} words, and the file has {words}; a"
                " file of several samples is not read, make one of each"
            )
        if count != 1:
            raise tokens.error(f"{count} observations take 1 word, and the file has {words}")
        count = tokens.count("the number of observed variables", MAX_VARIABLES)
    evidence: dict[str, int] = {}
    for _ in range(count):
        name = f"x{tokens.count('a variable', MAX_VARIABLES)}"
        state = tokens.count(f"the state of {name}", MAX_ENTRIES)
        if evidence.setdefault(name, state) != state:
            raise tokens.error(f"{name} is observed in two states, {evidence[name]} and {state}")
    tokens.end()
    return evidence


def write_uai(network: Model | Factors, path: str | os.PathLike[str]) -> Path:
    """Write a network of tables in the format of the UAI competitions.

    The format has no names: variable i is the i-th of `model.graph.names`, or of `Factors.sizes`.
    Numbers have as many digits as give the same float64 back.

    Args:
        network: A model of which every CPD is a `Tabular` (BAYES), or factors (MARKOV).
        path: The file, overwritten where it exists; one that ends in `.gz` is compressed.

    Returns:
        The path.

    Raises:
        InadmissibleError: Another CPD, which the format does not hold.
        OSError: The folder or the disk does not take it.

    Example:
        >>> import tempfile
        >>> half = torch.tensor([0.5, 0.5], dtype=torch.float64)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_uai(Factors({"a": 2}, (("a",),), (half,)), f"{folder}/a.uai")
        ...     print(path.read_text())
        MARKOV
        1
        2
        1
        1 0
        <BLANKLINE>
        2
        0.5 0.5
        <BLANKLINE>
    """
    if isinstance(network, Factors):
        kind, sizes = "MARKOV", network.sizes
        factors = list(zip(network.scopes, network.tables, strict=True))
    else:
        kind, tables = "BAYES", tables_of(network, "UAI")
        sizes = {name: cpd.probs.shape[-1] for name, cpd in tables.items()}
        factors = [((*cpd.parents, name), probs_of(name, cpd)) for name, cpd in tables.items()]
    number = {name: i for i, name in enumerate(sizes)}
    head = [kind, str(len(sizes)), _line(sizes.values()), str(len(factors))]
    scopes = [_line([len(scope), *(number[n] for n in scope)]) for scope, _ in factors]
    tables = [
        f"\n{t.numel()}\n{_line(t.detach().double().flatten().tolist())}" for _, t in factors
    ]
    return write_text(path, "\n".join([*head, *scopes, *tables]) + "\n")


def _line(values: Iterable[float]) -> str:
    return " ".join(map(repr, values))
