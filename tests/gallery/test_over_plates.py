"""Gallery models with plates: eight schools, regression, a Bayesian net, topics."""

import pytest
import torch
from torch import Tensor
from torch.distributions import HalfCauchy

import daguerre as dg
from daguerre.gallery import eight_schools
from daguerre.infer import NUTS, LikelihoodWeighting

F64 = torch.float64


def close(a: Tensor, b: Tensor, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(a.detach(), b, rtol=tolerance, atol=tolerance)


# Eight schools


def by_quadrature() -> dict[str, Tensor]:
    """Posterior means: given tau all is Gaussian, and tau is one number."""
    y, sigma = (eight_schools.DATA[name][0].double() for name in ("y", "sigma"))
    tau = torch.linspace(1e-4, 150, 60_001, dtype=F64)
    total = tau.square()[:, None] + sigma.square()
    precision = 1 / 25 + (1 / total).sum(1)
    mu = (y / total).sum(1) / precision
    log = HalfCauchy(torch.tensor(5.0, dtype=F64)).log_prob(tau) - precision.log() / 2
    log = log - total.log().sum(1) / 2 - ((y.square() / total).sum(1) - precision * mu**2) / 2
    theta = mu[:, None] + tau.square()[:, None] / total * (y - mu[:, None])
    weights = log.softmax(0)
    return {"mu": weights @ mu, "tau": weights @ tau, "theta": weights @ theta}


def test_quadrature_agrees_with_the_reference_posterior_of_eight_schools():
    """Magnusson et al., posteriordb: eight_schools-eight_schools_noncentered."""
    means = by_quadrature()
    assert means["mu"].item() == pytest.approx(4.4, abs=0.05)
    assert means["tau"].item() == pytest.approx(3.6, abs=0.05)
    close(means["theta"], torch.tensor([6.2, 4.9, 3.9, 4.8, 3.6, 4.0, 6.3, 4.9]).double(), 0.06)


def test_weighted_draws_come_to_the_means_of_eight_schools():
    p, means = eight_schools.Schools(), by_quadrature()
    method = LikelihoodWeighting(40_000)
    found = dg.posterior(p, [*means], given=eight_schools.DATA, method=method)
    assert found.diagnostics["reliable"].all()
    assert found["theta"].batch_shape == (1, 8)
    size = found.diagnostics["ess"]
    for name, want in means.items():  # 10 means within 5 standard errors
        error = (found.variance[name] / size).sqrt()
        assert ((found.mean[name] - want).abs() < 5 * error).all()


def test_the_inference_model_has_the_law_of_a_school_given_mean_and_spread():
    game = eight_schools.eight_schools()
    given = {"mu": torch.tensor([3.0]), "tau": torch.tensor([2.0])}
    clamped = dg.do(game.p, mu=given["mu"][0], tau=given["tau"][0])
    exact = dg.posterior(clamped, "z", given=eight_schools.DATA)
    assert exact.exact
    inferred = eight_schools.Shrinkage()
    q = inferred.z(*(v[:, None] for v in given.values()), *eight_schools.DATA.values())
    close(q.mean, exact.mean, 1e-5)
    close(q.variance, exact.variance, 1e-5)


@pytest.mark.slow
def test_the_bound_comes_to_the_means_of_eight_schools():
    game, means = eight_schools.eight_schools(), by_quadrature()
    dg.fit(game.objective, eight_schools.DATA, progress=False, **game.options)
    assert game.q is not None
    given = {name: value.expand(20_000, 8) for name, value in eight_schools.DATA.items()}
    drawn = game.q.sample(20_000, given)
    theta = drawn["mu"][:, None] + drawn["tau"][:, None] * drawn["z"]
    close(drawn["mu"].mean(), means["mu"].float(), 0.4)
    close(drawn["tau"].mean(), means["tau"].float(), 0.4)
    close(theta.mean(0), means["theta"].float(), 0.4)


@pytest.mark.slow
def test_nuts_comes_to_the_means_of_eight_schools():
    pytest.importorskip("nutpie", reason="needs the extra mcmc")
    p, means = eight_schools.Schools(), by_quadrature()
    method = NUTS(draws=300, tune=300, chains=2, seed=3)
    found = dg.posterior(p, [*means], given=eight_schools.DATA, method=method)
    for name, want in means.items():
        error = (found.variance[name] / found.diagnostics["ess"][name]).sqrt()
        assert ((found.mean[name] - want).abs() < 4.5 * error).all()
    assert found.diagnostics["divergences"].item() < 10
