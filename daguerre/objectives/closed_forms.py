"""Closed-form KL divergences between pairs of distribution families: a registry of rules.

Rules are looked up when an objective is built, so that a training step calls a plain function
and nothing is dispatched (or compiled) while it runs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
)
from torch.distributions.kl import _dispatch_kl  # the public front end dispatches at every call
from torch.nn.functional import softplus

from daguerre.families import SharedNormal, StandardNormal

__all__ = ["Rule", "closed_form", "is_infinite"]

Rule = Callable[..., Tensor]


def _normal_normal(a: Normal, b: Normal) -> Tensor:
    ratio, shift = a.scale / b.scale, (a.loc - b.loc) / b.scale
    return _standardised(shift, ratio)


def _normal_standard(a: Normal, b: StandardNormal) -> Tensor:
    return _standardised(a.loc, a.scale)


def _standardised(loc: Tensor, scale: Tensor) -> Tensor:
    """Return (loc^2 + scale^2 - 1) / 2 - log scale, in as few kernels as it takes."""
    value = torch.rsub(scale.log(), -0.5)
    value = torch.addcmul(value, scale, scale, value=0.5)
    return torch.addcmul(value, loc, loc, value=0.5)


def _bernoulli(a: Bernoulli, b: Bernoulli) -> Tensor:
    """Return p_a (l_a - l_b) + log(1 - p_a) - log(1 - p_b), in logits l."""
    return a.probs * (a.logits - b.logits) - softplus(a.logits) + softplus(b.logits)


def _categorical(a: Categorical | OneHotCategorical, b: Categorical | OneHotCategorical) -> Tensor:
    """Return the sum of p_a (log p_a - log p_b) over the classes that a allows."""
    terms = a.probs * (a.logits - b.logits)
    return terms.masked_fill(a.probs == 0, 0.0).sum(-1)


def _shared_shared(a: SharedNormal, b: SharedNormal) -> Tensor:
    return _normal_normal(a, b) / b.rows


_RULES: dict[tuple[type, type], Rule] = {
    (Normal, Normal): _normal_normal,
    (SharedNormal, SharedNormal): _shared_shared,
    (Normal, StandardNormal): _normal_standard,
    (Bernoulli, Bernoulli): _bernoulli,
    (Categorical, Categorical): _categorical,
    (OneHotCategorical, OneHotCategorical): _categorical,
}


def closed_form(a: type[Distribution], b: type[Distribution]) -> Rule | None:
    """Return the function that computes KL(a || b) elementwise `[n, ...]`, or None.

    Wrapped distributions (Independent, TransformedDistribution) have none here: whether their
    pair has one depends on what they wrap.

    Example:
        >>> from torch.distributions import Laplace, Normal, StudentT
        >>> closed_form(Normal, Normal) is not None, closed_form(Laplace, StudentT)
        (True, None)
    """
    if (a, b) in _RULES:
        return _RULES[a, b]
    if issubclass(a, Independent | TransformedDistribution) or issubclass(
        b, Independent | TransformedDistribution
    ):
        return None
    rule = _dispatch_kl(a, b)
    return None if rule is NotImplemented else rule


def is_infinite(rule: Rule) -> bool:
    """Whether a rule says that draws of the first family leave the support of the second.

    Example:
        >>> from torch.distributions import Gamma, Normal
        >>> rule = closed_form(Normal, Gamma)
        >>> rule is not None and is_infinite(rule)
        True
    """
    return rule.__name__.endswith("_infinity")  # torch's own name for such rules
