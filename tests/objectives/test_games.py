"""The games: best critics, directions, scoring rules, ratio matching, class priors."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from toys import f64

import daguerre as dg
from daguerre.objectives import f, games
from daguerre.objectives.f import ROWS as DIVERGENCES
from daguerre.objectives.games import GameLoss

EVERY = {row.name: row for row in (*games.ROWS, games.least_squares(-1.0, 1.0, 0.0))}
EVERY |= {f"f: {row.name}": row.game() for row in DIVERGENCES}
EVERY["weighted"] = games.prior(games.BRIER, 0.3)
PLAYED = {name: row for name, row in EVERY.items() if row.trains}
RATIOS = {name: row for name, row in EVERY.items() if row.is_ratio}
PROPER = [games.BERNOULLI, games.BRIER, games.EXPONENTIAL, games.SPHERICAL]
GRID = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
STEP = GRID[1] - GRID[0]


def density(mean):
    return Normal(f64(mean), 1.0).log_prob(GRID).exp()


def slope(function, at):
    at = torch.as_tensor(at, dtype=torch.float64).requires_grad_()
    return torch.autograd.grad(function(at).sum(), at, allow_unused=True)[0]


class Moved(dg.Model):
    def __init__(self, mean=1.0, *, learns=True):
        super().__init__()
        self.mean = nn.Parameter(f64(mean), requires_grad=learns)

    @dg.rv
    def x(self):
        return Normal(self.mean, 1.0)


class Map(nn.Module):
    """A critic that is a given function; its one parameter does nothing."""

    def __init__(self, function):
        super().__init__()
        self.function, self.idle = function, nn.Parameter(f64(0.0))

    def forward(self, *values):
        return self.function(*values) + self.idle


def best(row: GameLoss, log_ratio):
    """The best critic of a row, as a function of the log-ratio (a smooth one, for a sign)."""
    if row.is_ratio:
        return log_ratio + row.offset
    if "sign" in row.best:
        return torch.tanh(4 * log_ratio)
    if row.divergence == "least squares":
        low, high = (-1.0, 1.0) if "-1" in row.best else (0.0, 1.0)
        return low + (high - low) * log_ratio.sigmoid()
    return log_ratio  # of unit slope here, and higher on a than on b


# Directions


@pytest.mark.parametrize("name", PLAYED)
def test_the_model_is_pulled_towards_the_data(name):
    """Under its best critic, whichever side it stands on; seeded, signals above 10 errors."""
    row = PLAYED[name]
    torch.manual_seed(0)
    p, data = Moved(1.0), torch.randn(20_000, 1, dtype=torch.float64)
    second = dg.JS(dg.data("x"), p, critic=Map(lambda x: best(row, 0.5 - x)), loss=row)
    first = dg.JS(p, Moved(0.0, learns=False), critic=Map(lambda x: best(row, x - 0.5)), loss=row)
    for game, batch in ((second, data), (first, 20_000)):
        loss = game.losses(batch, players=["model"])["model"]
        (gradient,) = torch.autograd.grad(loss, [p.mean])
        assert gradient > 0.005, "a descent step must lower a mean that is too high"


def test_two_losses_in_print_push_the_other_way():
    """Mohamed and Lakshminarayanan (2016): E[log r], and equation 25 for KL."""
    theta, e, mass = f64(1.0).requires_grad_(), GRID, density(0.0)
    log_r = 0.5 - (e + theta)
    traps = (log_r, torch.exp(log_r) * (1 + log_r))
    for values, expected in zip(traps, (-1.0, -2.5), strict=True):
        (gradient,) = torch.autograd.grad((mass * values).sum() * STEP, theta, retain_graph=True)
        assert gradient.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "row",
    [games.MINIMAX, games.BRIER, games.EXPONENTIAL, games.SPHERICAL, games.LSIF],
    ids=lambda row: row.name,
)
def test_a_coupled_model_loss_is_the_critics_with_the_sign_turned(row):
    s = torch.linspace(-5, 5, 11)
    torch.testing.assert_close(row.model(s), -row.fake(s))
    torch.testing.assert_close(row.first(s), -row.real(s))


# Best critics


@pytest.mark.parametrize("name", RATIOS)
def test_the_best_critic_is_the_log_ratio(name):
    row = RATIOS[name]
    for log_r in (-2.0, -0.3, 0.0, 1.1, 2.0):
        weight = math.exp(log_r)

        def risk(s, weight=weight):
            return weight * row.real(s) + row.fake(s)

        at = f64(log_r + row.offset)
        assert abs(slope(risk, at)).item() < 1e-12
        around = at + torch.linspace(-3, 3, 61, dtype=torch.float64)
        assert (risk(around) >= risk(at) - 1e-12).all()


def minimiser(risk):
    """The best probability D, by a grid that is refined: no method that asks for slopes."""
    low, high = 1e-6, 1 - 1e-6
    for _ in range(12):
        grid = torch.linspace(low, high, 101, dtype=torch.float64)
        i = int(risk(grid.logit()).argmin())
        low, high = grid[max(i - 1, 0)].item(), grid[min(i + 1, 100)].item()
    return (low + high) / 2


@pytest.mark.parametrize("row", PROPER, ids=lambda row: row.name)
def test_proper_scores_recover_the_ratio_of_oracle_d1(row):
    found = minimiser(lambda s: 0.75 * row.real(s) + 0.25 * row.fake(s))
    assert found == pytest.approx(0.75, abs=1e-6)


def test_the_other_scores_of_oracle_d1_do_not():
    hinge = games.HINGE
    found = minimiser(lambda s: 0.75 * hinge.real(s) + 0.25 * hinge.fake(s))
    assert found == pytest.approx(0.73105857863, abs=1e-6)
    squared = minimiser(lambda s: 0.75 * torch.exp(-2 * s) + 0.25 * torch.exp(2 * s))
    assert squared == pytest.approx(0.568234868831, abs=1e-6)
    zero_one, s = games.MISCLASSIFICATION, f64(0.1, 1.0, 9.0)
    risk = 0.75 * zero_one.real(s) + 0.25 * zero_one.fake(s)
    assert risk.tolist() == [0.25] * 3


@pytest.mark.parametrize(
    ("row", "formulas"),
    [
        (games.BERNOULLI, (lambda d: -d.log(), lambda d: -(1 - d).log())),
        (games.BRIER, (lambda d: (1 - d) ** 2, lambda d: d**2)),
        (games.EXPONENTIAL, (lambda d: ((1 - d) / d) ** 0.5, lambda d: (d / (1 - d)) ** 0.5)),
        (
            games.SPHERICAL,
            tuple(
                lambda d, take=take: -take(d) / (1 - 2 * d + 2 * d**2) ** 0.5
                for take in (lambda d: d, lambda d: 1 - d)
            ),
        ),
    ],
    ids=lambda row: row.name if isinstance(row, GameLoss) else "",
)
def test_the_stable_forms_are_the_scores_of_the_table(row, formulas):
    s = torch.linspace(-6, 6, 25, dtype=torch.float64)
    torch.testing.assert_close(row.real(s), formulas[0](s.sigmoid()))
    torch.testing.assert_close(row.fake(s), formulas[1](s.sigmoid()))


@pytest.mark.parametrize("row", [games.NON_SATURATING, *PROPER, games.IWGAN], ids=lambda r: r.name)
def test_losses_and_slopes_are_finite_at_any_logit(row):
    s = torch.tensor([-60.0, -20.0, 0.0, 20.0, 60.0], requires_grad=True)
    for loss in (row.real, row.fake, row.model, row.first):
        values = loss(s)
        (gradient,) = torch.autograd.grad(values.sum(), s)
        assert values.isfinite().all()
        assert gradient.isfinite().all()


# Ratio matching


def test_ratio_matching_has_the_optima_of_oracle_d3():
    p, q = density(0.0), density(1.0)
    log_r = 0.5 - GRID
    for row, value in ((games.LSIF, -1.35914091423), (games.KLIEP, -0.5)):
        risk = [
            ((p * row.real(s) + q * row.fake(s)).sum() * STEP).item()
            for s in (log_r, log_r + 0.1, log_r - 0.1, 0.8 * log_r, 0 * log_r)
        ]
        assert risk[0] == pytest.approx(value, abs=1e-8)
        assert min(risk[1:]) > risk[0]


def test_bregman_matching_is_the_bound_of_an_f_divergence():
    """E_a[-f'(r)] + E_b[r f'(r) - f(r)], for LSIF with f = (r - 1)^2 / 2 up to a constant."""
    s = torch.linspace(-3, 3, 13, dtype=torch.float64)
    pearson = f.PEARSON.game()
    torch.testing.assert_close(pearson.real(s) / 2, games.LSIF.real(s) + 1)
    torch.testing.assert_close(pearson.fake(s) / 2, games.LSIF.fake(s) - 0.5)
    kl = f.KL.game()
    torch.testing.assert_close(kl.real(s) + 1, games.KLIEP.real(s))
    torch.testing.assert_close(kl.fake(s) - 1, games.KLIEP.fake(s))


# Class priors


@pytest.mark.parametrize(
    ("weight", "probability"),
    [(0.5, 0.622459331202), (0.2, 0.291875132741), (0.8, 0.868332438332)],
)
def test_the_ratio_does_not_depend_on_the_prior_as_in_oracle_d4(weight, probability):
    ratio = math.exp(0.5)  # N(0, 1) to N(1, 1) at x = 0
    for plain in (games.NON_SATURATING, games.BRIER, games.SPHERICAL, games.LSIF):
        row = games.prior(plain, weight)
        found = minimiser(lambda s, row=row: ratio * row.real(s) + row.fake(s))
        assert found == pytest.approx(probability, abs=1e-6)
        critic = Map(lambda x: f64(probability).logit() + 0 * x)
        game = dg.JS(dg.data("x"), Moved(1.0), critic=critic, loss=row)
        at = dg.log_ratio(game, {"x": torch.zeros(1, 1, dtype=torch.float64)})
        assert at.exp().item() == pytest.approx(1.6487212707, abs=1e-9)


def test_a_prior_leaves_the_losses_of_the_model_alone():
    row, s = games.prior(games.NON_SATURATING, 0.3), torch.linspace(-3, 3, 7)
    torch.testing.assert_close(row.real(s), 0.3 * games.NON_SATURATING.real(s))
    torch.testing.assert_close(row.fake(s), 0.7 * games.NON_SATURATING.fake(s))
    assert row.model is games.NON_SATURATING.model


# Single games


def test_importance_weights_are_those_of_oracle_b5():
    s = f64(-1.0, 0.0, 2.0).requires_grad_()
    weights = (0.0420100661341, 0.114195199385, 0.843794734481)
    vanilla = (0.243686192877, 0.166666666667, 0.0397343073407)
    weighted = (0.0307118192361, 0.0570975996923, 0.100582797937)
    loss = games.IWGAN.model(s).mean()
    expected = -(f64(*weights) * s.sigmoid().log()).sum()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-10)
    for row, coefficients in ((games.NON_SATURATING, vanilla), (games.IWGAN, weighted)):
        (gradient,) = torch.autograd.grad(row.model(s).mean(), s)
        torch.testing.assert_close(-gradient, f64(*coefficients), rtol=0, atol=1e-9)


def test_under_the_best_critic_importance_weights_turn_draws_into_data():
    q, weight = density(1.0), torch.exp(0.5 - GRID)  # D / (1 - D) = e^s
    assert ((q * weight).sum() * STEP).item() == pytest.approx(0.999999999995, abs=1e-8)
    assert ((q * weight * GRID**2).sum() * STEP).item() == pytest.approx(1.0, abs=1e-8)


def test_equal_logits_are_not_weighted():
    for s in (torch.tensor([0.7]), torch.full([5], -1.3)):
        torch.testing.assert_close(games.IWGAN.model(s), games.NON_SATURATING.model(s))


def test_relativistic_games_compare_the_logits_of_both_sides():
    """Jolicoeur-Martineau (2018, arXiv 1807.00734), paired and on average."""
    p = dg.model(z=Normal(torch.zeros(1), 1.0), x=dg.deterministic(lambda z: z + 1))
    x, softplus = torch.randn(6, 1), nn.functional.softplus

    def seeded(row, player):
        torch.manual_seed(3)
        game = dg.JS(dg.data("x"), p["x"], critic=Map(lambda x: 2 * x.float()), loss=row)
        return game.losses(x, players=[player])[player].detach().float()

    torch.manual_seed(3)
    real, fake = 2 * x, 2 * (torch.randn(6, 1) + 1)
    expected = {
        "critic": softplus(fake - real).mean(),
        "model": softplus(real - fake).mean(),
    }
    for player, value in expected.items():
        torch.testing.assert_close(seeded(games.RELATIVISTIC, player), value)
    over, under = real - fake.mean(), fake - real.mean()
    expected = {
        "critic": (softplus(-over) + softplus(under)).mean(),
        "model": (softplus(over) + softplus(-under)).mean(),
    }
    for player, value in expected.items():
        torch.testing.assert_close(seeded(games.RELATIVISTIC_AVERAGE, player), value)


def test_the_log_ratio_game_reaches_the_critic_of_oracle_g3():
    """Adversarial variational Bayes: T* = log q(z | x) - log p(z), and E_q T* = KL."""
    q = dg.model(
        x=dg.Input(1),
        z=dg.rv(lambda x, net: Normal(net(x), 0.5), net=nn.Linear(1, 1, bias=False).double()),
    )
    for parameter in q.parameters():
        nn.init.constant_(parameter, 0.5)
    prior = dg.model(x=dg.Input(1), z=Normal(torch.zeros(1).double(), 1.0))

    class Features(nn.Module):
        """T*(x, z) = log 2 - (z - x / 2)^2 / (2 / 4) + z^2 / 2, with its weights to be learned."""

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(f64(math.log(2), -0.5, 2.0, -1.5))

        def forward(self, z, x):
            return (torch.cat([torch.ones_like(x), x**2, x * z, z**2], 1) * self.w).sum(1)

    critic = Features()
    game = dg.JS(dg.data("x") * q, prior, critic=critic, loss=games.LOG_RATIO)
    at = {"x": f64(1.0)[:, None], "z": f64(0.3)[:, None]}
    assert dg.log_ratio(game, at).item() == pytest.approx(0.65814718056, abs=1e-9)
    torch.manual_seed(0)
    n = 100_000
    x = torch.ones(n, 1, dtype=torch.float64)
    losses = game.losses(x)
    assert abs(losses["model"].item() - 0.44314718056) < 4 * 0.75 / math.sqrt(n)
    slopes = torch.autograd.grad(losses["critic"], [critic.w])[0]
    assert (slopes.abs() < 4 * 2.0 / math.sqrt(n)).all()  # best: no way down


# Words and mistakes


@pytest.mark.parametrize("name", PLAYED)
def test_every_game_explains_itself(name):
    row = PLAYED[name]
    cost = dg.JS(dg.data("x"), Moved(), critic=Map(lambda x: x), loss=row)
    text = str(cost.explain())
    for words in (row.best, row.why, "a bound, from n draws of each side", "pathwise through x"):
        assert words in text
    assert "#" not in cost.latex()
    assert "~" not in cost.latex()
    assert dg.draw(cost)._repr_svg_()


def test_formulas_of_paired_games_average_over_both_sides():
    cost = dg.JS(dg.data("x"), Moved(), critic=Map(lambda x: x), loss=games.RELATIVISTIC)
    both = r"\mathbb{E}_{p_{\mathrm{data}}(x)}\,\mathbb{E}_{p_\theta(x)}"
    inside = r"\left[-\log \sigma(s_\psi(x) - s_\psi(x))\right]"
    assert cost.latex().startswith(rf"\min_{{\psi}}\; {both}{inside} \qquad")


@pytest.mark.parametrize(
    "row",
    [row for row in games.ROWS if row.trains and not row.is_ratio],
    ids=lambda row: row.name,
)
def test_games_without_a_ratio_tell_none(row):
    game = dg.JS(dg.data("x"), Moved(), critic=Map(lambda x: x), loss=row)
    message = f"best critic of {row.name} is not the log-ratio, but"
    with pytest.raises(dg.InadmissibleError, match=message):
        dg.log_ratio(game, {"x": torch.zeros(2, 1)})
    with pytest.raises(dg.InadmissibleError, match="a prior shifts the log-ratio"):
        games.prior(row, 0.3)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: dg.JS(
                dg.data("x"), Moved(), critic=Map(lambda x: x), loss=games.MISCLASSIFICATION
            ),
            dg.InadmissibleError,
            "misclassification loss has no gradient to learn from; train on dg.games.BERNOULLI",
        ),
        (
            lambda: dg.gan(Moved(), Map(lambda x: x), loss="hinge"),  # type: ignore[arg-type]
            TypeError,
            r"a game such as dg\.games\.HINGE, not 'hinge'",
        ),
        (lambda: games.prior(games.BRIER, 1.0), ValueError, "between 0 and 1, not at 1.0"),
        (lambda: games.least_squares(1.0, 1.0, 0.0), ValueError, "differ between the sides"),
        (lambda: games.least_squares(0.0, math.nan, 0.0), ValueError, "labels are finite"),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
