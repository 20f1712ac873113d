r"""Probabilistic PCA and factor analysis: a linear decoder with a Gaussian latent, exactly.

$z \sim N(0, I)$, $x \mid z \sim N(Wz + \mu, \Psi)$, so $p(x) = N(\mu, WW^T + \Psi)$. With
$\Psi = \sigma^2 I$ it is probabilistic PCA, whose maximum of the likelihood is known; with any
diagonal $\Psi$ it is factor analysis, learned by EM. It is the graph z -> x of a VAE, and needs no
encoder: the posterior of z is Gaussian too, `dg.posterior(p, "z", given={"x": x})`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal

import daguerre as dg

__all__ = ["factor_analysis", "linear_decoder", "ppca"]


def linear_decoder(weight: Tensor, mean: Tensor, scale: Tensor) -> dg.Model:
    """Build the model from its numbers.

    Args:
        weight: W, `[d, latent]`.
        mean: `[d]`.
        scale: Standard deviations of the noise, `[d]`.

    Example:
        >>> p = linear_decoder(torch.ones(2, 1), torch.zeros(2), torch.ones(2))
        >>> round(dg.log_evidence(p, {"x": torch.zeros(1, 2)}).item(), 4)  # [[2, 1], [1, 2]]
        -2.3872
    """
    return dg.model(
        z=Normal(weight.new_zeros(weight.shape[1]), 1.0),
        x=dg.LinearGaussian(mean, scale, weights={"z": weight}),
    )


def ppca(x: Tensor, latent: int) -> dg.Model:
    r"""Return probabilistic PCA at the maximum of the likelihood, in closed form.

    $W = U_q (\Lambda_q - \sigma^2 I)^{1/2}$ of the first eigenvectors of the covariance, and
    $\sigma^2$ is the mean of the eigenvalues that are left.

    Args:
        x: Data `[n, d]`.
        latent: q, the size of z, below d.

    Raises:
        ValueError: No dimension is left for the noise.

    References:
        Tipping and Bishop (1999), *Probabilistic principal component analysis*, JRSS B 61.

    Example:
        >>> x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # 9/2 and 1/2
        >>> dict(ppca(x, 1).named_parameters())["x.weights.0"].abs().flatten().tolist()
        [2.0, 0.0]
    """
    d = x.shape[1]
    if not 1 <= latent < d:
        raise ValueError(f"x has {d} dimensions, so z has 1 to {d - 1}, not {latent}")
    size, along = torch.linalg.eigh(torch.cov(x.T, correction=0))
    noise = size[: d - latent].mean().clamp(min=1e-12)
    weight = along[:, d - latent :] * (size[d - latent :] - noise).clamp(min=0).sqrt()
    return linear_decoder(weight.flip(1), x.mean(0), noise.sqrt().expand(d))


def factor_analysis(x: Tensor, latent: int, *, steps: int = 300) -> dg.Model:
    """Fit factor analysis by EM, from probabilistic PCA on.

    Args:
        x: Data `[n, d]`; NaN marks a component that a row lacks.
        latent: The size of z.
        steps: Of EM, at most.

    References:
        Rubin and Thayer (1982), *EM algorithms for ML factor analysis*.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(2000, 1) + torch.tensor([1.0, 0.6, 2.0]) * torch.randn(2000, 3)
        >>> found = dict(factor_analysis(x, 1, steps=40).named_parameters())["x.log_scale"].exp()
        >>> found.detach().round(decimals=1)
        tensor([0.9000, 0.7000, 2.0000])
    """
    known = x.nanmean(0)
    p = ppca(torch.where(x.isnan(), known, x), latent)
    dg.em(p, {"x": x}, steps=steps, tolerance=1e-7, floor=1e-6)
    return p
