"""Linear Gaussian variables in sets that hang together, each integrated out on its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.infer.gaussian.block import BlockSolution, solve
from daguerre.infer.gaussian.distributions import Gaussian, GaussianMixture
from daguerre.infer.grid import ROWS
from daguerre.infer.network import Network, Table
from daguerre.infer.plan import Part

__all__ = ["CONDITIONING", "Block", "Moments", "split_blocks"]

CONDITIONING = "Gaussian conditioning"


@dataclass(frozen=True)
class Block:
    """Linear Gaussian variables that hang together through what is not known.

    Attributes:
        names: The variables, parents first.
        boundary: The finite variables that their CPDs depend on.
        targets: Those among the names that are asked for.
        observed: Those among the names that are known, in some rows or components at least.
        has_rows: Whether the factor over the boundary differs from row to row.
    """

    names: tuple[str, ...]
    boundary: tuple[str, ...]
    targets: tuple[str, ...]
    observed: tuple[str, ...]
    has_rows: bool

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of the factor that is left of the block."""
        return (*[ROWS] * self.has_rows, *self.boundary)

    def entries(self, network: Network) -> tuple[int, int]:
        """Return roughly how many numbers a solution holds: whatever the rows, and per row."""
        states = prod(len(network.states[name]) for name in self.boundary)
        size = sum(network.linear[name].size for name in self.names)
        return states * 3 * size * size, states * size

    def solve(self, network: Network, possible: Tensor | None = None) -> Moments:
        """Integrate the variables out for every state of the boundary.

        Args:
            network: What the block is part of.
            possible: The states of the boundary that the rest of the network allows,
                `[rows or 1, *cards]`.
        """
        variables = [network.linear[name] for name in self.names]
        parents = {p for v in variables for p in v.parents}
        known = {n: v for n, v in network.seen.items() if n in {*self.observed, *parents}}
        cards = {name: len(network.states[name]) for name in self.boundary}
        found = solve(variables, cards, observed=known, targets=self.targets, possible=possible)
        rows = network.rows
        if len(found.mean) < rows:  # nothing is observed: each row has draws of its own
            found = replace(found, mean=found.mean.expand(rows, *found.mean.shape[1:]))
        return Moments(self, found, {n: network.events[n] for n in self.targets}, rows)

    def may_have_atoms(self, network: Network) -> bool:
        """Whether some scale is zero, so that evidence can have a probability and no density."""
        scales = (network.linear[name].affine.scale for name in self.names)
        return bool(self.observed and self.boundary) and any(
            bool((scale.diagonal(dim1=-2, dim2=-1) == 0).any()) for scale in scales
        )

    def part(self, network: Network) -> Part:
        """Say what is integrated out."""
        states = prod(len(network.states[name]) for name in self.boundary)
        given = f", for each of the {states:,} states of {', '.join(self.boundary)}"
        what = f"linear Gaussian, {len(self.observed)} of them observed"
        return Part(CONDITIONING, self.names, what + given * bool(self.boundary))


@dataclass(frozen=True)
class Moments:
    """A block that was integrated out.

    Attributes:
        block: The block.
        solution: Evidence and moments, for every state of the boundary.
        events: The event shapes of the targets.
        rows: Rows of evidence.
    """

    block: Block
    solution: BlockSolution
    events: Mapping[str, torch.Size]
    rows: int

    @property
    def table(self) -> Table:
        """The factor over the boundary."""
        log_evidence = self.solution.log_evidence
        if not self.block.has_rows:
            log_evidence = log_evidence.squeeze(0)
        else:
            log_evidence = log_evidence.expand(self.rows, *log_evidence.shape[1:])
        return Table(self.block.names[0], self.block.axes, log_evidence, is_log=True)

    def marginal(self, name: str, weights: Tensor | None) -> Distribution:
        """Return the posterior of a target: a Gaussian, or a mixture over the boundary.

        Args:
            name: The target.
            weights: Posterior of the boundary, `[rows or 1, *cards]`.
        """
        mean, covariance = self.solution.moments(name)
        event, cards = self.events[name], mean.dim() - 2
        covariance = covariance.expand(self.rows, *covariance.shape[1:])
        if weights is None:
            return Gaussian(mean.reshape(self.rows, *event), covariance)
        flat = [t.flatten(1, cards) for t in (weights.expand(self.rows, *weights.shape[1:]), mean)]
        spread = covariance.flatten(1, cards)
        means = flat[1].reshape(*flat[1].shape[:2], *event)
        return GaussianMixture(flat[0], means, spread)

    def draw(self, n: int, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draw the targets jointly, given drawn states `[n * rows]` of the boundary.

        Returns:
            `{name: [n, rows, *event]}`.
        """
        chosen = {k: states[k].reshape(n, self.rows) for k in self.block.boundary}
        drawn = self.solution.draw(n, chosen)
        return {k: v.reshape(n, self.rows, *self.events[k]) for k, v in drawn.items()}


def split_blocks(network: Network, targets: Sequence[str]) -> tuple[Block, ...]:
    """Join linear Gaussian variables with the parents of theirs that are not known."""
    root = {name: name for name in network.linear}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for name, variable in network.linear.items():
        for parent in variable.parents:
            if parent in network.linear and parent not in network.values:
                root[find(name)] = find(parent)
    groups: dict[str, list[str]] = {}
    for name in network.linear:
        groups.setdefault(find(name), []).append(name)
    return tuple(_block(network, names, targets) for names in groups.values())


def _block(network: Network, names: Sequence[str], targets: Iterable[str]) -> Block:
    used = {p for name in names for p in network.linear[name].given}
    observed = tuple(name for name in names if name in network.seen)
    own = set(names)
    wanted = tuple(dict.fromkeys(t for t in targets if t in own))
    rows = bool(observed) and network.rows != 1
    boundary = tuple(p for p in network.states if p in used)
    return Block(tuple(names), boundary, wanted, observed, rows)
