"""Joints: products of factors and their marginals, the two sides of every divergence.

`dg.data("x") * encoder` is a joint over (x, z); `model["x"]` is a marginal. A joint is only a
description: what it offers (samples, a density) follows from its graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.families import support
from daguerre.graph import Graph, GraphError, InadmissibleError, Variable
from daguerre.locate import located
from daguerre.program import (
    DensityPlan,
    Program,
    Step,
    Trace,
    complete,
    density_plan,
    draw,
    negative_log_density,
    obstacle,
    validation,
)

__all__ = ["Empirical", "Factor", "Joint", "as_joint", "batch_size"]


@runtime_checkable
class Factor(Protocol):
    """What multiplies into a joint: a graph and the steps that run it."""

    @property
    def graph(self) -> Graph:
        """The graph of the factor; variables that it needs from others are inputs."""
        ...

    def steps(self) -> tuple[Step, ...]:
        """Return one step per variable."""
        ...


@dataclass(frozen=True)
class Empirical:
    """The empirical distribution of some variables: a root that can only be sampled.

    Its samples are the batches that an objective is given; it has no density and no parameters.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or not all(isinstance(n, str) for n in self.names):
            raise GraphError(
                f"dg.data takes the names of the observed variables, not {self.names}"
            )

    @property
    def graph(self) -> Graph:
        """One parentless node per observed variable."""
        return Graph(Variable(name) for name in self.names)

    def steps(self) -> tuple[Step, ...]:
        """Return one step without a CPD per variable: the batch gives its value."""
        return tuple(Step(v, None, "data") for v in self.graph.variables)

    def __mul__(self, other: Factor) -> Joint:
        return as_joint(self) * other


@dataclass(frozen=True, eq=False)
class Joint:
    """A product of factors, restricted to some of its variables.

    Attributes:
        factors: Models and empirical distributions; an input of one is a variable of another.
        names: The variables that are kept; all others are integrated out.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> joint = dg.data("x") * dg.model(x=dg.Input(2), z=lambda x: Normal(x, 1.0))
        >>> joint.graph, joint["z"].names
        (Graph(-> x; x -> z), ('z',))
    """

    factors: tuple[Factor, ...]
    names: tuple[str, ...]

    @cached_property
    def graph(self) -> Graph:
        """The graph of the product."""
        graph = self.factors[0].graph
        for factor in self.factors[1:]:
            graph = graph.join(factor.graph)
        return graph

    @cached_property
    def program(self) -> Program:
        """The steps of all factors in one topological order."""
        steps = [s for f in self.factors for s in f.steps()]
        inputs = [s for s in steps if s.variable.map == "input"]
        return Program.of(self.graph, [*inputs, *(s for s in steps if s not in inputs)])

    @cached_property
    def data(self) -> tuple[str, ...]:
        """The variables that come from data."""
        return tuple(n for f in self.factors if isinstance(f, Empirical) for n in f.names)

    @cached_property
    def given(self) -> tuple[str, ...]:
        """The variables that a batch must hold: data and unmet inputs."""
        return (*self.data, *self.graph.inputs)

    def density_plan(self) -> DensityPlan:
        """Plan the density of the kept variables given data and inputs.

        Raises:
            InadmissibleError: The density does not exist or needs an integral.
        """
        return density_plan(self.graph, (n for n in self.names if n not in self.graph.inputs))

    def sample(
        self, n: int | None = None, given: Values | None = None, *, pathwise: bool = False
    ) -> dict[str, Tensor]:
        """Draw the kept variables, parents first.

        Args:
            n: The number of draws; may be left out where `given` tells it.
            given: Values `[n, *event]` of inputs, and of variables whose random ancestors are
                all given too (conditioning on others needs a posterior, not a forward draw).
            pathwise: Draw with `rsample`, so that gradients flow through the draws.

        Returns:
            `{name: Tensor[n, *event]}` in the order of declaration.

        Raises:
            GraphError: An unknown or missing name, a batch of another size.
            InadmissibleError: A given variable whose random ancestors are not given.
        """
        given = given or {}
        n = batch_size(given, n)
        graph = self.graph
        missing = [x for x in self.given if x not in given]
        if missing:
            raise GraphError(f"{', '.join(missing)} must be given: it has no CPD of its own")
        for name in given:
            open_ = {a for a in graph.ancestors([name]) if graph[a].map == "stochastic"} - {*given}
            if open_:
                raise InadmissibleError(
                    f"{name} is given but its ancestors {', '.join(sorted(open_))} are not, so a"
                    f" forward draw would ignore {name}; give them too, or intervene with"
                    f" dg.do(model, {name}=...)"
                )
        with located(), torch.set_grad_enabled(pathwise and torch.is_grad_enabled()):
            values = draw(self.program, n, given, pathwise=pathwise).values
        return {name: values[name] for name in self.names}

    def log_prob(self, values: Values) -> Tensor:
        r"""Return the joint log-density of the prescribed variables, in nats, shape `[n]`.

        $\sum_i \log p(v_i \mid \mathrm{pa}(v_i))$. Deterministic variables may be given or left
        out; they are recomputed and must agree. A bijective variable that is given is scored by
        change of variables, and what it is a function of is recovered.

        Args:
            values: `{name: Tensor[n, *event]}` of every prescribed variable and input.

        Raises:
            InadmissibleError: A variable is implicit, or latent and must be integrated out.
            GraphError: An unknown or missing name, a wrong shape, a value that disagrees.
        """
        graph = self.graph
        n = batch_size(values)
        for name in values:
            graph[name]
        names = [x for x in self.names if not _is_implied(self, x, values)]
        if missing := [x for x in (*names, *graph.inputs) if x not in values]:
            raise GraphError(
                f"log_prob is the joint density of {', '.join(names)}: {', '.join(missing)}"
                f" is missing (given: {', '.join(values) or 'nothing'}); a marginal is"
                " model[names].log_prob(values)"
            )
        constants = [x for x in self.names if x in values and graph.kind(x) == "deterministic"]
        plan = density_plan(graph, names, constants)
        known = {k: v for k, v in values.items() if k in names or k in graph.inputs}
        program = self.program
        with located(), validation(enabled=False):  # NaN in, NaN out; supports are checked below
            trace = complete(program, plan, known, {}, n)
            terms = [negative_log_density(program.by_name[name], trace) for name in plan.terms]
        if not torch.compiler.is_compiling():  # nothing else reads the contents of a tensor
            for name in values.keys() & trace.values.keys() - known.keys():
                _check_agreement(name, values[name], trace.values[name])
            for name in plan.terms:
                _check_support(program.by_name[name], trace)
        return -torch.stack([t.expand(n) for t in terms]).sum(0) if terms else torch.zeros(n)

    def __mul__(self, other: Factor | Joint) -> Joint:
        product = (*self.factors, *as_joint(other).factors)
        joint = Joint(product, ())
        return Joint(product, joint.graph.names)

    def __getitem__(self, names: str | Iterable[str]) -> Joint:
        names = (names,) if isinstance(names, str) else tuple(names)
        return Joint(self.factors, tuple(self.graph[n].name for n in names))


Values = Mapping[str, Tensor]


def batch_size(values: Values, n: int | None = None) -> int:
    """Return the common first dimension of all values, which must be `n` where that is given.

    Raises:
        GraphError: Nothing tells the size, a value without a batch dimension, two sizes, no size.
    """
    if n is not None and (not isinstance(n, int | torch.SymInt) or n < 0):
        raise GraphError(f"n is the number of draws, 0 or more, not {n!r}")
    sizes = {} if n is None else {"n": n}
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.dim() == 0:
            came = "a tensor without dimensions" if isinstance(value, Tensor) else repr(value)
            raise GraphError(f"{name} must be a Tensor [n, *event], not {came}")
        sizes[name] = value.shape[0]
    if not sizes:
        raise GraphError("say how many draws: n is missing and nothing is given")
    if len(set(sizes.values())) > 1:
        raise GraphError(f"the first dimension is the batch, but the sizes differ: {sizes}")
    return next(iter(sizes.values()))


def _is_implied(joint: Joint, name: str, values: Values) -> bool:
    """Whether a variable follows from others that are scored, and so is not scored itself.

    Raises:
        InadmissibleError: The variable is implicit and nothing that has a density depends on it.
    """
    graph = joint.graph
    if _is_recovered(joint, name, values):
        return True
    match graph.kind(name):
        case "prescribed":
            return graph[name].map == "deterministic" and name not in values
        case "implicit":
            below = graph.descendants([name]) & {*joint.names}
            if not any(graph[d].map == "stochastic" for d in below):
                raise InadmissibleError(obstacle(graph, name))
    return True


def _is_recovered(joint: Joint, name: str, values: Values) -> bool:
    """Whether a chain of declared bijections leads back to a variable from one that is scored."""
    return any(
        (child in values and child in joint.names) or _is_recovered(joint, child, values)
        for child in joint.graph.children(name)
        if joint.graph[child].inverts == name
    )


def _check_agreement(name: str, given: Tensor, implied: Tensor) -> None:
    if given.shape != implied.shape:
        raise GraphError(
            f"{name} has shape {list(given.shape)}, but its parents imply {list(implied.shape)}"
        )
    if not torch.allclose(given, implied, rtol=1e-4, atol=1e-5, equal_nan=True):
        gap = (given - implied).abs().max().item()
        raise GraphError(
            f"{name} is a function of other variables, but the given value differs from what they"
            f" imply by up to {gap:.3g}; leave it out, or give values that belong together"
        )


def _check_support(step: Step, trace: Trace) -> None:
    """Refuse values that a family would score wrongly; rows with NaN are let through."""
    value, outcome = trace.values[step.name], trace.outcomes[step.name]
    allowed = support(outcome) if isinstance(outcome, Distribution) else None
    if allowed is None or not len(value):  # torch cannot check events of an empty batch
        return
    bad = ~_rows(allowed.check(value)).all(1) & ~_rows(value.isnan()).any(1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise GraphError(
            f"{step}: the support of its {type(outcome).__name__} is {allowed}, but row {row} of"
            f" {step.name} lies outside: {value[row].tolist()}; rescale the values, or return"
            " another family"
        )


def _rows(x: Tensor) -> Tensor:
    return x.unsqueeze(-1).flatten(1)


def as_joint(thing: Factor | Joint) -> Joint:
    """Read a model or an empirical distribution as a joint over all its variables.

    Raises:
        TypeError: The thing is neither; says what came.
    """
    if isinstance(thing, Joint):
        return thing
    if isinstance(thing, Factor) and not isinstance(thing, type):
        return Joint((thing,), thing.graph.names)
    raise TypeError(f"expected a dg.Model, dg.data(...) or a product of them, not {thing!r}")
