"""The second front end: models from functions and distributions, and models rewritten.

`dg.model(z=..., x=...)` builds what a class body builds; `dg.replace` and `dg.do` return new
models that share parameters with the old one and leave it as it was.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import lru_cache, partial
from operator import is_not
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform

from daguerre.cpds import Conditional, Tabular
from daguerre.declare import Input, Node, all_plates, place_of, variable_of, within
from daguerre.devices import device_of
from daguerre.graph import Graph, GraphError, Plate, Plated, Variable, did_you_mean
from daguerre.lags import LENGTHS, Lagged, Past, Start, heeds_lengths, lags_of, started
from daguerre.model import Model, check_names
from daguerre.program import Outcome, Step

__all__ = [
    "CPD",
    "do",
    "lags_of_cpd",
    "model",
    "place_of_cpd",
    "read_cpd",
    "replace",
    "start_of",
]

CPD = Distribution | Tensor | nn.Module | Node[...] | Plated | Callable[..., Any]


class Call(nn.Module):
    """A CPD as a module: a function, a constant or another module, with the modules it uses."""

    def __init__(
        self,
        function: Callable[..., Outcome],
        modules: Mapping[str, nn.Module],
        whole: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.function, self.whole = function, whole
        self.heeds_lengths = whole is not None and heeds_lengths(whole)
        for name, module in modules.items():
            self.add_module(name, module)
        self.bound = tuple(modules)
        names = tuple(inspect.signature(function).parameters)
        self.order = tuple(n for n in names if n not in modules)

    def forward(self, *parents: Tensor) -> Outcome:
        """Return what the function returns for these values of the parents."""
        return self.function(**self._taken(parents))

    def over_time(self, *parents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return what a recursion gives for all steps at once."""
        assert self.whole is not None, "only a recursion that declares it"
        told = {LENGTHS: lengths} if self.heeds_lengths else {}
        return self.whole(**self._taken(parents), **told)

    def _taken(self, parents: tuple[Tensor, ...]) -> dict[str, Any]:
        modules = {name: self._modules[name] for name in self.bound}
        return {**dict(zip(self.order, parents, strict=True)), **modules}


class Constant(nn.Module):
    """A parentless CPD: a fixed distribution, tensor or transform.

    A tensor becomes a buffer; the tensors of a distribution move with the module, too, but are no
    part of its state.
    """

    def __init__(self, value: Outcome) -> None:
        super().__init__()
        if isinstance(value, Tensor):
            self.register_buffer("value", value)
        else:
            self.value = value

    def forward(self) -> Outcome:
        """Return the constant."""
        return self.value

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Constant:  # noqa: FBT001, FBT002 - torch's
        if isinstance(self.value, Distribution):
            self.value = _moved(self.value, fn)
        return super()._apply(fn, recurse)


def _moved(distribution: Distribution, move: Callable[[Tensor], Tensor]) -> Distribution:
    """Return a distribution with its tensors moved, those of distributions inside it too."""
    copied = copy(distribution)
    for name, part in vars(distribution).items():
        if isinstance(part, Tensor):
            vars(copied)[name] = move(part)
        elif isinstance(part, Distribution):
            vars(copied)[name] = _moved(part, move)
    return copied


def _gather(cpds: Sequence[nn.Module]) -> None:
    """Move constants to the device of the nets that they meet: they were made without knowing."""
    constants = [cpd for cpd in cpds if isinstance(cpd, Constant)]
    device = device_of(cpd for cpd in cpds if not isinstance(cpd, Constant))
    if device is not None and device != torch.get_default_device():
        for constant in constants:
            constant.to(device)


class Composed(Model):
    """A model assembled from CPDs, perhaps on top of another model whose parameters it shares."""

    def __init__(
        self, graph: Graph, cpds: Mapping[str, nn.Module | Input], base: Model | None = None
    ) -> None:
        super().__init__()
        self.graph = graph
        self.base = base
        self._made: tuple[tuple[nn.Module | None, ...], tuple[Step, ...]] | None = None
        self._given = {n: c for n, c in cpds.items() if isinstance(c, Input)}
        for name, cpd in cpds.items():
            if isinstance(cpd, nn.Module):
                self.add_module(_slot(name), cpd)
        modules = [cpd for cpd in cpds.values() if isinstance(cpd, nn.Module)]
        _gather([*modules, base] if base is not None else modules)

    def inputs(self) -> dict[str, Input]:
        """Return the declared inputs, those of the base included."""
        base = self.base.inputs() if self.base is not None else {}
        both = base | self._given
        return {n: both[n] for n in self.graph.inputs}

    def steps(self) -> tuple[Step, ...]:
        """Return the steps of the base, with the CPDs of this model in their place."""
        if self.base is not None:
            return self._steps({s.name: s for s in self.base.steps()})
        modules = tuple(self._modules.values())
        if self._made is None or any(map(is_not, self._made[0], modules)):
            self._made = modules, self._steps({})
        return self._made[1]

    def _steps(self, base: Mapping[str, Step]) -> tuple[Step, ...]:

        def step(variable: Variable) -> Step:
            if variable.map == "input":
                return Step(variable, None, "input")
            cpd = self._modules.get(_slot(variable.name))
            if cpd is None:
                return base[variable.name]
            lags = lags_of_cpd(cpd) if variable.lags else ()
            past = tuple(Past(x.variable, x.steps, partial(start_of, cpd, x)) for x in lags)
            whole = cpd.over_time if isinstance(cpd, Call) and cpd.whole is not None else None
            return Step(variable, cpd, place_of_cpd(cpd), past, whole=whole)

        return tuple(step(v) for v in self.graph.variables)


@lru_cache(maxsize=4096)
def _slot(name: str) -> str:
    """Return where the module of a variable is kept: any name has a place, and its own."""
    slot = "".join({".": "/", "/": "~/", "~": "~~"}.get(c, c) for c in name)
    taken = not name or name.startswith("_") or name in {"base", "training"}
    return f"{slot}~" if taken or hasattr(Model, slot) else slot


def place_of_cpd(cpd: nn.Module) -> str:
    """Return file and line of what a module of a model computes."""
    match cpd:
        case Constant():
            return ""
        case Call():
            return place_of(cpd.function)
    return place_of(type(cpd).forward)


def lags_of_cpd(cpd: Callable[..., object]) -> tuple[Lagged, ...]:
    """Return the lagged parents of a CPD, in the order in which they follow the others."""
    match cpd:
        case Call():
            return tuple(lags_of(cpd.function).values())
        case nn.Module():
            return tuple(lags_of(cpd.forward).values())
    return tuple(lags_of(cpd).values())


def start_of(cpd: Callable[..., object], lagged: Lagged) -> Start:
    """Return what stands in for a lagged parent before there is one.

    Args:
        cpd: The CPD, bound to its model.
        lagged: One of its lagged parents.
    """
    init = lagged.init
    if isinstance(cpd, Call) and callable(init):
        return started(init, **{n: cpd._modules[n] for n in inspect.signature(init).parameters})
    return started(init, cpd.__self__ if inspect.ismethod(cpd) else cpd)


def model(**cpds: CPD | Input) -> Model:
    """Build a model from CPDs by name: the functional front end, for programs and short models.

    Args:
        cpds: Per variable, a Distribution or Tensor (a root), a function or module whose parameter
            names are the parents and that returns a Distribution, `dg.rv(...)`,
            `dg.deterministic(...)` or `dg.bijection(...)` around one, or `dg.Input(...)`.

    Raises:
        GraphError: As for a class: unknown parents, cycles, reserved names; also a function that
            uses a module from outside, whose parameters would not be trained.

    Example:
        >>> from torch.distributions import Normal
        >>> p = model(z=Normal(0.0, 1.0), x=lambda z: Normal(2 * z, 1.0))
        >>> p.graph.edges, p.log_prob(p.sample(5)).shape
        ((('z', 'x'),), torch.Size([5]))
    """
    check_names(cpds)
    read = {name: read_cpd(name, cpd) for name, cpd in cpds.items()}
    plates = all_plates(_plates_of(cpd) for cpd in cpds.values())
    return _composed(Graph((variable for variable, _ in read.values()), plates), read, None)


def replace(model: Model, **cpds: CPD | Input) -> Model:
    """Return the model with some CPDs swapped; the others keep sharing their parameters.

    Raises:
        GraphError: A name that the model has not, or a swap that leaves no graph.

    Example:
        >>> from torch.distributions import Normal
        >>> from daguerre import deterministic
        >>> p = model(z=Normal(0.0, 1.0), x=lambda z: Normal(2 * z, 1.0))
        >>> replace(p, x=deterministic(lambda z: torch.tanh(z))).kind("x"), p.kind("x")
        ('implicit', 'prescribed')
    """
    read = {name: read_cpd(name, cpd) for name, cpd in cpds.items()}
    graph = model.graph.with_variables(
        *(
            variable if variable.plates else dataclasses.replace(variable, plates=plates)
            for variable, _ in read.values()
            for plates in [model.graph[variable.name].plates]
        )
    )
    return _composed(graph, read, model)


def _plates_of(cpd: CPD | Input) -> tuple[Plate, ...]:
    return cpd.plates if isinstance(cpd, Plated) else ()


def do(model: Model, **values: Tensor | float | str) -> Model:
    """Return the model under an intervention: arrows into the variables are cut (Pearl's do).

    Args:
        model: The model; it stays as it is.
        values: Per variable, the event `[*event]` it is set to, or the name of its state.

    Raises:
        GraphError: An unknown name, of a variable or of a state.

    Example:
        >>> from torch.distributions import Normal
        >>> p = do(model(z=Normal(0.0, 1.0), x=lambda z: Normal(2 * z, 1.0)), x=3.0)
        >>> p.sample(2)["x"], p.graph.edges
        (tensor([3., 3.]), ())
    """
    graph = model.graph.do(values)
    constants = {
        name: torch.as_tensor(_state(model, name, value) if isinstance(value, str) else value)
        for name, value in values.items()
    }
    read = {name: read_cpd(name, value) for name, value in constants.items()}
    return _composed(graph, read, model)


def _state(model: Model, name: str, state: str) -> int:
    cpd = next(step.cpd for step in model.steps() if step.name == name)
    states = cpd.states if isinstance(cpd, Tabular) else None
    if states is None:
        raise GraphError(f"do({name}={state!r}): its states have no names; give a number")
    if state not in states:
        raise GraphError(f"{name} has no state {state!r}{did_you_mean(state, states)}")
    return states.index(state)


Read = tuple[Variable, nn.Module | Input]


def _composed(graph: Graph, read: Mapping[str, Read], base: Model | None) -> Composed:
    return Composed(graph, {name: cpd for name, (_, cpd) in read.items()}, base)


def read_cpd(name: str, cpd: CPD | Input) -> Read:
    """Return the variable that a CPD declares, and the CPD as a module.

    Raises:
        GraphError: It uses a module, or a tensor that is learned, from outside.
        TypeError: It is no CPD.
    """
    match cpd:
        case Plated():
            variable, module = read_cpd(name, cpd.declared)
            return within(variable, cpd.plates), module
        case Input():
            return Variable(name, map="input"), cpd
        case Distribution():
            _refuse_learned(name, cpd)
            return Variable(name), Constant(cpd)
        case Tensor():
            _refuse_learned(name, cpd)
            return Variable(name, map="deterministic"), Constant(cpd)
        case Node(constant=Transform() as transform):
            _refuse_learned(name, transform)
            return cpd.variable(name, skip=1), Constant(transform)
        case Conditional():
            return Variable(name, cpd.parents), cpd
        case Node():
            return cpd.variable(name), _module(name, cpd.function, cpd.modules, cpd.whole)
        case nn.Module():
            return variable_of(name, cpd, name), cpd
        case _ if callable(cpd):
            return variable_of(name, cpd, name), _module(name, cpd, {})
    raise TypeError(f"{name}: expected a Distribution, function, module or Tensor, not {cpd!r}")


def _module(
    name: str,
    function: Callable[..., Outcome],
    modules: Mapping[str, nn.Module],
    whole: Callable[..., Tensor] | None = None,
) -> nn.Module:
    if isinstance(function, nn.Module):
        return function
    _refuse_outside(name, function)
    if whole is not None:
        _refuse_outside(name, whole)
    return Call(function, modules, whole)


def _refuse_learned(name: str, constant: Outcome) -> None:
    if _is_learned(constant):
        raise GraphError(
            f"{name}: the {type(constant).__name__} requires a gradient, but a plain value"
            " registers no parameters, so it would be neither trained nor saved; write a module"
            " whose forward() returns it"
        )


def _is_learned(value: object, above: tuple[object, ...] = ()) -> bool:
    if any(value is one for one in above):
        return False  # a transform leads back to itself through its inverse
    match value:
        case Tensor():
            return value.requires_grad
        case Distribution() | Transform():
            return any(_is_learned(part, (*above, value)) for part in vars(value).values())
        case list() | tuple():
            return any(_is_learned(part, above) for part in value)
    return False


def _refuse_outside(name: str, function: Callable[..., object]) -> None:
    if inspect.ismethod(function) and isinstance(function.__self__, nn.Module):
        raise GraphError(
            f"{name}: a method leaves its {type(function.__self__).__name__} behind, which would"
            f" be neither trained, saved nor copied; pass it along:"
            f" dg.rv(lambda ..., net: net.{function.__name__}(...), net=net)"
        )
    if not inspect.isfunction(function):
        return
    scope = inspect.getclosurevars(function)
    for key, value in (*scope.nonlocals.items(), *scope.globals.items()):
        if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad):
            raise GraphError(
                f"{name}: its function uses {key!r} from outside, which would be neither trained,"
                f" saved nor copied; pass it along: dg.rv(lambda ..., {key}: ..., {key}={key})"
            )
