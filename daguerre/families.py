"""Families of distributions: what torch lacks, and shorter ways where torch's take detours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    constraints,
)
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = [
    "Shared",
    "SharedNormal",
    "StandardNormal",
    "combined",
    "is_short",
    "parameter_names",
    "parameters_of",
    "pathwise_draw",
    "shared",
    "standard_noise",
    "support",
    "surprisal",
]


@final
class StandardNormal(Normal):
    """N(0, I): the prior of most deep latent-variable models, of any event shape.

    It is `Normal(torch.zeros(shape), 1.0)`; knowing that mean and scale are 0 and 1 makes its
    closed-form KL divergence, and hence a small training step, cheaper.

    Args:
        shape: Sizes of the event.

    Example:
        >>> StandardNormal(8).sample().shape
        torch.Size([8])
    """

    def __init__(self, *shape: int) -> None:
        self.loc, self.scale = torch.zeros(shape), torch.ones(shape)
        Distribution.__init__(self, self.loc.shape, validate_args=False)

    def expand(self, batch_shape: Iterable[int], _instance: object = None) -> StandardNormal:
        """Return the distribution of independent copies."""
        copy = object.__new__(StandardNormal)
        shape = torch.Size(batch_shape)
        copy.loc, copy.scale = self.loc.expand(shape), self.scale.expand(shape)
        Distribution.__init__(copy, shape, validate_args=False)
        return copy

    def __repr__(self) -> str:
        return f"StandardNormal({', '.join(map(str, self.batch_shape))})"


@final
class SharedNormal(Normal):
    """A Normal variable that all rows of the data share; see `shared`."""

    def __init__(self, loc: Tensor, scale: Tensor, rows: int) -> None:
        self.rows = rows
        super().__init__(loc, scale, validate_args=False)

    def expand(self, batch_shape: Iterable[int], _instance: object = None) -> SharedNormal:
        """Return the distribution of independent copies."""
        shape = torch.Size(batch_shape)
        return SharedNormal(self.loc.expand(shape), self.scale.expand(shape), self.rows)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return this row's part of the log-density."""
        return super().log_prob(value) / self.rows


@final
class Shared(Distribution):
    """A variable of any family that all rows of the data share; see `shared`."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}  # type: ignore[override]

    def __init__(self, base: Distribution, rows: int) -> None:
        self.base, self.rows = base, rows
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override] - a class attribute in torch
        """Whether draws carry gradients."""
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint | None:
        """The values that can be scored."""
        return self.base.support

    def expand(self, batch_shape: Iterable[int], _instance: object = None) -> Shared:
        """Return the distribution of independent copies."""
        return Shared(self.base.expand(torch.Size(batch_shape)), self.rows)

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw."""
        return self.base.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw with gradients."""
        return self.base.rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return this row's part of the log-density."""
        return self.base.log_prob(value) / self.rows


def shared(distribution: Distribution, rows: int) -> Distribution:
    r"""Return the distribution of a variable that `rows` rows of data have in common.

    Each row draws its own copy and scores $\frac1N \log p$ of it, so that over the N rows of the
    data the density counts once. The mean over a batch of a bound is then 1/N of the bound for
    all data, and an unbiased estimate of it (Blundell et al. 2015, arXiv 1505.05424, section 3.4;
    one draw a row as in Kingma, Salimans and Welling 2015, arXiv 1506.02557).

    Example:
        >>> one = Normal(torch.zeros(3), 1.0)
        >>> ten = shared(one, 10)
        >>> torch.allclose(10 * ten.log_prob(torch.ones(3)), one.log_prob(torch.ones(3)))
        True
    """
    if type(distribution) is Normal:
        return SharedNormal(distribution.loc, distribution.scale, rows)
    return Shared(distribution, rows)


def _bernoulli(distribution: Bernoulli, value: Tensor) -> Tensor:
    logits = distribution.logits
    if logits.dim() < value.dim():  # a root has the logits of one event
        logits = logits.expand_as(value)
    return binary_cross_entropy_with_logits(logits, value, reduction="none")


def _normal_draw(distribution: Normal) -> Tensor:
    return torch.addcmul(distribution.loc, standard_noise(distribution.loc), distribution.scale)


def standard_noise(like: Tensor) -> Tensor:
    """Return independent draws from N(0, 1) of the shape, type and device of a tensor."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device)


def _one_hot(distribution: OneHotCategorical, value: Tensor) -> Tensor:
    """Pick the logit of the largest entry, without indices."""
    picked = value == value.amax(-1, keepdim=True)
    return -torch.where(picked, distribution.logits, 0.0).sum(-1)


_SURPRISALS: dict[type[Distribution], Callable[[Any, Tensor], Tensor]] = {
    Bernoulli: _bernoulli,
    OneHotCategorical: _one_hot,
}
_DRAWS: dict[type[Distribution], Callable[[Any], Tensor]] = {
    Normal: _normal_draw,
    SharedNormal: _normal_draw,
    StandardNormal: lambda distribution: standard_noise(distribution.loc),
}


def pathwise_draw(distribution: Distribution) -> Tensor:
    """Return `distribution.rsample()`, the same numbers from the same seed.

    Example:
        >>> a = torch.manual_seed(0), pathwise_draw(Normal(torch.zeros(2), 3.0))
        >>> b = torch.manual_seed(0), Normal(torch.zeros(2), 3.0).rsample()
        >>> torch.allclose(a[1], b[1])
        True
    """
    rule = _DRAWS.get(type(distribution))
    return distribution.rsample() if rule is None else rule(distribution)


def combined(
    parts: Sequence[Distribution], join: Callable[[list[Tensor]], Tensor]
) -> Distribution | None:
    """Return the distribution whose parameters are those of others, joined; None if there is none.

    Args:
        parts: Distributions of one family.
        join: Makes one tensor of one from each of them.

    Example:
        >>> a, b = Normal(torch.zeros(2), 1.0), StandardNormal(3)
        >>> combined([a, b], torch.cat).batch_shape
        torch.Size([5])
    """
    kinds = {Normal if isinstance(part, StandardNormal) else type(part) for part in parts}
    if len(kinds) > 1:
        return None
    kind, first = kinds.pop(), parts[0]
    if isinstance(first, Independent):
        base = combined([part.base_dist for part in parts], join)  # type: ignore[attr-defined]
        return None if base is None else Independent(base, first.reinterpreted_batch_ndims)
    if not (names := parameter_names(*parts)):
        return None
    found: dict[str, Any] = {n: join([getattr(part, n) for part in parts]) for n in names}
    return kind(**found, validate_args=False)


def parameter_names(*parts: Distribution) -> list[str]:
    """Return what distributions of one family are made of; nothing where that is no tensors.

    Example:
        >>> parameter_names(Bernoulli(logits=torch.zeros(2))), parameter_names(StandardNormal(2))
        (['logits'], ['loc', 'scale'])
    """
    if isinstance(parts[0], MultivariateNormal):
        return ["loc", "scale_tril"]
    constraints = parts[0].arg_constraints
    names = [*constraints] if isinstance(constraints, dict) else []
    if {"probs", "logits"} <= {*names}:  # what was given, lest zeros become something else
        names.remove("logits" if all(map(_has_probs, parts)) else "probs")
    return names


def parameters_of(distribution: Distribution) -> tuple[str, ...]:
    """Say where what a distribution is made of is found in it.

    Example:
        >>> parameters_of(Independent(Normal(torch.zeros(2), 1.0), 1))
        ('base_dist.loc', 'base_dist.scale')
    """
    if isinstance(distribution, Independent):
        return tuple(f"base_dist.{path}" for path in parameters_of(distribution.base_dist))
    return tuple(parameter_names(distribution))


def _has_probs(distribution: Distribution) -> bool:
    return "probs" in getattr(distribution, "_categorical", distribution).__dict__


def is_short(distribution: Distribution) -> bool:
    """Whether a parameter of a distribution is in bfloat16."""
    names = parameter_names(distribution)
    parts = [getattr(distribution, n) for n in names] or vars(distribution).values()
    return any(
        part.dtype == torch.bfloat16 if isinstance(part, Tensor) else is_short(part)
        for part in parts
        if isinstance(part, Tensor | Distribution)
    )


def support(distribution: Distribution) -> constraints.Constraint | None:
    """Return the values that a distribution can score; None where it declares none.

    That of a Bernoulli is the whole of [0, 1]: intensities are data too, and cross-entropy
    scores them. That of a Gamma is without 0, where its density is 0 or infinite and no gradient
    is finite.

    Example:
        >>> support(Bernoulli(logits=torch.zeros(2)))
        Interval(lower_bound=0.0, upper_bound=1.0)
    """
    if isinstance(distribution, Bernoulli):
        return constraints.unit_interval
    if isinstance(distribution, Gamma):
        return constraints.positive
    try:
        return distribution.support
    except NotImplementedError:
        return None


def surprisal(distribution: Distribution, value: Tensor) -> Tensor:
    """Return `-distribution.log_prob(value)`, in nats, for a value of the distribution's shape.

    Costs are sums of surprisals, so that is what a family gives: one sign fewer per step.

    Example:
        >>> surprisal(Bernoulli(logits=torch.zeros(2)), torch.ones(2))
        tensor([0.6931, 0.6931])
    """
    rule = _SURPRISALS.get(type(distribution))
    if rule is None or distribution._validate_args:
        return -distribution.log_prob(value)
    return rule(distribution, value)
