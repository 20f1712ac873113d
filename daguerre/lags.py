"""Parents from earlier time slices, declared as the default of a parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.graph import GraphError, Lag

__all__ = [
    "LENGTHS",
    "Init",
    "Lagged",
    "Past",
    "Start",
    "heeds_lengths",
    "lag",
    "lags_of",
    "spread_over",
    "started",
]

LENGTHS = "lengths"  # the parameter of what says all slices at once, if it has one
Start = Tensor | float | Distribution
Init = Start | Callable[..., Start]


@dataclass(frozen=True, slots=True, eq=False)
class Lagged:
    """A parent from an earlier time slice, with what stands in for it at the beginning.

    Attributes:
        variable: The parent.
        steps: How many slices ago.
        init: What holds before there is such a slice; see `lag`.
    """

    variable: str
    steps: int
    init: Init

    @property
    def edge(self) -> Lag:
        """The edge of the graph."""
        return Lag(self.variable, self.steps)

    def check(self, name: str) -> None:
        """Refuse a law of the first state for a variable that has no such state.

        Raises:
            GraphError: `init` is a Distribution, and the parent is another variable.
        """
        if isinstance(self.init, Distribution) and self.variable != name:
            raise GraphError(
                f"{name} has the lagged parent {self.variable!r} with a Distribution for init:"
                f" that is the law of a variable itself at t = 0, so it belongs where"
                f" {self.variable} has a lag on itself; give {name} the value that stands in for"
                " the parent before the first step"
            )


class Past(NamedTuple):
    """A lagged parent of a CPD that belongs to a model.

    Attributes:
        variable: The parent.
        steps: How many slices ago.
        start: Returns what holds before there is such a slice.
    """

    variable: str
    steps: int
    start: Callable[[], Start]


def lag(variable: str, steps: int = 1, *, init: Init | None = None) -> Any:
    r"""Declare a parent from an earlier time slice: the default of a parameter of a CPD.

    `def z(self, before=dg.lag("z", init=Normal(0.0, 1.0)))` is $p(z_t \mid z_{t-1})$.

    Args:
        variable: The parent; it may be the variable itself.
        steps: How many slices ago, 1 or more; below 0 how many slices ahead, as in a net that
            reads a sequence backwards for an inference model.
        init: What holds before there is such a slice. A Tensor `[*event]` is the value of the
            parent then, so that the CPD holds from t = 0; a number stands for all components,
            where the parent is known by then to have some: as data, by a law or a Tensor of its
            own, or by its value in the slice itself. A Distribution of one
            event is the law of the variable itself then, instead of the CPD; that takes a lag on
            itself. A function returns either, so that it can be learned: of the model in a class,
            of bound modules by their names in `dg.model(...)`.

    Raises:
        GraphError: No `init`, no step, a variable that is not a name.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> start = Normal(0.0, 1.0)
        >>> dg.model(
        ...     z=lambda before=dg.lag("z", init=start): Normal(0.9 * before, 0.1),
        ...     x=lambda z: Normal(z, 1.0),
        ... ).graph
        Graph(z[t-1] -> z; z -> x)
    """
    if not isinstance(variable, str):
        raise GraphError(
            f"a lag names its variable, as in dg.lag('z', 1, init=...), not {variable!r}"
        )
    if not isinstance(steps, int) or isinstance(steps, bool) or steps == 0:
        raise GraphError(
            f"a lag goes back 1 step or more, or ahead by -1 or less, not {steps!r}:"
            f" dg.lag({variable!r}, 1, ...)"
        )
    if init is None:
        raise GraphError(
            f"dg.lag({variable!r}, {steps}) needs init: what holds before the first step. Give a"
            " value for the parent, or a Distribution for the law of the variable at t = 0"
        )
    return Lagged(variable, steps, init)


def lags_of(function: Callable[..., object]) -> dict[str, Lagged]:
    """Return the lagged parameters of a function, in their order.

    Example:
        >>> lags_of(lambda u, h=lag("z", 2, init=0.0): h)["h"].steps
        2
    """
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if isinstance(p.default, Lagged)}


def heeds_lengths(whole: Callable[..., object]) -> bool:
    """Whether what says all time slices at once takes the lengths of sequences, too.

    Example:
        >>> heeds_lengths(lambda x, before, lengths=None: x), heeds_lengths(lambda x, before: x)
        (True, False)
    """
    return LENGTHS in inspect.signature(whole).parameters


def spread_over(start: Tensor, event: Sequence[int]) -> Tensor:
    """Let a number stand for all components of an event; other values stay as they are.

    Example:
        >>> import torch
        >>> spread_over(torch.tensor(0.5), [2]), spread_over(torch.ones(3), [2])
        (tensor([0.5000, 0.5000]), tensor([1., 1., 1.]))
    """
    return start if start.dim() else start.expand(torch.Size(event))


def started(init: Init, *owner: Any, **modules: Any) -> Start:
    """Return what holds before there is a slice; a function is called with what it learns from."""
    if isinstance(init, Tensor | Distribution | float | int):
        return init
    return init(*owner, **modules)
