"""Evidence without a density: functions, constants, repeated and contradictory observations."""

import math

import numpy as np
import pytest
import torch
from dense_gaussians import column, linear

from daguerre.cpds import Affine
from daguerre.infer.gaussian import LinearVariable, solve

NAN, INF = math.nan, math.inf
LOG_TWO_PI = math.log(2 * math.pi)


def gaussian(x, mean=0.0, variance=1.0):
    return -0.5 * ((x - mean) ** 2 / variance + math.log(variance) + LOG_TWO_PI)


def test_a_deterministic_latent_is_found_without_an_inverse():
    block = [linear("z"), linear("f", 1.0, 0.0, z=2.0), linear("x", 0.0, 0.5, f=1.0)]
    found = solve(block, {}, observed={"x": column(2.0)}, targets=["z", "f"])
    assert found.log_evidence.item() == pytest.approx(gaussian(2.0, 1.0, 4.25), abs=1e-12)
    z = 2.0 / 4.25
    np.testing.assert_allclose(found.mean, [[z, 1 + 2 * z]], rtol=1e-12)
    v = 1 - 4 / 4.25
    np.testing.assert_allclose(found.covariance, [[[v, 2 * v], [2 * v, 4 * v]]], rtol=1e-10)


def test_an_observed_function_of_the_latent_pins_it():
    block = [linear("z"), linear("f", 1.0, 0.0, z=2.0), linear("x", 0.0, 0.5, z=1.0)]
    observed = {"f": column(4.0), "x": column(1.0)}
    found = solve(block, {}, observed=observed, targets=["z"])
    expected = gaussian(4.0, 1.0, 4.0) + gaussian(1.0, 1.5, 0.25)
    assert found.log_evidence.item() == pytest.approx(expected, abs=1e-12)
    assert found.mean.item() == pytest.approx(1.5, abs=1e-12)
    assert found.covariance.item() == pytest.approx(0.0, abs=1e-15)
    assert found.atoms.item() == 0


def test_collinear_evidence_counts_once_and_is_checked():
    block = [linear("z"), linear("a", 0.0, 0.0, z=1.0), linear("b", 1.0, 0.0, z=3.0)]
    observed = {"a": column(0.2, 0.2), "b": column(1.6, 1.7)}
    found = solve(block, {}, observed=observed, targets=["z"])
    assert found.atoms.item() == 1
    assert found.log_evidence[0].item() == pytest.approx(gaussian(0.2), abs=1e-12)
    assert found.log_evidence[1].item() == -INF
    assert found.mean[0].item() == pytest.approx(0.2, abs=1e-12)


def test_a_sum_of_observed_parts_is_a_check():
    block = [linear("a"), linear("b", 2.0, 3.0), linear("sum", 0.0, 0.0, a=1.0, b=1.0)]
    observed = {"a": column(0.1, 0.1), "b": column(0.2, 0.2), "sum": column(0.3, 0.3001)}
    found = solve(block, {}, observed=observed)
    expected = gaussian(0.1) + gaussian(0.2, 2.0, 9.0)
    assert found.log_evidence[0].item() == pytest.approx(expected, abs=1e-12)
    assert found.log_evidence[1].item() == -INF
    assert found.mean.shape == (2, 0)


def test_a_sum_counts_where_a_part_is_missing_and_checks_where_none_is():
    block = [linear("a"), linear("b", 2.0, 3.0), linear("sum", 0.0, 0.0, a=1.0, b=1.0)]
    observed = {"a": column(0.1, NAN), "b": column(0.2, 0.2), "sum": column(0.3, 0.3)}
    found = solve(block, {}, observed=observed, targets=["a"])
    assert found.atoms.tolist() == [1, 0]
    both = gaussian(0.1) + gaussian(0.2, 2.0, 9.0)
    np.testing.assert_allclose(found.log_evidence, [both, both], rtol=1e-12)
    np.testing.assert_allclose(found.mean, [[0.1], [0.1]], rtol=1e-12)


def test_nearly_collinear_evidence_is_no_atom():
    small = 1e-7  # of the variance, 1e-14: a covariance matrix could not tell it from zero
    block = [linear("z"), linear("a", z=1.0, scale=small), linear("b", z=1.0, scale=small)]
    observed = {"a": column(0.5), "b": column(0.5 + small)}
    found = solve(block, {}, observed=observed, targets=["z"])
    total = 1 + small**2
    off, left = small + 0.5 * small**2 / total, small**2 * (2 + small**2) / total
    expected = gaussian(0.5, 0.0, total) - 0.5 * (off**2 / left + math.log(left) + LOG_TWO_PI)
    assert found.log_evidence.item() == pytest.approx(expected, rel=1e-6)
    assert found.covariance.item() == pytest.approx(small**2 / 2, rel=1e-6)
    assert found.atoms.item() == 0


def test_determinism_is_seen_behind_evidence_that_nearly_repeats_itself():
    block = [linear("a"), linear("b", scale=1e-5, a=1.0), linear("c", 0.0, 0.0, a=1.0, b=-1.0)]
    shared = [linear("z"), linear("a", 0.0, 0.0, z=1.0), *block[1:]]
    for variables in (block, shared):
        observed = {"a": column(0.5), "b": column(0.5 + 2e-5), "c": column(-2e-5)}
        found = solve(variables, {}, observed=observed)
        assert found.atoms.item() == 1
        assert found.log_evidence.item() > -INF


def test_a_constant_has_probability_one_at_its_value_and_none_elsewhere():
    block = [linear("c", 3.0, 0.0), linear("x", c=2.0)]
    observed = {"c": column(3.0, 3.0 + 1e-3), "x": column(5.0, 5.0)}
    found = solve(block, {}, observed=observed)
    assert found.log_evidence.tolist() == [pytest.approx(gaussian(5.0, 6.0)), -INF]
    assert found.atoms.item() == 1


def test_a_growing_chain_of_evidence_is_no_chain_of_atoms():
    chain = [linear("x0")]
    chain += [linear(f"x{i}", scale=1.0, **{f"x{i - 1}": 4.0}) for i in range(1, 40)]
    observed = {f"x{i}": column(4.0**i) for i in range(40)}
    found = solve(chain, {}, observed=observed)
    assert found.atoms.item() == 0
    assert found.log_evidence.item() == pytest.approx(gaussian(1.0) + 39 * gaussian(0.0))


def test_an_atom_leaves_the_digits_of_all_other_evidence():
    sensors = [linear(f"x{i}", scale=1e-6, z=1.0) for i in range(5)]
    observed = {f"x{i}": column(0.5 + 1e-6 * (i - 2)) for i in range(5)}
    plain = solve([linear("z"), *sensors], {}, observed=observed, targets=["z"])
    block = [linear("c", 3.0, 0.0), linear("z"), *sensors]
    found = solve(block, {}, observed={"c": column(3.0)} | observed, targets=["z"])
    assert (plain.atoms.item(), found.atoms.item()) == (0, 1)
    assert found.log_evidence.item() == pytest.approx(plain.log_evidence.item(), rel=1e-8)
    assert found.mean.item() == pytest.approx(plain.mean.item(), rel=1e-12)
    assert found.covariance.item() == pytest.approx(1e-12 / 5, rel=1e-6)


def test_evidence_in_single_precision_is_consistent_within_its_digits():
    block = [linear("a"), linear("f", 0.1, 0.0, a=0.3)]
    a = torch.tensor([[0.7], [0.7]])
    f = torch.tensor([[0.31], [0.3101]])  # 0.1 + 0.3 * 0.7, in seven digits
    found = solve(block, {}, observed={"a": a, "f": f}, targets=["a"])
    assert found.mean.dtype == torch.float64
    assert found.log_evidence[0].item() == pytest.approx(gaussian(0.7), rel=1e-6)
    assert found.log_evidence[1].item() == -INF


def test_a_block_may_mix_types():
    single = LinearVariable("z", Affine(torch.zeros(1), {}, torch.ones(1, 1)))
    observed = {"x": column(1.0)}
    mixed = solve([single, linear("x", z=0.3)], {}, observed=observed, targets=["z"])
    double = solve([linear("z"), linear("x", z=0.3)], {}, observed=observed, targets=["z"])
    torch.testing.assert_close(mixed.mean, double.mean)


# atoms beside densities

TWO = [linear("d", [0.0, 1.0, 0.0], [0.0, 2.0, 0.0], given=["h"]), linear("x", 0.0, 0.5, d=1.0)]


def test_a_point_mass_outweighs_a_density_where_it_is_possible():
    observed = {"d": column(0.0, 0.1)}
    found = solve(TWO, {"h": 3}, observed=observed, targets=["x"])
    assert found.atoms.tolist() == [[1, 0, 1]]
    assert found.log_evidence[0].tolist() == [0.0, -INF, 0.0]
    assert found.log_evidence[1].tolist() == [-INF, pytest.approx(gaussian(0.1, 1.0, 4.0)), -INF]
    np.testing.assert_allclose(found.mean[0, :, 0], [0.0, 0.0, 0.0], atol=1e-12)


def test_a_point_mass_that_is_impossible_for_other_reasons_does_not_count():
    possible = torch.tensor([[False, True, False], [True, True, False]])
    observed = {"d": column(0.0, 0.0)}
    found = solve(TWO, {"h": 3}, observed=observed, possible=possible)
    assert found.log_evidence[0, 1].item() == pytest.approx(gaussian(0.0, 1.0, 4.0))
    assert found.log_evidence[1, 1].item() == -INF


def test_an_unobserved_atom_keeps_its_weight():
    found = solve(TWO, {"h": 3}, observed={"x": column(0.4)}, targets=["d"])
    expected = [gaussian(0.4, 0.0, 0.25), gaussian(0.4, 1.0, 4.25), gaussian(0.4, 0.0, 0.25)]
    np.testing.assert_allclose(found.log_evidence[0], expected, rtol=1e-12)
    assert found.covariance[0, :, 0, 0].tolist() == [0.0, pytest.approx(4 / 17), 0.0]


def test_an_atom_in_one_configuration_does_not_spoil_the_gradient_of_another():
    bias = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([[[0.0]], [[2.0]]], dtype=torch.float64, requires_grad=True)
    d = LinearVariable("d", Affine(bias, {}, scale), ("h",))
    found = solve([d], {"h": 2}, observed={"d": column(3.0)})
    found.log_evidence.logsumexp(-1).sum().backward()
    assert bias.grad is not None
    assert scale.grad is not None
    assert bias.grad.flatten().tolist() == [0.0, pytest.approx(0.5)]
    assert scale.grad.flatten().tolist() == [0.0, pytest.approx(-0.5 + 4 / 8)]
