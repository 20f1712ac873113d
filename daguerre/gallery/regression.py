r"""Bayesian linear and logistic regression: the weights are variables that all rows share.

$w \sim N(0, s^2 I)$, and in the plate n of the rows $y_i \sim N(w^T x_i, \sigma^2)$, or a coin of
log-odds $w^T x_i$. An example is a whole data set, x `[1, n, d]` and y `[1, n]`. The linear one is
exact, posterior and evidence; the logistic one learns a q, from batches of rows if there are many
(`subsample`), or is drawn by NUTS.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal

import daguerre as dg
from daguerre.game import Game

__all__ = ["LinearRegression", "LogisticRegression", "Weights", "learn", "logistic_regression"]


class LinearRegression(dg.Model):
    r"""Outputs with Gaussian noise.

    Its evidence, as a function of prior and noise, weighs fit and complexity: maximising it by
    `learn` is type-II maximum likelihood.

    Args:
        features: d, the numbers in an input; append a column of ones for an intercept.
        prior: The standard deviation of the weights.
        noise: The standard deviation of y.

    References:
        MacKay (1992), *Bayesian interpolation*; Bishop (2006), section 3.3.

    Example:
        >>> p = LinearRegression(1, prior=1.0, noise=1.0)
        >>> given = {"x": torch.tensor([[[1.0], [2.0]]]), "y": torch.tensor([[1.0, 2.0]])}
        >>> w = dg.posterior(p, "w", given=given)
        >>> round(w.mean.item(), 4), round(w.variance.item(), 4)  # 5/6 and 1/6
        (0.8333, 0.1667)
    """

    n = dg.Plate("n")
    x = n(dg.Input())

    def __init__(self, features: int, *, prior: float = 1.0, noise: float = 1.0) -> None:
        super().__init__()
        self.features = features
        self.log_prior = nn.Parameter(torch.tensor(prior).log())
        self.log_noise = nn.Parameter(torch.tensor(noise).log())

    @dg.rv
    def w(self):
        return Normal(torch.zeros_like(self.log_prior).expand(self.features), self.log_prior.exp())

    @n
    @dg.rv
    def y(self, w: Tensor, x: Tensor):
        return Normal((w * x).sum(1), self.log_noise.exp())


def learn(p: LinearRegression, x: Tensor, y: Tensor, *, steps: int = 100, lr: float = 0.1) -> None:
    """Maximise the evidence over prior and noise, in place.

    Args:
        p: The model.
        x: Inputs `[n, d]`.
        y: Outputs `[n]`.
        steps: Of the optimiser.
        lr: Its learning rate.
    """
    cost = dg.nll(p, observed=["y"])
    dg.fit(cost, {"x": x[None], "y": y[None]}, steps=steps, lr=lr, progress=False)


class LogisticRegression(dg.Model):
    """Labels 0 and 1.

    Args:
        features: d, the numbers in an input.
        prior: The standard deviation of the weights.
    """

    scale: Tensor
    n = dg.Plate("n")
    x = n(dg.Input())

    def __init__(self, features: int, *, prior: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((features,), prior))

    @dg.rv
    def w(self):
        return Normal(torch.zeros_like(self.scale), self.scale)

    @n
    @dg.rv
    def y(self, w: Tensor, x: Tensor):
        return Bernoulli(logits=(w * x).sum(1))


class Weights(dg.Model):
    """A Gaussian of correlated weights, as an inference model."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(features))
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.below = nn.Parameter(torch.zeros(features, features))

    @dg.rv
    def w(self):
        factor = self.below.tril(-1) + self.log_scale.exp().diag()
        return MultivariateNormal(self.mean, scale_tril=factor)


def logistic_regression(features: int, *, prior: float = 1.0) -> Game:
    """Build model, inference model and ELBO.

    References:
        Jaakkola and Jordan (2000), *Bayesian parameter estimation via variational methods*, for
        the model; Hoffman et al. (2013, arXiv 1206.7051) for learning from batches of rows.

    Example:
        >>> game = logistic_regression(2)
        >>> game.p.graph
        Graph(x; -> w; w, x -> y)
        >>> x, y = torch.randn(1, 100, 2), torch.ones(1, 100)
        >>> history = dg.fit(
        ...     game.objective, {"x": x, "y": y}, subsample={"n": 20}, epochs=2, progress=False
        ... )
        >>> len(history)
        10
    """
    p, q = LogisticRegression(features, prior=prior), Weights(features)
    options = {"steps": 600, "lr": 0.02}
    return Game({"p": p, "q": q}, dg.elbo(p, q), options)
