"""A question: what is asked of which model, and how its rows of evidence are taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.cpds import Conditional, Tabular
from daguerre.declare import Input
from daguerre.devices import on_device_of
from daguerre.graph import GraphError, InadmissibleError, did_you_mean
from daguerre.infer.evidence import Evidence, Given, read_evidence
from daguerre.infer.exact import Exact, plan_exact
from daguerre.infer.groups import Groups, evidence_of, over_plates, plate_sizes
from daguerre.infer.members import Spread
from daguerre.infer.network import Network, read_factors
from daguerre.infer.product import Factors
from daguerre.infer.reading import RowByRowError, read_network
from daguerre.joint import Factor, Joint, as_joint
from daguerre.locate import located
from daguerre.model import Model
from daguerre.program import validation
from daguerre.structure.bayes_ball import Requisite, requisite
from daguerre.structure.names import Names

__all__ = [
    "MEMORY",
    "OpaqueError",
    "Piece",
    "Planned",
    "Question",
    "evaluating",
    "inputs_of",
    "labels_of",
    "pieces",
    "planned",
    "plans",
]

MEMORY = 2.0**32  # bytes, unless max_memory says otherwise
CLOSE = 2**25  # bytes that are worked on at once: beyond it, rows of evidence take turns
PATTERN = 2e7  # multiplications that a pattern of missing values costs beside its own: planning it
WRITTEN = 4096  # variables that plates are written out to
FEW = 8  # so many patterns of missing values are taken one by one


class OpaqueError(InadmissibleError):
    """No exact engine takes a variable; draws might."""


@dataclass(frozen=True)
class Question:
    """What is asked: the model, targets (none for the evidence alone), evidence, and a limit."""

    subject: Joint | Factors
    targets: tuple[str, ...]
    evidence: Evidence
    max_memory: float

    @classmethod
    def of(
        cls,
        p: Factor | Joint | Factors,
        targets: Names,
        given: Given | None,
        soft: Mapping[str, Tensor] | None = None,
        max_memory: float | None = None,
    ) -> Question:
        """Read a question as a user writes it."""
        subject = p if isinstance(p, Factors) else as_joint(p)
        several = (targets,) if isinstance(targets, str) else targets
        if not isinstance(several, Iterable):
            raise TypeError(f"targets are names of variables, not {targets!r}")
        names = tuple(dict.fromkeys(several))
        labels = {
            name: labels_of(subject, name) for name in (*names, *(given or ()), *(soft or ()))
        }
        evidence = read_evidence(labels, given, soft)
        if isinstance(subject, Joint):
            evidence = over_plates(subject, evidence, given or {})
        if both := [name for name in names if name in evidence.values]:
            raise GraphError(f"{', '.join(both)} is a target and given; ask for what is unknown")
        if isinstance(subject, Joint):
            _check_inputs(subject, evidence)
        return cls(subject, names, evidence, MEMORY if max_memory is None else max_memory)

    @property
    def names(self) -> tuple[str, ...]:
        """All variables of the model."""
        if isinstance(self.subject, Factors):
            return tuple(self.subject.sizes)
        return self.subject.graph.names

    def needed(self) -> set[str]:
        """Return what the joint of targets and evidence hangs on; barren variables drop out."""
        asked = {*self.targets, *self.evidence.values, *self.evidence.soft}
        if isinstance(self.subject, Factors):
            return {*self.subject.sizes}
        called = {n for n in self.evidence.marked if not isinstance(self._cpd(n), Tabular)}
        return {*asked, *called, *self.subject.graph.ancestors({*asked, *called})}

    def _cpd(self, name: str) -> object:
        return self.subject.program.by_name[name].cpd if isinstance(self.subject, Joint) else None

    def requisite(self) -> set[str]:
        """Return what the posterior of the targets alone hangs on; without any, the evidence."""
        if isinstance(self.subject, Factors) or not self.targets:
            return self.needed()
        found = self._requisite(self.subject)
        return {*found.cpds, *found.observations, *self.targets}

    def cpds(self) -> set[str]:
        """Return the variables whose CPDs the posterior of the targets hangs on."""
        assert isinstance(self.subject, Joint)
        return {*self._requisite(self.subject).cpds}

    def _requisite(self, joint: Joint) -> Requisite:
        known = [n for n in self.evidence.values if n not in self.evidence.missing]
        return requisite(joint.graph, self.targets, given=known)

    def read(self, needed: set[str]) -> Network:
        """Call the CPDs that are needed."""
        if isinstance(self.subject, Factors):
            return read_factors(self.subject, self.evidence)
        joint, limit = self.subject, self.max_memory / 8
        with located(), validation(enabled=False), on_device_of(joint.modules):
            network = read_network(joint.program, self.evidence, needed, max_entries=limit)
        for name in self.evidence.soft:
            if name not in network.states and name not in network.opaque and name in needed:
                raise InadmissibleError(
                    f"soft evidence on {name}: it gives likelihoods of states, but {name} is"
                    " continuous, or determined by what is given"
                )
        return network

    def said(self, name: str, row: int) -> object:
        """Return what a row says of a variable: the name of its state, if it has one."""
        value, labels = self.evidence.values[name][row], labels_of(self.subject, name)
        return labels[int(value)] if labels and bool(value >= 0) else value.tolist()

    def distinct(self) -> tuple[Question, Tensor | None]:
        """Return the question for the rows that differ, and which of these each row is.

        Where all CPDs are tables, rows that say the same have the same answer, which is found
        once; elsewhere the question stays as it is, with None.
        """
        evidence = self.evidence
        if evidence.rows < 2 or not evidence.values or evidence.soft or not self._is_tabular():
            return self, None
        rows, place = evidence.distinct()
        return (self.rows(rows), place) if len(rows) < evidence.rows else (self, None)

    def _is_tabular(self) -> bool:
        if isinstance(self.subject, Factors):
            return True
        return all(isinstance(step.cpd, Tabular) for step in self.subject.program.steps)

    def rows(self, chosen: Tensor) -> Question:
        """Return the question for some rows of the evidence."""
        return replace(self, evidence=self.evidence[chosen])

    @property
    def groups(self) -> Groups | None:
        """The model with its plates written out; None if it has none.

        Raises:
            OpaqueError: It would be too large.
        """
        if not isinstance(self.subject, Joint) or not self.subject.program.plates:
            return None
        of = plate_sizes(self.subject, self.evidence.values, self.evidence.rows)
        plates = self.subject.program.plates.values()
        count = sum(prod(of[plate] for plate in own) for own in plates)
        if count > WRITTEN:
            raise OpaqueError(
                f"no exact answer: it would write out {count:,} members of plates, more than"
                f" {WRITTEN:,}"
            )
        return Groups(Spread(self.subject, of), self.targets)

    def by_members(self, groups: Groups | None) -> Question:
        """Return the question to the members of plates, each a variable of its own."""
        if groups is None:
            return self
        model = groups.model
        targets = tuple(name for target in self.targets for name in model.members[target])
        known = evidence_of(model, self.evidence)
        return Question(as_joint(model), targets, known, self.max_memory)


def inputs_of(joint: Joint) -> dict[str, Input]:
    """Return what is declared of the inputs of a joint, where a model declares them."""
    models = [m for m in joint.modules if isinstance(m, Model)]
    declared = {name: one for model in models for name, one in model.inputs().items()}
    return {name: declared[name] for name in joint.graph.inputs if name in declared}


def _check_inputs(joint: Joint, evidence: Evidence) -> None:
    """Refuse inputs of another shape than is declared, and rows that lack one."""
    for name, declared in inputs_of(joint).items():
        plates = joint.program.plates.get(name, ())
        shape = evidence.values[name].shape if name in evidence.values else None
        if shape and declared.shape and shape[1 + len(plates) :] != declared.shape:
            raise GraphError(
                f"{name} has the shape {[*shape]}, but is declared dg.Input("
                f"{', '.join(map(str, declared.shape))}): give"
                f" [{', '.join(['rows', *plates, '*event'])}]"
            )
    for name in joint.graph.inputs:
        if name in evidence.missing:
            row = int(evidence.missing[name].nonzero()[0])
            raise GraphError(
                f"{name} is an input, which no row may lack, but row {row} holds NaN or a negative"
                " integer"
            )


@contextmanager
def evaluating(p: Factor | Joint | Factors) -> Iterator[None]:
    """Put a model in evaluation mode for a while: an answer is no step of training.

    Tables and linear Gaussians, of which a network has many, know no modes and are passed over.
    """
    modules = () if isinstance(p, Factors) else as_joint(p).modules
    found = [
        m
        for module in modules
        for m in module.modules()
        if m.training and not isinstance(m, Conditional)
    ]
    for m in found:
        m.training = False
    try:
        yield
    finally:
        for m in found:
            m.training = True


def labels_of(subject: Joint | Factors, name: str) -> tuple[str, ...] | None:
    """Return the names of a variable's states, where its CPD is a table that has them.

    Raises:
        GraphError: There is no such variable.
    """
    if isinstance(subject, Factors):
        if name not in subject.sizes:
            raise GraphError(f"no variable {name!r}{did_you_mean(name, subject.sizes)}")
        return None
    cpd = subject.program.by_name[subject.graph[name].name].cpd
    return cpd.states if isinstance(cpd, Tabular) else None


class Piece(NamedTuple):
    """Rows of the evidence that are answered together, and the network read for them.

    Attributes:
        rows: Their numbers.
        question: What is asked of them.
        needed: The variables whose CPDs were called.
        network: What they gave.
    """

    rows: Tensor
    question: Question
    needed: set[str]
    network: Network


def pieces(question: Question, rows: Tensor | None = None) -> Iterator[Piece]:
    """Split rows of evidence as far as they must be, and read the network of each part.

    Few patterns of missing values are taken one by one; with many, a missing finite variable is
    one more to sum out, with a factor of each row that says what is known of it.
    """
    rows = torch.arange(question.evidence.rows) if rows is None else rows
    patterns = question.evidence.patterns()
    if len(patterns) > 1 and len(patterns) <= FEW:
        yield from _split(question, rows, patterns)
        return
    if len(patterns) == 1 and question.evidence.missing:
        question = question.rows(patterns[0])
    needed = question.needed()
    try:
        network = question.read(needed)
    except RowByRowError:
        yield from _split(question, rows, list(torch.arange(len(rows)).split(1)))
        return
    if network.opaque and len(patterns) > 1:
        yield from _split(question, rows, patterns)
        return
    if network.opaque and question.targets:
        part = question.read(fewer := question.cpds())
        if not part.opaque:
            needed, network = fewer, replace(part, is_whole=False)
    yield Piece(rows, question, needed, network)


def _split(question: Question, rows: Tensor, parts: Sequence[Tensor]) -> Iterator[Piece]:
    for part in parts:
        yield from pieces(question.rows(part), rows[part])


class Planned(NamedTuple):
    """Rows of the evidence, and the plan that answers them."""

    rows: Tensor
    exact: Exact


def plans(question: Question, held: frozenset[str] = frozenset()) -> Iterator[Planned]:
    """Plan exact answers for all rows, as many at once as stay close to the processor.

    Raises:
        InadmissibleError: No exact engine takes a variable, or it would take too much memory.
    """
    for rows, part, needed, network in pieces(question):
        patterns = part.evidence.patterns()
        if len(patterns) > 1 and _is_costly(part, network, held, len(patterns)):
            for pattern in patterns:
                found = plans(part.rows(pattern), held)
                yield from (Planned(rows[pattern][some], plan) for some, plan in found)
            continue
        plan = planned(question, network, held)
        most = _rows_at_once(plan)
        if most >= len(rows):
            yield Planned(rows, plan)
            continue
        for chunk in torch.arange(len(rows)).split(most):
            few = replace(part.rows(chunk).read(needed), is_whole=network.is_whole)
            yield Planned(rows[chunk], planned(question, few, held))


def _rows_at_once(plan: Exact) -> int:
    """Return how many rows stay close to the processor: a quarter of it, if all share so much."""
    common, each = plan.memory
    room = max(CLOSE - common, CLOSE / 4)
    return max(1, int(room // max(each, 1)))


def _is_costly(question: Question, network: Network, held: frozenset[str], patterns: int) -> bool:
    """Whether summing out what only some rows lack costs more than a plan for each pattern."""
    if network.opaque:
        return False
    plan = plan_exact(network, question.targets, held=held)
    return plan.sum.work > PATTERN * patterns or sum(plan.memory) > question.max_memory


def planned(question: Question, network: Network, held: frozenset[str]) -> Exact:
    """Plan an exact answer, or refuse it."""
    if network.opaque:
        name, why = next(iter(network.opaque.items()))
        raise OpaqueError(f"no exact answer: {name} is {why}")
    plan = plan_exact(network, question.targets, held=held)
    needed = sum(plan.memory)
    if needed > question.max_memory:
        raise InadmissibleError(
            f"an exact answer would take about {needed:.3g} bytes for a row, more than max_memory"
            f" ({question.max_memory:.3g}); observe more, ask for less, or allow it"
        )
    return plan
