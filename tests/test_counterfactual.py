"""Counterfactuals against closed forms, against enumeration of twin worlds, and their refusals."""

import itertools

import pytest
import torch
from models import MODELS, Decoder, Generator, Shifted
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Categorical,
    Cauchy,
    Exponential,
    ExpTransform,
    Gamma,
    Gumbel,
    HalfNormal,
    Independent,
    Laplace,
    LogNormal,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
    Uniform,
)

import daguerre as dg
from daguerre.abduction import carry_over

T = torch.tensor


def two(make):
    """A family at two sets of parameters, each `[n, 3]` or `[n, 3, 3]`."""
    return [make(torch.randn(4000, 3), torch.rand(4000, 3) + 0.5) for _ in range(2)]


def flow(a, b):
    return TransformedDistribution(Normal(a, b), [ExpTransform(), AffineTransform(1.0, b[:1])])


def full(a, b):
    tril = torch.diag_embed(b) + torch.tril(torch.ones(3, 3), -1) * 0.3
    return MultivariateNormal(a, scale_tril=tril)


CONTINUOUS = {
    "Normal": Normal,
    "Laplace": Laplace,
    "Cauchy": Cauchy,
    "Gumbel": Gumbel,
    "LogNormal": LogNormal,
    "Uniform": lambda a, b: Uniform(a, a + b),
    "Exponential": lambda a, b: Exponential(b),
    "HalfNormal": lambda a, b: HalfNormal(b),
    "Independent": lambda a, b: Independent(Normal(a, b), 1),
    "MultivariateNormal": full,
    "TransformedDistribution": flow,
}
DISCRETE = {
    "Bernoulli": lambda a: Bernoulli(logits=a),
    "Categorical": lambda a: Categorical(logits=a),
    "OneHotCategorical": lambda a: OneHotCategorical(logits=a),
}


# The mechanisms


@pytest.mark.parametrize("make", CONTINUOUS.values(), ids=CONTINUOUS)
def test_noise_carried_over_and_back_gives_the_value(make):
    before, after = two(make)
    value = before.sample()
    there = carry_over(before, after, value)
    assert not torch.allclose(there, value)
    torch.testing.assert_close(carry_over(after, before, there), value, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["Normal", "Laplace", "Cauchy", "Uniform", "Exponential"])
def test_a_univariate_mechanism_keeps_the_quantile(name):
    before, after = two(CONTINUOUS[name])
    value = before.sample()
    there = carry_over(before, after, value)
    torch.testing.assert_close(after.cdf(there), before.cdf(value), atol=1e-4, rtol=1e-4)


def test_the_multivariate_mechanism_gives_the_other_moments():
    before = full(torch.zeros(100_000, 3), torch.ones(100_000, 3))
    after = full(torch.ones(100_000, 3), 2 * torch.ones(100_000, 3))
    there = carry_over(before, after, before.sample())
    torch.testing.assert_close(there.T.cov(), after.covariance_matrix[0], atol=0.1, rtol=0.02)


@pytest.mark.parametrize("make", DISCRETE.values(), ids=DISCRETE)
def test_over_all_that_could_be_observed_the_other_distribution_comes_out(make):
    a, b = torch.randn(4).expand(200_000, 4), torch.randn(4).expand(200_000, 4)
    there = carry_over(make(a), make(b), make(a).sample())
    sampled = make(b).sample()
    if there.dim() == 1:
        there, sampled = (torch.nn.functional.one_hot(v, 4) for v in (there, sampled))
    # the sd of a difference of two frequencies is below 0.0016: six of them
    torch.testing.assert_close(there.float().mean(0), sampled.float().mean(0), atol=0.01, rtol=0)


@pytest.mark.parametrize("make", DISCRETE.values(), ids=DISCRETE)
def test_under_the_same_parameters_nothing_changes(make):
    d = make(torch.randn(500, 4))
    value = d.sample()
    assert torch.equal(carry_over(d, d, value), value)


def test_a_bernoulli_only_moves_towards_what_became_likelier():
    before, after = Bernoulli(T([0.3] * 5000)), Bernoulli(T([0.6] * 5000))
    value = before.sample()
    there = carry_over(before, after, value)
    assert (there >= value).all()
    # P(x' = 1 | x = 0) = (0.6 - 0.3) / (1 - 0.3)
    assert abs(there[value == 0].mean().item() - 3 / 7) < 0.04


def test_what_was_impossible_may_become_possible():
    before = Categorical(logits=T([[0.0, -torch.inf]]).expand(1000, 2))
    after = Categorical(probs=T([[0.5, 0.5]]).expand(1000, 2))
    there = carry_over(before, after, torch.zeros(1000, dtype=torch.long))
    assert 0.4 < there.float().mean() < 0.6


def test_a_family_without_a_mechanism_is_refused_by_name():
    d = Gamma(torch.ones(3), torch.ones(3))
    with pytest.raises(NotImplementedError, match="noise of a Gamma cannot be read off"):
        carry_over(d, d, torch.ones(3))
    with pytest.raises(NotImplementedError, match="a Normal that becomes a Laplace"):
        carry_over(Normal(0.0, 1.0), Laplace(0.0, 1.0), torch.ones(3))


# Worlds


def linear() -> dg.Model:
    """Pearl's linear model: z -> x -> y <- z with noise of its own in each."""
    return dg.model(
        z=Normal(torch.zeros(()), 1.0),
        x=lambda z: Normal(0.5 * z, 2.0),
        y=lambda x, z: Normal(3 * x - z, x.exp()),
    )


def test_a_linear_model_has_a_closed_form():
    seen = {"z": T([1.0, -1.0]), "x": T([0.5, 0.0]), "y": T([2.0, 1.5])}
    noise = (seen["y"] - (3 * seen["x"] - seen["z"])) / seen["x"].exp()
    there = dg.counterfactual(linear(), seen, do={"x": 2.0})
    torch.testing.assert_close(there["y"], 6.0 - seen["z"] + T(2.0).exp() * noise)
    assert torch.equal(there["z"], seen["z"])
    assert torch.equal(there["x"], T([2.0, 2.0]))


def test_each_row_may_be_set_to_a_value_of_its_own():
    seen = linear().sample(3)
    there = dg.counterfactual(linear(), seen, do={"x": T([1.0, 2.0, 3.0])})
    assert torch.equal(there["x"], T([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("name", MODELS)
def test_setting_what_was_observed_changes_nothing(name):
    model = MODELS[name].make().eval()
    seen = model.sample(5, MODELS[name].given(model, 5))
    known = {n: v for n, v in seen.items() if model.kind(n) in ("input", "prescribed")}
    first = model.graph.order[0]
    there = dg.counterfactual(model, known, do={first: seen[first]})
    for n, value in seen.items():
        torch.testing.assert_close(there[n], value, atol=1e-5, rtol=1e-4)


def test_a_bijection_tells_its_noise():
    model = Shifted()
    seen = model.sample(4)
    there = dg.counterfactual(model, {"x": seen["x"], "y": seen["y"]}, do={"y": T([1.0, 2.0])})
    torch.testing.assert_close(there["z"], seen["z"])
    scale = model.net(T([[1.0, 2.0]])).exp()
    torch.testing.assert_close(there["x"], T([1.0, 2.0]) + scale * seen["z"])


def squad(p: float = 0.7, q: float = 0.1) -> dg.Model:
    """Pearl's firing squad (2009, section 7.1.2): U orders, W makes A shoot anyway, D is dead."""
    return dg.model(
        u=Bernoulli(T(p)),
        w=Bernoulli(T(q)),
        c=dg.deterministic(lambda u: u.clone()),
        a=dg.deterministic(lambda c, w: torch.maximum(c, w)),
        b=dg.deterministic(lambda c: c.clone()),
        d=dg.deterministic(lambda a, b: torch.maximum(a, b)),
    )


def test_the_firing_squad_by_its_closed_form():
    p, q, n = 0.7, 0.1, 100_000
    there = dg.counterfactual(squad(p, q), {"d": torch.ones(n)}, do={"a": 0.0})
    expected = (1 - p) * q / (1 - (1 - p) * (1 - q))  # alive had A not shot
    assert abs((there["d"] == 0).float().mean().item() - expected) < 0.004


def test_latent_causes_are_drawn_from_their_posterior_whatever_they_hang_on():
    tables = {
        "b": T([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]),
        "x": T([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]]),
    }
    model = dg.model(
        a=Bernoulli(T(0.4)),
        b=lambda a: Categorical(tables["b"][a.long()]),
        x=lambda b: Categorical(tables["x"][b]),
        y=dg.deterministic(lambda a, b: a * 10 + b),
    )
    weight = torch.zeros(2, 3)
    for a, b in itertools.product(range(2), range(3)):
        weight[a, b] = (0.4 if a else 0.6) * tables["b"][a, b] * tables["x"][b, 1]
    there = dg.counterfactual(model, {"x": torch.ones(60_000).long()}, do={"x": 0})
    seen = torch.zeros(2, 3)
    for a, b in itertools.product(range(2), range(3)):
        seen[a, b] = ((there["a"] == a) & (there["b"] == b)).float().mean()
    torch.testing.assert_close(seen, weight / weight.sum(), atol=0.01, rtol=0)
    assert torch.equal(there["y"], there["a"] * 10 + there["b"])


def test_events_of_several_elements_are_enumerated_jointly():
    model = dg.model(
        z=Bernoulli(T([0.5, 0.2, 0.9])),
        s=dg.deterministic(lambda z: z.sum(1)),
    )
    there = dg.counterfactual(model, {"s": T([3.0, 0.0, 2.0])}, do={"s": 9.0})
    assert torch.equal(there["z"][:2], T([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert there["z"][2].sum() == 2
    assert torch.equal(there["s"], T([9.0, 9.0, 9.0]))


def test_what_nothing_was_observed_below_is_drawn_and_kept_in_both_worlds():
    there = dg.counterfactual(linear(), {"z": torch.ones(20_000)}, do={"x": 1.0})
    # y = 3 - 1 + e * noise, and the noise is free
    assert abs(there["y"].mean().item() - 2.0) < 0.1
    assert abs(there["y"].std().item() - T(1.0).exp().item()) < 0.1


def test_the_model_and_the_evidence_stay_as_they_were():
    model, seen = linear(), linear().sample(3)
    before = {n: v.clone() for n, v in seen.items()}
    dg.counterfactual(model, seen, do={"x": 0.0})
    assert all(torch.equal(seen[n], before[n]) for n in before)
    assert model.graph == linear().graph


# Refusals


def test_a_continuous_latent_above_the_evidence_is_refused_with_the_ways_out():
    with pytest.raises(dg.InadmissibleError, match=r"z is latent and above what is given.*Normal"):
        dg.counterfactual(Decoder(), {"x": torch.zeros(2, 3)}, do={"x": 0.0})
    with pytest.raises(dg.InadmissibleError, match=r"declare what is given as a bijection"):
        dg.counterfactual(Generator(), {"x": torch.zeros(2, 3)}, do={"x": 0.0})


def test_impossible_evidence_is_named_by_its_row():
    with pytest.raises(dg.GraphError, match="row 1: no value of u, w can bring about"):
        dg.counterfactual(squad(), {"d": T([1.0, 7.0])}, do={"a": 0.0})


def test_contradictory_evidence_is_refused():
    seen = squad().sample(4)
    seen["d"] = 1 - seen["d"]
    with pytest.raises(dg.GraphError, match="d is a function of other variables"):
        dg.counterfactual(squad(), seen, do={"a": 0.0})


def test_too_many_values_are_refused_before_they_are_made():
    model = dg.model(z=Bernoulli(torch.full((40,), 0.5)), s=dg.deterministic(lambda z: z.sum(1)))
    with pytest.raises(dg.InadmissibleError, match=r"z has 2\^40 values, too many"):
        dg.counterfactual(model, {"s": T([3.0])}, do={"s": 1.0})


def test_a_family_without_a_mechanism_is_located():
    model = dg.model(z=Normal(0.0, 1.0), x=lambda z: Gamma(z.exp(), 1.0))
    with pytest.raises(dg.InadmissibleError, match=r"x \(z -> x\).*noise of a Gamma"):
        dg.counterfactual(model, model.sample(3), do={"z": 1.0})


@pytest.mark.parametrize(
    ("given", "do", "message"),
    [
        ({"z": T([1.0]), "y": T([1.0])}, {"xx": 1.0}, "no variable 'xx'"),
        ({"zz": T([1.0])}, {"x": 1.0}, "no variable 'zz'"),
        ({"z": T([1.0])}, {}, "do is empty"),
        ({}, {"x": 1.0}, "say how many draws"),
        ({"z": T([1.0])}, {"x": torch.zeros(2, 2)}, r"do sets x to the shape \[2, 2\]"),
    ],
)
def test_a_malformed_question_is_refused(given, do, message):
    with pytest.raises(dg.GraphError, match=message):
        dg.counterfactual(linear(), given, do)


def test_inputs_must_be_given():
    model = MODELS["regression"].make()
    with pytest.raises(dg.GraphError, match="u must be given"):
        dg.counterfactual(model, {"y": torch.zeros(2, 3)}, do={"y": 0.0})
