"""Reading a model for a question: which CPDs are tables, which linear Gaussian, which neither.

Every CPD that the answer needs is looked at once, parents first. Where its free parents are
finite it is called on all their states at once, for every row of evidence: so a net p(y | x) is a
table like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Transform, constraints
from torch.nn.functional import one_hot

from daguerre.cpds import Affine, LinearGaussian, Tabular
from daguerre.discrete import state_count, state_log_probs, states
from daguerre.families import support
from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.evidence import Evidence
from daguerre.infer.gaussian.affine import read_affine
from daguerre.infer.gaussian.block import LinearVariable
from daguerre.infer.grid import ROWS, Grid, grid_of
from daguerre.infer.network import Network, Table, Tables, count
from daguerre.infer.siblings import Siblings
from daguerre.program import Program, Step, misfit, realise
from daguerre.rows import unknown
from daguerre.scoring import moves_from

__all__ = ["RowByRowError", "read_network"]

MANY = 2**14  # rows of a call above which its size is looked at first


class RowByRowError(Exception):
    """A linear Gaussian whose weights depend on the row of evidence: take one row at a time."""


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
    scored = reader.invert(needed)
    for step in program.steps:
        if step.name in needed and step.name not in scored:
            reader.read(step)
    return reader.network


class _Reader(Tables):
    """The tables and linear Gaussians of a program."""

    def __init__(self, program: Program, evidence: Evidence, max_entries: float) -> None:
        super().__init__(evidence)
        self.max_entries = max_entries
        self.tabular: set[str] = set()  # free variables whose states are 0, 1, ...
        self.program, self.siblings = program, Siblings.among(program)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The type of continuous values: that of the evidence, else of the CPDs' parameters."""
        types = [v.dtype for v in self.network.values.values() if v.is_floating_point()]
        return types[0] if types else _dtype_of(self.program)

    def invert(self, needed: Collection[str]) -> set[str]:
        r"""Find what known bijections are functions of; return these bijections.

        Each counts its Jacobian: $\log p(x) = \log p(z) - \log |\det \partial x / \partial z|$.
        """
        network, program, scored = self.network, self.program, set[str]()
        if not any(v.inverts for v in program.graph.variables):
            return scored
        while move := next(moves_from(program.graph, {*needed}, {*network.values}), None):
            name, inverted = move
            step = program.by_name[inverted or name]
            outcome = step.outcome(network.values)
            if inverted is None:
                value = realise(step, outcome, network.values, network.rows, pathwise=True)
            else:
                if not isinstance(outcome, Transform):
                    raise TypeError(f"{step}: {misfit(step, outcome)}")
                value = outcome.inv(network.values[inverted])  # type: ignore[assignment]
                size = outcome.log_abs_det_jacobian(value, network.values[inverted])
                self.add(Table(inverted, (ROWS,), -_sum_event(size, 1), is_log=True))
                scored.add(inverted)
            assert isinstance(value, Tensor)
            network.values[name] = network.seen[name] = value
        return scored

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
            self._tabular(step.name, step.cpd)
        else:
            self._called(step)

    def _has_free_linear(self, parents: Sequence[str]) -> bool:
        return any(p in self.network.linear and p not in self.network.values for p in parents)

    # Tables

    def _takes_numbers(self, parents: Sequence[str]) -> bool:
        return all(p in self.network.values or p in self.tabular for p in parents)

    def _tabular(self, name: str, cpd: Tabular) -> None:
        entries = cpd.probs
        self.slice(name, (*cpd.parents, name), entries)
        if name not in self.network.values:
            self.tabular.add(name)
            self.free(name, count(entries.shape[-1], entries.device), entries.dtype)

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
        if grid.size > MANY:
            self._check_size(step, grid)
        outcome = step.outcome(grid.values)
        if step.variable.map == "deterministic":
            self._map(step, realise(step, outcome, grid.values, grid.size, pathwise=True), grid)
        elif not isinstance(outcome, Distribution):
            raise TypeError(f"{step}: {misfit(step, outcome)}")
        else:
            outcome = outcome.expand((1, *outcome.batch_shape)) if step.is_root else outcome
            self._distribution(step, outcome, grid)

    def _check_size(self, step: Step, grid: Grid) -> None:
        """Refuse a call that would return too much, after a call for two rows."""
        few = step.outcome({name: value[:2] for name, value in grid.values.items()})
        parts = vars(few).values() if isinstance(few, Distribution) else (few,)
        most = max((p.numel() / 2 for p in parts if isinstance(p, Tensor)), default=0.0)
        if most * grid.size > self.max_entries:
            raise InadmissibleError(
                f"{step.name} takes {most * grid.size:.3g} numbers for all states of"
                f" {', '.join(grid.free)}: more than max_memory allows ({self.max_entries:.3g})"
            )

    def _map(self, step: Step, value: Tensor, grid: Grid) -> None:
        network, name = self.network, step.name
        seen, lacks = self.evidence.values.get(name), self.evidence.missing.get(name)
        if grid.free and (seen is None or lacks is not None):
            found, number = value.unique(dim=0, return_inverse=True)
            entries = one_hot(number, len(found)).to(torch.get_default_dtype())
            self.add(Table(name, (*grid.axes(), name), grid.arrange(entries)))
            self.free(name, found, entries.dtype)
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
        if step.name in self.evidence.missing:
            same = same | unknown(seen)
        same = same.flatten(len(grid.sizes) + 1).all(-1) if seen.dim() > 1 else same
        entries = same.movedim(-1, 0).to(torch.get_default_dtype())
        self.add(Table(step.name, grid.axes(known=True), entries))

    def _distribution(self, step: Step, outcome: Distribution, grid: Grid) -> None:
        name, network = step.name, self.network
        if name in network.values:
            is_finite = state_count(outcome, is_root=False) is not None
            self._check_marks(name, None if is_finite else support(outcome))
            network.values[name] = _as_drawn(network.values[name], outcome)
            scores = self._scores(step, outcome, grid)
            self.add(Table(name, grid.axes(known=True), scores, is_log=True))
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
            self.add(Table(name, (*grid.axes(), name), grid.arrange(logs.T.exp())))
            self.free(name, found, logs.dtype)
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
        assert step.cpd is not None
        given = [p for p in step.arguments if p in options["states"]]
        found = None if any(p in network.states for p in given) else self._shared(step, options)
        if found is not None:
            given = []
        else:
            found = read_affine(step.cpd, step.arguments, **options)
        if isinstance(found, str):
            if network.rows > 1 and any(p in network.values for p in step.arguments):
                raise RowByRowError(step.name)
            above = [p for p in step.variable.parents if p in network.linear]
            network.opaque[step.name] = (
                f"a child of {above[0]}, which is continuous and not known, but no linear Gaussian"
                f" ({found})"
                if found.endswith("is not Gaussian") and above
                else f"neither finite nor linear Gaussian ({found})"
            )
            return
        self._check_marks(step.name, constraints.real)
        fixed = [i for i, p in enumerate(given) if p in network.values and p not in network.states]
        network.linear[step.name] = LinearVariable(
            step.name,
            _without(found, fixed),
            tuple(p for i, p in enumerate(given) if i not in fixed),
        )
        network.events[step.name] = event = self._event(step, options["states"])
        seen = self.evidence.values.get(step.name)
        if seen is not None and seen.shape[1:] != event:
            raise _misshaped(step, seen, event)
        is_called = not isinstance(step.cpd, LinearGaussian)
        if is_called and (found.scale.diagonal(dim1=-2, dim2=-1) < 0).any():
            raise GraphError(f"{step}: the CPD returned a Gaussian with a negative scale")

    def _shared(self, step: Step, options: dict[str, Any]) -> Affine | None:
        """Read a CPD that several variables share off it for all of them."""
        known = self.network.values if self.network.rows == 1 else {}
        return self.siblings.read(step, known, options)

    def _check_marks(self, name: str, allowed: constraints.Constraint | None) -> None:
        """Refuse to take negative integers for what is missing of a continuous variable."""
        if name in self.evidence.marked and allowed is not None and not allowed.is_discrete:
            raise GraphError(
                f"{name} is continuous, but its evidence holds negative integers, which mark what"
                " is missing; give floats, NaN where a row lacks it"
            )

    def _arguments(self, step: Step) -> dict[str, Any]:
        """Say which parents are followed, and which are given state by state.

        What a single row knows is put in; of several rows, known numbers are followed too, and
        known states become an axis that each row picks from.
        """
        network, cpd = self.network, step.cpd
        chosen, events = dict[str, Tensor](), dict[str, Sequence[int]]()
        for p in step.arguments:
            is_state = p in cpd.given if isinstance(cpd, LinearGaussian) else network.rows == 1
            if p in network.values and is_state:
                chosen[p] = self._known_state(p, cpd)
            elif p in network.states:
                chosen[p] = network.states[p]
            else:
                events[p] = self._shape(p)
        return {"events": events, "states": chosen, "dtype": self.dtype}

    def _shape(self, name: str) -> Sequence[int]:
        """Return the event shape of a continuous variable."""
        network = self.network
        return network.events[name] if name in network.events else network.values[name].shape[1:]

    def _known_state(self, name: str, cpd: object) -> Tensor:
        """Return a known value as the only state of a single row, or as one of an axis of states.

        Of several rows each has one entry of that axis that is not zero.
        """
        if self.network.rows == 1:
            return self.network.values[name]
        assert isinstance(cpd, LinearGaussian)
        size = cpd.bias.shape[cpd.given.index(name)]
        if name not in self.network.states:
            numbers = self.numbers(name, size)
            self.network.states[name] = torch.arange(size, device=numbers.device)
            self.add(Table(name, (ROWS, name), one_hot(numbers, size).to(self.dtype)))
        return self.network.states[name]

    def _event(self, step: Step, chosen: Mapping[str, Tensor]) -> torch.Size:
        if isinstance(step.cpd, LinearGaussian):
            return step.cpd.event
        values = {p: s[:1] for p, s in chosen.items()}
        for p in step.arguments:
            if p not in values:
                values[p] = torch.zeros(1, *self._shape(p), dtype=self.dtype)
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


def _as_drawn(seen: Tensor, outcome: Distribution) -> Tensor:
    """Return values in the type that draws have: a Bernoulli's are floats, and so are densities'.

    A yes is True, 1 or 1.0.
    """
    while isinstance(outcome, Independent):
        outcome = outcome.base_dist
    allowed = support(outcome)
    takes_floats = isinstance(outcome, Bernoulli) or (
        allowed is not None and not allowed.is_discrete
    )
    if seen.is_floating_point() or not takes_floats:
        return seen
    arguments = (v for v in vars(outcome).values() if isinstance(v, Tensor))
    types = [v.dtype for v in arguments if v.is_floating_point()]
    return seen.to(types[0] if types else torch.get_default_dtype())


def _misshaped(step: Step, seen: Tensor, event: Sequence[int]) -> GraphError:
    return GraphError(
        f"{step}: the evidence on {step.name} has the shape {list(seen.shape)}; expected"
        f" {[len(seen), *event]}, [rows, *event]"
    )
