"""Whose loss a weight scales: the model's; a critic's task is its own, whatever it counts for."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre.objectives.schedules import linear

X = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))


def critic(inputs: int = 3) -> nn.Module:
    return dg.nn.mlp(inputs, 4, 1, activation=nn.Tanh)


def pair():
    p = dg.model(
        z=dg.StandardNormal(2),
        x=dg.rv(lambda z, net: Normal(net(z), 0.5), net=nn.Linear(2, 3)),
    )
    q = dg.model(x=dg.Input(3), z=dg.rv(lambda x, net: Normal(net(x), 0.5), net=nn.Linear(3, 2)))
    return p, q


def gan() -> dg.Objective:
    return dg.gan(pair()[0], critic())


def wgan_gp() -> dg.Objective:
    slope = dg.penalties.gradient(10.0)
    return dg.Wasserstein(dg.data("x"), pair()[0]["x"], critic=critic(), penalty=slope)


def codes() -> dg.Objective:
    """Compare the aggregate posterior with the prior, as an adversarial autoencoder does."""
    p, q = pair()
    return dg.JS(p["z"], (dg.data("x") * q)["z"], critic=critic(2))


def activated() -> dg.Objective:
    return dg.recipes.aavae(*pair(), critic())


def with_baseline() -> dg.Objective:
    p = dg.model(
        z=Bernoulli(logits=torch.zeros(2)),
        x=dg.rv(lambda z, net: Normal(net(z), 0.5), net=nn.Linear(2, 3)),
    )
    q = dg.model(
        x=dg.Input(3), z=dg.rv(lambda x, net: Bernoulli(logits=net(x)), net=nn.Linear(3, 2))
    )
    how = dg.estimators.score_function(baseline=nn.Linear(3, 1))
    return dg.elbo(p, q, gradients=how)


COSTS: dict[str, Callable[[], dg.Objective]] = {
    "gan": gan,
    "wgan-gp": wgan_gp,
    "codes": codes,
    "activated": activated,
    "baseline": with_baseline,
}


def gradients(cost: dg.Objective, player: str, step: int = 0) -> list[Tensor]:
    torch.manual_seed(5)
    moved = next(p for p in cost.players if p.name == player).parameters()
    loss = cost.losses(X, players=[player], step=step)[player]
    found = torch.autograd.grad(loss, moved, allow_unused=True)
    return [g for g in found if g is not None]


@pytest.mark.parametrize("weight", [0.1, linear(0.0, 1.0, steps=10), 0.0], ids=str)
@pytest.mark.parametrize("name", COSTS)
def test_a_weight_is_the_models_and_leaves_who_estimates_alone(name, weight):
    torch.manual_seed(1)
    cost, step = COSTS[name](), 3
    auxiliary = cost.players[0].name
    assert auxiliary in ("critic", "baseline")
    own = gradients(cost, auxiliary, step)
    assert all(map(torch.equal, gradients(weight * cost, auxiliary, step), own))
    assert any(g.any() for g in own)
    factor = weight if isinstance(weight, float) else 0.3
    for one, other in zip(
        gradients(weight * cost, "model", step), gradients(cost, "model", step), strict=True
    ):
        torch.testing.assert_close(one, factor * other)


def test_a_critic_of_two_terms_learns_from_both_alike():
    p, judge = pair()[0], critic()
    game = dg.gan(p, judge)
    twice = gradients(0.1 * game + 5 * game, "critic")
    torch.manual_seed(5)
    losses = [game.losses(X, players=["critic"])["critic"] for _ in range(2)]
    expected = torch.autograd.grad(losses[0] + losses[1], [*judge.parameters()])
    assert all(map(torch.equal, twice, expected))


def test_a_fitted_critic_does_not_feel_the_weight():
    found = []
    for weight in (1.0, 0.01):
        torch.manual_seed(1)
        p, judge = pair()[0].requires_grad_(requires_grad=False), critic()
        dg.fit(weight * dg.gan(p, judge), X, steps=5, optimizer=dg.Adam(eps=1e-2))
        found.append([w.detach().clone() for w in judge.parameters()])
    assert all(map(torch.equal, *found))


def test_words_and_formulas_show_the_weight_where_it_counts():
    cost = 0.1 * gan()
    rows = {row["player"]: row["term"] for row in cost.explain()}
    assert rows["model"].startswith("0.1 * JS over x")
    assert rows["critic"].startswith("JS over x")
    assert "0.1" in cost.formulas["model"]
    assert "0.1" not in cost.formulas["critic"]
