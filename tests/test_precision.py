"""Nets that compute in bfloat16, and losses that do not."""

import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

import daguerre as dg
from daguerre.train import mixed_precision

LAWS = {
    "Bernoulli": lambda a: Bernoulli(logits=a),
    "Categorical of probs": lambda a: Categorical(probs=a.softmax(-1)),
    "OneHotCategorical": lambda a: OneHotCategorical(logits=a),
    "Independent": lambda a: Independent(Normal(a, a.exp()), 1),
    "MultivariateNormal": lambda a: MultivariateNormal(a, scale_tril=torch.eye(4)),
}


def made(law):
    return dg.model(
        z=dg.StandardNormal(3), x=dg.rv(lambda z, net: law(net(z)), net=nn.Linear(3, 4))
    )


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_densities_are_those_of_float32(law):
    torch.manual_seed(0)
    p = made(law)
    values = p.sample(50)
    with mixed_precision(torch.bfloat16):
        short = p.log_prob(values)
    assert short.dtype == torch.float32
    torch.testing.assert_close(short, p.log_prob(values), rtol=0.02, atol=0.1)
    assert not torch.equal(short, p.log_prob(values))  # the net did compute in another type


def test_a_law_that_cannot_be_rebuilt_is_refused():
    p = made(lambda a: MixtureSameFamily(Categorical(logits=a), Normal(a, a.exp())))
    with (
        mixed_precision(torch.bfloat16),
        pytest.raises(dg.InadmissibleError, match=r"MixtureSameFamily .* do so in the CPD"),
    ):
        p.sample(2)


def test_other_types_are_refused():
    p = made(LAWS["Bernoulli"])
    with pytest.raises(ValueError, match=r"torch.bfloat16 or None, not torch.float16"):
        dg.fit(dg.nll(p, observed=["z", "x"]), p.sample(4), precision=torch.float16)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("cost", ["elbo", "gan"])
def test_a_fit_in_bfloat16_is_near_that_in_float32(cost, compiled):
    def losses(precision):
        torch.manual_seed(0)
        decoder = nn.Linear(3, 4)
        if cost == "elbo":
            p = dg.model(
                z=dg.StandardNormal(3),
                x=dg.rv(lambda z, net: Normal(net(z), 1.0), net=decoder),
            )
            encoder = nn.Linear(4, 3)
            q = dg.model(x=dg.Input(4), z=dg.rv(lambda x, net: Normal(net(x), 0.5), net=encoder))
            objective = dg.elbo(p, q)
        else:
            p = dg.model(
                z=dg.StandardNormal(3), x=dg.deterministic(lambda z, net: net(z), net=decoder)
            )
            objective = dg.gan(p, nn.Linear(4, 1))
        x = torch.randn(64, 4)
        history = dg.fit(
            objective, x, steps=4, batch_size=64, compile=compiled, precision=precision
        )
        assert all(parameter.dtype == torch.float32 for parameter in p.parameters())
        return history["model"]

    short, full = losses(torch.bfloat16), losses(None)
    torch.testing.assert_close(short, full, rtol=0.01, atol=0.01)
    assert not torch.equal(short, full)


def test_a_fit_goes_on_in_the_precision_that_it_began_in(tmp_path):
    p = made(LAWS["Bernoulli"])
    options = {"steps": 2, "out": tmp_path / "run", "progress": False}
    cost, values = dg.nll(p, observed=["z", "x"]), p.sample(8)
    dg.fit(cost, values, precision=torch.bfloat16, **options)
    with pytest.raises(ValueError, match=r"another precision: torch.bfloat16, here none"):
        dg.fit(cost, values, resume=True, **options)
