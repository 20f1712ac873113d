"""Joints: products of factors and their marginals, the two sides of every divergence.

`dg.data("x") * encoder` is a joint over (x, z); `model["x"]` is a marginal. A joint is only a
description: what it offers (samples, a density) follows from its graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from daguerre.devices import on_device_of
from daguerre.draw.equations import marginal
from daguerre.graph import Graph, GraphError, Plate, Variable
from daguerre.program import Program, Step, Values
from daguerre.queries import log_prob, sample
from daguerre.scoring import DensityPlan, density_plan

__all__ = ["Empirical", "Factor", "Joint", "as_joint"]


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


@runtime_checkable
class _Runs(Protocol):
    """What tells a factor from other things: methods alone, which Python looks up once a class."""

    def steps(self) -> tuple[Step, ...]: ...


@dataclass(frozen=True)
class Empirical:
    """The empirical distribution of some variables: a root that can only be sampled.

    Its samples are the batches that an objective is given; it has no density and no parameters.

    Attributes:
        names: The variables.
        plates: Those of them that a model has in plates, with these, outermost first.
    """

    names: tuple[str, ...]
    plates: tuple[tuple[str, tuple[Plate, ...]], ...] = ()

    def __post_init__(self) -> None:
        if not self.names or not all(isinstance(n, str) for n in self.names):
            raise GraphError(
                f"dg.data takes the names of the observed variables, not {self.names}"
            )

    @property
    def graph(self) -> Graph:
        """One parentless node per observed variable."""
        found = dict(self.plates)
        held = {name: tuple(p.name for p in found.get(name, ())) for name in self.names}
        every = dict.fromkeys(plate for plates in found.values() for plate in plates)
        return Graph((Variable(name, plates=held[name]) for name in self.names), every)

    def steps(self) -> tuple[Step, ...]:
        """Return one step without a CPD per variable: the batch gives its value."""
        return tuple(Step(v, None, "data") for v in self.graph.variables)

    def __mul__(self, other: Factor | Joint) -> Joint:
        return as_joint(self) * other


@dataclass(frozen=True, eq=False, repr=False)
class Joint:
    """A product of factors, restricted to some of its variables.

    Attributes:
        factors: Models and empirical distributions; an input of one is a variable of another.
        names: The variables that are kept; all others are integrated out.
        temporal: Variables that have time slices in another joint, which this one meets.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> joint = dg.data("x") * dg.model(x=dg.Input(2), z=lambda x: Normal(x, 1.0))
        >>> joint.graph, joint["z"].names
        (Graph(-> x; x -> z), ('z',))
    """

    factors: tuple[Factor, ...]
    names: tuple[str, ...]
    temporal: frozenset[str] = frozenset()

    @cached_property
    def graph(self) -> Graph:
        """The graph of the product."""
        graph = self.factors[0].graph
        for factor in self.factors[1:]:
            graph = graph.join(factor.graph)
        return graph

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """The step of each variable; of one slice, where there are lags."""
        steps = [s for f in self.factors for s in f.steps()]
        steps.sort(key=lambda step: step.variable.map != "input")  # which another factor may meet
        return {step.name: step for step in steps}

    @cached_property
    def program(self) -> Program:
        """The steps of all factors in one topological order."""
        return Program.of(self.graph, self.by_name.values(), self.temporal)

    @cached_property
    def modules(self) -> tuple[nn.Module, ...]:
        """The models among the factors."""
        return tuple(dict.fromkeys(f for f in self.factors if isinstance(f, nn.Module)))

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
        self,
        n: int | None = None,
        /,
        given: Values | None = None,
        *,
        pathwise: bool = False,
        **sizes: int,
    ) -> dict[str, Tensor]:
        """Draw the kept variables, parents first.

        Args:
            n: The number of draws; may be left out where `given` tells it.
            given: Values `[n, *event]` of inputs, and of variables whose random ancestors are
                all given too (conditioning on others needs a posterior, not a forward draw).
            pathwise: Draw with `rsample`, so that gradients flow through the draws.
            sizes: The sizes of plates that neither their declaration nor `given` tells; of a
                chain, `t=100` is the number of steps.

        Returns:
            `{name: Tensor[n, *plates, *event]}` in the order of declaration; with lags, time is
            the last plate.

        Raises:
            GraphError: An unknown or missing name, a batch of another size.
            InadmissibleError: A given variable whose random ancestors are not given.
        """
        if missing := [name for name in self.given if name not in (given or {})]:
            raise GraphError(f"{', '.join(missing)} must be given: it has no CPD of its own")
        with on_device_of(self.modules):
            values = sample(self.program, n, given or {}, pathwise=pathwise, sizes=sizes)
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
        with on_device_of(self.modules):
            return log_prob(self.program, self.names, values)

    def latex(self, *, finite: Collection[str] = ()) -> str:
        r"""Return the density of the kept variables in LaTeX, the others integrated out.

        Args:
            finite: Variables with finitely many values, which are summed over.

        Example:
            >>> import daguerre as dg
            >>> from torch.distributions import Normal
            >>> model = dg.model(z=lambda: Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
            >>> print(model["x"].latex())
            p_\theta(x) = \int p(z)\,p_\theta(x \mid z)\,\mathrm{d}z
        """
        return marginal(self.graph, self.names, finite=finite)

    def __repr__(self) -> str:
        factors = " * ".join(
            f"data({', '.join(f.names)})" if isinstance(f, Empirical) else type(f).__name__
            for f in self.factors
        )
        return f"Joint({factors} over {', '.join(self.names)})"

    def __mul__(self, other: Factor | Joint) -> Joint:
        product = (*self.factors, *as_joint(other).factors)
        joint = Joint(product, ())
        return Joint(product, joint.graph.names)

    def __getitem__(self, names: str | Iterable[str]) -> Joint:
        names = (names,) if isinstance(names, str) else tuple(names)
        return Joint(self.factors, tuple(self.graph[n].name for n in names))


def as_joint(thing: Factor | Joint) -> Joint:
    """Read a model or an empirical distribution as a joint over all its variables.

    Raises:
        TypeError: The thing is neither; says what came.
    """
    if isinstance(thing, Joint):
        return thing
    if issubclass(type(thing), _Runs) and isinstance(thing.graph, Graph):
        return Joint((thing,), thing.graph.names)
    raise TypeError(f"expected a dg.Model, dg.data(...) or a product of them, not {thing!r}")
