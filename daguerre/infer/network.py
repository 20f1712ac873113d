"""What a question needs of a model: tables over finite variables, and linear Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from daguerre.graph import GraphError
from daguerre.infer.evidence import Evidence
from daguerre.infer.gaussian.block import LinearVariable
from daguerre.infer.grid import ROWS
from daguerre.infer.product import Factors
from daguerre.rows import unknown

__all__ = ["Network", "Table", "Tables", "count", "read_factors"]


@dataclass(frozen=True)
class Table:
    """A factor by names.

    Attributes:
        of: The variable whose CPD it is.
        axes: Its finite variables, in the order of the dimensions; `ROWS`, if there, first.
        entries: Probabilities; logarithms of densities, which may be of any size, if `is_log`.
        is_log: Whether the entries are logarithms.
    """

    of: str
    axes: tuple[str, ...]
    entries: Tensor
    is_log: bool = False


@dataclass
class Network:
    """A model as far as a question needs it.

    Attributes:
        rows: Rows of evidence.
        values: What is known: evidence, inputs, and maps of them, `[rows, *event]`.
        seen: What is known in some rows or components at least.
        states: Per free finite variable, its states `[k, *event]`.
        tables: The factors over finite variables.
        linear: The linear Gaussian variables, observed or not, parents first.
        events: Event shapes of the linear Gaussian variables.
        opaque: Why no exact engine takes a variable, for those that none does.
        is_normal: Whether the tables are CPDs, so that they sum to one without evidence.
        is_whole: Whether all that the evidence hangs on is there; else only what the posterior of
            the targets does.
    """

    rows: int
    values: dict[str, Tensor]
    seen: dict[str, Tensor] = field(default_factory=dict)
    states: dict[str, Tensor] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    linear: dict[str, LinearVariable] = field(default_factory=dict)
    events: dict[str, torch.Size] = field(default_factory=dict)
    opaque: dict[str, str] = field(default_factory=dict)
    is_normal: bool = True
    is_whole: bool = True


class Tables:
    """The tables of a network, made one by one: sliced by what is known.

    Attributes:
        network: What was made so far.
        evidence: What is known.
    """

    def __init__(self, evidence: Evidence) -> None:
        known = {n: v for n, v in evidence.values.items() if n not in evidence.missing}
        self.evidence = evidence
        self.network = Network(evidence.rows, known, dict(evidence.values))
        self._number: dict[str, int] = {}
        self._numbers: dict[str, Tensor] = {}

    def slice(self, of: str, names: Sequence[str], entries: Tensor) -> None:
        """Add a table over some variables, at the states of those that are known."""
        values, sizes = self.network.values, entries.shape
        known = [i for i, n in enumerate(names) if n in values]
        left = [i for i, n in enumerate(names) if n not in values]
        free = tuple(names[i] for i in left)
        if known and self.network.rows == 1:
            for axis in reversed(known):
                entries = entries.select(axis, self.number(names[axis], sizes[axis]))
            self.network.tables.append(Table(of, free, entries))
            return
        if known:
            index = tuple(self.numbers(names[i], sizes[i]) for i in known)
            entries = entries.permute(*known, *left)[index]
        self.add(Table(of, (*[ROWS] * bool(known), *free), entries))

    def add(self, table: Table) -> None:
        """Add a factor; of a single row the axis of rows is dropped."""
        if self.network.rows == 1 and ROWS in table.axes:
            table = Table(table.of, table.axes[1:], table.entries.squeeze(0), table.is_log)
        self.network.tables.append(table)

    def number(self, name: str, states: int) -> int:
        """Return the known value of a single row as the number of a state."""
        if name not in self._number:
            value = self.network.values[name]
            number = value.item() if value.dim() == 1 else -1
            if not 0 <= number < states or number != int(number):
                self.numbers(name, states)  # says what is wrong
            self._number[name] = int(number)
        return self._number[name]

    def numbers(self, name: str, states: int) -> Tensor:
        """Return known values as numbers of states."""
        if name not in self._numbers:
            self._numbers[name] = self._checked(name, states)
        return self._numbers[name]

    def _checked(self, name: str, states: int) -> Tensor:
        value = self.network.values[name]
        numbers = value.long()
        least, most = (int(x) for x in numbers.aminmax()) if len(value) else (0, 0)
        if value.dim() != 1 or least < 0 or most >= states or bool((numbers != value).any()):
            raise GraphError(
                f"{name} has the states 0 to {states - 1}, but the evidence holds"
                f" {value.tolist() if value.numel() < 9 else list(value.shape)}; give numbers of"
                " states, [rows]"
            )
        return numbers

    def free(self, name: str, values: Tensor, dtype: torch.dtype) -> None:
        """Note a finite variable that is not known, and what is known of it all the same."""
        self.network.states[name] = values
        if name in self.evidence.missing:
            seen = self.evidence.values[name]
            same = (seen.unsqueeze(1) == values) | unknown(seen).unsqueeze(1)
            same = same.flatten(2).all(2) if same.dim() > 2 else same
            if not same.any(1).all():
                value = seen[~same.any(1)][0].tolist()
                raise GraphError(f"the evidence on {name} holds {value}, which is no state of it")
            self.add(Table(name, (ROWS, name), same.to(dtype)))
        if (likely := self.evidence.soft.get(name)) is not None:
            if likely.shape[1] != len(values):
                raise GraphError(
                    f"soft evidence on {name} has the shape {list(likely.shape)}; {name} has"
                    f" {len(values)} states, so it is [rows, {len(values)}]"
                )
            self.add(Table(name, (ROWS, name), likely.to(dtype).log(), is_log=True))


@lru_cache(maxsize=256)
def count(k: int, device: torch.device) -> Tensor:
    """Return the numbers of k states, which all variables with as many share."""
    return torch.arange(k, device=device)


def read_factors(factors: Factors, evidence: Evidence) -> Network:
    """Slice a product of tables by the evidence."""
    tables = Tables(evidence)
    tables.network.is_normal = False
    for i, (scope, table) in enumerate(zip(factors.scopes, factors.tables, strict=True)):
        tables.slice(f"table {i}", scope, table)
    for name, size in factors.sizes.items():
        if name not in tables.network.values:
            like = factors.tables[0] if factors.tables else torch.ones(())
            tables.free(name, count(size, like.device), like.dtype)
    return tables.network
