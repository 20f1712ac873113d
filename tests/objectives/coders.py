"""Small decoders and encoders in float64, the same ones each time, and what they are fed."""

import torch
from torch import nn
from torch.distributions import Normal

import daguerre as dg

__all__ = ["Decoder", "Encoder", "Implicit", "Quantised", "X", "critic", "net"]

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()


def net(*sizes: int) -> nn.Module:
    return dg.nn.mlp(*sizes, activation=nn.Tanh).double()


class Decoder(dg.Model):
    """z -> x, Gaussian."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = net(2, 4, 3)

    @dg.rv
    def z(self):
        return Normal(torch.zeros(2, dtype=torch.float64), 1.0)

    @dg.rv
    def x(self, z):
        return Normal(self.net(z), 0.5)


class Encoder(dg.Model):
    x = dg.Input(3)

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = net(3, 4, 4)

    @dg.rv
    def z(self, x):
        mean, log_scale = self.net(x).chunk(2, 1)
        return Normal(mean, log_scale.exp())


class Implicit(dg.Model):
    """q(z | x) without a density: z is a function of x and noise."""

    x = dg.Input(3)

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = net(5, 4, 2)

    @dg.rv
    def noise(self):
        return Normal(torch.zeros(2, dtype=torch.float64), 1.0)

    @dg.deterministic
    def z(self, x, noise):
        return self.net(torch.cat([x, noise], 1))


class Quantised(dg.Model):
    """x => h => e, and z the code with the gradient of the features."""

    x = dg.Input(3)

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.net, self.book = net(3, 4, 2), dg.nn.Codebook(5, 2).double()

    @dg.deterministic
    def h(self, x):
        return self.net(x)

    @dg.deterministic
    def e(self, h):
        return self.book(h)

    @dg.deterministic
    def z(self, h, e):
        return self.book.passed(h, e)


def critic(*sizes: int) -> nn.Module:
    """A net of whatever it is called with, joined."""
    torch.manual_seed(2)
    return dg.nn.Joined(net(*sizes))
