"""Questions from the command line: a network's file, evidence from words or a CSV, answers as CSV.

`daguerre query alarm.bif HR CATECHOL --given BP=LOW` prints posteriors; with `--rows evidence.csv`
each row of the file is evidence of its own.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from daguerre.cpds import LinearGaussian, Tabular
from daguerre.files import write_whole
from daguerre.formats import Factors, read_bif, read_network, read_uai
from daguerre.graph import GraphError, did_you_mean
from daguerre.infer import posterior
from daguerre.infer.distributions import Finite
from daguerre.model import Model
from daguerre.table import Table

__all__ = [
    "answer_file",
    "answer_rows",
    "answer_table",
    "check_targets",
    "header_of",
    "parse_given",
    "read_evidence_rows",
    "read_file",
    "variables",
]

Subject = Model | Factors
CHUNK = 1024  # rows of evidence that are answered between two steps of the progress bar
READERS: dict[str, Callable[[Path], Subject]] = {
    ".bif": read_bif,
    ".uai": read_uai,
    ".json": read_network,
}


def read_file(path: Path) -> Subject:
    """Read a network by the ending of its file: .bif, .uai or .json, gzipped or not.

    Raises:
        ValueError: Another ending, or a damaged file.
    """
    endings = [s for s in path.suffixes if s != ".gz"]
    reader = READERS.get(endings[-1]) if endings else None
    if reader is None:
        raise ValueError(f"{path}: expected a .bif, .uai or .json file, gzipped or not")
    return reader(path)


def parse_given(p: Subject, words: Sequence[str]) -> dict[str, Tensor]:
    """Read evidence written as NAME=VALUE.

    Raises:
        GraphError: A word without `=`, an unknown variable or state, a number that is none.
    """
    given: dict[str, Tensor] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise GraphError(f"evidence is written NAME=VALUE, not {word!r}")
        given[_variable(p, name)] = _column(p, name, [value], "--given")
    return given


def check_targets(p: Subject, names: Sequence[str] | None) -> list[str]:
    """Return the names of variables, checked.

    Raises:
        GraphError: An unknown variable, or evidence without its option.
    """
    return [_variable(p, name) for name in names or ()]


def read_evidence_rows(p: Subject, path: Path) -> dict[str, Tensor]:
    """Read evidence from a CSV: a header of variables, then a row each; an empty cell is missing.

    Raises:
        GraphError: A header that names no variables, a cell that is no value; says the line.
        OSError: The file cannot be read.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise GraphError(f"{path} is no CSV in UTF-8: {error}") from error
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise GraphError(f"{path} holds no evidence: expected a header of variables, then rows")
    header = [_variable(p, name.strip()) for name in lines[0]]
    if len(set(header)) != len(header):
        raise GraphError(f"{path} names a variable twice in its header")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise GraphError(f"{path}:{number}: {len(line)} cells, but {len(header)} variables")
    columns = zip(*lines[1:], strict=True)
    given = {
        name: _column(p, name, [cell.strip() for cell in column], str(path))
        for name, column in zip(header, columns, strict=True)
    }
    return {name: column for name, column in given.items() if not _is_empty(column)}


def answer_rows(
    p: Subject, targets: Sequence[str], given: dict[str, Tensor]
) -> Iterator[tuple[int, list[list[str]]]]:
    """Answer rows of evidence, some at a time.

    Yields:
        How many rows are done, and the cells of the new ones: the log-evidence, then per target
        the probability of each state, or mean and variance.
    """
    rows = max([len(v) for v in given.values()], default=1)
    for start in range(0, rows, CHUNK):
        part = {k: v[start : start + CHUNK] for k, v in given.items()}
        part = {k: v for k, v in part.items() if not _is_empty(v)}
        size = min(CHUNK, rows - start)
        with torch.no_grad():
            found = posterior(p, list(targets), given=part)
        columns = [found.log_evidence]
        for name in targets:
            marginal = found[name]
            if isinstance(marginal, Finite):
                columns += list(marginal.probs.T)
            else:
                columns += [*_components(marginal.mean), *_components(marginal.variance)]
        cells = torch.stack([c.reshape(-1).expand(size).double() for c in columns], 1)
        yield start + size, [[f"{x:.10g}" for x in row] for row in cells.tolist()]


def header_of(p: Subject, targets: Sequence[str]) -> list[str]:
    """Return the names of the columns that `answer_rows` fills."""
    names = ["log_evidence"]
    for name in targets:
        states = _states(p, _variable(p, name))
        words = [f"={s}" for s in states] if states else _moments(p, name)
        names += [name + word for word in words]
    return names


def answer_table(p: Subject, targets: Sequence[str], given: dict[str, Tensor]) -> Table:
    """Return the posteriors for one row of evidence as a table for people."""
    _, (cells,) = next(answer_rows(p, targets, given))
    rows = tuple(zip(header_of(p, targets), cells, strict=True))
    return Table(("given the evidence", "is"), rows)


def answer_file(p: Subject, targets: Sequence[str], given: dict[str, Tensor], path: Path) -> int:
    """Write the posteriors for all rows of evidence as a CSV, whole or not at all.

    Returns:
        How many rows there were.
    """
    rows = max([len(v) for v in given.values()], default=1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header_of(p, targets))
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("rows", total=rows)
        for done, cells in answer_rows(p, targets, given):
            writer.writerows(cells)
            bar.update(task, completed=done)
    write_whole(path, text.getvalue().encode())
    return rows


def _components(value: Tensor) -> list[Tensor]:
    return list(value.reshape(len(value), -1).T)


def _moments(p: Subject, name: str) -> list[str]:
    """Return what is said of a continuous variable, for each component of a vector."""
    assert isinstance(p, Model)
    cpd = next(step.cpd for step in p.steps() if step.name == name)
    size = cpd.event.numel() if isinstance(cpd, LinearGaussian) and cpd.event else 0
    places = [f"[{i}]" for i in range(size)] or [""]
    return [f"{place}:{word}" for word in ("mean", "variance") for place in places]


def variables(p: Subject) -> tuple[str, ...]:
    """Return the names of all variables of a network."""
    return tuple(p.sizes) if isinstance(p, Factors) else p.graph.names


def _variable(p: Subject, name: str) -> str:
    if name not in variables(p) and "=" in name:
        raise GraphError(f"{name} is evidence: write --given before each NAME=STATE")
    if name not in variables(p):
        raise GraphError(f"no variable {name!r} in the network{did_you_mean(name, variables(p))}")
    return name


def _states(p: Subject, name: str) -> tuple[str, ...] | None:
    """Return the names of a variable's states, numbers if they have none; None if continuous."""
    if isinstance(p, Factors):
        return tuple(map(str, range(p.sizes[name])))
    cpd = next(step.cpd for step in p.steps() if step.name == name)
    if isinstance(cpd, Tabular):
        return cpd.states or tuple(map(str, range(cpd.probs.shape[-1])))
    return None


def _column(p: Subject, name: str, cells: Sequence[str], where: str) -> Tensor:
    """Read cells as numbers of states, or as numbers; an empty one is missing."""
    states = _states(p, name)
    if states is not None:
        return torch.tensor([_state(name, cell, states, where) for cell in cells])
    numbers = []
    for cell in cells:
        try:
            numbers.append(float(cell) if cell else float("nan"))
        except ValueError:
            raise GraphError(f"{where}: {name} is a number, not {cell!r}") from None
    return torch.tensor(numbers, dtype=torch.float64)


def _state(name: str, cell: str, states: tuple[str, ...], where: str) -> int:
    if not cell:
        return -1
    if cell not in states:
        raise GraphError(f"{where}: {name} has no state {cell!r}{did_you_mean(cell, states)}")
    return states.index(cell)


def _is_empty(column: Tensor) -> bool:
    lacks = column.isnan() if column.is_floating_point() else column < 0
    return bool(lacks.all())
