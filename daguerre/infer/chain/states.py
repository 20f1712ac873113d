"""Questions to linear-Gaussian state spaces: filtering, smoothing, evidence, draws."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from daguerre.graph import InadmissibleError
from daguerre.infer.chain.kalman import Kalman
from daguerre.infer.chain.plan import Plan, Work, choose
from daguerre.infer.chain.ssm import Scalars, StateSpace, scalars

__all__ = [
    "FilteredStates",
    "SmoothedStates",
    "draw_states",
    "filtered_states",
    "plan_of_states",
    "smoothed_states",
    "state_evidence",
]


@dataclass(frozen=True, eq=False)
class FilteredStates:
    """What the observations up to each step say of the state.

    Attributes:
        mean: `[B, T, d]`; beyond the end of a sequence as at its end.
        covariance: `[B, T, d, d]`.
        log_evidence: The log-density of the observations in nats, `[B]`.
        plan: How it was scanned.
    """

    mean: Tensor
    covariance: Tensor
    log_evidence: Tensor
    plan: Plan


@dataclass(frozen=True, eq=False)
class SmoothedStates(FilteredStates):
    """What all observations say of the state, as for `FilteredStates`."""

    kalman: Kalman

    @cached_property
    def cross(self) -> Tensor:
        r"""Covariances of neighbours $\mathrm{Cov}(z_t, z_{t+1} | x)$, `[B, T - 1, d, d]`."""
        model, layout = self.kalman.model, self.kalman.layout
        cov = _filtered(self.kalman)[1][:, :-1]
        scores = self.kalman.backward[0]
        if scores is None:
            return cov.to(self.mean.dtype)
        n = layout.unpack(scores.before.n)
        across = cov @ model.transition.mT
        predicted = model.transition @ across + model.noise
        return (across - across @ n @ predicted).to(self.mean.dtype)


def plan_of_states(model: StateSpace) -> Plan:
    """Return the plan of least predicted time.

    Example:
        >>> eye, zero = torch.eye(2), torch.zeros(2)
        >>> parts = (zero, eye, eye, zero, eye, eye, zero, eye)
        >>> plan_of_states(StateSpace(*parts, torch.zeros(1, 10_001, 2))).blocks > 20
        True
    """
    (d, m), (batch, steps) = model.sizes, model.values.shape[:2]
    vector = 4 * d**3 + 8 * m * d**2
    matrix = vector + 2 * d**3 + 4 * m * d**2
    calls = 8 + 10 * m
    cost = Work(20 * vector, 20 * matrix, 60 * d**3, calls)
    return choose(steps - 1, batch, cost, model.values.device)


def state_evidence(model: StateSpace, *, plan: Plan | None = None) -> Tensor:
    r"""Return the log-density of the observations in nats, `[B]`.

    The gradient comes from the adjoints of the smoother (Koopman and Shephard 1992).

    Args:
        model: The state space and its observations.
        plan: How to scan; the fastest by prediction where it is left out.

    Raises:
        InadmissibleError: An observed number is known beforehand, and has no density.

    Example:
        >>> one, zero = torch.ones(1, 1), torch.zeros(1)
        >>> parts = (zero, one, one, zero, one, one, zero, one)
        >>> state_evidence(StateSpace(*parts, torch.zeros(1, 1, 1)))
        tensor([-1.2655])
    """
    found = scalars(model)
    plan = plan or plan_of_states(model)
    total = _Evidence.apply(*found.tensors, found.observed, model.lengths, plan)
    assert isinstance(total, Tensor)
    return total.to(model.values.dtype)


def filtered_states(model: StateSpace, *, plan: Plan | None = None) -> FilteredStates:
    """Return the posterior of each state given the observations up to it (Kalman filter).

    Args:
        model: The state space and its observations.
        plan: How to scan; the fastest by prediction where it is left out.

    Raises:
        InadmissibleError: An observed number is known beforehand, and has no density.

    Example:
        >>> one, zero = torch.ones(1, 1), torch.zeros(1)
        >>> parts = (zero, one, one, zero, one, one, zero, one)
        >>> filtered_states(StateSpace(*parts, torch.ones(1, 2, 1))).mean[0, :, 0]
        tensor([0.5000, 0.8000])
    """
    kalman = Kalman.of(scalars(model), plan or plan_of_states(model), model.lengths)
    (mean, cov), dtype = _filtered(kalman), model.values.dtype
    evidence = _evidence(kalman).to(dtype)
    return FilteredStates(mean.to(dtype), cov.to(dtype), evidence, kalman.layout.plan)


def smoothed_states(model: StateSpace, *, plan: Plan | None = None) -> SmoothedStates:
    """Return the posterior of each state given all observations.

    Args:
        model: The state space and its observations.
        plan: How to scan; the fastest by prediction where it is left out.

    Raises:
        InadmissibleError: An observed number is known beforehand, and has no density.

    References:
        Rauch, Tung and Striebel (1965); de Jong (1989), Smoothing and interpolation with the
        state-space model; Särkkä and García-Fernández (2021), arXiv 1905.13002.

    Example:
        >>> one, zero = torch.ones(1, 1), torch.zeros(1)
        >>> parts = (zero, one, one, zero, one, one, zero, one)
        >>> smoothed_states(StateSpace(*parts, torch.ones(1, 2, 1))).mean[0, :, 0]
        tensor([0.6000, 0.8000])
    """
    kalman = Kalman.of(scalars(model), plan or plan_of_states(model), model.lengths)
    mean, cov = _smoothed(kalman)
    dtype = model.values.dtype
    evidence = _evidence(kalman).to(dtype)
    return SmoothedStates(mean.to(dtype), cov.to(dtype), evidence, kalman.layout.plan, kalman)


def draw_states(model: StateSpace, n: int, *, plan: Plan | None = None) -> Tensor:
    """Draw paths of the states from their joint posterior, `[n, B, T, d]`.

    A path is drawn from the model, with observations of its own; the difference of the two
    smoothed means then moves it to the posterior, also where covariances are singular.

    Args:
        model: The state space and its observations.
        n: The number of draws.
        plan: How to scan; the fastest by prediction where it is left out.

    Raises:
        InadmissibleError: An observed number is known beforehand, and has no density.

    References:
        Durbin and Koopman (2002), A simple and efficient simulation smoother for state space time
        series analysis.

    Example:
        >>> one, zero = torch.ones(1, 1), torch.zeros(1)
        >>> parts = (zero, one, one, zero, one, one, zero, one)
        >>> _ = torch.manual_seed(0)
        >>> draws = draw_states(StateSpace(*parts, torch.ones(1, 2, 1)), 1000)
        >>> draws.mean((0, 1, 3)).round(decimals=1)
        tensor([0.6000, 0.8000])
    """
    with torch.no_grad():
        batch, steps, _ = model.values.shape
        copied = _copies(scalars(model), n)
        path = _simulated(copied, steps)
        values = (copied.rows @ path.unsqueeze(-1)).squeeze(-1)
        values = values + copied.variances.sqrt() * torch.randn_like(values)
        values = copied.values - values
        if copied.observed is not None:
            values = values * copied.observed
        no_mean, no_offset = torch.zeros_like(copied.mean), torch.zeros_like(copied.offset)
        centred = replace(copied, mean=no_mean, offset=no_offset, values=values)
        lengths = None if model.lengths is None else model.lengths.repeat(n)
        mean, _ = _smoothed(Kalman.of(centred, plan or plan_of_states(model), lengths))
        return (path + mean).unflatten(0, (n, batch)).to(model.values.dtype)


def _copies(model: Scalars, n: int) -> Scalars:
    """Repeat all that is per sequence n times."""
    inner = {"mean": 1, "covariance": 2, "transition": 2, "offset": 1, "noise": 2, "rows": 2}
    copied = {
        name: x.repeat(n, *[1] * (x.dim() - 1))
        for name, x in vars(model).items()
        if x is not None and x.dim() > inner.get(name, 1)
    }
    return replace(model, **copied)


def _simulated(model: Scalars, steps: int) -> Tensor:
    """Draw states without looking at the observations, `[B, T, d]`."""
    noise, batch = _root(model.noise), len(model.mean)
    x = model.mean + (_root(model.covariance) @ torch.randn_like(model.mean).unsqueeze(-1))[..., 0]
    path = [x]
    for t in range(steps - 1):
        f, b, q = (
            tensor if tensor.dim() == inner else tensor[:, t]
            for tensor, inner in ((model.transition, 2), (model.offset, 1), (noise, 2))
        )
        draw = torch.randn(batch, x.shape[-1], 1, dtype=x.dtype, device=x.device)
        x = (f @ x.unsqueeze(-1) + q @ draw).squeeze(-1) + b
        path.append(x)
    return torch.stack(path, 1)


def _root(covariance: Tensor) -> Tensor:
    """Return a factor of a covariance, which may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt().unsqueeze(-2)


def _smoothed(kalman: Kalman) -> tuple[Tensor, Tensor]:
    """Return smoothed means and covariances, `[B, T, d]` and `[B, T, d, d]`."""
    filtered, adjoints = _filtered(kalman), _adjoints(kalman)
    (mean, cov), (r, n) = filtered, adjoints
    mean = mean + (cov @ r.unsqueeze(-1)).squeeze(-1)
    cov = cov - cov @ n @ cov
    return mean, (cov + cov.mT) / 2


def _filtered(kalman: Kalman) -> tuple[Tensor, Tensor]:
    begun = kalman.begun[0]
    mean, cov = begun.x[:, 0].T, begun.cov.movedim(-1, 0)
    if not kalman.steps:
        return mean.unsqueeze(1), cov.unsqueeze(1)
    states, unpack = kalman.forward[0], kalman.layout.unpack
    return unpack(states.x[:, :, 0], after=mean), unpack(states.cov, after=cov)


def _adjoints(kalman: Kalman) -> tuple[Tensor, Tensor]:
    """Return the adjoints of the filtered states, `[B, T, d]` and `[B, T, d, d]`."""
    scores, first = kalman.backward
    r, n = first.after.r.T, first.after.n.movedim(-1, 0)
    if scores is None:
        return r.unsqueeze(1), n.unsqueeze(1)
    unpack = kalman.layout.unpack
    return unpack(scores.after.r, after=r), unpack(scores.after.n, after=n)


def _evidence(kalman: Kalman) -> Tensor:
    """Return the log-density of the observations, `[B]`."""
    did = kalman.begun[1]
    variance, error = did.variance.T.unsqueeze(1), did.error[:, 0].T.unsqueeze(1)  # [B, 1, m]
    if kalman.steps:
        unpack, later = kalman.layout.unpack, kalman.forward[1]
        variance = unpack(later.variance, after=variance[:, 0])
        error = unpack(later.error[:, :, 0], after=error[:, 0])
    if (variance <= 0).any():
        b, t, j = (variance <= 0).nonzero()[0].tolist()
        raise InadmissibleError(
            f"number {j} of the observation at step {t} of sequence {b} is known beforehand: its"
            f" predicted variance is {variance[b, t, j].item():g}, so it has no density; give the"
            " observation some noise, or leave out what is observed twice"
        )
    terms = variance.log() + error.square() / variance
    observed = kalman.model.observed
    constant = math.log(2 * math.pi)
    terms = terms + constant * (1.0 if observed is None else observed.to(terms.dtype))
    if (ragged := kalman.layout.ragged) is not None:
        terms = torch.cat([terms[:, :1], terms[:, 1:] * ragged.inside.unsqueeze(-1)], 1)
    return -terms.sum((1, 2)) / 2


class _Evidence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, observed, lengths, plan = inputs
        ctx.save_for_backward(*tensors, observed, lengths)
        ctx.plan = plan
        return _evidence(Kalman.of(Scalars.of(tensors, observed), plan, lengths))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        *tensors, observed, lengths = ctx.saved_tensors
        model = Scalars.of(tensors, observed)
        kalman = Kalman.of(model, ctx.plan, lengths)
        found = [*_first_scores(kalman), *_transition_scores(kalman), *_emission_scores(kalman)]
        weighted = [
            _weighted(score, gradients[0], tensor)
            for score, tensor in zip(found, model.tensors, strict=True)
        ]
        return (*weighted, None, None, None)


def _weighted(score: Tensor, weight: Tensor, like: Tensor) -> Tensor:
    """Sum scores `[B, ...]` or `[B, T, ...]` over what shares a tensor, weighted per sequence."""
    score = score * weight[(..., *[None] * (score.dim() - 1))]
    return score if score.dim() == like.dim() else score.sum((0, 1))


def _first_scores(kalman: Kalman) -> list[Tensor]:
    """Return the gradients by mean and covariance of the first state."""
    before = kalman.backward[1].before
    r, n = before.r.T, before.n.movedim(-1, 0)
    return [r, (r.unsqueeze(-1) * r.unsqueeze(-2) - n) / 2]


def _transition_scores(kalman: Kalman) -> list[Tensor]:
    """Return the gradients by transition, offset and noise, `[B, T - 1, ...]`."""
    scores, model = kalman.backward[0], kalman.model
    if scores is None:
        d = model.mean.shape[-1]
        empty = model.mean.new_zeros(len(model.mean), 0, d, d)
        return [empty, empty[..., 0], empty]
    r, n = kalman.layout.unpack(scores.before.r), kalman.layout.unpack(scores.before.n)
    if (ragged := kalman.layout.ragged) is not None:
        r, n = r * ragged.inside[..., None], n * ragged.inside[..., None, None]
    mean, cov = (x[:, :-1] for x in _filtered(kalman))
    spread = r.unsqueeze(-1) * r.unsqueeze(-2) - n
    by_transition = r.unsqueeze(-1) * mean.unsqueeze(-2) + spread @ model.transition @ cov
    return [by_transition, r, spread / 2]


def _emission_scores(kalman: Kalman) -> list[Tensor]:
    """Return the gradients by rows of the emission, variances and values, `[B, T, ...]`."""
    scores, first = kalman.backward
    parts = [first.error.T, first.spread.T, first.gain.movedim(-1, 0)]
    parts = [part.unsqueeze(1) for part in parts]
    if scores is not None:
        packed = (scores.error, scores.spread, scores.gain)
        pairs = zip(packed, parts, strict=True)
        parts = [kalman.layout.unpack(x, after=part[:, 0]) for x, part in pairs]
    error, spread, gain = parts
    if (ragged := kalman.layout.ragged) is not None:
        inside = torch.cat([torch.ones_like(ragged.inside[:, :1]), ragged.inside], 1)
        error, spread = error * inside[..., None], spread * inside[..., None]
        gain = gain * inside[..., None, None]
    mean, _ = _smoothed(kalman)
    by_rows = error.unsqueeze(-1) * mean.unsqueeze(-2) - gain
    return [by_rows, (error.square() - spread) / 2, -error]
