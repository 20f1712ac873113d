"""Pareto smoothing, against ArviZ where it is there, and against tails of known shape."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Pareto

from daguerre.infer.approximate.psis import (
    effective_size,
    fit_pareto,
    pareto_smooth,
    threshold,
)

F64 = torch.float64


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), draws=st.integers(30, 3000), scale=st.sampled_from([0.3, 1, 3])
)
def test_smoothing_agrees_with_arviz(seed, draws, scale):
    stats = pytest.importorskip("arviz.stats", reason="needs the extra mcmc")
    torch.manual_seed(seed)
    logs = scale * torch.randn(draws, 3, dtype=F64)
    found = pareto_smooth(logs)
    for row in range(3):
        expected, k = stats.psislw(logs[:, row].clone().numpy())
        assert found.pareto_k[row].item() == pytest.approx(float(k), abs=1e-8)
        torch.testing.assert_close(
            found.log_weights[:, row], torch.as_tensor(expected.copy()), rtol=1e-7, atol=1e-7
        )


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_the_fit_finds_the_shape_of_a_pareto_tail(k):
    ranks = (torch.arange(4000, dtype=F64) + 0.5) / 4000
    tail = torch.expm1(-k * torch.log1p(-ranks)) / k  # scale 1
    shape, scale = fit_pareto(tail.unsqueeze(0))
    assert shape.item() == pytest.approx(k, abs=0.02)
    assert scale.item() == pytest.approx(1, abs=0.03)


def test_rows_do_not_know_one_another():
    torch.manual_seed(0)
    logs = torch.randn(500, 4, dtype=F64) * torch.tensor([0.1, 1.0, 2.0, 5.0], dtype=F64)
    logs[:400, 2] = -math.inf
    together = pareto_smooth(logs)
    for row in range(4):
        alone = pareto_smooth(logs[:, row : row + 1])
        torch.testing.assert_close(together.log_weights[:, row], alone.log_weights[:, 0])
        torch.testing.assert_close(together.pareto_k[row], alone.pareto_k[0])


def test_equal_weights_stay_equal_and_are_trusted():
    found = pareto_smooth(torch.full((100, 2), -700.0))
    assert found.pareto_k.tolist() == [-math.inf, -math.inf]
    torch.testing.assert_close(found.log_weights, torch.full((100, 2), -math.log(100), dtype=F64))
    assert effective_size(found.log_weights)[0].item() == pytest.approx(100)


def test_zeros_and_ones_are_trusted_where_ones_are_many():
    logs = torch.full((1000, 2), -math.inf)
    logs[:400, 0] = 0.0
    logs[:2, 1] = 0.0
    found = pareto_smooth(logs)
    assert found.pareto_k.tolist() == [-math.inf, math.inf]
    assert effective_size(found.log_weights).tolist() == pytest.approx([400, 2])
    assert found.log_weights.exp().sum(0).tolist() == pytest.approx([1, 1])


def test_smoothing_keeps_the_order_and_no_weight_passes_the_largest():
    torch.manual_seed(1)
    weights = Pareto(torch.ones(1, dtype=F64), 0.8).sample(torch.Size([900]))
    logs = torch.as_tensor(weights).log()
    found = pareto_smooth(logs)
    assert (found.log_weights[logs.argsort(0).squeeze(1)].diff(dim=0) >= -1e-12).all()
    assert found.pareto_k.item() > threshold(900)
