"""Writing the interchange format of Bayesian networks (BIF)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from daguerre.cpds import Tabular
from daguerre.formats.bif_text import quoted
from daguerre.formats.network import probs_of, tables_of
from daguerre.formats.text import write_text
from daguerre.model import Model

__all__ = ["write_bif"]


def write_bif(model: Model, path: str | os.PathLike[str]) -> Path:
    """Write a network of tables in the interchange format (BIF), version 0.15.

    Probabilities have as many digits as give the same float64 back. States without names are
    called s0, s1, ... A path that ends in `.gz` is compressed. The file is whole or not there.

    Args:
        model: A model of which every CPD is a `Tabular`.
        path: The file, overwritten where it exists.

    Returns:
        The path.

    Raises:
        InadmissibleError: Another CPD, which the format does not hold.
        GraphError: A name that the format does not hold.
        OSError: The folder or the disk does not take it.

    References:
        Cozman (1998), The interchange format for Bayesian networks, version 0.15.

    Example:
        >>> import tempfile, torch
        >>> from daguerre import model
        >>> p = model(rain=Tabular(torch.tensor([0.5, 0.5]).double(), states=["no", "yes"]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(write_bif(p, f"{folder}/rain.bif").read_text().splitlines()[-2])
          table 0.5, 0.5;
    """
    tables = tables_of(model, "BIF")
    states = {name: _states(cpd) for name, cpd in tables.items()}
    blocks = [*_variables(states), *_probabilities(tables, states)]
    return write_text(path, "network unknown {\n}\n" + "".join(blocks))


def _states(cpd: Tabular) -> list[str]:
    names = cpd.states or [f"s{number}" for number in range(cpd.probs.shape[-1])]
    return [quoted(name) for name in names]


def _variables(states: Mapping[str, list[str]]) -> Iterator[str]:
    for name, names in states.items():
        listed = f"{{ {', '.join(names)} }}"
        yield f"variable {quoted(name)} {{\n  type discrete [ {len(names)} ] {listed};\n}}\n"


def _probabilities(
    tables: Mapping[str, Tabular], states: Mapping[str, list[str]]
) -> Iterator[str]:
    for name, cpd in tables.items():
        probs = probs_of(name, cpd).reshape(-1, len(states[name]))
        rows = [", ".join(map(repr, row)) for row in probs.tolist()]
        given = f" | {', '.join(map(quoted, cpd.parents))}" if cpd.parents else ""
        above = itertools.product(*(states[parent] for parent in cpd.parents))
        heads = [f"({', '.join(row)})" for row in above] if cpd.parents else ["table"]
        body = "".join(f"  {head} {row};\n" for head, row in zip(heads, rows, strict=True))
        yield f"probability ( {quoted(name)}{given} ) {{\n{body}}}\n"
