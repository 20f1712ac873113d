"""Optimisers as values: hyper-parameters here, state in plain lists, updates in place.

The arithmetic is that of torch's optimisers. Written this way, a whole training step (loss,
gradients, update) is one function of tensors, which compiles into one graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop

__all__ = ["SGD", "Adam", "Optimizer", "RMSprop", "State"]

State = dict[str, list[Tensor]]


class Optimizer(Protocol):
    """A rule that turns gradients into updates."""

    def start(self, parameters: Sequence[Tensor]) -> State:
        """Return the state before the first update."""
        ...

    def update(self, parameters: list[Tensor], gradients: list[Tensor], state: State) -> None:
        """Move the parameters and the state in place by one step."""
        ...


def _zeros(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p, memory_format=torch.preserve_format) for p in parameters]


def _counter(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros((), device=parameters[0].device)]


def _decayed(parameters: list[Tensor], gradients: list[Tensor], rate: float) -> list[Tensor]:
    """Add the gradient of an L2 penalty.

    Compiled code forgets the factor of `torch.add(a, b @ c, alpha=...)` (pytorch issue 167313 is
    of its kind), which torch's own optimisers use for decay and plain descent; so the factor is
    multiplied out here, and descent is written out below.
    """
    if not rate:
        return gradients
    return [g + rate * p for p, g in zip(parameters, gradients, strict=True)]


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980).

    Attributes:
        lr: Learning rate.
        betas: Decay rates of the first and second moments.
        eps: Added to the root of the second moment.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def start(self, parameters: Sequence[Tensor]) -> State:
        """Return zero moments and step counts."""
        first, second = _zeros(parameters), _zeros(parameters)
        return {"first": first, "second": second, "steps": _counter(parameters)}

    def update(self, parameters: list[Tensor], gradients: list[Tensor], state: State) -> None:
        """Move the parameters by one step: one fused kernel eagerly, plain ones where compiled.

        The fused kernel walks memory without looking at strides, and gradients may have any:
        those of a sum are one number, expanded.
        """
        rule = {
            "amsgrad": False,
            "beta1": self.betas[0],
            "beta2": self.betas[1],
            "lr": self.lr,
            "weight_decay": 0.0,
            "eps": self.eps,
            "maximize": False,
        }
        gradients = _decayed(parameters, gradients, self.weight_decay)
        first, second, steps = state["first"], state["second"], state["steps"]
        count, n = steps[0], len(parameters)
        compiling = torch.compiler.is_compiling()
        if compiling or not all(p.is_contiguous() for p in parameters):
            counts = [count.clone() for _ in range(n)]  # each of them is counted up
            adam(parameters, gradients, first, second, [], counts, capturable=compiling, **rule)
            count += 1
        else:  # the kernel behind torch.optim.Adam(fused=True), without 100 us of front end
            count += 1
            gradients = [g if g.is_contiguous() else g.contiguous() for g in gradients]
            torch.ops.aten._fused_adam_.default(
                parameters, gradients, first, second, [], [count] * n, **rule
            )


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    Attributes:
        lr: Learning rate.
        momentum: Decay of the running gradient; 0 is plain descent.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 1e-2
    momentum: float = 0.0
    weight_decay: float = 0.0

    def start(self, parameters: Sequence[Tensor]) -> State:
        """Return zero velocities, where there is momentum."""
        return {"velocity": _zeros(parameters) if self.momentum else []}

    def update(self, parameters: list[Tensor], gradients: list[Tensor], state: State) -> None:
        """Move the parameters by one step."""
        moves = _decayed(parameters, gradients, self.weight_decay)
        if self.momentum:
            for velocity, gradient in zip(state["velocity"], moves, strict=True):
                velocity.mul_(self.momentum).add_(gradient)
            moves = state["velocity"]
        for parameter, move in zip(parameters, moves, strict=True):
            parameter.sub_(self.lr * move)


@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Tieleman and Hinton 2012).

    Attributes:
        lr: Learning rate.
        alpha: Decay rate of the second moment.
        eps: Added to the root of the second moment.
    """

    lr: float = 1e-3
    alpha: float = 0.99
    eps: float = 1e-8

    def start(self, parameters: Sequence[Tensor]) -> State:
        """Return zero second moments and step counts."""
        return {"second": _zeros(parameters), "steps": _counter(parameters)}

    def update(self, parameters: list[Tensor], gradients: list[Tensor], state: State) -> None:
        """Move the parameters by one step."""
        rmsprop(
            parameters,
            gradients,
            state["second"],
            [],
            [],
            [state["steps"][0].clone() for _ in parameters],
            foreach=False,
            capturable=torch.compiler.is_compiling(),
            lr=self.lr,
            alpha=self.alpha,
            eps=self.eps,
            weight_decay=0.0,
            momentum=0.0,
            centered=False,
        )
        state["steps"][0].add_(1)
