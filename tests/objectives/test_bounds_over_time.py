"""Costs over chains: the ELBO of sequences, filtering and smoothing, ragged and with gaps."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

import daguerre as dg
from daguerre.objectives.observations import read_data

D, Z = 3, 2
NAN = float("nan")


def chain():
    torch.manual_seed(0)
    return dg.model(
        z=dg.rv(
            lambda net, before=dg.lag("z", init=dg.StandardNormal(Z)): Normal(net(before), 0.7),
            net=torch.nn.Linear(Z, Z),
        ),
        x=dg.rv(lambda z, out: Normal(out(z), 0.5), out=torch.nn.Linear(Z, D)),
    )


def smoother():
    torch.manual_seed(1)
    return dg.model(
        x=dg.Input(D),
        b=dg.deterministic(
            lambda x, cell, after=dg.lag("b", -1, init=torch.zeros(4)): cell(x, after),
            cell=torch.nn.GRUCell(D, 4),
        ),
        z=dg.rv(
            lambda b, net, before=dg.lag("z", init=torch.zeros(Z)): Normal(
                net(torch.cat([b, before], 1)), 0.5
            ),
            net=torch.nn.Linear(4 + Z, Z),
        ),
    )


def mean_field():
    torch.manual_seed(1)
    return dg.model(
        x=dg.Input(D), z=dg.rv(lambda x, net: Normal(net(x), 0.8), net=torch.nn.Linear(D, Z))
    )


def by_hand(p, q, x, z):
    """The per-step bound of drawn paths `[n, T, Z]`, written as a loop over time."""
    n, steps = x.shape[:2]
    trans, out = p.get_submodule("z.net"), p.get_submodule("x.out")
    total = torch.zeros(n)
    cell = q.get_submodule("b.cell")
    b, states = torch.zeros(n, 4), {}
    for t in reversed(range(steps)):
        b = states[t] = cell(x[:, t], b)
    before = torch.zeros(n, Z)
    for t in range(steps):
        law = Normal(q.get_submodule("z.net")(torch.cat([states[t], before], 1)), 0.5)
        prior = Normal(trans(before), 0.7) if t else Normal(torch.zeros(n, Z), 1.0)
        total = total + kl_divergence(law, prior).sum(1)
        total = total - Normal(out(z[:, t]), 0.5).log_prob(x[:, t]).sum(1)
        before = z[:, t]
    return total


def test_the_bound_of_a_smoother_is_the_loop_that_one_would_write():
    p, q = chain(), smoother()
    x = p.sample(4, t=5)["x"]
    torch.manual_seed(2)
    z = q.rsample(given={"x": x})["z"]
    want = by_hand(p, q, x, z).mean()
    torch.manual_seed(2)
    loss = dg.elbo(p, q).losses({"x": x})["model"]
    torch.testing.assert_close(loss, want)
    ours = torch.autograd.grad(loss, [*q.parameters(), *p.parameters()])
    theirs = torch.autograd.grad(want, [*q.parameters(), *p.parameters()])
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("q", [smoother, mean_field])
def test_bounds_are_ordered_and_below_the_evidence(q):
    p, q = chain(), q()
    x = p.sample(1, t=4)["x"]
    many = x.expand(20_000, -1, -1)
    torch.manual_seed(0)
    elbo = -dg.elbo(p, q).losses({"x": many})["model"].item()
    iwae = -dg.iwae(p, q, particles=10).losses({"x": many[:5000]})["model"].item()
    exact = dg.log_evidence(p, {"x": x}).item()
    assert elbo < iwae < exact + 0.02


def test_the_exact_posterior_makes_the_bound_tight():
    """z is a random walk that is seen with noise for two steps: its posterior is known."""
    p = dg.model(
        z=lambda before=dg.lag("z", init=Normal(0.0, 1.0)): Normal(before, 1.0),
        x=lambda z: Normal(z, 1.0),
    )
    x = torch.tensor([[0.3, -0.7]])
    found = dg.posterior(p, "z", given={"x": x})
    first, second = found.mean[0], found.variance[0]
    # p(z_2 | z_1, x) is N((z_1 + x_2) / 2, 1/2), and z_1 | x as the smoother says
    q = dg.model(
        x=dg.Input(),
        z=lambda x, before=dg.lag("z", init=Normal(first[0].item(), second[0].item() ** 0.5)): (
            Normal((before + x) / 2, math.sqrt(0.5))
        ),
    )
    torch.manual_seed(0)
    loss = dg.elbo(p, q).losses({"x": x.expand(400_000, 2)})["model"]
    assert loss.item() == pytest.approx(-dg.log_evidence(p, {"x": x}).item(), abs=0.02)


def test_a_sequence_ends_where_its_data_do():
    """Each row is that of its own steps alone, with the same noise; none is drawn beyond."""
    p, q = chain(), smoother()
    x = p.sample(2, t=6)["x"]
    ragged = x.clone()
    ragged[0, 4:] = NAN
    torch.manual_seed(4)
    noise = [torch.randn(2, Z) for _ in range(4)] + [torch.randn(1, Z) for _ in range(2)]
    want = []
    for row, steps in ((0, 4), (1, 6)):
        one, b, before, states, path = (
            x[[row], :steps],
            torch.zeros(1, 4),
            torch.zeros(1, Z),
            {},
            [],
        )
        for t in reversed(range(steps)):
            b = states[t] = q.get_submodule("b.cell")(one[:, t], b)
        for t in range(steps):
            mean = q.get_submodule("z.net")(torch.cat([states[t], before], 1))
            before = mean + 0.5 * noise[t][row if t < 4 else 0]
            path.append(before)
        want.append(by_hand(p, q, one, torch.stack(path, 1)))
    torch.manual_seed(4)
    loss = dg.elbo(p, q, partial=["x"]).losses({"x": ragged})["model"]
    torch.testing.assert_close(loss, torch.cat(want).mean())


def test_a_gap_costs_nothing_but_its_latents():
    p, q = chain(), mean_field()
    x = p.sample(1, t=4)["x"]
    gap = x.clone()
    gap[0, 1] = NAN
    many = gap.expand(30_000, -1, -1)
    torch.manual_seed(0)
    bound = -dg.elbo(p, q, partial=["x"]).losses({"x": many})["model"].item()
    assert bound < dg.log_evidence(p, {"x": gap}).item()


def test_gaps_are_refused_unless_said():
    p, q = chain(), mean_field()
    x = p.sample(2, t=4)["x"]
    x[0, 3] = NAN
    with pytest.raises(ValueError, match=r"x has NaN .* in 1 of 2 rows"):
        read_data(dg.elbo(p, q), {"x": x})
    read_data(dg.elbo(p, q, partial=["x"]), {"x": x})


def test_a_law_of_the_last_step_is_refused_where_sequences_end_at_different_ones():
    p = chain()
    q = dg.model(
        x=dg.Input(D),
        e=lambda x, after=dg.lag("e", -1, init=dg.StandardNormal(Z)): Normal(after, 1.0),
        z=lambda e: Normal(e, 0.5),
    )
    joint = dg.model(
        e=lambda z: Normal(z, 1.0),
        z=lambda before=dg.lag("z", init=dg.StandardNormal(Z)): Normal(before, 1.0),
        x=lambda z: Normal(torch.cat([z, z[:, :1]], 1), 1.0),
    )
    x = p.sample(2, t=4)["x"]
    loss = dg.elbo(joint, q, partial=["x"])
    with pytest.raises(dg.InadmissibleError, match="the law of the last step"):
        loss.losses({"x": x})


def test_a_discrete_latent_over_time_is_refused_with_the_way_out():
    p = dg.model(
        z=lambda before=dg.lag("z", init=Bernoulli(0.5)): Bernoulli(0.2 + 0.6 * before),
        x=lambda z: Normal(z, 1.0),
    )
    q = dg.model(x=dg.Input(), z=lambda x: Bernoulli(x.sigmoid()))
    with pytest.raises(dg.InadmissibleError, match=r"z repeats in t, .* dg.nll sum it out"):
        dg.elbo(p, q)


def test_shapes_of_sequences_are_checked():
    loss = dg.elbo(chain(), smoother())
    with pytest.raises(
        dg.GraphError, match=r"event shape \[3\], but the data has \[2\] after \[n, t\]"
    ):
        loss.losses({"x": torch.zeros(4, 5, 2)})


def test_a_fit_of_a_chain_lowers_its_cost():
    p, q = chain(), smoother()
    x = chain().sample(64, t=8)["x"]
    history = dg.fit(dg.elbo(p, q), x, epochs=15, batch_size=16, compile=False)
    losses = history["model"]
    assert losses[-8:].mean() < losses[:8].mean() - 1


def test_what_holds_for_all_time_may_be_known_for_some_sequences():
    """Its prior counts whether or not a row knows it: against the exact joint and evidence."""
    time = dg.Plate("t")
    p = dg.model(
        s=Normal(0.0, 1.0),
        x=time(dg.rv(lambda s, before=dg.lag("x", init=0.0): Normal(0.5 * before + s, 1.0))),
    )
    x = torch.tensor([[0.4, 1.0, -0.3]])
    before = torch.cat([torch.zeros(1, 1), x[:, :-1]], 1)
    precision = 1 + x.shape[1]
    mean = (x - 0.5 * before).sum().item() / precision
    q = dg.model(s=Normal(mean, precision**-0.5), x=time(dg.Input()))
    bound = dg.elbo(p, q, partial=["s"])
    known = bound.losses({"x": x, "s": torch.tensor([0.7])})["model"]
    q_known = Normal(mean, precision**-0.5).log_prob(torch.tensor(0.7))
    joint = p.log_prob({"x": x, "s": torch.tensor([0.7])})
    assert known.item() == pytest.approx(-joint.item(), abs=1e-5)
    torch.manual_seed(0)
    free = bound.losses({"x": x.expand(1000, 3), "s": torch.full((1000,), NAN)})["model"]
    assert free.item() == pytest.approx((q_known - joint).item(), abs=1e-4)  # q is the posterior


def test_words_and_formula_have_slices_and_lags():
    loss = dg.elbo(chain(), smoother())
    assert loss.explain().rows[0][1] == "KL(q(z | b, z[t-1]) || p(z | z[t-1]))"
    formula = loss.latex()
    assert r"p_{\mathrm{data}}(x_{1:T})" in formula
    assert r"\prod_{t=1}^{T} q_\phi(z_{t} \mid b_{t}, z_{t-1})" in formula
    assert r"\sum_{t=1}^{T} \mathrm{KL}\left(q_\phi(z_{t} \mid b_{t}, z_{t-1})" in formula
    assert r"- \sum_{t=1}^{T} \log p_\theta(x_{t} \mid z_{t})" in formula


def test_the_picture_has_the_lags_of_both_sides():
    arrows = dg.elbo(chain(), smoother()).figure().arrows
    loops = {(a.source, a.target, a.inference, a.label) for a in arrows if a.source == a.target}
    assert loops == {
        ("z", "z", False, "t - 1"), ("z", "z", True, "t - 1"), ("b", "b", True, "t + 1"),
    }  # fmt: skip
