"""Chains as a user writes them, trained by the gradient of their evidence."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

import daguerre as dg


class Regimes(dg.Model):
    """Three regimes of different level and volatility."""

    def __init__(self):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(3))
        self.move = nn.Parameter(2 * torch.eye(3))
        self.level = nn.Parameter(torch.tensor([-1.0, 0.0, 1.0]))
        self.log_scale = nn.Parameter(torch.zeros(3))

    @dg.rv
    def regime(self, last=dg.lag("regime", init=lambda self: Categorical(logits=self.start))):
        return Categorical(logits=self.move[last])

    @dg.rv
    def x(self, regime):
        return Normal(self.level[regime], self.log_scale[regime].exp())


class Tracker(dg.Model):
    """A point that moves by a learned linear map, seen with noise."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(2))
        self.move, self.see = nn.Linear(2, 2), nn.Linear(2, 1)
        self.log_noise = nn.Parameter(torch.zeros(2))

    @dg.rv
    def z(self, last=dg.lag("z", init=lambda self: Normal(self.first, 1.0))):
        return Normal(self.move(last), self.log_noise.exp())

    @dg.rv
    def x(self, z):
        return Normal(self.see(z), 0.3)


def series() -> Tensor:
    g = torch.Generator().manual_seed(0)
    level = torch.tensor([-2.0, 3.0])[(torch.arange(60) // 15) % 2]
    return level + 0.3 * torch.randn(2, 60, generator=g)


def trained(model: dg.Model, x: Tensor) -> list[float]:
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    found = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = -dg.log_evidence(model, {"x": x}).mean()
        loss.backward()
        optimiser.step()
        found.append(-loss.item())
    return found


def test_a_hidden_markov_model_learns():
    torch.manual_seed(0)
    x, model = series(), Regimes()
    found = trained(model, x)
    assert found[-1] > found[0] + 30
    start = model.start.grad
    assert start is not None
    assert start.abs().sum() > 0
    probs = dg.posterior(model, "regime", given={"x": x}).probs
    assert probs[:, :15].sum((0, 1)).argmax() != probs[:, 15:30].sum((0, 1)).argmax()


def test_a_kalman_filter_learns():
    torch.manual_seed(0)
    x, model = series().unsqueeze(-1), Tracker()
    x[0, 20:30] = torch.nan
    found = trained(model, x)
    assert found[-1] > found[0] + 30
    assert model.first.grad is not None
    assert model.first.grad.abs().sum() > 0
    mean = dg.posterior(model, "z", given={"x": x}).mean
    assert (model.see(mean)[1] - x[1]).abs().mean() < 0.5
