"""Likelihoods of chains as objectives, against enumeration and dense Gaussians."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Exponential,
    MultivariateNormal,
    Normal,
    Poisson,
)

import daguerre as dg
from daguerre.objectives.observations import read_data

NAN = math.nan
EVEN, WALK = Categorical(torch.ones(2)), Normal(0.0, 1.0)


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


class Tables(dg.Model):
    """z -> z', z -> x: three hidden and five seen states."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(r(3))
        self.move = dg.Tabular(r(3, 3).softmax(-1), "last")
        self.see = dg.Tabular(r(3, 5).softmax(-1), "z")

    @dg.rv
    def z(self, last=dg.lag("z", init=lambda self: Categorical(logits=self.first))):
        return self.move(last)

    @dg.rv
    def x(self, z):
        return self.see(z)


class Levels(Tables):
    """z -> z', z -> x: Gaussians in the plane for each of three hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.see = None
        self.mean, self.log_scale = nn.Parameter(2 * r(3, 2)), nn.Parameter(0.3 * r(3, 2))

    @dg.rv
    def x(self, z):
        return Normal(self.mean[z], self.log_scale[z].exp())


class Driven(Tables):
    """A net of the state, of an input and of the observation before."""

    u = dg.Input(2, dtype=torch.float64)

    def __init__(self) -> None:
        super().__init__()
        self.see = None
        self.net = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)).double()

    @dg.rv
    def x(self, z, u, last=dg.lag("x", init=0.3)):  # type: ignore[override]
        state = nn.functional.one_hot(z, 3).double()
        return Normal(self.net(torch.cat([state, u, last.unsqueeze(-1)], 1)).squeeze(1), 0.7)


class Tracker(dg.Model):
    """A point that moves in the plane, seen in three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(r(2))
        self.move, self.see = nn.Linear(2, 2).double(), nn.Linear(2, 3).double()
        self.log_noise, self.log_scale = nn.Parameter(0.3 * r(2)), nn.Parameter(0.3 * r(3))

    @dg.rv
    def z(self, last=dg.lag("z", init=lambda self: Normal(self.first, 1.0))):
        return Normal(self.move(last), self.log_noise.exp())

    @dg.rv
    def x(self, z):
        return Normal(self.see(z), self.log_scale.exp())


class Autoregression(dg.Model):
    """Nothing is hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    @dg.rv
    def x(self, last=dg.lag("x", init=0.5)):
        return Normal(self.slope * last, 1.5)


def score(law: torch.distributions.Distribution, value: Tensor) -> Tensor:
    """The log-probability of one value, 0 where it is missing."""
    if (value.isnan() if value.is_floating_point() else value < 0).all():
        return torch.zeros((), dtype=torch.float64)
    return law.log_prob(value).sum()


def enumerated(p: dg.Model, batch: dict[str, Tensor]) -> Tensor:
    """Sum over all paths of three hidden states."""
    assert isinstance(p, Tables)
    found = []
    for i, row in enumerate(batch["x"]):
        paths = []
        for path in itertools.product(range(3), repeat=len(row)):
            states = torch.tensor(path)
            total = p.first.log_softmax(0)[states[0]]
            total = total + p.move.probs.log()[states[:-1], states[1:]].sum()
            for t, z in enumerate(states[:, None]):
                before = [row[t - 1 : t] if t else row.new_full((1,), 0.3)]
                extra = [batch["u"][i, t : t + 1], *before] if "u" in batch else []
                total = total + score(p.x(z, *extra), row[t : t + 1])
            paths.append(total)
        found.append(torch.stack(paths).logsumexp(0))
    return torch.stack(found)


def dense(p: dg.Model, batch: dict[str, Tensor]) -> Tensor:
    """The marginal of all observations as one Gaussian."""
    assert isinstance(p, Tracker)
    x = batch["x"]
    steps = x.shape[1]
    mean, covariance = p.first, torch.eye(2, dtype=torch.float64)
    means, blocks = [mean], {(0, 0): covariance}
    noise = torch.diag((2 * p.log_noise).exp())
    for t in range(1, steps):
        means.append(p.move(means[-1]))
        for s in range(t):
            blocks[s, t] = blocks[s, t - 1] @ p.move.weight.mT
            blocks[t, s] = blocks[s, t].mT
        blocks[t, t] = p.move.weight @ blocks[t - 1, t - 1] @ p.move.weight.mT + noise
    whole = torch.cat([torch.cat([blocks[s, t] for t in range(steps)], 1) for s in range(steps)])
    see = torch.block_diag(*[p.see.weight] * steps)
    loc = torch.cat([p.see(m) for m in means])
    cov = see @ whole @ see.mT + torch.diag((2 * p.log_scale).exp().repeat(steps))
    found = []
    for row in x.flatten(1):
        has = ~row.isnan()
        found.append(MultivariateNormal(loc[has], cov[has][:, has]).log_prob(row[has]))
    return torch.stack(found)


def regressed(p: dg.Model, batch: dict[str, Tensor]) -> Tensor:
    assert isinstance(p, Autoregression)
    x = batch["x"]
    before = torch.cat([x.new_full((len(x), 1), 0.5), x[:, :-1]], 1)
    law = Normal(p.slope * before.nan_to_num(), 1.5)
    return torch.where(x.isnan(), 0.0, law.log_prob(x.nan_to_num())).sum(1)


class Case(NamedTuple):
    """A model, a batch of sequences, what misses steps, and the log-density of each."""

    p: dg.Model
    batch: dict[str, Tensor]
    partial: list[str]
    oracle: Callable[[dg.Model, dict[str, Tensor]], Tensor]


def gone(x: Tensor, *places: tuple[int | slice, ...]) -> Tensor:
    for place in places:
        x[place] = NAN if x.is_floating_point() else -1
    return x


KINDS: dict[str, Callable[[], Case]] = {
    "tables": lambda: Case(Tables(), {"x": torch.randint(5, (2, 4))}, [], enumerated),
    "tables with gaps": lambda: Case(
        Tables(),
        {"x": gone(torch.randint(5, (2, 4)), (0, 1), (1, slice(2, None)))},
        ["x"],
        enumerated,
    ),
    "levels": lambda: Case(
        Levels(), {"x": gone(2 * r(2, 4, 2), (0, 2), (1, slice(3, None)))}, ["x"], enumerated
    ),
    "driven": lambda: Case(Driven(), {"x": r(2, 4), "u": r(2, 4, 2)}, [], enumerated),
    "tracker": lambda: Case(
        Tracker(), {"x": gone(r(2, 5, 3), (0, 1), (0, 2, 1), (1, slice(4, None)))}, ["x"], dense
    ),
    "autoregression": lambda: Case(
        Autoregression(), {"x": gone(r(2, 5), (1, slice(3, None)))}, ["x"], regressed
    ),
}


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return KINDS[request.param]()


def objective_of(case: Case) -> dg.Objective:
    return dg.nll(case.p, observed=["x"], partial=case.partial)


def test_the_loss_is_that_of_the_whole_sequences(case: Case):
    loss = objective_of(case).losses(case.batch)["model"]
    expected = -case.oracle(case.p, case.batch).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    evidence = dg.log_evidence(case.p, case.batch)
    torch.testing.assert_close(loss, -evidence.mean(), rtol=1e-12, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences(case: Case):
    loss, step = objective_of(case), 1e-5
    parameters = [*case.p.parameters()]
    found = torch.autograd.grad(loss.losses(case.batch)["model"], parameters)
    for parameter, gradient in zip(parameters, found, strict=True):
        flat = parameter.detach().view(-1)
        for i in {0, flat.numel() - 1}:
            value = flat[i].item()
            ends = []
            for moved in (value - step, value + step):
                flat[i] = moved
                ends.append(loss.losses(case.batch)["model"].item())
            flat[i] = value
            slope = (ends[1] - ends[0]) / (2 * step)
            assert gradient.reshape(-1)[i].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_a_divergence_from_data_is_the_same():
    torch.manual_seed(0)
    p, x = Tables(), torch.randint(5, (3, 4))
    one, other = dg.KL(dg.data("x"), p["x"]), dg.nll(p, observed=["x"])
    assert torch.equal(one.losses(x)["model"], other.losses(x)["model"])


def test_observed_states_are_counted():
    torch.manual_seed(0)
    p, batch = Tables(), {"z": torch.randint(3, (2, 4)), "x": torch.randint(5, (2, 4))}
    z, x = batch["z"], batch["x"]
    expected = (
        p.first.log_softmax(0)[z[:, 0]]
        + p.move.probs.log()[z[:, :-1], z[:, 1:]].sum(1)
        + p.see.probs.log()[z, x].sum(1)
    )
    torch.testing.assert_close(dg.nll(p).losses(batch)["model"], -expected.mean())


def test_the_ledger_and_the_formula_say_what_is_scanned():
    torch.manual_seed(0)
    (row,) = dg.nll(Tables(), observed=["x"], partial="x").explain()
    assert row["term"] == "-log p(x[1:T])"
    assert row["estimator"] == "exact, by a scan over the steps of z"
    assert row["why"] == "hidden Markov model; sequences may lack steps of x"
    (row,) = dg.nll(Tracker(), observed=["x"]).explain()
    assert row["why"] == "Kalman smoother"
    row, _ = dg.nll(Autoregression()).explain()
    assert row["estimator"] == "exact, given the data"
    (row,) = dg.nll(Driven(), observed=["x"]).explain()
    assert row["term"] == "-log p(x[1:T] | u[1:T])"
    body = r"\prod_{t=1}^{T} p_\theta(z_{t} \mid z_{t-1})\, p_\theta(x_{t} \mid z_{t})"
    assert dg.nll(Tables(), observed=["x"]).latex() == (
        r"\min_{\theta}\; \mathbb{E}_{p_{\mathrm{data}}(x_{1:T})}"
        rf"\left[-\log \sum_{{z_{{1:T}}}} {body}\right]"
    )
    assert rf"\int {body}\, \mathrm{{d}}z_{{1:T}}" in dg.nll(Tracker(), observed=["x"]).latex()
    assert "z_{1:T}" not in dg.nll(Tables(), observed=["x"], partial="x").latex()


def test_it_is_listed_among_the_costs():
    torch.manual_seed(0)
    admitted = {row["cost"]: row for row in dg.objectives_for(Tables())}
    assert admitted["nll"]["admissible"] == "yes"
    assert admitted["nll"]["why"] == "exact, by a scan over the steps of z"
    assert admitted["elbo"]["admissible"] == "no"


def test_an_objective_of_a_chain_is_drawn():
    torch.manual_seed(0)
    assert "z" in str(dg.draw(dg.nll(Tables(), observed=["x"])))


def chain(emission: Callable[[Tensor], torch.distributions.Distribution]) -> dg.Model:
    table = torch.full((2, 2), 0.5)
    return dg.model(
        z=lambda last=dg.lag("z", init=EVEN): Categorical(table[last]),
        x=emission,
    )


REFUSED = {
    "opaque": (
        lambda: dg.model(
            z=lambda last=dg.lag("z", init=WALK): Normal(last.tanh(), 1.0),
            x=lambda z: Normal(z, 1.0),
        ),
        "the density of x over time is not exact.*not linear Gaussian in the hidden z.*dg.nll"
        " learns chains whose hidden variables are all finite, or all linear Gaussian",
    ),
    "switching": (
        lambda: dg.model(
            k=lambda last=dg.lag("k", init=EVEN): Categorical(torch.eye(2)[last] + 1.0),
            z=lambda k, last=dg.lag("z", init=WALK): Normal(last + k, 1.0),
            x=lambda z: Normal(z, 1.0),
        ),
        "a chain that switches has no exact posterior.*dg.nll learns chains",
    ),
    "a function": (
        lambda: dg.model(
            z=lambda last=dg.lag("z", init=WALK): Normal(last, 1.0),
            x=dg.deterministic(lambda z: 2 * z),
        ),
        "x is observed and deterministic, so it has no density",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_exact_likelihood_is_refused(what: str):
    build, message = REFUSED[what]
    with pytest.raises(dg.InadmissibleError, match=message):
        dg.nll(build(), observed=["x"])


def test_broken_cpds_are_found_without_data():
    with pytest.raises(dg.GraphError, match=r"x \(z -> x\)"):
        dg.nll(chain(lambda z: Normal(nn.Linear(3, 1)(z), 1.0)), observed=["x"])


def test_long_states_are_not_refused_before_the_length_is_known():
    first = Normal(torch.zeros(300), 1.0)
    wide = dg.model(
        z=lambda last=dg.lag("z", init=first): Normal(0.9 * last, 1.0),
        x=lambda z: Normal(z[:, 0], 1.0),
    )
    assert dg.nll(wide, observed=["x"]).losses(torch.zeros(1, 2))["model"].isfinite()


def test_data_are_checked():
    loss = dg.nll(chain(lambda z: Exponential(1.0 + z)), observed=["x"])
    with pytest.raises(ValueError, match=r"support of Exponential .* x = -1.0 at \[1, 2\]"):
        read_data(loss, {"x": gone(torch.ones(2, 3), (1, 2)).nan_to_num(nan=-1.0)})
    with pytest.raises(
        ValueError, match=r"NaN or infinite values in 1 of 2 rows.*partial=\['x'\]"
    ):
        read_data(loss, {"x": gone(torch.ones(2, 3), (1, 2))})
    for shape, came in (((2,), r"\[\] after \[n, t\], in all \[2\]"), ((2, 3, 1), r"\[1\]")):
        with pytest.raises(dg.GraphError, match=rf"event shape \[\], but the data has {came}"):
            loss.losses(torch.ones(*shape))
    counts = dg.nll(chain(lambda z: Poisson(1.0 + z)), observed=["x"])
    with pytest.raises(dg.GraphError, match=r"convert it with \.float"):
        counts.losses(torch.ones(2, 3, dtype=torch.long))
    with pytest.raises(dg.GraphError, match="'y' is partial, but not observed"):
        dg.nll(Tables(), observed=["x"], partial=["y"])


def test_a_compiled_step_is_refused():
    torch.manual_seed(0)
    with pytest.raises(dg.InadmissibleError, match="runs eagerly only"):
        dg.train.Step(dg.nll(Tables(), observed=["x"]), compile=True)


def drawn_regimes(n: int, steps: int) -> Tensor:
    """Sequences of a chain that stays with probability 0.95, at the levels -2 and 2."""
    g = torch.Generator().manual_seed(0)
    z = torch.randint(2, (n, 1), generator=g)
    leaves = torch.rand(n, steps - 1, generator=g) < 0.05
    z = torch.cat([z, (z + leaves.cumsum(1)) % 2], 1)
    return 4.0 * z - 2 + torch.randn(n, steps, generator=g)


class Regimes(dg.Model):
    """Two regimes of different level."""

    def __init__(self, stay: float, level: float) -> None:
        super().__init__()
        move = torch.tensor([[stay, 1 - stay], [1 - stay, stay]])
        self.move = dg.Tabular(move, "last")
        self.level = nn.Parameter(torch.tensor([-level, level]))

    @dg.rv
    def z(self, last=dg.lag("z", init=EVEN)):
        return self.move(last)

    @dg.rv
    def x(self, z):
        return Normal(self.level[z], 1.0)


def test_a_hidden_markov_model_reaches_the_likelihood_of_the_truth():
    x = drawn_regimes(24, 40)
    x[3, 25:] = NAN
    truth = dg.nll(Regimes(0.95, 2.0), observed=["x"], partial="x").losses(x)["model"]
    p = Regimes(0.6, 0.5)
    loss = dg.nll(p, observed=["x"], partial="x")
    before = loss.losses(x)["model"]
    history = dg.fit(loss, {"x": x}, steps=60, batch_size=12, lr=0.1, progress=False)
    after = loss.losses(x)["model"]
    assert not history.compiled
    assert before > truth + 10
    assert after < truth + 0.3
    assert p.move.probs[0, 0].item() == pytest.approx(0.95, abs=0.03)


class Walk(dg.Model):
    """A random walk, seen with noise."""

    def __init__(self) -> None:
        super().__init__()
        self.log_move, self.log_see = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    @dg.rv
    def z(self, last=dg.lag("z", init=0.0)):
        return Normal(last, self.log_move.exp())

    @dg.rv
    def x(self, z):
        return Normal(z, self.log_see.exp())


def test_the_noise_of_a_state_space_is_recovered():
    g = torch.Generator().manual_seed(0)
    z = 0.3 * torch.randn(16, 50, generator=g).cumsum(1)
    x = z + 2.0 * torch.randn(16, 50, generator=g)
    p = Walk()
    loss = dg.nll(p, observed=["x"])
    dg.fit(loss, {"x": x}, steps=80, lr=0.1, progress=False)
    assert p.log_move.exp().item() == pytest.approx(0.3, rel=0.25)
    assert p.log_see.exp().item() == pytest.approx(2.0, rel=0.1)
    found = loss.losses(x)["model"]
    with torch.no_grad():
        p.log_move.fill_(math.log(0.3))
        p.log_see.fill_(math.log(2.0))
    assert found < loss.losses(x)["model"]


def test_functions_that_lead_on_are_not_observed_by_default():
    torch.manual_seed(0)
    p = dg.model(
        h=dg.deterministic(
            lambda h_prev=dg.lag("h", init=0.0), x_prev=dg.lag("x", init=0.0): (
                0.5 * h_prev + x_prev
            )
        ),
        x=lambda before=dg.lag("h", init=1.0): Normal(before, 1.0),
    )
    loss, x = dg.nll(p), torch.randn(3, 4)
    assert loss.given == ("x",)
    torch.testing.assert_close(
        loss.losses(x)["model"], -dg.log_evidence(p, {"x": x}).mean(), rtol=1e-6, atol=1e-6
    )


def test_a_chain_in_double_precision_is_planned_in_it():
    def through(net: nn.Module, value: Tensor) -> Bernoulli:
        return Bernoulli(logits=net(value[:, None])[:, 0])

    p = dg.model(
        z=dg.rv(lambda net, last=dg.lag("z", init=0.0): through(net, last), net=nn.Linear(1, 1)),
        x=dg.rv(lambda z, net: through(net, z), net=nn.Linear(1, 1)),
    ).double()
    x = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    found = dg.nll(p, observed=["x"]).losses({"x": x})["model"]
    z = torch.cartesian_prod(*[torch.arange(2.0, dtype=torch.float64)] * 3)
    want = -p.log_prob({"z": z, "x": x.expand(8, 3)}).logsumexp(0)
    torch.testing.assert_close(found, want)
