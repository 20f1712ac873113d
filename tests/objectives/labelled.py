"""The model M2 of Kingma et al. (2014, arXiv 1406.5298), small, with some labels missing."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from toys import f64

import daguerre as dg

__all__ = ["CLASSES", "LABELS", "Labelled", "Labeller", "X", "one_hot"]

CLASSES = 3
X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double()
LABELS = torch.tensor([2, -1, 0, -1, 1])


class Labelled(dg.Model):
    """y and z -> x: the model M2 of Kingma et al. (2014)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = dg.nn.mlp(CLASSES + 2, 5, 4, activation=nn.Tanh).double()
        self.prior = nn.Parameter(f64(0.1, -0.3, 0.2))

    @dg.rv
    def y(self):
        return Categorical(logits=self.prior)

    @dg.rv
    def z(self):
        return Normal(torch.zeros(2, dtype=torch.float64), 1.0)

    @dg.rv
    def x(self, y, z):
        return Normal(self.net(torch.cat([one_hot(y), z], 1)), 0.8)


class Labeller(dg.Model):
    """q(y | x) q(z | x, y)."""

    x = dg.Input(4)

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.classifier = dg.nn.mlp(4, 5, CLASSES, activation=nn.Tanh).double()
        self.net = dg.nn.mlp(4 + CLASSES, 5, 4, activation=nn.Tanh).double()

    @dg.rv
    def y(self, x):
        return Categorical(logits=self.classifier(x))

    @dg.rv
    def z(self, x, y):
        mean, log_scale = self.net(torch.cat([x, one_hot(y)], 1)).chunk(2, 1)
        return Normal(mean, log_scale.exp())


def one_hot(y: Tensor) -> Tensor:
    return nn.functional.one_hot(y, CLASSES).double()
