"""Posteriors as distributions: over a list of states, and over weighted draws."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

__all__ = ["Finite", "Particles", "finite_of"]


def _moment(weights: Tensor, values: Tensor) -> Tensor:
    """Return the sums over k of weights `[*batch, k]` times values `[k, *event]`."""
    return torch.tensordot(weights, values.to(weights.dtype), dims=1)


@final
class Finite(Distribution):
    """A distribution over a list of states.

    Args:
        probs: `[*batch, k]`, each row with sum one.
        states: The values of the k states, `[k, *event]`.

    Example:
        >>> coin = Finite(torch.tensor([[0.25, 0.75]]), torch.tensor([0.0, 1.0]))
        >>> coin.mean, coin.variance
        (tensor([0.7500]), tensor([0.1875]))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}  # type: ignore[override]

    def __init__(self, probs: Tensor, states: Tensor) -> None:
        self.probs, self.states = probs, states
        super().__init__(probs.shape[:-1], states.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means, `[*batch, *event]`."""
        return _moment(self.probs, self.states)

    @property
    def variance(self) -> Tensor:
        """Variances of each component, `[*batch, *event]`."""
        squares = self.states.to(self.probs.dtype).square()
        return (_moment(self.probs, squares) - self.mean.square()).clamp(min=0)

    @property
    def mode(self) -> Tensor:
        """The most probable state, `[*batch, *event]`."""
        return self.states[self.probs.argmax(-1)]

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw states."""
        shape = torch.Size(sample_shape)
        flat = self.probs.detach().reshape(-1, self.probs.shape[-1])
        drawn = torch.multinomial(flat, shape.numel(), replacement=True).T
        return self.states[drawn.reshape(*shape, *self.batch_shape)]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability; -inf for what is no state."""
        same = value.unsqueeze(-1 - len(self.event_shape)) == self.states
        same = (
            same.flatten(same.dim() - len(self.event_shape)).all(-1) if self.event_shape else same
        )
        return (self.probs * same).sum(-1).log()


def finite_of(probs: Tensor, values: Tensor) -> Finite:
    """Return the law of a function of states: states of the same value are one.

    Args:
        probs: Of the states, `[*batch, k]`.
        values: Of the function at each state, `[k, *event]`.

    Example:
        >>> odd = finite_of(torch.tensor([0.25, 0.25, 0.5]), torch.tensor([0, 1, 0]))
        >>> odd.probs, odd.states
        (tensor([0.7500, 0.2500]), tensor([0, 1]))
    """
    own, number = values.unique(dim=0, return_inverse=True)
    sums = probs.new_zeros(*probs.shape[:-1], len(own))
    return Finite(sums.index_add(-1, number, probs), own)


@final
class Particles(Distribution):
    """A distribution over weighted draws.

    Args:
        values: `[s, *batch, *event]`.
        log_weights: `[s, *batch]`, normalised or not.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}  # type: ignore[override]

    def __init__(self, values: Tensor, log_weights: Tensor) -> None:
        self.values, self.weights = values, log_weights.softmax(0)
        batch = log_weights.shape[1:]
        super().__init__(batch, values.shape[1 + len(batch) :], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Weighted means, `[*batch, *event]`."""
        return (self._weights() * self.values).sum(0)

    @property
    def variance(self) -> Tensor:
        """Weighted variances of each component, `[*batch, *event]`."""
        return (self._weights() * (self.values - self.mean).square()).sum(0)

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw by resampling."""
        shape = torch.Size(sample_shape)
        flat = self.weights.detach().flatten(1).T  # [batch, s]
        drawn = torch.multinomial(flat, shape.numel(), replacement=True)  # [batch, draws]
        values = self.values.flatten(1, len(self.batch_shape)) if self.batch_shape else None
        values = self.values.unsqueeze(1) if values is None else values  # [s, batch, *event]
        chosen = values[drawn.T, torch.arange(values.shape[1], device=values.device)]
        return chosen.reshape(*shape, *self.batch_shape, *self.event_shape)

    def _weights(self) -> Tensor:
        return self.weights.reshape(*self.weights.shape, *[1] * len(self.event_shape))
