"""Chains in plates: members as rows of one batch, others as variables of one chain."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from daguerre.infer.answer import Answer, Most
from daguerre.infer.folded import Fold, fold
from daguerre.infer.groups import Groups
from daguerre.infer.joined import reshaped
from daguerre.infer.members import Spread
from daguerre.infer.plan import Part, Plan
from daguerre.joint import Joint, as_joint
from daguerre.queries import declared_sizes, read_sizes
from daguerre.structure.spread import plates_of

__all__ = ["Members", "members_of"]


@dataclass(frozen=True, eq=False)
class Members:
    """How a chain in plates is one without.

    Attributes:
        fold: The members that are rows.
        groups: The members that share something unknown, each a variable of its own; None where
            there are none.
        values: What is known, `[n, *plates, T, *event]`.
    """

    fold: Fold
    groups: Groups | None
    values: Mapping[str, Tensor]

    @property
    def joint(self) -> Joint:
        """The chain without plates."""
        return self.fold.joint if self.groups is None else as_joint(self.groups.model)

    def names(self, targets: Collection[str]) -> tuple[str, ...]:
        """Return the variables of the chain that some variables are."""
        if self.groups is None:
            return tuple(targets)
        return tuple(one for name in targets for one in self.groups.model.members[name])

    def enter(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return values of the chain, `[rows, T, *event]`."""
        rows = self.fold.enter(values)
        return rows if self.groups is None else self.groups.model.apart(rows)

    def total(self, log_evidence: Tensor) -> Tensor:
        """Sum the log-evidence of rows over members, and add that of what is known outside."""
        each = log_evidence.unflatten(0, (-1, self.fold.count)).sum(1)
        if self.fold.outside is None:
            return each
        return each + self.fold.outside.log_prob(self.fold.known(self.values))

    def answer(self, found: Answer, targets: Sequence[str]) -> Answer:
        """Return an answer on the chain as one of the batch shape `[n, *plates, T]`."""
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
            log_evidence=self.total(found.log_evidence),
            draw=draw,
            diagnostics={name: self._diagnostic(one) for name, one in found.diagnostics.items()},
            density=None if density is None else lambda values: self._density(density, values),
        )

    def _density(self, density: Any, values: Mapping[str, Tensor]) -> Tensor:
        return density(self.enter(values)).unflatten(0, (-1, self.fold.count)).sum(1)

    def _diagnostic(self, one: Any) -> Any:
        return self._unfolded(one, 0) if isinstance(one, Tensor) and one.dim() else one

    def most(self, found: Most) -> Most:
        """Return the most probable values, `[n, *plates, T, *event]`."""
        values = found.values
        if self.groups is not None:
            of = self.groups.model.members
            names = tuple(n for n, those in of.items() if {*those} <= {*values})
            values = self.groups._replace(targets=names).values(values)
        whole = {name: self._unfolded(value, 0) for name, value in values.items()}
        return Most(whole, self.total(found.log_prob))

    def plan(self, found: Plan, targets: Sequence[str]) -> Plan:
        """Return the plan of a chain as that of one in plates."""
        graph = self.fold.base.graph
        kept = {*self.fold.joint.graph.names}
        parts = [self._folding()] if self.fold.plates else []
        if self.groups is not None:
            parts.append(self.groups.part(kept, has_data=True))
        pruned = tuple(n for n in graph.names if n not in kept)
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
        sizes = ", ".join(f"{self.fold.sizes[plate]} of {plate}" for plate in self.fold.plates)
        graph = self.fold.base.graph
        inside = (n for n in self.fold.joint.graph.names if {*self.fold.plates} <= {
            *plates_of(graph, n)})  # fmt: skip
        why = f"{sizes}: they share nothing that is unknown"
        return Part("members as rows", tuple(inside), why)

    def _marginal(self, one: Distribution) -> Distribution:
        return reshaped(one, (-1, *self.fold.shape))

    def _unfolded(self, value: Tensor, dim: int) -> Tensor:
        return value.unflatten(dim, (-1, *self.fold.shape)) if self.fold.plates else value


def members_of(
    joint: Joint, targets: Collection[str], values: Mapping[str, Tensor]
) -> Members | None:
    """Take a chain in plates as one without; None where it has none.

    Members that share nothing unknown are rows of one batch, as sequences are. Others are written
    out: a variable for each, of one chain.

    Args:
        joint: A model with lags.
        targets: The variables asked for.
        values: What is known, `[n, *plates, T, *event]`.

    Raises:
        InadmissibleError: Something unknown holds for all steps.
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
        return Members(found, None, values)
    spread = Spread(found.joint, {plate: known.of[plate] for plate in left})
    return Members(found, Groups(spread, tuple(targets)), values)
