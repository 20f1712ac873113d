"""Costs from samples of models that repeat: sequences and members of plates against data."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import softplus

import daguerre as dg


class Walk(dg.Model):
    """An implicit model of sequences: a net moved by noise at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(2, 4), nn.Linear(4, 1)

    @dg.rv
    def z(self):
        return dg.StandardNormal(2)

    @dg.deterministic
    def h(self, z: Tensor, last: Tensor = dg.lag("h", init=torch.zeros(4))):
        return self.cell(z, last)

    @dg.deterministic
    def x(self, h: Tensor):
        return self.out(h)


class Critic(nn.Module):
    """Reads a sequence as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.out = nn.GRU(1, 3, batch_first=True), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.read(x)[0][:, -1])


def sequences() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(6, 5, 1).cumsum(1)


def drawn(p: dg.Model, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return p.rsample(6, t=5)["x"]


def test_a_distance_is_that_of_whole_sequences():
    p, x = Walk(), sequences()
    torch.manual_seed(1)
    ours = dg.MMD(dg.data("x"), p["x"]).losses({"x": x})["model"]
    plain = dg.MMD(dg.data("x"), dg.model(x=dg.deterministic(lambda y: y), y=dg.Input(5))["x"])
    y = drawn(p, 1)
    theirs = plain.losses({"x": x.flatten(1), "y": y.flatten(1)})["model"]
    torch.testing.assert_close(ours, theirs)
    weights = [*p.parameters()]
    ours, theirs = (torch.autograd.grad(loss, weights) for loss in (ours, theirs))
    torch.testing.assert_close(ours, theirs)


def test_a_critic_reads_whole_sequences():
    torch.manual_seed(2)
    p, critic, x = Walk(), Critic(), sequences()
    game = dg.gan(p, critic=critic)
    torch.manual_seed(3)
    losses = game.losses({"x": x})
    torch.manual_seed(3)
    first, second = p.rsample(6, t=5)["x"], p.rsample(6, t=5)["x"]
    on_critic = softplus(-critic(x)).mean() + softplus(critic(first)).mean()
    torch.testing.assert_close(losses["critic"], on_critic)
    torch.testing.assert_close(losses["model"], softplus(-critic(second)).mean())
    history = dg.fit(game, {"x": x}, steps=3, batch_size=6, progress=False)
    assert len(history["model"]) == 3


def test_members_of_a_plate_are_compared_together():
    school = dg.Plate("school")

    class Schools(dg.Model):
        @dg.rv
        def mu(self):
            return Normal(0.0, 1.0)

        @school
        @dg.rv
        def x(self, mu: Tensor):
            return Normal(mu, 0.1)

    torch.manual_seed(4)
    x = Schools().sample(400, school=3)["x"]
    loss = dg.MMD(dg.data("x"), Schools()["x"]).losses({"x": x})["model"].item()
    alone = dg.model(x=Normal(torch.zeros(3), 1.01**0.5))  # the same members, but independent
    apart = dg.MMD(dg.data("x"), alone["x"])
    assert abs(loss) < 0.02 < apart.losses({"x": x})["model"].item()


def test_samples_need_data_to_say_how_often_they_repeat():
    one, other = Walk(), Walk()
    with pytest.raises(
        dg.GraphError, match="the number of steps t is not known: no data tells it"
    ):
        dg.MMD(one["x"], other["x"]).losses(4)


def test_densities_over_time_are_no_ratio_of_single_rows():
    def walk() -> dg.Model:
        start = Normal(0.0, 1.0)
        return dg.model(z=lambda last=dg.lag("z", init=start): Normal(last, 1.0))

    with pytest.raises(dg.InadmissibleError, match="z repeats in t, which JS without a critic"):
        dg.JS(walk(), walk())
