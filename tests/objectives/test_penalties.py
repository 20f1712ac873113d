"""Penalties on critics: per row and not per batch, differentiable, refused where undefined."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from toys import f64

import daguerre as dg
from daguerre.objectives import Wasserstein, games, penalties
from daguerre.objectives.schedules import linear

EVERY = {
    "gradient": penalties.gradient(10.0),
    "gradient, other target": penalties.gradient(2.0, target=0.5),
    "lipschitz": penalties.lipschitz(10.0, target=0.1),
    "dragan": penalties.dragan(10.0),
    "r1": penalties.r1(3.0),
    "r2": penalties.r2(0.3),
    "approximate r1": penalties.approximate_r1(1.0, sigma=0.1),
    "approximate r2": penalties.approximate_r2(1.0, sigma=0.1),
}
every = pytest.mark.parametrize("name", EVERY)


def generator(width=3):
    return dg.model(
        z=Normal(torch.zeros(2).double(), 1.0),
        x=dg.deterministic(lambda z, net: net(z), net=nn.Linear(2, width).double()),
    )


def rows(n=8, width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, dtype=torch.float64, generator=generator)


def charged(penalty, critic, x, y=None):
    return penalty.loss(critic, [x], [x if y is None else y]).item()


class Tilted(nn.Module):
    """A linear critic of unit slope."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(f64(0.6, 0.0, 0.8))

    def forward(self, x):
        return x @ self.w


@pytest.mark.parametrize("n", [1, 3, 64])
def test_a_linear_critic_of_unit_slope_is_charged_nothing_at_any_batch_size(n):
    """The norm is of each row: that of the whole batch would make 49 of it at 64 rows."""
    critic, x, y = Tilted(), rows(n), rows(n, seed=1)
    for penalty in (penalties.gradient(), penalties.dragan(), penalties.lipschitz()):
        assert charged(penalty, critic, x, y) == pytest.approx(0.0, abs=1e-12)
    for penalty in (penalties.r1(), penalties.r2()):
        assert charged(penalty, critic, x, y) == pytest.approx(0.5, abs=1e-12)  # gamma / 2


def test_each_pair_of_rows_has_its_own_point_on_the_line_between():
    seen = []

    def critic(x):
        seen.append(x)
        return x.sum(1)

    real, fake = rows(50), rows(50, seed=1)
    torch.manual_seed(0)
    penalties.gradient().loss(critic, [real], [fake])
    share = (seen[0] - fake) / (real - fake)
    torch.testing.assert_close(share, share[:, :1].expand_as(share))
    assert share.min() > 0
    assert share.max() < 1
    assert share[:, 0].std() > 0.2  # one for all would have none


def test_slopes_are_taken_by_all_variables_together_and_by_no_label():
    x, z, label = rows(5, 1), rows(5, 2), torch.arange(5)

    def critic(x, z, label):
        return 3 * x[:, 0] + 4 * z[:, 1] + 100 * label

    values = [x, z, label]
    assert penalties.gradient().loss(critic, values, values).item() == pytest.approx(16.0)
    assert penalties.r1().loss(critic, values, values).item() == pytest.approx(12.5)


def test_conditions_are_not_charged():
    p = dg.model(
        c=dg.Input(1),
        z=Normal(torch.zeros(1).double(), 1.0),
        x=dg.deterministic(lambda z, c, net: net(z) + c, net=nn.Linear(1, 1).double()),
    )

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(f64(1.0))

        def forward(self, x, c):
            return (self.w * x + 100 * c).squeeze(1)

    critic, batch = Critic(), {"x": rows(6, 1), "c": rows(6, 1)}
    losses = []
    for penalty in ((), penalties.gradient(10.0)):
        torch.manual_seed(2)
        game = dg.JS(
            dg.data("x", "c"), p["x", "c"], critic=critic, loss=games.WASSERSTEIN, penalty=penalty
        )
        losses.append(game.losses(batch, players=["critic"])["critic"].item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)


@pytest.mark.parametrize("name", ["gradient", "lipschitz", "dragan", "r1"])
def test_a_flat_critic_has_finite_gradients(name):
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = EVERY[name].loss(lambda x: x @ w, [rows()], [rows()])
    (gradient,) = torch.autograd.grad(loss, w)
    assert gradient.isfinite().all()


@every
def test_gradients_by_the_critic_are_those_of_finite_differences(name):
    torch.manual_seed(0)
    critic = dg.nn.mlp(3, 5, 1, activation=nn.Tanh).double()
    game = dg.gan(generator(), critic)
    cost = dg.JS(dg.data("x"), game.parts[0][1].b, critic=critic, penalty=EVERY[name])

    def loss():
        torch.manual_seed(4)
        return cost.losses(rows(), players=["critic"])["critic"]

    weights = [*critic.parameters()]
    for weight, gradient in zip(weights, torch.autograd.grad(loss(), weights), strict=True):
        flat, h = weight.data.view(-1), 1e-6
        for i in range(0, len(flat), 4):
            ends = []
            for step in (h, -2 * h, h):
                flat[i] += step
                ends.append(loss().item())
            assert gradient.view(-1)[i].item() == pytest.approx(
                (ends[0] - ends[1]) / (2 * h), abs=1e-6
            )


@pytest.mark.parametrize(
    ("exact", "approximate"),
    [(penalties.r1, penalties.approximate_r1), (penalties.r2, penalties.approximate_r2)],
)
def test_finite_differences_approximate_the_slope(exact, approximate):
    """Within four standard errors."""
    n, x, y = 40_000, rows(40_000), rows(40_000, seed=1)
    torch.manual_seed(7)
    found, value = (
        penalty.per_example(lambda x: (x[:, 0] + 0.3 * x[:, 1] ** 2).sin(), [x], [y])
        for penalty in (approximate(1.0, sigma=1e-3), exact(1.0))
    )
    difference = found - value
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(n)


def test_the_weight_multiplies_and_may_follow_a_schedule():
    critic, x = Tilted(), rows()

    p = generator()
    found = []
    for penalty in ((), penalties.r1(4.0), (penalties.r1(4.0), penalties.r2(2.0))):
        torch.manual_seed(1)
        game = dg.JS(dg.data("x"), p["x"], critic=critic, penalty=penalty)
        found.append(game.losses(x, players=["critic"])["critic"].item())
    assert found[1] - found[0] == pytest.approx(2.0)
    assert found[2] - found[1] == pytest.approx(1.0)
    game = dg.JS(dg.data("x"), p["x"], critic=critic, penalty=penalties.r1(linear(0, 4, steps=4)))
    for step, weight in ((0, 0.0), (2, 2.0), (9, 4.0)):
        torch.manual_seed(1)
        loss_at = game.losses(x, players=["critic"], step=step)["critic"].item()
        assert loss_at - found[0] == pytest.approx(weight / 2)


def test_only_the_critic_is_charged():
    p, critic = generator(), Tilted()
    found = []
    for penalty in ((), penalties.r2(5.0)):
        torch.manual_seed(1)
        game = dg.JS(dg.data("x"), p["x"], critic=critic, penalty=penalty)
        found.append(game.losses(rows(), players=["model"])["model"].item())
    assert found[0] == found[1]


@every
def test_penalties_are_in_single_precision_under_autocast(name):
    torch.manual_seed(0)
    critic, x = dg.nn.mlp(3, 8, 1), rows().float()
    found = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            drawn = [x.bfloat16()] if enabled else [x.bfloat16().float()]
            found.append(EVERY[name].loss(lambda x: critic(x).squeeze(1), drawn, drawn))
    assert found[1].dtype == torch.float32
    torch.testing.assert_close(*found)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_a_compiled_step_does_what_an_eager_one_does():
    """R1, R2, the gradient penalty and paired logits in one graph; IWGAN's weights in another."""
    found, x = [], rows(8).float()
    for compiled in (False, True):
        torch.manual_seed(0)
        p = dg.model(
            z=Normal(torch.zeros(2), 1.0),
            x=dg.deterministic(lambda z, net: net(z), net=nn.Linear(2, 3)),
        )
        critic, sides = dg.nn.mlp(3, 4, 1, activation=nn.Tanh), (dg.data("x"), p["x"])
        charges = (penalties.r1(0.5), penalties.r2(linear(0, 1, steps=2)), penalties.gradient())
        game = dg.JS(*sides, critic=critic, loss=games.RELATIVISTIC, penalty=charges)
        other = dg.JS(*sides, critic=critic, loss=games.IWGAN)
        turns = [
            dg.train.Step(game, "critic", compile=compiled),
            dg.train.Step(other, "model", compile=compiled),
        ]
        for _ in range(2):
            for step in turns:
                step(x)
        found.append(
            torch.cat([w.detach().flatten() for m in (p, critic) for w in m.parameters()])
        )
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.SyncBatchNorm(4)], ids=["1d", "sync"])
def test_a_penalised_critic_has_no_batch_normalisation(layer):
    critic = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 1)).double()
    assert dg.JS(dg.data("x"), generator()["x"], critic=critic.eval())
    for name, penalty in EVERY.items():
        with pytest.raises(dg.InadmissibleError, match=r"layer '1' of the critic is .*BatchNorm"):
            dg.JS(dg.data("x"), generator()["x"], critic=critic, penalty=penalty)
        assert name
    with pytest.raises(dg.InadmissibleError, match="use LayerNorm, GroupNorm or"):
        dg.f_divergence(
            dg.data("x"), generator()["x"], f=dg.f.KL, critic=critic, penalty=penalties.r1()
        )


@every
def test_ledger_and_formula_name_the_penalty(name):
    penalty = EVERY[name]
    cost = dg.JS(dg.data("x"), generator()["x"], critic=Tilted(), penalty=penalty)
    one = penalty.weight == 1
    assert f"{'' if one else f'{penalty.weight:g} * '}{penalty.name}" in str(cost.explain())
    weight = "" if one else f"{penalty.weight:g}\\,"
    assert f" + {weight}{penalty.formula[:8]}" in cost.latex()
    assert "<" not in cost.latex()
    assert dg.draw(cost)._repr_svg_()


def test_the_formula_of_a_gradient_penalty_is_that_of_the_paper():
    game = Wasserstein(
        dg.data("x"), generator()["x"], critic=Tilted(), penalty=penalties.gradient(10)
    )
    line = r"\epsilon x + (1 - \epsilon) G_\theta(z)"
    assert rf"\left[(\lVert \nabla f_\psi({line}) \rVert - 1)^2\right]" in game.latex()


class Coin(nn.Module):
    def forward(self):
        return torch.distributions.Categorical(torch.ones(3, dtype=torch.float64))


def labels():
    return dg.model(y=Coin())


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(3))

    def forward(self, y):
        return self.scores[y]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: penalties.gradient(-1.0), ValueError, "weight of the gradient penalty is -1.0"),
        (lambda: penalties.r1(math.nan), ValueError, "weight of the R1 penalty is nan"),
        (lambda: penalties.r2("much"), TypeError, "a number or a schedule"),  # type: ignore[arg-type]
        (lambda: penalties.approximate_r1(1.0, sigma=0.0), ValueError, "above 0, not 0.0"),
        (
            lambda: dg.JS(dg.data("x"), generator()["x"], critic=Tilted(), penalty=10.0),  # type: ignore[arg-type]
            TypeError,
            r"such as dg\.penalties\.gradient\(10\).*not 10\.0",
        ),
        (
            lambda: dg.JS(generator()["x"], generator()["x"], penalty=penalties.r1()),
            ValueError,
            "R1 penalty is on a critic, and there is none",
        ),
        (
            lambda: dg.JS(dg.data("y"), labels(), critic=Table(), penalty=penalties.r1()),
            dg.InadmissibleError,
            "compares y, which takes whole numbers only",
        ),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
