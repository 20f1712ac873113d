"""Games of models with labels and inputs."""

from collections.abc import Callable

import pytest
import torch
from nets import net, reals, zeros
from parts import Critic, X, seeded
from torch import nn
from torch.distributions import Normal, OneHotCategorical
from torch.nn.functional import softplus

import daguerre as dg
from daguerre.objectives.recipes import aae, aavae, ali, infogan, iwgan, vae_gan


class Labelled(dg.Model):
    """z and a label to x, without a density."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net(2 + 4, 3, 3)

    @dg.rv
    def z(self):
        return Normal(zeros(2), 1.0)

    @dg.rv
    def y(self):
        return OneHotCategorical(logits=zeros(4))

    @dg.deterministic
    def x(self, z, y):
        return self.net(torch.cat([z, y], 1))


def test_an_acgan_is_a_gan_and_a_classifier_of_data_and_fakes() -> None:
    """Odena, Olah and Shlens (2017, arXiv 1610.09585)."""
    p, critic = Labelled(), Critic(3)
    logits = net(3, 4)
    tells = dg.rv(lambda x, net: OneHotCategorical(logits=net(x)), net=logits)
    q = dg.model(x=dg.Input(3), y=tells)
    told = dg.cross_entropy(dg.data("x", "y"), q, of="y") + dg.cross_entropy(p, q, of="y")
    labels = torch.eye(4, dtype=torch.float64)
    torch.manual_seed(3)
    loss = (dg.gan(p, critic) + told).losses({"x": X, "y": labels}, players=["model"])["model"]
    torch.manual_seed(3)
    first, second = p.rsample(4), p.rsample(4)
    expected = softplus(-critic(first["x"])).mean()
    for x, y in ((X, labels), (second["x"], second["y"])):
        expected = expected - OneHotCategorical(logits=logits(x)).log_prob(y).mean()
    assert loss.item() == pytest.approx(expected.item())
    assert all(grad.any() for grad in torch.autograd.grad(loss, [*p.parameters()]))


def test_a_projection_critic_plays_with_labels_of_both_sides() -> None:
    """Miyato and Koyama (2018, arXiv 1802.05637)."""
    p = Labelled()
    critic = dg.nn.Projection(net(3, 5), nn.Linear(4, 5, bias=False), width=5).double()
    game = dg.JS(dg.data("x", "y"), p["x", "y"], critic=critic, penalty=dg.penalties.r1(1.0))
    losses = game.losses({"x": X, "y": torch.eye(4, dtype=torch.float64)})
    for player in game.players:
        grads = torch.autograd.grad(losses[player.name], player.parameters())
        assert all(grad.isfinite().all() for grad in grads)
        assert any(grad.any() for grad in grads)


def conditional() -> tuple[dg.Model, dg.Model, dg.Model]:
    """A prescribed and an implicit model of x given c, and q of z given both."""

    p = dg.model(
        c=dg.Input(2),
        z=Normal(zeros(2), 1.0),
        x=dg.rv(lambda z, c, net: Normal(net(torch.cat([z, c], 1)), 0.7), net=net(4, 3)),
    )
    g = dg.model(
        c=dg.Input(2),
        z=Normal(zeros(2), 1.0),
        x=dg.deterministic(lambda z, c, net: net(torch.cat([z, c], 1)), net=net(4, 3)),
    )
    q = dg.model(
        x=dg.Input(3),
        c=dg.Input(2),
        z=dg.rv(lambda x, c, net: Normal(net(torch.cat([x, c], 1)), 0.5), net=net(5, 2)),
    )
    return p, g, q


CONDITIONAL: dict[str, Callable[[dg.Model, dg.Model, dg.Model], dg.Objective]] = {
    "c-GAN": lambda p, g, q: dg.gan(g, Critic(3, 2)),
    "IWCGAN": lambda p, g, q: iwgan(g, Critic(3, 2)),
    "CVAE": lambda p, g, q: dg.elbo(p, q),
    "AA-CVAE": lambda p, g, q: aavae(p, q, Critic(3, 2)),
    "InfoGAN": lambda p, g, q: infogan(g, q, Critic(3, 2)),
    "AAE": lambda p, g, q: aae(p, q, Critic(2, 2)),
    "ALI": lambda p, g, q: ali(g, q, Critic(2, 3, 2)),
    "VAE/GAN": lambda p, g, q: vae_gan(p, q, Critic(3, 2)),
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_recipes_take_models_with_inputs(name):
    cost = CONDITIONAL[name](*conditional())
    assert {*cost.given} == {"x", "c"}
    batch = {"x": X, "c": reals(4, 2)}
    for player in cost.players:
        loss = seeded(cost, batch, player.name)
        assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, player.parameters()))
