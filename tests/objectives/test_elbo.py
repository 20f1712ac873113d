"""The ELBO by value, by gradient and by direction."""

import math

import pytest
import torch
from nets import MODELS
from torch import nn
from torch.distributions import ExpTransform, Gamma
from toys import divergence, f64, integrate, normal, per_example, scalar

import daguerre as dg
from daguerre.objectives.importance import log_weights
from daguerre.objectives.objective import Round

# Oracle A1, after Tipping and Bishop (1999), Probabilistic principal component analysis
LOG_PX, POSTERIOR_MEAN, POSTERIOR_VARIANCE = -3.80717725748, 0.666666666667, 0.047619047619
X = f64(1.5, 0.5)
W, MU, NOISE = f64(2.0, 1.0), f64(0.5, -1.0), 0.25


def ppca():
    return dg.model(
        z=normal(0.0, 1.0),
        x=lambda z: torch.distributions.Normal(z[:, None] * W + MU, NOISE**0.5),
    )


def posterior(mean, variance):
    return dg.model(x=dg.Input(2), z=lambda x: normal(mean + 0 * x[:, 0], variance))


@pytest.mark.parametrize(
    ("mean", "variance", "elbo"),
    [
        (POSTERIOR_MEAN, POSTERIOR_VARIANCE, -3.80717725748),
        (0.4, 0.1, -4.73287525179),
        (0.0, 1.0, -16.9515827053),
    ],
)
def test_the_elbo_of_probabilistic_pca_is_the_oracle_a1(mean, variance, elbo, monkeypatch):
    cost = dg.elbo(ppca(), posterior(mean, variance))
    assert -integrate(monkeypatch, cost, {"x": X}) == pytest.approx(elbo, abs=1e-9)


def test_at_the_posterior_every_draw_gives_the_evidence():
    cost = dg.elbo(ppca(), posterior(POSTERIOR_MEAN, POSTERIOR_VARIANCE))
    weights = log_weights(divergence(cost), Round(1000, {"x": X.expand(1000, 2)}), particles=1)
    torch.testing.assert_close(weights, f64(LOG_PX).expand(1000, 1), rtol=0, atol=1e-8)


def test_draws_agree_with_a1_within_four_standard_errors():
    cost = dg.elbo(ppca(), posterior(0.4, 0.1))
    rows = per_example(cost, 20_000, {"x": X.expand(20_000, 2)})
    error = rows.std() / math.sqrt(20_000)
    assert abs(rows.mean() - 4.73287525179) < 4 * error < 0.1


def test_the_loss_is_the_mean_over_the_batch():
    p, q = ppca(), posterior(0.4, 0.1)
    x = torch.randn(7, 2, dtype=torch.float64)
    torch.manual_seed(3)
    loss = dg.elbo(p, q).losses(x)["model"]
    torch.manual_seed(3)
    torch.testing.assert_close(loss, per_example(dg.elbo(p, q), 7, {"x": x}).mean())


def test_a_flow_posterior_that_bends_scores_by_change_of_variables(monkeypatch):
    """q: e ~ N(m, s), z = exp(e); p: z ~ Gamma(2, 3), x | z ~ N(z, 0.4)."""
    p = dg.model(z=Gamma(scalar(2.0), scalar(3.0)), x=lambda z: normal(z, 0.4))
    q = dg.model(
        x=dg.Input(), e=lambda x: normal(0.3 * x, 0.2), z=dg.bijection("e", ExpTransform())
    )
    value = -integrate(monkeypatch, dg.elbo(p, q), {"x": scalar(0.9)}, order=40)
    # E_e: log Gamma(exp e) + e + log N(x; exp e) + H(e); E exp(e) and E exp(2 e) are log-normal
    m, s = 0.27, 0.2
    mean, square = math.exp(m + s / 2), math.exp(2 * m + 2 * s)
    prior = 2 * math.log(3) + 2 * m - 3 * mean  # Gamma(2) = 1; (2 - 1) e + e = 2 e
    likelihood = -0.5 * math.log(2 * math.pi * 0.4) - (0.81 - 1.8 * mean + square) / 0.8
    entropy = 0.5 * math.log(2 * math.pi * math.e * s)
    assert value == pytest.approx(prior + likelihood + entropy, abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_its_gradient_is_that_of_finite_differences(name):
    """Central differences in float64 with common random numbers, every parameter of p and q."""
    p, q, batch = MODELS[name]()
    cost = dg.elbo(p, q)

    def loss():
        torch.manual_seed(7)
        return cost.losses(batch)["model"]

    (player,) = cost.players
    parameters = player.parameters()
    assert len(parameters) == len([*p.parameters(), *q.parameters()]) > 1
    gradients = torch.autograd.grad(loss(), parameters)
    step = 1e-6
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            flat = parameter.view(-1)
            for i in range(flat.numel()):
                before = flat[i].item()
                flat[i] = before + step
                above = loss().item()
                flat[i] = before - step
                below = loss().item()
                flat[i] = before
                difference = (above - below) / (2 * step)
                assert gradient.reshape(-1)[i].item() == pytest.approx(
                    difference, rel=1e-5, abs=1e-7
                )


def test_a_step_along_the_gradient_lowers_the_expected_cost():
    p, q, batch = MODELS["gaussian"]()
    cost = dg.elbo(p, q)
    many = {name: value.repeat(200, 1) for name, value in batch.items()}

    def loss():
        torch.manual_seed(1)
        return cost.losses(many)["model"]

    parameters = cost.players[0].parameters()
    before = loss()
    gradients = torch.autograd.grad(before, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 1e-3 * gradient
    assert loss() < before


def test_the_pathwise_gradient_is_that_of_oracle_g5():
    """d/dm E_N(m,1)[z^2] = 2 m, with variance 4 a draw (Mohamed et al. 2020, arXiv 1906.10652)."""

    class Mean(dg.Model):
        x = dg.Input()

        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(f64(1.0))

        @dg.rv
        def z(self, x):
            return normal(self.mean.expand(len(x)), 1.0)

    n = 50_000
    z = Mean().rsample(n, {"x": torch.zeros(n, dtype=torch.float64)})["z"]
    (gradient,) = torch.autograd.grad((z**2).sum(), z)
    error = math.sqrt(4.0 / n)
    assert abs(gradient.mean() - 2.0) < 4 * error
    assert gradient.var() == pytest.approx(4.0, rel=0.05)
