"""Draws from the model or from q, weighed by the evidence, against exact answers.

Bounds are 4.5 standard errors of seeded draws: of all checks here, one in a thousand seeds fails.
"""

import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    StudentT,
    Uniform,
)
from torch.distributions.transforms import AffineTransform, ExpTransform

import daguerre as dg
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.infer import Importance, LikelihoodWeighting, log_evidence, posterior

F64 = torch.float64
NAN = math.nan
ERRORS = 4.5


def rows(*values):
    return torch.tensor(values, dtype=F64)


def standard(*shape):
    return Normal(torch.zeros(shape, dtype=F64), 1.0)


def ppca():
    """Oracle A1."""
    return dg.model(
        z=standard(),
        x=LinearGaussian(rows(0.5, -1), rows(0.5, 0.5), weights={"z": rows(2, 1)}),
    )


def encoder(scale=1.0, family=Normal):
    """The exact posterior of pPCA, with its scale multiplied."""

    def z(x):
        mean = ((x - rows(0.5, -1)) @ rows(2, 1)) / 5.25
        return family(mean, scale * math.sqrt(0.25 / 5.25))

    return dg.model(x=dg.Input(2, dtype=F64), z=z)


X = rows([1.5, 0.5], [0.0, -0.5], [NAN, 0.5])


def agree(found, exact, targets=("z",)):
    """Means and log-evidence lie within the stated standard errors of the exact ones."""
    size = found.diagnostics["ess"]
    error = found.diagnostics["log_evidence_stderr"]
    assert ((found.log_evidence - exact.log_evidence).abs() < ERRORS * error + 1e-9).all()
    for name in targets:
        spread = exact[name].variance / size.reshape(-1, *[1] * (exact[name].mean.dim() - 1))
        gap = (found[name].mean - exact[name].mean).abs()
        assert (gap < ERRORS * spread.sqrt() + 1e-9).all()
        ratio = found[name].variance / exact[name].variance
        assert ((ratio - 1).abs() < 10 / size.sqrt().amin() + 1e-9).all()


def test_likelihood_weighting_of_principal_components():
    torch.manual_seed(0)
    found = posterior(ppca(), "z", given={"x": X}, method=LikelihoodWeighting(20_000))
    assert not found.exact
    assert found.method == "likelihood weighting, 20,000 draws"
    agree(found, posterior(ppca(), "z", given={"x": X}))
    assert found.diagnostics["reliable"].all()


def test_the_exact_posterior_as_q_makes_all_weights_equal():
    torch.manual_seed(0)
    found = posterior(ppca(), "z", given={"x": X[:2]}, q=encoder())
    exact = posterior(ppca(), "z", given={"x": X[:2]})
    assert found.method == "importance sampling with q, 1,000 draws"
    assert found.diagnostics["ess"].tolist() == pytest.approx([1000, 1000], rel=1e-6)
    assert (found.diagnostics["pareto_k"] < 0.1).all()
    torch.testing.assert_close(found.log_evidence, exact.log_evidence)
    agree(found, exact)


@pytest.mark.parametrize(
    ("scale", "family"), [(1.4, Normal), (1.0, lambda m, s: StudentT(5, m, s))]
)
def test_a_wider_q_is_reliable(scale, family):
    torch.manual_seed(1)
    p, q = ppca(), encoder(scale, family)
    found = posterior(p, "z", given={"x": X[:2]}, q=q, method=Importance(5000))
    agree(found, posterior(p, "z", given={"x": X[:2]}))
    assert found.diagnostics["reliable"].all()
    torch.testing.assert_close(
        log_evidence(p, {"x": X[:2]}, q=q, method=Importance(5000)),
        found.log_evidence,
        rtol=0.01,
        atol=0.1,
    )


def test_a_narrow_q_is_found_out():
    """Of a q with a tenth of the scale the tail has k = 1 - 1/100: no variance, hardly a mean."""
    torch.manual_seed(0)
    found = posterior(ppca(), "z", given={"x": X[:2]}, q=encoder(0.1), method=Importance(100_000))
    assert (found.diagnostics["pareto_k"] > 0.7).all()
    assert not found.diagnostics["reliable"].any()


def test_the_estimate_of_the_evidence_is_unbiased():
    """The mean of 400 estimates of 50 draws each; beyond 4.5 standard errors once in 10^5."""
    torch.manual_seed(0)
    x = X[:1].expand(400, 2)
    truth = log_evidence(ppca(), {"x": X[:1]}).exp()
    by_p = log_evidence(ppca(), {"x": x}, method=LikelihoodWeighting(50))
    by_q = log_evidence(ppca(), {"x": x}, q=encoder(1.5), method=Importance(50))
    assert by_p.mean() < truth.log()  # by Jensen, and widely so for few draws from the prior
    for estimates in (by_p.exp(), by_q.exp()):
        assert abs(estimates.mean() - truth) < ERRORS * estimates.std() / 20


def network():
    g = torch.Generator().manual_seed(0)
    r = lambda *s: torch.rand(s, generator=g, dtype=F64)  # noqa: E731
    return dg.model(
        a=Tabular(r(2).softmax(0)),
        b=Tabular(r(2, 3).softmax(1), "a"),
        c=dg.deterministic(lambda a, b: (a + b) % 2),
        d=Tabular(r(2, 5).softmax(1), "c"),
        u=LinearGaussian(r(3), r(3), given=["b"]),
        w=LinearGaussian(r(5), r(5), weights={"u": r(5)}, given=["d"]),
    )


def test_finite_and_deterministic_targets_have_tables():
    torch.manual_seed(0)
    given = {"d": torch.tensor([0, -1, 4]), "w": rows(0.5, 1.5, NAN)}
    soft = {"b": rows([0.2, 1, 0.5])}
    exact = posterior(network(), ["a", "c", "b", "u"], given=given, soft=soft)
    found = posterior(
        network(),
        ["a", "c", "b", "u"],
        given=given,
        soft=soft,
        method=LikelihoodWeighting(20_000),
    )
    agree(found, exact, ["u"])
    for name in ("a", "b", "c"):
        assert found[name].probs.shape == exact[name].probs.shape
        gap = (found[name].probs - exact[name].probs).abs()
        assert (gap < ERRORS * 0.5 / found.diagnostics["ess"].sqrt().unsqueeze(1)).all()


def test_joint_draws_keep_what_belongs_together():
    torch.manual_seed(0)
    found = posterior(
        network(), ["a", "b", "c"], given={"w": rows(0.5, 2.0)}, method=LikelihoodWeighting(500)
    )
    drawn = found.sample(300)
    assert drawn["b"].shape == (300, 2)
    assert ((drawn["a"] + drawn["b"]) % 2 == drawn["c"]).all()
    assert found.sample(0)["a"].shape == (0, 2)
    with pytest.raises(dg.InadmissibleError, match="has no density, only draws"):
        found.log_prob(drawn)


def test_a_known_map_of_finite_variables_rejects_what_disagrees():
    torch.manual_seed(0)
    given = {"c": torch.tensor([0, 1])}
    exact = posterior(network(), "b", given=given)
    found = posterior(network(), "b", given=given, method=LikelihoodWeighting(4000))
    gap = (found.probs - exact.probs).abs()
    assert (gap < ERRORS * 0.5 / found.diagnostics["ess"].sqrt().unsqueeze(1)).all()
    torch.testing.assert_close(found.log_evidence, exact.log_evidence, rtol=0, atol=0.1)


def test_known_bijections_are_inverted():
    """y = exp(s z) with s drawn, and x = y + 1: densities by change of variables."""
    p = dg.model(
        s=Categorical(rows(0.5, 0.5)),
        z=standard(),
        y=dg.bijection("z")(lambda s: AffineTransform(0.0, 1.0 + s.double())),
        t=dg.bijection("y", ExpTransform()),
    )
    torch.manual_seed(0)
    t = rows(3.0, 0.5)
    found = posterior(p, ["s", "z"], given={"t": t}, method=LikelihoodWeighting(4000))
    parts = torch.stack([Normal(0.0, s).log_prob(t.log()) - t.log() for s in (1.0, 2.0)], 1)
    weights = parts.softmax(1)
    torch.testing.assert_close(found["s"].probs.double(), weights, atol=0.04, rtol=0)
    expected = (weights / rows(1, 2)).sum(1) * t.log()
    torch.testing.assert_close(found["z"].mean, expected, atol=0.05, rtol=0)
    torch.testing.assert_close(
        found.log_evidence, parts.logsumexp(1) - math.log(2), atol=0.05, rtol=0
    )


def test_a_support_that_draws_move_gives_weight_zero():
    """x ~ Uniform(0, w), w ~ Uniform(0, 2): p(x) = log(2 / x) / 2."""
    p = dg.model(w=Uniform(rows(0.0)[0], 2.0), x=lambda w: Uniform(0 * w, w))
    torch.manual_seed(0)
    x = rows(0.5, 1.0)
    found = posterior(p, "w", given={"x": x})
    torch.testing.assert_close(found.log_evidence, ((2 / x).log() / 2).log(), atol=0.05, rtol=0)
    torch.testing.assert_close(found.mean, (2 - x) / (2 / x).log(), atol=0.03, rtol=0)
    with pytest.raises(dg.GraphError, match="none of 100 draws has a weight for row 1"):
        posterior(p, "w", given={"x": rows(0.5, 2.5)}, method=LikelihoodWeighting(100))


def test_components_that_are_missing_are_drawn():
    """z -> x (two components) -> y: the missing one is integrated out on the way to y."""
    p = dg.model(
        z=standard(),
        x=lambda z: Normal(torch.stack([z, -z], 1), 0.5),
        y=lambda x: Normal(x.sum(1), 1.0),
    )
    torch.manual_seed(0)
    given = {"x": rows([0.5, NAN], [NAN, NAN], [0.1, 0.2]), "y": rows(1.0, 2.0, 0.0)}
    found = posterior(p, ["z"], given=given, method=LikelihoodWeighting(20_000))
    agree(found, posterior(p, ["z"], given=given))
    tied = dg.model(
        z=standard(2),
        x=lambda z: MultivariateNormal(z, torch.eye(2, dtype=F64).expand(len(z), 2, 2)),
    )
    one = LikelihoodWeighting(100)
    assert posterior(tied, "z", given={"x": given["x"][1:]}, method=one).mean.shape == (2, 2)
    with pytest.raises(dg.InadmissibleError, match="row 0 of x lacks some components"):
        posterior(tied, "z", given={"x": given["x"]}, method=one)


def test_q_may_know_some_rows_more_than_others():
    """Semi-supervised: q(k, z | x), with k known in some rows."""
    p = dg.model(
        k=Bernoulli(rows(0.3)[0]),
        z=lambda k: Normal(2 * k, 1.0),
        x=lambda z: Normal(z, 0.5),
    )
    q = dg.model(
        x=dg.Input(dtype=F64),
        k=lambda x: Bernoulli(torch.sigmoid(x - 1)),
        z=lambda x, k: Normal(0.8 * x + 0.3 * k, 0.6),
    )
    torch.manual_seed(0)
    given = {"x": rows(0.0, 2.0, 1.0), "k": rows(1.0, NAN, NAN)}
    found = posterior(p, ["z"], given=given, q=q, method=Importance(20_000))
    agree(found, posterior(p, ["z"], given=given))


def test_q_may_be_a_flow_over_what_p_does_not_know():
    """r = exp(u), u of Student's t, so that small r are proposed often enough; by quadrature."""
    p = dg.model(r=Gamma(rows(2.0)[0], 1.0), x=lambda r: Normal(r, 1.0))
    q = dg.data("x") * dg.model(
        x=dg.Input(dtype=F64),
        u=lambda x: StudentT(3.0, 0.3 * x, 0.6),
        r=dg.bijection("u", ExpTransform()),
    )
    torch.manual_seed(0)
    x = rows(1.0, 3.0)
    found = posterior(p, "r", given={"x": x}, q=q, method=Importance(20_000))
    grid = torch.linspace(1e-4, 20, 20_001, dtype=F64)
    logs = Gamma(rows(2.0)[0], 1.0).log_prob(grid) + Normal(grid, 1.0).log_prob(x.unsqueeze(1))
    means = (logs.softmax(1) * grid).sum(1)
    torch.testing.assert_close(found.mean, means, atol=0.06, rtol=0)
    total = logs.logsumexp(1) + (grid[1] - grid[0]).log()
    torch.testing.assert_close(found.log_evidence, total, atol=0.04, rtol=0)
    assert found.diagnostics["reliable"].all()


@pytest.mark.parametrize(
    ("q", "message"),
    [
        (dg.model(y=dg.Input(2), z=lambda y: Normal(y.sum(1), 1.0)), "q takes y"),
        (dg.model(x=dg.Input(2), w=lambda x: Normal(x.sum(1), 1.0)), "proposes none of p's"),
        (
            dg.model(x=dg.Input(2), z=dg.deterministic(lambda x: x.sum(1))),
            "z is deterministic.* without a density",
        ),
        (
            dg.model(x=dg.Input(2), e=lambda x: Normal(x.sum(1), 1.0), z=lambda e: Normal(e, 1.0)),
            "needs an integral over e",
        ),
    ],
)
def test_a_q_that_does_not_fit_is_refused(q, message):
    with pytest.raises(dg.GraphError, match=message):
        posterior(ppca(), "z", given={"x": X[:2]}, q=q)


def test_events_of_several_dimensions_sum():
    p = dg.model(
        z=Independent(standard(2, 3), 2),
        x=lambda z: Normal(z, 1.0),
    )
    torch.manual_seed(0)
    x = torch.randn(2, 2, 3, dtype=F64) / 2
    found = posterior(p, ["z"], given={"x": x}, method=LikelihoodWeighting(40_000))
    exact = Normal(0.0, math.sqrt(2)).log_prob(x).flatten(1).sum(1)
    error = found.diagnostics["log_evidence_stderr"]
    assert ((found.log_evidence - exact).abs() < ERRORS * error).all()
    assert found["z"].mean.shape == (2, 2, 3)


def test_inputs_and_interventions():
    p = dg.model(
        c=dg.Input(dtype=F64),
        z=lambda c: Normal(c, 1.0),
        w=lambda z: Normal(2 * z, 1.0),
        x=lambda z, w: Normal(z + w, 0.5),
    )
    torch.manual_seed(0)
    given = {"c": rows(0.5, -1.0), "x": rows(1.0, 0.0)}
    for q in (p, dg.do(p, w=rows(1.0)[0])):
        found = posterior(q, ["z"], given=given, method=LikelihoodWeighting(20_000))
        agree(found, posterior(q, ["z"], given=given))
