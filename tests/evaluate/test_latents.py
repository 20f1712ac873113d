"""Rate, distortion and the units that are used, against closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Laplace, Normal, StudentT, kl_divergence

import daguerre as dg
from daguerre import measures as m
from daguerre.evaluate import bounds
from daguerre.evaluate import latents as module


def linear(weights, scale):
    """q(z | x) = N(w x, scale^2) of a scalar x, one dimension for each w."""
    weights, scale = torch.tensor(weights), torch.tensor(scale)
    return dg.model(x=dg.Input(1), z=lambda x: Normal(x * weights, scale))


def ppca(size):
    return dg.model(z=dg.StandardNormal(size), x=lambda z: Normal(z[:, :1], 1.0))


def test_rate_and_distortion_are_those_of_the_closed_form():
    x = torch.randn(500, 1)
    scores = dg.evaluate(ppca(1), linear([0.3], [0.6]), x, measures=[m.RateDistortion()])
    rate = kl_divergence(Normal(0.3 * x, 0.6), Normal(0.0, 1.0))
    distortion = 0.5 * (math.log(2 * math.pi) + (0.7 * x) ** 2 + 0.36)
    assert scores["rate"].value == pytest.approx(rate.mean().item(), abs=1e-5)
    assert scores["rate"].spread == pytest.approx(rate.std().item() / 500**0.5, abs=1e-5)
    assert abs(scores["distortion"].value - distortion.mean()) < 4 * scores["distortion"].spread


def test_minus_their_sum_is_the_elbo():
    """The same draws: to rounding."""
    x = torch.randn(300, 1)
    q = linear([0.3, -1.0], [0.6, 0.9])
    scores = dg.evaluate(ppca(2), q, x, measures=[m.ELBO(), m.RateDistortion()])
    whole = -(scores["rate"].value + scores["distortion"].value)
    assert whole == pytest.approx(scores["elbo"].value, abs=1e-5)


def test_rates_of_units_add_up_to_the_rate_and_are_sorted():
    x = torch.randn(300, 1)
    q = linear([0.3, -1.0, 0.0], [0.6, 0.2, 1.0])
    scores = dg.evaluate(ppca(3), q, x, measures=[m.UnitRates(), m.RateDistortion()])
    units = [score for score in scores if score.name.startswith("rate z")]
    assert [score.name for score in units] == ["rate z[1]", "rate z[0]", "rate z[2]"]
    assert sum(s.value for s in units) == pytest.approx(scores["rate"].value, abs=1e-5)
    assert units[-1].value == pytest.approx(0, abs=1e-6)


def test_units_of_a_matrix_are_named_by_both_indices():
    p = dg.model(z=dg.StandardNormal(2, 3), x=lambda z: Normal(z.sum((1, 2)), 1.0))
    q = dg.model(
        x=dg.Input(), z=lambda x: Normal(x[:, None, None] * torch.eye(2, 3), torch.ones(2, 3))
    )
    scores = dg.evaluate(p, q, torch.randn(100), measures=[m.UnitRates()])
    assert {score.name for score in scores.scores[:2]} == {"rate z[0, 0]", "rate z[1, 1]"}


def test_rates_without_a_closed_form_are_drawn():
    p = dg.model(z=StudentT(torch.full((2,), 5.0)), x=lambda z: Normal(z[:, :1], 1.0))
    q = dg.model(x=dg.Input(1), z=lambda x: Laplace(x * torch.tensor([1.0, 0.0]), 0.5))
    scores = dg.evaluate(p, q, torch.zeros(20_000, 1), measures=[m.UnitRates()])
    grid = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    a, b = Laplace(0.0, 0.5).log_prob(grid), StudentT(5.0).log_prob(grid)
    exact = torch.trapezoid(a.exp() * (a - b), grid).item()
    for score in scores:
        assert abs(score.value - exact) < 4 * score.spread


def test_active_units_are_those_whose_mean_varies_enough():
    """Variances 1, 0.04, 0.0025 and 0: the second is active, the third is not."""
    x = torch.randn(4000, 1)
    q = linear([1.0, 0.2, 0.05, 0.0], [0.1, 1.0, 1.0, 1.0])
    score = dg.evaluate(ppca(4), q, x, measures=[m.ActiveUnits()])["active units"]
    assert (score.value, score.spread) == (2, 0)
    assert "of 4" in score.note


def test_a_unit_at_the_threshold_has_an_error_bar():
    x = torch.randn(200, 1)
    x = (x - x.mean()) / x.std()
    q = linear([0.1001], [1.0])
    score = dg.evaluate(ppca(1), q, x, measures=[m.ActiveUnits()])["active units"]
    assert score.value == 1
    assert 0.4 < score.spread < 0.6


def test_units_below_a_random_latent_vary_only_with_the_data():
    """z = y - x + noise, E[z | x] = 0: the mean given y varies by one, given x not at all."""
    p = dg.model(y=dg.StandardNormal(1), z=lambda y: Normal(y, 1.0), x=lambda z: Normal(z, 1.0))
    q = dg.model(x=dg.Input(1), y=lambda x: Normal(x, 1.0), z=lambda y, x: Normal(y - x, 1.0))
    x = torch.randn(20_000, 1)
    score = dg.evaluate(p, q, x, measures=[m.ActiveUnits(0.1)])["active units"]
    assert score.value == 1  # y alone


class Bits(dg.Model):
    """q that knows the sign of x for sure."""

    x = dg.Input(1)

    @dg.rv
    def z(self, x):
        return Normal(3 * x.sign(), 0.1)


def test_information_and_marginal_kl_split_the_rate():
    x = torch.randn(600, 1)
    q = linear([0.9], [0.3])
    scores = dg.evaluate(ppca(1), q, x, measures=[m.AggregateSplit(), m.RateDistortion()])
    whole = scores["information"].value + scores["marginal kl"].value
    assert whole == pytest.approx(scores["rate"].value, abs=4 * scores["rate"].spread)
    # of x ~ N(0, 1): z ~ N(0, 0.9), so I = log(0.9 / 0.09) / 2 and KL(N(0, 0.9) || N(0, 1))
    exact = {"information": math.log(10) / 2, "marginal kl": (0.9 - 1 - math.log(0.9)) / 2}
    for name, value in exact.items():
        assert abs(scores[name].value - value) < 4 * scores[name].spread + 0.02


def test_the_information_of_a_bit_is_log_two():
    x = torch.tensor([[-1.0], [1.0]]).repeat(300, 1)
    score = dg.evaluate(ppca(1), Bits(), x, measures=[m.AggregateSplit()])["information"]
    assert score.value == pytest.approx(math.log(2), abs=1e-4)


def test_blocks_of_the_table_change_nothing(monkeypatch):
    x = torch.randn(101, 1)
    whole = dg.evaluate(ppca(1), linear([0.9], [0.3]), x, measures=[m.AggregateSplit()])
    monkeypatch.setattr(module, "CELLS", 101 * 7)
    blocks = dg.evaluate(ppca(1), linear([0.9], [0.3]), x, measures=[m.AggregateSplit()])
    assert blocks["information"].value == pytest.approx(whole["information"].value, abs=1e-6)


# Memory


class Wide(dg.Model):
    """A decoder of 1024 pixels that notes how many rows it is asked for."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = nn.Linear(2, 1024), set()

    @dg.rv
    def z(self):
        return dg.StandardNormal(2)

    @dg.rv
    def x(self, z):
        self.seen.add(len(z))
        return Normal(self.net(z), 1.0)


@pytest.mark.parametrize("particles", [2, 1000, 30_000])
def test_no_pass_holds_more_numbers_than_it_may(particles, monkeypatch):
    monkeypatch.setattr(bounds, "NUMBERS", 1 << 18)
    p = Wide()
    q = dg.model(x=dg.Input(1024), z=lambda x: Normal(x[:, :2], 1.0))
    dg.elbo(p, q)
    traced = {*p.seen}
    scores = dg.evaluate(p, q, torch.zeros(600 if particles < 9 else 2, 1024), measures=[
        m.IWAE(particles)
    ])  # fmt: skip
    assert math.isfinite(scores["iwae"].value)
    assert 128 <= max(p.seen - traced) <= (1 << 18) / 1024


def test_a_bound_of_many_particles_is_not_lost_to_rounding():
    """Weights of e^-5000 and less, added up in parts: the log of their mean, to 1e-3."""
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 0.01))
    q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 1.0001, 0.01 / 1.0001**0.5))
    x = torch.full([2], 3.0)
    scores = dg.evaluate(p, q, x, measures=[m.IWAE(50_000)])
    exact = Normal(0.0, 1.0001**0.5).log_prob(torch.tensor(3.0)).item()
    assert scores["iwae"].value == pytest.approx(exact, abs=2e-3)
