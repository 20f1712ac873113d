"""What is easily lost: components that a row knows, and states that look impossible at first."""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal

import daguerre as dg

NAN = float("nan")


def log_density(p: dg.Model, row: Tensor) -> Tensor:
    """The marginal log-density of the components that a row of x has, x = W z + b + noise."""
    z, x = (cpd.affine() for cpd in p.modules() if isinstance(cpd, dg.LinearGaussian))
    weight = x.weights["z"]
    covariance = weight @ z.scale @ z.scale.mT @ weight.mT + x.scale @ x.scale.mT
    has = ~row.isnan()
    dense = MultivariateNormal((weight @ z.bias + x.bias)[has], covariance[has][:, has])
    return dense.log_prob(row[has])


def factors() -> dg.Model:
    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    return dg.model(
        z=dg.LinearGaussian(r(2), r(2).exp()),
        x=dg.LinearGaussian(r(3), r(3).exp(), weights={"z": r(3, 2)}),
    )


def test_gaussian_rows_count_the_components_that_they_have():
    p, x = factors(), torch.randn(5, 3, dtype=torch.float64)
    x[:4, 1], x[2, 0], x[3] = NAN, NAN, NAN
    expected = torch.stack(
        [log_density(p, row) if i != 3 else x.new_zeros(()) for i, row in enumerate(x)]
    )
    torch.testing.assert_close(dg.log_evidence(p, {"x": x}), expected)
    same = x[:2]  # all of them lack the same component
    torch.testing.assert_close(dg.log_evidence(p, {"x": same}), expected[:2])


def test_many_patterns_of_components_at_once():
    p, x = factors(), torch.randn(40, 3, dtype=torch.float64)
    x[torch.rand(40, 3) < 0.4] = NAN
    has = ~x.isnan().all(1)
    expected = torch.stack([log_density(p, row) for row in x[has]])
    torch.testing.assert_close(dg.log_evidence(p, {"x": x})[has], expected)


def test_finite_rows_count_the_components_that_they_have():
    rates = torch.tensor([[0.1, 0.2], [0.7, 0.8]], dtype=torch.float64)
    p = dg.model(k=dg.Tabular([0.3, 0.7]), x=lambda k: Bernoulli(probs=rates[k]))
    x = torch.tensor([[1.0, NAN], [NAN, 0.0], [1.0, 0.0], [NAN, NAN]], dtype=torch.float64)
    expected = torch.tensor([0.03 + 0.49, 0.24 + 0.14, 0.024 + 0.098, 1.0]).double().log()
    torch.testing.assert_close(dg.log_evidence(p, {"x": x}), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(dg.log_evidence(p, {"x": x[:1]}), expected[:1], rtol=1e-6, atol=0)
    probs = dg.posterior(p, "k", given={"x": x}).probs[:, 1]
    torch.testing.assert_close(probs[0].item(), 0.49 / 0.52, rtol=1e-6, atol=0)


def test_maps_agree_where_they_are_known():
    p = dg.model(
        k=dg.Tabular([0.3, 0.7]), x=dg.deterministic(lambda k: torch.stack([k, 1 - k], 1).float())
    )
    x = torch.tensor([[1.0, NAN], [NAN, 1.0], [NAN, NAN]])
    torch.testing.assert_close(
        dg.log_evidence(p, {"x": x}).exp(), torch.tensor([0.7, 0.3, 1.0]), rtol=1e-6, atol=0
    )
    p = dg.model(c=dg.Input(), x=dg.deterministic(lambda c: torch.stack([c, 1 - c], 1)))
    c = torch.tensor([1.0, 0.0, 0.0])
    assert dg.log_evidence(p, {"c": c, "x": x}).tolist() == [0.0, 0.0, 0.0]
    assert dg.log_evidence(p, {"c": 1 - c, "x": x}).exp().tolist() == [0.0, 0.0, 1.0]


def test_a_known_state_counts_however_unlikely_it_looks():
    mean = torch.tensor([0.0, 30.0])
    p = dg.model(k=dg.Tabular([0.5, 0.5]), x=dg.LinearGaussian(mean, torch.ones(2), given=["k"]))
    k, x = torch.tensor([0, 1, 0, 1]), torch.tensor([0.0, 30.0, 30.0, 0.0])
    expected = p.log_prob({"k": k, "x": x})  # 450 nats between the states: exp gives zero
    assert expected[2] < -450
    torch.testing.assert_close(dg.log_evidence(p, {"k": k, "x": x}), expected)
    some = torch.tensor([0, 1, 0, -1, 1])
    found = dg.log_evidence(p, {"k": some, "x": torch.cat([x[:3], x[:1], x[3:]])})
    torch.testing.assert_close(found[[0, 1, 2, 4]], expected)


def test_a_state_without_probability_hides_no_other():
    mean = torch.tensor([0.0, 30.0])
    p = dg.model(k=dg.Tabular([0.0, 1.0]), x=dg.LinearGaussian(mean, torch.ones(2), given=["k"]))
    found = dg.log_evidence(p, {"x": torch.zeros(3)})
    torch.testing.assert_close(found, Normal(30.0, 1.0).log_prob(torch.zeros(3)))


def test_evidence_may_pull_both_ways():
    mean = torch.tensor([0.0, 30.0])
    x, y = (dg.LinearGaussian(mean, torch.ones(2), given=["k"]) for _ in range(2))
    p = dg.model(k=dg.Tabular([0.5, 0.5]), x=x, y=y)
    found = dg.log_evidence(p, {"x": torch.zeros(2), "y": torch.full([2], 31.0)})
    both = Normal(30.0, 1.0).log_prob(torch.tensor([0.0, 31.0])).sum()
    torch.testing.assert_close(found, (both + torch.tensor(0.5).log()).expand(2))
    found.sum().backward()
    assert all(q.grad is not None and q.grad.isfinite().all() for q in p.parameters())
