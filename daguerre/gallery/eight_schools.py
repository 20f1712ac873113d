r"""Eight schools: how much coaching helped, each estimate borrowing strength from the others.

$\mu \sim N(0, 5^2)$, $\tau \sim C^+(5)$, $\theta_j = \mu + \tau z_j$ with $z_j \sim N(0, 1)$, and
$y_j \sim N(\theta_j, \sigma_j^2)$ with known errors. Written with z, the schools are independent
of mean and spread before they are seen, which samplers and mean fields take well; written with
$\theta_j \sim N(\mu, \tau^2)$ they form a funnel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import HalfCauchy, LogNormal, Normal

import daguerre as dg
from daguerre.game import Game

__all__ = ["DATA", "Schools", "Shrinkage", "eight_schools"]

DATA = {
    "y": torch.tensor([[28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]]),
    "sigma": torch.tensor([[15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]]),
}
"""Estimated effects of coaching and their standard errors (Rubin 1981, table 1): one example."""


class Schools(dg.Model):
    """A population of schools, and what was measured in each.

    References:
        Rubin (1981), *Estimation in parallel randomized experiments*; Gelman et al. (2013),
        *Bayesian Data Analysis*, section 5.5; Betancourt and Girolami (2013, arXiv 1312.0906)
        for z in place of theta.

    Example:
        >>> p, _ = Schools(), torch.manual_seed(0)
        >>> q = eight_schools().q
        >>> found = dg.posterior(p, "mu", given=DATA, q=q)
        >>> found.mean.shape, p.graph["theta"].plates
        (torch.Size([1]), ('school',))
    """

    school = dg.Plate("school")
    sigma = school(dg.Input())

    @dg.rv
    def mu(self):
        return Normal(0.0, 5.0)

    @dg.rv
    def tau(self):
        return HalfCauchy(5.0)

    @school
    @dg.rv
    def z(self):
        return Normal(0.0, 1.0)

    @school
    @dg.deterministic
    def theta(self, mu: Tensor, tau: Tensor, z: Tensor):
        return mu + tau * z

    @school
    @dg.rv
    def y(self, theta: Tensor, sigma: Tensor):
        return Normal(theta, sigma)


class Shrinkage(dg.Model):
    r"""An inference model that learns mean and spread alone.

    Given both, that of a school is known, $z_j \sim N(\tau (y_j - \mu) / v_j,\ \sigma_j^2 / v_j)$
    with $v_j = \tau^2 + \sigma_j^2$.
    """

    school = Schools.school
    y, sigma = school(dg.Input()), school(dg.Input())

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.slope = (
            nn.Parameter(torch.tensor([4.0, 1.0])),
            nn.Parameter(torch.zeros(())),
        )
        self.log_scale = nn.Parameter(torch.tensor([1.0, 0.0]))

    @dg.rv
    def tau(self):
        return LogNormal(self.mean[1], self.log_scale[1].exp())

    @dg.rv
    def mu(self, tau: Tensor):
        return Normal(self.mean[0] + self.slope * tau.log(), self.log_scale[0].exp())

    @school
    @dg.rv
    def z(self, mu: Tensor, tau: Tensor, y: Tensor, sigma: Tensor):
        total = tau.square() + sigma.square()
        return Normal(tau * (y - mu) / total, sigma * total.rsqrt())


def eight_schools() -> Game:
    """Build model, inference model and ELBO; fit it to `DATA`, of which each draw is a copy.

    Example:
        >>> print(eight_schools().objective.explain().rows[0][1])
        KL(q(mu | tau) || p(mu))
    """
    p, q = Schools(), Shrinkage()
    draws = dg.estimators.pathwise(draws=32)
    return Game({"p": p, "q": q}, dg.elbo(p, q, gradients=draws), {"steps": 1000, "lr": 0.02})
