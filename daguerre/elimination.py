"""Models without their deterministic middle: CPDs composed, the same joint over the rest."""

from __future__ import annotations

from collections.abc import Iterable
from types import MethodType
from typing import overload

from torch import Tensor
from torch.distributions import ComposeTransform, Distribution, Transform

from daguerre.declare import Input
from daguerre.families import combined
from daguerre.graph import Graph, InadmissibleError, Variable, graph_of
from daguerre.joint import as_joint
from daguerre.model import Model
from daguerre.program import Outcome, Program, Step, misfit, realise
from daguerre.structure import eliminate as substituted
from daguerre.structure import eliminated_names

__all__ = ["Eliminated", "eliminate"]


@overload
def eliminate(thing: Graph, names: str | Iterable[str]) -> Graph: ...
@overload
def eliminate(thing: Model, names: str | Iterable[str]) -> Model: ...
def eliminate(thing: Graph | Model, names: str | Iterable[str]) -> Graph | Model:
    r"""Substitute deterministic variables into their children and leave them out.

    The joint over the rest stays what it was: $\int \delta(h - f(z))\, p(x \mid h)\, dh =
    p(x \mid f(z))$. An MLP decoder z -> h -> x becomes z -> x, a recurrent net the complete graph
    over its outputs. Of a Model the CPDs are composed: the new model gives the same samples from
    the same seed and the same density, and shares its parameters with the old one, which stays as
    it is. What several children have in common is computed once for each of them.

    Args:
        thing: A Graph or a Model.
        names: Deterministic variables, one or several.

    Raises:
        GraphError: An unknown name.
        InadmissibleError: A random variable, an input, a chain over time, which
            `Model.unroll` writes out.
        TypeError: Neither a Graph nor a Model.

    References:
        Goodfellow, Bengio and Courville (2016), *Deep Learning*, section 10.2.3.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(
        ...     z=Normal(0.0, 1.0),
        ...     h=dg.deterministic(lambda z: z.exp()),
        ...     x=lambda h: Normal(h, 1.0),
        ... )
        >>> dg.eliminate(p, "h").graph
        Graph(-> z; z -> x)
    """
    if isinstance(thing, Model):
        return Eliminated(thing, names)
    return substituted(graph_of(thing), names)


class Eliminated(Model):
    """A model whose deterministic variables, or some of them, are inside the CPDs of the rest."""

    def __init__(self, base: Model, names: str | Iterable[str]) -> None:
        super().__init__()
        self.base = base
        self.gone = eliminated_names(base.graph, names)
        self.graph = substituted(base.graph, self.gone)

    def inputs(self) -> dict[str, Input]:
        """Return the declared inputs."""
        return self.base.inputs()

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the base, composed where a parent has gone."""
        program = as_joint(self.base).program
        return tuple(self._step(program, v) for v in self.graph.variables)

    def _step(self, program: Program, v: Variable) -> Step:
        step = program.by_name[v.name]
        inner = self._inner(step)
        if not inner:
            return step
        composed = Composition(v, tuple(program.by_name[name] for name in inner), step)
        return Step(v, MethodType(composed, self), step.place)

    def _inner(self, step: Step) -> tuple[str, ...]:
        """Return what is computed first, in order: parents that have gone, and theirs."""
        graph, inner = self.base.graph, set[str]()
        frontier = [p for p in step.variable.parents if p in self.gone]
        while frontier:
            name = frontier.pop()
            if name not in inner:
                inner.add(name)
                frontier += [p for p in graph.parents(name) if p in self.gone]
        return tuple(name for name in graph.order if name in inner)


class Composition:
    """The CPD of a variable with what has gone above it computed on the way."""

    def __init__(self, variable: Variable, inner: tuple[Step, ...], last: Step) -> None:
        self.arguments = tuple(p for p in variable.parents if p != variable.inverts)
        self.source, self.inner, self.last = variable.inverts, inner, last

    def __call__(self, _: Model, *parents: Tensor) -> Outcome:
        """Return the outcome of the last CPD for values of the parents that are left."""
        values = dict(zip(self.arguments, parents, strict=True))
        n = parents[0].shape[0] if parents else 1
        if self.source is not None:
            return self._transform(values, n)
        for step in self.inner:
            values[step.name] = realise(step, step.outcome(values), values, n, pathwise=True)
        outcome = self.last.outcome(values)
        if isinstance(outcome, Distribution):
            return outcome if parents else self._one(outcome)
        value = realise(self.last, outcome, values, n, pathwise=True)
        return value if parents else value[0]

    def _one(self, outcome: Distribution) -> Distribution:
        """Return the one row that a CPD gave for constants alone: a root has no batch."""
        one = combined([outcome], lambda parts: parts[0][0])
        if one is None:
            raise InadmissibleError(
                f"{self.last} would be left without parents, but one row of its"
                f" {type(outcome).__name__} cannot be taken; keep one of its parents"
            )
        return one

    def _transform(self, values: dict[str, Tensor], n: int) -> Transform:
        """Compose the bijections that lead from the source to here, the others being maps."""
        chain, name = [], self.last.variable.inverts
        by_name = {step.name: step for step in self.inner}
        while name != self.source:
            chain.append(by_name[name or ""])
            name = chain[-1].variable.inverts
        for step in self.inner:
            if step not in chain:
                values[step.name] = realise(step, step.outcome(values), values, n, pathwise=True)
        parts = [step.outcome(values) for step in (*reversed(chain), self.last)]
        for step, part in zip((*reversed(chain), self.last), parts, strict=True):
            if not isinstance(part, Transform):
                raise TypeError(f"{step}: {misfit(step, part)}")
        return ComposeTransform(parts)  # type: ignore[arg-type] - checked above
