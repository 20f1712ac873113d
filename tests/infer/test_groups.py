"""Questions to models with plates, against dense Gaussians and enumeration."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, HalfNormal, MultivariateNormal, Normal
from torch.distributions.transforms import ExpTransform

import daguerre as dg
from daguerre.infer import NUTS, Importance, LikelihoodWeighting
from daguerre.infer.approximate.unconstrained import unconstrained
from daguerre.infer.approximate.weighting import plan_weighting
from daguerre.infer.members import Spread
from daguerre.infer.question import Question

F64 = torch.float64
NAN = math.nan
ROW, COLUMN = dg.Plate("i"), dg.Plate("j")


def rv(function: Any) -> Any:
    return dg.rv(function)


def real(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def close(one: Tensor, other: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(one.detach(), other, rtol=tolerance, atol=tolerance)


def hierarchy() -> dg.Model:
    """Members drawn from one population, each seen with noise of its own."""
    return dg.model(
        sigma=ROW(dg.Input(dtype=F64)),
        mu=Normal(real(1.0), 5.0),
        theta=ROW(rv(lambda mu: Normal(mu, 2.0))),
        y=ROW(rv(lambda theta, sigma: Normal(theta, sigma))),
    )


def conditioned(
    mean: Tensor, cov: Tensor, seen: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Condition a dense Gaussian: mean and covariance of all, and the density of what is seen."""
    gain = torch.linalg.solve(cov[seen][:, seen], cov[seen]).T
    dense = MultivariateNormal(mean[seen], cov[seen][:, seen])
    return mean + gain @ (value - mean[seen]), cov - gain @ cov[seen], dense.log_prob(value)


# Hierarchical normal


@pytest.mark.parametrize("lacks", [[], [1], [0, 2, 3]])
def test_a_hierarchical_normal_is_a_dense_gaussian(lacks: list[int]):
    y, sigma = torch.tensor([2.0, -1.0, 0.5, 4.0], dtype=F64), torch.rand(4, dtype=F64) + 0.5
    ones = torch.ones(4, 4, dtype=F64)
    theta = 25 * ones + 4 * torch.eye(4, dtype=F64)
    column = torch.full((4, 1), 25.0, dtype=F64)
    cov = torch.cat(
        [
            torch.cat([real(25.0).reshape(1, 1), column.T, column.T], 1),
            torch.cat([column, theta, theta], 1),
            torch.cat([column, theta, theta + sigma.square().diag()], 1),
        ]
    )
    kept = [i for i in range(4) if i not in lacks]
    mean, covariance, log = conditioned(
        torch.ones(9, dtype=F64), cov, torch.tensor(kept) + 5, y[kept]
    )
    holed = y.index_fill(0, torch.tensor(lacks, dtype=torch.long), NAN)
    given = {"y": holed[None], "sigma": sigma[None]}
    found = dg.posterior(hierarchy(), ["theta", "mu"], given=given)
    assert found.exact
    assert found["theta"].batch_shape == (1, 4)
    close(found.mean["mu"][0], mean[0])
    close(found.mean["theta"][0], mean[1:5])
    close(found.variance["theta"][0], covariance.diagonal()[1:5])
    close(found.log_evidence[0], log)
    close(dg.log_evidence(hierarchy(), given)[0], log)
    at = {"mu": torch.zeros(1, dtype=F64), "theta": torch.rand(1, 4, dtype=F64)}
    both = MultivariateNormal(mean[:5], covariance[:5, :5])
    close(found.log_prob(at)[0], both.log_prob(torch.cat([at["mu"], at["theta"][0]])))


def test_rows_are_data_sets_and_draws_have_the_joint_moments():
    torch.manual_seed(0)
    y, p = torch.randn(3, 4, dtype=F64), hierarchy()
    given = {"y": y, "sigma": 1.0}
    found = dg.posterior(p, ["mu", "theta"], given=given)
    alone = [
        dg.posterior(p, "theta", given={"y": row[None], "sigma": torch.ones(1, 4, dtype=F64)})
        for row in y
    ]
    close(found.mean["theta"], torch.cat([one.mean for one in alone]))
    draws = found.sample(20_000)
    assert draws["theta"].shape == (20_000, 3, 4)
    for name in ("mu", "theta"):  # 15 means: one fails by chance in 20,000 runs
        error = (found.variance[name] / 20_000).sqrt()
        assert ((draws[name].mean(0) - found.mean[name]).abs() < 4.9 * error).all()
    pair = torch.stack([draws["mu"][:, 0], draws["theta"][:, 0, 2]])
    # given theta_i the members y_i add nothing, so cov(mu, theta) = var(mu) * slope of theta on mu
    want = (found.variance["mu"][0] * (1 / 4) / (1 / 4 + 1)).item()
    assert torch.cov(pair)[0, 1].item() == pytest.approx(want, rel=0.2)


def test_gradients_of_the_evidence_reach_the_parameters():
    spread = torch.nn.Parameter(real(0.3))

    class Population(dg.Model):
        def __init__(self):
            super().__init__()
            self.log_tau = spread

        @ROW
        @dg.rv
        def theta(self):
            return Normal(real(0.0), self.log_tau.exp())

        @ROW
        @dg.rv
        def y(self, theta: Tensor):
            return Normal(theta, 1.0)

    y = torch.tensor([[1.0, -2.0, 0.5]], dtype=F64)
    dg.log_evidence(Population(), {"y": y}).sum().backward()
    log_tau = real(0.3).requires_grad_()
    Normal(0.0, (1 + (2 * log_tau).exp()).sqrt()).log_prob(y).sum().backward()
    assert spread.grad is not None
    assert log_tau.grad is not None
    close(spread.grad, log_tau.grad)


# Crossing plates


def crossing() -> dg.Model:
    """Rows and columns of a table each have an effect."""
    return dg.model(
        a=ROW(rv(lambda: Normal(real(0.0), 1.5))),
        b=COLUMN(rv(lambda: Normal(real(1.0), 0.7))),
        x=ROW(COLUMN(rv(lambda a, b: Normal(a - 2 * b, 0.5)))),
    )


@pytest.mark.parametrize("holed", [False, True])
def test_two_crossing_plates_are_a_dense_gaussian(holed: bool):  # noqa: FBT001
    torch.manual_seed(1)
    x = torch.randn(2, 3, 4, dtype=F64)
    rows, columns = torch.eye(3, dtype=F64), torch.eye(4, dtype=F64)
    design = torch.cat(
        [rows.repeat_interleave(4, 0), -2 * columns.repeat(3, 1)], 1
    )  # x = design @ (a, b) + noise
    mean = torch.tensor([0.0] * 3 + [1.0] * 4, dtype=F64)
    prior = torch.tensor([1.5**2] * 3 + [0.7**2] * 4, dtype=F64).diag()
    cross = prior @ design.T
    cov = torch.cat(
        [
            torch.cat([prior, cross], 1),
            torch.cat([cross.T, design @ cross + 0.25 * torch.eye(12, dtype=F64)], 1),
        ]
    )
    kept = torch.ones(12, dtype=torch.bool)
    kept[[2, 7, 8]] = not holed
    value = torch.where(kept.reshape(3, 4), x, NAN)
    found = dg.posterior(crossing(), ["a", "b"], given={"x": value})
    whole = torch.cat([mean, design @ mean])
    seen = kept.nonzero().squeeze(1)
    for row in range(2):
        m, c, log = conditioned(whole, cov, seen + 7, x[row].flatten()[seen])
        close(torch.cat([found.mean["a"][row], found.mean["b"][row]]), m[:7])
        variance = torch.cat([found.variance["a"][row], found.variance["b"][row]])
        close(variance, c.diagonal()[:7])
        close(found.log_evidence[row], log)


def test_members_that_know_different_parents_are_read_as_each_one_is():
    p = dg.model(
        w=Normal(real(0.0), 1.0),
        x=ROW(rv(lambda w: Normal(-w, 0.8))),
        y=ROW(rv(lambda w, x: Normal(2 * x + w, 0.5))),
    )
    x = torch.tensor([[0.3, NAN, -1.0, NAN]], dtype=F64)
    y = torch.tensor([[1.0, 0.2, NAN, -0.7]], dtype=F64)
    alone = dg.model(
        w=Normal(real(0.0), 1.0),
        x0=lambda w: Normal(-w, 0.8),
        x1=lambda w: Normal(-w, 0.8),
        x3=lambda w: Normal(-w, 0.8),
        x2=lambda w: Normal(-w, 0.8),
        y0=lambda w, x0: Normal(2 * x0 + w, 0.5),
        y1=lambda w, x1: Normal(2 * x1 + w, 0.5),
        y3=lambda w, x3: Normal(2 * x3 + w, 0.5),
    )
    found = dg.posterior(p, "w", given={"x": x, "y": y})
    given = {"x0": x[:, 0], "x2": x[:, 2], "y0": y[:, 0], "y1": y[:, 1], "y3": y[:, 3]}
    want = dg.posterior(alone, "w", given=given)
    close(found.mean, want.mean)
    close(found.variance, want.variance)
    close(found.log_evidence, want.log_evidence)


# Finite variables


class Wards(dg.Model):
    """A season, states of wards, and of beds in wards: nested plates of primes."""

    ward, bed = dg.Plate("ward", 2), dg.Plate("bed", 3)

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.of_ward = torch.nn.Parameter(torch.randn(3, 2, dtype=F64))
        self.of_bed = torch.nn.Parameter(torch.randn(2, dtype=F64))

    @dg.rv
    def season(self):
        return Categorical(torch.tensor([0.2, 0.5, 0.3], dtype=F64))

    @ward
    @dg.rv
    def state(self, season: Tensor):
        return Categorical(logits=self.of_ward[season])

    @ward
    @bed
    @dg.rv
    def ill(self, state: Tensor):
        return Bernoulli(logits=self.of_bed[state])


def enumerated(p: dg.Model, ill: Tensor) -> dict[tuple[int, ...], float]:
    """The joint with each (season, state, state), by log_prob; NaN is summed out."""
    table: dict[tuple[int, ...], float] = {}
    lacks = ill.isnan().nonzero().tolist()
    for season, one, two in itertools.product(range(3), range(2), range(2)):
        for bits in itertools.product([0.0, 1.0], repeat=len(lacks)):
            value = ill.clone()
            for (i, j), bit in zip(lacks, bits, strict=True):
                value[i, j] = bit
            values = {"season": torch.tensor([season]), "state": torch.tensor([[one, two]])}
            log = p.log_prob({**values, "ill": value[None]})
            key = (season, one, two)
            table[key] = table.get(key, 0.0) + log.exp().item()
    return table


@pytest.mark.parametrize("lacks", [[], [(0, 1), (1, 2)]])
def test_nested_plates_of_finite_variables_are_enumerated(lacks: list[tuple[int, int]]):
    p = Wards()
    ill = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=F64)
    for place in lacks:
        ill[place] = NAN
    table = enumerated(p, ill)
    total = sum(table.values())
    found = dg.posterior(p, ["season", "state"], given={"ill": ill[None]})
    close(found.log_evidence[0], real(math.log(total)))
    assert found["state"].probs.shape == (1, 2, 2)
    for ward in range(2):
        share = sum(v for k, v in table.items() if k[1 + ward] == 1) / total
        assert found["state"].probs[0, ward, 1].item() == pytest.approx(share, abs=1e-9)
    share = sum(v for k, v in table.items() if k[0] == 2) / total
    assert found["season"].probs[0, 2].item() == pytest.approx(share, abs=1e-9)
    joint = found.log_prob({"season": torch.tensor([2]), "state": torch.tensor([[1, 0]])})
    assert joint.exp().item() == pytest.approx(table[2, 1, 0] / total, abs=1e-9)
    best = dg.most_probable(p, ["season", "state"], given={"ill": ill[None]})
    season, one, two = max(table, key=lambda key: table[key])
    assert best.values["season"].tolist() == [season]
    assert best.values["state"].tolist() == [[one, two]]
    assert best.log_prob.exp().item() == pytest.approx(table[season, one, two], abs=1e-9)


def test_tables_and_linear_gaussians_name_the_parents_of_members():
    p = dg.model(
        k=dg.Tabular([0.3, 0.7]),
        s=ROW(dg.Tabular([[0.9, 0.1], [0.2, 0.8]], "k")),
        z=ROW(dg.LinearGaussian([0.0, 3.0], [1.0, 0.5], given=["s"])),
        x=ROW(dg.LinearGaussian(0.5, 0.1, weights={"z": 2.0})),
    )
    x = torch.tensor([[0.4, 7.0]])
    found = dg.posterior(p, ["k", "s", "z"], given={"x": x})
    mean = {0: 0.5, 1: 6.5}
    spread = {0: (4 + 0.01) ** 0.5, 1: (1 + 0.01) ** 0.5}
    chance = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    log = torch.stack([Normal(mean[s], spread[s]).log_prob(x[0]) for s in (0, 1)], 1)  # [i, s]
    weight = torch.tensor([0.3, 0.7])[:, None, None] * chance[:, None] * log.exp()  # [k, i, s]
    joint = weight.sum(2).prod(1) / torch.tensor([0.3, 0.7])
    torch.testing.assert_close(found["k"].probs[0].detach(), joint / joint.sum())
    torch.testing.assert_close(found.log_evidence[0].detach(), joint.sum().log())
    assert found.mean["z"].shape == (1, 2)
    assert found.mean["z"][0, 1].item() == pytest.approx(3.25, abs=0.02)


# Approximate answers


def test_weights_and_proposals_agree_with_the_exact_answer():
    p = hierarchy()
    given = {
        "y": torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.3, 3.0]], dtype=F64),
        "sigma": torch.full((2, 3), 1.5, dtype=F64),
    }
    exact = dg.posterior(p, ["mu", "theta"], given=given)
    q = dg.model(
        y=ROW(dg.Input(dtype=F64)),
        mu=Normal(real(1.0), 2.5),
        theta=ROW(rv(lambda mu, y: Normal(0.4 * mu + 0.6 * y, 1.5))),
    )
    torch.manual_seed(0)
    answers = (
        dg.posterior(p, ["mu", "theta"], given=given, method=LikelihoodWeighting(40_000)),
        dg.posterior(p, ["mu", "theta"], given=given, q=q, method=Importance(20_000)),
    )
    for found in answers:
        assert not found.exact
        assert found["theta"].batch_shape == (2, 3)
        error = found.diagnostics["log_evidence_stderr"]
        assert ((found.log_evidence - exact.log_evidence).abs() < 5 * error).all()
        for name in ("mu", "theta"):
            size = found.diagnostics["ess"].reshape(2, *[1] * (exact.mean[name].dim() - 1))
            error = (exact.variance[name] / size).sqrt()
            assert ((found.mean[name] - exact.mean[name]).abs() < 5 * error).all()
        assert found.sample(7)["theta"].shape == (7, 2, 3)


def test_what_has_no_exact_answer_is_weighted_and_members_that_lack_values_are_drawn():
    p = dg.model(
        tau=HalfNormal(real(1.0)),
        theta=ROW(rv(lambda tau: Normal(0 * tau, tau))),
        y=ROW(rv(lambda theta: Normal(theta, 1.0))),
    )
    y = torch.tensor([[2.0, NAN, -2.5]], dtype=F64)
    torch.manual_seed(0)
    found = dg.posterior(p, ["tau", "theta"], given={"y": y})
    assert "likelihood weighting" in found.method
    tau = torch.linspace(1e-4, 8, 4001, dtype=F64)
    log = HalfNormal(real(1.0)).log_prob(tau)
    for value in (2.0, -2.5):
        log = log + Normal(0.0, (1 + tau.square()).sqrt()).log_prob(real(value))
    weights = log.softmax(0)
    assert found.mean["tau"].item() == pytest.approx((weights @ tau).item(), abs=0.05)
    shrunk = (weights @ (tau.square() / (1 + tau.square()))).item()
    assert found.mean["theta"][0, 0].item() == pytest.approx(2.0 * shrunk, abs=0.08)
    assert found.mean["theta"][0, 1].item() == pytest.approx(0.0, abs=0.08)
    with pytest.raises(dg.InadmissibleError, match="tau is neither finite nor linear Gaussian"):
        dg.posterior(p, "tau", given={"y": y}, exact=True)


def test_the_density_of_free_numbers_is_that_of_the_model_over_plates():
    p = dg.model(
        tau=HalfNormal(real(1.0)),
        theta=ROW(rv(lambda tau: Normal(torch.stack([tau, -tau], 1), 1.0))),
        y=ROW(COLUMN(rv(lambda theta: Normal(theta.sum(1), 1.0)))),
    )
    y = torch.randn(1, 3, 4, dtype=F64)
    question = Question.of(p, ["theta", "tau"], {"y": y})
    target = unconstrained(plan_weighting(question), question.evidence)
    assert target.size == 1 + 3 * 2
    found = target.run(torch.randn(5, target.size, dtype=F64))
    assert found.values["theta"].shape == (5, 3, 2)
    values = {**found.values, "y": y.expand(5, 3, 4)}
    log = p.log_prob(values) + found.values["tau"].log()  # exp is what makes tau positive
    torch.testing.assert_close(torch.as_tensor(found.log_weight), log)


def test_bijections_of_members_are_inverted_by_draws_and_by_exact_answers():
    p = dg.model(
        mu=Normal(real(0.0), 1.0),
        z=ROW(rv(lambda mu: Normal(mu, 1.0))),
        x=ROW(dg.bijection("z", ExpTransform())),
    )
    x = torch.tensor([[1.0, 2.0, 0.4]], dtype=F64)
    dense = MultivariateNormal(
        torch.zeros(3, dtype=F64), torch.ones(3, 3, dtype=F64) + torch.eye(3, dtype=F64)
    )
    want = dense.log_prob(x.log()) - x.log().sum(1)
    close(dg.log_evidence(p, {"x": x}), want)
    found = dg.posterior(p, "mu", given={"x": x}, method=LikelihoodWeighting(20_000))
    error = found.diagnostics["log_evidence_stderr"]
    assert ((found.log_evidence - want).abs() < 5 * error).all()


@pytest.mark.slow
def test_nuts_moves_members_beside_what_they_share():
    pytest.importorskip("nutpie", reason="needs the extra mcmc")
    p, y = hierarchy(), torch.tensor([[1.0, 2.0, NAN]], dtype=F64)
    given = {"y": y, "sigma": 1.0}
    exact = dg.posterior(p, ["mu", "theta"], given=given)
    method = NUTS(draws=150, tune=100, chains=2, seed=1)
    found = dg.posterior(p, ["mu", "theta"], given=given, method=method)
    assert found["theta"].batch_shape == (1, 3)
    for name in ("mu", "theta"):
        error = (exact.variance[name] / found.diagnostics["ess"][name]).sqrt()
        assert ((found.mean[name] - exact.mean[name]).abs() < 4.5 * error).all()
    assert found.diagnostics["ess"]["theta"].shape == (1, 3)


# Plans, and the model with its plates written out


def test_a_plan_says_what_is_written_out():
    p = hierarchy()
    plan = dg.explain(p, "mu", given=["y", "sigma"])
    assert plan.is_exact
    assert plan.parts[0].engine == "writing plates out"
    assert "2 of i" in plan.parts[0].why
    three = {"y": torch.zeros(1, 3, dtype=F64), "sigma": torch.ones(1, 3, dtype=F64)}
    assert "3 of i" in dg.explain(p, "mu", given=three).parts[0].why
    assert "y[2]" in dg.explain(p, "mu", given=three).parts[1].variables
    drawn = dg.explain(p, "mu", given=["y", "sigma"], method=NUTS())
    assert drawn.parts[0].variables == ("mu", "theta")


def test_a_spread_model_has_the_density_of_the_one_with_plates():
    p = crossing()
    values = p.sample(5, i=3, j=2)
    spread = Spread(p, {"i": 3, "j": 2})
    close(spread.log_prob(spread.apart(values)), p.log_prob(values))
    assert dg.independent(spread, "a[0]", "a[1]", given=["b[0]", "b[1]"])
    assert not dg.independent(spread, "a[0]", "a[1]", given=["x[0,0]", "x[1,0]"])


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (
            lambda: dg.posterior(crossing(), "a", given={}),
            "size of the plate i is not known",
        ),
        (
            lambda: dg.posterior(hierarchy(), "mu", given={"y": torch.zeros(8), "sigma": 1.0}),
            r"y is \[n, i, \*event\].* not the shape \[8\]; one example is y\[None\]",
        ),
        (
            lambda: dg.posterior(
                hierarchy(), "mu", given={"y": torch.zeros(1, 3), "sigma": torch.ones(1, 4)}
            ),
            r"size of the plate i differs: 3 \(that of y\), 4 \(that of sigma\)",
        ),
        (
            lambda: dg.posterior(Wards(), "season", given={"ill": torch.zeros(1, 2, 4)}),
            r"size of the plate bed differs: 3 .*, 4 \(that of ill\)",
        ),
        (
            lambda: dg.posterior(
                Wards(), "season", given={"ill": (torch.zeros(1, 2, 3), torch.ones(1, 2, 3))}
            ),
            r"a bool Tensor \[rows\], with plates \[rows, \*plates\], not torch.float32",
        ),
        (
            lambda: dg.posterior(Wards(), "season", soft={"state": torch.ones(1, 2)}),
            "soft evidence on state, which repeats in ward",
        ),
        (
            lambda: dg.posterior(
                hierarchy(), "mu", given={"y": torch.zeros(1, 5000), "sigma": 1.0}, exact=True
            ),
            "would write out 15,001 members",
        ),
        (lambda: Spread(crossing(), {"i": 2}), "the size of the plate j is not known"),
        (lambda: Spread(crossing(), {"i": 2, "k": 2}), "no plate 'k'"),
        (lambda: Spread(Wards(), {"ward": 3}), "declared with the size 2, not 3"),
    ],
)
def test_bad_input_is_one_clear_error(ask: Any, text: str):
    with pytest.raises(dg.GraphError, match=text):
        ask()


def test_a_mask_says_which_members_have_a_value():
    p = Wards()
    ill = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]], dtype=F64)
    present = torch.tensor([[[True, False, True], [True, True, False]]])
    masked = dg.log_evidence(p, {"ill": (ill, present)})
    close(masked, dg.log_evidence(p, {"ill": ill.masked_fill(~present, NAN)}).detach())
