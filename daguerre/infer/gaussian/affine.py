"""Find out whether a CPD is linear Gaussian, and with what weights, from its code alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import (
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    Transform,
)

from daguerre.cpds import Affine, LinearGaussian
from daguerre.families import StandardNormal
from daguerre.infer.gaussian.tracking import NoDraws, NotAffineError, Tracked
from daguerre.program import Outcome, validation

__all__ = ["Affine", "read_affine"]

# what the code of a CPD may raise on a tensor that is followed
FAILURES = (RuntimeError, TypeError, ValueError, AttributeError, LookupError)


def read_affine(
    cpd: Callable[..., Outcome],
    arguments: Sequence[str],
    *,
    events: Mapping[str, Sequence[int]],
    states: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Affine | str:
    r"""Return bias, weights and scale of a linear-Gaussian CPD, or the reason why it is none.

    $p(v \mid x, s) = N(v;\, b_s + \sum_i W_{i,s}\, x_i,\, S_s S_s^T)$. That the mean is affine and
    that the scale is constant is proved, by following the parents through every operation
    (daguerre.infer.gaussian.tracking); the numbers are then read off at zero and at unit vectors,
    with the gradients of the CPD's parameters.

    Args:
        cpd: A function of values `[n, *event]` of its parents. It returns a Normal, a
            multivariate normal or a tensor (a deterministic CPD, of scale 0), `[n, *event]`;
            without parents, `[*event]`.
        arguments: The parents, in the order in which `cpd` takes them.
        events: Event shapes of the continuous parents.
        states: The values of the discrete parents, `[k, *event]` each.
        dtype: Type of the continuous values; torch's default if None. A LinearGaussian is read
            in its own.
        device: Where the CPD's parameters are; torch's default if None.

    Returns:
        Events flattened: bias `[*states, d]`, weights per continuous parent
        `[*states, d, d of the parent]` and scale `[*states, d, d]`, where `*states` are the
        numbers of states of the discrete parents, in the order of `arguments`.

    Example:
        >>> scale = torch.tensor([0.5, 2.0])
        >>> def cpd(z, k):
        ...     return Normal(3 * z + 1, scale[k])
        >>> found = read_affine(cpd, ["z", "k"], events={"z": []}, states={"k": torch.arange(2)})
        >>> found.bias.tolist(), found.weights["z"].flatten().tolist()
        ([[1.0], [1.0]], [3.0, 3.0])
        >>> found.scale.flatten().tolist()
        [0.5, 2.0]
        >>> read_affine(lambda z: Normal(z.abs(), 1.0), ["z"], events={"z": []})
        'abs of a parent is not affine'
    """
    probe = _Probe.of(cpd, arguments, events=events, states=states or {})
    if isinstance(cpd, LinearGaussian) and cpd.parents == probe.arguments:
        return _at(cpd.affine(), probe)
    dtype = dtype or torch.get_default_dtype()
    try:
        with validation(enabled=False):
            points = probe.points(2, dtype=dtype, device=device)
            with torch.no_grad(), NoDraws():
                found = probe.moments(points, tracked=True)
            return _read(probe, points, found)
    except NotAffineError as error:
        return str(error)
    except FAILURES as error:
        line = str(error).strip().partition("\n")[0]
        return f"the CPD fails on tensors that are followed: {type(error).__name__}: {line}"


class _Moments(NamedTuple):
    """Means `[n, d]` and factors of the covariance `[n, d, d]`."""

    mean: Tensor
    scale: Tensor


class _Probe(NamedTuple):
    """A CPD as a function of the flattened continuous parents, for every discrete configuration.

    Attributes:
        cpd: The CPD.
        arguments: Its parents, in order.
        events: Event shapes of the continuous ones.
        states: Values of the discrete ones, in the order of `arguments`.
        grid: State numbers of the configurations, per discrete parent `[configurations]`.
    """

    cpd: Callable[..., Outcome]
    arguments: tuple[str, ...]
    events: dict[str, tuple[int, ...]]
    states: dict[str, Tensor]
    grid: dict[str, Tensor]

    @classmethod
    def of(
        cls,
        cpd: Callable[..., Outcome],
        arguments: Sequence[str],
        *,
        events: Mapping[str, Sequence[int]],
        states: Mapping[str, Tensor],
    ) -> _Probe:
        events = {n: tuple(events[n]) for n in arguments if n not in states}
        states = {n: states[n] for n in arguments if n in states}
        numbers = [torch.arange(len(s), device=s.device) for s in states.values()]
        grid = [g.flatten() for g in torch.meshgrid(*numbers, indexing="ij")] if numbers else []
        return cls(cpd, tuple(arguments), events, states, dict(zip(states, grid, strict=True)))

    @property
    def cards(self) -> list[int]:
        """Numbers of states of the discrete parents."""
        return [len(s) for s in self.states.values()]

    @property
    def sizes(self) -> list[int]:
        """Numbers of components of the continuous parents."""
        return [math.prod(event) for event in self.events.values()]

    def points(self, n: int, *, dtype: torch.dtype, device: torch.device | str | None) -> Tensor:
        """Return n points in general position per configuration, `[configurations * n, d]`."""
        rows, size = math.prod(self.cards) * (n if self.arguments else 1), sum(self.sizes)
        numbers = torch.arange(1, rows * size + 1, dtype=torch.float64, device=device)
        return numbers.square().mul(0.7).sin().mul(2).to(dtype).reshape(rows, size)

    def moments(self, points: Tensor, *, tracked: bool = False) -> _Moments:
        """Call the CPD on points `[configurations * n, d]`."""
        pieces = dict(zip(self.events, points.split(self.sizes, -1), strict=True))
        values: dict[str, Tensor] = {}
        for name, piece in pieces.items():
            value = piece.reshape(-1, *self.events[name])
            values[name] = Tracked(value) if tracked else value
        copies = len(points) // math.prod(self.cards)
        for name, numbers in self.grid.items():
            values[name] = self.states[name][numbers.repeat_interleave(copies)]
        outcome = self.cpd(*[values[name] for name in self.arguments])
        found = _moments(outcome, len(points) if self.arguments else None)
        return _Moments(*(x.to(points.dtype) for x in found))


def _moments(outcome: Outcome, rows: int | None) -> _Moments:
    """Return mean and scale of what a CPD returned for so many rows; for None, of one event."""
    while isinstance(outcome, Independent):
        outcome = outcome.base_dist
    if isinstance(outcome, Transform):
        raise NotAffineError("a bijection is not followed")
    if isinstance(outcome, Tensor):
        mean, scale = outcome, torch.zeros_like(outcome)[..., None, None]
    elif type(outcome) in (Normal, StandardNormal):
        mean, scale = outcome.mean, outcome.stddev[..., None, None]
    elif isinstance(outcome, MultivariateNormal | LowRankMultivariateNormal):
        mean, scale = outcome.mean, outcome.scale_tril
    else:
        raise NotAffineError(f"{type(outcome).__name__} is not Gaussian")
    if isinstance(scale, Tracked):
        raise NotAffineError("the scale depends on the parents")
    if not mean.is_floating_point():
        raise NotAffineError(f"the values are {str(mean.dtype).removeprefix('torch.')}, not real")
    if rows is None:
        mean, scale, rows = mean.unsqueeze(0), scale.unsqueeze(0), 1
    if not mean.dim() or mean.shape[0] != rows:
        raise NotAffineError(f"the mean {list(mean.shape)} loses the batch of {rows} rows")
    mean = mean.value if isinstance(mean, Tracked) else mean
    return _Moments(mean.reshape(rows, -1), _blocks(scale.reshape(rows, -1, *scale.shape[-2:])))


def _blocks(factors: Tensor) -> Tensor:
    """Return block-diagonal matrices `[n, m d, m d]` of the blocks `[n, m, d, d]`."""
    n, m, d, _ = factors.shape
    return torch.diag_embed(factors.movedim(1, -1)).permute(0, 3, 1, 4, 2).reshape(n, m * d, m * d)


def _at(affine: Affine, probe: _Probe) -> Affine:
    """Return the rows of what a module holds that belong to the states of a grid."""
    if not probe.grid:
        return affine
    places = tuple(probe.states[name][numbers].long() for name, numbers in probe.grid.items())
    bias, weights, scale = affine
    return Affine(
        _grid(bias, places, probe.cards),
        {name: _grid(weight, places, probe.cards) for name, weight in weights.items()},
        _grid(scale, places, probe.cards),
    )


def _grid(values: Tensor, places: tuple[Tensor, ...], cards: list[int]) -> Tensor:
    return values[places].reshape(*cards, *values.shape[len(places) :])


def _read(probe: _Probe, points: Tensor, proved: _Moments) -> Affine:
    """Read the weights off at zero and unit vectors; check them on points in general position.

    What is affine in all rows together may still mix rows, and a scale that no parent reaches
    may differ between them; an identity of affine functions that holds at a point in general
    position holds everywhere.
    """
    cards, size = probe.cards, points.shape[-1]
    units = torch.cat([points.new_zeros(1, size), torch.eye(size).to(points)])
    found = probe.moments(units.repeat(math.prod(cards), 1))
    mean = found.mean.reshape(*cards, 1 + size, -1)
    scale = found.scale.reshape(*cards, 1 + size, *found.scale.shape[1:])[..., 0, :, :]
    bias, slopes = mean[..., 0, :], (mean[..., 1:, :] - mean[..., :1, :]).mT
    with torch.no_grad():
        rows = points.reshape(*cards, len(points) // math.prod(cards), size)
        expected = (rows @ slopes.mT + bias.unsqueeze(-2)).reshape(proved.mean.shape)
        slack = torch.finfo(bias.dtype).eps ** 0.5
        copies = scale.unsqueeze(-3).expand(*cards, rows.shape[-2], *scale.shape[-2:])
        if not (
            torch.allclose(expected, proved.mean, rtol=slack, atol=slack)
            and torch.allclose(copies.reshape(proved.scale.shape), proved.scale, slack, slack)
        ):
            raise NotAffineError("a row of the result depends on other rows than its own")
    weights = dict(zip(probe.events, slopes.split(probe.sizes, -1), strict=True))
    return Affine(bias, weights, scale)
