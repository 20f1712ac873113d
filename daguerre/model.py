"""Models: ordinary `nn.Module`s whose decorated methods are the CPDs of a directed graph.

The parameter names of a CPD are the parents, so `def x(self, z)` is p(x | z), and the graph is
known when the class is created: a wrong name is an error of the class, not of the tenth epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Never, final

from torch import Tensor, nn

from daguerre.declare import Input, Node, all_plates, within
from daguerre.draw import unrolled
from daguerre.draw.equations import factorisation
from daguerre.draw.notation import Figure, figure
from daguerre.graph import Graph, GraphError, Kind, Plate, Plated, Variable
from daguerre.joint import Factor, Joint, as_joint
from daguerre.lags import Past, lags_of, started
from daguerre.program import Step
from daguerre.shapes import Shape, shape_table, trace_shapes
from daguerre.structure.unroll import unroll as written_out
from daguerre.table import Table
from daguerre.unrolled import apart, slice_steps, source_of, together

__all__ = ["Model", "Unrolled", "check_names"]


def check_names(declared: Iterable[str]) -> None:
    """Refuse names that `nn.Module` and `Model` already use.

    Raises:
        GraphError: A reserved or private name.
    """
    reserved = {*dir(Model), "base", "training"}  # base: what a rewritten model keeps below it
    for name in declared:
        if name in reserved or name.startswith("_"):
            raise GraphError(f"{name!r} is a reserved name of torch.nn.Module; use another")


def _variable(name: str, node: Node[...] | Input) -> Variable:
    if isinstance(node, Input):
        return Variable(name, map="input")
    return node.variable(name, skip=1)


def _places(declared: Mapping[str, Node[...] | Input], message: str) -> str:
    """Add where each CPD that the message names was declared."""
    named = [n for n, node in declared.items() if f"{n!r}" in message or f" {n} " in message]
    nodes = [(n, node.place) for n in named if isinstance(node := declared[n], Node)]
    return "".join(f"\n  {name} is declared at {place}" for name, place in nodes)


class Model(nn.Module):
    r"""A directed graphical model: an `nn.Module` whose decorated methods are its CPDs.

    $p(v) = \prod_i p(v_i \mid \mathrm{pa}(v_i))$; deterministic variables are Diracs.

    Attributes:
        graph: The graph, known for the class.

    Raises:
        GraphError: When the class is created: an unknown parent, a cycle, a reserved name, a CPD
            overridden by something else.

    Example:
        >>> import torch
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> class Coin(Model):
        ...     @dg.rv
        ...     def z(self):
        ...         return Normal(torch.zeros(2), 1.0)
        ...     @dg.deterministic
        ...     def x(self, z):
        ...         return z.sum(1)
        >>> Coin.graph, Coin().kind("x"), Coin().sample(3)["x"].shape
        (Graph(-> z; z => x), 'implicit', torch.Size([3]))
    """

    graph: Graph = Graph(())
    _declared: ClassVar[dict[str, Node[...] | Input]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        declared: dict[str, Node[...] | Input] = {}
        plates: dict[str, tuple[Plate, ...]] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                plates[name] = value.plates if isinstance(value, Plated) else ()
                value = value.declared if isinstance(value, Plated) else value
                if isinstance(value, Node | Input):
                    declared[name] = value
                elif name in declared:
                    raise GraphError(
                        f"{cls.__name__}.{name} overrides the variable {name!r} by"
                        f" {type(value).__name__}; declare it with @dg.rv, @dg.deterministic or"
                        " dg.Input()"
                    )
        cls._declared = declared
        try:
            check_names(declared)
            variables = [
                within(_variable(name, node), plates[name]) for name, node in declared.items()
            ]
            cls.graph = Graph(variables, all_plates(plates[name] for name in declared))
        except GraphError as error:
            raise GraphError(f"{cls.__name__}: {error}{_places(declared, str(error))}") from None

    if TYPE_CHECKING:  # without this, nn.Module tells type checkers that every name exists

        def __getattr__(self, name: Never) -> Any: ...  # type: ignore[override]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._declared:
            raise GraphError(
                f"{name!r} is a variable of {type(self).__name__}; name the"
                f" {type(value).__name__} otherwise (self.{name}_net = ...)"
            )
        super().__setattr__(name, value)

    def steps(self) -> tuple[Step, ...]:
        """Return the steps that run this model, with the CPDs bound to its parameters."""
        return tuple(self._declared_step(name, node) for name, node in self._declared.items())

    def _declared_step(self, name: str, node: Node[...] | Input) -> Step:
        variable = self.graph[name]
        if isinstance(node, Input):
            return Step(variable, None, "input")
        lags = lags_of(node.function).values() if variable.lags else ()
        past = tuple(Past(x.variable, x.steps, partial(started, x.init, self)) for x in lags)
        whole = None if node.whole is None else MethodType(node.whole, self)
        return Step(variable, getattr(self, name), node.place, past, whole=whole)

    def inputs(self) -> dict[str, Input]:
        """Return the declared inputs."""
        return {n: node for n, node in self._declared.items() if isinstance(node, Input)}

    def kind(self, name: str) -> Kind:
        """Return `"input"`, `"prescribed"`, `"deterministic"` or `"implicit"`, as derived."""
        return self.graph.kind(name)

    def sample(
        self, n: int | None = None, /, given: Mapping[str, Tensor] | None = None, **sizes: int
    ) -> dict[str, Tensor]:
        """Draw every variable, parents first; see `Joint.sample`.

        Args:
            n: The number of draws.
            given: Values `[n, *plates, *event]` of inputs, and of other variables with all that
                they depend on.
            sizes: Of plates, and of the time `t`: `p.sample(8, school=10, t=100)`.

        Returns:
            `{name: Tensor[n, *plates, *event]}`; with lags, time is the last plate.
        """
        return as_joint(self).sample(n, given, pathwise=False, **sizes)

    def rsample(
        self, n: int | None = None, /, given: Mapping[str, Tensor] | None = None, **sizes: int
    ) -> dict[str, Tensor]:
        """Draw as `sample` does, with gradients through the draws."""
        return as_joint(self).sample(n, given, pathwise=True, **sizes)

    def log_prob(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the joint log-density in nats, shape `[n]`; see `Joint.log_prob`."""
        return as_joint(self).log_prob(values)

    def shapes(self, **inputs: tuple[int, ...]) -> Table:
        """Return the table of all variables with kind, shape, type and place of declaration.

        Args:
            inputs: Event shapes of inputs whose declaration does not tell them.

        Raises:
            GraphError: A CPD fails on these shapes; found with fake tensors, before any data.
        """
        given = {n: Shape(i.shape, i.dtype) for n, i in self.inputs().items() if i.shape}
        for name, event in inputs.items():
            given[self.graph[name].name] = Shape(tuple(event))
        program = as_joint(self).program
        return shape_table(program, trace_shapes(program, given))

    def unroll(self, steps: int) -> Unrolled:
        r"""Write out the time slices of a chain as variables of their own: `z[0]`, `z[1]`, ...

        The joint stays what it was, $p(v_0, \dots, v_{T-1})$; the CPDs are those of the chain,
        whose parameters the new model shares. What is written for graphs without time then holds
        for the chain: questions of any kind, elimination, pictures.

        Args:
            steps: The number T of slices, 1 or more.

        Raises:
            GraphError: No lagged parent, no steps or too many.

        References:
            Goodfellow, Bengio and Courville (2016), *Deep Learning*, section 10.1.

        Example:
            >>> import torch
            >>> import daguerre as dg
            >>> from torch.distributions import Normal
            >>> start = Normal(0.0, 1.0)
            >>> p = dg.model(z=lambda before=dg.lag("z", init=start): Normal(0.9 * before, 1.0))
            >>> two = p.unroll(2)
            >>> two.graph, two.log_prob({"z[0]": torch.zeros(1), "z[1]": torch.zeros(1)})
            (Graph(-> z[0]; z[0] -> z[1]), tensor([-1.8379]))
        """
        return Unrolled(self, steps)

    def extra_repr(self) -> str:
        """Return the graph, which `print(model)` shows above the modules."""
        return repr(self.graph)

    def latex(self, *, dirac: bool = False) -> str:
        """Return the factorisation in LaTeX, deterministic variables as equations.

        Args:
            dirac: Write them as Dirac factors of the joint instead.
        """
        return factorisation(self.graph, dirac=dirac)

    def figure(self) -> Figure:
        """Return what `dg.draw` draws of the model alone."""
        return figure(self.graph)

    def __getitem__(self, names: str | Iterable[str]) -> Joint:
        """Restrict to a marginal: `model["x"]` or `model["x", "y"]`."""
        return as_joint(self)[names]

    def __mul__(self, other: Factor | Joint) -> Joint:
        """Multiply into a joint; an input of one side may be a variable of the other."""
        return as_joint(self) * other


@final
class Unrolled(Model):
    """A chain with its time slices as variables of their own, as `Model.unroll` makes it."""

    def __init__(self, base: Model, steps: int) -> None:
        super().__init__()
        self.graph = written_out(base.graph, steps)
        self.base, self.count = base, steps

    def inputs(self) -> dict[str, Input]:
        """Return the declared inputs, one per time slice."""
        declared, source = self.base.inputs(), source_of(self.base.graph, self.count)
        return {name: declared[source[name][0]] for name in self.graph.inputs}

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the chain, once per time slice."""
        found = slice_steps(self.base.graph, self.base.steps(), self.count, owner=self)
        return tuple(found[name] for name in self.graph.names)

    def figure(self) -> Figure:
        """Return what `dg.draw` draws: time from left to right, where there are no plates."""
        has_plates = any(v.plates for v in self.graph.variables)
        return super().figure() if has_plates else unrolled(self.base.graph, self.count)

    def apart(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cut values of the chain, `[n, *plates, T, *event]`, into time slices.

        Raises:
            GraphError: An unknown name, another number of slices.
        """
        return apart(self.base.graph, self.count, values)

    def together(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join values of time slices to those of the chain, `[n, *plates, T, *event]`.

        Raises:
            GraphError: A variable that lacks some of its slices.
        """
        return together(self.base.graph, self.count, values)
