"""Questions to models with plates: members as rows of one batch, where they can be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor
from torch.distributions import Distribution

from daguerre.infer.answer import Answer, Most
from daguerre.infer.cases import Cases
from daguerre.infer.evidence import Evidence
from daguerre.infer.folded import Fold, fold
from daguerre.infer.groups import Groups, plate_sizes
from daguerre.infer.joined import reshaped
from daguerre.infer.members import Spread
from daguerre.infer.plan import Part, Plan
from daguerre.infer.question import Question
from daguerre.joint import Joint, as_joint
from daguerre.queries import declared_sizes, read_sizes
from daguerre.rows import is_missing
from daguerre.structure.spread import plates_of

__all__ = ["AS_ROWS", "ByRows", "Members", "by_rows", "members_of", "rows_of"]

AS_ROWS = "members as rows"  # what a plan calls it


@dataclass(frozen=True, eq=False)
class Members:
    """How a model with plates is one without.

    Attributes:
        fold: The members that are rows.
        groups: The members of a chain that share something unknown, each a variable of its own;
            None where there are none.
        values: What is known, `[n, *plates, *event]`.
        has_data: Whether data tell the sizes of plates that are declared without one.
    """

    fold: Fold
    groups: Groups | None
    values: Mapping[str, Tensor]
    has_data: bool = True

    @property
    def joint(self) -> Joint:
        """The model without plates."""
        return self.fold.joint if self.groups is None else as_joint(self.groups.model)

    def names(self, targets: Collection[str]) -> tuple[str, ...]:
        """Return the variables without plates that some variables are."""
        if self.groups is None:
            return tuple(targets)
        return tuple(one for name in targets for one in self.groups.model.members[name])

    def enter(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return values of rows, `[rows, *event]`."""
        rows = self.fold.enter(values)
        return rows if self.groups is None else self.groups.model.apart(rows)

    def cases(self) -> Cases | None:
        """List the states of what is unknown and holds for all time, if anything does."""
        if self.fold.prior is None:
            return None
        rows = len(next(iter(self.values.values()))) * self.fold.count
        return Cases.of(
            self.fold.prior, self.fold.still, self.fold.for_all_time(self.values), rows
        )

    def total(self, log_evidence: Tensor) -> Tensor:
        """Sum the log-evidence of rows over members, and add that of what is known outside."""
        each = log_evidence.unflatten(0, (-1, self.fold.count)).sum(1)
        if self.fold.outside is None:
            return each
        return each + self.fold.outside.log_prob(self.fold.known(self.values))

    def answer(self, found: Answer, targets: Sequence[str]) -> Answer:
        """Return an answer on rows as one of the batch shape `[n, *plates]`."""
        whole = self.groups and self.groups._replace(targets=tuple(targets))
        marginals = found.marginals if whole is None else whole.marginals(found.marginals)

        def draw(n: int) -> dict[str, Tensor]:
            drawn = found.draw(n)
            drawn = drawn if whole is None else whole.values(drawn, 1)
            return {name: self._unfolded(value, 1) for name, value in drawn.items()}

        density = found.density
        return replace(
            found,
            targets=tuple(targets),
            marginals={name: self._marginal(one) for name, one in marginals.items()},
            log_evidence=None if found.log_evidence is None else self.total(found.log_evidence),
            draw=draw,
            diagnostics={name: self._diagnostic(one) for name, one in found.diagnostics.items()},
            density=None if density is None else lambda values: self._density(density, values),
        )

    def _density(self, density: Any, values: Mapping[str, Tensor]) -> Tensor:
        return density(self.enter(values)).unflatten(0, (-1, self.fold.count)).sum(1)

    def _diagnostic(self, one: Any) -> Any:
        return self._unfolded(one, 0) if isinstance(one, Tensor) and one.dim() else one

    def most(self, found: Most) -> Most:
        """Return the most probable values, `[n, *plates, *event]`."""
        values = found.values
        if self.groups is not None:
            of = self.groups.model.members
            names = tuple(n for n, those in of.items() if {*those} <= {*values})
            values = self.groups._replace(targets=names).values(values)
        whole = {name: self._unfolded(value, 0) for name, value in values.items()}
        return Most(whole, self.total(found.log_prob))

    def plan(self, found: Plan, targets: Sequence[str]) -> Plan:
        """Return the plan for rows as that for members of plates."""
        graph = self.fold.base.graph
        kept = {*self.fold.joint.graph.names}
        parts = [self._folding()] if self.fold.plates else []
        if self.groups is not None:
            parts.append(self.groups.part(kept, has_data=self.has_data))
        pruned = tuple(n for n in graph.names if n not in kept or n in found.pruned)
        known, n = tuple(self.values), self.fold.count
        return replace(
            found,
            targets=tuple(targets),
            given=known,
            pruned=pruned,
            parts=(*parts, *found.parts),
            work=found.work * n,
            memory=found.memory * n,
        )

    def _folding(self) -> Part:
        graph = self.fold.base.graph
        known = self.fold.plates if self.has_data else declared_sizes(graph)
        sizes = ", ".join(
            f"{'' if plate in known else 'for example '}{self.fold.sizes[plate]} of {plate}"
            for plate in self.fold.plates
        )
        own = {n: plates_of(graph, n) for n in self.fold.joint.graph.names}
        inside = (n for n, plates in own.items() if {*self.fold.plates} <= {*plates})
        why = f"{sizes}: they share nothing that is unknown"
        return Part(AS_ROWS, tuple(inside), why)

    def _marginal(self, one: Distribution) -> Distribution:
        return reshaped(one, (-1, *self.fold.shape))

    def _unfolded(self, value: Tensor, dim: int) -> Tensor:
        return value.unflatten(dim, (-1, *self.fold.shape)) if self.fold.plates else value


def members_of(
    joint: Joint, targets: Collection[str], values: Mapping[str, Tensor], *, has_data: bool = True
) -> Members | None:
    """Take a chain in plates as one without; None where it has none.

    Members that share nothing unknown are rows of one batch, as sequences are. Others are written
    out: a variable for each, of one chain.

    Args:
        joint: A model with lags.
        targets: The variables asked for.
        values: What is known, `[n, *plates, T, *event]`.
        has_data: Whether data tell the sizes of plates that are declared without one.

    Raises:
        InadmissibleError: Members of something unknown hold for all steps of one chain.
        GraphError: Sizes of plates that differ, or are not known.
    """
    if not joint.graph.plates:
        return None
    rows = len(next(iter(values.values())))
    known = read_sizes(joint.program.plates, values, rows, declared_sizes(joint.graph))
    assert known is not None, "there is time"
    found = fold(joint, targets, values, known.of)
    graph = found.joint.graph
    left = dict.fromkeys(plate for n in graph.names for plate in graph[n].plates)
    if not left:
        return Members(found, None, values, has_data)
    spread = Spread(found.joint, {plate: known.of[plate] for plate in left})
    return Members(found, Groups(spread, tuple(targets)), values, has_data)


class ByRows(NamedTuple):
    """A question to members as rows.

    Attributes:
        question: The question.
        members: How its answers are those of members.
    """

    question: Question
    members: Members


def rows_of(question: Question, *, has_data: bool = True) -> ByRows | None:
    """Take members of plates as rows, as far as they share nothing unknown; None where they do.

    Args:
        question: The question to a model without lags.
        has_data: Whether data tell the sizes of plates that are declared without one.
    """
    joint, evidence = question.subject, question.evidence
    if not isinstance(joint, Joint) or not joint.program.plates or evidence.soft:
        return None
    sizes = plate_sizes(joint, evidence.values, evidence.rows)
    found = fold(joint, question.targets, evidence.values, sizes)
    if not found.plates:
        return None
    rows = _arranged(evidence, evidence.rows * found.count, found.enter)
    members = Members(found, None, evidence.values, has_data)
    return ByRows(replace(question, subject=found.joint, evidence=rows), members)


def by_rows(question: Question) -> Iterator[Question]:
    """Yield a question with members of plates for rows, and one to what is known outside."""
    if (taken := rows_of(question)) is None:
        yield question
        return
    yield taken.question
    found, evidence = taken.members.fold, question.evidence
    if found.outside is not None:
        outside = _arranged(evidence, evidence.rows, found.known)
        yield from by_rows(replace(question, subject=found.outside, evidence=outside))


def _arranged(
    evidence: Evidence, rows: int, arrange: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
) -> Evidence:
    """Return evidence in another arrangement."""
    values = arrange(evidence.values)
    lacking = arrange({name: evidence.values[name] for name in evidence.missing})
    missing = {name: is_missing(value, partly=True) for name, value in lacking.items()}
    marked = frozenset(name for name in evidence.marked if name in missing)
    return Evidence(rows, values, missing, {}, marked)
