r"""Bounds on the log-evidence of a prescribed model, with standard errors.

$$\mathcal{L}_K = \mathbb{E} \log \tfrac1K \sum_k \frac{p(x, z_k)}{q(z_k \mid x)} \le \log p(x)$$

It grows with K: K = 1 is the ELBO, K to infinity the log-evidence (Burda, Grosse and Salakhutdinov
2016, arXiv 1509.00519).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from daguerre.devices import on_device_of
from daguerre.model import Model
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.importance import log_weights
from daguerre.objectives.objective import Objective, Round
from daguerre.objectives.observations import read_data
from daguerre.objectives.recipes import elbo
from daguerre.program import validation

__all__ = ["Estimate", "evidence_bound"]

ROWS = 50_000  # rows times particles in one pass


@dataclass(frozen=True)
class Estimate:
    """A mean over examples with its standard error.

    Attributes:
        value: The mean.
        stderr: Standard deviation of the examples over the root of their number.
        n: The number of examples.
    """

    value: float
    stderr: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.stderr:.2f}"


def evidence_bound(
    p: Model, q: Model, data: Tensor | Mapping[str, Tensor], *, particles: int = 1, seed: int = 0
) -> Estimate:
    """Estimate the bound with K particles on every example, in nats.

    One particle gives the ELBO, with closed-form terms where they exist.

    Args:
        p: The model.
        q: The inference model.
        data: `{name: Tensor[N, *event]}`, or a Tensor where one variable is observed.
        particles: K, the number of draws of the latents per example.
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
    objective = elbo(p, q)
    given = read_data(objective, data)
    n = len(next(iter(given.values())))
    if particles < 1 or n < 2:
        raise ValueError(f"needs 1 particle and 2 examples at least, not {particles} and {n}")
    chunks = [
        {name: value[i : i + max(1, ROWS // particles)] for name, value in given.items()}
        for i in range(0, n, max(1, ROWS // particles))
    ]
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        validation(enabled=False),
        on_device_of([p, q]),
    ):
        torch.manual_seed(seed)
        bounds = torch.cat([_bound(objective, chunk, particles) for chunk in chunks]).double()
    return Estimate(bounds.mean().item(), bounds.std().item() / math.sqrt(n), n)


def _bound(objective: Objective, given: Mapping[str, Tensor], particles: int) -> Tensor:
    """Return the bound of each row, shape `[n]`."""
    n = len(next(iter(given.values())))
    if particles == 1:
        return -_divergence(objective).per_example(Round(n, given))
    weights = log_weights(_divergence(objective), Round(n, given), particles=particles)
    return weights.logsumexp(1) - math.log(particles)


def _divergence(objective: Objective) -> KullbackLeibler:
    ((_, part),) = objective.parts
    assert isinstance(part, KullbackLeibler), "an ELBO is one KL divergence"
    return part
