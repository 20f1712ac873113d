"""Closed-form KL divergences: equal to torch's, to Monte Carlo and to the oracles."""

import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Exponential,
    Gamma,
    Geometric,
    Gumbel,
    Independent,
    Laplace,
    LogNormal,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
    StudentT,
    Uniform,
    kl_divergence,
)
from toys import divergence, f64, per_example, scalar

import daguerre as dg
from daguerre.objectives.closed_forms import closed_form
from daguerre.objectives.importance import log_weights
from daguerre.objectives.objective import Round

A, B = f64(0.4, 1.3, 2.1), f64(0.9, 0.7, 1.8)
LOGITS, PROBS = torch.stack([A, B]), f64(0.2, 0.5, 0.9)
STANDARD = dg.StandardNormal(3)

PAIRS = {
    "normal, normal": (Normal(A, B), Normal(-B, A)),
    "normal, standard normal": (Normal(A, B), STANDARD),
    "standard normal, normal": (STANDARD, Normal(A, B)),
    "standard normal, itself": (STANDARD, dg.StandardNormal(3)),
    "bernoulli": (Bernoulli(PROBS), Bernoulli(logits=A)),
    "categorical": (Categorical(logits=LOGITS), Categorical(logits=-LOGITS)),
    "one-hot": (OneHotCategorical(logits=LOGITS), OneHotCategorical(logits=LOGITS.flip(1))),
    "gamma": (Gamma(A, B), Gamma(B, A)),
    "beta": (Beta(A, B), Beta(B, A)),
    "dirichlet": (Dirichlet(A), Dirichlet(B)),
    "exponential": (Exponential(A), Exponential(B)),
    "exponential, gamma": (Exponential(A), Gamma(B, A)),
    "geometric": (Geometric(PROBS), Geometric(f64(0.3, 0.4, 0.8))),
    "laplace": (Laplace(A, B), Laplace(B, A)),
    "laplace, normal": (Laplace(A, B), Normal(B, A)),
    "normal, laplace": (Normal(A, B), Laplace(B, A)),
    "poisson": (Poisson(A), Poisson(B)),
    "uniform, normal": (Uniform(A, A + 1), Normal(A, B)),
    "full covariance": (
        MultivariateNormal(A, B.diag() + 0.3),
        MultivariateNormal(B, A.diag() + 0.1),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_closed_form_is_that_of_torch(name):
    a, b = PAIRS[name]
    rule = closed_form(type(a), type(b))
    assert rule is not None
    torch.testing.assert_close(rule(a, b), kl_divergence(a, b), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", PAIRS)
def test_an_objective_uses_it_and_draws_agree(name):
    """The sum over the event, exactly; and within four standard errors of the draws."""
    a, b = PAIRS[name]
    cost = dg.KL(dg.model(x=a), dg.model(x=b))
    (row,) = cost.explain()
    assert row["estimator"] == "closed form"
    exact = kl_divergence(a, b).sum()
    torch.testing.assert_close(cost.losses(4)["model"], exact, rtol=1e-6, atol=1e-6)
    draws = -log_weights(divergence(cost), Round(20_000, {}), particles=1).squeeze(1)
    assert abs(draws.mean() - exact) <= 4 * draws.std() / math.sqrt(20_000) + 1e-12


def test_gaussians_have_the_divergences_of_oracle_c2():
    """N(0, 1) and N(1, 1.44), both ways (Gil, Alajaji and Linder 2013)."""
    p = dg.model(x=Normal(scalar(0.0), scalar(1.0)))
    q = dg.model(x=Normal(scalar(1.0), scalar(1.2)))
    assert dg.KL(p, q).losses(1)["model"].item() == pytest.approx(0.376766001237, abs=1e-9)
    assert dg.KL(q, p).losses(1)["model"].item() == pytest.approx(0.537678443203, abs=1e-9)
    assert dg.KL(p, p).losses(1)["model"].item() == 0


@pytest.mark.parametrize(
    ("a", "b"),
    [(Laplace, StudentT), (LogNormal, LogNormal), (Independent, Independent), (Gumbel, Gumbel)],
)
def test_other_pairs_have_none(a, b):
    assert closed_form(a, b) is None


def test_without_a_closed_form_the_draws_have_the_right_mean():
    a, b = LogNormal(A, 0.5), LogNormal(B, 0.7)
    cost = dg.KL(dg.model(x=a), dg.model(x=b))
    assert [row["why"] for row in cost.explain()] == [
        "no closed form for LogNormal against LogNormal"
    ] * 2
    draws = per_example(cost, 20_000, {})
    error = draws.std() / math.sqrt(20_000)
    assert abs(draws.mean() - kl_divergence(a, b).sum()) < 4 * error < 0.1


def test_a_closed_term_between_a_root_and_a_conditional_is_one_number_a_row():
    p = dg.model(c=dg.Input(1), z=lambda c: Normal(c.expand(-1, 3), 1.0))
    q = dg.model(z=Normal(torch.zeros(3), 2.0))
    c = torch.tensor([[0.0], [1.0], [2.0]])
    cost = dg.KL(dg.data("c") * q, p)
    rows = per_example(cost, 3, {"c": c})
    expected = kl_divergence(Normal(torch.zeros(3, 3), 2.0), Normal(c.expand(3, 3), 1.0)).sum(1)
    torch.testing.assert_close(rows, expected)
    assert cost.explain().rows[0][2] == "closed form"


def test_a_divergence_that_is_infinite_is_refused():
    p = dg.model(z=Gamma(torch.ones(2), 1.0), x=lambda z: Normal(z, 1.0))
    q = dg.model(x=dg.Input(2), z=lambda x: Normal(x, 1.0))
    with pytest.raises(dg.InadmissibleError, match=r"(?s)z \(x -> z\).*Normal.*Gamma.*infinite"):
        dg.elbo(p, q)


def test_a_family_that_torch_builds_from_transforms_is_averaged():
    a, b = Gumbel(A, 1.0), Gumbel(B, 1.1)
    cost = dg.KL(dg.model(x=a), dg.model(x=b))
    draws = per_example(cost, 20_000, {})
    error = draws.std() / math.sqrt(20_000)
    assert abs(draws.mean() - kl_divergence(a, b).sum()) < 4 * error < 0.2
