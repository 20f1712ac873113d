"""The Wasserstein-1 distance: its dual, what keeps the critic Lipschitz, and the bilinear game."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn.utils.parametrizations import spectral_norm
from toys import f64

import daguerre as dg
from daguerre.objectives import Wasserstein, games, penalties

GRID = torch.linspace(-24, 24, 48_001, dtype=torch.float64)
STEP = GRID[1] - GRID[0]
# Oracle D6: N(0, 1) against N(mean, scale^2), with a best critic of slope 1
D6 = {
    "shifted": (1.0, 1.0, 1.0, lambda x: -x),
    "widened": (0.0, 2.0, 0.797884560803, lambda x: -x.abs()),
}
OTHERS = [torch.sin, torch.tanh, torch.relu, lambda x: x / 2, lambda x: x.abs() - x]


class Given(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.slope = function, nn.Parameter(f64(1.0))

    def forward(self, x):
        return self.slope * self.function(x)


class Moved(dg.Model):
    def __init__(self, mean=1.0, scale=1.0):
        super().__init__()
        self.mean, self.scale = nn.Parameter(f64(mean)), scale

    @dg.rv
    def x(self):
        return Normal(self.mean, self.scale)


def dual(critic, mean, scale):
    """Minus the critic's loss, by quadrature."""
    p, q = (Normal(f64(m), s).log_prob(GRID).exp() for m, s in ((0.0, 1.0), (mean, scale)))
    row, s = games.WASSERSTEIN, critic(GRID)
    return -((p * row.real(s) + q * row.fake(s)).sum() * STEP).item()


@pytest.mark.parametrize("name", D6)
def test_the_dual_is_the_distance_at_the_best_critic_and_below_it_elsewhere(name):
    mean, scale, value, best = D6[name]
    assert dual(best, mean, scale) == pytest.approx(value, abs=1e-6)
    for other in OTHERS:
        assert dual(lambda x, other=other: other(x) / 2, mean, scale) < value
        assert dual(lambda x, other=other: -other(x) / 2, mean, scale) < value


@pytest.mark.parametrize("name", D6)
def test_an_objective_estimates_it_from_samples(name):
    mean, scale, value, best = D6[name]
    torch.manual_seed(0)
    n, p = 100_000, Moved(mean, scale)
    game = Wasserstein(dg.data("x"), p, critic=Given(best), penalty=penalties.lipschitz(10))
    losses = game.losses(torch.randn(n, 1, dtype=torch.float64))
    assert abs(-losses["critic"].item() - value) < 4 * (1 + scale) / math.sqrt(n)
    if name == "shifted":
        (gradient,) = torch.autograd.grad(losses["model"], [p.mean])
        assert gradient.item() == pytest.approx(1.0)  # of |mean|


def test_a_trained_critic_reaches_the_distance():
    """With the one-sided penalty, which a slope of the wrong sign passes zero without a charge."""
    torch.manual_seed(0)
    critic = dg.nn.mlp(1, 16, 1, activation=nn.Tanh)
    p = dg.model(x=Normal(torch.ones(1), 1.0))
    game = Wasserstein(dg.data("x"), p, critic=critic, penalty=penalties.lipschitz(10.0))
    step = dg.train.Step(game, "critic", optimizer=dg.Adam(lr=1e-2), compile=False)
    for _ in range(300):
        step(torch.randn(256, 1))
    x = torch.randn(50_000, 1)
    with torch.no_grad():
        assert (critic(x).mean() - critic(x + 1).mean()).item() == pytest.approx(1.0, abs=0.1)


def test_clipping_holds_after_every_update_of_the_critic():
    p, critic = Moved(), dg.nn.mlp(1, 8, 1).double()
    game = Wasserstein(dg.data("x"), p, critic=critic, clip=0.01)
    x = torch.randn(16, 1, dtype=torch.float64)
    step = dg.train.Step(game, "model", optimizer=dg.SGD(lr=0.1), compile=False)
    before = [w.detach().clone() for w in critic.parameters()]
    step(x)
    assert all(torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))
    step = dg.train.Step(game, "critic", optimizer=dg.SGD(lr=0.1), compile=False)
    for _ in range(3):
        step(x)
        assert all(w.abs().max() <= 0.01 for w in critic.parameters())
    assert p.mean.item() != 1.0  # not clipped
    assert "parameters within 0.01" in str(game.explain())


def normed():
    return nn.Sequential(spectral_norm(nn.Linear(1, 4)), nn.ReLU(), spectral_norm(nn.Linear(4, 1)))


def test_spectral_norm_on_every_layer_is_seen():
    p = dg.model(
        z=Normal(torch.zeros(1), 1.0),
        x=dg.deterministic(lambda z, net: net(z), net=nn.Linear(1, 1)),
    )
    assert Wasserstein(dg.data("x"), p["x"], critic=normed())
    half = nn.Sequential(spectral_norm(nn.Linear(1, 4)), nn.ReLU(), nn.Linear(4, 1))
    image = nn.Sequential(spectral_norm(nn.Conv1d(1, 4, 1)), nn.Flatten(), nn.Linear(4, 1))
    for critic in (half, image, dg.nn.mlp(1, 4, 1), Given(torch.abs)):
        with pytest.raises(dg.InadmissibleError, match=r"by exactly one of: .* found none"):
            Wasserstein(dg.data("x"), p["x"], critic=critic)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"penalty": penalties.gradient(10), "clip": 0.01},
            dg.InadmissibleError,
            "found a penalty and clipping",
        ),
        (
            {"clip": 0.01, "critic": normed()},
            dg.InadmissibleError,
            "found clipping and spectral norm on every layer",
        ),
        ({"clip": 0.0}, ValueError, "above 0, not 0.0"),
        ({"clip": math.nan}, ValueError, "above 0, not nan"),
        ({"clip": 0.01, "critic": None}, TypeError, r"critic must be an nn\.Module"),
    ],
)
def test_bad_arguments_are_named(options, kind, message):
    options = {"critic": dg.nn.mlp(1, 4, 1).double()} | options
    with pytest.raises(kind, match=message):
        Wasserstein(dg.data("x"), Moved(), **options)


def test_its_critic_tells_no_ratio():
    game = Wasserstein(dg.data("x"), Moved(), critic=Given(torch.abs), clip=1.0)
    with pytest.raises(dg.InadmissibleError, match="a function of slope 1 at most"):
        dg.log_ratio(game, {"x": torch.zeros(2, 1)})


def test_ledger_and_formula_are_those_of_the_dual():
    game = Wasserstein(dg.data("x"), Moved(), critic=Given(torch.abs), clip=1.0)
    assert "Wasserstein-1 over x: a function of slope 1 at most" in str(game.explain())
    critic = r"\mathbb{E}_{p_{\mathrm{data}}(x)}\left[-f_\psi(x)\right]"
    assert game.latex().startswith(rf"\min_{{\psi}}\; {critic} + ")


# Oracle B6: the game V = ab, in which the critic a lowers V and the model b raises it


class Constant(dg.Model):
    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(f64(0.0))

    @dg.deterministic
    def x(self):
        return self.b


def bilinear():
    p, critic = Constant(), Given(lambda x: x)  # a starts at 1, b at 0
    return p, critic, Wasserstein(dg.data("x"), p, critic=critic, penalty=penalties.gradient(0.0))


def test_alternating_descent_stays_bounded_in_the_bilinear_game():
    p, critic, game = bilinear()
    rule, nothing = dg.SGD(lr=0.1), torch.zeros(1, 1, dtype=torch.float64)
    steps = [dg.train.Step(game, n, optimizer=rule, compile=False) for n in ("critic", "model")]
    norms = []
    for _ in range(400):
        for step in steps:
            step(nothing)
        a, b = critic.slope.item(), p.b.item()
        norms.append(math.hypot(a, b))
        assert a * a + b * b - 0.1 * a * b == pytest.approx(1.0, abs=1e-9)  # conserved
    assert max(norms) == pytest.approx(1.02597835209, abs=1e-3)
    assert max(norms) < 1.02597835210  # the supremum


def test_simultaneous_descent_spirals_out_of_the_bilinear_game():
    p, critic, game = bilinear()
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    for _ in range(100):
        losses = game.losses(nothing)
        (by_a,) = torch.autograd.grad(losses["critic"], [critic.slope])
        (by_b,) = torch.autograd.grad(losses["model"], [p.b])
        with torch.no_grad():
            critic.slope.sub_(0.1 * by_a)
            p.b.sub_(0.1 * by_b)
    norm = math.hypot(critic.slope.item(), p.b.item())
    assert norm == pytest.approx(1.64463182184, abs=1e-8)
