"""The f-divergences: Fenchel-Young for every row, tight bounds, gradients, closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from toys import f64

import daguerre as dg
from daguerre.objectives import penalties
from daguerre.objectives.f import ROWS

EVERY = [*ROWS, dg.f.alpha(0.5), dg.f.alpha(2.0), dg.f.alpha(-1.0), dg.f.alpha(3.0)]
EVERY += [dg.f.weighted_js(0.3), dg.f.weighted_js(0.5)]
every = pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)
tight = pytest.mark.parametrize("row", [r for r in EVERY if r.is_ratio], ids=lambda row: row.name)
GRID = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
STEP = GRID[1] - GRID[0]

# Oracle C1: D_f between N(0, 1) and N(1, 1)
C1 = {
    "KL": 0.5,
    "reverse KL": 0.5,
    "Pearson chi-square": 1.71828182845,
    "Neyman chi-square": 1.71828182845,
    "squared Hellinger": 0.235006194831,
    "twice Jensen-Shannon": 0.222842964368,
    "GAN": -1.16345139675,
}
# ... and f'(1)
SLOPES = {
    "KL": 1.0,
    "reverse KL": -1.0,
    "Pearson chi-square": 0.0,
    "Neyman chi-square": 0.0,
    "squared Hellinger": 0.0,
    "twice Jensen-Shannon": 0.0,
    "GAN": -0.69314718056,
}
# Oracle C2: between N(0, 1) and N(1, 1.44)
C2 = {
    "KL": 0.376766001237,
    "reverse KL": 0.537678443203,
    "squared Hellinger": 0.209627832249,
    "Pearson chi-square": 0.787686129906,
    "Neyman chi-square": 5.64126180658,
    "twice Jensen-Shannon": 2 * 0.0983671941609,
    "total variation": 0.356916316904,
}


def density(mean, scale=1.0):
    return Normal(f64(mean), scale).log_prob(GRID).exp()


def integral(values):
    return (values.sum() * STEP).item()


def bound(row, p, q, s):
    """The bound on D_f(p || q) that a critic s gives, by quadrature."""
    return integral(p * row.slope(s)) - integral(q * row.conjugate(s))


@every
def test_fenchel_and_young(row):
    """f(u) + f*(t) >= u t for every t that a critic can put out, with equality at f'(u)."""
    u = torch.logspace(-2, 2, 101, dtype=torch.float64)
    s = torch.linspace(-4, 4, 161, dtype=torch.float64)[:, None]
    gap = row.f(u) + row.conjugate(s) - u * row.slope(s)
    assert gap.min() > -1e-9
    if row.is_ratio:
        at = u.log()
        torch.testing.assert_close(row.f(u) + row.conjugate(at), u * row.slope(at))


@tight
def test_slope_and_conjugate_follow_from_f(row):
    u = torch.logspace(-2, 2, 31, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(row.f(u).sum(), u)
    torch.testing.assert_close(row.slope(u.detach().log()), slope)
    torch.testing.assert_close(row.conjugate(u.detach().log()), (u * slope - row.f(u)).detach())


@pytest.mark.parametrize("name", SLOPES)
def test_a_critic_that_sees_no_difference_says_the_slope_at_one(name):
    row = next(r for r in ROWS if r.name == name)
    assert row.slope(f64(0.0)).item() == pytest.approx(SLOPES[name], abs=1e-10)


def test_a_constant_critic_bounds_kl_by_nothing_as_in_oracle_c3():
    p, q = density(0.0), density(1.0)
    bounds = [bound(dg.f.KL, p, q, torch.full_like(GRID, t - 1)) for t in (0.0, 0.7, 1.0, 1.5)]
    assert bounds[2] == pytest.approx(0.0, abs=1e-9)  # T = 1 + s = 1
    assert max(bounds) == bounds[2]


@pytest.mark.parametrize("name", C1)
def test_the_bound_is_tight_at_the_log_ratio_as_in_oracle_c1(name):
    row = next(r for r in ROWS if r.name == name)
    p, q = density(0.0), density(1.0)
    assert bound(row, p, q, (p / q).log()) == pytest.approx(C1[name], abs=1e-8)


@pytest.mark.parametrize("name", C2)
def test_f_integrates_to_the_closed_form_of_oracle_c2(name):
    row = next(r for r in ROWS if r.name == name)
    p, q = density(0.0), density(1.0, 1.2)
    assert integral(q * row.f(p / q)) == pytest.approx(C2[name], abs=1e-6)


@every
def test_the_bound_lies_below_the_divergence_elsewhere(row):
    p, q = density(0.0), density(1.0)
    value = integral(q * row.f(p / q))
    for slope, shift in ((0.0, 0.0), (-0.5, 0.2), (-1.0, 0.0), (0.3, 0.0)):
        assert bound(row, p, q, slope * GRID + shift) < value


def test_steeper_critics_approach_the_total_variation():
    p, q, row = density(0.0), density(1.0), dg.f.TOTAL_VARIATION
    exact = 2 * Normal(0.0, 1.0).cdf(torch.tensor(0.5)).item() - 1
    assert integral(q * row.f(p / q)) == pytest.approx(exact, abs=1e-6)
    steep = [bound(row, p, q, k * (0.5 - GRID)) for k in (1, 10, 1000)]
    assert steep[0] < steep[1] < steep[2] == pytest.approx(exact, abs=1e-3)


@tight
def test_the_gradient_under_the_best_critic_is_that_of_the_divergence(row):
    """Envelope theorem, with draws x = theta + e moved along with theta."""
    theta, e, mass = f64(0.7).requires_grad_(), GRID, density(0.0)
    ratio = theta.detach() ** 2 / 2 - theta.detach() * (e + theta)  # log N(0, 1) / N(theta, 1)
    (gradient,) = torch.autograd.grad((mass * row.game().model(ratio)).sum() * STEP, theta)
    h, p = 1e-4, density(0.0)
    values = [integral(density(0.7 + d) * row.f(p / density(0.7 + d))) for d in (h, -h)]
    assert gradient.item() == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)


# Oracle C4: the best single Gaussian for (N(-s, 0.36) + N(s, 1)) / 2, by the bound at its best
# critic: what it costs, its mean, its scale
C4 = {
    (2, "KL"): (0.35157, 0.0, 2.1633),
    (2, "reverse KL"): (0.51267, 0.6384, 1.8764),
    (2, "twice Jensen-Shannon"): (2 * 0.09442, 0.17, 2.1287),
    (2, "squared Hellinger"): (0.20194, 0.2142, 2.0794),
    (2, "Jeffreys"): (0.90924, 0.3477, 1.9453),
    (2, "Pearson chi-square"): (0.65523, -0.2003, 2.2173),
    (3, "KL"): (0.69757, 0.0, 3.1113),
    (3, "reverse KL"): (0.69281, 2.9986, 1.0026),
    (3, "twice Jensen-Shannon"): (2 * 0.18979, 0.3918, 3.0631),
    (3, "squared Hellinger"): (0.43713, 0.487, 2.9943),
}
WIDE = torch.linspace(-17, 17, 10_001, dtype=torch.float64)
WIDE_STEP = WIDE[1] - WIDE[0]


def fitted(row, target, start):
    """Descend the bound from a start (mean, log scale); return the value, mean and scale."""
    at = f64(*start).requires_grad_()
    rule = torch.optim.LBFGS(
        [at], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def loss():
        rule.zero_grad()
        log_q = Normal(at[0], at[1].exp()).log_prob(WIDE)
        s = target - log_q
        value = (target.exp() * row.slope(s) - log_q.exp() * row.conjugate(s)).sum() * WIDE_STEP
        value.backward()
        return value

    rule.step(loss)
    return loss().item(), at[0].item(), at[1].exp().item()


@pytest.mark.parametrize(("s", "name"), C4)
def test_the_best_gaussian_for_two_modes_is_that_of_oracle_c4(s, name):
    """At s = 3 reverse KL alone picks one mode."""
    row = next(r for r in ROWS if r.name == name)
    parts = [Normal(f64(mean), scale).log_prob(WIDE) for mean, scale in ((-s, 0.6), (s, 1.0))]
    target = torch.logaddexp(*parts) - math.log(2)
    found = min(fitted(row, target, start) for start in ((0.2, 0.9), (0.9 * s, 0.1)))
    cost, mean, scale = C4[s, name]
    assert found[0] == pytest.approx(cost, abs=2e-4)
    assert found[1:] == pytest.approx((mean, scale), abs=1e-3)


class Shifted(nn.Module):
    """The log-ratio of N(0, 1) to N(mean, 1)."""

    def __init__(self, mean):
        super().__init__()
        self.mean = nn.Parameter(f64(mean))

    def forward(self, x):
        return self.mean**2 / 2 - self.mean * x


class Moved(dg.Model):
    def __init__(self, mean):
        super().__init__()
        self.mean = nn.Parameter(f64(mean))

    @dg.rv
    def x(self):
        return Normal(self.mean, 1.0)


@tight
def test_an_objective_estimates_the_bound_from_samples(row):
    n, p = 50_000, Moved(0.5)
    cost = dg.f_divergence(dg.data("x"), p, f=row, critic=Shifted(0.5))
    a, b = density(0.0), density(0.5)
    value = integral(b * row.f(a / b))
    losses = cost.losses(torch.randn(n, 1, dtype=torch.float64))
    assert abs(-losses["critic"].item() - value) < 4 * 3.0 / math.sqrt(n)
    (gradient,) = torch.autograd.grad(losses["model"], [p.mean])
    assert gradient > 0  # towards the data


@tight
def test_a_generator_learns_a_gaussian(row):
    torch.manual_seed(0)
    p = dg.model(
        z=Normal(torch.zeros(1), 1.0),
        x=dg.deterministic(lambda z, net: net(z), net=nn.Linear(1, 1)),
    )

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return (torch.cat([torch.ones_like(x), x, x**2], 1) * self.w).sum(1)

    cost = dg.f_divergence(dg.data("x"), p["x"], f=row, critic=Quadratic())
    data = 1.0 + 0.7 * torch.randn(4096, 1)
    dg.fit(cost, data, steps=500, batch_size=128, optimizer=dg.Adam(lr=0.02, betas=(0.5, 0.9)))
    x = p.sample(4000)["x"]
    assert abs(x.mean() - 1.0) < 0.25
    assert abs(x.std() - 0.7) < 0.25


@pytest.mark.parametrize("row", [dg.f.KL, dg.f.HELLINGER], ids=lambda row: row.name)
def test_a_generator_learns_a_mixture(row):
    """Two rows of benchmarks/mixture.py, which plays all; the floor there is 0.03."""
    torch.manual_seed(0)
    net, critic = dg.nn.mlp(2, 16, 16, 1), dg.nn.mlp(1, 16, 16, 1, activation=nn.SiLU)
    p = dg.model(
        z=Normal(torch.zeros(2), 1.0),
        x=dg.deterministic(lambda z, net: 3 * z[:, :1] + net(z), net=net),
    )
    sides = 4 * (torch.rand(20_000, 1) < 0.5) - 2.0
    data = sides + torch.where(sides > 0, 1.0, 0.6) * torch.randn(20_000, 1)
    cost = dg.f_divergence(dg.data("x"), p["x"], f=row, critic=critic, penalty=penalties.r1(0.1))
    rule = dg.Adam(lr=3e-3, betas=(0.0, 0.9))
    distances = []
    for steps in (1, 400):
        dg.fit(
            cost,
            data,
            steps=steps,
            batch_size=128,
            optimizer={"critic": dg.train.Turn(rule, updates=2), "model": rule},
        )
        x = p.sample(20_000)["x"]
        distances.append((x.sort(0).values - data.sort(0).values).abs().mean().item())
    assert distances[0] > 0.6
    assert distances[1] < 0.25


def test_the_gan_row_is_the_minimax_game():
    s = torch.linspace(-5, 5, 11)
    for name in ("real", "fake", "model", "first"):
        ours, minimax = getattr(dg.f.GAN.game(), name), getattr(dg.games.MINIMAX, name)
        torch.testing.assert_close(ours(s), minimax(s))


def test_the_ledger_and_the_formula_name_the_divergence():
    cost = dg.f_divergence(dg.data("x"), Moved(0.5), f=dg.f.HELLINGER, critic=Shifted(0.5))
    assert "squared Hellinger over x: the log-ratio log a / b" in str(cost.explain())
    assert r"1 - e^{-s_\psi(x) / 2}" in cost.latex()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: dg.f.alpha(1.0), ValueError, "other than 0"),
        (lambda: dg.f.alpha(math.inf), ValueError, "finite"),
        (lambda: dg.f.weighted_js(1.0), ValueError, "between 0 and 1, not at 1.0"),
        (
            lambda: dg.f_divergence(dg.data("x"), Moved(0.0), f="KL", critic=Shifted(0.0)),  # type: ignore[arg-type]
            TypeError,
            "such as dg.f.KL",
        ),
        (
            lambda: dg.f_divergence(Moved(0.0), dg.data("x"), f=dg.f.KL, critic=Shifted(0.0)),
            dg.InadmissibleError,
            "KL takes the data as its first side",
        ),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_a_compiled_step_does_what_an_eager_one_does():
    found, x = [], torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    for compiled in (False, True):
        p, critic = Moved(0.5), Shifted(0.2)
        cost = dg.f_divergence(dg.data("x"), p, f=dg.f.weighted_js(0.3), critic=critic)
        dg.fit(cost, x, steps=2, batch_size=4, compile=compiled)
        found.append(torch.stack([p.mean.detach(), critic.mean.detach()]))
    torch.testing.assert_close(*found)
