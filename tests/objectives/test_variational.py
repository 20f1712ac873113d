"""The variational costs: wake-sleep at its fixed points, and sums written out by hand."""

import pytest
import torch
from coders import Decoder, Encoder, Implicit, Quantised, X, critic
from labelled import LABELS, Labelled, Labeller
from labelled import X as LABELLED_X
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal
from toys import STATES, f64

import daguerre as dg
from daguerre import recipes
from daguerre.objectives import MMD, covariance_penalty, total_correlation
from daguerre.objectives.objective import Batch


def loss(cost: dg.Objective, batch: Batch = X, player: str = "model") -> float:
    torch.manual_seed(7)
    return cost.losses(batch, players=[player])[player].item()


# Wake-sleep. The oracle G6 is a belief net with two binary causes of x = 1.


class Causes(dg.Model):
    @dg.rv
    def h1(self):
        return Bernoulli(f64(0.3).squeeze())

    @dg.rv
    def h2(self):
        return Bernoulli(f64(0.6).squeeze())

    @dg.rv
    def x(self, h1, h2):
        return Bernoulli(logits=2 * h1 - h2 + 0.3)


class Factorised(dg.Model):
    """q(h1) q(h2), for x = 1 and x = 0 apart."""

    x = dg.Input()

    def __init__(self, *probabilities: float):
        super().__init__()
        logits = f64(*probabilities).logit()
        self.logits = nn.Parameter(torch.stack([torch.zeros(2).double(), logits]))

    @dg.rv
    def h1(self, x):
        return Bernoulli(logits=self.logits[x.long(), 0])

    @dg.rv
    def h2(self, x):
        return Bernoulli(logits=self.logits[x.long(), 1])


ONE = {"x": torch.ones(1, dtype=torch.float64)}


def enumerate_draws(patch: pytest.MonkeyPatch, draws: Tensor) -> None:
    """Let the latents h1 and h2 be drawn as the columns of a table `[rows, 2]`."""
    column = iter([draws[:, 0], draws[:, 1]] * 9)
    patch.setattr(
        "daguerre.objectives.latents.draw_state", lambda cpd: next(column).view(cpd.batch_shape)
    )


def test_the_elbo_of_g6_and_its_best_factorised_q():
    exact = dg.estimators.ENUMERATE
    even = dg.elbo(Causes(), Factorised(0.5, 0.5), gradients=exact).losses(ONE)["model"].item()
    assert -even == pytest.approx(-0.606111493779, abs=1e-9)
    q = Factorised(0.454432, 0.509983)
    best = dg.elbo(Causes(), q, gradients=exact).losses(ONE)["model"]
    assert -best.item() == pytest.approx(-0.601558491772, abs=1e-9)
    (grad,) = torch.autograd.grad(best, [q.logits])
    assert grad.abs().max().item() < 1e-6


def test_the_bounds_of_g6_lie_in_order():
    p, q = Causes(), Factorised(0.5, 0.5)
    with torch.no_grad():
        weights = (
            torch.stack([p.log_prob(draw(state)) for state in STATES]).squeeze()
            + 2 * f64(2.0).log()
        )
    pairs = torch.stack(torch.meshgrid(weights, weights, indexing="ij"))
    two = (pairs.logsumexp(0) - f64(2.0).log()).mean().item()
    assert weights.mean().item() == pytest.approx(-0.606111493779, abs=1e-9)
    assert two == pytest.approx(-0.601196104626, abs=1e-9)
    assert (weights.logsumexp(0) - f64(4.0).log()).item() == pytest.approx(-0.59652770912)
    rows = {"x": torch.ones(100_000, dtype=torch.float64)}
    torch.manual_seed(0)
    by_draws = dg.estimators.score_function()
    found = dg.iwae(p, q, particles=2, gradients=by_draws).losses(rows)["model"].item()
    assert -found == pytest.approx(two, abs=1e-3)


def draw(state: Tensor) -> dict[str, Tensor]:
    return {"h1": state[:1], "h2": state[1:], "x": torch.ones(1, dtype=torch.float64)}


def test_the_fixed_point_of_sleep_is_the_posterior_marginals(monkeypatch):
    """Oracle G6; every draw (h1, h2, x) of p is made once and weighed by hand."""
    p, q = Causes(), Factorised(0.454886833366, 0.509898198476)
    cost = dg.wake_sleep(p, q)
    joint = torch.cat([STATES, STATES]), torch.tensor([0.0] * 4 + [1.0] * 4).double()
    odds = p.log_prob({"h1": joint[0][:, 0], "h2": joint[0][:, 1], "x": joint[1]}).exp()
    grads = []
    for state, x in zip(*joint, strict=True):
        values = iter([state[:1], state[1:], x[None]])
        monkeypatch.setattr(
            "daguerre.objectives.latents.draw_state", lambda cpd, v=values: next(v)
        )
        asleep = cost.losses(ONE, players=["inference"])["inference"]
        grads.append(torch.autograd.grad(asleep, [q.logits])[0])
    mean = (odds[:, None, None] * torch.stack(grads)).sum(0)
    assert mean[1].abs().max().item() < 1e-9  # of x = 1


def test_the_wake_phase_of_q_has_the_same_fixed_point_with_many_particles():
    torch.manual_seed(0)
    q = Factorised(0.454886833366, 0.509898198476)
    cost = recipes.reweighted_wake_sleep(Causes(), q, particles=200)
    rows = {"x": torch.ones(20_000, dtype=torch.float64)}
    awake = cost.losses(rows, players=["inference"])["inference"]
    (grad,) = torch.autograd.grad(awake, [q.logits])
    assert grad.abs().max().item() < 2e-3  # 4e6 draws, and a bias of the order 1 / 200


def test_the_model_phase_of_reweighted_wake_sleep_is_the_gradient_of_the_bound():
    p, q = Decoder(), Encoder()
    rws = recipes.reweighted_wake_sleep(p, q, particles=5)
    plain = dg.iwae(p, q, particles=5)
    found = []
    for cost in (rws, plain):
        torch.manual_seed(3)
        value = cost.losses(X, players=["model"])["model"]
        found.append(torch.autograd.grad(value, [*p.parameters()]))
    torch.testing.assert_close(*found)
    assert [player.name for player in rws.players] == ["inference", "model"]


class Line(dg.Model):
    """q(z | x) = N(k x, v), of the oracle G4."""

    x = dg.Input()

    def __init__(self, slope: float, variance: float):
        super().__init__()
        self.slope = nn.Parameter(f64(slope).squeeze())
        self.log_scale = nn.Parameter(0.5 * f64(variance).log().squeeze())

    @dg.rv
    def z(self, x):
        return Normal(self.slope * x, self.log_scale.exp())


def test_sleep_ends_at_the_posterior_of_oracle_g4():
    p = dg.model(z=Normal(f64(0.0).squeeze(), 1.0), x=lambda z: Normal(z, 1.0))
    torch.manual_seed(0)
    n, q = 200_000, Line(0.5, 0.5)
    asleep = dg.cross_entropy(p, q, of="z", players={"inference": q}).losses(n)["inference"]
    assert -asleep.item() == pytest.approx(-1.07236494292, abs=5 * 0.71 / n**0.5)
    grads = torch.autograd.grad(asleep, [*q.parameters()])
    assert all(abs(grad.item()) < 5 * 2 / n**0.5 for grad in grads)
    other = dg.cross_entropy(p, Line(0.4, 0.6), of="z").losses(n)["model"]
    assert other.item() > asleep.item()


def test_awake_p_moves_and_asleep_q_moves():
    p, q = Decoder(), Encoder()
    cost = dg.wake_sleep(p, q)
    losses = cost.losses(X)
    ours = {"model": p, "inference": q}
    for name, module in ours.items():
        (other,) = (m for k, m in ours.items() if k != name)
        grads = torch.autograd.grad(losses[name], [*module.parameters()], retain_graph=True)
        assert all(grad.any() for grad in grads)
        assert name == "model" or not any(
            g is not None
            for g in torch.autograd.grad(losses[name], [*other.parameters()], allow_unused=True)
        )
    text = str(cost.explain())
    assert "held fixed" in text
    assert r"-\log q_\phi(z \mid x)" in cost.latex()


def test_wake_sleep_trains_a_belief_net():
    torch.manual_seed(0)
    p = dg.model(
        h=Bernoulli(torch.full((3,), 0.5)),
        x=dg.rv(lambda h, net: Bernoulli(logits=net(h)), net=nn.Linear(3, 6)),
    )
    q = dg.model(
        x=dg.Input(6), h=dg.rv(lambda x, net: Bernoulli(logits=net(x)), net=nn.Linear(6, 3))
    )
    x = (torch.rand(400, 1) < 0.5).float().expand(-1, 6).contiguous()
    history = dg.fit(dg.wake_sleep(p, q), x, steps=400, lr=0.02, progress=False, compile=False)
    assert history["model"][-50:].mean() < 0.6 * history["model"][:10].mean()


# Sums, against the same sums by hand.


def test_a_semi_supervised_cost_is_a_bound_and_a_classifier():
    p, q = Labelled(), Labeller()
    batch = {"x": LABELLED_X, "y": LABELS}
    cost = recipes.semi_supervised(p, q, weight=3.0)
    bound = loss(dg.elbo(p, q, partial=["y"]), batch)
    log_q = q.classifier(LABELLED_X).log_softmax(1)
    seen = LABELS >= 0
    expected = -log_q[seen].gather(1, LABELS[seen][:, None]).mean().item()
    assert loss(cost, batch) == pytest.approx(bound + 3 * expected, abs=1e-9)
    nobody = {"x": LABELLED_X, "y": torch.full((5,), -1)}
    assert loss(cost, nobody) == pytest.approx(loss(dg.elbo(p, q, partial=["y"]), nobody))


def test_what_the_data_alone_decides_is_computed_once_for_all_parts(monkeypatch):
    p, q, calls = Labelled(), Labeller(), []
    whole = type(q.classifier).forward

    def counted(self, x):
        if self is q.classifier:
            calls.append(len(x))
        return whole(self, x)

    cost = recipes.semi_supervised(p, q)
    monkeypatch.setattr(type(q.classifier), "forward", counted)
    cost.losses({"x": LABELLED_X, "y": LABELS})
    assert calls == [5]


def test_a_wasserstein_autoencoder_rebuilds_and_matches_the_prior():
    for q in (Encoder(), Implicit()):
        p = Decoder()
        data = dg.data("x") * q
        rebuilt = dg.cross_entropy(data, p, of="x")
        parts = rebuilt + 4.0 * MMD(p["z"], data["z"])
        assert loss(recipes.wae(p, q, weight=4.0)) == pytest.approx(loss(parts))
        value = recipes.wae(p, q).losses(X)["model"]
        grads = torch.autograd.grad(value, [*p.parameters(), *q.parameters()])
        assert all(grad.any() for grad in grads)


def test_reconstruction_is_the_distortion_of_the_elbo():
    p, q = Decoder(), Encoder()
    rebuilt = dg.cross_entropy(dg.data("x") * q, p, of="x")
    assert loss(rebuilt) == pytest.approx(loss(dg.elbo(p, q, rate=0.0)))


def test_info_vae_lies_between_the_elbo_and_a_wasserstein_autoencoder():
    p, q = Decoder(), Encoder()
    assert loss(recipes.info_vae(p, q, alpha=0.0, weight=1.0)) == pytest.approx(
        loss(dg.elbo(p, q))
    )
    assert loss(recipes.info_vae(p, q, alpha=1.0, weight=5.0)) == pytest.approx(
        loss(recipes.wae(p, q, weight=5.0))
    )
    with pytest.raises(ValueError, match="0 or more"):
        recipes.info_vae(p, q, alpha=1.5)


def test_beta_tc_and_dip_add_their_terms():
    p, q = Decoder(), Encoder()
    data = dg.data("x") * q
    correlated = dg.elbo(p, q) + 5.0 * total_correlation(data, of="z", rows=6)
    assert loss(recipes.beta_tc_vae(p, q, rows=6, beta=6.0)) == pytest.approx(loss(correlated))
    penalised = dg.elbo(p, q) + dg.expectation(data, covariance_penalty_of_z)
    assert loss(recipes.dip_vae(p, q)) == pytest.approx(loss(penalised))


def covariance_penalty_of_z(z: Tensor) -> Tensor:
    return covariance_penalty(z)


def test_factor_vae_pays_for_the_log_ratio_of_its_critic():
    p, q, judge = Decoder(), Encoder(), critic(2, 4, 1)
    cost = recipes.factor_vae(p, q, judge, weight=2.0)
    assert [player.name for player in cost.players] == ["critic", "model"]
    torch.manual_seed(7)
    bound = dg.elbo(p, q).losses(X)["model"]
    z = q.rsample(given={"x": X})["z"]
    expected = bound + 2 * judge(z).mean()
    assert loss(cost) == pytest.approx(expected.item())
    moved = torch.autograd.grad(cost.losses(X)["model"], [*q.parameters()])
    assert all(grad.any() for grad in moved)


def test_adversarial_variational_bayes_pays_for_the_log_ratio_of_its_critic():
    p, q, judge = Decoder(), Implicit(), critic(5, 4, 1)
    cost = recipes.avb(p, q, judge)
    torch.manual_seed(7)
    draw = q.rsample(given={"x": X})
    rebuilt = -p.x(draw["z"]).log_prob(X).sum(1).mean()
    z = q.rsample(given={"x": X})["z"]
    assert loss(cost) == pytest.approx((rebuilt + judge(z, X).mean()).item())
    torch.manual_seed(7)
    real = q.sample(given={"x": X})["z"]
    fake = torch.randn(6, 2, dtype=torch.float64)
    expected = nn.functional.softplus(-judge(real, X)) + nn.functional.softplus(judge(fake, X))
    assert loss(cost, player="critic") == pytest.approx(expected.mean().item())


def test_the_critic_of_avb_learns_the_log_ratio_of_oracle_g3():
    """T* = log q(z | x) - log p(z), at (1, 0.3), for q = N(x / 2, 1 / 4) and p = N(0, 1)."""
    torch.manual_seed(0)
    p = dg.model(z=Normal(torch.zeros(1), 1.0), x=lambda z: Normal(z, 1.0))
    q = dg.model(x=dg.Input(1), z=lambda x: Normal(x / 2, 0.5))

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(5, 1)

        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return self.head(torch.cat([z, x, z * z, z * x, x * x], 1))

    judge = Quadratic()
    cost = recipes.avb(p, q, judge)
    x = torch.randn(40_000, 1)
    for lr in (0.1, 0.01):
        step = dg.train.Step(cost, "critic", optimizer=dg.Adam(lr=lr), compile=False)
        for i in range(300):
            step(x[(i * 4000) % 40_000 :][:4000])
    found = judge(torch.tensor([[0.3]]), torch.tensor([[1.0]])).item()
    assert found == pytest.approx(0.65814718056, abs=0.05)


def test_a_vector_quantised_autoencoder_rebuilds_pulls_codes_and_commits():
    p, q = Decoder(), Quantised()
    cost = recipes.vq_vae(p, q, commitment=0.25)
    h = q.net(X)
    e = q.book(h)
    rebuilt = -p.x(e).log_prob(X).sum(1)
    expected = rebuilt + 1.25 * (h - e).square().sum(1)
    assert loss(cost) == pytest.approx(expected.mean().item())
    value = cost.losses(X)["model"]
    to_codes, to_net = torch.autograd.grad(value, [q.book.codes, next(q.net.parameters())])
    pull = torch.autograd.grad((h.detach() - q.book(h)).square().sum(1).mean(), [q.book.codes])
    torch.testing.assert_close(to_codes, pull[0])  # the decoder's gradient passes them by
    assert to_net.any()


COSTS = {
    "wake-sleep": lambda p, q: dg.wake_sleep(p, q),
    "reweighted": lambda p, q: recipes.reweighted_wake_sleep(p, q, particles=3, sleep=0.5),
    "wae": lambda p, q: recipes.wae(p, q),
    "info": lambda p, q: recipes.info_vae(p, q),
    "beta-tc": lambda p, q: recipes.beta_tc_vae(p, q, rows=6),
    "factor": lambda p, q: recipes.factor_vae(p, q, critic(2, 4, 1)),
    "dip": lambda p, q: recipes.dip_vae(p, q),
    "avb": lambda p, q: recipes.avb(p, q, critic(5, 4, 1)),
}


@pytest.mark.parametrize("name", COSTS)
def test_every_cost_explains_and_writes_itself_and_moves_its_players(name):
    cost = COSTS[name](Decoder(), Encoder())
    table, formulas = cost.explain(), cost.formulas
    assert {row["player"] for row in table} == {player.name for player in cost.players}
    assert formulas.keys() == {player.name for player in cost.players}
    assert all(line.count("{") == line.count("}") for line in formulas.values())
    for player in cost.players:
        value = cost.losses(X, players=[player.name])[player.name]
        grads = torch.autograd.grad(value, player.parameters())
        assert all(grad.isfinite().all() for grad in grads)
        assert any(grad.any() for grad in grads)
