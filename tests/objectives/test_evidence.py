"""Likelihoods of models with hidden variables, against enumeration and dense Gaussians."""

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Gamma, MultivariateNormal, Normal, OneHotCategorical

import daguerre as dg
from daguerre.infer import em
from daguerre.objectives.observations import read_data

NAN = float("nan")


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def table(*shape: int) -> Tensor:
    return r(*shape).softmax(-1)


class Mixture(dg.Model):
    """k -> x: five Gaussians in the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.weights, self.means = nn.Parameter(r(5)), nn.Parameter(2 * r(5, 2))
        self.log_scales = nn.Parameter(0.3 * r(5, 2))

    @dg.rv
    def k(self):
        return Categorical(logits=self.weights)

    @dg.rv
    def x(self, k):
        return Normal(self.means[k], self.log_scales[k].exp())


class Experts(dg.Model):
    """c -> k, (c, k) -> x: a mixture whose weights and means are nets of an input."""

    c = dg.Input(2, dtype=torch.float64)

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        self.mean = nn.Bilinear(2, 3, 1).double()

    @dg.rv
    def k(self, c):
        return Categorical(logits=self.gate(c))

    @dg.rv
    def x(self, c, k):
        state = nn.functional.one_hot(k, 3).double()
        return Normal(self.mean(c, state).squeeze(1), 0.5)


def network() -> dg.Model:
    """a -> b -> d <- c <- a, with two, three, five and seven states."""
    return dg.model(
        a=dg.Tabular(table(2)),
        b=dg.Tabular(table(2, 3), "a"),
        c=dg.Tabular(table(2, 5), "a"),
        d=dg.Tabular(table(3, 5, 7), "b", "c"),
    )


def factors() -> dg.Model:
    """z -> x: a factor analyser."""
    return dg.model(
        z=dg.LinearGaussian(r(2), r(2).exp()),
        x=dg.LinearGaussian(r(5), r(5).exp(), weights={"z": r(5, 2)}),
    )


def conditional() -> dg.Model:
    """k -> z -> x <- k: a mixture of factor analysers."""
    return dg.model(
        k=dg.Tabular(table(3)),
        z=dg.LinearGaussian(r(3, 2), r(3, 2).exp(), given=["k"]),
        x=dg.LinearGaussian(r(3, 4), r(3, 4).exp(), weights={"z": r(3, 4, 2)}, given=["k"]),
    )


def enumerated(p: dg.Model, values: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Tensor:
    """Sum the joint over all states of the variables that each row lacks."""
    rows = len(next(iter(values.values())))
    found = []
    for i in range(rows):
        row = {name: value[i : i + 1] for name, value in values.items()}
        lacks = [
            n for n in sizes if n not in row or bool(row[n].isnan().any() | (row[n] < 0).any())
        ]
        cells = itertools.product(*(range(sizes[n]) for n in lacks))
        logs = [
            p.log_prob({**row, **{n: torch.tensor([s]) for n, s in zip(lacks, c, strict=True)}})
            for c in cells
        ]
        found.append(torch.cat(logs).logsumexp(0))
    return torch.stack(found)


def dense(p: dg.Model, values: Mapping[str, Tensor], *, states: int = 0) -> Tensor:
    """The marginal of x = W z + b + noise, perhaps a mixture of such."""
    linear = [m.affine() for m in p.modules() if isinstance(m, dg.LinearGaussian)]
    logs = []
    for k in range(states) if states else (...,):
        z, x = ([t[k] for t in (a.bias, a.scale)] for a in linear)
        weight = linear[1].weights["z"][k]
        covariance = weight @ z[1] @ z[1].mT @ weight.mT + x[1] @ x[1].mT
        mean, rows = weight @ z[0] + x[0], values["x"]
        scores = []
        for row in rows:
            has = ~row.isnan()
            part = MultivariateNormal(mean[has], covariance[has][:, has])
            scores.append(part.log_prob(row[has]) if has.any() else mean.new_zeros(()))
        logs.append(torch.stack(scores))
    if not states:
        return logs[0]
    weights = next(m for m in p.modules() if isinstance(m, dg.Tabular)).probs.log()
    return (torch.stack(logs, 1) + weights).logsumexp(1)


class Case(NamedTuple):
    """A model, what is observed of it, a batch, and the log-density of its rows."""

    p: dg.Model
    observed: list[str]
    partial: list[str]
    batch: dict[str, Tensor]
    oracle: Callable[[dg.Model, Mapping[str, Tensor]], Tensor]


def holes(value: Tensor) -> Tensor:
    """Take some of the values away."""
    gone = torch.rand(value.shape) < 0.3
    return value.masked_fill(gone, NAN if value.is_floating_point() else -1)


SIZES = {"a": 2, "b": 3, "c": 5, "d": 7}
KINDS = {
    "mixture": lambda: Case(
        Mixture(), ["x"], [], {"x": 2 * r(6, 2)}, lambda p, v: enumerated(p, v, {"k": 5})
    ),
    "experts": lambda: Case(
        Experts(), ["x"], [], {"x": r(6), "c": r(6, 2)}, lambda p, v: enumerated(p, v, {"k": 3})
    ),
    "network": lambda: Case(
        network(),
        ["b", "d"],
        [],
        {"b": torch.randint(3, (6,)), "d": torch.randint(7, (6,))},
        lambda p, v: enumerated(p, v, SIZES),
    ),
    "network with holes": lambda: Case(
        network(),
        [*"abcd"],
        [*"abcd"],
        {n: holes(torch.randint(k, (12,))) for n, k in SIZES.items()},
        lambda p, v: enumerated(p, v, SIZES),
    ),
    "factors": lambda: Case(factors(), ["x"], [], {"x": r(6, 5)}, dense),
    "factors with holes": lambda: Case(factors(), ["x"], ["x"], {"x": holes(r(9, 5))}, dense),
    "conditional Gaussian": lambda: Case(
        conditional(), ["x"], [], {"x": r(6, 4)}, lambda p, v: dense(p, v, states=3)
    ),
    "conditional Gaussian with holes": lambda: Case(
        conditional(), ["x"], ["x"], {"x": holes(r(9, 4))}, lambda p, v: dense(p, v, states=3)
    ),
}
every = pytest.mark.parametrize("kind", KINDS)


@every
def test_value_and_gradient_are_those_of_the_marginal(kind):
    case = KINDS[kind]()
    cost = dg.nll(case.p, observed=case.observed, partial=case.partial)
    loss = cost.losses(case.batch)["model"]
    expected = -case.oracle(case.p, case.batch).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-11)
    parameters = [*case.p.parameters()]
    found = torch.autograd.grad(loss, parameters)
    wanted = torch.autograd.grad(expected, parameters, materialize_grads=True)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)


@every
def test_the_gradient_is_that_of_finite_differences(kind):
    case = KINDS[kind]()
    cost = dg.nll(case.p, observed=case.observed, partial=case.partial)
    parameters = [*case.p.parameters()]
    along = [torch.randn_like(q) for q in parameters]
    slope = torch.autograd.grad(cost.losses(case.batch)["model"], parameters)
    expected = sum((g * d).sum().item() for g, d in zip(slope, along, strict=True))
    ends, h = [], 1e-5
    with torch.no_grad():
        for sign in (1, -1):
            for q, d in zip(parameters, along, strict=True):
                q += sign * h * d
            ends.append(cost.losses(case.batch)["model"].item())
            for q, d in zip(parameters, along, strict=True):
                q -= sign * h * d
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(expected, rel=1e-6, abs=1e-8)


@every
def test_data_with_holes_pass_the_checks_of_a_fit(kind):
    case = KINDS[kind]()
    cost = dg.nll(case.p, observed=case.observed, partial=case.partial)
    assert read_data(cost, case.batch).keys() == case.batch.keys()
    history = dg.fit(cost, case.batch, steps=3, lr=0.01, batch_size=6, progress=False)
    assert history["model"].isfinite().all()
    assert not history.compiled


def test_kl_of_data_and_a_marginal_is_the_same_cost():
    p, x = Mixture(), r(6, 2)
    one, other = dg.KL(dg.data("x"), p["x"]), dg.nll(p, observed=["x"])
    assert one.losses(x) == other.losses(x)
    assert one.latex() == other.latex()


def test_what_is_fully_observed_keeps_its_terms():
    cost = dg.nll(network())
    assert "KL over a, b, c, d" in repr(cost)
    assert not cost.eager


def test_the_ledger_says_which_engine_takes_what():
    (row,) = dg.nll(Mixture(), observed=["x"]).explain()
    assert (row["term"], row["estimator"]) == ("-log p(x)", "exact, by elimination over k")
    (row,) = dg.nll(conditional(), observed=["x"]).explain()
    assert row["estimator"] == "exact, by Gaussian conditioning over z and elimination over k"
    (row,) = dg.nll(network(), observed=["a", "d"], partial="a").explain()
    assert row["term"] == "-log p(a, d)"
    assert row["why"].endswith("rows may lack a")
    (row,) = dg.nll(Experts(), observed=["x"]).explain()
    assert row["term"] == "-log p(x | c)"


def test_the_formula_names_sums_and_integrals():
    def body(p: dg.Model, **options: list[str]) -> str:
        return dg.nll(p, observed=["x"], **options).latex().split(r"\left[")[1]

    assert body(Mixture()) == r"-\log \sum_{k} p_\theta(k)\, p_\theta(x \mid k)\right]"
    assert body(conditional()) == (
        r"-\log \sum_{k} \int p_\theta(k)\, p_\theta(z \mid k)\, p_\theta(x \mid z, k)\,"
        r" \mathrm{d}z\right]"
    )
    assert body(Mixture(), partial=["x"]) == r"-\log p_\theta(x)\right]"


def test_it_is_listed_as_admissible():
    found = {row["cost"]: row for row in dg.objectives_for(Mixture())}
    assert found["nll"]["admissible"] == "yes"
    assert found["nll"]["why"] == "exact, by elimination over k"


def test_what_no_engine_takes_is_refused_with_the_reason_and_the_way_out():
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z.exp(), 1.0))
    message = (
        r"the density of x needs an integral over z, which is latent, and no exact engine takes"
        r" it: x is .*exp of a parent is not affine.*use dg\.elbo\(p, q\) or dg\.iwae"
    )
    with pytest.raises(dg.InadmissibleError, match=message):
        dg.nll(p, observed=["x"])
    p = dg.model(z=Gamma(1.0, 1.0), x=lambda z: Normal(z, 1.0))
    with pytest.raises(dg.InadmissibleError, match=r"z is .*Gamma is not Gaussian"):
        dg.nll(p, observed=["x"])
    p = dg.model(z=Normal(torch.zeros(10_000), 1.0), x=lambda z: Normal(z[:, 0], 1.0))
    with pytest.raises(dg.InadmissibleError, match="z has 10,000 components, more than 8,192"):
        dg.nll(p, observed=["x"])


def test_rows_may_lack_only_what_can_be_integrated_out():
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z.exp(), 1.0))
    assert dg.nll(p, partial=["x"]).losses({"z": torch.zeros(2), "x": torch.tensor([NAN, 1.0])})[
        "model"
    ].item() == pytest.approx(1.5 * 0.9189385, rel=1e-5)
    with pytest.raises(dg.InadmissibleError, match="density of x needs an integral over z"):
        dg.nll(p, partial=["z"])
    with pytest.raises(dg.GraphError, match="'y' is partial, but not observed"):
        dg.nll(p, partial=["y"])


def test_a_function_of_finite_variables_is_observed_and_any_other_is_refused():
    p = dg.model(
        a=dg.Tabular([0.25, 0.75]),
        b=dg.Tabular([0.5, 0.5]),
        either=dg.deterministic(lambda a, b: a | b),
    )
    loss = dg.nll(p, observed=["either"]).losses(torch.tensor([0, 1]))["model"]
    expected = -(torch.tensor([0.125, 0.875]).log()).mean()
    torch.testing.assert_close(loss, expected)
    p = dg.model(z=Normal(0.0, 1.0), x=dg.deterministic(lambda z: 2 * z))
    with pytest.raises(dg.InadmissibleError, match=r"x is implicit.*dg\.gan"):
        dg.nll(p, observed=["x"])


def test_an_input_without_a_shape_is_planned_when_there_are_data():
    p = dg.model(
        c=dg.Input(), k=dg.Tabular([0.5, 0.5]), x=lambda c, k: Normal(c.sum(1) * (1 + k), 1.0)
    )
    cost = dg.nll(p, observed=["x"])
    (row,) = cost.explain()
    assert row["why"] == "planned when there are data"
    c, x = torch.ones(3, 2), torch.zeros(3)
    expected = torch.stack([Normal(2.0 * s, 1.0).log_prob(x) for s in (1, 2)]).exp().mean(0)
    torch.testing.assert_close(cost.losses({"x": x, "c": c})["model"], -expected.log().mean())


def test_a_step_runs_eagerly_and_says_why_it_is_not_compiled():
    cost, x = dg.nll(Mixture(), observed=["x"]), r(4, 2)
    step = dg.train.Step(cost, optimizer=dg.Adam(lr=0.05))
    assert not step.compiled
    first = step(x)
    assert step(x) < first
    with pytest.raises(dg.InadmissibleError, match=r"runs eagerly only, for exact inference"):
        dg.train.Step(cost, compile=True)
    with pytest.raises(dg.InadmissibleError, match="runs eagerly only"):
        dg.fit(cost, x, steps=1, compile=True, progress=False)


def test_to_make_it_leaves_the_model_as_it_is():
    class Normed(dg.Model):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout())

        @dg.rv
        def z(self):
            return OneHotCategorical(torch.ones(3))

        @dg.rv
        def x(self, z):
            return Normal(self.net(z), 1.0)

    p = Normed()
    before, state = copy.deepcopy(p.state_dict()), torch.get_rng_state()
    dg.nll(p, observed=["x"])
    assert all(torch.equal(before[k], v) for k, v in p.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert p.training


def test_a_fixed_distribution_is_not_touched_by_the_check_of_shapes():
    prior = Categorical(torch.ones(3))
    dg.nll(dg.model(k=prior, x=lambda k: Normal(1.0 * k, 1.0)), observed=["x"])
    assert type(prior.logits) is Tensor


def test_a_fit_finds_the_best_mixture():
    sides = [r(60, 2) * 0.5 + 3, r(20, 2) - 3]  # so far apart that each row has one side
    p = dg.model(
        k=dg.Tabular(torch.tensor([0.5, 0.5], dtype=torch.float64)),
        x=dg.LinearGaussian(
            torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).double(), torch.ones(2, 2), given=["k"]
        ),
    )
    cost, x = dg.nll(p, observed=["x"]), torch.cat(sides)
    history = dg.fit(cost, x, steps=250, lr=0.1, batch_size=80, progress=False)
    scores = [Normal(v.mean(0), v.std(0, correction=0)).log_prob(v).sum() for v in sides]
    entropy = Categorical(torch.tensor([0.75, 0.25])).entropy().item()
    best = entropy - (scores[0] + scores[1]).item() / 80
    assert history["model"][0] > best + 3
    assert cost.losses(x)["model"].item() == pytest.approx(best, abs=2e-3)
    (table,) = (m for m in p.modules() if isinstance(m, dg.Tabular))
    assert table.probs.tolist() == pytest.approx([0.75, 0.25], abs=0.01)


def test_a_fit_and_em_find_the_same_tables():
    a, b = torch.rand(60) < 0.7, torch.rand(60)
    data = {"a": a.long(), "b": (b + 0.5 * a > 0.8).long()}
    data = {name: holes(value) for name, value in data.items()}

    def start() -> dg.Model:
        half = torch.full([2], 0.5, dtype=torch.float64)
        return dg.model(a=dg.Tabular(half), b=dg.Tabular(torch.stack([half, half]), "a"))

    one, other = start(), start()
    ascent = em(one, data, tolerance=1e-13, steps=500)
    cost = dg.nll(other, partial=["a", "b"])
    dg.fit(cost, data, steps=300, lr=0.05, batch_size=60, progress=False)
    assert cost.losses(data)["model"].item() == pytest.approx(
        -ascent.log_evidence[-1].item(), abs=1e-7
    )
    both = zip(one.modules(), other.modules(), strict=True)
    pairs = [
        (m.probs, n.probs)
        for m, n in both
        if isinstance(m, dg.Tabular) and isinstance(n, dg.Tabular)
    ]
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_rows_that_lack_nothing_cost_what_they_cost_in_full():
    p, data = network(), {n: torch.randint(k, (9,)) for n, k in SIZES.items()}
    some, full = dg.nll(p, partial=["b"]), dg.nll(p)
    torch.testing.assert_close(some.losses(data), full.losses(data))


def test_a_row_may_lack_components_where_the_cost_can_do_without_them():
    x = torch.tensor([[NAN, 1.0], [2.0, 3.0]], dtype=torch.float64)
    p = dg.model(x=dg.LinearGaussian(r(2), scale_tril=torch.eye(2)))
    assert read_data(dg.nll(p, partial=["x"]), x).keys() == {"x"}
    with pytest.raises(ValueError, match="x has NaN or infinite values in 1 of 2 rows"):
        read_data(dg.nll(p), x)
    p = dg.model(z=Normal(torch.zeros(2), 1.0), x=lambda z: Normal(z, 1.0))
    q = dg.model(x=dg.Input(2), z=lambda x: Normal(x, 1.0))
    with pytest.raises(ValueError, match="x has NaN or infinite values in 1 of 2 rows"):
        read_data(dg.elbo(p, q, partial=["x"]), x.float())
