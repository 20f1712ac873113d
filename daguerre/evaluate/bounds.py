r"""Bounds on the log-evidence of a prescribed model, with standard errors.

$$\mathcal{L}_K = \mathbb{E} \log \tfrac1K \sum_k \frac{p(x, z_k)}{q(z_k \mid x)} \le \log p(x)$$

It grows with K: K = 1 is the ELBO, K to infinity the log-evidence (Burda, Grosse and Salakhutdinov
2016, arXiv 1509.00519).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from daguerre.devices import on_device_of
from daguerre.evaluate.scores import Estimate, Score
from daguerre.evaluate.subject import Subject, divergence_of, seeded
from daguerre.model import Model
from daguerre.objectives.importance import weigher
from daguerre.objectives.objective import Objective, Round
from daguerre.objectives.observations import Data, read_data
from daguerre.objectives.recipes import elbo

__all__ = ["ELBO", "IWAE", "Estimate", "evidence_bound", "passes"]

NUMBERS, NUMBERS_GPU = 1 << 20, 1 << 27  # in one pass: what stays in a cache; what fills a GPU
NARROW = 256  # nets are as wide as this, however narrow the data


def evidence_bound(
    p: Model,
    q: Model,
    data: Data,
    *,
    particles: int = 1,
    observed: Iterable[str] | None = None,
    seed: int = 0,
) -> Estimate:
    """Estimate the bound with K particles on every example, in nats.

    One particle gives the ELBO, with closed-form terms where they exist. Memory grows neither
    with K nor with the data: draws are weighed in passes whose sums are kept in float64.

    Args:
        p: The model.
        q: The inference model.
        data: `{name: Tensor[N, *event]}`, or a Tensor where one variable is observed.
        particles: K, the number of draws of the latents per example.
        observed: As for `dg.elbo`.
        seed: Of the draws; the global generator is left alone.

    Raises:
        ValueError: Fewer than one particle or two examples; data with NaN or out of support.
        InadmissibleError: The model has no density, as `dg.elbo` says.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> bound = evidence_bound(p, q, torch.full([10], 2.0), particles=5)
        >>> round(bound.value, 4)  # exact, as q is the posterior: log N(2; 0, 2)
        -2.2655
    """
    objective = elbo(p, q, observed=observed)
    given = read_data(objective, data)
    n = len(next(iter(given.values())))
    if particles < 1 or n < 2:
        raise ValueError(f"needs 1 particle and 2 examples at least, not {particles} and {n}")
    with torch.no_grad(), seeded(seed, [p, q]), on_device_of([p, q]):
        return Estimate.of(_bounds(objective, given, particles))


@dataclass(frozen=True)
class ELBO:
    r"""The evidence lower bound, $\mathbb{E}_q[\log p(x, z) - \log q(z \mid x)]$, in nats.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> scores = dg.evaluate(p, q, torch.full([10_000], 2.0), measures=[ELBO()])
        >>> round(scores["elbo"].value, 1)
        -2.3
    """

    def __call__(self, of: Subject) -> Score:
        """Return the mean over the data."""
        note = "nats, a lower bound of log p(x)"
        return Score.mean("elbo", _bounds(of.cost, of.given, 1), note)


@dataclass(frozen=True)
class IWAE:
    """The importance-weighted bound with K draws, in nats; for large K, nearly the evidence.

    Attributes:
        particles: K.

    References:
        Burda, Grosse and Salakhutdinov (2016, arXiv 1509.00519).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 1.0))
        >>> scores = dg.evaluate(p, q, torch.full([10], 2.0), measures=[IWAE(5000)])
        >>> round(scores["iwae"].value, 2)  # log N(2; 0, 2) = -2.2655
        -2.27
    """

    particles: int = 100

    def __post_init__(self) -> None:
        if self.particles < 1:
            raise ValueError(f"particles is a number of draws, 1 or more, not {self.particles}")

    def __call__(self, of: Subject) -> Score:
        """Return the mean over the data."""
        note = f"nats, the bound with {self.particles} particles"
        return Score.mean("iwae", _bounds(of.cost, of.given, self.particles), note)


def passes(given: Mapping[str, Tensor], copies: int) -> Iterator[tuple[Round, list[int]]]:
    """Yield batches of the data, each with how many draws for each example go in a pass.

    A pass holds so many rows that its matrix products are large and its numbers stay in a cache.
    """
    n = len(next(iter(given.values())))
    width = max(NARROW, *(value[0].numel() for value in given.values()))
    device = torch.get_default_device()  # that of the models
    rows = max(1, (NUMBERS if device.type == "cpu" else NUMBERS_GPU) // width)
    most = min(rows, copies)
    draws = [most] * (copies // most) + ([copies % most] if copies % most else [])
    for i in range(0, n, batch := max(1, rows // most)):
        part = {name: value[i : i + batch].to(device) for name, value in given.items()}
        yield Round(min(batch, n - i), part), draws


def _bounds(objective: Objective, given: Mapping[str, Tensor], particles: int) -> Tensor:
    """Return the bound of each row, `[n]`, in float64 on the CPU."""
    divergence = divergence_of(objective)
    if particles == 1:
        rows = [-divergence.per_example(at).double() for at, _ in passes(given, 1)]
        return torch.cat(rows).cpu()
    weighers: dict[int, Callable[[Round], Tensor]] = {}
    totals = []
    for at, draws in passes(given, particles):
        total = torch.full([at.n], -torch.inf, dtype=torch.float64)
        for count in draws:
            if count not in weighers:
                weighers[count] = weigher(divergence, count)
            weights = weighers[count](at).double()
            total = torch.logaddexp(total, weights.logsumexp(1))
        totals.append(total - math.log(particles))
    return torch.cat(totals).cpu()
