"""The words that declare a model: `rv`, `deterministic`, `bijection`, `Input`.

The parameter names of a CPD are the parents, so `def x(self, z)` is p(x | z). What a word makes is
read once, when the class or the model is created.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, overload

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform

from daguerre.graph import GraphError, Lag, Map, Plate, Variable, did_you_mean
from daguerre.lags import LENGTHS, Lagged, lags_of
from daguerre.program import Outcome

__all__ = [
    "Input",
    "Node",
    "all_plates",
    "bijection",
    "deterministic",
    "parameters_of",
    "place_of",
    "rv",
    "variable_of",
    "within",
]

P = ParamSpec("P")


class Input:
    """Declare a variable that is always given, with its event shape where it is known.

    Args:
        shape: Sizes of the event; none if the shape is to be found from the other model.
        dtype: Type of the values.
    """

    def __init__(self, *shape: int, dtype: torch.dtype | None = None) -> None:
        self.shape = shape or None
        self.dtype = dtype or torch.float32


class Node(Generic[P]):
    """A declared CPD: what `rv`, `deterministic` and `bijection` make of a function.

    On an instance it is the bound function, so `model.x(z)` returns what the method returns. Type
    checkers see the parents but not the result: a subclass may swap a Distribution for a Dirac.
    """

    def __init__(
        self,
        function: Callable[..., Outcome],
        map_: Map,
        *,
        of: str | None = None,
        modules: Mapping[str, nn.Module] | None = None,
        constant: Transform | None = None,
        whole: Callable[..., Tensor] | None = None,
    ) -> None:
        self.function, self.of, self.constant, self.whole = function, of, constant, whole
        self.map: Map = map_
        self.modules = dict(modules or {})
        self.place = place_of(function)
        self.__doc__ = function.__doc__

    def variable(self, name: str, *, skip: int = 0) -> Variable:
        """Read the variable off the signature, without its first `skip` parameters."""
        read = variable_of(name, self.function, f"{name} ({self.place})")
        parents = read.parents[skip:]
        for module in self.modules:
            if module not in parents:
                hint = did_you_mean(module, parents)
                raise GraphError(
                    f"{name} ({self.place}) binds the module {module!r}, which its function does"
                    f" not take{hint}"
                )
        parents = tuple(p for p in parents if p not in self.modules)
        if self.whole is not None:
            check_whole(name, self.function, self.whole)
        if self.of is not None:
            parents = tuple(dict.fromkeys((self.of, *parents)))
        return replace(read, parents=parents, map=self.map, inverts=self.of)

    @overload
    def __get__(self, instance: None, owner: type) -> Node[P]: ...
    @overload
    def __get__(self, instance: Any, owner: type) -> Callable[P, Any]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        if torch.compiler.is_compiling():  # torch's tracer makes no methods
            return partial(self.function, instance)
        return MethodType(self.function, instance)


def place_of(function: Callable[..., object]) -> str:
    """Return file and line of a function, or its type where it has none."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else type(function).__name__


def parameters_of(function: Callable[..., object], what: str) -> tuple[str, ...]:
    """Return the parameter names of a CPD without lags; each is a parent.

    Raises:
        GraphError: A default, `*args` or `**kwargs`, which cannot name a parent; a built-in
            function, which names none.
    """
    read = variable_of(what, function, what)
    if read.lags:
        raise GraphError(f"{what}: it is no CPD of a chain, so it cannot have lags: {read.lags}")
    return read.parents


def variable_of(name: str, function: Callable[..., object], what: str) -> Variable:
    """Read a stochastic variable off the parameters of its CPD: parents, then lagged parents.

    Raises:
        GraphError: A default other than `dg.lag(...)`, `*args` or `**kwargs`, which cannot name a
            parent; a built-in function, which names none; a lag that comes twice.
    """
    if isinstance(function, nn.Module):
        function = function.forward
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        raise GraphError(
            f"{what}: the parameters of a CPD are its parents, but those of {function} are not"
            " known to Python; wrap it in a function that names them: lambda z: ..."
        ) from None
    lags: dict[Lag, None] = {}
    for p in parameters:
        if isinstance(p.default, Lagged) and p.default.edge not in lags:
            p.default.check(name)
            lags[p.default.edge] = None
        elif (
            p.kind not in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY) or p.default is not p.empty
        ):
            raise GraphError(
                f"{what}: the parameters of a CPD are its parents, so `{_brief(p)}` cannot be one;"
                " keep constants on self"
            )
    parents = tuple(p.name for p in parameters if p.default is p.empty)
    return Variable(name, parents, lags=tuple(lags))


def _brief(parameter: inspect.Parameter) -> str:
    """Return a parameter as it is written, on one short line."""
    is_long = len(str(parameter)) > 60
    return f"{parameter.name}=..." if is_long else str(parameter)


def rv(function: Callable[Concatenate[Any, P], Distribution], **modules: nn.Module) -> Node[P]:
    """Declare a prescribed random variable: the CPD returns a `torch` Distribution.

    As a decorator it turns a method into p(name | parameters). In `dg.model(...)` it wraps a
    function; keyword modules are bound to the parameters of the same name, registered and trained:
    `dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=mlp)`.
    """
    return Node(function, "stochastic", modules=modules)


@overload
def deterministic(
    function: Callable[Concatenate[Any, P], Tensor],
    *,
    over_time: Callable[..., Tensor] | None = None,
    **modules: nn.Module,
) -> Node[P]: ...
@overload
def deterministic(
    *, over_time: Callable[..., Tensor] | None = None, **modules: nn.Module
) -> Callable[[Callable[Concatenate[Any, P], Tensor]], Node[P]]: ...
def deterministic(
    function: Callable[..., Tensor] | None = None,
    *,
    over_time: Callable[..., Tensor] | None = None,
    **modules: nn.Module,
) -> Any:
    """Declare a deterministic variable: the CPD is a Dirac, the function returns a Tensor.

    Args:
        function: The map. As a decorator it turns a method into that.
        over_time: Where the map is a recursion, $h_t = f(h_{t-1}, x_t)$ with a lag on itself, the
            same for all steps at once, such as `nn.LSTM` for `nn.LSTMCell`. It takes the same
            parameters: what stands in for the map before the first step, `[n, *event]`, and
            whatever else the map takes for all steps, `[n, T, *event]`. It returns
            `[n, T, *event]`, and is used where all of that is known. If it takes `lengths=None`,
            too, that is how many steps each row has, `[n]`, where sequences end early: what it
            returns for steps beyond is not looked at.
        modules: Modules to register and train, by the parameter that they are bound to.

    Raises:
        GraphError: `over_time` takes other parameters than the map, which must have a lag of one
            step on itself.

    Example:
        >>> import daguerre as dg
        >>> total = dg.deterministic(
        ...     lambda x, before=dg.lag("s", init=0.0): before + x,
        ...     over_time=lambda x, before: before[:, None] + x.cumsum(1),
        ... )
        >>> p = dg.model(x=torch.distributions.Normal(0.0, 1.0), s=total)
        >>> p.sample(given={"x": torch.tensor([[1.0, 2.0, 3.0]])})["s"]
        tensor([[1., 3., 6.]])
    """
    if function is None:
        return partial(deterministic, over_time=over_time, **modules)
    return Node(function, "deterministic", modules=modules, whole=over_time)


def check_whole(name: str, function: Callable[..., object], whole: Callable[..., object]) -> None:
    """Refuse a form for all steps at once that is none of a recursion.

    Raises:
        GraphError: Other parameters than those of the recursion; none of them is the variable
            one step before, or after.
    """
    own = [one for one in lags_of(function).values() if one.variable == name]
    if [abs(one.steps) for one in own] != [1]:
        raise GraphError(
            f"{name}: over_time gives all steps of a recursion at once, so {name} has one lag on"
            f" itself, of one step: before=dg.lag({name!r}, init=...)"
        )
    expected, came = inspect.signature(function).parameters, inspect.signature(whole).parameters
    if [*expected] != [parameter for parameter in came if parameter != LENGTHS]:
        raise GraphError(
            f"{name}: over_time takes the parameters of the map, ({', '.join(expected)}), not"
            f" ({', '.join(came)})"
        )


@overload
def bijection(of: str, transform: Transform) -> Node[...]: ...
@overload
def bijection(
    of: str, transform: None = None, **modules: nn.Module
) -> Callable[[Callable[..., Transform]], Node[...]]: ...
def bijection(of: str, transform: Transform | None = None, **modules: nn.Module) -> Any:
    r"""Declare a deterministic variable that keeps a density by change of variables.

    $\log p(x) = \log p(z) - \log |\det \partial x / \partial z|$ for $x = T(z)$. The decorated
    method returns the Transform T; it takes the other parents, if any, and not the variable that
    T is applied to. `x = dg.bijection("z", ExpTransform())` declares a fixed one, and in
    `dg.model(...)` keyword modules are bound as for `dg.rv`:
    `x=dg.bijection("z", flow=dg.nn.Coupling(2))(lambda flow: flow())`.

    Args:
        of: The parent that T is applied to and that its inverse recovers.
        transform: A fixed `torch.distributions.Transform`; leave out to decorate a method.
        modules: Modules to register and train, by the parameter that they are bound to.

    Raises:
        TypeError: `of` is not a name, or the fixed transform is not a Transform.
    """
    if not isinstance(of, str):
        raise TypeError(f'name the parent that is mapped: @dg.bijection("z"), not of={of!r}')
    if transform is not None:
        if not isinstance(transform, Transform):
            raise TypeError(
                f"dg.bijection({of!r}, ...) takes a torch Transform such as ExpTransform(), not"
                f" {transform!r}"
            )
        return Node(lambda _: transform, "deterministic", of=of, constant=transform)
    return lambda function: Node(function, "deterministic", of=of, modules=modules)


def within(variable: Variable, plates: Iterable[Plate]) -> Variable:
    """Return a variable in some plates, outermost first."""
    return replace(variable, plates=tuple(plate.name for plate in plates))


def all_plates(plates: Iterable[tuple[Plate, ...]]) -> tuple[Plate, ...]:
    """Return the plates of some variables, outer ones first.

    Raises:
        GraphError: A name that is no identifier; a plate of two sizes, or a
            size below 1; two plates that nest both ways.
    """
    found: dict[str, Plate] = {}
    for those in sorted(plates, key=len, reverse=True):
        for plate in those:
            _check_plate(plate, found.setdefault(plate.name, plate))
        places = [[*found].index(plate.name) for plate in those]
        if places != sorted(places):
            names = ", ".join(plate.name for plate in those)
            raise GraphError(f"the plates {names} come in another order elsewhere; choose one")
    return tuple(found.values())


def _check_plate(plate: Plate, known: Plate) -> None:
    if not plate.name.isidentifier():
        raise GraphError(f"the name of the plate {plate.name!r} is no identifier; use another")
    if plate.size is not None and plate.size < 1:
        raise GraphError(f"the plate {plate.name} has the size {plate.size}; it is 1 or more")
    if known.size != plate.size:
        raise GraphError(f"the plate {plate.name} has two sizes: {known.size} and {plate.size}")
