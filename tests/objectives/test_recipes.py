"""Recipes that play model, inference model and critic together: values, gradients, directions."""

import math
from collections.abc import Callable

import pytest
import torch
from nets import encoder, net, reals, zeros
from parts import (
    Critic,
    X,
    back,
    decoder,
    generator,
    gradient,
    mapping,
    pixels,
    same_gradient,
    seeded,
    stranger,
    there,
)
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Normal, OneHotCategorical
from torch.nn.functional import softplus
from toys import f64

import daguerre as dg
from daguerre.draw.formula import formula
from daguerre.objectives.objective import Round
from daguerre.objectives.recipes import (
    aae,
    aavae,
    ali,
    cyclegan,
    infogan,
    iwgan,
    vae_gan,
)
from daguerre.program import validation

Game = tuple[dg.Objective, dict[str, Tensor]]
GAMES: dict[str, Callable[[], Game]] = {}


def entry(build: Callable[[], Game]) -> Callable[[], Game]:
    GAMES[build.__name__] = build
    return build


@entry
def an_infogan() -> Game:
    return infogan(generator(), encoder(3, 2), Critic(3), weight=0.5), {"x": X}


@entry
def an_aae() -> Game:
    return aae(decoder(), mapping(), Critic(2), weight=2.0), {"x": X}


@entry
def an_aae_with_a_random_encoder_and_bytes() -> Game:
    p = pixels()
    return aae(p, encoder(3, 2), Critic(2)), {"x": X.sigmoid()}


@entry
def an_ali() -> Game:
    return ali(generator(), encoder(3, 2), Critic(2, 3)), {"x": X}


@entry
def a_vae_gan() -> Game:
    return vae_gan(decoder(), encoder(3, 2), Critic(3), weight=0.1), {"x": X}


@entry
def a_cyclegan() -> Game:
    game = cyclegan(there(), back(), {"a": Critic(2), "b": Critic(3)})
    return game, {"a": reals(4, 2), "b": X}


@entry
def an_iwgan() -> Game:
    return iwgan(generator(), Critic(3)), {"x": X}


@entry
def an_aavae() -> Game:
    return aavae(decoder(), encoder(3, 2), Critic(3)), {"x": X}


every = pytest.mark.parametrize("name", GAMES)
STOPS = ("an_iwgan", "an_aavae")  # the model's gradient stops at weights or fakes
SMOOTH = [
    (n, who) for n in GAMES for who in ("critic", "model") if who == "critic" or n not in STOPS
]


# Laws of all


@every
def test_each_player_learns_by_all_its_parameters_and_no_others(name):
    cost, batch = GAMES[name]()
    assert [p.name for p in cost.players] == ["critic", "model"]
    model = cost.players[1].parameters()
    assert not {*cost.players[0].parameters()} & {*model}
    for player in ("critic", "model"):
        assert all(g.abs().sum() > 0 for g in gradient(seeded(cost, batch, player), cost, player))
    on_critic = torch.autograd.grad(seeded(cost, batch, "critic"), model, allow_unused=True)
    assert all(g is None for g in on_critic)


@pytest.mark.parametrize(("name", "player"), SMOOTH)
def test_gradients_are_those_of_finite_differences(name, player):
    cost, batch = GAMES[name]()
    own = next(p for p in cost.players if p.name == player).parameters()
    torch.manual_seed(3)
    way = [torch.randn_like(p) for p in own]
    slope = sum(
        (g * d).sum()
        for g, d in zip(gradient(seeded(cost, batch, player), cost, player), way, strict=True)
    )

    def moved(step: float) -> Tensor:
        with torch.no_grad():
            for p, d in zip(own, way, strict=True):
                p += step * d
            loss = seeded(cost, batch, player)
            for p, d in zip(own, way, strict=True):
                p -= step * d
        return loss

    h = 1e-5
    torch.testing.assert_close(slope, (moved(h) - moved(-h)) / (2 * h), rtol=1e-5, atol=1e-7)


@every
def test_each_says_what_it_is(name):
    cost, _ = GAMES[name]()
    assert {row["player"] for row in cost.explain()} == {"critic", "model"}
    for line in cost.formulas.values():
        assert formula(line).width > 100
    assert dg.draw(cost).png()


# Values, with the same draws


def test_an_infogan_is_a_gan_that_tells_its_codes():
    p, q, critic = generator(), encoder(3, 2), Critic(3)
    cost = infogan(p, q, critic, weight=0.5)
    loss = seeded(cost, {"x": X}, "model")
    torch.manual_seed(7)
    fake, told = p.rsample(4), p.rsample(4)
    game = softplus(-critic(fake["x"])).mean()
    codes = -q.log_prob({"z": told["z"], "x": told["x"]}).mean()
    by_hand = game + 0.5 * codes
    torch.testing.assert_close(loss, by_hand)
    same_gradient(loss, by_hand, cost)


def test_an_infogan_tells_the_codes_that_are_named():
    p = dg.model(
        c=OneHotCategorical(torch.full([3], 1 / 3)),
        u=Normal(torch.zeros(1), 1.0),
        x=dg.deterministic(lambda c, u, net: net(torch.cat([c, u], 1)), net=nn.Linear(4, 2)),
    )
    q = dg.model(
        x=dg.Input(2),
        c=dg.rv(lambda x, net: OneHotCategorical(logits=net(x)), net=nn.Linear(2, 3)),
        u=dg.rv(lambda x, net: Normal(net(x), 1.0), net=nn.Linear(2, 1)),
    )
    assert "cross entropy of c, u" in repr(infogan(p, q, nn.Linear(2, 1)))
    cost = infogan(p, q, nn.Linear(2, 1), codes="c")
    assert repr(cost) == (
        "Objective(JS over x + cross entropy of c, over c; players: critic, model)"
    )
    gradients = torch.autograd.grad(
        cost.losses(torch.zeros(5, 2))["model"], [*q.parameters()], allow_unused=True
    )
    assert [g is not None for g in gradients] == [True, True, False, False]


@pytest.mark.parametrize("family", [Normal, Bernoulli])
def test_an_aae_reconstructs_and_matches_the_prior(family):
    def likelihood(m: Tensor) -> Distribution:
        return Normal(m, 0.7) if family is Normal else Bernoulli(logits=m)

    p, q, critic, x = decoder(likelihood), mapping(), Critic(2), X.sigmoid().round()
    cost = aae(p, q, critic, weight=2.0)
    z = q.rsample(given={"x": x})["z"]
    prior = Normal(zeros(2), 1.0).log_prob(z).sum(1)
    by_hand = -(p.log_prob({"x": x, "z": z}) - prior).mean() + 2 * softplus(-critic(z)).mean()
    loss = seeded(cost, {"x": x}, "model")
    torch.testing.assert_close(loss, by_hand)
    same_gradient(loss, by_hand, cost)
    critics = seeded(cost, {"x": x}, "critic")
    torch.manual_seed(7)
    real = torch.randn(4, 2, dtype=torch.float64)
    by_hand = softplus(-critic(real)).mean() + softplus(critic(z.detach())).mean()
    torch.testing.assert_close(critics, by_hand)  # the weight is the model's


def test_an_aae_moves_codes_to_the_prior():
    """Under the best critic of N(0, 1) against N(shift, 1) the codes move towards 0."""
    p = dg.model(z=Normal(zeros(1), 1.0), x=lambda z: Normal(z, 1.0))

    class Shifted(dg.Model):
        x = dg.Input(1)

        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(f64(1.0))

        @dg.rv
        def z(self, x):
            return Normal(self.shift + 0 * x, 1.0)

    class Best(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return 0.5 - z

    q = Shifted()
    n = 100_000
    torch.manual_seed(0)
    ((_, match),) = aae(p, q, Best()).parts[1:]
    (slope,) = torch.autograd.grad(match.loss("model", Round(n, {"x": zeros(n, 1)})), [q.shift])
    # oracle B3, twice: the mean over fakes against the half of it
    assert abs(slope.item() / 2 - 0.3010135664) < 4 * 0.5 / math.sqrt(n)


def test_a_learned_prior_of_an_aae_moves_to_the_codes():
    class Learned(dg.Model):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.net = nn.Parameter(zeros(2)), net(2, 3)

        @dg.rv
        def z(self):
            return Normal(self.mean, 1.0)

        @dg.rv
        def x(self, z):
            return Bernoulli(logits=self.net(z))

    p = Learned()
    loss = aae(p, mapping(), Critic(2)).losses({"x": X.sigmoid()})["model"]
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, [*p.parameters()]))


def test_an_aae_matches_a_class_as_well():
    """Semi-supervised form: one critic over class and style (Makhzani et al. 2016)."""
    p = dg.model(
        y=OneHotCategorical(torch.full([3], 1 / 3)),
        z=Normal(torch.zeros(2), 1.0),
        x=dg.rv(lambda y, z, net: Normal(net(torch.cat([y, z], 1)), 1.0), net=nn.Linear(5, 4)),
    )
    q = dg.model(
        x=dg.Input(4),
        y=dg.deterministic(lambda x, net: net(x).softmax(1), net=nn.Linear(4, 3)),
        z=dg.deterministic(lambda x, net: net(x), net=nn.Linear(4, 2)),
    )
    critic = Critic(3, 2).float()
    cost = aae(p, q, critic)
    assert "JS over y, z" in repr(cost)
    losses = cost.losses(torch.randn(6, 4))
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(losses["model"], [*q.parameters()]))


def test_an_ali_compares_joints():
    p, q, critic = generator(), encoder(3, 2), Critic(2, 3)
    cost = ali(p, q, critic)
    loss = seeded(cost, {"x": X}, "model")
    torch.manual_seed(7)
    fake, real = p.rsample(4), q.rsample(given={"x": X})
    by_hand = (
        softplus(-critic(fake["z"], fake["x"])).mean() + softplus(critic(real["z"], X)).mean()
    )
    torch.testing.assert_close(loss, by_hand)
    same_gradient(loss, by_hand, cost)


def test_ali_has_nothing_to_learn_where_the_joints_agree():
    """x = 2 z and z = x / 2 with x ~ N(0, 4): both sides are one joint, so log 4 is the best."""
    p = dg.model(z=Normal(zeros(1), 1.0), x=dg.deterministic(lambda z: 2 * z))
    q = dg.model(x=dg.Input(1), z=dg.deterministic(lambda x: x / 2))
    critic = Critic(1, 1)
    cost, x = ali(p, q, critic), 2 * torch.randn(4096, 1, dtype=torch.float64)
    step = dg.train.Step(cost, "critic", optimizer=dg.Adam(lr=1e-2), compile=False)
    for _ in range(50):
        step(x)
    loss = cost.losses(x, players=["critic"])["critic"]
    assert loss.item() == pytest.approx(math.log(4), abs=0.01)


def test_a_vae_gan_is_the_sum_of_both():
    p, q, critic = decoder(), encoder(3, 2), Critic(3)
    loss = seeded(vae_gan(p, q, critic, weight=0.1), {"x": X}, "model")
    torch.manual_seed(7)
    both = (
        dg.elbo(p, q).losses(X)["model"]
        + 0.1 * dg.gan(p, critic).losses(X, players=["model"])["model"]
    )
    torch.testing.assert_close(loss, both)
    first, *_ = vae_gan(p, q, critic, rate=0.5).explain()
    assert first["term"].startswith("0.5 * KL")


def test_the_cycle_is_an_absolute_error():
    F, G, critics = there(), back(), {"a": Critic(2), "b": Critic(3)}
    batch = {"a": reals(4, 2), "b": X}
    loss = seeded(cyclegan(F, G, critics, weight=3.0), batch, "model")
    b = F.rsample(given={"a": batch["a"]})["b"]
    a = G.rsample(given={"b": X})["a"]
    games = softplus(-critics["b"](b)).mean() + softplus(-critics["a"](a)).mean()
    cycle_a = (G.rsample(given={"b": b})["a"] - batch["a"]).abs().sum(1).mean()
    cycle_b = (F.rsample(given={"a": a})["b"] - X).abs().sum(1).mean()
    by_hand = games + 3 * (cycle_a + cycle_b + 5 * math.log(2))
    torch.testing.assert_close(loss, by_hand)


def test_translators_that_undo_each_other_pay_nothing_for_the_cycle():
    scale = nn.ParameterList([f64(2.0)])
    F = dg.model(a=dg.Input(2), b=dg.deterministic(lambda a, s: s[0] * a + 1, s=scale))
    G = dg.model(b=dg.Input(2), a=dg.deterministic(lambda b, s: (b - 1) / s[0], s=scale))
    cost = cyclegan(F, G, {"a": Critic(2), "b": Critic(2)}, weight=1.0)
    at = Round(4, {"a": reals(4, 2), "b": 3 * reals(4, 2)})
    for _, part in cost.parts[2:]:
        assert part.loss("model", at).item() == pytest.approx(2 * math.log(2))


def test_a_translator_with_a_density_keeps_it():
    F = dg.model(a=dg.Input(2), b=dg.rv(lambda a, net: Normal(net(a), 0.5), net=net(2, 3)))
    cost = cyclegan(F, back(), {"a": Critic(2), "b": Critic(3)})
    at = Round(4, {"a": reals(4, 2), "b": X})
    a = cost.parts[3][1].a.sample(given={"b": X})["a"]
    expected = -F.log_prob({"a": a, "b": X}).mean()
    torch.testing.assert_close(cost.parts[3][1].loss("model", at), expected)


def test_batch_norm_of_a_translator_counts_real_batches_only():
    layers = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    G = dg.model(b=dg.Input(3), a=dg.deterministic(lambda b, net: net(b), net=layers))
    cyclegan(there(), G, {"a": Critic(2), "b": Critic(3)})
    assert layers[1].num_batches_tracked == 0


# Importance weighted GAN


def test_iwgan_weighs_each_draw_by_its_logit():
    p, critic = generator(), Critic(3)
    cost = iwgan(p, critic)
    loss = seeded(cost, {"x": X}, "model")
    torch.manual_seed(7)
    logits = critic(p.rsample(4)["x"]).squeeze(1)
    weights = logits.detach().softmax(0)
    by_hand = -(weights * logits.sigmoid().log()).sum()
    torch.testing.assert_close(loss, by_hand)
    same_gradient(loss, by_hand, cost)


# Mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: infogan(generator(), Critic(3), Critic(3)),  # type: ignore[arg-type]
            "q must be a dg.Model",
        ),
        (
            lambda: infogan(generator(), stranger(), Critic(3)),
            "does not draw c",
        ),
        (lambda: aae(generator(), mapping(), Critic(2)), "x .*implicit|no density"),
        (
            lambda: vae_gan(pixels(), encoder(3, 2), Critic(3)),
            "pathwise",
        ),
        (
            lambda: ali(pixels(), encoder(3, 2), Critic(2, 3)),
            "pathwise",
        ),
        (lambda: aavae(generator(), encoder(3, 2), Critic(3)), "x .*implicit|no density"),
        (
            lambda: cyclegan(there(), there(), {"a": Critic(2), "b": Critic(3)}),
            "backward takes b and draws a; these are",
        ),
        (
            lambda: cyclegan(there(), back(), {"a": Critic(2)}),
            "critics holds one for a and one for b; it has a",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises((dg.GraphError, TypeError), match=message):
        call()


JIT = "ignore:.torch.jit.script_method:DeprecationWarning"


@pytest.mark.slow
@pytest.mark.filterwarnings(JIT)
@pytest.mark.parametrize("name", ["an_infogan", "an_aae"])
def test_a_compiled_step_does_what_an_eager_one_does(name):
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        cost, batch = GAMES[name]()
        torch.manual_seed(1)
        dg.train.Step(cost, "model", compile=compiled)(batch)
        found.append([p.detach().clone() for p in cost.players[1].parameters()])
    for eager, fast in zip(*found, strict=True):
        torch.testing.assert_close(eager, fast)


@pytest.mark.filterwarnings(JIT)
@every
def test_every_loss_is_one_graph_to_the_compiler(name):
    torch.compiler.reset()
    cost, batch = GAMES[name]()
    whole = torch.compile(cost.loss, fullgraph=True, backend="eager")
    for player in ("critic", "model"):
        with validation(enabled=False):
            torch.manual_seed(7)
            traced = whole(player, Round(4, batch))
        torch.testing.assert_close(traced, seeded(cost, batch, player))
