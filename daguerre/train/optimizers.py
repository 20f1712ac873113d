"""Optimisers as values: hyper-parameters here, state in plain lists, updates in place.

The arithmetic is that of torch's optimisers. Written this way, a whole training step (loss,
gradients, update) is one function of tensors, which compiles into one graph. The rate may change
as training goes: it is a number or a schedule, and comes to each update as it is then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from daguerre.objectives.schedules import Number

__all__ = ["SGD", "Adam", "Optimizer", "RMSprop", "State"]

State = dict[str, list[Tensor]]


class Optimizer(Protocol):
    """A rule that turns gradients into updates."""

    @property
    def lr(self) -> Number:
        """Learning rate: a number, or a schedule over the updates made."""
        ...

    def start(self, parameters: Sequence[Tensor]) -> State:
        """Return the state before the first update."""
        ...

    def update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: State,
        rate: Tensor | float,
    ) -> None:
        """Move the parameters and the state in place by one step; at rate 0 parameters stay."""
        ...


def _zeros(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p, memory_format=torch.preserve_format) for p in parameters]


def _counter(parameters: Sequence[Tensor]) -> list[Tensor]:
    # single precision whatever the default is: exact for as long as it corrects anything
    return [torch.zeros((), dtype=torch.float32, device=parameters[0].device)]


def _decayed(parameters: list[Tensor], gradients: list[Tensor], rate: float) -> list[Tensor]:
    """Add the gradient of an L2 penalty.

    Compiled code forgets the factor of `torch.add(a, b @ c, alpha=...)` (pytorch issue 167313 is
    of its kind), which torch's own optimisers use for decay and plain descent; so the factor is
    multiplied out here, and descent is written out below.
    """
    if not rate:
        return gradients
    return [g + rate * p for p, g in zip(parameters, gradients, strict=True)]


def _complement(decay: float, count: Tensor) -> Tensor:
    """Return 1 - decay^count, without the digits that the difference would lose."""
    return -torch.expm1(count * math.log(decay)) if decay else torch.ones_like(count)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980).

    Attributes:
        lr: Learning rate.
        betas: Decay rates of the first and second moments.
        eps: Added to the root of the second moment.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: Number = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def start(self, parameters: Sequence[Tensor]) -> State:
        """Return zero moments and step counts."""
        first, second = _zeros(parameters), _zeros(parameters)
        return {"first": first, "second": second, "steps": _counter(parameters)}

    def update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: State,
        rate: Tensor | float,
    ) -> None:
        """Move the parameters by one step."""
        gradients = _decayed(parameters, gradients, self.weight_decay)
        state["steps"][0].add_(1)
        if torch.compiler.is_compiling() or not all(p.is_contiguous() for p in parameters):
            self._written_out(parameters, gradients, state, rate)
        else:
            self._fused(parameters, gradients, state, rate)

    def _written_out(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: State,
        rate: Tensor | float,
    ) -> None:
        one, two = self.betas
        count = state["steps"][0].to(parameters[0].dtype)
        scale, root = rate / _complement(one, count), _complement(two, count).sqrt()
        moments = zip(parameters, gradients, state["first"], state["second"], strict=True)
        for parameter, gradient, first, second in moments:
            first.lerp_(gradient, 1 - one)
            second.mul_(two).addcmul_(gradient, gradient, value=1 - two)
            parameter.sub_(scale * first / (second.sqrt() / root + self.eps))

    def _fused(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: State,
        rate: Tensor | float,
    ) -> None:
        """Call the kernel behind torch.optim.Adam(fused=True), without 100 us of front end."""
        kernel = torch.ops.aten._fused_adam_
        kernel = kernel.tensor_lr if isinstance(rate, Tensor) else kernel.default
        gradients = [g if g.is_contiguous() else g.contiguous() for g in gradients]
        kernel(
            parameters,
            gradients,
            state["first"],
            state["second"],
            [],
            state["steps"] * len(parameters),
            lr=rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=0.0,  # added above, so that both ways do the same
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    Attributes:
        lr: Learning rate.
        momentum: Decay of the running gradient; 0 is plain descent.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: Number = 1e-2
    momentum: float = 0.0
    weight_decay: float = 0.0

    def start(self, parameters: Sequence[Tensor]) -> State:
        """Return zero velocities, where there is momentum."""
        return {"velocity": _zeros(parameters) if self.momentum else []}

    def update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: State,
        rate: Tensor | float,
    ) -> None:
        """Move the parameters by one step."""
        moves = _decayed(parameters, gradients, self.weight_decay)
        if self.momentum:
            for velocity, gradient in zip(state["velocity"], moves, strict=True):
                velocity.mul_(self.momentum).add_(gradient)
            moves = state["velocity"]
        for parameter, move in zip(parameters, moves, strict=True):
            parameter.sub_(rate * move)


@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Tieleman and Hinton 2012).

    Attributes:
        lr: Learning rate.
        alpha: Decay rate of the second moment.
        eps: Added to the root of the second moment.
    """

    lr: Number = 1e-3
    alpha: float = 0.99
    eps: float = 1e-8

    def start(self, parameters: Sequence[Tensor]) -> State:
        """Return zero second moments."""
        return {"second": _zeros(parameters)}

    def update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: State,
        rate: Tensor | float,
    ) -> None:
        """Move the parameters by one step."""
        for parameter, gradient, second in zip(
            parameters, gradients, state["second"], strict=True
        ):
            second.mul_(self.alpha).addcmul_(gradient, gradient, value=1 - self.alpha)
            parameter.sub_(rate * gradient / (second.sqrt() + self.eps))
