"""A chain of Gaussian hidden variables as a linear state space: CPDs proved to be affine.

All hidden variables of a slice make one vector; a deterministic one has no noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.chain.evidence import check_marks
from daguerre.infer.chain.gaussian import GaussianChain
from daguerre.infer.chain.reading import Reading
from daguerre.infer.chain.ssm import StateSpace
from daguerre.infer.gaussian.affine import read_affine
from daguerre.program import Outcome

__all__ = ["gaussian_chain"]

Key = tuple[str, int]  # an argument of a CPD: a variable, and how many steps ago


def gaussian_chain(reading: Reading, lengths: Tensor | None) -> GaussianChain:
    """Read the hidden variables as one Gaussian vector per slice.

    Raises:
        InadmissibleError: A CPD is not Gaussian, or not affine in the hidden variables.
        GraphError: Values of another shape than a CPD has.
    """
    batch, steps = reading.size
    slices = _Slices(reading)
    first = slices.at(first=True)
    later = slices.at(first=False) if steps > 1 else first

    def over(x: Tensor) -> Tensor:
        """Arrange what comes per row of later slices as constant or per step."""
        return x[0] if len(x) == 1 else x.unflatten(0, (batch, steps - 1))

    def seen(a: Tensor, b: Tensor) -> Tensor:
        if slices.sees_alike:
            return a[0]
        a = a.expand(batch, *a.shape[1:]).unsqueeze(1)
        if steps == 1:
            return a
        rows = b.expand(batch * (steps - 1), *b.shape[1:]).unflatten(0, (batch, steps - 1))
        return torch.cat([a, rows], 1)

    for name in reading.observed:
        check_marks(name, reading.data[name])
    values = [_floats(reading.data[n], reading.like) for n in reading.observed]
    values += [_floats(x, reading.like) for x in reading.pinned.values()]
    model = StateSpace(
        first.bias.expand(batch, -1),
        first.noise.expand(batch, -1, -1),
        over(later.transition) if steps > 1 else first.transition[0],
        over(later.bias) if steps > 1 else first.bias[0],
        over(later.noise) if steps > 1 else first.noise[0],
        seen(first.emission, later.emission),
        seen(first.offset, later.offset),
        seen(first.spread, later.spread),
        torch.cat(values, -1) if values else reading.like.new_zeros(batch, steps, 0),
        lengths,
    )
    return GaussianChain(model, slices.events)


def _floats(values: Tensor, like: Tensor) -> Tensor:
    """Return values as numbers `[B, T, e]`, NaN where they are missing."""
    found = values.to(like.dtype).flatten(2) if values.dim() > 2 else values.unsqueeze(-1)
    return (
        found if values.is_floating_point() else found.to(like).masked_fill(found < 0, torch.nan)
    )


class _Map(NamedTuple):
    """N(weight x + bias, covariance), x the hidden variables now and before, `[2 d]`.

    Attributes:
        weight: `[rows, e, 2 d]`, with one row for all or one each; so are the others.
        bias: `[rows, e]`.
        covariance: `[rows, e, e]`.
    """

    weight: Tensor
    bias: Tensor
    covariance: Tensor


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
        known: dict[str, Tensor] = {}
        for name in self.reading.hidden:
            event = self.events[name] = self._event(name, known)
            known[name] = self.reading.like.new_zeros(1, *event)
        for name, value in self.reading.pinned.items():
            self._check_event(name, value, self.events[name])

    def _event(self, name: str, known: dict[str, Tensor]) -> torch.Size:
        found = self.reading.law(name)
        if found is not None:
            return torch.Size((*found.batch_shape, *found.event_shape))
        found = self.reading.example(name, known)
        if isinstance(found, Distribution):
            return torch.Size((*found.batch_shape, *found.event_shape)[1:])
        assert isinstance(found, Tensor)
        return found.shape[1:]

    def _check_event(self, name: str, value: Tensor, event: torch.Size) -> None:
        if value.shape[2:] != event:
            raise GraphError(
                f"{self.reading.steps[name]}: the values are [B, T, *event] with the event"
                f" {list(value.shape[2:])}, but the CPD has the event {list(event)}"
            )

    @cached_property
    def places(self) -> dict[str, Tensor]:
        """Where the numbers of each hidden variable lie in the state."""
        sizes = [e.numel() for e in self.events.values()]
        ends, device = accumulate(sizes), self.reading.like.device
        parts = zip(self.events, sizes, ends, strict=True)
        return {name: torch.arange(end - size, end, device=device) for name, size, end in parts}

    @property
    def d(self) -> int:
        """The dimension of the state."""
        return sum(e.numel() for e in self.events.values())

    @property
    def sees_alike(self) -> bool:
        """Whether all slices are observed in the same way."""
        keys = [key for n in self.reading.observed for key in self._keys(n)]
        return all(name in self.events and not ago for name, ago in keys)

    def at(self, *, first: bool) -> _Slice:
        """Read all CPDs of a slice, and solve for the hidden variables."""
        d = self.d
        hidden = [self._read(n, first=first) for n in self.reading.hidden]
        seen = [self._read(n, first=first) for n in self.reading.observed]
        seen += [self._pin(n) for n in self.reading.pinned]
        weight, bias, noise = _stacked(hidden, self.reading.like, 2 * d)
        eye = torch.eye(d, dtype=weight.dtype, device=weight.device)
        solved = torch.linalg.inv(eye - weight[..., :d])  # parents first: triangular, ones inside
        emission, offset, spread = _stacked(seen, self.reading.like, 2 * d)
        if (emission[..., d:] != 0).any():
            raise InadmissibleError(
                f"{', '.join(self.reading.observed)}: an observed variable depends on a hidden one"
                " of an earlier slice; add a hidden variable that carries that value to its slice"
            )
        bias = (solved @ bias.unsqueeze(-1)).squeeze(-1)
        noise = solved @ noise @ solved.mT
        return _Slice(solved @ weight[..., d:], bias, noise, emission[..., :d], offset, spread)

    def _pin(self, name: str) -> _Map:
        """Observe a hidden variable itself, without noise."""
        e, like = self.events[name].numel(), self.reading.like
        weight = like.new_zeros(1, e, 2 * self.d)
        weight[0, torch.arange(e), self.places[name]] = 1.0
        return _Map(weight, like.new_zeros(1, e), like.new_zeros(1, e, e))

    def _read(self, name: str, *, first: bool) -> _Map:
        """Read one CPD as an affine map of the hidden variables."""
        reading, law = self.reading, self.reading.law(name) if first else None
        keys = [] if law is not None else self._keys(name)
        fixed = {key: self._fixed(name, key, first=first) for key in keys}
        fixed = {key: value for key, value in fixed.items() if value is not None}
        sources = {_label(key): self.events[key[0]] for key in keys if key not in fixed}
        rows = max([1, *(len(value) for value in fixed.values())])
        columns = {
            _label(key): self.places[key[0]] + self.d * key[1] for key in keys if key not in fixed
        }  # those before lie after those now

        def cpd(*values: Tensor) -> Outcome:
            if law is not None:
                return law
            given = dict(zip([*sources, *["row"] * bool(fixed)], values, strict=True))
            arguments = [
                fixed[key].expand(rows, *fixed[key].shape[1:])[given["row"]]
                if key in fixed
                else given[_label(key)]
                for key in keys
            ]
            call = reading.steps[name].cpd
            assert call is not None
            return call(*arguments)

        found = read_affine(
            cpd,
            [*sources, *["row"] * bool(fixed)],
            events=sources,
            states={"row": torch.arange(rows, device=reading.like.device)} if fixed else {},
            dtype=reading.like.dtype,
            device=reading.like.device,
        )
        if isinstance(found, str):
            raise InadmissibleError(self._refusal(name, found))
        bias, weights, scale = found
        if not fixed:
            bias, scale = bias.unsqueeze(0), scale.unsqueeze(0)
            weights = {label: weight.unsqueeze(0) for label, weight in weights.items()}
        if name in reading.data:
            self._check_event(name, reading.data[name], _event_of(reading.data[name], bias))
        whole = bias.new_zeros(*bias.shape, 2 * self.d)
        for label, weight in weights.items():
            whole = whole.index_copy(-1, columns[label], weight)
        return _Map(whole, bias, scale @ scale.mT)

    def _refusal(self, name: str, why: str) -> str:
        step, hidden = self.reading.steps[name], ", ".join(self.events)
        return (
            f"{step}: not linear Gaussian in the hidden {hidden}: {why}. A hidden chain is exact"
            " if all hidden variables are finite, or all CPDs linear Gaussian: change the CPD,"
            " observe the hidden variables, or ask for draws by SMC"
        )

    def _keys(self, name: str) -> list[Key]:
        """The arguments of a CPD."""
        now = [(parent, 0) for parent in self.reading.steps[name].arguments]
        return now + [(lagged.variable, lagged.steps) for lagged in self.reading.lags(name)]

    def _fixed(self, name: str, key: Key, *, first: bool) -> Tensor | None:
        """Return an argument that is data, or what stands in for it, `[rows, *event]`."""
        reading, (parent, ago) = self.reading, key
        if not ago:
            return reading.now(parent, first=first) if parent in reading.data else None
        (lagged,) = (x for x in reading.lags(name) if (x.variable, x.steps) == key)
        if parent in reading.data:
            return reading.before(name, lagged, first=first)
        if ago > 1:
            raise InadmissibleError(
                f"{name} depends on the hidden {parent} of {ago} steps ago; a hidden chain has"
                " lags of 1 (add a variable that carries the value from step to step)"
            )
        if not first:
            return None
        start = reading.start(name, lagged)
        assert isinstance(start, Tensor)
        return start.to(reading.like.dtype).expand(self.events[parent]).unsqueeze(0)


def _label(key: Key) -> str:
    name, ago = key
    return f"{name}[t-{ago}]" if ago else name


def _event_of(values: Tensor, bias: Tensor) -> torch.Size:
    """Return the event of values if their CPD has as many numbers, else that of the CPD."""
    event = values.shape[2:]
    return event if event.numel() == bias.shape[-1] else bias.shape[-1:]


def _stacked(maps: list[_Map], like: Tensor, inputs: int) -> _Map:
    """Stack independent outputs: weights `[rows, sum e, i]`, biases, block-diagonal covariance."""
    if not maps:
        empty = like.new_zeros(1, 0, inputs)
        return _Map(empty, empty[..., 0], like.new_zeros(1, 0, 0))
    rows = max(len(m.bias) for m in maps)
    weight = torch.cat([m.weight.expand(rows, -1, -1) for m in maps], 1)
    bias = torch.cat([m.bias.expand(rows, -1) for m in maps], 1)
    total, start, blocks = bias.shape[1], 0, []
    for m in maps:
        e = m.bias.shape[1]
        ahead, behind = start, total - start - e
        blocks.append(torch.nn.functional.pad(m.covariance.expand(rows, e, e), (ahead, behind)))
        start += e
    return _Map(weight, bias, torch.cat(blocks, 1))
