r"""Draws as functions of noise, $x = g(\theta, \epsilon)$ with noise from a fixed distribution.

Location and scale for normal families, the Gumbel-max for finite ones, quantiles for others,
$F^{-1}(u)$ with u uniform on (0, 1); what is a transform of these is drawn by their noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Cauchy,
    Distribution,
    Exponential,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
    Uniform,
)

from daguerre.families import StandardNormal

__all__ = ["drawn", "standard"]


class _Rule(NamedTuple):
    """How a family is drawn.

    Attributes:
        noise: Draws noise of the shape of a tensor.
        like: Returns a tensor of the shape of the noise of a distribution.
        draw: Makes a draw of a distribution and its noise.
    """

    noise: Callable[[Tensor], Tensor]
    like: Callable[[Any], Tensor]
    draw: Callable[[Any, Tensor], Tensor]


def standard(distribution: Distribution) -> Tensor:
    """Draw noise for one draw: `[*batch, *event]`, and of a Categorical `[*batch, states]`.

    Raises:
        NotImplementedError: Draws of this family are no function of noise here.
    """
    while isinstance(distribution, Independent | TransformedDistribution):
        distribution = distribution.base_dist
    rule = _rule(distribution)
    return rule.noise(rule.like(distribution))


def drawn(distribution: Distribution, noise: Tensor) -> Tensor:
    """Return the draw that noise makes.

    Args:
        distribution: What is drawn from, `[*batch, *event]`.
        noise: Of the shape that `standard` gives.

    Raises:
        NotImplementedError: Draws of this family are no function of noise here.

    Example:
        >>> drawn(Normal(torch.tensor([5.0]), 2.0), torch.tensor([1.5]))
        tensor([8.])
        >>> drawn(Bernoulli(torch.tensor([0.3, 0.3])), torch.tensor([0.2, 0.9]))
        tensor([1., 0.])
    """
    match distribution:
        case Independent():
            return drawn(distribution.base_dist, noise)
        case TransformedDistribution():
            value = drawn(distribution.base_dist, noise)
            for transform in distribution.transforms:
                value = cast(Tensor, transform(value))
            return value
    return _rule(distribution).draw(distribution, noise)


def _rule(distribution: Distribution) -> _Rule:
    if (rule := _RULES.get(type(distribution))) is None:
        names = ", ".join(sorted(family.__name__ for family in _RULES))
        raise NotImplementedError(
            f"draws of a {type(distribution).__name__} are no function of noise here, as those of"
            f" {names} and their transforms are; export its parameters, and draw elsewhere"
        )
    return rule


def _uniform(like: Tensor) -> Tensor:
    """Draw from (0, 1), without its ends, whose quantiles may be infinite."""
    gap = torch.finfo(like.dtype).eps
    return torch.rand_like(like) * (1 - gap) + gap / 2


def _multivariate(distribution: MultivariateNormal, noise: Tensor) -> Tensor:
    return distribution.loc + (distribution.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)


def _bernoulli(distribution: Bernoulli, noise: Tensor) -> Tensor:
    return (noise < distribution.probs).to(noise.dtype)


def _categorical(distribution: Any, noise: Tensor) -> Tensor:
    return (distribution.logits - (-noise.log()).log()).argmax(-1)


def _one_hot(distribution: OneHotCategorical, noise: Tensor) -> Tensor:
    best = _categorical(distribution, noise)
    return torch.nn.functional.one_hot(best, noise.shape[-1]).to(noise.dtype)


_NORMAL = _Rule(torch.randn_like, lambda of: of.loc, lambda of, noise: of.loc + of.scale * noise)
_QUANTILE = _Rule(_uniform, lambda of: of.mean, lambda of, noise: of.icdf(noise))
_RULES: dict[type[Distribution], _Rule] = {
    **dict.fromkeys((Normal, StandardNormal), _NORMAL),
    **dict.fromkeys((Cauchy, Exponential, Laplace, Uniform), _QUANTILE),
    Bernoulli: _Rule(_uniform, lambda of: of.probs, _bernoulli),
    Categorical: _Rule(_uniform, lambda of: of.logits, _categorical),
    MultivariateNormal: _Rule(torch.randn_like, lambda of: of.loc, _multivariate),
    OneHotCategorical: _Rule(_uniform, lambda of: of.logits, _one_hot),
}
