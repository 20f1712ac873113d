"""Members of plates as rows of one batch, where they share nothing that is unknown.

Given what they share, members are independent, and each has the CPDs of all: so a plate that holds
everything unknown is nothing but more rows. What is known outside of it is repeated for its
members, and its own density counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import final

from torch import Tensor, nn

from daguerre.declare import Input
from daguerre.graph import Graph, InadmissibleError, Plate, Variable
from daguerre.infer.question import inputs_of
from daguerre.joint import Joint, as_joint
from daguerre.model import Model
from daguerre.program import Step
from daguerre.rows import unknown
from daguerre.structure.recurrence import TIME, temporal, upstream
from daguerre.structure.spread import plates_of

__all__ = ["Excerpt", "Fold", "fold"]


@final
class Excerpt(Model):
    """Some variables of a joint, perhaps without plates, and with some of them given.

    Args:
        base: The joint.
        names: The variables that are kept; what they depend on is among them, or they are given.
        folded: Plates that are left out, for their members are rows; `TIME` for steps that
            everything has.
        given: Variables that become inputs.
    """

    def __init__(
        self,
        base: Joint,
        names: Collection[str],
        *,
        folded: Collection[str] = (),
        given: Collection[str] = (),
    ) -> None:
        super().__init__()
        in_time = temporal(base.graph) if TIME not in folded else frozenset()

        def kept(v: Variable) -> Variable:
            own = (p for p in plates_of(base.graph, v.name) if p not in folded)
            plates = (*own, *[TIME] * (v.name in in_time))
            if v.name in given:
                return Variable(v.name, map="input", plates=plates)
            return replace(v, plates=plates)

        variables = [kept(v) for v in base.graph.variables if v.name in names]
        used = {plate for v in variables for plate in v.plates}
        known = {plate.name: plate for plate in base.graph.plates}
        order = dict.fromkeys((*known, TIME))
        self.graph = Graph(variables, [known.get(n, Plate(n)) for n in order if n in used])
        self.joint, self.bases = base, nn.ModuleList(base.modules)

    def inputs(self) -> dict[str, Input]:
        """Return the declared inputs that are kept."""
        return {n: one for n, one in inputs_of(self.joint).items() if n in self.graph}

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of what is kept."""
        return tuple(self._step(v, self.joint.by_name[v.name]) for v in self.graph.variables)

    def _step(self, v: Variable, step: Step) -> Step:
        if v.map == "input":
            return Step(v, None, step.place)
        return replace(step, variable=v, repeat=None)


@dataclass(frozen=True, eq=False)
class Fold:
    """A model whose members of some plates are rows.

    Attributes:
        base: The model as it was.
        joint: The model without these plates; what is known outside of them is an input.
        plates: The plates, outermost first.
        sizes: The size of each plate, and the number of steps, `TIME`, of a chain.
        outside: The model of what is known outside of these plates and has a density of its own;
            None where there is nothing.
        still: Variables of a chain that are unknown and hold for all time: inputs of `joint`.
        prior: The model of these, without the plates; None where there are none.
    """

    base: Joint
    joint: Joint
    plates: tuple[str, ...]
    sizes: Mapping[str, int]
    outside: Joint | None
    still: tuple[str, ...] = ()
    prior: Joint | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the plates."""
        return tuple(self.sizes[plate] for plate in self.plates)

    @property
    def count(self) -> int:
        """How many rows each row becomes."""
        return prod(self.shape)

    def enter(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Arrange values `[n, *plates, *event]` as rows, those of a row one after another.

        What is not in a plate is repeated for its members, and what holds for all time for the
        steps of a chain; variables that the model does not have are left out.
        """
        kept = {name: value for name, value in values.items() if name in self.joint.graph}
        return {name: self._over_time(name, self._rows(name, v)) for name, v in kept.items()}

    def for_all_time(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Arrange what is known of the variables of `prior` as rows."""
        assert self.prior is not None, "some variables hold for all time"
        kept = {name: value for name, value in values.items() if name in self.prior.graph}
        return {name: self._rows(name, value) for name, value in kept.items()}

    def _rows(self, name: str, value: Tensor) -> Tensor:
        own = plates_of(self.base.graph, name)
        at = [1 + own.index(plate) for plate in self.plates if plate in own]
        value = value.movedim(at, [*range(1, 1 + len(at))])
        for i, plate in enumerate(self.plates, 1):
            value = value if plate in own else value.unsqueeze(i)
        whole = value.shape[1 + len(self.plates) :]
        return value.expand(len(value), *self.shape, *whole).flatten(0, len(self.plates))

    def _over_time(self, name: str, value: Tensor) -> Tensor:
        in_time = temporal(self.base.graph)
        if not in_time or name in in_time:
            return value
        place = 1 + len([p for p in plates_of(self.base.graph, name) if p not in self.plates])
        return value.unsqueeze(place).expand(
            *value.shape[:place], self.sizes[TIME], *value.shape[place:]
        )

    def known(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the values of what is known outside the plates, as they are."""
        graph = Graph(()) if self.outside is None else self.outside.graph
        return {n: v for n, v in values.items() if n in graph}


def fold(
    joint: Joint,
    targets: Collection[str],
    values: Mapping[str, Tensor],
    sizes: Mapping[str, int],
) -> Fold:
    """Find the plates that everything unknown is in, and take their members as rows.

    Args:
        joint: A model with plates.
        targets: The variables asked for.
        values: What is known, `[n, *plates, *event]`; in part unknown, where it holds NaN or
            negative integers.
        sizes: The size of each plate, and the number of steps of a chain.

    Raises:
        InadmissibleError: Members of something unknown hold for all steps of one chain.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> i, j = dg.Plate("i"), dg.Plate("j")
        >>> given_z = dg.rv(lambda z: Normal(z, 1.0))
        >>> p = dg.model(z=i(dg.rv(lambda: Normal(0.0, 1.0))), x=i(j(given_z)))
        >>> x = torch.zeros(2, 3, 5)
        >>> found = fold(as_joint(p), ["z"], {"x": x}, {"i": 3, "j": 5})
        >>> found.plates, found.joint.graph["x"].plates, found.enter({"x": x})["x"].shape
        (('i',), ('j',), torch.Size([6, 5]))
    """
    graph = joint.graph
    asked = {*targets, *values}
    relevant = {*asked, *upstream(graph, asked)}
    random = {n for n in relevant if joint.by_name[n].cpd and graph[n].map == "stochastic"}
    hidden = {n for n in random if n not in values or bool(unknown(values[n]).any())}
    own = {n: plates_of(graph, n) for n in relevant}
    used = [p.name for p in graph.plates if any(p.name in plates for plates in own.values())]
    plates = tuple(p for p in used if all(p in own[n] for n in hidden))
    in_time = temporal(graph)
    still = tuple(n for n in graph.order if in_time and n in hidden - in_time)
    if some := [n for n in still if {*own[n]} - {*plates}]:
        raise InadmissibleError(
            f"{some[0]} is outside the plate {TIME}, so it holds for all time, it is not known,"
            " and its members bear on one chain: engines for chains take such a variable as"
            f" evidence only. Give it, write the steps out with p.unroll(steps), or infer it by a"
            " q with dg.elbo(p, q)"
        )
    inside = {n for n in relevant if {*plates} <= {*own[n]} and (not in_time or n in in_time)}
    given = random - inside - hidden
    weighed = {*still, *(given & graph.descendants(still))}
    folded = Excerpt(
        joint,
        relevant,
        folded=(*plates, *[TIME] * bool(in_time)),
        given={*given, *still},
    )
    outside = _outside(joint, given - weighed) if given - weighed else None
    prior = _prior(joint, weighed, plates) if still else None
    return Fold(joint, as_joint(folded), plates, sizes, outside, still, prior)


def _prior(joint: Joint, weighed: Collection[str], plates: Collection[str]) -> Joint:
    """Return the model of what bears on all time, given what is known and does not follow it."""
    names = {*weighed, *upstream(joint.graph, weighed)}
    random = {n for n in names if joint.graph[n].map == "stochastic"}
    return as_joint(Excerpt(joint, names, folded=plates, given=random - {*weighed}))


def _outside(joint: Joint, given: Collection[str]) -> Joint:
    """Return the model of what is known outside plates, with the time that it is in."""
    names = {*given, *upstream(joint.graph, given)}
    return replace(as_joint(Excerpt(joint, names)), temporal=temporal(joint.graph) & names)
