"""Negative integers mark missing states, and are no numbers."""

import pytest
import torch
from torch.distributions import Categorical, Normal

import daguerre as dg

X = torch.tensor([[-1, 2, -3]])
START = Normal(0.0, 1.0)


def walk():
    return dg.model(
        z=lambda last=dg.lag("z", init=START): Normal(last, 1.0), x=lambda z: Normal(z, 1.0)
    )


def switch():
    start = Categorical(torch.ones(2))
    return dg.model(
        z=lambda last=dg.lag("z", init=start): Categorical(torch.eye(2)[last] + 0.1),
        x=lambda z: Normal(2.0 * z, 1.0),
    )


@pytest.mark.parametrize("model", [walk, switch])
def test_negative_integers_are_no_continuous_evidence(model):
    with pytest.raises(dg.GraphError, match=r"x is continuous, .* give floats"):
        dg.posterior(model(), "z", given={"x": X})
    assert dg.posterior(model(), "z", given={"x": X.float()}).exact
    assert dg.posterior(model(), "z", given={"x": X.abs()}).exact


def test_parameters_that_are_nan_give_no_posterior():
    p = dg.replace(switch(), x=lambda z: Normal(z * float("nan"), 1.0))
    with pytest.raises(dg.GraphError, match="hold NaN"):
        dg.posterior(p, "z", given={"x": X.float()})


def test_a_density_is_asked_in_evaluation_mode():
    noisy = torch.nn.Dropout(0.5)
    start = Categorical(torch.ones(2))
    p = dg.model(
        z=lambda last=dg.lag("z", init=start): Categorical(torch.eye(2)[last] + 0.1),
        x=dg.rv(lambda z, net: Normal(net(2.0 * z + 1.0), 1.0), net=noisy),
    )
    found = dg.posterior(p, "z", given={"x": X.float()})
    at = torch.zeros(1, 3, dtype=torch.long)
    assert found.log_prob(at) == found.log_prob(at)
    assert noisy.training
