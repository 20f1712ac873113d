"""A registry of measures, each with what it is taken of; every law runs over all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Normal

import daguerre as dg
from daguerre import measures as m

__all__ = ["MEASURES", "Coder", "Decoder", "Entry", "Generator", "data", "posterior"]

SHORT = m.Annealing(chains=4, steps=5, leapfrogs=3)


class Decoder(dg.Model):
    """z ~ N(0, I) and x ~ N(z, I / 4), in two dimensions, with dropout that must be off."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift, self.drop = nn.Parameter(torch.full((2,), shift)), nn.Dropout()

    @dg.rv
    def z(self):
        return dg.StandardNormal(2)

    @dg.rv
    def x(self, z):
        return Normal(self.drop(z) + self.shift, 0.5)


class Coder(dg.Model):
    """The posterior of a Decoder that is not shifted; its scale may be made wrong."""

    x = dg.Input(2)

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor, self.drop = nn.Parameter(torch.tensor(factor)), nn.Dropout()

    @dg.rv
    def z(self, x):
        return Normal(0.8 * self.drop(x), self.factor * 0.2**0.5)


class Generator(Decoder):
    """The law of a Decoder without a density."""

    @dg.deterministic
    def x(self, z):
        return 1.25**0.5 * self.drop(z) + self.shift


class Critic(nn.Module):
    """The log-ratio of N(0, 1.25 I) and the same shifted by one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.drop = nn.Parameter(torch.full((2,), -0.8)), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) @ self.weight + 0.8


def data(n: int = 200, seed: int = 9) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * 1.25**0.5


def posterior(given, draws):
    return {"z": Normal(0.8 * given["x"], 0.2**0.5).sample((draws,))}


def signs(x: Tensor) -> Tensor:
    return torch.stack([x[:, 0], -x[:, 0]], 1)


@dataclass(frozen=True)
class Entry:
    """A measure, and what it is taken of.

    Attributes:
        name: For people.
        make: Makes the measure for a model.
        model: Makes the model.
        coded: Whether a q is given.
        gives: The names of its scores.
        drawless: Whether it has nothing to draw here.
    """

    name: str
    make: Callable[[dg.Model], m.Measure]
    gives: tuple[str, ...]
    model: Callable[[], dg.Model] = Generator
    coded: bool = False
    drawless: bool = False

    def __str__(self) -> str:
        return self.name

    def scores(self, p: dg.Model, seed: int = 0, x: Tensor | None = None) -> m.Scores:
        q = Coder() if self.coded else None
        return dg.evaluate(p, q, data() if x is None else x, measures=[self.make(p)], seed=seed)


def coded(name: str, measure: m.Measure, *gives: str, drawless: bool = False) -> Entry:
    return Entry(name, lambda p: measure, gives, Decoder, coded=True, drawless=drawless)


def drawn(name: str, measure: m.Measure, *gives: str) -> Entry:
    return Entry(name, lambda p: measure, gives)


def ratio(p: dg.Model) -> m.Measure:
    return m.CriticRatio(dg.gan(p, Critic()))


OVERLAP = "precision", "recall", "density", "coverage"
BDMC = "ais lower", "ais upper", "ais gap"
MEASURES = [
    coded("ELBO", m.ELBO(), "elbo"),
    coded("IWAE", m.IWAE(20), "iwae"),
    coded("rate and distortion", m.RateDistortion(), "rate", "distortion"),
    coded("unit rates", m.UnitRates(), "rate z[0]", "rate z[1]", drawless=True),
    coded("active units", m.ActiveUnits(), "active units", drawless=True),
    coded("aggregate split", m.AggregateSplit(), "information", "marginal kl"),
    coded("calibration of q", m.Calibration(rows=100), "calibration"),
    Entry("calibration", lambda p: m.Calibration(posterior, rows=100), ("calibration",), Decoder),
    Entry("AIS", lambda p: m.AIS(20, SHORT), ("ais",), Decoder),
    Entry("BDMC", lambda p: m.BDMC(20, SHORT), BDMC, Decoder),
    drawn("MMD²", m.MMD2(permutations=50), "mmd2"),
    drawn("C2ST", m.C2ST(folds=2), "c2st"),
    drawn("FID", m.FID(), "FID"),
    drawn("KID", m.KID(), "KID"),
    drawn("overlap", m.Manifold(), *OVERLAP),
    drawn("class score", m.ClassScore(signs), "class score"),
    drawn("memorisation", m.Memorisation(data(300, seed=3)), "memorisation"),
    Entry("critic", ratio, ("critic js", "critic kl")),
]
