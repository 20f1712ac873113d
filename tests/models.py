"""A registry of models, one per kind of graph; every law of a Model runs over all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Categorical,
    ExpTransform,
    Normal,
    Transform,
    constraints,
)

import daguerre as dg

__all__ = ["DENSE", "MODELS", "Decoder", "Encoder", "Entry", "Generator", "LeakyReLU", "Mixture"]


class LeakyReLU(Transform):
    """x = z for z > 0 and slope * z below: piecewise linear, hence a bijection."""

    domain = constraints.real
    codomain = constraints.real
    bijective = True

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def _call(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.slope * x)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.where(y > 0, y, y / self.slope)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x > 0, torch.zeros_like(y), torch.full_like(y, self.slope).log())


class Latent(dg.Model):
    """z ~ N(0, I) of two dimensions, in a buffer, so that it moves with the model."""

    zero: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(2))

    @dg.rv
    def z(self):
        return Normal(self.zero, 1.0)


class Decoder(Latent):
    """A net with batch normalisation between z and the mean of x, of three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))

    @dg.rv
    def x(self, z):
        return Normal(self.net(z), 0.5)


class Generator(Decoder):
    """The same graph with a Dirac."""

    @dg.deterministic
    def x(self, z):
        return self.net(z)


class Pixels(Decoder):
    """The same graph with binary data."""

    @dg.rv
    def x(self, z):
        return Bernoulli(logits=self.net(z))


class Encoder(dg.Model):
    """q(z | x), whose x is given."""

    x = dg.Input(3)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 4)

    @dg.rv
    def z(self, x):
        mean, log_scale = self.net(x).chunk(2, 1)
        return Normal(mean, log_scale.exp())


class Hidden(Latent):
    """A hidden layer as a variable: implicit by itself, harmless below an x with noise."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2, 4), nn.Linear(4, 3)

    @dg.deterministic
    def h(self, z):
        return torch.tanh(self.inner(z))

    @dg.rv
    def x(self, h):
        return Normal(self.outer(h), 0.5)


class Regression(dg.Model):
    """y ~ N(w u + b, s^2 I) with u given; its mean is a function of inputs alone."""

    u = dg.Input(2)

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 3)

    @dg.deterministic
    def mean(self, u):
        return self.line(u)

    @dg.deterministic
    def scale(self):
        return self.line.bias.exp()

    @dg.rv
    def y(self, mean, scale):
        return Normal(mean, scale)


class Mixture(dg.Model):
    """A discrete latent picks the mean of x."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, 1.0, -1.0]))
        self.means = nn.Parameter(torch.randn(3, 2))

    @dg.rv
    def k(self):
        return Categorical(logits=self.logits)

    @dg.rv
    def x(self, k):
        return Normal(self.means[k], 1.0)


class Chain(Latent):
    """x = 2 exp(z) + 1: two declared bijections in a row."""

    y = dg.bijection("z", ExpTransform())
    x = dg.bijection("y", AffineTransform(1.0, 2.0))


class Shifted(Latent):
    """x = y + exp(net(y)) z: a bijection of z that depends on y."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)

    @dg.rv
    def y(self):
        return Normal(self.zero, 2.0)

    @dg.bijection("z")
    def x(self, y):
        return AffineTransform(y, self.net(y).exp())


class Collider(Latent):
    """z -> x <- w with a plain number as an event: shapes [n]."""

    @dg.rv
    def w(self):
        return Normal(self.zero.sum(), 2.0)

    @dg.rv
    def x(self, w, z):
        return Normal(w + z.sum(1), 1.0)


Values = Mapping[str, Tensor]
Density = Callable[..., Tensor]


@dataclass(frozen=True)
class Entry:
    """A model, what must be derived about it, and its density by hand.

    Attributes:
        make: Builds it.
        kinds: The kind of each variable, in the order of declaration.
        events: The event shape of each variable.
        density: log p by hand, from the model and its values; None where there is none.
    """

    make: Callable[[], dg.Model]
    kinds: dict[str, str]
    events: dict[str, tuple[int, ...]]
    density: Density | None = None
    implied: tuple[str, ...] = field(default=())

    def given(self, model: dg.Model, n: int, dtype: torch.dtype = torch.float32) -> Values:
        """Draw values of the inputs."""
        names = model.graph.inputs
        return {name: torch.randn(n, *self.events[name], dtype=dtype) for name in names}


def normal(value: Tensor, mean: Tensor | float, scale: Tensor | float) -> Tensor:
    """log N(value; mean, scale^2 I), summed over the event, written out."""
    scale = torch.as_tensor(scale, dtype=value.dtype)
    terms = (
        -0.5 * ((value - mean) / scale) ** 2
        - scale.log()
        - 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=value.dtype))
    )
    return terms.flatten(1).sum(1) if terms.dim() > 1 else terms


def _pixels(m: Pixels, v: Values) -> Tensor:
    p = torch.sigmoid(m.net(v["z"]))
    return normal(v["z"], 0, 1) + (v["x"] * p.log() + (1 - v["x"]) * (1 - p).log()).sum(1)


def _encoder(m: Encoder, v: Values) -> Tensor:
    out = m.net(v["x"])
    return normal(v["z"], out[:, :2], out[:, 2:].exp())


def _mixture(m: Mixture, v: Values) -> Tensor:
    return m.logits.log_softmax(0)[v["k"]] + normal(v["x"], m.means[v["k"]], 1)


def _chain(m: Chain, v: Values) -> Tensor:
    z = ((v["x"] - 1) / 2).log()  # dx/dz = 2 exp(z)
    return normal(z, 0, 1) - (z + torch.tensor(2.0).log()).sum(1)


def _shifted(m: Shifted, v: Values) -> Tensor:
    return normal(v["y"], 0, 2) + normal(v["x"], v["y"], m.net(v["y"]).exp())


def _hidden(m: Hidden, v: Values) -> Tensor:
    return normal(v["z"], 0, 1) + normal(v["x"], m.outer(torch.tanh(m.inner(v["z"]))), 0.5)


def _collider(m: Collider, v: Values) -> Tensor:
    return normal(v["z"], 0, 1) + normal(v["w"], 0, 2) + normal(v["x"], v["w"] + v["z"].sum(1), 1)


MODELS: dict[str, Entry] = {
    "decoder": Entry(
        Decoder,
        {"z": "prescribed", "x": "prescribed"},
        {"z": (2,), "x": (3,)},
        lambda m, v: normal(v["z"], 0, 1) + normal(v["x"], m.net(v["z"]), 0.5),
    ),
    "pixels": Entry(
        Pixels, {"z": "prescribed", "x": "prescribed"}, {"z": (2,), "x": (3,)}, _pixels
    ),
    "generator": Entry(Generator, {"z": "prescribed", "x": "implicit"}, {"z": (2,), "x": (3,)}),
    "encoder": Entry(Encoder, {"x": "input", "z": "prescribed"}, {"x": (3,), "z": (2,)}, _encoder),
    "hidden": Entry(
        Hidden,
        {"z": "prescribed", "h": "implicit", "x": "prescribed"},
        {"z": (2,), "h": (4,), "x": (3,)},
        _hidden,
        implied=("h",),
    ),
    "regression": Entry(
        Regression,
        {"u": "input", "mean": "deterministic", "scale": "deterministic", "y": "prescribed"},
        {"u": (2,), "mean": (3,), "scale": (3,), "y": (3,)},
        lambda m, v: normal(v["y"], m.line(v["u"]), m.line.bias.exp()),
        implied=("mean", "scale"),
    ),
    "mixture": Entry(
        Mixture, {"k": "prescribed", "x": "prescribed"}, {"k": (), "x": (2,)}, _mixture
    ),
    "chain": Entry(
        Chain,
        {"z": "prescribed", "y": "prescribed", "x": "prescribed"},
        {"z": (2,), "y": (2,), "x": (2,)},
        _chain,
        implied=("z", "y"),
    ),
    "shifted": Entry(
        Shifted,
        {"z": "prescribed", "y": "prescribed", "x": "prescribed"},
        {"z": (2,), "y": (2,), "x": (2,)},
        _shifted,
        implied=("z",),
    ),
    "collider": Entry(
        Collider,
        {"z": "prescribed", "w": "prescribed", "x": "prescribed"},
        {"z": (2,), "w": (), "x": ()},
        _collider,
    ),
}
DENSE = {name: entry for name, entry in MODELS.items() if entry.density is not None}
