"""Gallery models with plates: eight schools, regression, a Bayesian net, topics."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Dirichlet,
    HalfCauchy,
    MultivariateNormal,
    Normal,
)

import daguerre as dg
from daguerre.gallery import bnn, eight_schools, lda, regression
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


# Regression


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=F64)


def test_linear_regression_has_the_posterior_and_the_evidence_of_the_books():
    x, y, prior, noise = r(6, 2), r(6), 1.5, 0.7
    p = regression.LinearRegression(2, prior=prior, noise=noise).double()
    precision = torch.eye(2) / prior**2 + x.T @ x / noise**2  # Bishop (2006), 3.53 and 3.54
    given = {"x": x[None], "y": y[None]}
    found = dg.posterior(p, "w", given=given)
    close(found.mean[0], torch.linalg.solve(precision, x.T @ y / noise**2), 1e-6)
    covariance = torch.linalg.inv(precision)
    close(found.variance[0], covariance.diagonal(), 1e-6)
    dense = MultivariateNormal(
        torch.zeros(6).double(), prior**2 * x @ x.T + noise**2 * torch.eye(6)
    )
    close(dg.log_evidence(p, given)[0], dense.log_prob(y), 1e-6)


def test_the_evidence_finds_the_noise_of_a_regression():
    x = r(40, 6)
    y = x @ (2.0 * r(6)) + 0.5 * r(40)
    p = regression.LinearRegression(6).double()
    regression.learn(p, x, y, steps=30)
    assert p.log_noise.exp().item() == pytest.approx(0.5, rel=0.3)
    assert p.log_prior.exp().item() == pytest.approx(2.0, rel=0.6)


def labels() -> tuple[Tensor, Tensor]:
    """Inputs with a column of ones, and labels."""
    x = torch.cat([r(40, 1), torch.ones(40, 1, dtype=F64)], 1)
    return x, torch.bernoulli(torch.sigmoid(2 * x[:, 0] - 1))


def on_a_grid(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The posterior mean of weight and bias, and the log-evidence, by quadrature."""
    axis = torch.linspace(-6, 6, 241).double()
    w = torch.cartesian_prod(axis, axis)
    log = Normal(0.0, 1.0).log_prob(w).sum(1) + Bernoulli(logits=w @ x.T).log_prob(y).sum(1)
    return log.softmax(0) @ w, log.logsumexp(0) + 2 * math.log(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "near"), [(40, 0.05), (10, 0.15)])
def test_logistic_regression_comes_to_the_posterior_and_its_bound_below_the_evidence(
    rows: int, near: float
):
    x, y = labels()
    mean, evidence = on_a_grid(x, y)
    game = regression.logistic_regression(2)
    q = regression.Weights(2)
    data = {"x": x[None].float(), "y": y[None].float()}
    objective = dg.elbo(game.p, q)
    dg.fit(objective, data, subsample={"n": rows}, steps=500, lr=0.02, progress=False)
    dg.fit(objective, data, subsample={"n": rows}, steps=200, lr=0.004, progress=False)
    close(q.mean, mean.float(), near)
    copies = {name: value.expand(2000, *value.shape[1:]) for name, value in data.items()}
    with torch.no_grad():
        bound = -objective.losses(copies)["model"].item()
    assert evidence - 0.3 < bound < evidence + 0.1  # 0.1: many standard errors of the mean
    found = dg.posterior(game.p, "w", given=data, q=q)
    assert found.log_evidence.item() == pytest.approx(evidence.item(), abs=0.05)
    close(found.mean[0], mean.float(), 0.1)


@pytest.mark.slow
def test_nuts_comes_to_the_weights_of_a_logistic_regression():
    pytest.importorskip("nutpie", reason="needs the extra mcmc")
    x, y = labels()
    mean, _ = on_a_grid(x, y)
    p = regression.LogisticRegression(2)
    given = {"x": x[None].float(), "y": y[None].float()}
    found = dg.posterior(p, "w", given=given, method=NUTS(draws=200, tune=150, chains=2, seed=1))
    error = (found.variance / found.diagnostics["ess"]["w"]).sqrt()
    assert ((found.mean[0] - mean).abs() < 4.5 * error[0]).all()


# A Bayesian neural net


def test_the_density_of_a_bayesian_net_is_that_of_its_weights_and_of_all_rows():
    p = bnn.Net(2, hidden=3, noise=0.3)
    values = p.sample(2, {"x": torch.randn(2, 5, 2)})
    inner, outer, x = values["inner"], values["outer"], values["x"]
    hidden = torch.tanh(x @ inner[:, :, 1:].mT + inner[:, None, :, 0])
    f = (hidden @ outer[:, :, None]).squeeze(2)
    want = Normal(0.0, 2.0).log_prob(inner).sum((1, 2)) + Normal(0.0, 3**-0.5).log_prob(outer).sum(
        1
    )
    want += Normal(f, 0.3).log_prob(values["y"]).sum(1)
    close(p.log_prob(values), want, 1e-4)
    close(values["f"], f, 1e-5)


@pytest.mark.slow
def test_a_bayesian_net_fits_what_it_saw_in_batches():
    x = torch.cat([torch.linspace(-2, -0.5, 60), torch.linspace(0.5, 2, 60)])[:, None]
    true = torch.sin(2 * x[:, 0])
    data = {"x": x[None], "y": (true + 0.1 * torch.randn(120))[None]}
    game = bnn.bayesian_net()
    for lr in (0.02, 0.004):
        dg.fit(game.objective, data, subsample={"n": 40}, steps=2000, lr=lr, progress=False)
    seen = bnn.predict(game, x)
    assert (seen.mean(0) - true).square().mean().sqrt() < 0.1  # of a curve of size 0.7
    assert 0.02 < seen.std(0).mean() < 0.15
    assert game.q is not None
    copies = {name: value.expand(200, *value.shape[1:]) for name, value in data.items()}
    with torch.no_grad():
        one = -game.objective.losses(copies)["model"]
        many = -dg.iwae(game.p, game.q, particles=20).losses(copies)["model"]
    assert many > one


@pytest.mark.slow
def test_a_bayesian_net_doubts_between_the_data():
    torch.manual_seed(0)
    x = torch.cat([torch.linspace(-2, -0.7, 30), torch.linspace(0.7, 2, 30)])[:, None]
    data = {"x": x[None], "y": (torch.sin(2 * x[:, 0]) + 0.1 * torch.randn(60))[None]}
    torch.manual_seed(1)
    game = bnn.bayesian_net()
    for lr in (0.02, 0.004):
        dg.fit(game.objective, data, steps=1500, lr=lr, progress=False)
    doubt = bnn.predict(game, torch.tensor([[-1.3], [0.0], [1.3]]), draws=500).std(0)
    assert doubt[1] > 3 * max(doubt[0], doubt[2])


# Topics


def test_the_topic_of_each_word_is_summed_out():
    """Against all 2^4 ways to give the words of two documents topics; one word is not there."""
    p = lda.LDA(words=5, topics=2)
    given = p.sample(1, document=2, word=3)
    beta, theta = given["topics"][0], given["share"][0]
    w = torch.tensor([[0, 3, 3], [1, -1, -1]])
    places = [(0, 0), (0, 1), (0, 2), (1, 0)]
    total = sum(
        math.prod(
            (theta[d, k] * beta[k, w[d, i]]).item()
            for (d, i), k in zip(places, topics, strict=True)
        )
        for topics in itertools.product(range(2), repeat=4)
    )
    loss = dg.objectives.cross_entropy(dg.data("topics", "share", "w"), p, of=["w"], partial=["w"])
    batch = {"topics": beta[None], "share": theta[None], "w": w[None]}
    assert loss.losses(batch)["model"].item() == pytest.approx(-math.log(total), rel=1e-5)


@pytest.mark.slow
def test_topics_are_found_from_batches_of_ragged_documents():
    beta = torch.eye(3).repeat_interleave(4, 1) / 4  # each topic has four words of its own
    theta = Dirichlet(torch.full((3,), 0.3)).sample(torch.Size((120,)))
    w = Categorical(theta @ beta).sample(torch.Size((20,))).T
    w[::3, 15:] = -1
    game, data = lda.lda(words=12, topics=3), lda.corpus(w, 12)
    dg.fit(game.objective, data, subsample={"document": 30}, steps=1200, lr=0.02, progress=False)
    assert game.q is not None
    drawn = game.q.sample(200, {"counts": data["counts"].expand(200, 120, 12)})
    found, share = drawn["topics"].mean(0), drawn["share"].mean(0)
    order = (beta @ found.T).argmax(1)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert (found[order] - beta).abs().max() < 0.1
    assert (share[:, order] - theta).abs().mean() < 0.12
