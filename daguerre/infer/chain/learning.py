r"""Expected statistics of the modules of a finite chain, the E-step of Baum and Welch.

A chain calls its CPDs at all states, and the derivative of the log-evidence by a score is the
posterior weight of what was scored. Where a CPD returns what a module of its model returned, and
nothing else that learns bears on it, the module was called with its parents: the weights of its
calls are its expected counts, whatever it is called in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from daguerre.cpds import LinearGaussian, Tabular
from daguerre.devices import on_device_of
from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.chain.answer import MEMORY, ChainQuestion
from daguerre.infer.chain.determined import determine
from daguerre.infer.chain.evidence import ends
from daguerre.infer.chain.finite import FiniteChain
from daguerre.infer.chain.grid import Grid, joined, supports
from daguerre.infer.chain.hmm import HMM, log_evidence
from daguerre.infer.chain.reading import Reading, read
from daguerre.infer.folded import fold
from daguerre.infer.statistics import Statistics
from daguerre.joint import Joint
from daguerre.locate import located
from daguerre.program import Outcome, validation
from daguerre.queries import declared_sizes, read_sizes
from daguerre.rows import unknown
from daguerre.structure.recurrence import temporal

__all__ = ["Sequences", "sequences_of"]

INSTEAD = "use dg.nll(p, observed=[...]) with dg.fit"


class _Call(NamedTuple):
    """A call of a module: with what, and what it returned."""

    module: nn.Module
    arguments: tuple[Tensor, ...]
    output: Outcome


class _Use(NamedTuple):
    """The scores of a variable, `[rows, before, now]`, and the call that made them, if it learns.

    The sizes are those of what the module was called with, before values were scored.
    """

    name: str
    scores: Tensor
    values: Tensor
    sizes: tuple[int, int, int]
    call: _Call | None


@dataclass(frozen=True, eq=False)
class Sequences:
    """A finite chain and data that it learns from.

    Attributes:
        reading: The chain with its observations.
        hidden: The values of hidden variables, `[k, *event]`.
        lengths: The number of steps of each sequence, `[B]`; None if all are full.
        modules: The factors of the model.
        cpds: The modules that learn, by name.
        prior: What holds for all time, known in each of the cases that the sequences are in.
        possible: Which cases each row may be in, `[rows, S]`.
    """

    reading: Reading
    hidden: Mapping[str, Tensor]
    lengths: Tensor | None
    modules: tuple[nn.Module, ...]
    cpds: Mapping[str, Tabular | LinearGaussian]
    prior: Sequences | None = None
    possible: Tensor | None = None

    @classmethod
    def of(
        cls, question: ChainQuestion, cpds: Mapping[str, Tabular | LinearGaussian]
    ) -> Sequences:
        """Read the data.

        Raises:
            InadmissibleError: A hidden variable is not finite.
        """
        joint, values = question.joint, question.values
        lengths = ends([v for n, v in values.items() if n not in joint.graph.inputs])
        with located(), validation(enabled=False), on_device_of(joint.modules):
            reading = determine(read(joint, (), values, lengths))
            finite, other = supports(reading)
        if other:
            lost = any(name in reading.pinned for name in other)
            where = " where it is missing" if lost else ""
            raise InadmissibleError(
                f"{', '.join(other)} is hidden{where} and not finite, and over time EM sums out"
                f" finite variables alone; {INSTEAD}"
            )
        chain = cls(reading, finite, lengths, joint.modules, cpds)
        if (cases := question.cases) is None:
            return chain
        steps = {name: value.unsqueeze(1) for name, value in cases.values.items()}
        prior = cls.of(ChainQuestion(cases.prior, (), steps), cpds)
        return replace(chain, prior=prior, possible=cases.log_prior > -torch.inf)

    def expect(self, found: Statistics) -> None:
        """Add the expected statistics of all sequences, under the parameters as they are.

        Raises:
            InadmissibleError: A CPD that learns is computed from a module rather than being one.
            GraphError: A sequence of probability zero.
        """
        with located(), validation(enabled=False), on_device_of(self.modules), torch.enable_grad():
            uses, leaves, total = self._scored()
            if self.prior is not None and self.possible is not None:
                more, others, log_prior = self.prior._scored()
                uses, leaves = [*uses, *more], [*leaves, *others]
                each = (total + log_prior).view_as(self.possible)
                total = each.where(self.possible, -torch.inf).logsumexp(1)
        self._check_possible(total)
        found.log_evidence.append(total.detach())
        weights = torch.autograd.grad(total.sum(), leaves)
        for use, weight in zip(uses, weights, strict=True):
            if use.call is not None:
                _add(found, use, use.call, weight.double())

    def _scored(self) -> tuple[list[_Use], list[Tensor], Tensor]:
        """Return the scores, leaves of their values, and the log-evidence of these, `[rows]`."""
        grid = Grid(self.reading, dict(self.hidden))
        first = [self._use(grid, name, first=True) for name in grid.scored]
        more = grid.scored if self.reading.size[1] > 1 else ()
        later = [self._use(grid, name, first=False) for name in more]
        uses, n = [*first, *later], len(first)
        leaves = [use.scores.detach().requires_grad_() for use in uses]
        hmm = joined(grid, leaves[:n], leaves[n:], self.lengths)
        self._check_memory(hmm)
        return uses, leaves, log_evidence(hmm)

    def _use(self, grid: Grid, name: str, *, first: bool) -> _Use:
        cpd, sizes = self.reading.steps[name].cpd, (1, 1, 1)
        assert cpd is not None
        with _watched(self.cpds.values()) as calls:
            outcome = self.reading.law(name) if first else None
            if outcome is None:
                arguments, sizes = grid.arguments(name, first=first)
                outcome = cpd(*arguments)
        call = next((call for call in calls if call.output is outcome), None)
        scores = grid.score(name, first=first)
        self._check(name, scores, call)
        return _Use(name, scores, grid.now(name, first=first), sizes, call)

    def _check(self, name: str, scores: Tensor, call: _Call | None) -> None:
        """Refuse scores that depend on anything that learns, but for the module that was called.

        Raises:
            InadmissibleError: Names the variable, and what it depends on.
        """
        if not scores.requires_grad:
            return
        known = {} if call is None else {id(q) for q in call.module.parameters()}
        owners = {id(q): n for n, cpd in self.cpds.items() for q in cpd.parameters()}
        learned = [q for cpd in self.cpds.values() for q in cpd.parameters() if q.requires_grad]
        slopes = torch.autograd.grad(scores.sum(), learned, allow_unused=True, retain_graph=True)
        through = [
            owners[id(q)]
            for q, slope in zip(learned, slopes, strict=True)
            if slope is not None and id(q) not in known
        ]
        if call is not None and any(value.requires_grad for value in call.arguments):
            through.append("what computes its parents")
        if through:
            raise InadmissibleError(
                f"{self.reading.steps[name]}: its distribution depends on {through[0]}, without"
                " being what a call of it returns, so that EM has no closed form for it; return"
                f" self.{through[0]}(...) as it is, or {INSTEAD}"
            )

    def _check_memory(self, hmm: HMM) -> None:
        if (needed := FiniteChain(hmm, dict(self.hidden), {}).cost[1]) > MEMORY:
            raise InadmissibleError(
                f"expected counts would take about {needed:.3g} bytes, more than {MEMORY:.3g};"
                f" learn from fewer or shorter sequences, or {INSTEAD} in batches"
            )

    def _check_possible(self, total: Tensor) -> None:
        impossible = total == -torch.inf
        if bool(impossible.any()):
            raise GraphError(
                f"sequence {int(impossible.nonzero()[0])} of the data has probability zero, and"
                " what is zero stays zero; start from tables without zeros there"
            )


def sequences_of(chain: ChainQuestion) -> Iterator[ChainQuestion]:
    """Yield a chain, and what is known outside its plates as chains of their own."""
    yield chain
    if chain.members is not None and (outside := chain.members.fold.outside) is not None:
        yield from _known(outside, chain.members.fold.known(chain.members.values))


def _known(joint: Joint, values: Mapping[str, Tensor]) -> Iterator[ChainQuestion]:
    """Yield chains of what is known: of one step, where there is no time."""
    if temporal(joint.graph):
        chain = ChainQuestion.of(joint, (), values)
        assert chain is not None, "it has lags"
        yield from sequences_of(chain)
        return
    rows = len(next(iter(values.values())))
    sizes = read_sizes(joint.program.plates, values, rows, declared_sizes(joint.graph))
    found = fold(joint, (), values, {} if sizes is None else sizes.of)
    steps = {name: value.unsqueeze(1) for name, value in found.enter(values).items()}
    yield ChainQuestion(found.joint, (), steps)
    if found.outside is not None:
        yield from _known(found.outside, found.known(values))


@contextmanager
def _watched(modules: Iterable[nn.Module]) -> Iterator[list[_Call]]:
    """Note the calls of some modules."""
    calls: list[_Call] = []

    def note(module: nn.Module, arguments: tuple[Tensor, ...], output: Outcome) -> None:
        calls.append(_Call(module, arguments, output))

    handles = [module.register_forward_hook(note) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _add(found: Statistics, use: _Use, call: _Call, weight: Tensor) -> None:
    """Add what was scored, each by its weight `[rows, before, now]`."""
    whole, n = weight.shape, prod(use.sizes)

    def spread(values: Tensor) -> Tensor:
        return values.expand(*whole, *values.shape[3:]).flatten(0, 2)

    lacks = unknown(use.values).unsqueeze(-1).flatten(3)
    if bool((lacks.any(3) != lacks.all(3)).any()):
        raise InadmissibleError(
            f"{use.name} is missing in part at some steps, which EM over time does not fill in;"
            f" {INSTEAD}"
        )
    known = ~spread(lacks.all(3))
    weight, value = weight.flatten()[known], spread(use.values)[known].detach()
    given = [
        spread(a.detach().expand(n, *a.shape[1:]).unflatten(0, use.sizes))[known]
        for a in call.arguments
    ]
    cpd = call.module
    if isinstance(cpd, Tabular):
        place = tuple(a.long() for a in (*given, value))
        found.counts[found.owner(cpd)].index_put_(place, weight, accumulate=True)
    elif isinstance(cpd, LinearGaussian):
        _regress(found.moments[found.owner(cpd)], cpd, given, value, weight)


def _regress(
    total: Tensor, cpd: LinearGaussian, given: list[Tensor], value: Tensor, weight: Tensor
) -> None:
    """Add E[u u^T], u = (1, continuous parents, value), to that of each state of the others."""
    count = len(cpd.continuous)
    parts = [torch.ones_like(weight), *given[:count], value]
    u = torch.cat([part.double().reshape(len(weight), -1) for part in parts], 1)
    cells = total.view(-1, *total.shape[-2:])
    number = torch.zeros_like(weight, dtype=torch.long)
    for size, states in zip(total.shape[: len(cpd.given)], given[count:], strict=True):
        number = number * size + states.long()
    for cell in range(len(cells)):
        here = number == cell
        cells[cell] += (weight[here, None] * u[here]).mT @ u[here]
