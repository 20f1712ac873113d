"""Linear-Gaussian state spaces as tensors, and their observations as independent numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daguerre.graph import GraphError
from daguerre.infer.chain.hmm import check_lengths

__all__ = ["Scalars", "StateSpace", "scalars"]


@dataclass(frozen=True, eq=False)
class StateSpace:
    r"""A linear-Gaussian state space with its observations.

    $z_0 \sim N(m, P)$, $z_t \sim N(F z_{t-1} + b, Q)$, $x_t \sim N(H z_t + c, R)$. Every tensor of
    a transition may be constant or come per step, `[T - 1, ...]` or `[B, T - 1, ...]`; those of
    emissions likewise with T. Known inputs belong into b and c. Covariances may be singular as
    long as no observed number is known beforehand. What is computed is computed in float64 and
    returned in the type of the values.

    Args:
        mean: m, `[d]` or `[B, d]`.
        covariance: P, `[d, d]` or `[B, d, d]`.
        transition: F, `[d, d]`.
        offset: b, `[d]`.
        noise: Q, `[d, d]`.
        emission: H, `[m, d]`.
        emission_offset: c, `[m]`.
        emission_noise: R, `[m, m]`.
        values: x, `[B, T, m]`; NaN where a component is missing.
        lengths: The number of steps of each sequence, `[B]`; what lies beyond is not looked at.

    Raises:
        GraphError: Shapes that do not belong together, lengths outside 1 to T.

    References:
        Kalman (1960), A new approach to linear filtering and prediction problems.
    """

    mean: Tensor
    covariance: Tensor
    transition: Tensor
    offset: Tensor
    noise: Tensor
    emission: Tensor
    emission_offset: Tensor
    emission_noise: Tensor
    values: Tensor
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.dim() != 3 or 0 in self.values.shape[:2] or self.mean.dim() == 0:
            raise GraphError(
                f"values have the shape {list(self.values.shape)} and mean"
                f" {list(self.mean.shape)}; expected [B, T, m] and [d] or [B, d]"
            )
        batch, steps, m = self.values.shape
        d = self.mean.shape[-1]
        for name, leads, inner in (
            ("mean", [(), (batch,)], (d,)),
            ("covariance", [(), (batch,)], (d, d)),
            ("transition", _leads(batch, steps - 1), (d, d)),
            ("offset", _leads(batch, steps - 1), (d,)),
            ("noise", _leads(batch, steps - 1), (d, d)),
            ("emission", _leads(batch, steps), (m, d)),
            ("emission_offset", _leads(batch, steps), (m,)),
            ("emission_noise", _leads(batch, steps), (m, m)),
        ):
            came = tuple(getattr(self, name).shape)
            if came not in [(*lead, *inner) for lead in leads]:
                expected = " or ".join(str([*lead, *inner]) for lead in leads)
                raise GraphError(f"{name} has the shape {list(came)}; expected {expected}")
        check_lengths(self.lengths, batch, steps)

    @property
    def sizes(self) -> tuple[int, int]:
        """The dimensions d of a state and m of an observation."""
        return self.mean.shape[-1], self.values.shape[-1]


def _leads(batch: int, steps: int) -> list[tuple[int, ...]]:
    return [(), (steps,), (batch, steps)]


@dataclass(frozen=True, eq=False)
class Scalars:
    """A state space of which each observed number has noise of its own, in float64.

    Attributes:
        mean: `[B, d]`.
        covariance: `[B, d, d]`.
        transition: `[d, d]` or `[B, T - 1, d, d]`; so are the next two.
        offset: `[d]` or with steps.
        noise: `[d, d]` or with steps.
        rows: The rows of the emission, `[m, d]` or `[B, T, m, d]`.
        variances: `[m]` or `[B, T, m]`.
        values: Observations less their offsets, `[B, T, m]`; zeros where missing.
        observed: Which are there, `[B, T, m]`; None if all.
    """

    mean: Tensor
    covariance: Tensor
    transition: Tensor
    offset: Tensor
    noise: Tensor
    rows: Tensor
    variances: Tensor
    values: Tensor
    observed: Tensor | None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All but `observed`, in the order of declaration."""
        first = (self.mean, self.covariance, self.transition, self.offset, self.noise)
        return (*first, self.rows, self.variances, self.values)

    @classmethod
    def of(cls, tensors: Sequence[Tensor], observed: Tensor | None) -> Scalars:
        """Build from `tensors`."""
        mean, covariance, transition, offset, noise, rows, variances, values = tensors
        return cls(mean, covariance, transition, offset, noise, rows, variances, values, observed)


def scalars(model: StateSpace) -> Scalars:
    r"""Turn observations into numbers of independent noise.

    $R = L D L^T$ with a unit lower-triangular L: $L^{-1} x$ has the diagonal noise D. The missing
    are first cut out of R. The determinant of L is 1, so that densities stay.

    References:
        Durbin and Koopman (2012), Time series analysis by state space methods, section 6.4.
    """
    batch = model.values.shape[0]
    values = model.values.double() - model.emission_offset.double()
    gone = values.isnan()
    observed = None
    if gone.any():
        observed, values = ~gone, torch.where(gone, 0.0, values)
    noise, rows = model.emission_noise.double(), model.emission.double()
    variances = noise.diagonal(dim1=-2, dim2=-1)
    if not _is_diagonal(noise):
        if observed is not None:
            both = observed.unsqueeze(-1) & observed.unsqueeze(-2)
            noise = torch.where(both, noise, 0.0)
        unit, variances = _unit_triangular(noise)
        values = _solve(unit, values.unsqueeze(-1)).squeeze(-1)
        rows = _solve(unit, rows)
    if rows.dim() > 2:
        rows = rows.expand(batch, *rows.shape[-3:])
    if variances.dim() > 1:
        variances = variances.expand(batch, *variances.shape[-2:])

    def steps(x: Tensor, inner: int) -> Tensor:
        x = x.double()
        return x if x.dim() == inner else x.expand(batch, *x.shape[-1 - inner :])

    return Scalars(
        model.mean.double().expand(batch, -1),
        model.covariance.double().expand(batch, -1, -1),
        steps(model.transition, 2),
        steps(model.offset, 1),
        steps(model.noise, 2),
        rows,
        variances,
        values,
        observed,
    )


def _is_diagonal(noise: Tensor) -> bool:
    off = noise - noise.diagonal(dim1=-2, dim2=-1).diag_embed()
    return not noise.requires_grad and bool((off == 0).all())


def _unit_triangular(a: Tensor) -> tuple[Tensor, Tensor]:
    """Factor symmetric `[..., m, m]` as L D L^T; columns of zero variance stay those of one."""
    m = a.shape[-1]
    columns, diagonal = [], []
    unit = torch.eye(m, dtype=a.dtype, device=a.device)
    for j in range(m):
        pivot = a[..., j, j]
        diagonal.append(pivot)
        column = a[..., :, j] / pivot.masked_fill(pivot == 0, 1.0).unsqueeze(-1)
        below = torch.arange(m, device=a.device) > j
        column = torch.where(below, column, unit[j])
        columns.append(column)
        a = a - column.unsqueeze(-1) * column.unsqueeze(-2) * pivot[..., None, None]
    return torch.stack(columns, -1), torch.stack(diagonal, -1)


def _solve(unit: Tensor, values: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(unit, values, upper=False, unitriangular=True)
