r"""Bayesian linear and logistic regression: the weights are variables that all rows share.

$w \sim N(0, s^2 I)$, and $y_i \sim N(w^T x_i, \sigma^2)$, or of log-odds $w^T x_i$.
The linear one takes the whole data set as one value, y `[n]` given all inputs, so its posterior
and evidence are exact. The logistic one sees rows, so that it learns from batches: each row draws
weights of its own, whose density counts once for all (see `dg.nets.randomize`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre.game import Game

__all__ = ["LinearRegression", "learn", "logistic_regression"]


class LinearRegression(dg.Model):
    r"""The graph w -> y of a whole data set; a batch of it is one row.

    Its evidence, as a function of prior and noise, weighs fit and complexity: maximising it by
    `learn` is type-II maximum likelihood.

    Args:
        inputs: $x_i$, `[n, d]`; append a column of ones for an intercept.
        prior: The standard deviation of the weights.
        noise: The standard deviation of y.

    References:
        MacKay (1992), *Bayesian interpolation*; Bishop (2006), section 3.3.

    Example:
        >>> p = LinearRegression(torch.tensor([[1.0], [2.0]]), prior=1.0, noise=1.0)
        >>> w = dg.posterior(p, "w", given={"y": torch.tensor([[1.0, 2.0]])})
        >>> round(w.mean.item(), 4), round(w.variance.item(), 4)  # 5/6 and 1/6
        (0.8333, 0.1667)
    """

    x: Tensor

    def __init__(self, inputs: Tensor, *, prior: float = 1.0, noise: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("x", inputs)
        self.log_prior = nn.Parameter(torch.tensor(prior, dtype=inputs.dtype).log())
        self.log_noise = nn.Parameter(torch.tensor(noise, dtype=inputs.dtype).log())

    @dg.rv
    def w(self):
        return Normal(self.x.new_zeros(self.x.shape[1]), self.log_prior.exp())

    @dg.rv
    def y(self, w: Tensor):
        return Normal(w @ self.x.T, self.log_noise.exp())


def learn(p: LinearRegression, y: Tensor, *, steps: int = 200, lr: float = 0.05) -> None:
    """Maximise the evidence over prior and noise, in place.

    Args:
        p: The model of the inputs.
        y: Outputs `[n]`.
        steps: Of the optimiser.
        lr: Its learning rate.
    """
    cost = dg.nll(p, observed=["y"])
    dg.fit(cost, {"y": y[None]}, steps=steps, batch_size=1, lr=lr, progress=False)


def logistic_regression(features: int, rows: int, *, prior: float = 1.0) -> Game:
    """Build the model of weights, bias and labels, its q of mean field, and the ELBO.

    The variables are `input` `[n, features]`, `weight`, `bias` and `y` `[n, 1]` of 0 and 1.

    Args:
        features: Numbers in an input.
        rows: How many rows the data has.
        prior: The standard deviation of weights and bias.

    References:
        Jaakkola and Jordan (2000), *Bayesian parameter estimation via variational methods*, for
        the model; Blundell et al. (2015, arXiv 1505.05424) for how it learns.

    Example:
        >>> logistic_regression(2, 100).p.graph
        Graph(-> weight; -> bias; input; input, weight, bias => output; output -> y)
    """
    p = dg.nets.randomize(
        nn.Linear(features, 1),
        weights=Normal(0.0, prior),
        rows=rows,
        y=lambda output: Bernoulli(logits=output),
    )
    q = p.mean_field()
    return Game({"p": p, "q": q}, dg.elbo(p, q), {"epochs": 100, "lr": 0.02})
