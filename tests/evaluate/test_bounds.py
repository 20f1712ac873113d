"""Bounds on the evidence: the oracle, their order, and what they leave alone."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Normal

import daguerre as dg
from daguerre.evaluate import bounds as module
from daguerre.evaluate.bounds import evidence_bound
from daguerre.evaluate.subject import seeded

# Oracle A3: z ~ N(0, 1), x | z ~ N(z, 1), x = 2, q the prior; after Burda, Grosse and
# Salakhutdinov (2016, arXiv 1509.00519)
LOG_PX = -2.2655121235
BOUNDS = {1: -3.4189385332, 2: -2.7579018481, 5: -2.4221556532, 50: -2.2782662684}


def model():
    return dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))


def prior():
    return dg.model(z=Normal(0.0, 1.0))


def near():
    """Return a proposal close to the posterior N(x / 2, 1 / 2)."""
    return dg.model(x=dg.Input(), z=lambda x: Normal(0.4 * x, 0.9))


def at(n, x=2.0):
    return torch.full([n], x)


@pytest.mark.parametrize("particles", BOUNDS)
def test_bounds_are_those_of_oracle_a3(particles):
    bound = evidence_bound(model(), prior(), at(20_000), particles=particles)
    assert abs(bound.value - BOUNDS[particles]) < 4 * bound.stderr
    assert bound.stderr < 0.02
    assert bound.n == 20_000


def test_bounds_grow_with_the_particles_and_stay_below_the_evidence():
    for q in (prior(), near()):
        found = [evidence_bound(model(), q, at(20_000), particles=k) for k in (1, 2, 5, 50)]
        for one, more in pairwise(found):
            assert one.value < more.value
        assert found[-1].value < LOG_PX + 4 * found[-1].stderr
        assert found[0].value < LOG_PX - 0.1


def test_the_posterior_closes_the_gap_for_any_number_of_particles():
    q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
    for particles in (2, 5):
        bound = evidence_bound(model(), q, at(10), particles=particles)
        assert bound.value == pytest.approx(LOG_PX, abs=1e-5)
        assert bound.stderr < 1e-6


def test_one_particle_is_the_elbo():
    x = torch.randn(50)
    bound = evidence_bound(model(), near(), x, seed=3)
    with seeded(3):
        loss = dg.elbo(model(), near()).losses(x)["model"]
    assert bound.value == pytest.approx(-loss.item(), abs=1e-6)


def test_the_standard_error_is_that_of_the_mean():
    values = [evidence_bound(model(), near(), at(200), seed=s) for s in range(60)]
    spread = torch.tensor([bound.value for bound in values]).std().item()
    assert values[0].stderr == pytest.approx(spread, rel=0.4)


def test_each_example_has_its_own_evidence():
    x = torch.tensor([-1.0, 0.0, 3.0]).repeat_interleave(4000)
    bound = evidence_bound(model(), near(), x, particles=100)
    exact = Normal(0.0, math.sqrt(2)).log_prob(x).mean().item()
    assert bound.value == pytest.approx(exact, abs=0.01)


def test_data_of_any_size_is_taken_in_passes(monkeypatch):
    whole = evidence_bound(model(), near(), at(2000), particles=20)
    monkeypatch.setattr(module, "NARROW", 1)
    for rows in (3, 140, 20_000):  # 3: an example takes seven passes
        monkeypatch.setattr(module, "NUMBERS", rows)
        passes = evidence_bound(model(), near(), at(300 if rows == 3 else 2000), particles=20)
        assert passes.value == pytest.approx(whole.value, abs=6 * passes.stderr)


def test_two_observed_variables_and_an_input():
    p = dg.model(
        c=dg.Input(),
        z=lambda c: Normal(c, 1.0),
        x=lambda z: Normal(z, 1.0),
        y=lambda z: Normal(-z, 2.0),
    )
    q = dg.model(
        x=dg.Input(), y=dg.Input(), c=dg.Input(), z=lambda x, y, c: Normal((x + c) / 2 - y, 1.0)
    )
    c, x, y = torch.ones(4000), torch.full([4000], 0.5), torch.full([4000], -0.3)
    bound = evidence_bound(p, q, {"x": x, "y": y, "c": c}, particles=200)
    covariance = torch.tensor([[2.0, -1.0], [-1.0, 5.0]])
    exact = torch.distributions.MultivariateNormal(torch.tensor([1.0, -1.0]), covariance).log_prob(
        torch.tensor([0.5, -0.3])
    )
    assert abs(bound.value - exact.item()) < 0.01


def test_the_global_generator_is_left_alone_and_the_seed_decides():
    before = torch.get_rng_state()
    one = evidence_bound(model(), near(), at(100), particles=3, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    assert evidence_bound(model(), near(), at(100), particles=3, seed=5) == one
    assert evidence_bound(model(), near(), at(100), particles=3, seed=6) != one


@pytest.mark.parametrize(("particles", "n"), [(0, 10), (-2, 10), (5, 1)])
def test_too_little_is_refused(particles, n):
    with pytest.raises(ValueError, match=rf"not {particles} and {n}"):
        evidence_bound(model(), near(), at(n), particles=particles)


def test_an_implicit_model_has_no_bound():
    p = dg.model(z=Normal(0.0, 1.0), x=dg.deterministic(lambda z: 2 * z))
    with pytest.raises(dg.InadmissibleError, match="x is implicit"):
        evidence_bound(p, near(), at(10))


def test_it_prints_with_its_error():
    assert str(module.Estimate(-2.2655, 0.0123, 10)) == "-2.27 ± 0.01"


def looking():
    """Return a q that reads a second measurement, which the model lacks."""
    return dg.model(x=dg.Input(), u=dg.Input(), z=lambda x, u: Normal((x + u) / 4, 0.5**0.5))


def test_data_that_q_alone_reads_is_named():
    x = torch.linspace(-2, 2, 50)
    data, want = {"x": x, "u": x}, Normal(0.0, 2**0.5).log_prob(x).mean().item()
    with pytest.raises(dg.GraphError, match=r"q alone looks at is named in observed=\['x', 'u'\]"):
        dg.evaluate(model(), looking(), data)
    scores = dg.evaluate(model(), looking(), data, observed=["x", "u"], particles=5)
    assert scores["iwae"].value == pytest.approx(want, abs=1e-4)  # q is the posterior
    assert {"elbo", "rate", "mmd2", "c2st"} <= {score.name for score in scores}
    found = evidence_bound(model(), looking(), data, observed=["x", "u"], particles=5)
    assert found.value == pytest.approx(want, abs=1e-4)


def test_a_model_without_q_is_measured_on_what_is_named():
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0), y=lambda x: Normal(x, 1.0))
    scores = dg.evaluate(p, None, {"x": torch.linspace(-2, 2, 50)}, observed=["x"])
    assert {"mmd2", "c2st"} <= {score.name for score in scores}
