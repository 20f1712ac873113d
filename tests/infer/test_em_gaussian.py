"""EM of linear Gaussians against least squares, EM written out in numpy, and dense moments."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from em_parts import Network, holes, r, rising, states, table
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

import daguerre as dg
from daguerre.infer import em
from daguerre.infer.question import Question, plans
from daguerre.infer.statistics import Statistics


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
