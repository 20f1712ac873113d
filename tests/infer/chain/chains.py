"""Small chains that several tests share."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal

import daguerre as dg
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.infer.chain.hmm import HMM

START = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MOVE = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]], dtype=torch.float64)
FIRST = Categorical(START)
SEE = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], dtype=torch.float64)


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


class Weather(dg.Model):
    def __init__(self):
        super().__init__()
        self.move, self.see = Tabular(MOVE, "last"), Tabular(SEE, "z")
        self.mean = nn.Parameter(torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64))

    @dg.rv
    def z(self, last=dg.lag("z", init=FIRST)):
        return self.move(last)

    @dg.rv
    def x(self, z):
        return self.see(z)

    @dg.rv
    def y(self, z):
        return Normal(self.mean[z], 1.5)


X = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 0, 1]])
Y = double([[0.3, 1.0, math.nan, -0.5, 2.0], [math.nan, 0.1, 0.2, 3.0, -1.0]])


def by_hand(model: Weather, *, y: bool) -> HMM:
    likelihood = SEE.log().T[X]
    if y:
        seen = Normal(model.mean.detach(), 1.5).log_prob(Y.nan_to_num().unsqueeze(-1))
        likelihood = likelihood + torch.where(Y.isnan().unsqueeze(-1), 0.0, seen)
    return HMM(START.log(), MOVE.log(), likelihood)


U = double([[0.5, -1.0, 2.0, 0.0]])
W = double([[1.0, 0.0, 1.0, 1.0]])
V = double([[0.2, -0.3, 1.0, 0.4]])


def coupled() -> dg.Model:
    """Two coupled hidden variables, an input, a deterministic node, an autoregressive emission."""
    return dg.model(
        u=dg.Input(),
        a=lambda u, last=dg.lag("a", init=0.0): Bernoulli(logits=0.3 + 1.1 * last + 0.4 * u),
        b=lambda a, last=dg.lag("b", init=FIRST), other=dg.lag("a", init=0.0): Categorical(
            logits=MOVE[last.long()].log() + torch.stack([a, 0 * a, other], -1)
        ),
        h=dg.deterministic(lambda a, b: a - 0.5 * b),
        w=lambda h, v: Bernoulli(logits=h + v),
        v=lambda h, past=dg.lag("v", 2, init=1.0): Normal(h + 0.5 * past, 0.7),
    )


class Track(dg.Model):
    """Position and speed, the position a function; a start to be learned; two sensors."""

    u = dg.Input()

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([0.5, -0.2], dtype=torch.float64))
        one = double([[0.9, 0.1], [-0.2, 0.8]])
        self.move = LinearGaussian(torch.zeros(2).double(), double([0.3, 0.4]), weights={"s": one})

    @dg.rv
    def speed(self, u, last=dg.lag("speed", init=lambda self: Normal(self.first, 1.0))):
        law = self.move(last)
        return Normal(law.mean + u.unsqueeze(-1), law.stddev)

    @dg.deterministic
    def position(self, speed, last=dg.lag("position", init=1.0)):
        return last + 0.5 * speed[..., 0]

    @dg.rv
    def x(self, position, speed):
        return Normal(torch.stack([position, speed[..., 1] - position], -1), 0.6)

    @dg.rv
    def y(self, position, x):
        return Normal(2 * position - x[..., 0] + 1.0, 0.9)


def walk() -> dg.Model:
    start = Normal(double(0.0), 1.0)
    return dg.model(
        z=lambda last=dg.lag("z", init=start): Normal(last, 0.5**0.5),
        x=lambda z: Normal(z, 0.3**0.5),
    )


def pinned(known: Tensor) -> Tensor:
    agrees = (known.unsqueeze(-1) == torch.arange(3)) | (known < 0).unsqueeze(-1)
    return torch.zeros(2, 5, 3).double().masked_fill(~agrees, -math.inf)
