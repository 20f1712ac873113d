"""Models small enough to be solved, and two exact oracles: quadrature and Gaussian algebra."""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import AffineTransform, Normal

import daguerre as dg
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.objective import Round

__all__ = [
    "PAIRS",
    "STATES",
    "Pair",
    "divergence",
    "exact_elbo",
    "f64",
    "integrate",
    "nodes",
    "normal",
    "per_example",
    "scalar",
]


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


STATES = f64(0, 0, 0, 1, 1, 0, 1, 1).view(4, 2)
"""All values of two bits."""


def scalar(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def normal(mean: Tensor | float, variance: float) -> Normal:
    return Normal(scalar(mean), scalar(variance**0.5))


class Nodes(NamedTuple):
    """Draws of a standard normal that integrate polynomials exactly, with their weights."""

    draws: Tensor
    weights: Tensor


def nodes(dimensions: int, order: int) -> Nodes:
    """Return the Gauss-Hermite rule on a grid `[order**d, d]`, exact to degree 2 order - 1."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    grid = torch.cartesian_prod(*[torch.from_numpy(x)] * dimensions).reshape(-1, dimensions)
    weights = torch.cartesian_prod(*[torch.from_numpy(w / w.sum())] * dimensions)
    return Nodes(grid, weights.reshape(-1, dimensions).prod(1))


def divergence(objective: dg.Objective) -> KullbackLeibler:
    """Return the KL divergence that an objective is."""
    ((weight, part),) = objective.parts
    assert weight == 1
    assert isinstance(part, KullbackLeibler)
    return part


def per_example(objective: dg.Objective, n: int, given: dict[str, Tensor]) -> Tensor:
    """Return the estimate of each row of an objective that is one KL divergence."""
    with torch.no_grad():
        return divergence(objective).per_example(Round(n, given))


def integrate(
    patch: pytest.MonkeyPatch,
    objective: dg.Objective,
    given: dict[str, Tensor],
    *,
    draws: int = 1,
    order: int = 8,
) -> float:
    """Average an objective exactly: nodes stand in for the standard normal, a column a draw."""
    rule = nodes(draws, order)
    n = len(rule.weights)
    column: Iterator[Tensor] = cycle(rule.draws.T)
    rows = {name: value.expand(n, *value.shape) for name, value in given.items()}
    with patch.context() as inside:
        inside.setattr(
            "daguerre.families.standard_noise",
            lambda like: next(column).reshape(like.shape).to(like.dtype),
        )
        return (rule.weights * per_example(objective, n, rows)).sum().item()


def exact_elbo(
    p: dg.Model, q: dg.Model, latent: tuple[str, ...], given: dict[str, float]
) -> float:
    """Solve E_q[log p - log q] for scalar linear Gaussian models: both logs are quadratic in z.

    E[f(z)] = f(m) + tr(H S) / 2 with f's Hessian H, and q's mean m and covariance S read off its
    own log-density. Only `log_prob` is used: no draw, no closed form, no planner.
    """
    fixed = {name: f64(value) for name, value in given.items()}

    def log(model: dg.Model, z: Tensor) -> Tensor:
        values = {**dict(zip(latent, z.unsqueeze(1), strict=True)), **fixed}
        known = {k: v for k, v in values.items() if k in model.graph}
        return model.log_prob(known).squeeze()

    def slope_and_curvature(function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        zero = torch.zeros(len(latent), dtype=torch.float64)
        slope = torch.autograd.functional.jacobian(function, zero)
        return slope, torch.autograd.functional.hessian(function, zero)  # type: ignore[return-value]

    slope, hessian = slope_and_curvature(lambda z: log(q, z))
    covariance = torch.linalg.inv(-hessian)
    mean = covariance @ slope
    _, curvature = slope_and_curvature(lambda z: log(p, z) - log(q, z))
    return (log(p, mean) - log(q, mean) + 0.5 * (curvature @ covariance).trace()).item()


def affine(shift: Tensor | float, scale: float) -> AffineTransform:
    return AffineTransform(scalar(shift), scalar(scale))


class Pair(NamedTuple):
    """A linear Gaussian model, an inference model, and what is observed."""

    p: dg.Model
    q: dg.Model
    latent: tuple[str, ...]
    given: dict[str, float]
    closed: tuple[str, ...]
    observed: tuple[str, ...] | None = None


_X, _XY = {"x": 1.3}, {"x": 1.3, "y": -0.4}


def _chain() -> dg.Model:  # z1 -> z2 -> x
    return dg.model(
        z1=normal(0.3, 1.2),
        z2=lambda z1: normal(0.8 * z1 - 0.1, 0.7),
        x=lambda z2: normal(1.5 * z2, 0.5),
    )


def _collider() -> dg.Model:  # z1 -> x <- z2
    return dg.model(
        z1=normal(0.0, 1.0), z2=normal(0.5, 2.0), x=lambda z1, z2: normal(z1 - 2 * z2, 0.9)
    )


def _late_map() -> dg.Model:  # z2 => h -> z1 -> x: h hides that z1 comes after z2
    return dg.model(
        z2=normal(0.0, 1.0),
        h=dg.deterministic(lambda z2: 2 * z2),
        z1=lambda h: normal(h, 1.0),
        x=lambda z1: normal(z1, 1.0),
    )


def _late_flow() -> dg.Model:  # e => u, e -> z: u gives e back, so z comes after u in p
    return dg.model(
        e=normal(0.0, 1.0),
        u=dg.bijection("e", affine(0.5, 2.0)),
        z=lambda e: normal(0.7 * e, 0.6),
        x=lambda z, u: normal(z + u, 0.8),
    )


PAIRS: dict[str, Pair] = {
    "one latent": Pair(
        dg.model(z=normal(0.0, 1.0), x=lambda z: normal(2 * z + 1, 0.4)),
        dg.model(x=dg.Input(), z=lambda x: normal(0.3 * x, 0.2)),
        ("z",),
        _X,
        closed=("z",),
    ),
    "chain, same order": Pair(
        _chain(),
        dg.model(
            x=dg.Input(), z1=lambda x: normal(0.4 * x, 0.6), z2=lambda z1, x: normal(x + z1, 0.3)
        ),
        ("z1", "z2"),
        _X,
        closed=("z1", "z2"),
    ),
    "chain, reverse order": Pair(
        _chain(),
        dg.model(
            x=dg.Input(), z2=lambda x: normal(0.5 * x, 0.3), z1=lambda z2: normal(0.6 * z2, 0.8)
        ),
        ("z1", "z2"),
        _X,
        closed=("z1",),
    ),
    "chain, mean field": Pair(
        _chain(),
        dg.model(x=dg.Input(), z1=lambda x: normal(0.4 * x, 0.6), z2=lambda x: normal(x, 0.3)),
        ("z1", "z2"),
        _X,
        closed=("z1", "z2"),
    ),
    "collider": Pair(
        _collider(),
        dg.model(
            x=dg.Input(),
            z1=lambda x: normal(0.4 * x, 0.6),
            z2=lambda z1, x: normal(z1 / 2 - x / 2, 0.5),
        ),
        ("z1", "z2"),
        _X,
        closed=("z1", "z2"),
    ),
    "q has no input": Pair(
        _collider(),
        dg.model(z1=normal(0.7, 0.6), z2=normal(-0.4, 0.5)),
        ("z1", "z2"),
        _X,
        closed=("z1", "z2"),
    ),
    "deterministic layer in p": Pair(
        dg.model(
            z=normal(0.0, 1.0),
            h=dg.deterministic(lambda z: 3 * z - 1),
            x=lambda h, z: normal(h + z, 0.7),
        ),
        dg.model(x=dg.Input(), z=lambda x: normal(0.3 * x, 0.2)),
        ("z",),
        _X,
        closed=("z",),
    ),
    "deterministic layer in q": Pair(
        dg.model(z=normal(0.0, 1.0), x=lambda z: normal(2 * z + 1, 0.4)),
        dg.model(
            x=dg.Input(),
            h=dg.deterministic(lambda x: x / 3 + 0.1),
            z=lambda h: normal(h - 0.2, 0.2),
        ),
        ("z",),
        _X,
        closed=("z",),
    ),
    "deterministic layer after the latent in q": Pair(
        _chain(),
        dg.model(
            x=dg.Input(),
            z2=lambda x: normal(0.5 * x, 0.3),
            h=dg.deterministic(lambda z2: z2 - 0.3),
            z1=lambda h: normal(0.6 * h, 0.8),
        ),
        ("z1", "z2"),
        _X,
        closed=("z1",),
    ),
    "deterministic layer between latents, same order": Pair(
        _late_map(),
        dg.model(
            x=dg.Input(), z2=lambda x: normal(0.2 * x, 0.4), z1=lambda x, z2: normal(x - z2, 0.5)
        ),
        ("z1", "z2"),
        _X,
        closed=("z1", "z2"),
    ),
    "deterministic layer between latents, reverse order": Pair(
        _late_map(),
        dg.model(
            x=dg.Input(), z1=lambda x: normal(0.5 * x, 0.5), z2=lambda z1: normal(0.3 * z1, 0.4)
        ),
        ("z1", "z2"),
        _X,
        closed=("z2",),
    ),
    "flow recovers a late parent": Pair(
        _late_flow(),
        dg.model(x=dg.Input(), z=lambda x: normal(0.5 * x, 0.5), u=lambda z: normal(0.3 * z, 0.4)),
        ("u", "z"),
        _X,
        closed=(),
    ),
    "flow posterior": Pair(
        dg.model(z=normal(0.0, 1.0), x=lambda z: normal(2 * z + 1, 0.4)),
        dg.model(
            x=dg.Input(),
            e=lambda x: normal(0.1 * x, 0.9),
            z=dg.bijection("e")(lambda x: affine(0.2 * x, -0.5)),
        ),
        ("z",),
        _X,
        closed=(),
    ),
    "flow prior, q over its output": Pair(
        dg.model(
            e=normal(0.0, 1.0),
            z=dg.bijection("e", affine(0.5, 2.0)),
            x=lambda z: normal(z, 0.8),
        ),
        dg.model(x=dg.Input(), z=lambda x: normal(0.4 * x, 0.5)),
        ("z",),
        _X,
        closed=(),
    ),
    "flow prior, q over its base": Pair(
        dg.model(
            e=normal(0.0, 1.0),
            z=dg.bijection("e", affine(0.5, 2.0)),
            x=lambda z: normal(z, 0.8),
        ),
        dg.model(x=dg.Input(), e=lambda x: normal(0.4 * x, 0.5)),
        ("e",),
        _X,
        closed=("e",),
    ),
    "conditional on an input": Pair(
        dg.model(c=dg.Input(), z=lambda c: normal(-c, 1.0), x=lambda z, c: normal(2 * z + c, 0.4)),
        dg.model(x=dg.Input(), c=dg.Input(), z=lambda x, c: normal(0.3 * x - c, 0.2)),
        ("z",),
        {"x": 1.3, "c": 0.6},
        closed=(),  # the family of z | c is not known before c has a shape
    ),
    "input of p alone": Pair(
        dg.model(c=dg.Input(), z=normal(0.0, 1.0), x=lambda z, c: normal(2 * z + c, 0.4)),
        dg.model(x=dg.Input(), z=lambda x: normal(0.3 * x, 0.2)),
        ("z",),
        {"x": 1.3, "c": 0.6},
        closed=(),
    ),
    "two observed": Pair(
        dg.model(
            z=normal(0.0, 1.0), x=lambda z: normal(2 * z, 0.4), y=lambda z: normal(1 - z, 0.9)
        ),
        dg.model(x=dg.Input(), y=dg.Input(), z=lambda x, y: normal(0.3 * x - 0.2 * y, 0.2)),
        ("z",),
        _XY,
        closed=("z",),
    ),
    "two observed, q sees one": Pair(
        dg.model(
            z=normal(0.0, 1.0), x=lambda z: normal(2 * z, 0.4), y=lambda z, x: normal(x - z, 0.9)
        ),
        dg.model(x=dg.Input(), z=lambda x: normal(0.3 * x, 0.2)),
        ("z",),
        _XY,
        closed=("z",),
        observed=("x", "y"),
    ),
    "observed inner node": Pair(
        dg.model(
            z=normal(0.0, 1.0), x=lambda z: normal(2 * z, 0.4), y=lambda x: normal(x - 1, 0.9)
        ),
        dg.model(x=dg.Input(), z=lambda x: normal(0.3 * x, 0.2)),
        ("z",),
        _XY,
        closed=("z",),
        observed=("x", "y"),
    ),
}
