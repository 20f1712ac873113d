r"""Expected statistics of families, the E-step of EM, from exact inference.

The derivative of the log-evidence with respect to a factor, times the factor, is the posterior of
its variables (Darwiche 2003). So one backward pass gives the expected counts of every table, and
the weights of every configuration of the discrete parents of a linear Gaussian.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from daguerre.cpds import LinearGaussian, Tabular
from daguerre.infer.blocks import Moments
from daguerre.infer.exact import Exact
from daguerre.infer.grid import ROWS
from daguerre.infer.network import Network, Table

__all__ = ["Statistics", "first_parameter"]

Learner = TypeVar("Learner", Tabular, LinearGaussian)


def first_parameter(cpd: nn.Module) -> nn.Parameter:
    """Return what a module that learns is known by: copies of it have the same."""
    return next(cpd.parameters())


@dataclass
class Statistics:
    r"""Sums over rows of what is expected of each family given the row.

    A module that is the CPD of several variables has the sums of all of them, under whatever names
    of its parents.

    Attributes:
        cpds: The modules that learn, by variable.
        log_evidence: Per call of `add`, the log-evidence of its rows.
        counts: Per table, expected counts `[*states of each parent, states]`.
        moments: Per linear Gaussian, $\mathbb{E}[u u^T]$ of u = (1, continuous parents, value),
            `[*states of the discrete parents, m, m]`.
        owners: Per first parameter, the module of which others that have it are copies.
    """

    cpds: Mapping[str, Tabular | LinearGaussian]
    log_evidence: list[Tensor] = field(default_factory=list)
    counts: dict[Tabular, Tensor] = field(default_factory=dict)
    moments: dict[LinearGaussian, Tensor] = field(default_factory=dict)
    owners: dict[nn.Parameter, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for cpd in self.cpds.values():
            if self.owners.setdefault(first_parameter(cpd), cpd) is not cpd:
                continue
            if isinstance(cpd, Tabular):
                self.counts[cpd] = torch.zeros_like(
                    cpd.probs, dtype=torch.float64, requires_grad=False
                )
                continue
            bias, weights, _ = cpd.affine()
            m = 1 + sum(weight.shape[-1] for weight in weights.values()) + bias.shape[-1]
            zeros = bias.new_zeros(*bias.shape[:-1], m, m, dtype=torch.float64)
            self.moments[cpd] = zeros.detach()

    def owner(self, cpd: Learner) -> Learner:
        """Return the module that has the sums of one, which may be a copy of it."""
        return self.owners[first_parameter(cpd)]

    def add(self, exact: Exact) -> None:
        """Add the rows of a plan."""
        network = exact.network
        free = [[n for n in b.names if n not in network.values] for b in exact.blocks]
        with torch.no_grad():
            blocks = replace(
                exact,
                blocks=tuple(
                    replace(block, targets=tuple(names))
                    for block, names in zip(exact.blocks, free, strict=True)
                ),
            ).moments
            tables = [*network.tables, *(moments.table for moments in blocks)]
        log_evidence, weights = _posteriors(exact, tables)
        self.log_evidence.append(log_evidence)
        first = {table.of: i for i, table in reversed([*enumerate(network.tables)])}
        for name, cpd in self.cpds.items():
            if isinstance(cpd, Tabular) and name in first:
                axes, weight = tables[first[name]].axes, weights[first[name]]
                self._count(cpd, (*cpd.parents, name), network, axes, weight)
        for moments, weight in zip(blocks, weights[len(network.tables) :], strict=True):
            for name in moments.block.names:
                if isinstance(cpd := self.cpds.get(name), LinearGaussian):
                    self._regress(cpd, name, network, moments, weight)

    def _count(
        self,
        cpd: Tabular,
        family: Sequence[str],
        network: Network,
        axes: Sequence[str],
        weight: Tensor,
    ) -> None:
        place = _places(family, network, axes, weight.shape)
        self.counts[self.owner(cpd)].index_put_(place, weight.double(), accumulate=True)

    def _regress(
        self,
        cpd: LinearGaussian,
        name: str,
        network: Network,
        moments: Moments,
        weight: Tensor,
    ) -> None:
        family, boundary = (*cpd.continuous, name), moments.block.boundary
        assert moments.block.has_rows or network.rows == 1, "what nobody observes is left out"
        weight = weight if moments.block.has_rows else weight.unsqueeze(0)
        found = _second_moments(family, network, moments, weight.double())
        total = self.moments[self.owner(cpd)]
        if not cpd.given:
            total += found.reshape(-1, *total.shape).sum(0)
            return
        place = _places(cpd.given, network, boundary, found.shape[:-2])
        total.index_put_(place, found, accumulate=True)


def _posteriors(exact: Exact, tables: Sequence[Table]) -> tuple[Tensor, list[Tensor]]:
    """Return the log-evidence, and the posterior of the variables of each table, by its axes.

    What all rows share is summed over the rows.
    """
    leaves = [table.entries.detach().requires_grad_() for table in tables]
    with torch.enable_grad():
        marked = [replace(t, entries=leaf) for t, leaf in zip(tables, leaves, strict=True)]
        network = replace(exact.network, tables=marked)
        log_evidence = replace(exact, network=network, blocks=()).run().log_evidence
        total = log_evidence.sum()
    if not leaves or not bool((log_evidence > -torch.inf).all()):
        return log_evidence.detach(), [torch.zeros_like(leaf) for leaf in leaves]
    slopes = torch.autograd.grad(total, leaves)
    return log_evidence.detach(), [
        slope if table.is_log else slope * table.entries
        for table, slope in zip(tables, slopes, strict=True)
    ]


def _places(
    names: Sequence[str], network: Network, axes: Sequence[str], shape: Sequence[int]
) -> tuple[Tensor, ...]:
    """Return the state number of each variable at every entry of a table over some axes."""

    def place(name: str) -> Tensor:
        axis = name if name in axes else ROWS
        numbers = network.states[name] if name in axes else network.values[name]
        sizes = [len(numbers) if a == axis else 1 for a in axes]
        return numbers.long().reshape(sizes).expand(torch.Size(shape))

    return tuple(place(name) for name in names)


def _second_moments(
    family: Sequence[str], network: Network, moments: Moments, weight: Tensor
) -> Tensor:
    """Return the sum over rows of E[u u^T], u = (1, *family), for each state of the boundary.

    Args:
        family: Variables of the block, or known ones.
        network: What is known.
        moments: The block.
        weight: Posterior of the boundary, `[rows or 1, *cards]`.
    """
    solution, cards = moments.solution, weight.shape[1:]
    mean, covariance = solution.mean.double(), solution.covariance.double()
    rows = max(len(weight), len(mean))
    means, chosen = [mean.new_ones(rows, *cards, 1)], [-1]
    for name in family:
        if name in network.values:
            value = network.values[name].double().reshape(network.rows, *[1] * len(cards), -1)
            chosen += [-1] * value.shape[-1]
        else:
            value, part = mean[..., solution.slices[name]], solution.slices[name]
            chosen += range(part.start, part.stop)
        means.append(value.expand(rows, *cards, -1))
    u = torch.cat(means, -1)
    found = torch.einsum("r...,r...i,r...j->...ij", weight.expand(rows, *cards), u, u)
    free = [i for i, source in enumerate(chosen) if source >= 0]
    if not free:
        return found
    source = torch.tensor([chosen[i] for i in free], device=u.device)
    spread = covariance[..., source[:, None], source]
    spread = torch.einsum("r...,r...ij->...ij", _summed(weight, len(spread)), spread)
    index = torch.tensor(free, device=u.device)
    found[..., index[:, None], index] += spread
    return found


def _summed(weight: Tensor, rows: int) -> Tensor:
    """Return weights of so many rows, or their sum where all rows share what they weigh."""
    return weight.sum(0, keepdim=True) if rows == 1 else weight.expand(rows, *weight.shape[1:])
