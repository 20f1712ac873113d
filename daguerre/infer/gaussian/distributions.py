"""Posteriors of continuous variables: Gaussians, perhaps singular, and their mixtures."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from daguerre.discrete import split_numbers
from daguerre.graph import GraphError
from daguerre.infer.gaussian.evidence import atoms_win, condition

__all__ = ["Gaussian", "GaussianMixture"]


@final
class Gaussian(Distribution):
    r"""$N(\mu, \Sigma)$ over events of any shape, of which $\Sigma$ may be singular or zero.

    Args:
        mean: `[*batch, *event]`.
        covariance: Of the d components of the flattened event, `[*batch, d, d]`; the dimensions
            of the batch may be 1.

    Raises:
        GraphError: The shapes do not belong together.

    Example:
        >>> line = Gaussian(torch.zeros(2), torch.tensor([[1.0, 2.0], [2.0, 4.0]]))
        >>> line.log_prob(torch.tensor([[1.0, 2.0], [1.0, 3.0]]))  # the second is off the line
        tensor([-1.4189,    -inf])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}  # type: ignore[override]
    has_rsample = True

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        n = covariance.dim() - 2
        batch, event = mean.shape[:n], mean.shape[n:]
        if n < 0 or mean.dim() < n or covariance.shape[-2:] != (event.numel(), event.numel()):
            raise GraphError(
                f"a mean {list(mean.shape)} and a covariance {list(covariance.shape)} do not fit"
                " together; expected [*batch, *event] and [*batch, d, d], with d = numel(event)"
            )
        self.loc, self.shared = mean, covariance
        super().__init__(batch, event, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means, `[*batch, *event]`."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The point of the highest density, `[*batch, *event]`."""
        return self.loc

    @property
    def covariance_matrix(self) -> Tensor:
        """Covariances of the flattened event, `[*batch, d, d]`."""
        return self.shared.expand(*self.batch_shape, -1, -1)

    @property
    def variance(self) -> Tensor:
        """Variances of each component, `[*batch, *event]`."""
        diagonal = self.covariance_matrix.diagonal(dim1=-2, dim2=-1)
        return diagonal.reshape(self.loc.shape)

    @cached_property
    def factor(self) -> Tensor:
        """A matrix F with covariance F F^T, `[*batch, d, d]`, or 1 where the covariance has 1."""
        return _factor(self.shared)

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw with gradients."""
        shape = self._extended_shape(torch.Size(sample_shape))
        lead = shape[: len(shape) - len(self.event_shape)]
        noise = self.loc.new_empty(*lead, self.factor.shape[-1], 1).normal_()
        return self.loc + (self.factor @ noise).reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, `[*batch]`.

        A component that is a function of those before it has no density: it counts nothing where
        the value agrees, and -inf where it does not.
        """
        return self.score(value).log_prob

    def score(self, value: Tensor) -> Score:
        """Return the log-density, and how many components have none."""
        off = value - self.loc
        lead = off.shape[: off.dim() - len(self.event_shape)]
        residual = off.reshape(*lead, -1, 1)
        size = value.abs() + self.loc.detach().abs()
        eps = torch.finfo(self.loc.dtype).eps
        slack = size.reshape(residual.shape) * eps**0.5
        # a covariance holds little more than half the digits of its factor
        found = condition(self.factor, residual, slack=slack, eps=eps**0.6)
        return Score(found.log_prob[..., 0], found.atoms.expand(lead))


class Score(NamedTuple):
    """A log-density, and of how many components it is none, both `[*batch]`."""

    log_prob: Tensor
    atoms: Tensor


@final
class GaussianMixture(Distribution):
    r"""$\sum_k w_k N(\mu_k, \Sigma_k)$: what is known of a variable below discrete ones.

    Where components have point masses, the density at such a point is the weight of the mass;
    components without one there count nothing beside it.

    Args:
        weights: `[*batch, k]`, each row with sum one. What a component of weight zero is does not
            matter; it may be NaN.
        means: `[*batch, k, *event]`.
        covariances: `[*batch, k, d, d]`, of the d components of the flattened event; the
            dimensions of the batch may be 1.

    Example:
        >>> weights, means = torch.tensor([0.5, 0.5]), torch.tensor([0.0, 2.0])
        >>> both = GaussianMixture(weights, means, torch.tensor([1.0, 3.0]).reshape(2, 1, 1))
        >>> both.mean, both.variance
        (tensor(1.), tensor(3.))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}  # type: ignore[override]

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        batch, event = weights.shape[:-1], means.shape[weights.dim() :]
        alive = weights > 0
        means = torch.where(_widen(alive, len(event)), means, 0.0)
        covariances = torch.where(_widen(alive, 2), covariances, 0.0)
        self.weights, self.components = weights, Gaussian(means, covariances)
        super().__init__(batch, event, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means, `[*batch, *event]`."""
        return self._average(self.components.loc)

    @property
    def variance(self) -> Tensor:
        """Variances of each component of the event, `[*batch, *event]`."""
        return self._average(self.components.variance + self._spread().square())

    def collapsed(self) -> Gaussian:
        """Return the Gaussian of the same mean and covariance."""
        spread = self._spread().flatten(self.weights.dim()) if self.event_shape else None
        spread = self._spread().unsqueeze(-1) if spread is None else spread
        total = self.components.covariance_matrix + spread[..., None] * spread[..., None, :]
        return Gaussian(self.mean, (_widen(self.weights, 2) * total).sum(-3))

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw."""
        with torch.no_grad():
            shape, k = torch.Size(sample_shape), self.weights.shape[-1]
            drawn = torch.multinomial(self.weights.reshape(-1, k), shape.numel(), replacement=True)
            rows = torch.arange(len(drawn), device=drawn.device)
            place = (*split_numbers(rows, self.batch_shape), drawn.T)  # [draws, rows]
            means = self.components.loc[place]
            factors = self.components.factor.expand(*self.weights.shape, -1, -1)[place]
            noise = means.new_empty(*factors.shape[:-1], 1).normal_()
            values = means + (factors @ noise).reshape(means.shape)
            return values.reshape(*shape, *self.batch_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, `[*batch]`."""
        events = len(self.event_shape)
        found = self.components.score(value.unsqueeze(value.dim() - events))
        joint = torch.where(self.weights > 0, self.weights.log() + found.log_prob, -torch.inf)
        k = joint.shape[-1]
        best = atoms_win(joint.reshape(-1, k), found.atoms.reshape(-1, k))
        return best.logsumexp(-1).reshape(joint.shape[:-1])

    def _average(self, values: Tensor) -> Tensor:
        events = len(self.event_shape)
        return (_widen(self.weights, events) * values).sum(-1 - events)

    def _spread(self) -> Tensor:
        """Return the distances of the components' means from the mean, `[*batch, k, *event]`."""
        return self.components.loc - self.mean.unsqueeze(-1 - len(self.event_shape))


def _widen(x: Tensor, dims: int) -> Tensor:
    return x.reshape(*x.shape, *[1] * dims)


def _factor(covariance: Tensor) -> Tensor:
    """Return F with F F^T = covariance: a Cholesky factor, or one by eigenvalues if singular."""
    eps = torch.finfo(covariance.dtype).eps
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    lower, info = torch.linalg.cholesky_ex(covariance)
    pivots = lower.detach().diagonal(dim1=-2, dim2=-1).square()
    if not (info.any() or (pivots <= eps**0.8 * diagonal).any()):
        return lower
    positive = diagonal > 0
    scale = torch.where(positive, diagonal, 1.0).sqrt() * positive
    inverse = torch.where(positive, 1 / torch.where(positive, scale, 1.0), 0.0)
    values, vectors = torch.linalg.eigh(covariance * inverse[..., None] * inverse[..., None, :])
    kept = values > eps * covariance.shape[-1]
    roots = torch.where(kept, values, 1.0).sqrt() * kept
    return scale[..., None] * vectors * roots[..., None, :]
