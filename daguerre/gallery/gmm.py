r"""A mixture of Gaussians: one finite latent, and a Gaussian for each of its states.

$p(x) = \sum_k \pi_k\, N(x; \mu_k, \Sigma_k)$, the graph k -> x. It is learned by EM in closed
steps, or by the gradient of the same likelihood with `dg.fit(dg.nll(p, observed=["x"]), x)`; which
component made a point is `dg.posterior(p, "k", given={"x": x})`.
"""

from __future__ import annotations

import torch
from torch import Tensor

import daguerre as dg
from daguerre.infer.em import Ascent

__all__ = ["learn", "mixture"]


def mixture(x: Tensor, components: int) -> dg.Model:
    """Start a mixture at points of the data that lie far apart, with the covariance of all.

    Args:
        x: Data `[n, d]`.
        components: How many Gaussians.

    Raises:
        ValueError: More components than there are points.

    References:
        Arthur and Vassilvitskii (2007), *k-means++: the advantages of careful seeding*.

    Example:
        >>> mixture(torch.randn(50, 2), 3).graph
        Graph(-> k; k -> x)
    """
    if not 1 <= components <= len(x):
        raise ValueError(f"{len(x)} points start 1 to {len(x)} components, not {components}")
    d = x.shape[1]
    spread = torch.cov(x.T, correction=0).reshape(d, d) + 1e-6 * torch.eye(d, dtype=x.dtype)
    scale = torch.linalg.cholesky(spread).repeat(components, 1, 1)
    return dg.model(
        k=dg.Tabular(torch.full([components], 1 / components, dtype=x.dtype)),
        x=dg.LinearGaussian(_apart(x, components), scale_tril=scale, given=["k"]),
    )


def learn(x: Tensor, components: int, *, starts: int = 5, steps: int = 200) -> dg.Model:
    """Fit mixtures by EM from several starts and return the one of the highest likelihood.

    Args:
        x: Data `[n, d]`.
        components: How many Gaussians.
        starts: How many times to begin; EM ends in a local maximum.
        steps: Of EM, at most, from each start.

    References:
        Dempster, Laird and Rubin (1977), *Maximum likelihood from incomplete data via the EM
        algorithm*.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.cat([torch.randn(300, 1) - 5, torch.randn(100, 1) + 5])
        >>> p = learn(x, 2)
        >>> round(dg.posterior(p, "k", given={"x": x}).probs.mean(0).max().item(), 3)
        0.75
    """

    def once() -> tuple[Ascent, dg.Model]:
        p = mixture(x, components)
        return dg.em(p, {"x": x}, steps=steps, floor=1e-6), p

    return max((once() for _ in range(starts)), key=lambda pair: pair[0].log_evidence[-1])[1]


def _apart(x: Tensor, count: int) -> Tensor:
    """Draw points, each in proportion to its squared distance from those drawn before."""
    chosen = x[torch.randint(len(x), (1,))]
    while len(chosen) < count:
        weight = torch.cdist(x, chosen).amin(1).square() + 1e-12
        chosen = torch.cat([chosen, x[torch.multinomial(weight, 1)]])
    return chosen
