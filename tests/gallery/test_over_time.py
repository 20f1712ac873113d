"""Gallery models over time, against paths, dense Gaussians and torch's fused nets."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MultivariateNormal
from torch.nn.functional import cross_entropy

import daguerre as dg
from daguerre.gallery import hmm, rnn, state_space, switching

NAN = math.nan


def close(a: Tensor, b: Tensor, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def loss_of(p: dg.Model, x: Tensor) -> Tensor:
    return dg.nll(p, observed=["x"], partial=["x"]).losses({"x": x})["model"].detach()


# Hidden Markov models


def bits(*shape: int) -> Tensor:
    return torch.randint(2, shape).double()


Emitting = hmm.Letters | hmm.Gaussians | hmm.Keys | hmm.NeuralKeys
KINDS: dict[str, Callable[[], tuple[Emitting, Tensor]]] = {
    "letters": lambda: (hmm.Letters(3, 5), torch.randint(5, (2, 4))),
    "gaussians": lambda: (hmm.Gaussians(r(2, 4, 2).float(), 3), r(2, 4, 2)),
    "keys": lambda: (hmm.Keys(torch.rand(6), 3), bits(2, 4, 6)),
    "neural keys": lambda: (hmm.NeuralKeys(6, 3, hidden=4), bits(2, 4, 6)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_likelihood_is_the_sum_over_all_paths(kind: str):
    p, x = KINDS[kind]()
    cost = loss_of(p, x.float() if x.is_floating_point() else x)
    p, z = p.double(), torch.cartesian_prod(*[torch.arange(3)] * 4)
    total = p.first.probs.log()[z[:, 0]] + p.move.probs.log()[z[:, :-1], z[:, 1:]].sum(1)
    rows = []
    for one in x:
        seen = torch.zeros(len(z)).double()
        for t, value in enumerate(one):
            last = one[t - 1] if t else torch.zeros_like(value)
            extra = [last.expand(len(z), -1)] if kind == "neural keys" else []
            seen += p.x(z[:, t], *extra).log_prob(value).reshape(len(z), -1).sum(1)
        rows.append((total + seen).logsumexp(0))
    close(dg.log_evidence(p, {"x": x}).detach(), torch.stack(rows).detach())
    close(cost.double(), -torch.stack(rows).mean().detach(), 1e-5)


def test_letters_are_learned_by_em_up_to_what_made_them():
    truth = hmm.Letters(2, 3)
    truth.move.become(torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    truth.see.become(torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]))
    x = truth.sample(60, t=30)["x"]
    p = hmm.Letters(2, 3)
    before = loss_of(p, x)
    dg.em(p, {"x": x}, steps=60)
    assert before > loss_of(truth, x) + 2
    assert loss_of(p, x) < loss_of(truth, x)
    assert sorted(p.move.probs.diagonal().tolist()) == pytest.approx([0.8, 0.9], abs=0.06)


def test_gaussians_find_the_regimes_of_sequences_of_different_length():
    z = torch.arange(40).div(10, rounding_mode="floor") % 2
    x = 4.0 * z[:, None] + torch.randn(8, 40, 1)
    x[3, 25:] = NAN
    p = hmm.Gaussians(x, 2)
    dg.em(p, {"x": x}, steps=30)
    probs = dg.posterior(p, "z", given={"x": x}).probs[..., 1]
    inside = ~x[..., 0].isnan()
    right = ((probs > 0.5) == z.bool())[inside].double().mean()
    assert max(right, 1 - right) > 0.98


@pytest.mark.parametrize("neural", [False, True])
def test_keys_are_learned_by_the_gradient(neural: bool):  # noqa: FBT001
    z = torch.arange(24) // 4 % 3
    x = torch.eye(3)[z].repeat(16, 1, 2)  # the same keys for four steps each
    p = hmm.NeuralKeys(6, 3, hidden=8) if neural else hmm.Keys(x.mean((0, 1)), 3)
    cost = dg.nll(p, observed=["x"])
    dg.fit(cost, x, steps=50, batch_size=16, lr=0.1, progress=False)
    assert loss_of(p, x) < 30  # independent keys: 24 * 6 * 0.64 = 92


# State spaces


def dense(p: state_space.StateSpace, steps: int) -> MultivariateNormal:
    """The law of x, flattened, as one Gaussian."""
    a, c = p.move.weight.detach(), p.see.weight.detach()
    q, s = (v.detach().exp().square().diag() for v in (p.log_q, p.log_r))
    means, covariance = [p.start.detach()], [torch.eye(len(a)).double()]
    for _ in range(steps - 1):
        means.append(a @ means[-1])
        covariance.append(a @ covariance[-1] @ a.T + q)
    rows = [
        [
            (torch.linalg.matrix_power(a, t - u) @ covariance[u] if t >= u else None)
            for u in range(steps)
        ]
        for t in range(steps)
    ]
    blocks = [
        [c @ (z if z is not None else rows[u][t].T) @ c.T for u, z in enumerate(row)]  # type: ignore[union-attr]
        for t, row in enumerate(rows)
    ]
    whole = torch.cat([torch.cat(row, 1) for row in blocks])
    whole = whole + torch.block_diag(*[s] * steps)
    return MultivariateNormal(torch.cat([c @ m + p.see.bias.detach() for m in means]), whole)


def test_a_state_space_is_one_gaussian_and_what_is_missing_is_left_out():
    p = state_space.StateSpace(2, 3).double()
    with torch.no_grad():
        for q in p.parameters():
            q.add_(0.3 * r(*q.shape))
    x, law = r(2, 4, 3), dense(p, 4)
    close(dg.log_evidence(p, {"x": x}).detach(), law.log_prob(x.flatten(1)))
    x[:, 2] = NAN
    kept = ~x[0].flatten().isnan()
    part = MultivariateNormal(law.mean[kept], law.covariance_matrix[kept][:, kept])
    close(loss_of(p, x), -part.log_prob(x.flatten(1)[:, kept]).mean())


@pytest.mark.slow
def test_a_state_space_learns_a_turning_point():
    turn = 0.98 * torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    truth = state_space.StateSpace(2, 2)
    with torch.no_grad():
        truth.move.weight.copy_(turn)
        truth.see.weight.copy_(torch.eye(2))
        truth.log_q.fill_(-1.5)
        truth.log_r.fill_(-1.5)
    x = truth.sample(20, t=30)["x"]
    p = state_space.learn(x, 2, steps=120, lr=0.05)
    assert loss_of(p, x) < loss_of(truth, x) + 1.0
    assert loss_of(state_space.StateSpace(2, 2), x) > loss_of(truth, x) + 10
    angle = torch.linalg.eigvals(p.move.weight.detach()).angle().abs()
    close(angle, torch.full([2], math.acos(0.8)), 0.1)


# Switching dynamics


def enumerated(p: switching.Switching, x: Tensor) -> Tensor:
    """Sum over all paths of regimes of the Gaussian that each of them gives, latent size 1."""
    steps, found = x.shape[1], []
    b, a, q = p.move.bias[:, 0], p.move.weights[0][:, 0, 0], p.move.log_scale  # type: ignore[index]
    assert q is not None
    assert p.start.log_scale is not None
    assert p.see.log_scale is not None
    for path in itertools.product(range(len(a)), repeat=steps):
        log = p.first.probs[path[0]].log()
        mean, spread = [p.start.bias[0]], torch.zeros(steps, steps).double()
        spread[0, 0] = p.start.log_scale[0].exp() ** 2
        for t, k in enumerate(path[1:], 1):
            log = log + p.turn.probs[path[t - 1], k].log()
            mean.append(a[k] * mean[-1] + b[k])
            spread[t, :t] = spread[:t, t] = a[k] * spread[t - 1, :t]
            spread[t, t] = a[k] ** 2 * spread[t - 1, t - 1] + q[k, 0].exp() ** 2
        c, noise = p.see.weights[0][0, 0], p.see.log_scale[0].exp() ** 2
        law = MultivariateNormal(
            c * torch.stack(mean) + p.see.bias[0], c**2 * spread + noise * torch.eye(steps)
        )
        found.append(log + law.log_prob(x[..., 0]))
    return torch.stack(found).logsumexp(0)


@torch.no_grad()
def test_a_few_steps_of_switching_dynamics_are_exact_on_the_plain_graph():
    p = switching.Switching(3, 1, 1).double()
    x = p.sample(2, t=3)["x"]
    plain = p.unroll(3)
    given = plain.apart({"x": x})
    want = enumerated(p, x)
    close(dg.log_evidence(plain, given), want)
    found = dg.log_evidence(p, {"x": x}, method=dg.infer.SMC(20_000))
    close(found, want, 0.05)
    exact = dg.posterior(plain, "k[2]", given=given).probs
    particles = dg.posterior(p, "k", given={"x": x}, method=dg.infer.SMC(20_000)).probs
    close(particles[:, 2].double(), exact, 0.03)


def test_the_bound_of_switching_dynamics_sums_over_all_regimes():
    torch.manual_seed(0)
    game = switching.regimes(3, 1, 1)
    assert isinstance(game.p, switching.Switching)
    x = game.p.sample(3, t=3)["x"]
    exact = enumerated(game.p.double(), x.double()).mean().detach()
    p, q = game.p.float(), game.q
    assert q is not None
    with torch.no_grad():
        loss = dg.elbo(p, q).losses(x.repeat(500, 1, 1))["model"]
        z = q.sample(given={"x": x})["z"]
        found = dg.log_evidence(p, {"x": x, "z": z})
        paths = torch.cartesian_prod(*[torch.arange(3)] * 3)
        known = [
            {"x": a.expand(27, 3, 1), "z": b.expand(27, 3, 1), "k": paths}
            for a, b in zip(x, z, strict=True)
        ]
        each = torch.stack([p.log_prob(values).logsumexp(0) for values in known])
    assert -loss < exact
    close(found, each, 1e-5)
    x[1, 2:] = NAN
    assert game.objective.losses(x)["model"].isfinite()


@pytest.mark.slow
def test_switching_dynamics_learn_from_long_sequences_by_the_bound():
    torch.manual_seed(0)
    truth = switching.Switching(2, 1, 1)
    with torch.no_grad():
        truth.move.bias.copy_(torch.tensor([[2.0], [-2.0]]))
        truth.move.weights[0].fill_(0.7)
        assert truth.see.log_scale is not None
        truth.see.log_scale.fill_(-1.5)
    drawn = truth.sample(40, t=60)
    game = switching.regimes(2, 1, 1)
    before = game.objective.losses(drawn["x"])["model"].item()
    for lr in (0.02, 0.005):
        dg.fit(game.objective, drawn["x"], steps=300, batch_size=20, lr=lr, progress=False)
    assert game.objective.losses(drawn["x"])["model"].item() < before - 30
    assert game.q is not None
    with torch.no_grad():
        z = game.q.sample(given={"x": drawn["x"]})["z"]
        found = dg.posterior(game.p, "k", given={"x": drawn["x"], "z": z})["k"].mode
    agree = (found == drawn["k"]).double().mean().item()
    assert max(agree, 1 - agree) > 0.85  # either name of a regime


def test_the_plain_graph_shares_the_parameters():
    p = switching.Switching(2, 1, 1)
    plain = p.unroll(4)
    assert {id(q) for q in plain.parameters()} == {id(q) for q in p.parameters()}
    assert (p.move.parents, p.see.parents) == (("last", "k"), ("z",))


@pytest.mark.slow
def test_switching_dynamics_come_near_the_likelihood_of_the_truth():
    torch.manual_seed(0)
    truth = switching.Switching(2, 1, 1)
    with torch.no_grad():
        truth.move.bias.copy_(torch.tensor([[3.0], [-3.0]]))
        assert truth.see.log_scale is not None
        truth.see.log_scale.fill_(-1.0)
    x = truth.sample(300, t=3)["x"]
    p = switching.Switching(2, 1, 1)
    before = loss_plain(p, x)
    switching.learn(p, x, steps=120, lr=0.05)
    assert before > loss_plain(truth, x) + 5
    assert loss_plain(p, x) < loss_plain(truth, x) + 0.15


def loss_plain(p: switching.Switching, x: Tensor) -> float:
    plain = p.unroll(x.shape[1])
    return -dg.log_evidence(plain, plain.apart({"x": x})).mean().item()


# Recurrent nets


@pytest.mark.parametrize("net", [rnn.GRU, rnn.LSTM])
def test_a_character_model_sums_to_one_over_all_texts(net: type[rnn.GRU | rnn.LSTM]):
    p = net(3, 5)
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    close(p["x"].log_prob({"x": every}).exp().sum(), torch.ones(()), 1e-5)


@pytest.mark.parametrize(("net", "fused"), [(rnn.GRU, nn.GRU), (rnn.LSTM, nn.LSTM)])
def test_a_character_model_is_the_fused_net(
    net: type[rnn.GRU | rnn.LSTM], fused: type[nn.GRU | nn.LSTM]
):
    p, x = net(7, 6), torch.randint(7, (3, 9))
    whole = fused(6, 6, batch_first=True)
    whole.load_state_dict({f"{name}_l0": value for name, value in p.cell.state_dict().items()})
    before = torch.cat([torch.full([3, 1], 7), x[:, :-1]], 1)
    logits = p.out(whole(p.embed(before))[0])
    want = cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="sum") / 3
    close(dg.nll(p).losses(x)["model"], want, 1e-5)
    both = [*p.embed.parameters(), *p.out.parameters()]
    slopes = torch.autograd.grad(dg.nll(p).losses(x)["model"], [*p.cell.parameters(), *both])
    for one, other in zip(
        slopes, torch.autograd.grad(want, [*whole.parameters(), *both]), strict=True
    ):
        close(one, other, 1e-5)


def test_a_cost_says_whether_what_is_observed_comes_back():
    row, _ = dg.nll(rnn.GRU(3, 4)).explain()
    forcing = "observed; x feeds back into h: to condition on its past is teacher forcing"
    assert row["why"] == f"{forcing}, and determines h"
    driven = dg.model(
        u=dg.Input(2),
        h=dg.deterministic(
            lambda u, cell, before=dg.lag("h", init=torch.zeros(4)): cell(u, before),
            cell=nn.GRUCell(2, 4),
        ),
        x=dg.rv(lambda h, out: Categorical(logits=out(h)), out=nn.Linear(4, 3)),
    )
    row, _ = dg.nll(driven).explain()
    assert row["why"] == "observed; x does not feed back: given u, its time slices are independent"


@pytest.mark.parametrize("net", [rnn.GRU, rnn.LSTM])
def test_a_character_model_refuses_texts_without_characters(net: type[rnn.GRU | rnn.LSTM]):
    p, x = net(3, 4), torch.zeros(2, 0, dtype=torch.long)
    for ask in (lambda: dg.nll(p).losses(x), lambda: p["x"].log_prob({"x": x})):
        with pytest.raises(dg.GraphError, match=r"steps t is 0 \(that of x\)"):
            ask()


def test_a_character_model_learns_a_rhyme():
    phrase = torch.tensor([0, 1, 0, 2])  # what follows 0 hangs on what was before it
    x = torch.stack([phrase.roll(-i).repeat(4) for i in range(4)])
    game = rnn.character_model(3, 16)
    dg.fit(game.objective, x, steps=45, batch_size=4, lr=0.03, progress=False)
    assert game.objective.losses(x)["model"] < 4.0  # at the start 16 log 3 = 17.6
    s = game.p.sample(200, t=16)["x"]
    right = (s[:, 2:] != s[:, :-2]) == (s[:, 1:-1] == 0)  # 1 0 2 0 1
    assert right[:, 2:].double().mean() > 0.95
