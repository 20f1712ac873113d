"""What the rate of a latent counts: weights, schedules, free bits and capacities."""

import math

import pytest
import torch
from coders import Decoder, Encoder, X
from torch.distributions import Bernoulli, Normal, kl_divergence
from toys import f64

import daguerre as dg
from daguerre.objectives.estimators import score_function
from daguerre.objectives.rates import capacity, cyclical, free_bits, linear
from daguerre.objectives.schedules import at_step


def parts(p, q):
    """The distortion and the rate [6, 2] of the batch, with seed 7."""
    torch.manual_seed(7)
    posterior = q.z(X)
    z = posterior.rsample()
    rate = kl_divergence(posterior, Normal(f64(0.0), 1.0))
    return -p.x(z).log_prob(X).sum(1).mean(), rate


def value(rate, *, step=0):
    p, q = Decoder(), Encoder()
    torch.manual_seed(7)
    return dg.elbo(p, q, rate=rate).losses(X, step=step)["model"].item()


def expected(rule):
    distortion, rate = parts(Decoder(), Encoder())
    return (distortion + rule(rate)).item()


RULES = {
    "beta": (4.0, lambda rate: 4 * rate.sum(1).mean()),
    "by name": ({"z": 0.0}, lambda rate: torch.zeros(())),
    "free bits": (free_bits(2.5), lambda rate: rate.sum(1).mean().clamp_min(2.5)),
    "free bits each": (
        free_bits(0.6, each=True),
        lambda rate: rate.mean(0).clamp_min(0.6).sum(),
    ),
    "capacity": (capacity(10.0, 1.5), lambda rate: 10 * (rate.sum(1).mean() - 1.5).abs()),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rate_counts_what_its_rule_says(name):
    rate, rule = RULES[name]
    assert value(rate) == pytest.approx(expected(rule), abs=1e-12)


def test_a_scheduled_rate_follows_the_updates():
    ramp = linear(0.0, 1.0, steps=10)
    for step, weight in ((0, 0.0), (5, 0.5), (20, 1.0)):
        found = value(ramp, step=step)
        assert found == pytest.approx(expected(lambda rate, w=weight: w * rate.sum(1).mean()))
    moving = capacity(3.0, linear(0.0, 4.0, steps=4))
    assert value(moving, step=2) == pytest.approx(
        expected(lambda rate: 3 * (rate.sum(1).mean() - 2).abs())
    )


def test_what_a_rate_counts_is_in_the_ledger_and_the_formula():
    p, q = Decoder(), Encoder()
    terms = {
        4.0: "4 * KL(q(z | x) || p(z))",
        free_bits(2.0): "max(2, KL(q(z | x) || p(z)))",
        linear(0.0, 1.0, steps=9): "(0 to 1 in 9 steps) * KL(q(z | x) || p(z))",
    }
    for rate, term in terms.items():
        assert term in [row["term"] for row in dg.elbo(p, q, rate=rate).explain()]
    assert r"\max(2, \mathrm{KL}" in dg.elbo(p, q, rate=free_bits(2.0)).latex()
    assert r"\beta_t\,\mathrm{KL}" in dg.elbo(p, q, rate=linear(0, 1, steps=2)).latex()


def test_schedules_hold_at_their_ends():
    assert [at_step(linear(1.0, 3.0, steps=2, after=1), s) for s in range(5)] == [1, 1, 2, 3, 3]
    saw = cyclical(0.0, 1.0, period=4, rise=0.5)
    assert [at_step(saw, s) for s in range(6)] == [0, 0.5, 1, 1, 0, 0.5]


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf, {"z": -0.5}])
def test_a_rate_is_no_negative_number(rate):
    with pytest.raises(ValueError, match="expected a finite number, 0 or more"):
        dg.elbo(Decoder(), Encoder(), rate=rate)


def test_a_rate_names_a_latent():
    with pytest.raises(ValueError, match="rate names 'x', no latent here"):
        dg.elbo(Decoder(), Encoder(), rate={"x": 2.0})
    with pytest.raises(TypeError, match="the rate of z is a number or a schedule"):
        dg.elbo(Decoder(), Encoder(), rate={"z": "4"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="one step or more"):
        linear(0, 1, steps=0)
    with pytest.raises(ValueError, match="between finite numbers"):
        linear(0, math.nan, steps=3)


def test_a_rule_that_is_no_sum_is_refused_with_the_score_function():
    p = dg.model(h=Bernoulli(logits=f64(0.0)), x=lambda h: Normal(h.sum(1), 1.0))
    q = dg.model(x=dg.Input(), h=lambda x: Bernoulli(logits=x[:, None]))
    with pytest.raises(dg.InadmissibleError, match="score function of h does not apply"):
        dg.elbo(p, q, rate=free_bits(0.1), gradients=score_function())
    assert dg.elbo(p, q, rate=free_bits(0.1)).losses(f64(0.3))["model"].isfinite()
