"""Whole networks: known answers of real ones, and a thousand variables at once."""

import itertools
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_gaussians import column, linear, oracle
from torch.distributions import MultivariateNormal, Normal

from daguerre.cpds import Affine
from daguerre.families import StandardNormal
from daguerre.infer.gaussian import GaussianMixture, LinearVariable, read_affine, solve

FOLDER = Path(os.environ.get("DAGUERRE_DATA", "")) / "networks" / "gaussian"
real = pytest.mark.skipif(
    not (FOLDER / "reference.json").exists(),
    reason="set DAGUERRE_DATA to a folder that holds networks/gaussian",
)


@cache
def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def ordered(parents):
    """Names, parents first."""
    done: dict[str, None] = {}
    while len(done) < len(parents):
        done |= dict.fromkeys(n for n in parents if n not in done and {*parents[n]} <= {*done})
    return list(done)


def network(name):
    cpds = load(name)["cpds"]
    block = []
    for node in ordered({n: cpd["parents"] for n, cpd in cpds.items()}):
        numbers = {n: b[0] for n, b in cpds[node]["coefficients"].items()}
        bias, scale = numbers.pop("(Intercept)"), cpds[node]["variance"][0] ** 0.5
        block.append(linear(node, bias, scale, **numbers))
    return block


def records(*networks):
    known = load("reference")["records"] if (FOLDER / "reference.json").exists() else []
    return [pytest.param(r, id=r["id"]) for r in known if r["network"] in networks]


@real
@pytest.mark.parametrize("record", records("ecoli70", "magic-niab"))
def test_a_real_gaussian_network_has_the_known_posterior(record):
    observed = {name: column(value) for name, value in record["evidence"].items()}
    targets = list(record["posterior"])
    found = solve(network(record["network"]), {}, observed=observed, targets=targets)
    expected = record["log_density_evidence"]
    assert found.log_evidence.item() == pytest.approx(expected, abs=1e-9, rel=1e-10)
    for name, moments in record["posterior"].items():
        mean, covariance = found.moments(name)
        assert mean.item() == pytest.approx(moments["mean"], abs=1e-10, rel=1e-10)
        assert covariance.item() == pytest.approx(moments["var"], abs=1e-10, rel=1e-10)


# healthcare: A -> C, H; (A, H) -> D; (C, D) -> I; A -> O; (I, O) -> T. D is 0 where H is none.

CARDS = {"A": 3, "C": 3, "H": 2}


def healthcare():
    return [
        linear(
            "D", [[0.0, 1.0], [0.0, 4.0], [0.0, 7.0]], [[0, 0.5], [0, 1], [0, 1.5]], ["A", "H"]
        ),
        linear("I", [100.0] * 3, [30.0, 50.0, 100.0], ["C"], D=[300.0, 550.0, 800.0]),
        linear("O", [60.0, 180.0, 360.0], [10.0, 20.0, 40.0], ["A"]),
        linear("T", 120.0, 10.0, I=1.02, O=1.05),
    ]


def prior():
    a = torch.tensor([0.35, 0.45, 0.2], dtype=torch.float64)
    c = [[0.88, 0.1, 0.02], [0.75, 0.2, 0.05], [0.42, 0.53, 0.05]]
    h = [[0.9, 0.1], [0.75, 0.25], [0.6, 0.4]]
    c, h = (torch.tensor(table, dtype=torch.float64) for table in (c, h))
    return a[:, None, None] * c[:, :, None] * h[:, None, :]


def posterior(observed, targets, prior_):
    found = solve(healthcare(), CARDS, observed=observed, targets=targets, possible=prior_ > 0)
    joint = found.log_evidence + prior_.log()
    log_evidence = joint.flatten(1).logsumexp(1)
    weights = (joint - log_evidence[:, None, None, None]).exp()
    return log_evidence, weights, found


@real
@pytest.mark.parametrize("record", records("healthcare"))
def test_a_real_conditional_gaussian_network_has_the_known_posterior(record):
    evidence = dict(record["evidence"])
    weights = prior()
    if evidence.pop("H", None) == "any":
        weights = weights * torch.tensor([0.0, 1.0])
    observed = {name: column(value) for name, value in evidence.items()}
    log_evidence, weights, found = posterior(observed, [*record["posterior"]], weights[None])
    expected = record["log_density_evidence"]
    assert log_evidence.item() == pytest.approx(expected, abs=1e-9, rel=1e-10)
    for i, name in enumerate("ACH"):
        rest = [1 + j for j in range(3) if j != i]
        np.testing.assert_allclose(
            weights.sum(rest)[0], record["posterior_discrete"][name], rtol=1e-9, atol=1e-15
        )
    for name, moments in record["posterior"].items():
        mean, covariance = found.moments(name)
        marginal = GaussianMixture(
            weights.flatten(1), mean.flatten(1, 3), covariance.flatten(1, 3)
        )
        assert marginal.mean.item() == pytest.approx(moments["mean"], rel=1e-9)
        assert marginal.variance.item() == pytest.approx(moments["var"], rel=1e-8)


def test_a_high_price_proves_a_stay():
    """At 1500, P(H = any) is one to 1e-15, and sums with what is left to one."""
    _, weights, _ = posterior({"T": column(1500.0)}, [], prior()[None])
    h = weights.sum((1, 2))[0]
    assert h[1].item() == pytest.approx(1.0, abs=2e-15)
    assert h[0].item() == pytest.approx(9.670111866134814e-16, rel=1e-9, abs=0)


def test_days_decide_whether_there_was_a_stay():
    _, weights, _ = posterior({"D": column(0.0, 2.0)}, [], prior()[None])
    assert weights.sum((1, 2)).tolist() == [[pytest.approx(1.0), 0.0], [0.0, pytest.approx(1.0)]]
    none = prior()[:, :, 0].sum(1)
    np.testing.assert_allclose(weights.sum((2, 3))[0], none / none.sum(), rtol=1e-12)


def test_no_days_say_nothing_of_a_stay_that_is_known():
    only = prior() * torch.tensor([0.0, 1.0])
    log_evidence, weights, _ = posterior({"D": column(0.0)}, [], only[None])
    assert weights.sum((1, 2))[0].tolist() == [0.0, pytest.approx(1.0)]
    density = 0.0
    for a, (mean, sd) in enumerate([(1.0, 0.5), (4.0, 1.0), (7.0, 1.5)]):
        normal = Normal(mean, sd).log_prob(torch.tensor(0.0)).exp().item()
        density += prior()[a, :, 1].sum().item() * normal
    assert log_evidence.exp().item() == pytest.approx(density, rel=1e-6)


# a thousand variables


@cache
def sparse(n=1000):
    generator = torch.Generator().manual_seed(0)
    block = []
    for i in range(n):
        near = torch.randint(max(0, i - 50), i, (3,), generator=generator).tolist() if i else []
        weights = torch.randn(3, generator=generator, dtype=torch.float64) * 0.5
        slopes = {f"v{j}": w.item() for j, w in zip(near, weights, strict=False)}
        block.append(linear(f"v{i}", 0.1, 0.7, **slopes))
    return block


def test_a_thousand_variables_agree_with_one_dense_matrix():
    block = sparse()
    observed = {f"v{i}": column(0.01 * i - 1) for i in range(7, 1000, 13)}
    hidden = [v.name for v in block if v.name not in observed]
    found = solve(block, {}, observed=observed, targets=hidden)
    values = {name: value.flatten().numpy() for name, value in observed.items()}
    log_prob, mean, cov, place = oracle(block, values)
    index = [place[name].start for name in hidden]
    assert found.log_evidence.item() == pytest.approx(log_prob, rel=1e-9)
    np.testing.assert_allclose(found.mean[0], mean[index], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.covariance[0], cov[np.ix_(index, index)], atol=1e-8)


def test_a_thousand_rows_share_the_factorisation_of_their_pattern():
    block = sparse()[:60]
    x = torch.randn(1000, 1).double()
    x[::2] = torch.nan
    observed = {"v50": x, "v59": torch.randn(1000, 1).double()}
    found = solve(block, {}, observed=observed, targets=["v0", "v20"])
    assert found.mean.shape == (1000, 2)
    for row in (0, 1, 998, 999):
        values = {name: value[row].numpy() for name, value in observed.items()}
        log_prob, mean, cov, place = oracle(block, values)
        index = [place["v0"].start, place["v20"].start]
        assert found.log_evidence[row].item() == pytest.approx(log_prob, rel=1e-10)
        np.testing.assert_allclose(found.mean[row], mean[index], atol=1e-10)
        np.testing.assert_allclose(found.covariance[row], cov[np.ix_(index, index)], atol=1e-10)


def test_configurations_are_counted_once_each():
    """The evidence of all rows and configurations is that of one by one."""
    whole = solve(healthcare(), CARDS, observed={"T": column(900.0, 200.0)}, targets=["I"])
    for a, c, h in itertools.product(range(3), range(3), range(2)):
        log_prob = oracle(healthcare(), {"T": [200.0]}, {"A": a, "C": c, "H": h})[0]
        assert whole.log_evidence[1, a, c, h].item() == pytest.approx(log_prob, rel=1e-10)


# from code to evidence


def test_the_evidence_of_a_linear_decoder_teaches_it():
    """Probabilistic PCA as code: its evidence and gradient are those of the closed form."""
    decoder = torch.nn.Linear(2, 5).double()
    log_scale = torch.tensor(-0.5, dtype=torch.float64, requires_grad=True)
    prior = read_affine(lambda: StandardNormal(2), [], events={}, dtype=torch.float64)
    likelihood = read_affine(
        lambda z: Normal(decoder(z), log_scale.exp()),
        ["z"],
        events={"z": [2]},
        dtype=torch.float64,
    )
    assert isinstance(prior, Affine)
    assert isinstance(likelihood, Affine)
    x = torch.randn(40, 5).double()
    block = [LinearVariable("z", prior), LinearVariable("x", likelihood)]
    found = solve(block, {}, observed={"x": x}, targets=["z"])
    parameters = [decoder.weight, decoder.bias, log_scale]
    gradients = torch.autograd.grad(found.log_evidence.sum(), parameters)
    w, noise = decoder.weight, (2 * log_scale).exp() * torch.eye(5).double()
    known = MultivariateNormal(decoder.bias, w @ w.T + noise).log_prob(x)
    torch.testing.assert_close(found.log_evidence, known)
    for gradient, expected in zip(
        gradients, torch.autograd.grad(known.sum(), parameters), strict=True
    ):
        torch.testing.assert_close(gradient, expected)
