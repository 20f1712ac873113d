"""Chains of several kinds, each with q, sequences of different lengths, and bounds."""

import torch
from torch import Tensor, nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.nn import over_time

D = 2
Models = tuple[dg.Model, dg.Model]


def lengths(*steps: int, longest: int = 7, plates: tuple[int, ...] = ()) -> Tensor:
    """Sequences `[n, *plates, T, D]` of so many steps, in double precision."""
    torch.manual_seed(3)
    x = torch.randn(len(steps), *plates, longest, D).double()
    for row, last in zip(x, steps, strict=True):
        row[..., last:, :] = torch.nan
    return x


def net(inputs: int, outputs: int = D) -> nn.Linear:
    return nn.Linear(inputs, outputs).double()


def zeros(size: int = D) -> Tensor:
    return torch.zeros(size).double()


STANDARD = Normal(zeros(), torch.ones(D).double())


def smoothed() -> Models:
    """Units that read ahead, step by step, and states with two lags, beside data of before."""
    p = dg.model(
        z=dg.rv(lambda net, z=dg.lag("z", init=STANDARD): Normal(net(z), 0.7), net=net(D)),
        x=dg.rv(
            lambda z, net, x=dg.lag("x", 2, init=zeros()): Normal(net(torch.cat([z, x], 1)), 0.5),
            net=net(2 * D),
        ),
    )
    q = dg.model(
        x=dg.Input(D, dtype=torch.float64),
        b=dg.deterministic(
            lambda x, cell, after=dg.lag("b", -1, init=zeros(3)): cell(x, after),
            cell=nn.GRUCell(D, 3).double(),
        ),
        z=dg.rv(
            lambda b, net, old=dg.lag("z", 2, init=zeros()), last=dg.lag("z", init=zeros()): (
                Normal(net(torch.cat([b, old, last], 1)), 0.4)
            ),
            net=net(3 + 2 * D),
        ),
    )
    return p, q


def at_once(*, told: bool = False) -> Models:
    """The same direction by all slices at once, and laws of the first two states."""
    law = dg.lag("z", 2, init=STANDARD)
    p = dg.model(
        z=dg.rv(lambda net, z=law: Normal(net(z), 0.7), net=net(D)),
        x=dg.rv(lambda z, net: Normal(net(z), 0.5), net=net(D)),
    )

    def read(x: Tensor, cell: nn.LSTMCell, after: Tensor) -> Tensor:
        return over_time(cell, x, after)

    def read_until(
        x: Tensor, cell: nn.LSTMCell, after: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        return over_time(cell, x, after, lengths=lengths)

    def step(x: Tensor, cell: nn.LSTMCell, after=dg.lag("b", -1, init=zeros(6))) -> Tensor:
        return torch.cat(cell(x, after.chunk(2, 1)), 1)

    q = dg.model(
        x=dg.Input(D, dtype=torch.float64),
        b=dg.deterministic(
            step, over_time=read_until if told else read, cell=nn.LSTMCell(D, 3).double()
        ),
        z=dg.rv(lambda b, net: Normal(net(b), 0.4), net=net(6)),
    )
    return p, q


def in_a_plate() -> Models:
    """Several chains in each example, and what holds for all of an example, and of a chain."""
    voices, time = dg.Plate("voices"), dg.Plate("t")

    def move(v: Tensor, u: Tensor, net: nn.Module, z=dg.lag("z", init=zeros())):
        return Normal(net(torch.cat([u, v, z], 1)), 0.7)

    def follow(x: Tensor, v: Tensor, net: nn.Module, z=dg.lag("z", init=zeros())):
        return Normal(net(torch.cat([x, v, z], 1)), 0.4)

    p = dg.model(
        u=STANDARD,
        v=voices(dg.rv(lambda u, net: Normal(net(u), 1.0), net=net(D))),
        z=voices(time(dg.rv(move, net=net(3 * D)))),
        x=voices(time(dg.rv(lambda z, net: Normal(net(z), 0.5), net=net(D)))),
    )
    q = dg.model(
        x=voices(time(dg.Input(D, dtype=torch.float64))),
        u=Normal(zeros() + 0.3, 0.5),
        v=voices(dg.rv(lambda u, net: Normal(net(u), 0.4), net=net(D))),
        z=voices(time(dg.rv(follow, net=net(3 * D)))),
    )
    return p, q


COSTS = {
    "elbo": lambda p, q: dg.elbo(p, q, partial=["x"]),
    "iwae": lambda p, q: dg.iwae(p, q, particles=3, partial=["x"]),
    "dreg": lambda p, q: dg.iwae(p, q, particles=3, partial=["x"], gradients=dg.estimators.DREG),
}
