"""EM against counts, least squares, EM written out in numpy, and enumeration."""

import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

import daguerre as dg
from daguerre.infer import em
from daguerre.infer.question import Question, plans
from daguerre.infer.statistics import Statistics

NAN = float("nan")
SIZES = {"a": 2, "b": 3, "c": 5, "d": 7}


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def table(*shape: int) -> Tensor:
    return r(*shape).softmax(-1)


def holes(value: Tensor, share: float = 0.3) -> Tensor:
    gone = torch.rand(value.shape) < share
    return value.masked_fill(gone, NAN if value.is_floating_point() else -1)


def rising(values: Tensor) -> bool:
    return bool((values.diff() > -1e-9).all())


def states(rows: int, names: str = "abcd") -> dict[str, Tensor]:
    return {n: torch.randint(SIZES[n], (rows,)) for n in names}


class Network:
    """a -> b -> d <- c <- a, with two, three, five and seven states."""

    def __init__(self) -> None:
        self.cpds: dict[str, Any] = {
            "a": dg.Tabular(table(2)),
            "b": dg.Tabular(table(2, 3), "a"),
            "c": dg.Tabular(table(2, 5), "a"),
            "d": dg.Tabular(table(3, 5, 7), "b", "c"),
        }
        self.p = dg.model(**self.cpds)

    def expected(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Expected counts, by listing all states."""
        counts = {n: torch.zeros_like(cpd.probs) for n, cpd in self.cpds.items()}
        cells = [
            dict(zip(SIZES, c, strict=True))
            for c in itertools.product(*map(range, SIZES.values()))
        ]
        joint = self.p.log_prob({n: torch.tensor([c[n] for c in cells]) for n in SIZES}).exp()
        for i in range(len(next(iter(data.values())))):
            row = {n: int(v[i]) for n, v in data.items() if v[i] >= 0}
            fits = torch.tensor([all(c[n] == s for n, s in row.items()) for c in cells])
            weights = joint * fits / (joint * fits).sum()
            for c, w in zip(cells, weights, strict=True):
                for n, cpd in self.cpds.items():
                    counts[n][*(c[p] for p in cpd.parents), c[n]] += w
        return counts


# Tables


def test_complete_data_give_relative_counts_in_one_step():
    net, data = Network(), states(300)
    ascent = em(net.p, data)
    assert ascent.converged
    assert len(ascent) == 2  # the second step gains nothing
    seen = np.zeros((3, 5, 7))
    np.add.at(seen, (data["b"], data["c"], data["d"]), 1)
    some = seen.sum(-1) > 0
    found = net.cpds["d"].probs.detach().numpy()
    np.testing.assert_allclose(found[some], (seen / seen.sum(-1, keepdims=True))[some], atol=1e-14)
    log_prob = net.p.log_prob(data).mean()
    assert ascent.log_evidence[-1].item() == pytest.approx(log_prob.item(), abs=1e-12)


def test_what_no_row_tells_of_stays_as_it_is():
    net = Network()
    before = {n: cpd.probs.detach().clone() for n, cpd in net.cpds.items()}
    em(net.p, {"a": torch.tensor([0, 0, 1]), "b": torch.tensor([1, 2, -1])}, steps=5)
    torch.testing.assert_close(net.cpds["d"].probs, before["d"])  # nothing is known below
    torch.testing.assert_close(net.cpds["b"].probs[1], before["b"][1])  # no row has b and a = 1
    torch.testing.assert_close(net.cpds["b"].probs[0], torch.tensor([0, 0.5, 0.5]).double())


@pytest.mark.parametrize("names", ["abcd", "ad", "bd", "d"])
def test_hidden_and_missing_values_count_by_their_posterior(names):
    net = Network()
    data = {n: holes(v) for n, v in states(15, names).items()}
    data["d"] = data["d"].clamp(min=0)  # so that nothing is barren in any row
    expected = net.expected(data)
    em(net.p, data, steps=1)
    for name, counts in expected.items():
        torch.testing.assert_close(
            net.cpds[name].probs, (counts / counts.sum(-1, keepdim=True)).detach()
        )


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from(["abcd", "ad", "bc", "acd"]))
def test_no_step_lowers_the_likelihood(seed, names):
    torch.manual_seed(seed)
    net = Network()
    data = {n: holes(v) for n, v in states(20, names).items()}
    ascent = em(net.p, data, steps=8, tolerance=0)
    assert rising(ascent.log_evidence)
    assert ascent.log_evidence[-1].item() == pytest.approx(
        dg.log_evidence(net.p, data).mean().item(), abs=1e-12
    )


def test_rows_in_turns_give_what_all_rows_give(monkeypatch):
    data = {n: holes(v) for n, v in states(40).items()}
    torch.manual_seed(3)
    one = Network()
    em(one.p, data, steps=3)
    monkeypatch.setattr("daguerre.infer.question.CLOSE", 2**12)
    torch.manual_seed(3)
    other = Network()
    assert len([*plans(Question.of(other.p, (), data))]) > 3
    em(other.p, data, steps=3)
    for cpd, same in zip(one.cpds.values(), other.cpds.values(), strict=True):
        torch.testing.assert_close(cpd.probs, same.probs)


def test_pseudo_counts_give_the_maximum_of_the_posterior():
    net, data = Network(), states(60)
    zeros = table(2)
    zeros[1], zeros[0] = 0, 1
    net.cpds["a"].logits.data = zeros.log()
    data["a"] = torch.zeros(60, dtype=torch.long)
    ascent = em(net.p, data, prior=0.5)
    counts = torch.bincount(data["b"], minlength=3) + 0.5
    torch.testing.assert_close(net.cpds["b"].probs[0], (counts / counts.sum()).double())
    torch.testing.assert_close(net.cpds["b"].probs[1], torch.full([3], 1 / 3).double())
    assert net.cpds["a"].probs.tolist() == [1, 0]  # zeros are structure
    assert rising(ascent.objective)
    hidden = em(Network().p, {"d": data["d"]}, prior=2.0, steps=20, tolerance=0)
    assert rising(hidden.objective)
    assert not torch.equal(hidden.log_prior, torch.zeros(21))


def test_a_table_of_two_variables_learns_from_both():
    shared = dg.Tabular(table(2, 3), "a")
    a = dg.Tabular(table(2))
    p = dg.model(a=a, x=shared, y=shared)
    data = {
        "a": torch.tensor([0, 0, 1]),
        "x": torch.tensor([0, 1, 2]),
        "y": torch.tensor([2, 1, 2]),
    }
    em(p, data)
    torch.testing.assert_close(
        shared.probs, torch.tensor([[0.25, 0.5, 0.25], [0, 0, 1]]).double(), atol=1e-15, rtol=0
    )


def test_tables_below_functions_and_vectors_are_counted():
    a, b = dg.Tabular(table(2)), dg.Tabular(table(3))
    d = dg.Tabular(table(4, 2), "s")
    p = dg.model(a=a, b=b, s=dg.deterministic(lambda a, b: a + b), d=d)
    seen = torch.tensor([0, 1, 1, 0, 1])
    joint = (
        a.probs[:, None, None]
        * b.probs[:, None]
        * d.probs[torch.arange(2)[:, None] + torch.arange(3)]
    )
    posterior = joint / joint.sum((0, 1))
    counts = torch.zeros(4, 2, dtype=torch.float64)
    for i, j, k in itertools.product(range(2), range(3), range(2)):
        counts[i + j, k] += (posterior[i, j, k] * (seen == k).sum()).item()
    expected = counts / counts.sum(-1, keepdim=True)
    em(p, {"d": seen}, steps=1)
    torch.testing.assert_close(d.probs, expected)
    em(p, {"d": seen, "a": torch.tensor([0, 1, -1, 0, 1])}, steps=3)


@pytest.mark.skipif("DAGUERRE_DATA" not in os.environ, reason="DAGUERRE_DATA names no folder")
def test_a_real_network_is_learnt_from_rows_with_holes():
    path = Path(os.environ["DAGUERRE_DATA"]) / "networks" / "alarm.bif.gz"
    truth = dg.read_bif(path)
    complete = truth.sample(500)
    data = {name: holes(value, 0.1) for name, value in complete.items()}
    cpds = {
        step.name: dg.Tabular(table(*step.cpd.probs.shape), *step.cpd.parents)
        for step in truth.steps()
        if isinstance(step.cpd, dg.Tabular)
    }
    p = dg.model(**cpds)
    ascent = em(p, data, steps=6, tolerance=0)
    assert rising(ascent.log_evidence)
    assert ascent.log_evidence[-1] > dg.log_evidence(truth, data).mean()  # it fits the sample
    em(p, complete, steps=1)
    best = em(p, complete, steps=1).log_evidence
    assert best[0].item() == pytest.approx(best[1].item(), abs=1e-12)


# Linear Gaussians


def test_complete_data_give_least_squares_in_one_step():
    u, w = 3 + r(50, 2), r(50)
    x = u @ r(2, 3) + w[:, None] * r(3) + 5 + r(50, 3)
    wide = dg.LinearGaussian(r(3), scale_tril=torch.eye(3), weights={"u": r(3, 2), "w": r(3)})
    thin = dg.LinearGaussian(r(2), r(2).exp())
    p = dg.model(u=thin, w=dg.LinearGaussian(r(1)[0], r(1)[0].exp()), x=wide)
    em(p, {"u": u, "w": w, "x": x})
    design = np.column_stack([np.ones(50), u, w])
    beta, *_ = np.linalg.lstsq(design, x.numpy(), rcond=None)
    rest = x.numpy() - design @ beta
    affine = wide.affine()
    np.testing.assert_allclose(affine.bias.detach(), beta[0], atol=1e-10)
    np.testing.assert_allclose(affine.weights["u"].detach(), beta[1:3].T, atol=1e-10)
    np.testing.assert_allclose(affine.weights["w"][:, 0].detach(), beta[3], atol=1e-10)
    covariance = (affine.scale @ affine.scale.mT).detach()
    np.testing.assert_allclose(covariance, rest.T @ rest / 50, atol=1e-10)
    torch.testing.assert_close(thin.bias.detach(), u.mean(0))
    assert thin.log_scale is not None
    torch.testing.assert_close(thin.log_scale.exp().detach(), u.std(0, correction=0))


def test_regressions_on_inputs_pick_their_state():
    c, k = r(40), torch.randint(2, (40,))
    x = torch.where(k == 0, 2 * c + 1, -c) + 0.1 * r(40)
    cpd = dg.LinearGaussian(r(2), r(2).exp(), weights={"c": r(2)}, given=["k"])
    p = dg.model(c=dg.Input(dtype=torch.float64), k=dg.Tabular(table(2)), x=cpd)
    em(p, {"c": c, "k": k, "x": x})
    for s in range(2):
        slope, bias = np.polyfit(c[k == s], x[k == s], 1)
        assert cpd.weights[0][s].item() == pytest.approx(slope, abs=1e-10)
        assert cpd.bias[s].item() == pytest.approx(bias, abs=1e-10)


def test_each_step_on_a_mixture_is_that_of_numpy():
    x = torch.cat([r(20, 2) - 1, r(15, 2) * 2 + 1])
    weight, mean, scale = table(3), r(3, 2), r(3, 2).exp()
    k = dg.Tabular(weight)
    cpd = dg.LinearGaussian(mean, scale, given=["k"])
    p = dg.model(k=k, x=cpd)
    pi, mu, var, v = weight.numpy(), mean.numpy(), scale.square().numpy(), x.numpy()
    for _ in range(6):
        logs = np.log(pi) - 0.5 * ((v[:, None] - mu) ** 2 / var + np.log(2 * math.pi * var)).sum(
            -1
        )
        log_evidence = np.logaddexp.reduce(logs, 1)
        share = np.exp(logs - log_evidence[:, None])
        n = share.sum(0)
        pi, mu = n / len(v), share.T @ v / n[:, None]
        var = np.stack([share[:, s] @ (v - mu[s]) ** 2 / n[s] for s in range(3)])
        ascent = em(p, {"x": x}, steps=1)
        assert ascent.log_evidence[0].item() == pytest.approx(log_evidence.mean(), abs=1e-12)
        assert cpd.log_scale is not None
        np.testing.assert_allclose(k.probs.detach(), pi, rtol=1e-9)
        np.testing.assert_allclose(cpd.bias.detach(), mu, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(cpd.log_scale.exp().square().detach(), var, rtol=1e-8)


def test_each_step_on_a_factor_analyser_is_that_of_numpy():
    x = (r(30, 2) @ r(2, 4) + 0.3 * r(30, 4)).numpy()
    start, noise = r(4, 2), r(4).exp()
    cpd = dg.LinearGaussian(torch.zeros(4).double(), noise, weights={"z": start})
    p = dg.model(z=Normal(torch.zeros(2).double(), 1.0), x=cpd)
    load, mean, psi = start.numpy(), np.zeros(4), noise.square().numpy()
    for _ in range(4):  # Ghahramani and Hinton (1996), with the mean as one more column
        gain = np.linalg.solve(load @ load.T + np.diag(psi), load).T
        z = (x - mean) @ gain.T
        u = np.column_stack([np.ones(30), z])
        uu = u.T @ u
        uu[1:, 1:] += 30 * (np.eye(2) - gain @ load)
        both = np.linalg.solve(uu, u.T @ x).T
        psi = np.diag(x.T @ x - both @ u.T @ x) / 30
        mean, load = both[:, 0], both[:, 1:]
        em(p, {"x": torch.from_numpy(x)}, steps=1)
        assert cpd.log_scale is not None
        np.testing.assert_allclose(cpd.bias.detach(), mean, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(cpd.weights[0].detach(), load, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(cpd.log_scale.exp().square().detach(), psi, rtol=1e-7)


class Mixed:
    """k -> z -> x -> y, k -> x: numbers, some of which each row may lack."""

    def __init__(self) -> None:
        self.cpds: dict[str, Any] = {
            "k": dg.Tabular(table(3)),
            "z": dg.LinearGaussian(r(3), r(3).exp(), given=["k"]),
            "x": dg.LinearGaussian(r(3), r(3).exp(), weights={"z": r(3)}, given=["k"]),
            "y": dg.LinearGaussian(r(1)[0], r(1)[0].exp(), weights={"x": r(1)[0]}),
        }
        self.p = dg.model(**self.cpds)

    def data(self, rows: int) -> dict[str, Tensor]:
        drawn = self.p.sample(rows)
        return {n: holes(v.detach()) for n, v in drawn.items()}

    def joint(self, k: int) -> tuple[Tensor, Tensor]:
        """Mean and covariance of (z, x, y) given k."""
        z, x, y = (self.cpds[n].affine() for n in "zxy")
        weights = torch.zeros(3, 3, dtype=torch.float64)
        weights[1, 0], weights[2, 1] = x.weights["z"][k].detach(), y.weights["x"].detach()
        bias = torch.cat([z.bias[k], x.bias[k], y.bias]).detach()
        scale = torch.cat([z.scale[k, 0], x.scale[k, 0], y.scale[0]]).detach().diag()
        spread = torch.linalg.inv(torch.eye(3).double() - weights)
        return spread @ bias, spread @ scale @ scale.mT @ spread.mT

    def moments(self, data: dict[str, Tensor]) -> Tensor:
        """The sum over rows of E[v v^T 1(k)], v = (1, z, x, y), by dense conditioning."""
        total = torch.zeros(3, 4, 4, dtype=torch.float64)
        prior = self.cpds["k"].probs.log().detach()
        for i in range(len(data["k"])):
            value = torch.stack([data[n][i] for n in "zxy"])
            has, logs, parts = ~value.isnan(), prior.clone(), []
            for k in range(3):
                mean, cov = self.joint(k)
                gain = cov[:, has] @ torch.linalg.inv(cov[has][:, has])
                mu = mean + gain @ (value[has] - mean[has])
                v = torch.cat([torch.ones(1).double(), mu])
                second = torch.outer(v, v)
                second[1:, 1:] += cov - gain @ cov[has]
                parts.append(second)
                if has.any():
                    logs[k] += MultivariateNormal(mean[has], cov[has][:, has]).log_prob(value[has])
            if (seen := int(data["k"][i])) >= 0:
                logs[torch.arange(3) != seen] = -torch.inf
            total += logs.softmax(0)[:, None, None] * torch.stack(parts)
        return total


@pytest.mark.parametrize("rows", [1, 12, 60])
def test_moments_are_those_of_dense_conditioning(rows):
    net = Mixed()
    data = net.data(rows)
    data["y"] = torch.where(data["y"].isnan(), r(rows), data["y"])  # so that nothing is barren
    found = Statistics(net.cpds)
    for _, exact in plans(Question.of(net.p, (), data)):
        found.add(exact)
    total = net.moments(data)
    z, x, y = (found.moments[net.cpds[n]] for n in "zxy")
    close: dict[str, Any] = {"rtol": 1e-7, "atol": 1e-9}
    torch.testing.assert_close(found.counts[net.cpds["k"]], total[:, 0, 0], **close)
    torch.testing.assert_close(z, total[:, :2, :2], **close)
    torch.testing.assert_close(x, total[:, :3, :3], **close)
    both = torch.tensor([0, 2, 3])
    torch.testing.assert_close(y, total.sum(0)[both[:, None], both], **close)


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_no_step_lowers_the_likelihood_of_numbers(seed):
    torch.manual_seed(seed)
    net = Mixed()
    ascent = em(Mixed().p, net.data(40), steps=8, tolerance=0)
    assert rising(ascent.log_evidence)


def steepest(p: dg.Model, data: dict[str, Tensor]) -> float:
    """The largest component of the gradient of nll."""
    loss = dg.nll(p, observed=[*data], partial=[*data]).losses(data)["model"]
    slopes = torch.autograd.grad(loss, [*p.parameters()])
    return max(slope.abs().max().item() for slope in slopes)


def test_where_it_ends_the_gradient_of_nll_is_zero():
    mixed, tables = Mixed(), Network()
    drawn = mixed.p.sample(60, given={"k": torch.arange(60) % 3})
    for p, data in (
        (mixed.p, {n: holes(v.detach(), 0.1) for n, v in drawn.items()}),
        (tables.p, {n: holes(v, 0.1) for n, v in states(50).items()}),
    ):
        before = steepest(p, data)
        ascent = em(p, data, steps=400, tolerance=1e-12)
        assert ascent.converged
        assert steepest(p, data) < 1e-5 < 1e-3 < before


def test_vectors_that_rows_know_in_part():
    x = holes(r(40, 3) @ r(3, 3))
    cpd = dg.LinearGaussian(r(3), scale_tril=torch.eye(3).double())
    ascent = em(dg.model(x=cpd), {"x": x}, steps=300, tolerance=1e-12)
    assert rising(ascent.log_evidence)
    p = dg.model(x=cpd)
    loss = dg.nll(p, partial=["x"]).losses({"x": x})["model"]
    slopes = torch.autograd.grad(loss, [*p.parameters()])
    assert all(slope.abs().max() < 1e-4 for slope in slopes)


def test_what_is_fixed_stays():
    x = r(30, 2)
    cpd = dg.LinearGaussian(r(2), torch.ones(2).double(), weights={"z": r(2)})
    assert cpd.log_scale is not None
    cpd.log_scale.requires_grad_(False)  # noqa: FBT003 - torch's own
    z = dg.LinearGaussian(torch.tensor(0.0).double(), 1.0).requires_grad_(False)  # noqa: FBT003 - torch's own
    ascent = em(dg.model(z=z, x=cpd), {"x": x}, steps=10, tolerance=0)
    assert rising(ascent.log_evidence)
    assert torch.equal(cpd.log_scale, torch.zeros(2).double())
    assert z.bias.item() == 0
    noise = dg.LinearGaussian(r(2), torch.ones(2).double())
    noise.bias.requires_grad_(False)  # noqa: FBT003 - torch's own
    before = noise.bias.clone()
    em(dg.model(x=noise), {"x": x})
    assert torch.equal(noise.bias, before)
    assert noise.log_scale is not None
    expected = (x - before).square().mean(0).detach()
    torch.testing.assert_close(noise.log_scale.exp().square().detach(), expected)


def test_functions_stay_functions():
    exact = dg.LinearGaussian(
        torch.ones(1).double(), torch.zeros(1), weights={"z": torch.tensor([2.0])}
    )
    z = dg.LinearGaussian(r(1)[0], 1.0)
    x = dg.LinearGaussian(r(1)[0], 1.0, weights={"y": torch.ones(1).double()})
    em(dg.model(z=z, y=exact, x=x), {"x": r(20)}, steps=5)
    same = {"x": r(20), "z": torch.full([20], 3.0).double()}  # which tell no slope
    em(dg.model(z=z, y=exact, x=x), same, steps=1)
    assert exact.affine().bias.item() == 1
    assert exact.affine().weights["z"].item() == 2
    assert exact.affine().scale.item() == 0


def test_single_precision_does_as_well():
    torch.manual_seed(5)
    x = torch.cat([torch.randn(50, 2) + 100, torch.randn(50, 2) + 105])
    p = dg.model(
        k=dg.Tabular([0.5, 0.5]),
        x=dg.LinearGaussian(
            torch.tensor([[99.0, 99.0], [106.0, 106.0]]), torch.ones(2, 2), given=["k"]
        ),
    )
    em(p, {"x": x})
    cpd = next(m for m in p.modules() if isinstance(m, dg.LinearGaussian))
    assert cpd.bias.dtype == torch.float32
    torch.testing.assert_close(cpd.bias[0], x[:50].mean(0), atol=0.02, rtol=0)
    scale = cpd.affine().scale[1].diagonal()
    torch.testing.assert_close(scale, x[50:].std(0, correction=0), atol=0.05, rtol=0)


def test_a_variance_stops_at_the_floor():
    cpd = dg.LinearGaussian(r(2), torch.ones(2).double())
    em(dg.model(x=cpd), {"x": torch.ones(5, 2).double()}, floor=1e-4)
    assert cpd.affine().scale.diagonal().tolist() == pytest.approx([1e-2, 1e-2])
    cpd = dg.LinearGaussian(r(2), scale_tril=torch.eye(2).double())
    em(dg.model(x=cpd), {"x": torch.ones(5, 2).double()}, floor=1e-4)
    torch.testing.assert_close(cpd.affine().scale.detach(), 1e-2 * torch.eye(2).double())


def test_collinear_parents_have_some_least_squares():
    u = r(20)
    both = torch.stack([u, u], 1)
    cpd = dg.LinearGaussian(r(1)[0], 1.0, weights={"u": r(2)})
    p = dg.model(u=dg.Input(2, dtype=torch.float64), x=cpd)
    em(p, {"u": both, "x": 3 * u + 1 + 0.1 * r(20)})
    assert cpd.weights[0].tolist() == pytest.approx([1.5, 1.5], abs=0.2)


# Refusals


class Learnt(dg.Model):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.k = dg.Tabular([0.5, 0.5])

    @dg.rv
    def z(self):
        return Normal(torch.zeros(1), 1.0)

    @dg.rv
    def x(self, z):
        return Normal(self.net(z), 1.0)


@pytest.mark.parametrize(
    ("p", "data", "options", "message"),
    [
        (lambda: Learnt(), {"x": torch.zeros(2, 1)}, {}, r"Learnt learns net\.weight.*dg\.nll"),
        (
            lambda: dg.model(x=Normal(0.0, 1.0)),
            {"x": torch.zeros(2)},
            {},
            r"nothing can be learnt: no dg\.Tabular",
        ),
        (lambda: Network().p, {"a": torch.zeros(0).long()}, {}, "the data is empty"),
        (lambda: Network().p, {"e": torch.zeros(3).long()}, {}, "no variable 'e'"),
        (lambda: Network().p, {"a": torch.zeros(3).long()}, {"steps": 0}, "steps is a whole"),
        (lambda: Network().p, {"a": torch.zeros(3).long()}, {"prior": -1.0}, "prior is a number"),
        (
            lambda: dg.model(a=dg.Tabular([0.0, 1.0]), b=dg.Tabular([0.5, 0.5])),
            {"a": torch.tensor([1, 1, 0]), "b": torch.zeros(3).long()},
            {},
            r"row 2 of the data has probability zero.*\{'a': 0, 'b': 0\}",
        ),
    ],
    ids=["net", "nothing", "empty", "unknown", "steps", "prior", "impossible"],
)
def test_what_em_cannot_do_is_refused(p, data, options, message):
    with pytest.raises(dg.GraphError, match=message):
        em(p(), data, **options)


def test_half_a_regression_is_refused():
    cpd = dg.LinearGaussian(0.0, 1.0, weights={"z": 1.0})
    cpd.bias.requires_grad_(False)  # noqa: FBT003 - torch's own
    p = dg.model(z=dg.LinearGaussian(0.0, 1.0), x=cpd)
    with pytest.raises(
        dg.InadmissibleError, match="x: of a linear Gaussian, EM moves bias and we"
    ):
        em(p, {"x": torch.zeros(3)})


def test_the_ascent_says_how_it_went():
    ascent = em(Network().p, states(20), steps=1)
    assert repr(ascent).startswith("Ascent(1 steps, not converged; log-evidence -")
