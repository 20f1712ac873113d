"""Kernel conditioning: implicit variables, whose simulations are compared with what is known."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre.infer import ABC, explain, posterior

F64 = torch.float64


def located(n=5):
    """x is the mean of n draws around m, as a simulator gives it: x | m ~ N(m, 1 / n)."""
    return dg.model(
        m=Normal(torch.zeros((), dtype=F64), 1.0),
        e=Normal(torch.zeros(n, dtype=F64), 1.0),
        x=dg.deterministic(lambda m, e: torch.tanh((m.unsqueeze(1) + e).mean(1))),
    )


def test_the_location_of_a_simulation():
    torch.manual_seed(0)
    x = torch.tensor([0.5, -0.2], dtype=F64)
    found = posterior(located(), "m", given={"x": x}, method=ABC(100_000, keep=0.02))
    mean = 5 / 6 * torch.atanh(x)
    error = (1 / 6 / found.diagnostics["ess"]).sqrt()
    assert ((found.mean - mean).abs() < 4.5 * error + 0.005).all()
    torch.testing.assert_close(found.variance, torch.full_like(x, 1 / 6), rtol=0.15, atol=0)
    assert found.log_evidence is None
    assert "kernel conditioning, bandwidth 0.0" in found.method
    assert found.diagnostics["acceptance"].tolist() == pytest.approx([0.02, 0.02])


def test_a_wide_bandwidth_gives_the_prior_and_a_narrow_one_is_refused():
    torch.manual_seed(0)
    x = torch.tensor([0.5], dtype=F64)
    wide = posterior(located(), "m", given={"x": x}, method=ABC(20_000, bandwidth=100.0))
    assert abs(wide.mean.item()) < 4.5 / 20_000**0.5
    assert wide.diagnostics["acceptance"].item() == 1
    with pytest.raises(dg.GraphError, match="none of 20 draws has a weight for row 0"):
        posterior(located(), "m", given={"x": x}, method=ABC(20, bandwidth=1e-9))


def test_a_generator_is_inverted():
    """A GAN: x = G(z) is known, and the posterior of z reconstructs it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 8))
    p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z, net: net(z), net=net))
    x = net(torch.tensor([[0.5, -1.0], [-0.3, 0.2]])).detach()
    found = posterior(p, "z", given={"x": x})
    assert not found.exact
    assert "kernel conditioning" in found.method
    spread = p.sample(2000)["x"].std(0)
    again = net(found.sample(200)).detach()
    assert (((again - x) / spread).square().mean((0, 2)).sqrt() < 0.2).all()
    plan = explain(p, "z", given=["x"])
    assert not plan.is_exact
    assert plan.parts[0].engine == "kernel conditioning"
    assert plan.parts[0].variables == ("z",)


def test_other_evidence_weighs_by_its_likelihood():
    """x = a + b is known up to the kernel, and b beside it: a = x - b."""
    p = dg.model(
        a=Normal(torch.zeros((), dtype=F64), 1.0),
        b=Normal(torch.zeros((), dtype=F64), 1.0),
        y=lambda b: Normal(b, 0.5),
        k=lambda b: Bernoulli(torch.sigmoid(b)),
        x=dg.deterministic(lambda a, b: torch.sinh(a + b)),
    )
    torch.manual_seed(0)
    given = {"x": torch.sinh(torch.tensor([1.0, -1.0], dtype=F64)), "y": 0.5}
    found = posterior(p, ["a", "b"], given=given, method=ABC(100_000, keep=0.02))
    linear = dg.replace(p, x=lambda a, b: Normal(a + b, 1e-3))
    exact = posterior(linear, ["a", "b"], given={**given, "x": given["x"].asinh()})
    for name in ("a", "b"):
        torch.testing.assert_close(found[name].mean, exact[name].mean, atol=0.1, rtol=0)
        torch.testing.assert_close(found[name].variance, exact[name].variance, atol=0, rtol=0.3)


def test_components_that_never_vary_do_not_decide():
    p = dg.model(
        z=Normal(torch.zeros(1), 1.0),
        x=dg.deterministic(lambda z: torch.cat([torch.tanh(z), torch.ones_like(z)], 1)),
    )
    torch.manual_seed(0)
    found = posterior(p, "z", given={"x": torch.tensor([[0.5, 1.0], [0.5, 1.001]])})
    expected = torch.tensor(0.5).atanh()
    torch.testing.assert_close(found.mean, expected.expand(2, 1), atol=0.03, rtol=0)
