"""What is unknown and holds for all time, against listing all states and all paths."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical

import daguerre as dg
from chains import close
from daguerre.infer.gaussian.distributions import GaussianMixture

F64 = torch.float64
TIME, SERIES, PART = dg.Plate("t"), dg.Plate("series"), dg.Plate("part")
STEPS = 3


class Patients(dg.Model):
    """Chains h of one kind c each; the ward g is known beforehand, a test y of the kind after."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = torch.nn.Parameter(torch.randn(3, 2, dtype=F64))
        self.move = torch.nn.Parameter(torch.randn(2, 5, 5, dtype=F64))
        self.see = torch.nn.Parameter(torch.randn(2, 5, dtype=F64))

    @dg.rv
    def g(self):
        return Categorical(logits=self.mix[:, 0])

    @SERIES
    @dg.rv
    def c(self, g):
        return Categorical(logits=self.mix[g])

    @SERIES
    @dg.rv
    def y(self, c):
        return Normal(self.see[c, 0], 1.0)

    @SERIES
    @TIME
    @dg.rv
    def h(self, c, last=dg.lag("h", init=0)):
        return Categorical(logits=self.move[c, last])

    @SERIES
    @TIME
    @dg.rv
    def x(self, c, h):
        return Normal(self.see[c, h], 0.5)


def patients() -> tuple[Patients, dict[str, Tensor]]:
    p = Patients()
    torch.manual_seed(1)
    drawn = p.sample(2, series=2, t=STEPS)
    return p, {name: drawn[name].detach() for name in ("g", "y", "x")}


def listed(p: Patients, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Paths `[625 / 5, T]`, and the joint log-density of each patient's kind and path, `[2, 2, 2,
    125]`, without that of the ward."""
    paths = torch.tensor([*itertools.product(range(5), repeat=STEPS)])
    found = []
    for kind in range(2):
        c = torch.full((len(paths), 1), kind)
        for i, j in itertools.product(range(2), repeat=2):
            row = {
                "g": given["g"][i].expand(len(paths)),
                "y": given["y"][i, j].expand(len(paths), 1),
                "x": given["x"][i, j].expand(len(paths), 1, STEPS),
            }
            alone = p.mix[:, 0].log_softmax(0)[given["g"][i]]
            found.append(p.log_prob({**row, "c": c, "h": paths[:, None]}) - alone)
    return paths, torch.stack(found).unflatten(0, (2, 2, 2)).permute(1, 2, 0, 3)


def test_kinds_of_sequences_are_summed_over():
    p, given = patients()
    paths, joint = listed(p, given)
    each = joint.flatten(2)
    found = dg.posterior(p, ["c", "h"], given=given)
    outside = p.mix[:, 0].log_softmax(0)[given["g"]]
    close(found.log_evidence, each.logsumexp(2).sum(1) + outside)
    close(dg.log_evidence(p, given), found.log_evidence)
    weights = each.softmax(2).unflatten(2, (2, -1))
    close(found["c"].probs, weights.sum(3))
    path = torch.nn.functional.one_hot(paths, 5).to(F64)
    close(found["h"].probs, torch.einsum("nsch,htk->nstk", weights, path))
    assert found["c"].batch_shape == (2, 2)
    assert found["h"].batch_shape == (2, 2, STEPS)
    assert found.exact
    close(dg.posterior(p, "c", given=given).probs, weights.sum(3))
    close(dg.posterior(p, "h", given=given).probs, found["h"].probs)


def test_densities_and_draws_are_of_kinds_and_paths_together():
    p, given = patients()
    paths, joint = listed(p, given)
    weights = joint.flatten(2).log_softmax(2).unflatten(2, (2, -1))
    found = dg.posterior(p, ["c", "h"], given=given)
    c, number = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[3, 100], [77, 0]])
    both = [weights[:, j][[0, 1], c[:, j], number[:, j]] for j in range(2)]
    close(found.log_prob({"c": c, "h": paths[number]}), torch.stack(both).sum(0))
    alone = dg.posterior(p, "h", given=given)
    both = [weights[:, j].logsumexp(1)[[0, 1], number[:, j]] for j in range(2)]
    close(alone.log_prob(paths[number]), torch.stack(both).sum(0))
    torch.manual_seed(0)
    drawn = found.sample(4_000)
    assert drawn["c"].shape == (4_000, 2, 2)
    assert drawn["h"].shape == (4_000, 2, 2, STEPS)
    place = (drawn["h"] * torch.tensor([25, 5, 1])).sum(-1) + 125 * drawn["c"]
    for i, j in itertools.product(range(2), repeat=2):
        share = place[:, i, j].bincount(minlength=250) / 4_000
        off = (share - weights[i, j].exp().flatten()).detach().abs().max()
        assert float(off) < 5 * 0.5 / 4_000**0.5  # 1,000 shares: once in a thousand seeds


def test_the_most_probable_kind_and_path_are_so_together():
    p, given = patients()
    paths, joint = listed(p, given)
    best = dg.most_probable(p, given=given)
    value, number = joint.flatten(2).max(2)
    assert torch.equal(best.values["c"], number // 125)
    assert torch.equal(best.values["h"], paths[number % 125])
    close(best.log_prob, value.sum(1) + p.mix[:, 0].log_softmax(0)[given["g"]])
    with pytest.raises(dg.InadmissibleError, match="c would be summed out before"):
        dg.most_probable(p, "h", given=given)


def test_gradients_are_those_of_the_sum():
    p, given = patients()
    dg.log_evidence(p, given).sum().backward()
    found = [q.grad for q in p.parameters()]
    p.zero_grad()
    _, joint = listed(p, given)
    whole = joint.flatten(2).logsumexp(2).sum(1) + p.mix[:, 0].log_softmax(0)[given["g"]]
    whole.sum().backward()
    for a, b in zip(found, (q.grad for q in p.parameters()), strict=True):
        assert a is not None
        assert b is not None
        close(a, b)
    cost = dg.nll(p, observed=["g", "y", "x"])
    close(cost.losses(given)["model"], -dg.log_evidence(p, given).mean())


def test_a_kind_that_is_known_for_some_counts_as_known_there():
    p, given = patients()
    _, joint = listed(p, given)
    c = torch.tensor([[1, -1], [-1, 0]])
    each = joint.logsumexp(3)
    each = torch.stack(
        [each[0, 0, 1], each[0, 1].logsumexp(0), each[1, 0].logsumexp(0), each[1, 1, 0]]
    )
    outside = p.mix[:, 0].log_softmax(0)[given["g"]]
    close(dg.log_evidence(p, {**given, "c": c}), each.unflatten(0, (2, 2)).sum(1) + outside)


def test_ends_and_gaps_are_summed_over():
    p, given = patients()
    x = given["x"].clone()
    x[0, 1, 1:], x[1, 0, 1] = torch.nan, torch.nan
    each = []
    for i, j in itertools.product(range(2), repeat=2):
        total = p.mix[given["g"][i]].log_softmax(0) + Normal(p.see[:, 0], 1.0).log_prob(
            given["y"][i, j]
        )
        for kind in range(2):
            ahead = torch.zeros(5, dtype=F64).log()
            ahead[0] = 0.0
            for t in range(STEPS):
                ahead = (ahead[:, None] + p.move[kind].log_softmax(1)).logsumexp(0)
                if not bool(x[i, j, t].isnan()):
                    ahead = ahead + Normal(p.see[kind], 0.5).log_prob(x[i, j, t])
            total = total + torch.eye(2, dtype=F64)[kind] * ahead.logsumexp(0)
        each.append(total.logsumexp(0))
    outside = p.mix[:, 0].log_softmax(0)[given["g"]]
    want = torch.stack(each).unflatten(0, (2, 2)).sum(1) + outside
    close(dg.log_evidence(p, {**given, "x": x}), want)


def test_the_plan_says_what_holds_for_all_time():
    p, given = patients()
    plan = dg.explain(p, ["c", "h"], given=given)
    assert [part.engine for part in plan.parts][:2] == ["members as rows", "conditioning"]
    assert plan.parts[1].variables == ("c",)
    assert plan.parts[1].why == "a chain for each of 2 states, which hold for all time"
    assert plan.is_exact
    assert dg.explain(p, "c", given=("g", "y", "x")).is_exact


# Two walks that drift one way or the other: a mixture of Kalman filters


def walks() -> dg.Model:
    drift = torch.tensor([-0.5, 0.2, 1.5], dtype=F64)
    return dg.model(
        way=Categorical(logits=torch.tensor([0.1, 0.0, -0.3], dtype=F64)),
        turned=Bernoulli(torch.tensor(0.3, dtype=F64)),
        z=TIME(
            dg.rv(
                lambda way, turned, last=dg.lag("z", init=0.5): Normal(
                    last + drift[way] * (1 - 2 * turned), 0.7
                )
            )
        ),
        x=TIME(dg.rv(lambda z: Normal(z, 1.2))),
    )


def dense(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights `[rows, 3, 2]`, means `[rows, 3, 2, T]` and variances of z, by dense Gaussians."""
    steps = x.shape[1]
    times = torch.arange(1, steps + 1, dtype=F64)
    prior = 0.7**2 * torch.minimum(times[:, None], times)
    noisy = prior + 1.2**2 * torch.eye(steps, dtype=F64)
    way = torch.tensor([-0.5, 0.2, 1.5], dtype=F64)
    drift = torch.stack([way, -way], 1)
    mean = 0.5 + drift[..., None] * times
    law = torch.distributions.MultivariateNormal(mean, noisy)
    logs = torch.tensor([0.1, 0.0, -0.3], dtype=F64).log_softmax(0)[:, None]
    logs = logs + torch.tensor([0.7, 0.3], dtype=F64).log() + law.log_prob(x[:, None, None])
    gain = torch.linalg.solve(noisy, prior).T
    found = mean + (x[:, None, None] - mean) @ gain.T
    return logs, found, (prior - gain @ prior).diagonal()


def test_given_what_holds_for_all_time_a_chain_is_gaussian():
    x = torch.tensor([[1.0, 2.5, 3.0, 5.0], [0.0, -1.0, 0.5, 0.4]], dtype=F64)
    logs, mean, variance = dense(x)
    found = dg.posterior(walks(), ["way", "turned", "z"], given={"x": x})
    close(found.log_evidence, logs.logsumexp((1, 2)))
    weights = logs.flatten(1).softmax(1).unflatten(1, (3, 2))
    close(found["way"].probs, weights.sum(2))
    close(found["turned"].probs, weights.sum(1))
    assert isinstance(found["z"], GaussianMixture)
    want = (weights[..., None] * mean).sum((1, 2))
    close(found["z"].mean, want)
    squares = (weights[..., None] * (mean.square() + variance)).sum((1, 2))
    close(found["z"].variance, squares - want.square())
    best = dg.most_probable(walks(), given={"x": x})
    assert torch.equal(best.values["way"] * 2 + best.values["turned"], logs.flatten(1).argmax(1))


def test_particles_take_each_state_in_turn():
    x = torch.tensor([[1.0, 2.5, 3.0, 5.0], [0.0, -1.0, 0.5, 0.4]], dtype=F64)
    logs, mean, _ = dense(x)
    torch.manual_seed(0)
    method = dg.infer.SMC(20_000)
    found = dg.posterior(walks(), ["way", "z"], given={"x": x}, method=method)
    assert not found.exact
    weights = logs.flatten(1).softmax(1).unflatten(1, (3, 2))
    # deviations of about 0.005: twenty of them
    torch.testing.assert_close(found["way"].probs, weights.sum(2), atol=0.1, rtol=0.0)
    want = (weights[..., None] * mean).sum((1, 2))
    torch.testing.assert_close(found["z"].mean, want, atol=0.1, rtol=0.0)
    assert found.sample(7)["z"].shape == (7, 2, 4)
    plan = dg.explain(walks(), ["way", "z"], given={"x": x}, method=method)
    assert [part.engine for part in plan.parts] == ["conditioning", "20000 particles, filtered"]


def test_members_of_one_chain_share_what_holds_for_all_time():
    torch.manual_seed(0)
    of_m, of_z = torch.randn(2, 2, 2, dtype=F64), torch.randn(2, 2, 2, 2, dtype=F64)
    p = dg.model(
        c=Categorical(logits=torch.tensor([0.2, 0.0], dtype=F64)),
        m=TIME(dg.rv(lambda c, last=dg.lag("m", init=0): Categorical(logits=of_m[c, last]))),
        z=PART(
            TIME(
                dg.rv(lambda m, c, last=dg.lag("z", init=1): Categorical(logits=of_z[c, m, last]))
            )
        ),
        x=PART(TIME(dg.rv(lambda z: Normal(z.to(F64), 0.7)))),
    )
    x = p.sample(2, part=2, t=2)["x"]
    bits = torch.tensor([*itertools.product(range(2), repeat=7)])  # c, m of two steps, z of four
    c, m, z = bits[:, 0], bits[:, 1:3], bits[:, 3:].unflatten(1, (2, 2))
    joint = torch.stack(
        [p.log_prob({"c": c, "m": m, "z": z, "x": one.expand(128, 2, 2)}) for one in x]
    )
    weights = joint.softmax(1)
    found = dg.posterior(p, ["c", "m", "z"], given={"x": x})
    close(found.log_evidence, joint.logsumexp(1))
    close(found["c"].probs[:, 1], weights @ c.to(F64))
    close(found["m"].probs[..., 1], weights @ m.to(F64))
    close(found["z"].probs[..., 1].flatten(1), weights @ z.flatten(1).to(F64))
    rows = [5, 100]
    close(found.log_prob({"c": c[rows], "m": m[rows], "z": z[rows]}), weights[[0, 1], rows].log())
    best = dg.most_probable(p, given={"x": x}).values
    assert torch.equal(best["c"], c[joint.argmax(1)])
    assert torch.equal(best["z"], z[joint.argmax(1)])


# Other kinds, and what is refused


def test_kinds_may_be_vectors_and_cases_impossible():
    eye = torch.eye(3, dtype=F64)
    p = dg.model(
        c=OneHotCategorical(probs=torch.tensor([0.5, 0.2, 0.3], dtype=F64)),
        h=TIME(
            dg.rv(
                lambda c, last=dg.lag("h", init=0): Categorical(
                    logits=torch.lerp(eye[last], c.roll(-1, 1), 0.5).log()
                )
            )
        ),
        x=TIME(dg.rv(lambda h: Categorical(logits=eye[h].log()))),
    )
    h = torch.tensor([[0, 2, 2], [0, 0, 0]])
    joint = torch.stack(
        [p.log_prob({"c": c.expand(2, 3), "h": h, "x": h}) for c in eye], 1
    )  # a kind moves to one state: only the first kind to 2, the others not at all
    found = dg.posterior(p, ["c", "h"], given={"x": h})
    close(found["c"].probs.flip(1), joint.softmax(1))  # Finite lists states in order: 001, 010
    close(found.log_prob({"c": eye[[0, 1]], "h": h}), joint.log_softmax(1)[[0, 1], [0, 1]])
    assert torch.equal(found.sample(5)["h"][:, 0], h[:1].expand(5, -1))
    with pytest.raises(dg.GraphError, match="sequence 1 of the evidence has probability zero"):
        dg.posterior(p, "c", given={"x": torch.tensor([[0, 0, 0], [1, 2, 0]])})


def test_what_holds_for_all_time_is_finite_or_known():
    p = dg.model(
        s=Independent(Normal(torch.zeros(2), 1.0), 1),
        z=TIME(dg.rv(lambda s, last=dg.lag("z", init=0.0): Normal(last + s[:, 0], 1.0))),
        x=TIME(dg.rv(lambda z: Normal(z, 1.0))),
    )
    with pytest.raises(
        dg.InadmissibleError, match="s holds for all time, and it is neither known"
    ):
        dg.posterior(p, "z", given={"x": torch.zeros(1, 2)})
    found = dg.posterior(p, "z", given={"x": torch.zeros(1, 2), "s": torch.zeros(1, 2)})
    assert found.exact
    stays = dg.model(  # what the message proposes
        s=lambda last=dg.lag("s", init=Normal(0.0, 2.0)): Normal(last, 0.0),
        x=lambda s: Normal(s, 1.0),
    )
    found = dg.posterior(stays, "s", given={"x": torch.tensor([[1.0, 2.0, 6.0]])})
    close(found.mean, torch.full((1, 3), 9 / 3.25))  # of three observations and a law of N(0, 4)
    close(found.variance, torch.full((1, 3), 1 / 3.25))
    q = dg.model(
        c=PART(Categorical(torch.ones(2))),
        z=TIME(dg.rv(lambda last=dg.lag("z", init=0.0): Normal(last, 1.0))),
        x=PART(TIME(dg.rv(lambda z, c: Normal(z + c, 1.0)))),
    )
    with pytest.raises(dg.InadmissibleError, match=r"c .* its members bear on one chain"):
        dg.posterior(q, "z", given={"x": torch.zeros(1, 2, 3)})


def test_too_many_states_are_not_listed():
    p = dg.model(
        c=Independent(Bernoulli(torch.full((20,), 0.5)), 1),
        h=TIME(dg.rv(lambda c, last=dg.lag("h", init=0): Categorical(logits=c[:, :3]))),
        x=TIME(dg.rv(lambda h: Normal(h.float(), 1.0))),
    )
    with pytest.raises(dg.InadmissibleError, match="have 1,048,576 states or more"):
        dg.posterior(p, "h", given={"x": torch.zeros(1, 2)})


def test_questions_about_nothing_or_too_little_are_refused():
    p, given = patients()
    with pytest.raises(dg.GraphError, match="the evidence is empty: x has no rows"):
        dg.posterior(p, "c", given={"x": given["x"][:0]})
    found = dg.posterior(p, ["c", "h"], given=given)
    with pytest.raises(dg.GraphError, match="the density is that of c, h, not of c"):
        found.log_prob({"c": torch.zeros(2, 2, dtype=torch.long)})


def test_what_is_set_for_all_time_is_known():
    p, given = patients()
    set_so = dg.posterior(dg.do(p, c=1), "h", given={"x": given["x"]})
    c = torch.ones(2, 2, dtype=torch.long)
    close(set_so.probs, dg.posterior(p, "h", given={"x": given["x"], "c": c}).probs)


# Learning


class Kinds(dg.Model):
    """Chains of two kinds, of which some are known, and a test of the kind."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        share, move, see, test = (
            (torch.rand(*shape, dtype=F64) + 0.3) for shape in ((2,), (2, 3, 3), (3, 4), (2, 2))
        )
        self.share = dg.Tabular(share / share.sum())
        self.move = dg.Tabular(move / move.sum(2, keepdim=True), "c", "last")
        self.see = dg.Tabular(see / see.sum(1, keepdim=True), "z")
        self.test = dg.Tabular(test / test.sum(1, keepdim=True), "c")

    @SERIES
    @dg.rv
    def c(self):
        return self.share()

    @SERIES
    @dg.rv
    def y(self, c):
        return self.test(c)

    @SERIES
    @TIME
    @dg.rv
    def z(self, c, last=dg.lag("z", init=0)):
        return self.move(c, last)

    @SERIES
    @TIME
    @dg.rv
    def x(self, z):
        return self.see(z)


def test_a_step_of_em_takes_the_expected_counts():
    p = Kinds()
    torch.manual_seed(0)
    drawn = p.sample(3, series=2, t=STEPS)
    c = drawn["c"].clone()
    c[:2] = -1  # known in the last data set alone
    x, y = drawn["x"], drawn["y"]
    paths = torch.tensor([*itertools.product(range(3), repeat=STEPS)])
    before = torch.cat([torch.zeros(len(paths), 1, dtype=torch.long), paths[:, :-1]], 1)
    share, test = torch.zeros(2, dtype=F64), torch.zeros(2, 2, dtype=F64)
    move, see = torch.zeros(2, 3, 3, dtype=F64), torch.zeros(3, 4, dtype=F64)
    total = torch.zeros((), dtype=F64)
    for i, j in itertools.product(range(3), range(2)):
        logs = torch.stack(
            [
                p.share.probs.log()[k]
                + p.test.probs.log()[k, y[i, j]]
                + p.move.probs.log()[k, before, paths].sum(1)
                + p.see.probs.log()[paths, x[i, j]].sum(1)
                + (0.0 if c[i, j] in (-1, k) else -torch.inf)
                for k in range(2)
            ]
        ).detach()
        total += logs.logsumexp((0, 1))
        weights = (logs - logs.logsumexp((0, 1))).exp()
        share += weights.sum(1)
        test[:, y[i, j]] += weights.sum(1)
        for k, t in itertools.product(range(2), range(STEPS)):
            move[k].index_put_((before[:, t], paths[:, t]), weights[k], accumulate=True)
            see[:, x[i, j, t]].index_add_(0, paths[:, t], weights[k])
    found = dg.em(p, {"x": x, "y": y, "c": c}, steps=1)
    close(found.log_evidence[0] * 3, total)
    for table, counts in ((p.share, share), (p.test, test), (p.move, move), (p.see, see)):
        want = counts / counts.sum(-1, keepdim=True)
        torch.testing.assert_close(table.probs, want, atol=1e-6, rtol=0.0)


def test_no_step_of_em_lowers_the_likelihood():
    p = Kinds()
    torch.manual_seed(0)
    drawn = p.sample(8, series=2, t=6)
    given = {"x": drawn["x"], "y": drawn["y"]}
    with torch.no_grad():
        for q in p.parameters():
            q.add_(0.3 * torch.randn_like(q))
    found = dg.em(p, given, steps=20, tolerance=0.0).log_evidence
    assert bool((found.diff() > -1e-9).all())
    assert bool(found[-1] > found[0] + 0.1)
