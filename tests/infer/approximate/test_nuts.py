"""The no-U-turn sampler, against closed posteriors; the density it climbs, without it."""

import math
import sys

import pytest
import torch
from torch.distributions import (
    Beta,
    Categorical,
    Dirichlet,
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    LogNormal,
    MultivariateNormal,
    Normal,
    Poisson,
    Uniform,
    biject_to,
)
from torch.distributions.transforms import ExpTransform

import daguerre as dg
from daguerre.infer import NUTS, posterior
from daguerre.infer.approximate.unconstrained import unconstrained
from daguerre.infer.approximate.weighting import plan_weighting
from daguerre.infer.question import Question

F64 = torch.float64
NAN = math.nan
FEW = NUTS(draws=200, tune=150, chains=2, seed=1)


def rows(*values):
    return torch.tensor(values, dtype=F64)


def standard(*shape):
    return Normal(torch.zeros(shape, dtype=F64), 1.0)


def density(p, targets, given):
    question = Question.of(p, targets, given)
    with torch.no_grad():
        return unconstrained(plan_weighting(question), question.evidence)


FAMILIES = {
    "normal": Normal(rows(0.0, 1.0), 2.0),
    "gamma": Gamma(rows(2.0, 3.0), 1.5),
    "beta": Beta(rows(2.0, 3.0), 1.5),
    "uniform": Uniform(rows(-1.0, 0.0), 2.0),
    "half": HalfNormal(rows(1.0, 2.0)),
    "exponential": Exponential(rows(1.0, 2.0)),
    "log-normal": LogNormal(rows(1.0, 2.0), 0.5),
    "dirichlet": Dirichlet(rows(1.0, 2.0, 3.0)),
    "multivariate": MultivariateNormal(rows(0, 1), rows([2, 0.5], [0.5, 1])),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_density_of_free_numbers_is_that_of_their_image(name):
    """log p(u) = log p(T(u)) + log |det dT/du|, the determinant by autograd."""
    family = FAMILIES[name]
    p = dg.model(z=family, x=lambda z: Normal(z.sum(1), 1.0))
    target = density(p, "z", {"x": rows(0.7)})
    torch.manual_seed(0)
    free = torch.randn(3, target.size, dtype=F64)
    found = target.run(free)
    for i, u in enumerate(free):
        support = biject_to(family.support)
        z = found.values["z"][i]
        torch.testing.assert_close(z, support(u))
        jacobian = torch.autograd.functional.jacobian(support, u)[: target.size]
        expected = family.log_prob(z).sum() + Normal(z.sum(), 1.0).log_prob(rows(0.7)[0])
        expected = expected + torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(torch.as_tensor(found.log_weight)[i], expected)


def test_a_support_may_depend_on_another_latent_variable():
    p = dg.model(
        w=Gamma(rows(2.0)[0], 1.0),
        z=lambda w: Uniform(0 * w, w),
        x=lambda z: Normal(z, 1.0),
    )
    found = density(p, ["w", "z"], {"x": rows(0.5)}).run(torch.randn(50, 2, dtype=F64) * 3)
    assert (found.values["z"] < found.values["w"]).all()
    expected = p.log_prob({**found.values, "x": rows(0.5).expand(50)})
    jacobian = found.values["w"].log() + (
        found.values["z"].log() + (1 - found.values["z"] / found.values["w"]).log()
    )
    torch.testing.assert_close(torch.as_tensor(found.log_weight), expected + jacobian)


def test_maps_and_inverted_bijections_are_part_of_the_density():
    p = dg.model(
        m=standard(),
        h=dg.deterministic(lambda m: m**3),
        z=lambda h: Normal(h, 0.5),
        x=dg.bijection("z", ExpTransform()),
    )
    found = density(p, "m", {"x": rows(2.0)}).run(rows([0.3], [1.2]))
    m = rows(0.3, 1.2)
    log2 = math.log(2)
    expected = Normal(0.0, 1.0).log_prob(m) + Normal(m**3, 0.5).log_prob(rows(log2)[0]) - log2
    torch.testing.assert_close(torch.as_tensor(found.log_weight), expected)


@pytest.fixture
def sampler():
    pytest.importorskip("nutpie", reason="needs the extra mcmc")


@pytest.mark.usefixtures("sampler")
def test_a_correlated_gaussian_and_its_exact_posterior():
    p = dg.model(
        a=standard(),
        b=lambda a: Normal(0.9 * a, 0.5),
        x=lambda a, b: Normal(torch.stack([a + b, a - b], 1), 0.5),
    )
    given = {"x": rows([1.0, NAN])}
    found = posterior(p, ["a", "b"], given=given, method=FEW)
    exact = posterior(p, ["a", "b"], given=given)
    for name in ("a", "b"):
        error = (exact[name].variance / found.diagnostics["ess"][name]).sqrt()
        assert ((found[name].mean - exact[name].mean).abs() < 4.5 * error).all()
        ratio = found[name].variance / exact[name].variance
        assert abs(ratio.item() - 1) < 0.5
    assert not found.exact
    assert found.method == "NUTS, 2 chains of 200 draws"
    assert found.sample(5)["a"].shape == (5, 1)
    assert found.diagnostics["divergences"].tolist() == [0]
    assert found.diagnostics["r_hat"]["a"].item() < 1.1
    data = found.diagnostics["arviz"][0]
    assert dict(data.posterior.sizes) == {"chain": 2, "draw": 200}
    assert "diverging" in data.sample_stats


@pytest.mark.usefixtures("sampler")
def test_a_seed_gives_the_same_chains_and_torch_gives_the_seed():
    p = dg.model(z=standard(), x=lambda z: Normal(z, 1.0))
    short = NUTS(draws=10, tune=10, chains=1)
    runs = []
    for _ in range(2):
        torch.manual_seed(5)
        runs.append(posterior(p, "z", given={"x": 1.0}, method=short))
    assert runs[0].mean.equal(runs[1].mean)
    assert not runs[0].diagnostics["reliable"].any()


@pytest.mark.usefixtures("sampler")
def test_conjugate_models_of_constrained_variables():
    """Gamma-Poisson and Beta-Bernoulli counts, two rows, in one graph."""
    p = dg.model(
        rate=Gamma(rows(2.0)[0], 1.0),
        share=Beta(rows(2.0)[0], 3.0),
        n=lambda rate: Poisson(rate.unsqueeze(1).expand(-1, 4)),
        k=lambda share: Normal(share, 10.0),
        total=dg.deterministic(lambda rate, share: rate * share),
    )
    given = {"n": rows([1, 2, 0, 3], [5, 5, 6, 4]), "k": rows(0.5, 0.5)}
    targets = ["rate", "share", "total"]
    found = posterior(p, targets, given=given, method=NUTS(draws=100, tune=100, chains=2, seed=3))
    shape = 2 + given["n"].sum(1)
    size = found.diagnostics["ess"]["rate"]
    assert ((found["rate"].mean - shape / 5).abs() < 4.5 * (shape / 25 / size).sqrt()).all()
    size = found.diagnostics["ess"]["share"]
    assert ((found["share"].mean - 0.4).abs() < 4.5 * (0.04 / size).sqrt() + 1e-3).all()
    assert ((found["share"].variance - 0.04).abs() < 0.02).all()
    torch.testing.assert_close(
        found["total"].mean, found["rate"].mean * found["share"].mean, rtol=0.15, atol=0
    )


@pytest.mark.parametrize(
    ("p", "given", "message"),
    [
        (
            dg.model(k=Categorical(torch.ones(3)), z=lambda k: Normal(1.0 * k, 1.0)),
            {"z": 0.5},
            "k ~ Categorical is discrete, and NUTS moves in continuous space",
        ),
        (
            dg.model(k=standard(), z=dg.deterministic(lambda k: k.sin())),
            {"z": rows(0.5)},
            "z is implicit",
        ),
        (
            dg.model(
                k=standard(),
                z=lambda k: Normal(torch.stack([k, k], 1), 1.0),
                y=lambda z: Normal(z.sum(1), 1.0),
            ),
            {"z": rows([0.5, NAN]), "y": rows(1.0)},
            "z is known in part, and y depends on all of it",
        ),
    ],
)
def test_what_has_no_gradient_is_refused(p, given, message):
    with pytest.raises(dg.InadmissibleError, match=message):
        density(p, "k", given)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nutpie", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'daguerre\[mcmc\]'"):
        posterior(dg.model(z=standard()), "z", method=FEW)


@pytest.mark.slow
@pytest.mark.usefixtures("sampler")
def test_eight_schools_with_a_compiled_density():
    """Rubin (1981); mu 4.4 and tau 3.6 in the reference posterior of posteriordb."""
    p = dg.model(
        mu=Normal(rows(0.0)[0], 5.0),
        tau=HalfCauchy(rows(5.0)[0]),
        eta=Normal(torch.zeros(8, dtype=F64), 1.0),
        theta=dg.deterministic(lambda mu, tau, eta: mu[:, None] + tau[:, None] * eta),
        y=lambda theta: Normal(theta, rows(15, 10, 16, 11, 9, 11, 10, 18)),
    )
    y = rows([28, 8, -3, 7, -1, 1, 18, 12])
    found = posterior(
        p, ["mu", "tau", "theta"], given={"y": y}, method=NUTS(seed=0, compiled=True)
    )
    assert found.mean["mu"].item() == pytest.approx(4.4, abs=0.3)
    assert found.mean["tau"].item() == pytest.approx(3.6, abs=0.3)
    assert found.mean["theta"][0, 0].item() == pytest.approx(6.2, abs=0.4)
    assert found.diagnostics["r_hat"]["tau"].item() < 1.02
