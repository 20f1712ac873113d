"""Blocks of conditional Gaussians against dense matrices, configuration by configuration."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from dense_gaussians import column, joint, linear, oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.cpds import Affine
from daguerre.graph import GraphError
from daguerre.infer.gaussian import LinearVariable, solve

NAN, INF = math.nan, math.inf


def agrees(variables, cards, observed, targets, tolerance=1e-10):
    """Compare every row and configuration with the oracle."""
    found = solve(variables, cards, observed=observed, targets=targets)
    for row in range(found.log_evidence.shape[0]):
        values = {n: v[row if len(v) > 1 else 0].flatten().numpy() for n, v in observed.items()}
        for states in itertools.product(*[range(cards[name]) for name in found.boundary]):
            config = dict(zip(found.boundary, states, strict=True))
            log_prob, mean, cov, place = oracle(variables, values, config)
            index = [i for t in targets for i in range(place[t].start, place[t].stop)]
            at = (row, *states)
            shared = (row if len(found.covariance) > 1 else 0, *states)
            close = partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
            close(found.log_evidence[at], log_prob)
            close(found.mean[at], mean[index])
            close(found.covariance[shared], cov[np.ix_(index, index)])
    assert not found.atoms.any()
    return found


# closed forms


def test_probabilistic_pca_has_the_evidence_and_posterior_of_oracle_a1():
    block = [linear("z"), linear("x", [0.5, -1.0], [0.5, 0.5], z=[2.0, 1.0])]
    x = torch.tensor([[1.5, 0.5]], dtype=torch.float64)
    found = solve(block, {}, observed={"x": x}, targets=["z"])
    assert found.log_evidence.item() == pytest.approx(-3.80717725748, abs=1e-9)
    assert found.mean.item() == pytest.approx(0.666666666667, abs=1e-9)
    assert found.covariance.item() == pytest.approx(0.047619047619, abs=1e-9)


def test_independent_causes_explain_one_another_away_as_in_oracle_a6():
    block = [linear("a"), linear("b"), linear("x", a=1.0, b=1.0)]
    found = solve(block, {}, observed={"x": column(-4.0, 3.0)}, targets=["a", "b"])
    third = 0.333333333333
    np.testing.assert_allclose(found.mean, [[-4 * third] * 2, [3 * third] * 2], atol=1e-9)
    expected = [[[0.666666666667, -third], [-third, 0.666666666667]]]
    np.testing.assert_allclose(found.covariance, expected, atol=1e-9)
    assert found.slices == {"a": slice(0, 1), "b": slice(1, 2)}


def test_the_mean_of_a_hierarchy_is_shrunk_by_its_precision():
    groups, tau, sigma, prior = 4, 0.7, 1.3, 2.0
    means = [linear(f"m{i}", scale=tau, mu=1.0) for i in range(groups)]
    seen = [linear(f"y{i}", scale=sigma, **{f"m{i}": 1.0}) for i in range(groups)]
    values = [0.3, -1.0, 2.5, 4.0]
    observed = {f"y{i}": column(v) for i, v in enumerate(values)}
    found = solve(
        [linear("mu", scale=prior), *means, *seen], {}, observed=observed, targets=["mu"]
    )
    precision = 1 / prior**2 + groups / (tau**2 + sigma**2)
    assert found.covariance.item() == pytest.approx(1 / precision, rel=1e-12)
    expected = sum(values) / (tau**2 + sigma**2) / precision
    assert found.mean.item() == pytest.approx(expected, rel=1e-12)


# dense oracles

EIGHT = [
    linear("a", [0.3, -1.0], [0.5, 2.0], given=["s"]),
    linear("b", [[0.1, 0.2, 0.3], [1.0, -1.0, 2.0]], 0.7, given=["s", "t"]),
    linear("c", [1.0, 2.0, -3.0], [0.4, 1.0, 0.8], given=["t"], a=[1.0, -0.5, 2.0]),
    linear("d", 0.5, 1.1, a=0.7, b=-1.2),
    linear(
        "e", torch.arange(15.0).reshape(5, 3), 0.9, given=["u", "t"], c=0.3, d=torch.ones(5, 3)
    ),
]
CARDS = {"s": 2, "t": 3, "u": 5}  # with the three discrete variables, eight nodes


@pytest.mark.parametrize("seen", [["e"], ["c", "e"], ["a", "d", "e"], ["b"]])
def test_a_conditional_gaussian_is_right_in_every_configuration(seen):
    rows = {name: column(0.7 * i, -1.5, 2.0) for i, name in enumerate(seen)}
    rest = [v.name for v in EIGHT if v.name not in seen]
    found = agrees(EIGHT, CARDS, rows, rest)
    assert found.boundary == ("s", "t", "u")
    assert found.log_evidence.shape == (3, 2, 3, 5)
    assert found.covariance.shape[0] == 1  # one for all rows


def test_the_discrete_posterior_is_that_of_quadrature_free_enumeration():
    found = solve(EIGHT, CARDS, observed={"e": column(4.0)}, targets=["a"])
    weights = found.log_evidence.flatten().softmax(0)  # uniform discrete priors
    dense = []
    for s, t, u in itertools.product(range(2), range(3), range(5)):
        mean, cov, place = joint(EIGHT, {"s": s, "t": t, "u": u})
        at = place["e"].start
        z = (4.0 - mean[at]) ** 2 / cov[at, at]
        dense.append(math.exp(-0.5 * z) / math.sqrt(cov[at, at]))
    np.testing.assert_allclose(weights, np.array(dense) / sum(dense), rtol=1e-10)


def test_vectors_keep_their_correlations():
    scale = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.3, 0.0], [-1.0, 0.2, 2.0]], dtype=torch.float64)
    block = [
        linear("z", [1.0, -1.0, 0.0], scale),
        linear("x", [0.0, 3.0], [0.2, 1.0], z=[[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]),
        linear("y", 0.0, 0.4, x=[1.0, -2.0], z=[0.0, 1.0, 0.0]),
    ]
    x = torch.tensor([[0.5, 1.0], [2.0, -3.0]], dtype=torch.float64)
    agrees(block, {}, {"x": x, "y": column(1.0, 0.0)}, ["z"])
    agrees(block, {}, {"y": column(1.0, 0.0)}, ["x", "z"])


def test_events_of_any_shape_are_flattened():
    block = [linear("z"), linear("x", torch.zeros(6), torch.ones(6), z=torch.ones(6))]
    x = torch.arange(12.0, dtype=torch.float64).reshape(2, 3, 2)
    found = solve(block, {}, observed={"x": x}, targets=["z"])
    np.testing.assert_allclose(found.mean, x.flatten(1).sum(1, keepdim=True) / 7, rtol=1e-12)


def test_parents_outside_the_block_are_known_row_by_row():
    block = [linear("z", u=2.0), linear("x", [0.0, 1.0], given=["s"], z=[1.0, 3.0], u=[-1.0, 0.5])]
    u, x = column(1.0, -2.0), column(0.5, 4.0)
    found = solve(block, {"s": 2}, observed={"u": u, "x": x}, targets=["z"])
    for row in range(2):
        fixed = [linear("u", u[row].item(), 1.0), *block]
        for s in range(2):
            values = {"u": u[row].numpy(), "x": x[row].numpy()}
            log_prob, mean, cov, place = oracle(fixed, values, {"s": s})
            alone = oracle(fixed, {"u": u[row].numpy()}, {"s": s})[0]
            z = place["z"].start
            assert found.log_evidence[row, s].item() == pytest.approx(log_prob - alone, abs=1e-10)
            assert found.mean[row, s].item() == pytest.approx(mean[z], abs=1e-10)
            assert found.covariance[0, s].item() == pytest.approx(cov[z, z], abs=1e-10)


def test_the_order_of_given_does_not_matter():
    flipped = linear("b", EIGHT[1].affine.bias[..., 0].T, 0.7, given=["t", "s"])
    block = [EIGHT[0], flipped, *EIGHT[2:]]
    observed = {"e": column(0.0, 2.0)}
    there = solve(EIGHT, CARDS, observed=observed, targets=["b"])
    here = solve(block, CARDS, observed=observed, targets=["b"])
    assert torch.equal(there.log_evidence, here.log_evidence)
    assert torch.equal(there.mean, here.mean)


def test_a_boundary_that_no_evidence_feels_is_there_all_the_same():
    block = [
        linear("z"),
        linear("x", z=1.0),
        linear("y", [1.0, 2.0, 3.0], 1.0, given=["s"], z=1.0),
    ]
    found = solve(block, {"s": 3, "unused": 7}, observed={"x": column(2.0)}, targets=["y"])
    assert found.boundary == ("s",)
    assert found.log_evidence.shape == (1, 3)
    np.testing.assert_allclose(found.mean[..., 0], [[2.0, 3.0, 4.0]], rtol=1e-12)


def test_without_evidence_the_answer_is_the_prior():
    found = agrees(EIGHT, CARDS, {}, ["a", "e"])
    assert found.log_evidence.shape == (1, 2, 3, 5)
    assert not found.log_evidence.any()


# missing components


def masked(rows, patterns, seed=0):
    """Values of a vector of four with so many patterns of missing components."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    missing = torch.arange(rows)[:, None] % patterns >> torch.arange(4) & 1
    return torch.where(missing.bool(), NAN, x)


FOUR = [
    linear("z", [0.5, -0.5], [[1.0, 0.0], [0.4, 0.8]]),
    linear(
        "x",
        [[0.0, 1.0, 2.0, 3.0], [1.0, -1.0, 0.0, 0.0]],
        [[0.5, 0.6, 0.7, 0.8], [1.0, 2.0, 1.5, 0.3]],
        given=["s"],
        z=torch.linspace(-2, 2, 16).reshape(2, 4, 2),
    ),
    linear("y", 0.0, 0.3, x=[1.0, 0.0, -1.0, 2.0]),
]


@pytest.mark.parametrize(("patterns", "limit"), [(1, 16), (3, 16), (16, 16), (16, 2), (3, 2)])
def test_each_row_may_miss_other_components(monkeypatch, patterns, limit):
    monkeypatch.setattr("daguerre.infer.gaussian.patterns.PATTERNS", limit)
    x = masked(20, patterns)
    y = torch.where(torch.arange(20)[:, None] % 5 == 1, NAN, torch.ones(20, 1).double())
    assert x.isnan().any() or patterns == 1
    agrees(FOUR, {"s": 2}, {"x": x, "y": y}, ["z", "x"] if patterns > 1 else ["z"])


def test_many_patterns_are_solved_in_chunks(monkeypatch):
    observed = {"x": masked(20, 16)}
    whole = solve(FOUR, {"s": 2}, observed=observed, targets=["z"])
    monkeypatch.setattr("daguerre.infer.gaussian.patterns.PATTERNS", 1)
    monkeypatch.setattr("daguerre.infer.gaussian.patterns.CHUNK", 200)
    pieces = solve(FOUR, {"s": 2}, observed=observed, targets=["z"])
    for name in ("log_evidence", "mean", "covariance"):
        torch.testing.assert_close(getattr(whole, name), getattr(pieces, name))


def test_a_row_in_a_batch_is_answered_as_if_it_were_alone():
    x = masked(7, 3)
    many = solve(FOUR, {"s": 2}, observed={"x": x}, targets=["z"])
    for row in range(7):
        one = solve(FOUR, {"s": 2}, observed={"x": x[row : row + 1]}, targets=["z"])
        torch.testing.assert_close(many.log_evidence[row], one.log_evidence[0])
        torch.testing.assert_close(many.mean[row], one.mean[0])
        torch.testing.assert_close(many.covariance[row], one.covariance[0])


def test_an_all_missing_row_has_the_prior():
    x = torch.full((1, 4), NAN, dtype=torch.float64)
    found = solve(FOUR, {"s": 2}, observed={"x": x}, targets=["z"])
    prior = solve(FOUR, {"s": 2}, observed={}, targets=["z"])
    assert not found.log_evidence.any()
    torch.testing.assert_close(found.covariance, prior.covariance)


# draws


def test_draws_follow_the_states_of_each_row():
    x, n = masked(3, 2), 4000
    found = solve(FOUR, {"s": 2}, observed={"x": x}, targets=["z", "y"])
    s = torch.tensor([[0, 1, 1], [1, 0, 1]]).repeat_interleave(n, 0)
    draws = found.draw(2 * n, {"s": s})
    assert draws["z"].shape == (2 * n, 3, 2)
    assert draws["y"].shape == (2 * n, 3, 1)
    both = torch.cat([draws["z"], draws["y"]], -1).reshape(2, n, 3, 3)
    for half, row in itertools.product(range(2), range(3)):
        at = (row, int(s[half * n, row]))
        off = both[half, :, row] - found.mean[at]
        cov = found.covariance[at]
        scale = cov.diagonal().sqrt()
        assert (off.mean(0).abs() < 5 * scale / math.sqrt(n)).all()
        assert ((off.mT @ off / n - cov).abs() < 5 * scale.outer(scale) * math.sqrt(2 / n)).all()


def test_draws_without_discrete_variables_share_one_factor():
    block = [linear("z"), linear("f", 1.0, 0.0, z=2.0), linear("x", z=1.0)]
    found = solve(block, {}, observed={"x": column(1.0, 2.0)}, targets=["f", "z"])
    draws = found.draw(5)
    assert found.factor.shape == (1, 2, 2)
    assert draws["z"].shape == (5, 2, 1)
    torch.testing.assert_close(draws["f"], 1 + 2 * draws["z"])


# gradients


def test_the_gradient_of_the_evidence_is_that_of_finite_differences():
    x, y = masked(5, 3), column(1.0, NAN, 0.5, NAN, 2.0)

    def evidence(*flat):
        tensors = iter(flat)
        block = []
        for v in FOUR:
            weights = {parent: next(tensors) for parent in v.affine.weights}
            block.append(
                LinearVariable(v.name, Affine(next(tensors), weights, next(tensors)), v.given)
            )
        found = solve(block, {"s": 2}, observed={"x": x, "y": y}, targets=["z"])
        return found.log_evidence.logsumexp(-1).sum(), found.mean, found.covariance

    flat = []
    for v in FOUR:
        flat += [*v.affine.weights.values(), v.affine.bias, v.affine.scale]
    assert torch.autograd.gradcheck(evidence, [t.clone().requires_grad_() for t in flat])


# random networks


@st.composite
def networks(draw):
    cards = {"s": 2, "t": 3}
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    variables: list[LinearVariable] = []
    for i in range(draw(st.integers(1, 6))):
        given_ = tuple(draw(st.permutations(["s", "t"]))[: draw(st.integers(0, 2))])
        lead, d = [cards[g] for g in given_], draw(st.integers(1, 3))
        parents = [v for v in variables if draw(st.booleans())]
        weights = {v.name: normal(*lead, d, v.size) for v in parents}
        scale = normal(*lead, d, d).tril() + 2 * torch.eye(d, dtype=torch.float64)
        variables.append(LinearVariable(f"v{i}", Affine(normal(*lead, d), weights, scale), given_))
    observed = {}
    for v in variables:
        if draw(st.booleans()):
            value = normal(2, v.size)
            value[draw(st.integers(0, 1)), draw(st.integers(0, v.size - 1))] = NAN
            observed[v.name] = value
    targets = [v.name for v in variables if draw(st.booleans())]
    return variables, cards, observed, targets


@settings(max_examples=25, deadline=None)
@given(networks())
def test_random_networks_agree_with_dense_matrices(network):
    agrees(*network, tolerance=1e-8)


# errors


@pytest.mark.parametrize(
    ("block", "observed", "targets", "message"),
    [
        ([linear("x", z=1.0), linear("z")], {}, [], "z is neither observed nor before x"),
        (
            [linear("x", z=1.0)],
            {"z": column(NAN)},
            [],
            "z, a parent of x outside the block, is NaN",
        ),
        ([linear("z")], {"z": column(INF)}, [], "evidence on z is infinite"),
        ([linear("z")], {"z": torch.zeros(1, 2)}, [], "2 components a row, not 1"),
        ([linear("z")], {}, ["y"], r"targets \['y'\] are not in the block \['z'\]"),
        ([linear("z", [0.0, 1.0], 1.0, given=["s"])], {}, [], r"the sizes of \['s'\]"),
        ([linear("x", z=[1.0, 2.0])], {"z": column(1.0)}, [], "z -> x: the weight takes 2"),
        (
            [linear("x"), linear("y")],
            {"x": column(1.0, 2.0), "y": column(1.0, 2.0, 3.0)},
            [],
            "differs in its numbers of rows",
        ),
    ],
)
def test_what_does_not_fit_is_said(block, observed, targets, message):
    with pytest.raises(GraphError, match=message):
        solve(block, {}, observed=observed, targets=targets)


def test_a_tensor_of_the_wrong_shape_is_named():
    one = torch.ones(1, 1)
    block = [LinearVariable("x", Affine(torch.zeros(3, 1), {}, one), ("s",))]
    with pytest.raises(
        GraphError, match=r"the scale of x has the shape \[1, 1\]; expected \[3, 1"
    ):
        solve(block, {"s": 3}, observed={})
