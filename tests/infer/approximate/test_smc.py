"""Particle filters against exact answers for chains.

Bounds are 4.5 standard errors of seeded runs, unless they say otherwise.
"""

import math

import pytest
import torch
from torch.distributions import Categorical, Normal

import daguerre as dg
from daguerre.infer import SMC, LikelihoodWeighting, log_evidence, posterior
from daguerre.infer.approximate.smc import filter_chain, systematic

F64 = torch.float64
NAN = math.nan


def rows(*values):
    return torch.tensor(values, dtype=F64)


def walk():
    start = Normal(rows(1.0)[0], 2.0)
    return dg.model(
        z=lambda last=dg.lag("z", init=start): Normal(0.8 * last + 0.3, 0.7),
        x=lambda z: Normal(z, 0.9),
    )


X = rows([0.5, NAN, 2.0, 1.0, 0.2], [1.0, -1.0, NAN, 0.0, 2.0])


def test_a_linear_gaussian_chain_agrees_with_the_kalman_smoother():
    torch.manual_seed(0)
    found = filter_chain(walk(), "z", {"x": X}, SMC(40_000))
    exact = posterior(walk(), "z", given={"x": X})
    assert not found.exact
    assert found.method == "sequential Monte Carlo, 40,000 particles"
    torch.testing.assert_close(found.mean, exact.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(found.variance, exact.variance, atol=0.03, rtol=0)
    torch.testing.assert_close(found.log_evidence, exact.log_evidence, atol=0.03, rtol=0)
    assert found["z"].batch_shape == (2, 5)
    assert found.diagnostics["ess"].shape == found.diagnostics["paths"].shape == (2, 5)
    drawn = found.sample(20_000)
    assert drawn.shape == (20_000, 2, 5)
    torch.testing.assert_close(drawn.mean(0), exact.mean, atol=0.06, rtol=0)
    products = (drawn[..., 1:] * drawn[..., :-1]).mean(0)
    torch.testing.assert_close(products, _products(exact, 20_000), atol=0.15, rtol=0)


def _products(exact, n):
    drawn = exact.sample(n)
    return (drawn[..., 1:] * drawn[..., :-1]).mean(0)


def test_the_estimate_of_the_evidence_is_unbiased():
    """The mean of 600 estimates by 30 particles, which resample on their way."""
    torch.manual_seed(0)
    x = X[:1].expand(600, 5)
    found = filter_chain(walk(), "z", {"x": x}, SMC(30))
    estimates = found.log_evidence.exp()
    truth = log_evidence(walk(), {"x": X[:1]}).exp()
    assert abs(estimates.mean() - truth) < 4.5 * estimates.std() / 600**0.5
    assert (found.diagnostics["ess"] < 15).any()
    assert estimates.log().mean() < truth.log()


def test_a_hidden_markov_model_has_tables():
    start = Categorical(rows(0.5, 0.3, 0.2))
    p = dg.model(
        k=lambda last=dg.lag("k", init=start): Categorical(
            rows([0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7])[last]
        ),
        x=lambda k: Normal(2.0 * k, 1.0),
    )
    x = rows([0.0, 2.5, 4.0, 3.0], [4.0, NAN, 0.0, 0.0])
    torch.manual_seed(0)
    found = filter_chain(p, ["k"], {"x": x}, SMC(20_000))
    exact = posterior(p, ["k"], given={"x": x})
    assert found["k"].probs.shape == (2, 4, 3)
    torch.testing.assert_close(found["k"].probs.double(), exact["k"].probs, atol=0.05, rtol=0)
    torch.testing.assert_close(found.log_evidence, exact.log_evidence, atol=0.08, rtol=0)


def test_two_lags_inputs_and_maps():
    """An autoregression of order two whose state is a map: against the same unrolled."""
    p = dg.model(
        u=dg.Input(dtype=F64),
        h=dg.deterministic(
            lambda u, a=dg.lag("z", init=0.5), b=dg.lag("z", 2, init=-0.5): 0.5 * a - 0.3 * b + u
        ),
        z=lambda h: Normal(h, 0.5),
        x=lambda z: Normal(z, 0.5),
    )
    x, u = rows([0.5, 1.0, -0.5, 0.3]), rows([0.1, 0.0, -0.2, 0.3])
    torch.manual_seed(0)
    found = filter_chain(p, ["z", "h"], {"x": x, "u": u}, SMC(40_000))
    flat = _unrolled(u[0])
    given = {f"x{t}": x[:, t] for t in range(4)}
    exact = posterior(flat, [f"z{t}" for t in range(4)], given=given)
    torch.testing.assert_close(found.log_evidence, exact.log_evidence, atol=0.04, rtol=0)
    for t in range(4):
        torch.testing.assert_close(found["z"].mean[:, t], exact[f"z{t}"].mean, atol=0.03, rtol=0)
    one = found.sample(5)
    before = torch.cat([rows(0.5).expand(5, 1, 1), one["z"][..., :-1]], 2)
    earlier = torch.cat([rows(-0.5, -0.5).expand(5, 1, 2), one["z"][..., :-2]], 2)
    torch.testing.assert_close(one["h"], 0.5 * before - 0.3 * earlier + u)


def _unrolled(u):
    means = {
        "z0": lambda: Normal(rows(0.5 * 0.5 + 0.3 * 0.5)[0] + u[0], 0.5),
        "z1": lambda z0: Normal(0.5 * z0 + 0.3 * 0.5 + u[1], 0.5),
        "z2": lambda z1, z0: Normal(0.5 * z1 - 0.3 * z0 + u[2], 0.5),
        "z3": lambda z2, z1: Normal(0.5 * z2 - 0.3 * z1 + u[3], 0.5),
    }
    seen = {
        "x0": lambda z0: Normal(z0, 0.5),
        "x1": lambda z1: Normal(z1, 0.5),
        "x2": lambda z2: Normal(z2, 0.5),
        "x3": lambda z3: Normal(z3, 0.5),
    }
    return dg.model(**means, **seen)


def test_what_comes_after_the_end_weighs_nothing():
    torch.manual_seed(0)
    lengths = torch.tensor([3, 5])
    found = filter_chain(walk(), "z", {"x": X}, SMC(40_000), lengths=lengths)
    shorter = torch.where(torch.arange(5) < lengths[:, None], X, NAN)
    exact = log_evidence(walk(), {"x": shorter})
    torch.testing.assert_close(found.log_evidence, exact, atol=0.03, rtol=0)


def test_a_stochastic_volatility_model_agrees_with_quadrature():
    """Nonlinear: x_t ~ N(0, exp(z_t / 2)); two steps by a grid."""
    start = Normal(rows(0.0)[0], 1.0)
    p = dg.model(
        z=lambda last=dg.lag("z", init=start): Normal(0.9 * last, 0.6),
        x=lambda z: Normal(0 * z, (z / 2).exp()),
    )
    x = rows([0.2, 2.5])
    torch.manual_seed(0)
    found = filter_chain(p, "z", {"x": x}, SMC(40_000))
    grid = torch.linspace(-7, 7, 401, dtype=F64)
    first = Normal(0.0, 1.0).log_prob(grid) + Normal(0.0, (grid / 2).exp()).log_prob(x[0, 0])
    moves = Normal(0.9 * grid.unsqueeze(1), 0.6).log_prob(grid)
    second = Normal(0.0, (grid / 2).exp()).log_prob(x[0, 1])
    joint = first.unsqueeze(1) + moves + second
    total = joint.flatten().logsumexp(0) + 2 * math.log(14 / 400)
    torch.testing.assert_close(found.log_evidence[0], total, atol=0.03, rtol=0)
    share = joint.flatten().softmax(0).reshape(401, 401)
    means = torch.stack([(share.sum(1) * grid).sum(), (share.sum(0) * grid).sum()])
    torch.testing.assert_close(found.mean[0], means, atol=0.03, rtol=0)


def test_systematic_resampling_keeps_every_share():
    torch.manual_seed(0)
    weights = torch.rand(50, 400, dtype=F64).softmax(0)
    chosen = systematic(weights)
    counts = torch.zeros(50, 400, dtype=F64).scatter_add(0, chosen, torch.ones(50, 400, dtype=F64))
    assert ((counts - 50 * weights).abs() < 1 + 1e-9).all()
    assert (chosen.diff(dim=0) >= 0).all()
    one = weights[:, :1].expand(50, 4000)
    chosen = systematic(one)
    share = torch.stack([(chosen == i).double().mean() for i in range(50)])
    torch.testing.assert_close(share, weights[:, 0], atol=0.001, rtol=0)


def test_what_does_not_fit_is_refused():
    static = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
    with pytest.raises(dg.InadmissibleError, match="no variable has a parent of an earlier"):
        posterior(static, "z", given={"x": 1.0}, method=SMC())
    with pytest.raises(dg.GraphError, match="x is observed"):
        filter_chain(walk(), "x", {"x": X}, SMC(10))
    bounded = dg.replace(walk(), x=lambda z: Normal(z, 1e-3))
    with pytest.raises(dg.GraphError, match="no particle of 10 fits step 0 of sequence 1"):
        filter_chain(bounded, "z", {"x": rows([0.0], [1e200])}, SMC(10))
    with pytest.raises(dg.GraphError, match="particles is a number"):
        SMC(0)


def test_a_chain_is_answered_exactly_where_it_can_be_else_by_particles():
    start = Normal(rows(0.0)[0], 1.0)
    p = dg.model(
        z=lambda last=dg.lag("z", init=start): Normal(torch.tanh(last), 0.6),
        x=lambda z: Normal(z, 1.0),
    )
    torch.manual_seed(0)
    assert posterior(walk(), "z", given={"x": X}).exact
    found = posterior(p, "z", given={"x": X})
    assert not found.exact
    assert found.method == "sequential Monte Carlo, 1,000 particles"
    named = posterior(walk(), "z", given={"x": X}, method=SMC(200))
    assert named.method == "sequential Monte Carlo, 200 particles"
    with pytest.raises(dg.InadmissibleError, match=r"answered by dg\.infer\.SMC"):
        posterior(p, "z", given={"x": X}, exact=True)
    with pytest.raises(dg.InadmissibleError, match="is for models without lags"):
        posterior(p, "z", given={"x": X}, method=LikelihoodWeighting())
    with pytest.raises(dg.GraphError, match="a chain is as long as what is observed"):
        posterior(p, "z", given={"x": 1.0})


def test_the_evidence_of_a_chain_is_exact_or_by_named_particles():
    torch.manual_seed(0)
    exact = dg.log_evidence(walk(), {"x": X})
    found = dg.log_evidence(walk(), {"x": X}, method=SMC(20_000))
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0)


def test_what_is_known_at_some_steps_is_drawn_at_the_others():
    start = Normal(rows(0.0)[0], 1.0)
    p = dg.model(
        z=lambda last=dg.lag("z", init=start): Normal(0.8 * last, 0.5),
        x=lambda z: Normal(z, 0.5),
        y=lambda x: Normal(x, 0.5),
    )
    given = {"x": rows([0.5, NAN, 1.0]), "y": rows([0.0, 1.5, NAN])}
    torch.manual_seed(0)
    found = posterior(p, "z", given=given, method=SMC(40_000))
    exact = posterior(p, "z", given=given, exact=True)
    torch.testing.assert_close(found.mean, exact.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(found.log_evidence, exact.log_evidence, atol=0.04, rtol=0)
