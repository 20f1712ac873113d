"""A net as it ran: its operations in order, each with the values it used and where it was written.

A recording is what every reader of nets makes (from `torch.export`, from watching a net run, from
an ONNX file) and what models are made of. It knows nothing of graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

__all__ = [
    "Held",
    "HeldBy",
    "Here",
    "Layout",
    "Op",
    "Recording",
    "Result",
    "Scene",
    "Size",
    "run",
    "used",
]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an earlier operation, by its number."""

    number: int


@dataclass(frozen=True, slots=True)
class Held:
    """A parameter, buffer or constant that the net holds, by its name; looked up at each run."""

    name: str


@dataclass(frozen=True, slots=True)
class Size:
    """A size that grows with the batch: `factor * n + offset`."""

    factor: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Here:
    """The device that the net is on."""


class Layout(NamedTuple):
    """Where the batch is in a value of the net, so that a model can carry it batch first.

    Attributes:
        shape: Sizes at the time of recording.
        dim: The dimension that holds the batch; None if none does.
        inner: How many entries of that dimension belong to one row: 8 for `[n * 8, ...]`.
        dtype: Type of the values.
    """

    shape: tuple[int, ...]
    dim: int | None
    inner: int = 1
    dtype: torch.dtype = torch.float32

    @property
    def event(self) -> tuple[int, ...]:
        """The event shape of the value carried batch first."""
        if self.dim is None:
            return self.shape
        inner = (self.inner,) if self.inner != 1 else ()
        return (*self.shape[: self.dim], *inner, *self.shape[self.dim + 1 :])

    def sized(self, n: int) -> tuple[int, ...]:
        """Return the shape for n rows."""
        if self.dim is None:
            return self.shape
        return (*self.shape[: self.dim], n * self.inner, *self.shape[self.dim + 1 :])

    def rows(self, value: Tensor, n: int) -> Tensor:
        """View a value of the net as `[n, *event]`."""
        if self.dim is None:
            return value.expand(n, *value.shape)
        if self.inner != 1:
            value = value.unflatten(self.dim, (n, self.inner))
        return value.movedim(self.dim, 0) if self.dim else value

    def value(self, rows: Tensor) -> Tensor:
        """Undo `rows`."""
        if self.dim is None:
            return rows[0]
        if self.dim:
            rows = rows.movedim(0, self.dim)
        return rows.flatten(self.dim, self.dim + 1) if self.inner != 1 else rows


@dataclass(frozen=True, slots=True)
class Op:
    """One operation.

    Attributes:
        function: What is called; for noise, a function that returns a distribution.
        arguments: Its arguments, with `Result`, `Held`, `Size` and `Here` in place of values.
        options: Its keyword arguments, likewise.
        label: A short name for people: `add`.
        path: The module calls it ran in, outermost first: `("layer1", "layer1.0@1")`.
        place: File and line of the net's own code.
        layout: Where the batch is in the result; None if the result is no tensor.
        role: `"map"`, `"noise"` (a random draw), `"input"`, or `"check"` (run for its error only).
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    path: tuple[str, ...] = ()
    place: str = ""
    layout: Layout | None = None
    role: str = "map"

    def __reduce__(self) -> tuple[Any, ...]:
        function: Any = self.function
        if isinstance(function, OpOverload):  # torch's operations are pickled by name
            function = (function.namespace, *function._schema.name.split("::")[1:])
            function = (*function, self.function._overloadname)  # type: ignore[attr-defined]
        fields = self.arguments, dict(self.options), self.label, self.path, self.place
        return _restored, (function, *fields, self.layout, self.role)


def _restored(function: Any, *fields: Any) -> Op:
    if isinstance(function, tuple):
        namespace, name, overload = function
        function = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    return Op(function, *fields)


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything a net did, in order.

    Attributes:
        ops: The operations; inputs are among them.
        outputs: What the net returned, with `Result`s in it, in its own structure.
        constants: Tensors that the net used without holding them, by the name in `Held`.
        notes: How the net was read, and what that cannot see.
        least: The smallest number of rows that it is good for.
        most: The largest; None for any.
    """

    ops: tuple[Op, ...]
    outputs: Any
    constants: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()
    least: int = 1
    most: int | None = None

    @property
    def rows(self) -> str:
        """The numbers of rows that it is good for, in words."""
        if self.least == self.most:
            return f"exactly {self.least}"
        return f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"

    @property
    def is_bounded(self) -> bool:
        """Whether there are numbers of rows that it is not good for."""
        return self.least > 1 or self.most is not None

    def fits(self, n: int) -> bool:
        """Whether it is good for so many rows."""
        return self.least <= n and (self.most is None or n <= self.most)

    def __deepcopy__(self, memo: object) -> Recording:
        return self


def used(arguments: Any) -> Iterator[Any]:
    """Iterate over the references in (nested) arguments.

    Example:
        >>> list(used(([Result(1), 2], {"other": Held("fc.weight")})))
        [Result(number=1), Held(name='fc.weight')]
    """
    if isinstance(arguments, Result | Held | Size | Here):
        yield arguments
    elif isinstance(arguments, Mapping):
        yield from used(list(arguments.values()))
    elif isinstance(arguments, Sequence) and not isinstance(arguments, str | bytes):
        for argument in arguments:
            yield from used(argument)


class HeldBy(Mapping[str, Tensor]):
    """The parameters and buffers of a net, and constants beside it, looked up when asked for."""

    def __init__(self, net: nn.Module, constants: Mapping[str, Tensor]) -> None:
        self.net, self.constants = net, constants

    def __getitem__(self, name: str) -> Tensor:
        if name in self.constants:
            return self.constants[name]
        return reduce(getattr, name.split("."), self.net)  # type: ignore[arg-type, return-value]

    def __iter__(self) -> Iterator[str]:
        return iter(self.constants)

    def __len__(self) -> int:
        return len(self.constants)


class Scene(NamedTuple):
    """What arguments are resolved against: results so far, held tensors, batch size, device."""

    results: dict[int, Any]
    held: Mapping[str, Tensor]
    n: int
    device: torch.device

    def resolve(self, argument: Any) -> Any:
        """Put values in place of references."""
        match argument:
            case Result():
                return self.results[argument.number]
            case Held():
                return self.held[argument.name]
            case Size():
                return argument.factor * self.n + argument.offset
            case Here():
                return self.device
            case list() | tuple():
                return [self.resolve(a) for a in argument]
        return argument


def run(ops: Sequence[Op], numbers: Iterable[int], scene: Scene) -> None:
    """Run some operations in order and add their results to the scene."""
    for number in numbers:
        op = ops[number]
        arguments = [scene.resolve(a) for a in op.arguments]
        options = {key: scene.resolve(a) for key, a in op.options.items()}
        scene.results[number] = op.function(*arguments, **options)
