"""Discrete families of which all states can be listed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    OneHotCategorical,
)

__all__ = ["draw_state", "split_numbers", "state_count", "state_log_probs", "states"]


def state_count(distribution: Distribution, *, is_root: bool) -> int | None:
    """Return how many values one event can take; None where they cannot be listed.

    Args:
        distribution: What a CPD returned.
        is_root: Whether it is that of one event; otherwise its first dimension is the batch.

    Example:
        >>> state_count(Bernoulli(logits=torch.zeros(7, 3)), is_root=False)
        8
    """
    if isinstance(distribution, Independent):
        return state_count(distribution.base_dist, is_root=is_root)
    components = math.prod(distribution.batch_shape[0 if is_root else 1 :])
    match distribution:
        case Bernoulli():
            return 2**components
        case Categorical():
            return distribution.param_shape[-1] ** components  # logits would be made here
        case OneHotCategorical():
            return distribution.event_shape[0] ** components
    return None


def states(distribution: Distribution, *, is_root: bool) -> Tensor:
    """Return all values of one event, `[state_count, *event]`.

    Example:
        >>> states(Bernoulli(logits=torch.zeros(7, 2)), is_root=False)
        tensor([[0., 0.],
                [0., 1.],
                [1., 0.],
                [1., 1.]])
        >>> states(Categorical(logits=torch.zeros(3)), is_root=True)
        tensor([0, 1, 2])
    """
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    shape = distribution.batch_shape[0 if is_root else 1 :]
    each = distribution.enumerate_support(expand=False).flatten(
        0, len(distribution.batch_shape)
    )  # [c, *event]: the dimensions of the batch are 1
    index = torch.arange(len(each), device=each.device)
    grid = torch.cartesian_prod(*[index] * math.prod(shape)).reshape(-1, *shape)
    return each[grid]


def state_log_probs(distribution: Distribution, *, is_root: bool) -> Tensor | None:
    """Return the log-probabilities of all states, `[state_count, m]`, where they can be read off.

    Example:
        >>> state_log_probs(Categorical(probs=torch.tensor([[0.5, 0.25, 0.25]])), is_root=False)
        tensor([[-0.6931],
                [-1.3863],
                [-1.3863]])
    """
    is_one = len(distribution.batch_shape) == (0 if is_root else 1)
    if is_one and isinstance(distribution, Categorical | OneHotCategorical):
        logits = distribution.logits
        return logits[:, None] if is_root else logits.T
    return None


def draw_state(distribution: Distribution) -> Tensor:
    """Draw from a distribution without a pathwise gradient.

    A Bernoulli is drawn from uniform numbers: compiled code has other numbers for torch's own.

    Example:
        >>> draw_state(Bernoulli(probs=torch.tensor([0.0, 1.0])))
        tensor([0., 1.])
    """
    if isinstance(distribution, Independent):
        return draw_state(distribution.base_dist)
    if not isinstance(distribution, Bernoulli):
        return distribution.sample()
    probs = distribution.probs
    chance = torch.rand(probs.shape, dtype=probs.dtype, device=probs.device)
    return (chance < probs).to(probs.dtype)


def split_numbers(numbers: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the states of several variables for numbers of their joint states, the last fastest.

    It is `torch.unravel_index`, which takes most of a second to load.

    Example:
        >>> split_numbers(torch.arange(6), (2, 3))
        (tensor([0, 0, 0, 1, 1, 1]), tensor([0, 1, 2, 0, 1, 2]))
    """
    found: list[Tensor] = []
    for size in reversed(sizes):
        found.append(numbers % size)
        numbers = numbers // size
    return tuple(reversed(found))
