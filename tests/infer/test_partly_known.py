"""Values of which some components are known: they count, and only they."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre.cpds import LinearGaussian
from daguerre.infer import log_evidence, posterior

F64 = torch.float64
NAN = math.nan


def rows(*values):
    return torch.tensor(values, dtype=F64)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_component_of_a_linear_gaussian(count):
    p = dg.model(
        z=Normal(torch.zeros((), dtype=F64), 1.0),
        x=LinearGaussian(rows(0.5, -1), rows(0.5, 0.5), weights={"z": rows(2, 1)}),
    )
    x = rows([1.5, NAN], [1.5, 0.5], [NAN, NAN])[:count]
    found = posterior(p, "z", given={"x": x})
    torch.testing.assert_close(found.mean, rows(2 / 4.25, 2 / 3, 0)[:count])
    marginal = Normal(0.5, math.sqrt(4.25)).log_prob(torch.tensor(1.5, dtype=F64))
    torch.testing.assert_close(found.log_evidence[0], marginal)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_one_pixel_of_several(count):
    p = dg.model(
        k=Bernoulli(torch.tensor(0.5, dtype=F64)),
        x=lambda k: Bernoulli(torch.stack([0.2 + 0.6 * k, 0.5 + 0.2 * k], 1)),
    )
    x = rows([1, NAN], [NAN, 0], [1, 0], [NAN, NAN])[:count]
    found = posterior(p, "k", given={"x": x})
    torch.testing.assert_close(found.mean, rows(0.8, 3 / 8, 0.24 / 0.34, 0.5)[:count])
    torch.testing.assert_close(log_evidence(p, {"x": x}).exp(), rows(0.5, 0.4, 0.17, 1)[:count])


@pytest.mark.parametrize("count", [1, 2])
def test_one_component_of_a_map(count):
    p = dg.model(
        a=Bernoulli(torch.tensor(0.3, dtype=F64)),
        b=Bernoulli(torch.tensor(0.5, dtype=F64)),
        x=dg.deterministic(lambda a, b: torch.stack([a, torch.maximum(a, b)], 1)),
    )
    x = rows([NAN, 1], [0, NAN])[:count]
    found = posterior(p, "a", given={"x": x})
    torch.testing.assert_close(found.mean, rows(0.3 / 0.65, 0.0)[:count])


def test_rows_of_one_gaussian_stand_beside_rows_of_mixtures():
    p = dg.model(
        k=Bernoulli(torch.tensor(0.3, dtype=F64)),
        z=lambda k: Normal(2 * k, 1.0),
        x=lambda z: Normal(z, 0.5),
    )
    given = {"x": rows(0.0, 2.0), "k": rows(1, NAN)}
    found = posterior(p, "z", given=given)
    apart = [
        posterior(p, "z", given={"x": rows(0), "k": rows(1)}),
        posterior(p, "z", given={"x": rows(2)}),
    ]
    torch.testing.assert_close(found.mean, torch.cat([one.mean for one in apart]))
    torch.testing.assert_close(found.variance, torch.cat([one.variance for one in apart]))
