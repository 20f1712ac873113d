"""Annealed importance sampling against closed forms, enumeration, and itself backwards."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Exponential, Gamma, MultivariateNormal, Normal

import daguerre as dg
from daguerre import measures as m
from daguerre.evaluate import annealed as module
from daguerre.evaluate.annealed import annealed
from daguerre.evaluate.paths import latent_of
from daguerre.evaluate.subject import seeded

W, MU = torch.tensor([2.0, 1.0]), torch.tensor([0.5, -1.0])
LOG_PX = -3.80717725748  # oracle A1, at x = (1.5, 0.5)
QUICK = m.Annealing(chains=1, steps=4, leapfrogs=3)


def ppca():
    """Oracle A1: z ~ N(0, 1), x ~ N(W z + mu, I / 4)."""
    return dg.model(z=dg.StandardNormal(1), x=lambda z: Normal(z * W + MU, 0.5))


def weights(p, observed, annealing, seed=0):
    with torch.no_grad(), seeded(seed):
        return annealed(latent_of(p, observed, "AIS"), observed, annealing)


def mean_and_error(values):
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_the_weights_have_the_evidence_as_their_mean(steps):
    """Without bias even for few temperatures: 4 standard errors, 1 failure in 16,000."""
    x = torch.tensor([1.5, 0.5]).expand(6000, 2)
    annealing = m.Annealing(chains=1, steps=steps, leapfrogs=3)
    ratio, error = mean_and_error((weights(ppca(), {"x": x}, annealing) - LOG_PX).exp())
    assert abs(ratio - 1) < 4 * error
    assert error < 0.05


def test_the_probabilities_of_all_data_add_up_to_one():
    """Eight patterns of three pixels; each against quadrature, 4 standard errors."""
    slope, offset = torch.tensor([2.0, -1.5, 3.0]), torch.tensor([0.5, 0.0, -1.0])
    p = dg.model(z=dg.StandardNormal(1), x=lambda z: Bernoulli(logits=z * slope + offset))
    patterns = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    copies = 1500
    found = weights(p, {"x": patterns.repeat(copies, 1)}, QUICK).exp().view(copies, 8)
    grid = torch.linspace(-9, 9, 2001, dtype=torch.float64)[:, None]
    given = Bernoulli(logits=grid * slope + offset)
    joint = Normal(0.0, 1.0).log_prob(grid[:, 0]) + given.log_prob(patterns[:, None]).sum(2)
    exact = torch.trapezoid(joint.exp(), grid[:, 0])
    error = found.std(0) / math.sqrt(copies)
    assert exact.sum().item() == pytest.approx(1, abs=1e-5)
    assert ((found.mean(0) - exact).abs() < 4 * error).all()
    total, error = mean_and_error(found.sum(1))
    assert abs(total - 1) < 4 * error


def test_many_temperatures_find_the_evidence_of_each_row():
    p = ppca()
    x = p.sample(12)["x"]
    exact = MultivariateNormal(MU, torch.outer(W, W) + 0.25 * torch.eye(2)).log_prob(x)
    found = weights(p, {"x": x}, m.Annealing(chains=32, steps=60, leapfrogs=4))
    error = found - exact
    assert error.abs().max() < 0.4
    assert abs(error.mean()) < 0.1


def test_the_log_is_too_low_on_average():
    x = torch.tensor([1.5, 0.5]).expand(2000, 2)
    value, error = mean_and_error(weights(ppca(), {"x": x}, QUICK))
    assert value < LOG_PX - 4 * error


def test_a_latent_with_bounds_moves_in_free_numbers():
    """p(x) is 2 / (1 + x)^3 for z ~ Gamma(2, 1) and x ~ Exponential(z)."""
    p = dg.model(
        z=Gamma(2.0, 1.0),
        rate=dg.deterministic(lambda z: 1.0 * z),
        x=lambda rate: Exponential(rate),
    )
    x = torch.tensor([0.1, 1.0, 4.0]).repeat(2000)
    found = (weights(p, {"x": x}, QUICK) - (2 / (1 + x) ** 3).log()).exp().view(2000, 3)
    error = found.std(0) / math.sqrt(2000)
    assert ((found.mean(0) - 1).abs() < 4 * error).all()


def test_several_latents_and_an_input():
    """x ~ N(c, 3.25): two standard normals above it, and noise of variance 1 and 1/4."""
    p = dg.model(
        c=dg.Input(1),
        a=lambda c: Normal(c, 1.0),
        b=lambda a: Normal(a, 2**0.5),
        x=lambda b: Normal(b, 0.5),
    )
    c, x = torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.0], [1.0]])
    annealing = m.Annealing(chains=64, steps=30, leapfrogs=4)
    found = weights(p, {"x": x, "c": c}, annealing)
    exact = Normal(c, 3.25**0.5).log_prob(x)[:, 0]
    assert (found - exact).abs().max() < 0.2
    scores = dg.evaluate(p, data={"x": x, "c": c}, measures=[m.BDMC(2, annealing)])
    assert abs(scores["ais gap"].value) < 0.5


def test_data_of_any_size_is_taken_in_passes(monkeypatch):
    monkeypatch.setattr(module, "NUMBERS", 256 * 16 * 7)  # seven rows in a pass
    x = ppca().sample(30)["x"]
    exact = MultivariateNormal(MU, torch.outer(W, W) + 0.25 * torch.eye(2)).log_prob(x).mean()
    annealing = m.Annealing(chains=16, steps=30, leapfrogs=3)
    scores = dg.evaluate(ppca(), data=x, measures=[m.AIS(100, annealing)])
    assert abs(scores["ais"].value - exact) < 0.2


def test_the_gap_closes_with_the_temperatures():
    """Lower and upper bound hold for the rows that were drawn; 4 standard errors."""
    gaps = []
    for steps in (3, 40):
        annealing = m.Annealing(chains=8, steps=steps, leapfrogs=3)
        scores = dg.evaluate(ppca(), measures=[m.BDMC(300, annealing)])
        exact = -0.5 * (2 * math.log(2 * math.pi) + math.log(1.3125) + 2)  # minus the entropy
        low, high = scores["ais lower"], scores["ais upper"]
        assert low.value < exact + 4 * low.spread
        assert high.value > exact - 4 * high.spread
        gaps.append(scores["ais gap"].value)
    assert gaps[0] > 4 * gaps[1] > 0


def test_steps_are_accepted_as_often_as_they_should_be():
    p = ppca()
    observed = {"x": p.sample(50)["x"]}
    torch.manual_seed(0)
    chains = module._Chains(latent_of(p, observed, "AIS"), observed, 50, m.Annealing(steps=30))
    with torch.no_grad():
        point = chains._start(16)
        rates = []
        for t in range(1, 30):
            point, accepted = chains._move(point, t, chains.step_sizes[t - 1])
            rates.append(accepted.mean().item())
    assert 0.55 < sum(rates) / len(rates) < 0.8


def test_chains_that_leave_the_finite_numbers_stay_where_they_were():
    """A cliff: the density is NaN beyond 1, where no move is accepted."""

    def x(z):
        return Normal(torch.where(z > 1, torch.full_like(z, math.nan), z), 1.0)

    p = dg.model(z=dg.StandardNormal(1), x=x)
    observed = {"x": torch.zeros(4, 1)}
    with seeded(0):
        latent = latent_of(p, observed, "AIS")
        chains = module._Chains(latent, observed, 4, m.Annealing(steps=5))
        point = latent.at(torch.zeros(64, 1), observed)
        for t in range(1, 5):
            point = chains._move(point, t, torch.full((4,), 0.7)).point
    assert point.free.max() <= 1
    assert point.free.std() > 0.1
    assert point.likelihood.isfinite().all()
