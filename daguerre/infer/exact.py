"""Exact answers: linear Gaussian blocks first, then the finite variables, then moments.

What is planned (`plan_exact`) is apart from what is run (`Exact.run`), so that a plan can be read
without running it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from daguerre.infer.blocks import CONDITIONING, Block, Moments, split_blocks
from daguerre.infer.discrete.contraction import Axes
from daguerre.infer.discrete.plan import Sum, plan_sum
from daguerre.infer.discrete.run import Factor, run_sum
from daguerre.infer.discrete.traceback import maximise, sample_states
from daguerre.infer.discrete.tree import BATCH
from daguerre.infer.distributions import Finite
from daguerre.infer.grid import ROWS
from daguerre.infer.network import Network, Table
from daguerre.infer.plan import Part

__all__ = ["Exact", "Result", "plan_exact"]

ELIMINATION = "elimination"


@dataclass(frozen=True)
class Result:
    """What an exact plan gives when it is run.

    Attributes:
        log_evidence: `[rows]`.
        marginals: The posterior of each target.
        draw: Draws n joint values of the targets.
    """

    log_evidence: Tensor
    marginals: dict[str, Distribution]
    draw: Callable[[int], dict[str, Tensor]]


@dataclass(frozen=True)
class Exact:
    """A plan of exact inference in a network.

    Attributes:
        network: The network, read for the evidence.
        targets: The variables asked for.
        blocks: The linear Gaussian variables, in sets that hang together.
        number: The axis of each free finite variable.
        sum: The contraction of all factors: tables first, then one per block.
        held: The variables that are maximised after all others are summed out.
    """

    network: Network
    targets: tuple[str, ...]
    blocks: tuple[Block, ...]
    number: Mapping[str, int]
    sum: Sum
    held: frozenset[str]

    @property
    def memory(self) -> tuple[int, int]:
        """Roughly how many bytes the run holds at its end: whatever the rows, and more per row."""
        sizes = [self.sum.entries, *(block.entries(self.network) for block in self.blocks)]
        return 8 * sum(common for common, _ in sizes), 8 * sum(row for _, row in sizes)

    @cached_property
    def moments(self) -> tuple[Moments, ...]:
        """The blocks, integrated out."""
        return tuple(block.solve(self.network, self._possible(block)) for block in self.blocks)

    def _possible(self, block: Block) -> Tensor | None:
        """Return which states of a block's boundary the tables allow, where that matters."""
        network, boundary = self.network, block.boundary
        if not block.may_have_atoms(network):
            return None
        cards = [len(network.states[name]) for name in boundary]
        tables = [*network.tables, Table("", boundary, torch.ones(cards))]
        plan = plan_sum(*_layout(network, self.number, tables), (_axes(boundary, self.number),))
        return run_sum(plan, _factors(tables, plan.axes), network.rows).marginals[0] > 0

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """All factors, in the order of the plan."""
        tables = [*self.network.tables, *(moments.table for moments in self.moments)]
        return _factors(tables, self.sum.axes)

    def run(self) -> Result:
        """Return evidence and marginals, with gradients where tables and weights carry them."""
        totals = run_sum(
            self.sum, self.factors, self.network.rows, is_network=self.network.is_normal
        )
        marginals = iter(totals.marginals)
        found: dict[str, Distribution] = {}
        for name in self.targets:
            block = self.place.get(name)
            if name in self.network.values:
                found[name] = _certain(self.network.values[name])
            elif block is None:
                probs = next(marginals)
                if len(probs) < self.network.rows:
                    probs = probs.expand(self.network.rows, -1)
                found[name] = Finite(probs, self.network.states[name])
            else:
                weights = next(marginals) if self.blocks[block].boundary else None
                found[name] = self.moments[block].marginal(name, weights)
        return Result(totals.log_total, found, self.draw)

    def draw(self, n: int) -> dict[str, Tensor]:
        """Draw n joint values of the targets, `[n, rows, *event]` each."""
        network, rows = self.network, self.network.rows
        with torch.no_grad():
            chosen = sample_states(self.sum, self.factors, rows, n) if n else {}
            nothing = torch.zeros(0, dtype=torch.long)
            numbers = {name: chosen.get(i, nothing) for name, i in self.number.items()}
            drawn: dict[str, Tensor] = {}
            for block, moments in zip(self.blocks, self.moments, strict=True):
                if block.targets:
                    drawn |= moments.draw(n, numbers)
            for name in self.targets:
                if name in network.values:
                    drawn[name] = network.values[name].expand(n, *network.values[name].shape)
                elif name in network.states:
                    drawn[name] = network.states[name][numbers[name].reshape(n, rows)]
        return {name: drawn[name] for name in self.targets}

    def maximise(self) -> tuple[dict[str, Tensor], Tensor]:
        """Return the most probable states of the targets, `[rows, *event]`, and their log."""
        summed = {i for name, i in self.number.items() if name not in self.held}
        chosen, top = maximise(self.sum, self.factors, self.network.rows, summed=summed)
        network = self.network
        states = {
            name: network.values[name]
            if name in network.values
            else network.states[name][chosen[self.number[name]]]
            for name in self.targets
        }
        return states, top

    @property
    def engines(self) -> tuple[str, ...]:
        """The names of the engines that take part."""
        return (*[CONDITIONING] * bool(self.blocks), *[ELIMINATION] * bool(self.number))

    def parts(self) -> tuple[Part, ...]:
        """Say what is done, engine by engine."""
        parts = [block.part(self.network) for block in self.blocks]
        if self.number:
            largest = self.sum.tree.largest(self.sum.sizes)
            why = (
                f"{len(self.sum.steps)} contractions in the order of {self.sum.rule}, the largest"
                f" table of {largest:,} entries"
            )
            parts.append(Part(ELIMINATION, tuple(self.number), why))
        return tuple(parts)

    @cached_property
    def place(self) -> dict[str, int]:
        """The number of the block of each linear Gaussian variable."""
        return {name: i for i, block in enumerate(self.blocks) for name in block.names}


def plan_exact(
    network: Network, targets: Sequence[str], *, held: frozenset[str] = frozenset()
) -> Exact:
    """Plan exact inference; nothing is summed or solved yet.

    Args:
        network: The network, none of whose variables is opaque.
        targets: The variables whose posterior is wanted.
        held: The variables to be maximised; then the plan is not for marginals.
    """
    blocks = split_blocks(network, targets)
    number = {name: i for i, name in enumerate(network.states)}
    home = {name: block for block in blocks for name in block.names}
    wanted = []
    for name in targets if not held else ():
        block = home.get(name)
        if name in network.values or (block is not None and not block.boundary):
            continue
        wanted.append((name,) if block is None else block.boundary)
    marginals = tuple(_axes(axes, number) for axes in wanted)
    last = frozenset(number[name] for name in held if name in number)
    plan = plan_sum(*_layout(network, number, [*network.tables, *blocks]), marginals, last)
    return Exact(network, tuple(targets), blocks, number, plan, held)


def _certain(value: Tensor) -> Finite:
    """Return the distribution of a variable that the evidence determines."""
    states, number = value.unique(dim=0, return_inverse=True)
    return Finite(one_hot(number, len(states)).to(torch.get_default_dtype()), states)


def _axes(names: Sequence[str], number: Mapping[str, int]) -> Axes:
    return tuple(BATCH if name == ROWS else number[name] for name in names)


def _layout(
    network: Network, number: Mapping[str, int], factors: Sequence[Table | Block]
) -> tuple[tuple[Axes, ...], tuple[tuple[int, int], ...]]:
    """Return the axes of factors, and the sizes of all axes, that of the rows rounded up."""
    rows = 10 ** len(str(network.rows - 1)) if network.rows > 1 else 1
    sizes = ((BATCH, rows), *((i, len(network.states[name])) for name, i in number.items()))
    return tuple(_axes(factor.axes, number) for factor in factors), sizes


def _factors(tables: Sequence[Table], axes: Sequence[Axes]) -> tuple[Factor, ...]:
    """Return tables by numbers of axes; `axes` are those of each, and perhaps of others."""
    types = {table.entries.dtype for table in tables}
    dtype = reduce(torch.promote_types, types, torch.float32)
    pairs = zip(_ready(tables), axes, strict=False)
    return tuple(_factor(table, own, dtype) for table, own in pairs)


def _ready(tables: Sequence[Table]) -> list[Table]:
    """Make logarithms ready for being taken out of the exponent, each row on its own scale.

    What is far below the largest entry is lost then; so those of the same axes are added before,
    and what another table excludes is not looked at.
    """
    found, first = [*tables], dict[tuple[str, ...], int]()
    logs = [i for i, table in enumerate(tables) if table.is_log]
    for i in logs:
        one = first.setdefault(tables[i].axes, i)
        if one != i:
            found[one] = replace(found[one], entries=found[one].entries + tables[i].entries)
            found[i] = replace(tables[i], entries=torch.zeros_like(tables[i].entries))
    for i in first.values():
        axes, entries = found[i].axes, found[i].entries
        for other in (t for t in tables if not t.is_log and {*t.axes} <= {*axes}):
            kept = other.entries.detach() > 0
            order = sorted(range(len(other.axes)), key=lambda d, o=other: axes.index(o.axes[d]))
            place = tuple(slice(None) if a in other.axes else None for a in axes)
            entries = torch.where(kept.permute(order)[place], entries, -torch.inf)
        found[i] = replace(found[i], entries=entries)
    return found


def _factor(table: Table, axes: Axes, dtype: torch.dtype) -> Factor:
    """Return a table as a factor; one of logarithms is scaled to one in each row."""
    entries = table.entries.to(dtype)
    if not table.is_log:
        return Factor(axes, entries)
    others = tuple(i for i, axis in enumerate(axes) if axis != BATCH)
    most = entries.detach().amax(others, keepdim=True) if others else entries.detach()
    most = torch.where(most.isfinite(), most, 0.0)
    return Factor(axes, (entries - most).exp(), most.reshape(-1))
