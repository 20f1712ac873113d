"""Put answers for different rows of the evidence together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce, singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.infer.distributions import Finite, Particles
from daguerre.infer.exact import Result
from daguerre.infer.gaussian.distributions import Gaussian, GaussianMixture

__all__ = ["join_draws", "join_results", "join_rows", "joined", "mixed", "order_of", "reshaped"]


def order_of(rows: Sequence[Tensor], place: Tensor | None = None) -> Tensor:
    """Return where all rows stand in parts that hold some each, one part after another.

    Args:
        rows: Per part, the numbers of its rows.
        place: Per row of the result, the number of the row that it is; all in turn if None.

    Example:
        >>> order_of([torch.tensor([0, 2]), torch.tensor([1])])
        tensor([0, 2, 1])
    """
    order = torch.cat(list(rows)).argsort()
    return order if place is None else order[place.to(order.device)]


def join_rows(parts: Sequence[Tensor], order: Tensor, dim: int = 0) -> Tensor:
    """Return values of some rows each as those of all rows, in order.

    Example:
        >>> join_rows([torch.tensor([5, 7]), torch.tensor([6])], torch.tensor([0, 2, 1]))
        tensor([5, 6, 7])
    """
    return torch.cat(list(parts), dim).index_select(dim, order.to(parts[0].device))


def join_draws(parts: Sequence[Mapping[str, Tensor]], order: Tensor) -> dict[str, Tensor]:
    """Return draws `[n, rows, *event]` for some rows each as draws for all rows."""
    return {name: join_rows([part[name] for part in parts], order, 1) for name in parts[0]}


def join_results(parts: Sequence[Result], order: Tensor) -> Result:
    """Return answers for some rows each as one answer for all rows."""
    if len(parts) == 1 and len(order) == len(parts[0].log_evidence):
        return parts[0]
    marginals = {
        name: joined([p.marginals[name] for p in parts], order) for name in parts[0].marginals
    }
    evidence = join_rows([part.log_evidence for part in parts], order)
    return Result(evidence, marginals, lambda n: join_draws([p.draw(n) for p in parts], order))


def joined(parts: Sequence[Distribution], order: Tensor) -> Distribution:
    """Return posteriors of some rows each as one of all rows."""
    return _join(parts[0], parts, order)


def reshaped(one: Distribution, batch: Sequence[int]) -> Distribution:
    """View the rows of a posterior as a batch of more dimensions.

    Example:
        >>> reshaped(Finite(torch.full((6, 2), 0.5), torch.arange(2)), (2, 3)).batch_shape
        torch.Size([2, 3])
    """
    match one:
        case Finite():
            return Finite(one.probs.unflatten(0, batch), one.states)
        case Particles():
            weights = one.weights.unflatten(1, batch)
            return Particles(one.values.unflatten(1, batch), weights.log())
        case Gaussian():
            return Gaussian(*(t.unflatten(0, batch) for t in (one.mean, one.covariance_matrix)))
        case GaussianMixture():
            parts = (one.weights, one.components.mean, one.components.covariance_matrix)
            return GaussianMixture(*(part.unflatten(0, batch) for part in parts))
    raise TypeError(f"no rule views posteriors of the type {type(one).__name__} as a batch")


def mixed(one: Distribution, weights: Tensor) -> Distribution:
    """Average posteriors of S cases of each row.

    Args:
        one: Those of all cases, of batch shape `[rows S, *batch]`.
        weights: `[rows, S]`, each row with sum one; what a case of weight zero says does not
            matter.

    Example:
        >>> coins = Finite(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.arange(2))
        >>> mixed(coins, torch.tensor([[0.25, 0.75]])).probs
        tensor([[0.2500, 0.7500]])
    """
    place = len(one.batch_shape)  # of the cases: [rows, *batch, S, ...]

    def apart(value: Tensor) -> Tensor:
        return value.unflatten(0, weights.shape).movedim(1, place)

    share = weights.reshape(len(weights), *[1] * (place - 1), -1)
    share = share.expand(-1, *one.batch_shape[1:], -1)
    match one:
        case Finite():
            each = share.unsqueeze(-1) * apart(one.probs)
            return Finite(each.where(share.unsqueeze(-1) > 0, 0.0).sum(place), one.states)
        case Gaussian():
            covariance = one.covariance_matrix.expand(*one.batch_shape, -1, -1)
            return GaussianMixture(share, apart(one.mean), apart(covariance))
        case Particles():
            each = share.movedim(-1, 0).unsqueeze(1)  # [S, 1, rows, *batch]
            parts = (part.unflatten(1, weights.shape) for part in (one.values, one.weights))
            values, own = (part.movedim(2, 0) for part in parts)  # [S, particles, rows, ...]
            return Particles(values.flatten(0, 1), (each * own).flatten(0, 1).log())
    raise TypeError(f"no rule averages posteriors of the type {type(one).__name__}")


@singledispatch
def _join(first: Distribution, parts: Sequence[Distribution], order: Tensor) -> Distribution:
    raise TypeError(f"no rule joins posteriors of the type {type(first).__name__}")


@_join.register
def _(first: Finite, parts: Sequence[Finite], order: Tensor) -> Distribution:
    if all(part.states is first.states for part in parts):
        return Finite(join_rows([part.probs for part in parts], order), first.states)
    states, number = torch.cat([p.states for p in parts]).unique(dim=0, return_inverse=True)
    own = number.split([len(part.states) for part in parts])
    spread = [
        part.probs.new_zeros(*part.batch_shape, len(states)).index_copy(-1, places, part.probs)
        for part, places in zip(parts, own, strict=True)
    ]
    dtype = reduce(torch.promote_types, (probs.dtype for probs in spread))
    return Finite(join_rows([probs.to(dtype) for probs in spread], order), states)


@_join.register
def _(first: Particles, parts: Sequence[Particles], order: Tensor) -> Distribution:
    logs = join_rows([part.weights.log() for part in parts], order, 1)
    return Particles(join_rows([part.values for part in parts], order, 1), logs)


@_join.register
def _(first: Gaussian, parts: Sequence[Distribution], order: Tensor) -> Distribution:
    gaussians = [part for part in parts if isinstance(part, Gaussian)]
    if len(gaussians) < len(parts):
        return _joined_mixtures(parts, order)
    means = join_rows([part.mean for part in gaussians], order)
    return Gaussian(means, join_rows([part.covariance_matrix for part in gaussians], order))


@_join.register
def _(first: GaussianMixture, parts: Sequence[Distribution], order: Tensor) -> Distribution:
    return _joined_mixtures(parts, order)


def _joined_mixtures(parts: Sequence[Distribution], order: Tensor) -> Distribution:
    mixtures = [_mixture(part) for part in parts]
    most = max(m.weights.shape[1] for m in mixtures)

    def padded(of: Callable[[GaussianMixture], Tensor]) -> Tensor:
        return join_rows([_padded(of(m), most) for m in mixtures], order)

    return GaussianMixture(
        padded(lambda m: m.weights),
        padded(lambda m: m.components.mean),
        padded(lambda m: m.components.covariance_matrix),
    )


def _mixture(part: Distribution) -> GaussianMixture:
    if isinstance(part, GaussianMixture):
        return part
    assert isinstance(part, Gaussian)
    weights = torch.ones(part.mean.shape[0], 1, dtype=part.mean.dtype)
    return GaussianMixture(weights, part.mean.unsqueeze(1), part.covariance_matrix.unsqueeze(1))


def _padded(value: Tensor, k: int) -> Tensor:
    """Append components without weight: copies of the first, times zero where they are weights."""
    missing = k - value.shape[1]
    if not missing:
        return value
    extra = value[:, :1].expand(-1, missing, *value.shape[2:])
    return torch.cat([value, extra if value.dim() > 2 else torch.zeros_like(extra)], 1)
