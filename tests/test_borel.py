"""Borel's paradox: one event, two functions, two answers; the library asks which is meant."""

import pytest
import torch
from torch.distributions import Normal

import daguerre as dg


def pair(function) -> dg.Model:
    """Two standard normal variables, and f of both."""
    return dg.model(
        z1=Normal(0.0, 1.0),
        z2=Normal(0.0, 1.0),
        f=dg.deterministic(lambda z1, z2: function(z1, z2)),
    )


def difference(z1, z2):
    return z1 - z2


def ratio(z1, z2):
    return z1 / z2


@pytest.mark.parametrize(("function", "value"), [(difference, 0.0), (ratio, 1.0)])
def test_conditioning_on_a_deterministic_variable_is_refused_with_the_warning(function, value):
    with pytest.raises(dg.InadmissibleError, match=r"depends on the limit .*Borel's paradox"):
        pair(function).sample(given={"f": torch.full((4,), value)})


def test_an_observed_variable_with_noise_needs_no_warning():
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
    with pytest.raises(dg.InadmissibleError) as error:
        p.sample(given={"x": torch.zeros(2)})
    assert "Borel" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [(difference, 0.0, 0.5), (ratio, 1.0, 1.0)],  # E[z1^2 | z1 - z2 = 0], E[z1^2 | z1 / z2 = 1]
)
def test_noise_says_which_limit_is_meant(function, value, expected):
    """Importance sampling of z1^2 given that f, seen with little noise, has this value."""
    p = dg.model(
        z1=Normal(0.0, 1.0),
        z2=Normal(0.0, 1.0),
        f=dg.deterministic(lambda z1, z2: function(z1, z2)),
        x=lambda f: Normal(f, 0.02),
    )
    drawn = p.sample(1_000_000)
    weight = Normal(drawn["f"], 0.02).log_prob(torch.tensor(value)).softmax(0)
    size = 1 / weight.square().sum()
    assert size > 5_000  # effective draws: the sd of the mean is below 1.5 / 70
    mean = (weight * drawn["z1"] ** 2).sum().item()
    assert abs(mean - expected) < 0.08
