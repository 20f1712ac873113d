"""Models of nets some of whose weights or activations are random, and a mean-field q of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MethodType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torch.func import functional_call, vmap

from daguerre.compose import place_of_cpd
from daguerre.declare import Input
from daguerre.families import shared
from daguerre.graph import Graph, GraphError, Variable
from daguerre.model import Model
from daguerre.program import Outcome, Step

__all__ = ["OUTPUT", "Activation", "Base", "MeanField", "Randomized", "Whole"]

Activation = Callable[[Tensor], Distribution]
OUTPUT = "output"


class Base(Protocol):
    """A net as a model whose CPDs can be called with other weights than its own."""

    net: nn.Module
    graph: Graph

    def steps(self) -> tuple[Step, ...]:
        """Return the steps."""
        ...

    def inputs(self) -> dict[str, Input]:
        """Return the inputs."""
        ...

    def weights(self, name: str) -> dict[str, str]:
        """Return the tensors that the CPD of a variable uses, and the first name of each."""
        ...

    def value(
        self, name: str, weights: Mapping[str, Tensor], parents: Sequence[Tensor]
    ) -> Outcome:
        """Return a variable for values of its parents, with other weights."""
        ...


class Whole(Model):
    """A net that nobody has looked into: one deterministic variable, `output`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        parameters = inspect.signature(net.forward).parameters.values()
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            raise GraphError(
                f"{type(net).__name__}.forward takes any number of arguments, so its inputs have"
                " no names; give an example: dg.nets.randomize(net, x, ...)"
            )
        names = tuple(p.name for p in parameters if p.default is p.empty)
        variables = [Variable(name, map="input") for name in names]
        self.graph = Graph([*variables, Variable(OUTPUT, names, "deterministic")])

    def inputs(self) -> dict[str, Input]:
        """Return the parameters of the net's forward."""
        return {name: Input() for name in self.graph.inputs}

    def steps(self) -> tuple[Step, ...]:
        """Return the steps: inputs, then the net."""
        inputs = [Step(self.graph[name], None, "input") for name in self.graph.inputs]
        place = place_of_cpd(self.net)
        return (*inputs, Step(self.graph[OUTPUT], self.net, place))

    def weights(self, name: str) -> dict[str, str]:
        """Return all of the net's tensors: any may matter."""
        tensors = (*self.net.named_parameters(), *self.net.named_buffers())
        return {n: n for n, _ in tensors} if name == OUTPUT else {}

    def value(
        self, name: str, weights: Mapping[str, Tensor], parents: Sequence[Tensor]
    ) -> Outcome:
        """Return the net's output with other weights."""
        assert name == OUTPUT
        return functional_call(self.net, dict(weights), tuple(parents))


class Randomized(Model):
    """A net some of whose weights or activations are random variables.

    Attributes:
        base: The net as a model; the weights that are random now are no parameters of it.
        priors: The distribution of each random weight.
        rows: How many rows of data share one draw of the weights.
    """

    def __init__(
        self,
        base: Base,
        priors: Mapping[str, Distribution],
        activations: Mapping[str, Activation],
        cpds: Mapping[str, tuple[Variable, nn.Module]],
        rows: int,
    ) -> None:
        super().__init__()
        self.base, self.priors, self.activations, self.rows = base, priors, activations, rows
        self.cpds = nn.ModuleDict({name: module for name, (_, module) in cpds.items()})
        added = [variable for variable, _ in cpds.values()]
        self.graph = Graph(
            [*map(Variable, priors), *map(self._lifted, base.graph.variables), *added]
        )

    def _lifted(self, v: Variable) -> Variable:
        above = dict.fromkeys(w for w in self.base.weights(v.name).values() if w in self.priors)
        map_ = "stochastic" if v.name in self.activations else v.map
        return replace(v, parents=(*v.parents, *above), map=map_)

    def inputs(self) -> dict[str, Input]:
        """Return the inputs of the net."""
        return self.base.inputs()

    def steps(self) -> tuple[Step, ...]:
        """Return the steps: weights, the net, and what was added to it."""
        of_base = {step.name: step for step in self.base.steps()}

        def step(v: Variable) -> Step:
            if v.name in self.priors:
                return Step(v, MethodType(Weight(v.name), self), "prior")
            if v.name in self.cpds:
                module = self.cpds[v.name]
                return Step(v, module, place_of_cpd(module))
            old = of_base[v.name]
            if old.variable == v:
                return old
            lifted = Lifted(old, v.parents[len(old.arguments) :], self.base.weights(v.name))
            return Step(v, MethodType(lifted, self), old.place)

        return tuple(step(v) for v in self.graph.variables)

    def mean_field(self, scale: float = 0.05) -> MeanField:
        """Return a q of the weights for `elbo`: independent Normals around the present weights.

        Args:
            scale: The standard deviations to begin with.
        """
        start = {name: self.base.net.get_buffer(name) for name in self.priors}
        return MeanField(start, self.rows, scale)


class Weight:
    """The CPD of a random weight."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, model: Randomized) -> Distribution:
        """Return the prior, for one of the rows that share it."""
        return model.priors[self.name]


class Lifted:
    """The CPD of a variable of the net whose weights, or own value, are random."""

    def __init__(self, step: Step, weights: tuple[str, ...], names: Mapping[str, str]) -> None:
        self.step, self.weights = step, weights
        self.names = {name: first for name, first in names.items() if first in weights}

    def __call__(self, model: Randomized, *parents: Tensor) -> Outcome:
        """Return the value, each row with weights of its own, or its distribution."""
        k, name = len(self.step.arguments), self.step.name
        value = self._value(model, parents[:k], parents[k:])
        return model.activations[name](value) if name in model.activations else value

    def _value(
        self, model: Randomized, parents: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> Any:
        if not weights:
            assert self.step.cpd is not None
            return self.step.cpd(*parents)

        def row(parents: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> Any:
            drawn = dict(zip(self.weights, weights, strict=True))
            used = {name: drawn[first] for name, first in self.names.items()}
            value = model.base.value(self.step.name, used, [p[None] for p in parents])
            return value[0] if parents else value  # type: ignore[index] - a map gives a tensor

        return vmap(row, randomness="different")(parents, weights)


class MeanField(Model):
    """Independent Normals over the weights of a net: q(w) of Hinton and van Camp (1993)."""

    def __init__(self, start: Mapping[str, Tensor], rows: int, scale: float) -> None:
        super().__init__()
        self.rows, self.number = rows, {name: i for i, name in enumerate(start)}
        self.loc = nn.ParameterList(nn.Parameter(t.detach().clone()) for t in start.values())
        self.log_scale = nn.ParameterList(
            nn.Parameter(torch.full_like(t, scale).log()) for t in start.values()
        )
        self.graph = Graph(map(Variable, start))

    def steps(self) -> tuple[Step, ...]:
        """Return one step per weight."""
        return tuple(
            Step(v, MethodType(MeanField.weight_of(v.name), self)) for v in self.graph.variables
        )

    @staticmethod
    def weight_of(name: str) -> Callable[[MeanField], Distribution]:
        """Return the CPD of one weight."""

        def weight(q: MeanField) -> Distribution:
            i = q.number[name]
            return shared(Normal(q.loc[i], q.log_scale[i].exp()), q.rows)

        return weight
