"""EM of tables against counts and enumeration, what it leaves alone, and what it refuses."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from em_parts import Network, holes, r, rising, states, table
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.infer import em
from daguerre.infer.question import Question, plans


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
