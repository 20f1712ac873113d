r"""Noise read off an observation, and put into another distribution of the same family.

A random variable is a mechanism x = g(parents, noise). What x would have been under other parents
is $g(\mathrm{pa}', g^{-1}(\mathrm{pa}, x))$: the noise stays. For a continuous family the
mechanism is the increasing map from its quantiles, which is $x = \mu + \sigma \epsilon$ where it
has location and scale; for a discrete one it is the Gumbel-max, whose noise is drawn from its
posterior (Oberst and Sontag 2019, arXiv 1905.05824).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Cauchy,
    Distribution,
    Exponential,
    Gumbel,
    HalfNormal,
    Independent,
    Laplace,
    LogNormal,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
    Uniform,
)

from daguerre.families import StandardNormal

__all__ = ["carry_over"]

Rule = Callable[[Any, Any, Tensor], Tensor]


def carry_over(before: Distribution, after: Distribution, value: Tensor) -> Tensor:
    """Return what `value`, drawn from `before`, would have been as a draw from `after`.

    Args:
        before: The distribution of the value as it was observed, `[n, *event]`.
        after: The same family with other parameters.
        value: The observed value, `[n, *event]`.

    Returns:
        `[n, *event]`; random where `before` is discrete, since the value does not tell its noise.

    Raises:
        NotImplementedError: The family has no mechanism here that can be read backwards.

    Example:
        >>> carry_over(Normal(0.0, 1.0), Normal(5.0, 2.0), torch.tensor([1.5]))
        tensor([8.])
    """
    rule, alike = _RULES.get(type(before)), isinstance(after, type(before))
    if rule is None or not (alike or isinstance(before, type(after))):
        became = "" if alike else f" that becomes a {type(after).__name__}"
        raise NotImplementedError(
            f"the noise of a {type(before).__name__}{became} cannot be read off its value;"
            f" families that can: {', '.join(sorted(family.__name__ for family in _RULES))}"
        )
    return rule(before, after, value)


def _located(location: str, scale: str) -> Rule:
    def rule(before: Any, after: Any, value: Tensor) -> Tensor:
        noise = (value - getattr(before, location)) / getattr(before, scale)
        return getattr(after, location) + getattr(after, scale) * noise

    return rule


def _uniform(before: Uniform, after: Uniform, value: Tensor) -> Tensor:
    share = (value - before.low) / (before.high - before.low)
    return after.low + (after.high - after.low) * share


def _log_normal(before: LogNormal, after: LogNormal, value: Tensor) -> Tensor:
    return carry_over(before.base_dist, after.base_dist, value.log()).exp()


def _multivariate(before: MultivariateNormal, after: MultivariateNormal, value: Tensor) -> Tensor:
    difference = (value - before.loc).unsqueeze(-1)
    noise = torch.linalg.solve_triangular(before.scale_tril, difference, upper=False)
    return after.loc + (after.scale_tril @ noise).squeeze(-1)


def _independent(before: Independent, after: Independent, value: Tensor) -> Tensor:
    return carry_over(before.base_dist, after.base_dist, value)


def _transformed(
    before: TransformedDistribution, after: TransformedDistribution, value: Tensor
) -> Tensor:
    for transform in reversed(before.transforms):
        value = cast(Tensor, transform.inv(value))
    value = carry_over(before.base_dist, after.base_dist, value)
    for transform in after.transforms:
        value = cast(Tensor, transform(value))
    return value


def _categorical(before: Categorical, after: Categorical, value: Tensor) -> Tensor:
    return (after.logits + _gumbels(before.logits, value)).argmax(-1)


def _one_hot(before: OneHotCategorical, after: OneHotCategorical, value: Tensor) -> Tensor:
    best = (after.logits + _gumbels(before.logits, value.argmax(-1))).argmax(-1)
    return torch.nn.functional.one_hot(best, value.shape[-1]).to(value.dtype)


def _bernoulli(before: Bernoulli, after: Bernoulli, value: Tensor) -> Tensor:
    def two(logits: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(logits), logits], -1)

    best = two(after.logits) + _gumbels(two(before.logits), value.long())
    return best.argmax(-1).to(value.dtype)


def _gumbels(logits: Tensor, best: Tensor) -> Tensor:
    """Draw the noise that made `best` the largest of `logits + noise`, of the shape of logits.

    The largest of all is a Gumbel at the log of the sum, whoever it is; the others are Gumbels
    truncated there (Maddison, Tarlow and Minka 2014, arXiv 1411.0030).
    """
    logits, best = torch.broadcast_tensors(logits, best.unsqueeze(-1))
    is_best = torch.zeros_like(logits).scatter(-1, best[..., :1], 1.0) > 0
    noise, of_top = _gumbel(logits), _gumbel(logits[..., :1])
    top = logits.logsumexp(-1, keepdim=True) + of_top
    below = -torch.logaddexp(-(logits + noise), -top)
    told = torch.where(is_best, top, below) - logits
    return torch.where(logits.isneginf(), noise, told)  # what cannot happen tells nothing


def _gumbel(like: Tensor) -> Tensor:
    return -torch.empty_like(like).exponential_().log()


_RULES: dict[type[Distribution], Rule] = {
    **dict.fromkeys((Normal, StandardNormal, Laplace, Cauchy, Gumbel), _located("loc", "scale")),
    Bernoulli: _bernoulli,
    Categorical: _categorical,
    Exponential: lambda before, after, value: value * before.rate / after.rate,
    HalfNormal: lambda before, after, value: value * after.scale / before.scale,
    Independent: _independent,
    LogNormal: _log_normal,
    MultivariateNormal: _multivariate,
    OneHotCategorical: _one_hot,
    TransformedDistribution: _transformed,
    Uniform: _uniform,
}
