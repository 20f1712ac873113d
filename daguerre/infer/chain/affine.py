"""A chain of Gaussian hidden variables as a linear state space: CPDs read as affine maps.

All hidden variables of a slice make one vector; a deterministic one has no noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from daguerre.graph import InadmissibleError
from daguerre.infer.chain.reading import Reading
from daguerre.infer.chain.ssm import StateSpace
from daguerre.program import misfit

__all__ = ["AffineMap", "GaussianChain", "gaussian_chain", "read_affine"]


@dataclass(frozen=True, eq=False)
class GaussianChain:
    """A state space with the names of its parts.

    Attributes:
        model: The state space and its observations.
        events: Per hidden variable, the shape of its event; they lie one after another.
    """

    model: StateSpace
    events: dict[str, torch.Size]

    def part(self, name: str) -> slice:
        """Return where a variable lies in the state."""
        names = list(self.events)
        start = sum(self.events[n].numel() for n in names[: names.index(name)])
        return slice(start, start + self.events[name].numel())


class AffineMap(NamedTuple):
    """A Gaussian whose mean is affine: N(weight x + bias, covariance).

    Attributes:
        weight: `[rows, e, i]`.
        bias: `[rows, e]`.
        covariance: `[rows, e, e]`.
    """

    weight: Tensor
    bias: Tensor
    covariance: Tensor


Moments = tuple[Tensor, Tensor]


def read_affine(
    moments: Callable[[Tensor], Moments], inputs: int, like: Tensor
) -> AffineMap | None:
    """Read an affine map off its values at 0 and at unit vectors.

    Two further points tell whether it is affine, and its covariance constant, up to rounding:
    None if it is not. (A map that is affine there and not elsewhere passes.)

    Args:
        moments: Mean `[k, rows, e]` and covariance `[k, rows, e, e]` at points `[k, inputs]`.
        inputs: The number of inputs.
        like: A tensor of their type and device.

    Example:
        >>> def moments(x):
        ...     return (2 * x.sum(-1) + 1)[:, None, None], torch.ones(len(x), 1, 1, 1)
        >>> found = read_affine(moments, 2, torch.zeros(()))
        >>> found.weight, found.bias
        (tensor([[[2., 2.]]]), tensor([[1.]]))
    """
    eye = torch.eye(inputs, dtype=like.dtype, device=like.device)
    far = torch.linspace(-7.3, 5.9, inputs, dtype=like.dtype, device=like.device) + 0.37
    points = torch.cat(
        [eye[:1] * 0 if inputs else like.new_zeros(1, 0), eye, far[None], -3 * far[None]]
    )
    mean, covariance = moments(points)
    bias = mean[0]
    weight = (mean[1 : inputs + 1] - bias).movedim(0, -1)  # [rows, e, inputs]
    expected = bias + torch.einsum("rei,ki->kre", weight, points[inputs + 1 :])
    tolerance = 1e3 * torch.finfo(mean.dtype).eps
    scale = 1 + mean.detach().abs().amax()
    spread = (covariance - covariance[0]).detach().abs().amax()
    off = (mean[inputs + 1 :] - expected).detach().abs().amax()
    if not off <= tolerance * scale or not spread <= tolerance * (
        1 + covariance.detach().abs().amax()
    ):
        return None
    return AffineMap(weight, bias, covariance[0])


def gaussian_chain(reading: Reading, lengths: Tensor | None) -> GaussianChain:
    """Read the hidden variables as one Gaussian vector per slice.

    Raises:
        InadmissibleError: A CPD is not Gaussian, or not affine in the hidden variables.
    """
    batch, steps = reading.size
    slices = _Slices(reading)
    first = slices.at(first=True)
    later = slices.at(first=False) if steps > 1 else None
    mean, cov = first.bias.expand(batch, -1), first.noise.expand(batch, -1, -1)
    d, m = mean.shape[-1], first.offset.shape[-1]
    still = later or first

    def over(x: Tensor, inner: int) -> Tensor:
        """Arrange what comes per row as constant or per step."""
        if later is None:
            return x[:1].squeeze(0)
        return x[0] if len(x) == 1 else x.unflatten(0, (batch, steps - 1))

    def seen(a: Tensor, b: Tensor) -> Tensor:
        if later is None:
            return a.expand(batch, *a.shape[1:]).unsqueeze(1)
        if len(a) == len(b) == 1 and torch.equal(a, b):
            return a[0]
        rows = b.expand(batch * (steps - 1), *b.shape[1:]).unflatten(0, (batch, steps - 1))
        return torch.cat([a.expand(batch, *a.shape[1:]).unsqueeze(1), rows], 1)

    values = [reading.data[n].reshape(batch, steps, -1) for n in slices.observed]
    model = StateSpace(
        mean,
        cov,
        over(still.transition, 2),
        over(still.bias, 1),
        over(still.noise, 2),
        seen(first.emission, still.emission),
        seen(first.offset, still.offset),
        seen(first.spread, still.spread),
        torch.cat(values, -1) if values else mean.new_zeros(batch, steps, 0),
        lengths,
    )
    assert model.sizes == (d, m)
    return GaussianChain(model, slices.events)


class _Slice(NamedTuple):
    """Tensors of a slice, with one row for all or one each."""

    transition: Tensor
    bias: Tensor
    noise: Tensor
    emission: Tensor
    offset: Tensor
    spread: Tensor


@dataclass(eq=False)
class _Slices:
    reading: Reading
    events: dict[str, torch.Size] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.reading.hidden:
            self.events[name] = self._event(name)

    @property
    def observed(self) -> tuple[str, ...]:
        return tuple(n for n in self.reading.steps if n in self.reading.data)

    def at(self, *, first: bool) -> _Slice:
        """Read all CPDs of a slice, and solve for the hidden variables."""
        d = sum(e.numel() for e in self.events.values())
        hidden = [self._read(n, first=first) for n in self.reading.hidden]
        seen = [self._read(n, first=first) for n in self.observed]
        weight, bias, noise = _stacked(hidden, self.reading.like, 2 * d)
        eye = torch.eye(d, dtype=weight.dtype, device=weight.device)
        solved = torch.linalg.inv(eye - weight[..., :d])  # parents first: triangular, ones inside
        emission, offset, spread = _stacked(seen, self.reading.like, 2 * d)
        if (emission[..., d:] != 0).any():
            raise InadmissibleError(
                f"{', '.join(self.observed)}: an observed variable depends on a hidden one of an"
                " earlier slice; add a hidden variable that carries that value to its slice"
            )
        bias = (solved @ bias.unsqueeze(-1)).squeeze(-1)
        noise = solved @ noise @ solved.mT
        return _Slice(solved @ weight[..., d:], bias, noise, emission[..., :d], offset, spread)

    def _read(self, name: str, *, first: bool) -> AffineMap:
        """Read one CPD as an affine map of the hidden variables now and before, `[2 d]`."""
        like, d = self.reading.like, sum(e.numel() for e in self.events.values())
        law = self.reading.law(name) if first else None
        if law is not None:
            mean, cov = _moments(law.expand(torch.Size((1, *law.batch_shape))), name, self.reading)
            return AffineMap(mean.new_zeros(1, mean.shape[-1], 2 * d), mean, cov)
        sources = self._sources(name, first=first)
        sizes = [e.numel() for e in sources.values()]
        fixed = self._fixed(name, first=first)
        rows = max([1, *(len(f) for f in fixed.values())])

        def moments(points: Tensor) -> Moments:
            k, parts = len(points), dict(zip(sources, points.split(sizes, 1), strict=True))
            arguments = [
                fixed[key]
                .expand(rows, *fixed[key].shape[1:])
                .repeat(k, *[1] * (fixed[key].dim() - 1))
                if key in fixed
                else parts[key]
                .repeat_interleave(rows, 0)
                .unflatten(1, sources[key] or (1,))
                .reshape(k * rows, *sources[key])
                for key in self._keys(name)
            ]
            found = self.reading.call(name, arguments, k * rows)
            mean, cov = _moments(found, name, self.reading)
            return mean.unflatten(0, (k, rows)), cov.unflatten(0, (k, rows))

        found = read_affine(moments, sum(sizes), like)
        if found is None:
            raise InadmissibleError(
                f"{self.reading.steps[name]}: the CPD is not a Gaussian with a mean affine in the"
                f" hidden {', '.join(dict.fromkeys(n for n, _ in sources))} and a constant"
                " covariance, so the chain is not linear-Gaussian; make it affine, give the hidden"
                " variables finitely many states, or ask for draws by SMC"
            )
        return self._placed(found, sources, d)

    def _keys(self, name: str) -> list[tuple[str, int]]:
        """The arguments of a CPD: variable, and how many steps ago."""
        now = [(parent, 0) for parent in self.reading.steps[name].arguments]
        return now + [(lagged.variable, lagged.steps) for lagged in self.reading.lags(name)]

    def _sources(self, name: str, *, first: bool) -> dict[tuple[str, int], torch.Size]:
        """The hidden arguments with their events."""
        keys = [key for key in self._keys(name) if key[0] in self.events]
        for parent, ago in keys:
            if ago > 1:
                raise InadmissibleError(
                    f"{name} depends on the hidden {parent} of {ago} steps ago; a hidden chain has"
                    " lags of 1 (add a variable that carries the value from step to step)"
                )
        return {key: self.events[key[0]] for key in keys if not first or not key[1]}

    def _fixed(self, name: str, *, first: bool) -> dict[tuple[str, int], Tensor]:
        """The arguments that are data, or that stand in for what was before the beginning."""
        reading = self.reading
        fixed = {
            (parent, 0): reading.now(parent, first=first)
            for parent in reading.steps[name].arguments
            if parent in reading.data
        }
        for lagged in reading.lags(name):
            key = (lagged.variable, lagged.steps)
            if lagged.variable in reading.data:
                fixed[key] = reading.before(name, lagged, first=first)
            elif first:
                start = reading.start(name, lagged)
                assert isinstance(start, Tensor)
                fixed[key] = start.to(reading.like.dtype).expand(self.events[key[0]]).unsqueeze(0)
        return fixed

    def _event(self, name: str) -> torch.Size:
        """Find the event of a hidden variable by calling its CPD once."""
        if (law := self.reading.law(name)) is not None:
            return torch.Size((*law.batch_shape, *law.event_shape))
        fixed, like, arguments = self._known(name), self.reading.like, []
        for parent, ago in self._keys(name):
            if (parent, ago) in fixed:
                arguments.append(fixed[parent, ago])
            else:
                arguments.append(like.new_zeros(1, *self.events[parent]))
        found = self.reading.call(name, arguments, 1)
        if isinstance(found, Distribution):
            return torch.Size((*found.batch_shape, *found.event_shape)[1:])
        return found.shape[1:] if isinstance(found, Tensor) else torch.Size()

    def _known(self, name: str) -> dict[tuple[str, int], Tensor]:
        """One row of the arguments at t = 0 that are data or init."""
        reading = self.reading
        known = {
            (parent, 0): reading.now(parent, first=True)[:1]
            for parent in reading.steps[name].arguments
            if parent in reading.data
        }
        for lagged in reading.lags(name):
            start = reading.start(name, lagged)
            assert isinstance(start, Tensor)
            value = start.unsqueeze(0)
            if lagged.variable in reading.data:
                value = reading.before(name, lagged, first=True)[:1]
            known[lagged.variable, lagged.steps] = value
        return known

    def _placed(
        self, found: AffineMap, sources: dict[tuple[str, int], torch.Size], d: int
    ) -> AffineMap:
        """Put the columns where the hidden variables lie, those before after those now."""
        whole = found.weight.new_zeros(*found.weight.shape[:-1], 2 * d)
        columns, start = {}, 0
        for name, event in self.events.items():
            columns[name] = torch.arange(start, start + event.numel(), device=whole.device)
            start += event.numel()
        places = [columns[name] + d * ago for name, ago in sources]
        if places:
            whole = whole.index_copy(-1, torch.cat(places), found.weight)
        return found._replace(weight=whole)


def _stacked(maps: list[AffineMap], like: Tensor, inputs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Stack independent outputs: weights `[rows, sum e, i]`, biases, block-diagonal covariance."""
    if not maps:
        empty = like.new_zeros(1, 0, inputs)
        return empty, empty[..., 0], like.new_zeros(1, 0, 0)
    rows = max(len(m.bias) for m in maps)
    weight = torch.cat([m.weight.expand(rows, -1, -1) for m in maps], 1)
    bias = torch.cat([m.bias.expand(rows, -1) for m in maps], 1)
    total, start, blocks = bias.shape[1], 0, []
    for m in maps:
        e = m.bias.shape[1]
        left = m.covariance.new_zeros(rows, e, start)
        right = m.covariance.new_zeros(rows, e, total - start - e)
        blocks.append(torch.cat([left, m.covariance.expand(rows, e, e), right], 2))
        start += e
    return weight, bias, torch.cat(blocks, 1)


def _moments(found: object, name: str, reading: Reading) -> Moments:
    """Return mean `[n, e]` and covariance `[n, e, e]` of rows of Gaussians or of values."""
    step = reading.steps[name]
    while isinstance(found, Independent):
        found = found.base_dist
    if isinstance(found, Tensor) and step.variable.map == "deterministic":
        mean = found.reshape(len(found), prod(found.shape[1:]))
        return mean, mean.new_zeros(*mean.shape, mean.shape[1])
    if not isinstance(found, Distribution):
        raise TypeError(f"{step}: {misfit(step, found)}")
    if isinstance(found, Normal):
        mean = found.loc.reshape(len(found.loc), prod(found.batch_shape[1:]))
        return mean, found.scale.reshape(mean.shape).square().diag_embed()
    if isinstance(found, MultivariateNormal) and len(found.batch_shape) == 1:
        return found.loc, found.covariance_matrix
    raise InadmissibleError(
        f"{step}: {name} is {type(found).__name__}, neither finite nor Gaussian, and a hidden"
        " chain is exact only if all hidden variables are finite, or all CPDs linear-Gaussian;"
        " observe it, change its CPD, or ask for draws by SMC"
    )
