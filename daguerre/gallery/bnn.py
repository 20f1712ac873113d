r"""A Bayesian neural net: its weights are variables, drawn once for a whole data set.

$W \sim N(0, s^2)$, and in the plate n of the rows $y_i \sim N(f_W(x_i), \sigma^2)$. An example is
a data set, x `[1, n, d]` and y `[1, n]`; q learns from batches of rows, in which the divergence of
the weights from their prior counts once. (`dg.nets.randomize` makes the same of any module.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.game import Game

__all__ = ["MeanField", "Net", "bayesian_net", "predict"]


class Net(dg.Model):
    """One hidden layer of tanh, as a function with a distribution.

    Args:
        features: Numbers in an input.
        hidden: Units of the hidden layer.
        scale: The standard deviation of weights and biases of the hidden layer.
        noise: The standard deviation of y.

    References:
        MacKay (1992), *A practical Bayesian framework for backpropagation networks*; Neal (1996),
        *Bayesian Learning for Neural Networks*, for the scale of the outer weights.
    """

    n = dg.Plate("n")
    x = n(dg.Input())

    def __init__(
        self, features: int, hidden: int = 20, *, scale: float = 2.0, noise: float = 0.1
    ) -> None:
        super().__init__()
        self.features, self.hidden, self.scale, self.noise = features, hidden, scale, noise

    @dg.rv
    def inner(self):
        return Normal(torch.zeros(self.hidden, self.features + 1), self.scale)

    @dg.rv
    def outer(self):
        return Normal(torch.zeros(self.hidden), self.hidden**-0.5)

    @n
    @dg.deterministic
    def f(self, inner: Tensor, outer: Tensor, x: Tensor):
        units = torch.einsum("nhd,nd->nh", inner[:, :, 1:], x) + inner[:, :, 0]
        return (outer * units.tanh()).sum(1)

    @n
    @dg.rv
    def y(self, f: Tensor):
        return Normal(f, self.noise)


class MeanField(dg.Model):
    """Independent Gaussian weights, as an inference model.

    Their functions are too sure of themselves between data: Foong, Burt, Li and Turner (2020,
    arXiv 1909.00719).
    """

    def __init__(self, p: Net) -> None:
        super().__init__()
        start = {"inner": (p.hidden, p.features + 1), "outer": (p.hidden,)}
        self.means = nn.ParameterDict({n: p.scale * torch.randn(s) for n, s in start.items()})
        self.log_scales = nn.ParameterDict({n: torch.full(s, -3.0) for n, s in start.items()})

    @dg.rv
    def inner(self):
        return Normal(self.means["inner"], self.log_scales["inner"].exp())

    @dg.rv
    def outer(self):
        return Normal(self.means["outer"], self.log_scales["outer"].exp())


def bayesian_net(features: int = 1, hidden: int = 20, *, draws: int = 8) -> Game:
    """Build model, inference model and ELBO.

    Args:
        features: Numbers in an input.
        hidden: Units of the hidden layer.
        draws: Of the weights, for each step. The gradient of one draw is so noisy that training
            ends at a worse bound, whose functions doubt between data hardly more than at them.

    References:
        Blundell, Cornebise, Kavukcuoglu and Wierstra (2015, arXiv 1505.05424).

    Example:
        >>> game = bayesian_net(hidden=5)
        >>> data = {"x": torch.randn(1, 100, 1), "y": torch.randn(1, 100)}
        >>> _ = dg.fit(game.objective, data, subsample={"n": 20}, epochs=1, progress=False)
        >>> predict(game, torch.zeros(3, 1), draws=7).shape
        torch.Size([7, 3])
    """
    p = Net(features, hidden)
    q = MeanField(p)
    cost = dg.elbo(p, q, gradients=dg.estimators.pathwise(draws=draws))
    return Game({"p": p, "q": q}, cost, {"steps": 4000, "lr": 0.01})


@torch.no_grad()
def predict(game: Game, x: Tensor, *, draws: int = 200) -> Tensor:
    """Draw functions and return their values at inputs.

    Args:
        game: Model and inference model.
        x: Inputs `[n, features]`.
        draws: How many functions.

    Returns:
        `[draws, n]`.
    """
    assert game.q is not None, "a Bayesian net has an inference model"
    weights = game.q.sample(draws)
    return game.p.sample(draws, {**weights, "x": x.expand(draws, *x.shape)})["f"]
