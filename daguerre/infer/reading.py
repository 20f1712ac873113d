"""Reading a model for a question: which CPDs are tables, which linear Gaussian, which neither.

Every CPD that the answer needs is looked at once, parents first. Where its free parents are
finite it is called on all their states at once, for every row of evidence: so a net p(y | x) is a
table like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from daguerre.cpds import Affine, LinearGaussian, Tabular
from daguerre.discrete import state_count, state_log_probs, states
from daguerre.families import support
from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.evidence import Evidence
from daguerre.infer.gaussian.affine import read_affine
from daguerre.infer.gaussian.block import LinearVariable
from daguerre.infer.grid import ROWS, Grid, grid_of
from daguerre.program import Program, Step, misfit, realise

__all__ = ["Network", "RowByRowError", "Table", "read_network"]


class RowByRowError(Exception):
    """A linear Gaussian whose weights depend on the row of evidence: take one row at a time."""


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
    """

    rows: int
    values: dict[str, Tensor]
    seen: dict[str, Tensor] = field(default_factory=dict)
    states: dict[str, Tensor] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    linear: dict[str, LinearVariable] = field(default_factory=dict)
    events: dict[str, torch.Size] = field(default_factory=dict)
    opaque: dict[str, str] = field(default_factory=dict)


def read_network(
    program: Program, evidence: Evidence, needed: Collection[str], *, max_entries: float
) -> Network:
    """Call every CPD that is needed on the states of its finite parents and on the evidence.

    Args:
        program: The steps of the model.
        evidence: The evidence; variables that rows lack must be finite or linear Gaussian.
        needed: The variables whose CPDs are looked at; with each, its parents.
        max_entries: The size of a table above which it is refused rather than made.

    Raises:
        InadmissibleError: A table would be too large; says how large.
        RowByRowError: Weights of a linear Gaussian differ from row to row.
        GraphError: Evidence of a wrong shape or outside what a CPD allows, a missing input.
    """
    reader = _Reader(program, evidence, max_entries)
    for step in program.steps:
        if step.name in needed:
            reader.read(step)
    return reader.network


class _Reader:
    def __init__(self, program: Program, evidence: Evidence, max_entries: float) -> None:
        known = {n: v for n, v in evidence.values.items() if n not in evidence.missing}
        self.program, self.evidence, self.max_entries = program, evidence, max_entries
        self.network = Network(evidence.rows, known, dict(evidence.values))
        self.tabular: set[str] = set()  # free variables whose states are 0, 1, ...
        self.counted: dict[int, Tensor] = {}
        types = [v.dtype for v in known.values() if v.is_floating_point()]
        self.dtype = types[0] if types else _dtype_of(program)

    def read(self, step: Step) -> None:
        """Read one variable; its parents have been read."""
        network, parents = self.network, step.variable.parents
        if step.cpd is None:
            if step.name not in network.values:
                raise GraphError(f"{step.name} is an input: it must be given, [rows, *event]")
        elif lost := [p for p in parents if p in network.opaque]:
            network.opaque[step.name] = f"its parent {lost[0]} is {network.opaque[lost[0]]}"
        elif isinstance(step.cpd, LinearGaussian) or self._has_free_linear(parents):
            self._linear(step)
        elif isinstance(step.cpd, Tabular) and self._takes_numbers(parents):
            self._tabular(step, step.cpd)
        else:
            self._called(step)

    def _has_free_linear(self, parents: Sequence[str]) -> bool:
        return any(p in self.network.linear and p not in self.network.values for p in parents)

    # Tables

    def _takes_numbers(self, parents: Sequence[str]) -> bool:
        return all(p in self.network.values or p in self.tabular for p in parents)

    def _tabular(self, step: Step, cpd: Tabular) -> None:
        entries, names = cpd.probs, (*step.variable.parents, step.name)
        known = [n for n in names if n in self.network.values]
        free = tuple(n for n in names if n not in self.network.values)
        if len(free) < len(names):
            sizes = dict(zip(names, entries.shape, strict=True))
            index = [self._numbers(n, sizes[n]) for n in known]
            entries = entries.permute([names.index(n) for n in (*known, *free)])[tuple(index)]
        self._add(Table(step.name, (*[ROWS] * bool(known), *free), entries))
        if step.name in free:
            self.tabular.add(step.name)
            self._free(step.name, self._states(entries), entries.dtype)

    def _states(self, entries: Tensor) -> Tensor:
        """Return the numbers of the states of a table; tables of the same size share them."""
        k = entries.shape[-1]
        if k not in self.counted:
            self.counted[k] = torch.arange(k, device=entries.device)
        return self.counted[k]

    def _numbers(self, name: str, states: int) -> Tensor:
        """Return known values as numbers of states."""
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

    def _free(self, name: str, values: Tensor, dtype: torch.dtype) -> None:
        """Note a finite variable that is not known, and what is known of it all the same."""
        self.network.states[name] = values
        if name in self.evidence.missing:
            seen, lacks = self.evidence.values[name], self.evidence.missing[name]
            same = seen.unsqueeze(1) == values
            same = same.flatten(2).all(2) if same.dim() > 2 else same
            if not (same.any(1) | lacks).all():
                row = int((~(same.any(1) | lacks)).nonzero()[0])
                raise GraphError(f"row {row} of {name} is {seen[row].tolist()}, which is no state")
            self._add(Table(name, (ROWS, name), (same | lacks.unsqueeze(1)).to(dtype)))
        if (likely := self.evidence.soft.get(name)) is not None:
            if likely.shape[1] != len(values):
                raise GraphError(
                    f"soft evidence on {name} has the shape {list(likely.shape)}; {name} has"
                    f" {len(values)} states, so it is [rows, {len(values)}]"
                )
            self._add(Table(name, (ROWS, name), likely.to(dtype).log(), is_log=True))

    def _add(self, table: Table) -> None:
        """Add a factor; of a single row the axis of rows is dropped."""
        if self.network.rows == 1 and ROWS in table.axes:
            table = Table(table.of, table.axes[1:], table.entries.squeeze(0), table.is_log)
        self.network.tables.append(table)

    # CPDs that are called

    def _called(self, step: Step) -> None:
        """Call a CPD on all states of its free parents, for each row where it takes known ones."""
        network = self.network
        grid = grid_of(
            step.name,
            step.variable.parents,
            known=network.values,
            states=network.states,
            max_entries=self.max_entries,
        )
        outcome = step.outcome(grid.values)
        if step.variable.map == "deterministic":
            self._map(step, realise(step, outcome, grid.values, grid.size, pathwise=True), grid)
        elif not isinstance(outcome, Distribution):
            raise TypeError(f"{step}: {misfit(step, outcome)}")
        else:
            outcome = outcome.expand((1, *outcome.batch_shape)) if step.is_root else outcome
            self._distribution(step, outcome, grid)

    def _map(self, step: Step, value: Tensor, grid: Grid) -> None:
        network, name = self.network, step.name
        seen, lacks = self.evidence.values.get(name), self.evidence.missing.get(name)
        if grid.free and (seen is None or lacks is not None):
            found, number = value.unique(dim=0, return_inverse=True)
            entries = one_hot(number, len(found)).to(torch.get_default_dtype())
            self._add(Table(name, (*grid.axes(), name), grid.arrange(entries)))
            self._free(name, found, entries.dtype)
            return
        if seen is not None:
            self._agreement(step, value, seen, grid)
        if not grid.free:
            known = value.expand(network.rows, *value.shape[1:])
            network.values[name] = network.seen[name] = known

    def _agreement(self, step: Step, value: Tensor, seen: Tensor, grid: Grid) -> None:
        """Add the factor that is 1 where a map gives the value that is known, and 0 elsewhere."""
        if seen.shape[1:] != value.shape[1:]:
            raise _misshaped(step, seen, value.shape[1:])
        value = value.reshape(*grid.sizes, -1, *value.shape[1:]).to(seen.dtype)
        same = torch.isclose(value, seen, rtol=1e-5, atol=1e-8)
        same = same.flatten(len(grid.sizes) + 1).all(-1) if seen.dim() > 1 else same
        if (lacks := self.evidence.missing.get(step.name)) is not None:
            same = same | lacks
        entries = same.movedim(-1, 0).to(torch.get_default_dtype())
        self._add(Table(step.name, grid.axes(known=True), entries))

    def _distribution(self, step: Step, outcome: Distribution, grid: Grid) -> None:
        name, network = step.name, self.network
        if name in network.values:
            scores = self._scores(step, outcome, grid)
            self._add(Table(name, grid.axes(known=True), scores, is_log=True))
        elif (count := state_count(outcome, is_root=False)) is not None:
            if grid.size * count > self.max_entries:
                raise InadmissibleError(
                    f"{name} has {count:.3g} states, so its table {grid.size * count:.3g} entries:"
                    f" more than max_memory allows ({self.max_entries:.3g})"
                )
            found = states(outcome, is_root=False)
            logs = state_log_probs(outcome, is_root=False)
            if logs is None:
                each = found.unsqueeze(1).expand(count, grid.size, *found.shape[1:])
                logs = _sum_event(outcome.log_prob(each), 2)
            self._add(Table(name, (*grid.axes(), name), grid.arrange(logs.T.exp())))
            self._free(name, found, logs.dtype)
        else:
            self._linear(step)

    def _scores(self, step: Step, outcome: Distribution, grid: Grid) -> Tensor:
        """Return log-densities of the known values, `[rows, *states of the free parents]`."""
        seen, rows, count = self.network.values[step.name], self.network.rows, prod(grid.sizes)
        shape = (*outcome.batch_shape[1:], *outcome.event_shape)
        if seen.shape[1:] != shape:
            raise _misshaped(step, seen, shape)
        self._check_support(step, outcome, seen)
        if grid.has_rows:
            value = seen.repeat(count, *[1] * len(shape))
            scores = outcome.log_prob(value).unflatten(0, (count, rows)).transpose(0, 1)
        else:  # one law for all rows
            value = seen.unsqueeze(1).expand(rows, count, *shape)
            scores = outcome.expand((rows, *outcome.batch_shape)).log_prob(value)
        return _sum_event(scores, 2).reshape(rows, *grid.sizes)

    def _check_support(self, step: Step, outcome: Distribution, seen: Tensor) -> None:
        allowed = support(outcome)
        if allowed is None or not len(seen) or (inside := allowed.check(seen)).all():
            return
        row = int((~inside.reshape(len(seen), -1).all(1)).nonzero()[0])
        raise GraphError(
            f"row {row} of {step.name} is {seen[row].tolist()}, outside the support of its"
            f" {type(outcome).__name__}: {allowed}"
        )

    # Linear Gaussians

    def _linear(self, step: Step) -> None:
        """Read a linear Gaussian off its CPD; what is none is opaque, with the reason."""
        network = self.network
        options = self._arguments(step)
        found = read_affine(step.cpd, step.arguments, **options)
        if isinstance(found, str):
            if network.rows > 1 and any(p in network.values for p in step.arguments):
                raise RowByRowError(step.name)
            network.opaque[step.name] = f"neither finite nor linear Gaussian ({found})"
            return
        given = [p for p in step.arguments if p in options["states"]]
        fixed = [i for i, p in enumerate(given) if p in network.values and p not in network.states]
        network.linear[step.name] = LinearVariable(
            step.name,
            _without(found, fixed),
            tuple(p for i, p in enumerate(given) if i not in fixed),
        )
        network.events[step.name] = self._event(step, options["states"])

    def _arguments(self, step: Step) -> dict[str, Any]:
        """Say which parents are followed, and which are given state by state.

        What a single row knows is put in; of several rows, known numbers are followed too, and
        known states become an axis that each row picks from.
        """
        network = self.network
        chosen = {p: network.states[p] for p in step.arguments if p in network.states}
        events = {}
        for p in step.arguments:
            if p in network.values and network.rows == 1:
                chosen[p] = network.values[p]
            elif p in network.values and isinstance(step.cpd, LinearGaussian):
                if p in step.cpd.given:
                    size = step.cpd.bias.shape[step.cpd.given.index(p)]
                    chosen[p] = self._picked(p, size)
                else:
                    events[p] = network.values[p].shape[1:]
            elif p not in chosen:
                events[p] = (
                    network.events[p] if p in network.events else network.values[p].shape[1:]
                )
        return {"events": events, "states": chosen, "dtype": self.dtype}

    def _picked(self, name: str, size: int) -> Tensor:
        """Make a known state an axis: every row has one entry that is not zero."""
        if name not in self.network.states:
            numbers = self._numbers(name, size)
            self.network.states[name] = torch.arange(size, device=numbers.device)
            self._add(Table(name, (ROWS, name), one_hot(numbers, size).to(self.dtype)))
        return self.network.states[name]

    def _event(self, step: Step, chosen: Mapping[str, Tensor]) -> torch.Size:
        if isinstance(step.cpd, LinearGaussian):
            return step.cpd.event
        network = self.network
        values = {p: s[:1] for p, s in chosen.items()}
        for p in step.arguments:
            if p not in values:
                shape = network.events[p] if p in network.events else network.values[p].shape[1:]
                values[p] = torch.zeros(1, *shape, dtype=self.dtype)
        with torch.no_grad():
            outcome = step.outcome(values)
        if isinstance(outcome, Distribution):
            return torch.Size((*outcome.batch_shape, *outcome.event_shape)[not step.is_root :])
        assert isinstance(outcome, Tensor)
        return outcome.shape[not step.is_root :]


def _dtype_of(program: Program) -> torch.dtype:
    """Return the type of the first parameter of a CPD."""
    owners = (getattr(step.cpd, "__self__", step.cpd) for step in program.steps)
    parameters = (
        p for owner in owners if isinstance(owner, nn.Module) for p in owner.parameters()
    )
    first = next((p for p in parameters if p.is_floating_point()), None)
    return torch.get_default_dtype() if first is None else first.dtype


def _without(affine: Affine, fixed: Sequence[int]) -> Affine:
    """Drop leading dimensions of size one."""
    for i in sorted(fixed, reverse=True):
        weights = {name: weight.squeeze(i) for name, weight in affine.weights.items()}
        affine = Affine(affine.bias.squeeze(i), weights, affine.scale.squeeze(i))
    return affine


def _sum_event(scores: Tensor, lead: int) -> Tensor:
    return scores.flatten(lead).sum(lead) if scores.dim() > lead else scores


def _misshaped(step: Step, seen: Tensor, event: Sequence[int]) -> GraphError:
    return GraphError(
        f"{step}: the evidence on {step.name} has the shape {list(seen.shape)}; expected"
        f" {[len(seen), *event]}, [rows, *event]"
    )
