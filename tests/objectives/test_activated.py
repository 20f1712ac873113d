"""The adversary activated VAE of Hu et al. (2018, arXiv 1706.00550)."""

import pytest
import torch
from nets import encoder, net, reals, zeros
from parts import Critic, Cut, X, decoder, pixels, same_gradient, seeded
from torch import Tensor, nn
from torch.distributions import Normal, OneHotCategorical, Poisson

import daguerre as dg
from daguerre.objectives.recipes import aavae


def far() -> tuple[dg.Model, dg.Model, Tensor]:
    """Data so far from the model's draws that a cut tells them apart without doubt."""
    return decoder(), encoder(3, 2), 100 + X


def halves(p: dg.Model, q: dg.Model, x: Tensor, critic: nn.Module) -> Tensor:
    """Write the objective of AAVAE out: fakes, then the latents of both halves at once."""
    torch.manual_seed(7)
    fakes = p.sample(len(x))["x"]
    both = torch.cat([x, fakes])
    z = q.rsample(given={"x": both})["z"]
    mean, log_scale = q.steps()[1].cpd.net(both).chunk(2, 1)  # type: ignore[union-attr]
    kl = torch.distributions.kl_divergence(
        Normal(mean, log_scale.exp()), Normal(zeros(2), 1.0)
    ).sum(1)
    likelihood = p.log_prob({"x": both, "z": z}) - Normal(zeros(2), 1.0).log_prob(z).sum(1)
    trust = critic(both).reshape(-1).sigmoid().detach()
    return (trust * (kl - likelihood)).mean()


def test_aavae_weighs_real_and_fake_by_the_critic():
    p, q, critic = decoder(), encoder(3, 2), Critic(3)
    cost = aavae(p, q, critic)
    loss, by_hand = seeded(cost, {"x": X}, "model"), halves(p, q, X, critic)
    torch.testing.assert_close(loss, by_hand)
    same_gradient(loss, by_hand, cost)


def test_a_perfect_critic_makes_aavae_half_a_vae():
    p = dg.model(
        z=Normal(zeros(1), 1.0), x=dg.rv(lambda z, net: Normal(net(z), 1.0), net=net(1, 1))
    )
    q = dg.model(x=dg.Input(1), z=lambda x: Normal(x / 200, 1e-6))
    x = 100 + reals(4, 1)
    both = aavae(p, q, Cut(50.0))
    assert seeded(both, {"x": x}, "model").item() == pytest.approx(
        dg.elbo(p, q).losses(x)["model"].item() / 2, rel=1e-6
    )


def test_a_critic_in_doubt_makes_aavae_half_the_bound_of_the_mixture():
    p, q = decoder(), encoder(3, 2)
    doubt = Cut(0.0, certainty=0.0)
    loss = seeded(aavae(p, q, doubt), {"x": X}, "model")
    torch.manual_seed(7)
    mixture = torch.cat([X, p.sample(4)["x"]])
    torch.testing.assert_close(loss, dg.elbo(p, q).losses(mixture)["model"] / 2)


def test_the_critic_of_aavae_is_that_of_a_gan():
    p, q, critic = decoder(), encoder(3, 2), Critic(3)
    loss = seeded(aavae(p, q, critic), {"x": X}, "critic")
    torch.testing.assert_close(loss, seeded(dg.gan(p, critic), {"x": X}, "critic"))


def test_aavae_fakes_need_no_pathwise_gradient():
    p = pixels()
    losses = aavae(p, encoder(3, 2), Critic(3)).losses(X.sigmoid())
    assert losses["model"].isfinite()


def semi() -> tuple[dg.Model, dg.Model]:
    p = dg.model(
        y=OneHotCategorical(torch.full([3], 1 / 3).double()),
        z=Normal(zeros(2), 1.0),
        x=dg.rv(lambda y, z, net: Normal(net(torch.cat([y, z], 1)), 1.0), net=net(5, 3)),
    )
    q = dg.model(
        x=dg.Input(3),
        y=dg.rv(lambda x, net: OneHotCategorical(logits=net(x)), net=net(3, 3)),
        z=dg.rv(lambda x, y, net: Normal(net(torch.cat([x, y], 1)), 0.5), net=net(6, 2)),
    )
    return p, q


def test_aavae_learns_from_some_labels():
    """AA-SVAE: the labels of fakes are unknown, so a perfect critic gives half the SVAE."""
    p, q = semi()
    y = torch.eye(3, dtype=torch.float64)[[0, 2, 1, 0]]
    y[1] = torch.nan
    batch = {"x": 100 + X, "y": y}
    cost = aavae(p, q, Cut(50.0), partial=["y"])
    assert {*cost.given} == {"x", "y"}
    n = 2000
    rows = {k: v.repeat(n, 1) for k, v in batch.items()}
    one = seeded(cost, rows, "model").item()
    half = dg.elbo(p, q, partial=["y"]).losses(rows)["model"].item() / 2
    assert one == pytest.approx(half, rel=0.01)
    model = cost.players[1].parameters()
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(seeded(cost, rows, "model"), model))


def test_fakes_have_no_label():
    p, q = semi()
    y = torch.eye(3, dtype=torch.float64)[[0, 2, 1, 0]]
    cost = aavae(p, q, Cut(0.0, certainty=0.0), partial=["y"])
    loss = seeded(cost, {"x": X, "y": y}, "model")
    torch.manual_seed(7)
    both = {
        "x": torch.cat([X, p.sample(4)["x"]]),
        "y": torch.cat([y, torch.full_like(y, torch.nan)]),
    }
    torch.testing.assert_close(loss, dg.elbo(p, q, partial=["y"]).losses(both)["model"] / 2)


def test_aavae_refuses_gradients_that_are_right_for_a_mean_only():
    p = dg.model(
        z=Poisson(torch.ones(2)),
        x=dg.rv(lambda z, net: Normal(net(z), 1.0), net=nn.Linear(2, 3)),
    )
    q = dg.model(x=dg.Input(3), z=dg.rv(lambda x, net: Poisson(net(x).exp()), net=nn.Linear(3, 2)))
    with pytest.raises(dg.InadmissibleError, match="z is drawn for the score function"):
        aavae(p, q, nn.Linear(3, 1))
    with pytest.raises(dg.InadmissibleError, match="without the score of q"):
        aavae(decoder(), encoder(3, 2), Critic(3), gradients=dg.estimators.STICK_THE_LANDING)


def test_fakes_of_a_conditional_aavae_share_the_input_of_their_example():
    p = dg.model(c=dg.Input(1), z=Normal(zeros(1), 1.0), x=lambda z, c: Normal(c + 0 * z, 1e-6))
    q = dg.model(x=dg.Input(1), c=dg.Input(1), z=lambda x, c: Normal(0 * x, 1.0))
    seen = []

    class Watching(nn.Module):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            seen.append((x, c))
            return 0 * x[:, 0]

    c = torch.arange(4.0, dtype=torch.float64)[:, None]
    aavae(p, q, Watching()).losses({"x": c + 10, "c": c}, players=["model"])
    x, given = seen[-1]
    torch.testing.assert_close(given, torch.cat([c, c]))
    torch.testing.assert_close(x, torch.cat([c + 10, c]), rtol=0, atol=1e-4)
