"""Chains in plates against listing all states, and against the dense Gaussian."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal

import daguerre as dg
from chains import close
from daguerre.infer.distributions import Finite

F64 = torch.float64
SERIES, GROUP, SENSOR = dg.Plate("series"), dg.Plate("group"), dg.Plate("sensor")


def rv(function: Any) -> Any:
    return dg.rv(function)


class Patients(dg.Model):
    """Hidden Markov chains in a plate, below what is known of all: by step, and for all time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.move = torch.randn(3, 2, 2, dtype=F64)
        self.see = torch.randn(2, 5, dtype=F64)
        self.start = torch.randn(2, dtype=F64)

    @dg.rv
    def ward(self):
        return Categorical(logits=self.start)

    @dg.Plate("t")
    @dg.rv
    def season(self, last=dg.lag("season", init=0)):
        return Categorical(logits=self.move[:, :, 0].T[last.long() % 2])

    @SERIES
    @dg.Plate("t")
    @dg.rv
    def z(self, ward, season, last=dg.lag("z", init=1)):
        return Categorical(logits=self.move[season, last] + self.start * ward[:, None])

    @SERIES
    @dg.Plate("t")
    @dg.rv
    def x(self, z):
        return Categorical(logits=self.see[z])


def patients(n: int = 2, members: int = 2, t: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(1)
    drawn = Patients().sample(n, series=members, t=t)
    return {name: drawn[name] for name in ("ward", "season", "x")}


def every(p: dg.Model, given: dict[str, Tensor], shape: tuple[int, ...], states: int):
    """All states of z, `[paths, *shape]`, and their joint log-density with each row of given."""
    paths = itertools.product(range(states), repeat=math.prod(shape))
    z = torch.tensor([*paths]).reshape(-1, *shape)
    rows = []
    for i in range(len(given["x"])):
        known = {n: v[i : i + 1].expand(len(z), *v.shape[1:]) for n, v in given.items()}
        rows.append(p.log_prob({**known, "z": z}))
    return z, torch.stack(rows)


def test_members_are_rows_of_one_batch():
    p, given = Patients(), patients()
    z, joint = every(p, given, (2, 3), 2)
    found = dg.posterior(p, "z", given=given)
    close(found.log_evidence, joint.logsumexp(1))
    close(dg.log_evidence(p, given), joint.logsumexp(1))
    weights = joint.softmax(1)
    close(found.probs[..., 1], torch.einsum("np,pst->nst", weights, z.to(F64)))
    assert found["z"].batch_shape == (2, 2, 3)
    assert found.exact
    best = dg.most_probable(p, given=given)
    assert torch.equal(best.values["z"], z[joint.argmax(1)])
    close(best.log_prob, joint.amax(1))
    close(found.log_prob(z[[5, 9]]), weights[[0, 1], [5, 9]].log())


def test_what_all_members_share_for_all_time_is_summed_over():
    p, given = Patients(), patients()
    wards = [{**given, "ward": torch.full((2,), ward)} for ward in range(2)]
    each = torch.stack([dg.log_evidence(p, one) for one in wards])
    seen = {name: given[name] for name in ("season", "x")}
    found = dg.posterior(p, ["ward", "z"], given=seen)
    close(found.log_evidence, each.logsumexp(0))
    close(found["ward"].probs, each.softmax(0).T)
    probs = torch.stack([dg.posterior(p, "z", given=one).probs for one in wards])
    close(found["z"].probs, torch.einsum("wn,wnstk->nstk", each.softmax(0), probs))


def test_draws_have_the_posterior_of_whole_paths():
    p, given = Patients(), patients(1)
    z, joint = every(p, given, (2, 3), 2)
    torch.manual_seed(0)
    drawn = dg.sample_posterior(p, "z", 2_000, given=given)
    assert drawn.shape == (2_000, 1, 2, 3)
    place = (z.flatten(1) * 2 ** torch.arange(6)).sum(1)
    counts = (drawn.flatten(1) * 2 ** torch.arange(6)).sum(1).bincount(minlength=64)
    share, want = counts[place] / 2_000, joint.softmax(1)[0]
    assert float((share - want).abs().max()) < 5 * (0.25 / 2_000) ** 0.5  # five deviations


def test_gaps_and_ragged_ends_are_summed_over():
    p, given = Patients(), patients()
    x = given["x"].clone()
    x[0, 1, 1:], x[1, 0, 0] = -1, -1
    total = torch.zeros(2, dtype=F64)
    for i, gaps in enumerate(([(0, 1, 1), (0, 1, 2)], [(1, 0, 0)])):
        joints = []
        for filled in itertools.product(range(5), repeat=len(gaps)):
            full = x.clone()
            for place, value in zip(gaps, filled, strict=True):
                full[place] = value
            row = {n: v[i : i + 1] for n, v in {**given, "x": full}.items()}
            joints.append(every(p, row, (2, 3), 2)[1][0])
        total[i] = torch.cat(joints).logsumexp(0)
    close(dg.log_evidence(p, {**given, "x": x}), total)
    present = (x >= 0, given["x"])
    close(dg.log_evidence(p, {**given, "x": (present[1], present[0])}), total)


def test_the_plan_says_what_becomes_of_plates():
    plan = dg.explain(Patients(), "z", given=patients())
    assert plan.parts[0].engine == "members as rows"
    assert plan.parts[0].why == "2 of series: they share nothing that is unknown"
    assert plan.parts[0].variables == ("z", "x")
    assert plan.is_exact
    assert dg.explain(Patients(), "z", given=("ward", "season", "x")).is_exact


def test_gradients_reach_what_is_inside_and_outside():
    p, given = Patients(), patients()
    for name in ("move", "see", "start"):
        setattr(p, name, torch.nn.Parameter(getattr(p, name)))
    dg.log_evidence(p, given).sum().backward()
    found = [q.grad for q in p.parameters()]
    p.zero_grad()
    _, joint = every(p, given, (2, 3), 2)
    joint.logsumexp(1).sum().backward()
    for a, b in zip(found, (q.grad for q in p.parameters()), strict=True):
        assert a is not None
        assert b is not None
        close(a, b)


def test_the_likelihood_is_a_cost():
    p, given = Patients(), patients()
    cost = dg.nll(p, observed=["ward", "season", "x"])
    close(cost.losses(given)["model"], -dg.log_evidence(p, given).mean())
    x = given["x"].clone()
    x[0, 1, 1:] = -1
    some = dg.nll(p, observed=["ward", "season", "x"], partial="x")
    close(some.losses({**given, "x": x})["model"], -dg.log_evidence(p, {**given, "x": x}).mean())


class Sensors(dg.Model):
    """Linear states in two plates; several sensors see each, which share it."""

    u = GROUP(dg.Input())

    @GROUP
    @SERIES
    @dg.Plate("t")
    @dg.rv
    def z(self, u, last=dg.lag("z", init=Normal(torch.tensor([0.5, -1.0], dtype=F64), 1.5))):
        turn = last.new_tensor([[0.9, 0.3], [-0.2, 0.8]])
        return Normal(last @ turn + u[:, None], 0.7)

    @GROUP
    @SERIES
    @SENSOR
    @dg.Plate("t")
    @dg.rv
    def x(self, z):
        return Normal(z.sum(1), 1.3)


def dense(p: dg.Model, given: dict[str, Tensor], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, covariance and log-evidence of a Gaussian joint, from its Hessian, for one row."""

    def log_prob(flat: Tensor) -> Tensor:
        return p.log_prob({**given, "z": flat.reshape(like.shape)})[0]

    zero = torch.zeros(like.numel(), dtype=F64)
    hessian = -torch.autograd.functional.hessian(log_prob, zero)  # type: ignore[operator]
    slope = torch.autograd.functional.jacobian(log_prob, zero)
    covariance = torch.linalg.inv(hessian)  # type: ignore[arg-type]
    mean = covariance @ slope  # type: ignore[operator]
    half = 0.5 * like.numel() * math.log(2 * math.pi) - 0.5 * torch.logdet(hessian)  # type: ignore[arg-type]
    return mean.reshape(like.shape), covariance, log_prob(mean) + half


def test_states_that_sensors_share_are_written_out():
    torch.manual_seed(0)
    p = Sensors()
    given = {"u": torch.randn(1, 2, dtype=F64), "x": torch.randn(1, 2, 3, 2, 4, dtype=F64)}
    like = torch.zeros(1, 2, 3, 4, 2, dtype=F64)
    mean, covariance, log_evidence = dense(p, given, like)
    found = dg.posterior(p, "z", given=given)
    close(found.mean, mean)
    close(found.variance, covariance.diagonal().reshape(like.shape))
    close(found.log_evidence, log_evidence[None])
    close(dg.most_probable(p, given=given).values["z"], mean)
    words = str(dg.explain(p, "z", given=given))
    assert "2 of group, 3 of series" in words
    assert "2 of sensor" in words


class Shared(dg.Model):
    """A hidden chain above hidden chains of members: nothing can be folded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.see = torch.randn(2, 2, 3, dtype=F64), torch.randn(3, 2, dtype=F64)

    @dg.rv
    def top(self, last=dg.lag("top", init=0)):
        return Categorical(logits=self.table[last, :, 0])

    @SERIES
    @dg.rv
    def z(self, top, last=dg.lag("z", init=0)):
        return Categorical(logits=self.table[top, last % 2])

    @SERIES
    @dg.rv
    def x(self, z):
        return Categorical(logits=self.see[z])


def test_members_below_a_hidden_chain_are_variables_of_one_chain():
    p, x = Shared(), torch.tensor([[[0, 1], [1, 1]], [[1, 0], [-1, 0]]])
    found = dg.posterior(p, ["top", "z"], given={"x": x})
    top = torch.tensor([*itertools.product(range(2), repeat=2)])
    z = torch.tensor([*itertools.product(range(3), repeat=4)]).reshape(-1, 2, 2)
    whole = {"top": top.repeat(len(z), 1), "z": z.repeat_interleave(len(top), 0)}
    n = len(whole["top"])
    first = p.log_prob({**whole, "x": x[:1].expand(n, 2, 2)})
    second = torch.stack(
        [
            p.log_prob({**whole, "x": torch.tensor([[[1, 0], [k, 0]]]).expand(n, 2, 2)})
            for k in range(2)
        ]
    ).logsumexp(0)
    joint = torch.stack([first, second])
    close(found.log_evidence, joint.logsumexp(1))
    want = torch.einsum("np,pt->nt", joint.softmax(1), whole["top"].to(F64))
    close(found["top"].mean, want)
    want = torch.einsum("np,pst->nst", joint.softmax(1), whole["z"].to(F64))
    marginal = found["z"]
    assert isinstance(marginal, Finite)
    close(marginal.mean, want)
    drawn = found.sample(3)
    assert drawn["z"].shape == (3, 2, 2, 2)
    assert drawn["top"].shape == (3, 2, 2)


def test_particles_take_members_as_rows():
    p, given = Patients(), patients(1)
    torch.manual_seed(0)
    method = dg.infer.SMC(4000)
    found = dg.posterior(p, "z", given=given, method=method)
    exact = dg.posterior(p, "z", given=given)
    assert found["z"].batch_shape == (1, 2, 3)
    assert found.diagnostics["ess"].shape == (1, 2, 3)
    torch.testing.assert_close(found.probs.to(F64), exact.probs, atol=0.06, rtol=0)
    torch.testing.assert_close(found.log_evidence, exact.log_evidence, atol=0.2, rtol=0)
    assert "particles" in str(dg.explain(p, "z", given=given, method=method))


X = torch.zeros(1, 2, 3, dtype=torch.long)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"x": X, "ward": 0, "season": X[0, :1].repeat(1, 2)}, "the number of steps t differs"),
        ({"x": X[0, 0], "season": 0, "ward": 0}, r"x is \[n, series, t, \*event\]"),
        ({"ward": X[0, 0, :1], "season": 0, "x": 0}, "the number of steps t is not known"),
        ({"x": [["a"]], "season": 0, "ward": 0}, r"a Tensor \[B, \*plates, T, \*event\]"),
    ],
)
def test_bad_evidence_is_one_clear_error(given: Any, text: str):
    with pytest.raises(dg.GraphError, match=text):
        dg.posterior(Patients(), "z", given=given)
