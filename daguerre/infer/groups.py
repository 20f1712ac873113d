"""Evidence on models with plates: values `[rows, *plates, *event]`, as a whole or by members."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.graph import InadmissibleError
from daguerre.infer.evidence import Evidence, Given
from daguerre.infer.joined import joined, order_of, reshaped
from daguerre.infer.members import Spread
from daguerre.infer.plan import Part
from daguerre.joint import Joint
from daguerre.queries import declared_sizes, read_sizes
from daguerre.rows import is_missing
from daguerre.structure.spread import plates_of

__all__ = ["Groups", "evidence_of", "over_plates", "plate_sizes"]


def plate_sizes(joint: Joint, values: Mapping[str, Tensor], rows: int) -> dict[str, int]:
    """Find the sizes of all plates, declared or those of values `[rows, *plates, *event]`.

    Raises:
        GraphError: Two sizes for a plate, or none; a value with too few dimensions.
    """
    found = read_sizes(joint.program.plates, values, rows, declared_sizes(joint.graph))
    return {} if found is None else dict(found.of)


def over_plates(joint: Joint, evidence: Evidence, given: Given) -> Evidence:
    """Give what is known as one number, or one name of a state, to all members of its plates.

    Raises:
        GraphError: Two sizes for a plate, or none; a value with too few dimensions.
        InadmissibleError: Soft evidence on a variable in a plate.
    """
    plates = joint.program.plates
    if not plates:
        return evidence
    if likely := [name for name in evidence.soft if plates[name]]:
        raise InadmissibleError(
            f"soft evidence on {likely[0]}, which repeats in {', '.join(plates[likely[0]])}: it is"
            f" taken outside plates only; observe a child of {likely[0]} whose CPD gives these"
            " likelihoods"
        )
    one = {n for n, v in given.items() if not isinstance(v, Tensor) or not v.dim()}
    alike = {n for n in one if plates[n] and evidence.values[n].dim() == 1}
    several = {n: v for n, v in evidence.values.items() if n not in alike}
    of = plate_sizes(joint, several, evidence.rows)

    def spread(name: str, value: Tensor) -> Tensor:
        if name not in alike:
            return value
        sizes = [of[plate] for plate in plates[name]]
        return value.reshape(-1, *[1] * len(sizes)).expand(-1, *sizes)

    values = {name: spread(name, value) for name, value in evidence.values.items()}
    return replace(evidence, values=values)


def evidence_of(model: Spread, evidence: Evidence) -> Evidence:
    """Return what is known of each member."""
    values = model.apart(evidence.values)
    lacking = model.apart({name: evidence.values[name] for name in evidence.missing})
    missing = {name: is_missing(value, partly=True) for name, value in lacking.items()}
    missing = {name: lacks for name, lacks in missing.items() if bool(lacks.any())}
    marked = (name for base in evidence.marked for name in model.members[base])
    return Evidence(
        evidence.rows, values, missing, evidence.soft, frozenset(n for n in marked if n in missing)
    )


class Groups(NamedTuple):
    """What joins the answers on members to those on whole variables.

    Attributes:
        model: The model with its plates written out.
        targets: The variables asked for.
    """

    model: Spread
    targets: tuple[str, ...]

    def part(self, needed: Collection[str], *, has_data: bool) -> Part:
        """Say which variables are written out, and to how many members of which plates.

        Args:
            needed: The variables that a question needs.
            has_data: Whether data tell the sizes of plates that are declared without one.
        """
        graph = self.model.joint.graph
        own = {name: plates_of(graph, name) for name in graph.names if name in needed}
        used = dict.fromkeys(plate for plates in own.values() for plate in plates)
        known = used if has_data else declared_sizes(graph)
        sizes = ", ".join(
            f"{'' if plate in known else 'for example '}{self.model.sizes[plate]} of {plate}"
            for plate in used
        )
        names = tuple(name for name, plates in own.items() if plates)
        return Part("writing plates out", names, f"a variable per member: {sizes or 'none'}")

    def marginals(self, found: Mapping[str, Distribution]) -> dict[str, Distribution]:
        """Join posteriors of members, of batch shape `[rows]`, to one `[rows, *plates]`."""
        return {name: self._marginal(name, found) for name in self.targets}

    def _marginal(self, name: str, found: Mapping[str, Distribution]) -> Distribution:
        sizes, parts = self._sizes(name), [found[one] for one in self.model.members[name]]
        if not sizes:
            return parts[0]
        rows = parts[0].batch_shape[0]
        places = [torch.arange(rows) * len(parts) + i for i in range(len(parts))]
        return reshaped(joined(parts, order_of(places)), (rows, *sizes))

    def values(self, found: Mapping[str, Tensor], dim: int = 0) -> dict[str, Tensor]:
        """Join values of members to `[*, rows, *plates, *event]`, the rows being dimension dim."""
        return {name: self._value(name, found, dim + 1) for name in self.targets}

    def _value(self, name: str, found: Mapping[str, Tensor], dim: int) -> Tensor:
        each, sizes = [found[one] for one in self.model.members[name]], self._sizes(name)
        return torch.stack(each, dim).unflatten(dim, sizes) if sizes else each[0]

    def _sizes(self, name: str) -> tuple[int, ...]:
        plates = plates_of(self.model.joint.graph, name)
        return tuple(self.model.sizes[plate] for plate in plates)
