"""Chains recognised in models with lags, against enumeration and the dense Gaussian."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Exponential, MultivariateNormal, Normal

import daguerre as dg
from chains import (
    FIRST,
    MOVE,
    SEE,
    START,
    Track,
    U,
    V,
    W,
    Weather,
    X,
    Y,
    by_hand,
    close,
    coupled,
    double,
    pinned,
    walk,
)
from daguerre.cpds import Tabular
from daguerre.infer.chain.hmm import HMM, smoothed
from daguerre.infer.chain.paths import viterbi
from daguerre.infer.distributions import Finite


def test_a_hidden_markov_model_is_recognised():
    model = Weather()
    for observed, y in (({"x": X}, False), ({"x": X, "y": Y}, True)):
        found, expected = dg.posterior(model, "z", given=observed), smoothed(by_hand(model, y=y))
        marginal = found["z"]
        assert isinstance(marginal, Finite)
        close(marginal.probs, expected.probs)
        assert found.log_evidence is not None
        close(found.log_evidence, expected.log_evidence)
        close(dg.log_evidence(model, observed), expected.log_evidence)
        assert found.exact
        assert "scan over 4 steps" in found.method
        assert marginal.batch_shape == (2, 5)
        best = dg.most_probable(model, given=observed)
        assert torch.equal(best.values["z"], viterbi(by_hand(model, y=y)).states)
        draws = found.sample(7)
        assert isinstance(draws, Tensor)
        assert draws.shape == (7, 2, 5)


def test_ragged_sequences_end_in_missing_steps():
    lengths = torch.tensor([5, 2])
    hmm = by_hand(Weather(), y=True)
    expected = smoothed(HMM(hmm.log_start, hmm.log_transition, hmm.log_likelihood, lengths))
    inside = torch.arange(5) < lengths[:, None]
    observed = {"x": torch.where(inside, X, -1), "y": torch.where(inside, Y, math.nan)}
    found = dg.posterior(Weather(), "z", given=observed)
    close(found.probs[1, :2], expected.probs[1, :2])
    close(found.probs[1, 3], found.probs[1, 2] @ MOVE)  # a forecast
    close(found.log_evidence, expected.log_evidence)
    close(dg.log_evidence(Weather(), observed), expected.log_evidence)


def test_ragged_autoregression():
    model = dg.model(
        z=lambda last=dg.lag("z", init=FIRST): Categorical(MOVE[last]),
        x=lambda z, last=dg.lag("x", init=0.5): Normal(0.8 * last + z, 1.0),
    )
    whole = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).double()
    ragged = whole.clone()
    ragged[1, 2:] = math.nan
    expected = [dg.log_evidence(model, {"x": x}) for x in (whole[:1], whole[1:, :2])]
    close(dg.log_evidence(model, {"x": ragged}), torch.cat(expected))


def test_the_evidence_trains_the_model():
    model = Weather()
    dg.log_evidence(model, {"x": X, "y": Y}).sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    step = 1e-6
    ends = []
    for sign in (-1, 1):
        moved = Weather()
        with torch.no_grad():
            moved.mean[1] += sign * step
        ends.append(dg.log_evidence(moved, {"x": X, "y": Y}).sum().item())
    assert model.mean.grad is not None
    assert model.mean.grad[1].item() == pytest.approx((ends[1] - ends[0]) / 2 / step, rel=1e-6)


def test_coupled_variables_inputs_and_autoregression_by_enumeration():
    model, steps = coupled(), 4
    observed = {"u": U, "w": W, "v": V}
    cells = list(itertools.product(itertools.product((0.0, 1.0), range(3)), repeat=steps))
    scores = []
    for path in cells:
        score = torch.zeros((), dtype=torch.float64)
        for t, (a, b) in enumerate(path):
            a_last, b_last = path[t - 1] if t else (0.0, None)
            up = 0.3 + 1.1 * a_last + 0.4 * U[0, t]
            score = score + Bernoulli(logits=up).log_prob(double(a))
            law = START.log()
            if t:
                law = (MOVE[b_last].log() + double([a, 0.0, a_last])).log_softmax(-1)
            score = score + law[b]
            h, past = a - 0.5 * b, V[0, t - 2] if t > 1 else 1.0
            score = score + Bernoulli(logits=h + V[0, t]).log_prob(W[0, t])
            score = score + Normal(h + 0.5 * past, double(0.7)).log_prob(V[0, t])
        scores.append(score)
    total = torch.stack(scores)
    close(dg.log_evidence(model, observed), total.logsumexp(0, keepdim=True))
    found = dg.posterior(model, ["b", "a"], given=observed)
    probs = total.softmax(0)
    for t, k in itertools.product(range(steps), range(3)):
        expected = sum(
            (p for p, path in zip(probs, cells, strict=True) if path[t][1] == k), torch.zeros(())
        )
        assert isinstance(found.probs, dict)
        close(found.probs["b"][0, t, k], expected)
    best = dg.most_probable(model, given=observed)
    assert best.log_prob is not None
    close(best.log_prob[0], total.max())
    path = cells[int(total.argmax())]
    assert best.values["a"][0].tolist() == [a for a, _ in path]
    assert best.values["b"][0].tolist() == [b for _, b in path]


def test_a_linear_gaussian_model_is_recognised():
    model, steps = Track(), 3
    g = torch.Generator().manual_seed(2)
    u, x, y = (torch.randn(1, steps, *e, generator=g).double() for e in ((), (2,), ()))
    y[0, 1] = math.nan
    found = dg.posterior(model, ["speed", "position"], given={"u": u, "x": x, "y": y})
    one = model.move.weights[0].detach()
    noise = double([0.09, 0.16])
    mean, speed_cov = [model.first.detach()], torch.zeros(3, 2, 3, 2).double()  # of all speeds
    speed_cov[0, :, 0] = torch.eye(2)
    for t in range(1, steps):
        mean.append(one @ mean[-1] + u[0, t])
        for s in range(t):
            speed_cov[t, :, s] = one @ speed_cov[t - 1, :, s]
            speed_cov[s, :, t] = speed_cov[t, :, s].T
        speed_cov[t, :, t] = one @ speed_cov[t - 1, :, t - 1] @ one.T + noise.diag()
    mu, sigma = torch.cat(mean), speed_cov.reshape(6, 6)
    place = torch.zeros(3, 6).double()  # positions of speeds
    for t in range(steps):
        place[t, 0 : 2 * t + 1 : 2] = 0.5
    rows, loc, seen, variances = [], [], [], []
    for t in range(steps):
        second = torch.zeros(6).double()
        second[2 * t + 1] = 1
        for row, shift, value, sd in (
            (place[t], 1.0, x[0, t, 0], 0.6),
            (second - place[t], -1.0, x[0, t, 1], 0.6),
            (2 * place[t], 2.0 - x[0, t, 0] + 1.0, y[0, t], 0.9),
        ):
            if not value.isnan():
                rows.append(row)
                loc.append(row @ mu + shift)
                seen.append(value)
                variances.append(sd**2)
    h, residual = torch.stack(rows), torch.stack(seen) - torch.stack(loc)
    s = h @ sigma @ h.T + double(variances).diag()
    gain = torch.linalg.solve(s, h @ sigma).T
    post, cov = mu + gain @ residual, sigma - gain @ h @ sigma
    close(found["speed"].mean[0].flatten(), post)
    close(found["position"].mean[0], place @ post + 1.0)
    close(found["position"].variance[0], (place @ cov @ place.T).diagonal())
    close(found["speed"].variance[0].flatten(), cov.diagonal())
    assert found.log_evidence is not None
    close(
        found.log_evidence[0],
        MultivariateNormal(torch.zeros(len(residual)).double(), s).log_prob(residual),
    )
    draws = found.sample(3)
    assert isinstance(draws, dict)
    assert draws["position"].shape == (3, 1, 3)
    moved = draws["position"][:, :, 1:] - draws["position"][:, :, :-1]
    close(moved, 0.5 * draws["speed"][:, :, 1:, 0])
    dg.log_evidence(model, {"u": u, "x": x, "y": y}).sum().backward()
    assert model.first.grad is not None
    close(
        dg.most_probable(model, given={"u": u, "x": x, "y": y}).values["speed"],
        found["speed"].mean,
    )


def test_what_bears_on_nothing_is_left_out():
    model = dg.model(
        z=lambda last=dg.lag("z", init=FIRST): Categorical(MOVE[last]),
        x=lambda z: Categorical(SEE[z]),
        w=lambda x, z: Exponential(1.0 + x + z),
    )
    found = dg.posterior(model, "z", given={"x": X}).probs
    assert isinstance(found, Tensor)
    close(found, smoothed(HMM(START.log(), MOVE.log(), SEE.log().T[X])).probs)


def test_functions_of_the_states_are_targets():
    observed = {"u": U, "w": W, "v": V}
    states = dg.posterior(coupled(), ["a", "b"], given=observed)
    found = dg.posterior(coupled(), "h", given=observed)
    assert found["h"].states.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    close(found.mean, states.mean["a"] - 0.5 * states.mean["b"])
    draws = found.sample(5)
    assert draws.shape == (5, 1, 4)
    assert set(draws.flatten().tolist()) <= set(found["h"].states.tolist())


def test_the_density_of_a_path():
    model, observed = coupled(), {"u": U, "w": W, "v": V}
    found, best = (
        dg.posterior(model, ["a", "b"], given=observed),
        dg.most_probable(model, given=observed),
    )
    close(found.log_prob(best.values), best.log_prob - found.log_evidence)
    one = dg.posterior(model, "a", given=observed)
    total = torch.zeros(1, dtype=torch.float64)
    for path in itertools.product((0.0, 1.0), repeat=4):
        total = total + one.log_prob(double([path])).exp()
    close(total, torch.ones(1, dtype=torch.float64))


def test_the_density_of_a_gaussian_path():
    model = walk()
    y = torch.randn(2, 4, generator=torch.Generator().manual_seed(1)).double()
    found = dg.posterior(model, "z", given={"x": y})
    draws = found.sample(2)
    t = torch.arange(4).double()
    prior = 1.0 + 0.5 * torch.minimum(t[:, None], t[None])
    joint = torch.cat(
        [torch.cat([prior, prior], 1), torch.cat([prior, prior + 0.3 * torch.eye(4).double()], 1)]
    )
    dense = MultivariateNormal(torch.zeros(8).double(), joint)
    expected = dense.log_prob(torch.cat([draws[0], y], -1)) - found.log_evidence
    close(found.log_prob(draws[0]), expected)
    best = dg.most_probable(model, given={"x": y})
    close(best.values["z"], found.mean)
    close(best.log_prob, dense.log_prob(torch.cat([found.mean, y], -1)))


def test_states_that_are_known_now_and_then():
    known = torch.tensor([[-1, 2, -1, -1, 0], [-1] * 5])
    found = dg.posterior(Weather(), "x", given={"z": known})
    filled = smoothed(HMM(START.log(), MOVE.log(), pinned(known)))
    close(found.probs, filled.probs @ SEE)
    close(found.log_evidence, filled.log_evidence)
    close(found.log_evidence[1], double(0.0))


def test_gaussian_states_that_are_known_now_and_then():
    z = double([[0.3, math.nan, -0.4, math.nan]])
    found = dg.posterior(walk(), "x", given={"z": z})
    close(found.mean, double([[0.3, -0.05, -0.4, -0.4]]))
    close(found.variance, double([[0.3, 0.55, 0.3, 0.8]]))
    first, last = Normal(double(0.0), 1.0), Normal(double(0.3), 1.0)
    close(found.log_evidence, (first.log_prob(z[:, 0]) + last.log_prob(z[:, 2])))


def test_a_recurrent_net_over_observed_values():
    model = dg.model(
        h=dg.deterministic(
            lambda last=dg.lag("h", init=0.2), x=dg.lag("x", init=0.0): (last - x).tanh()
        ),
        x=lambda h: Normal(2 * h, 0.5),
    )
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(3)).double()
    h, total = torch.full((2,), 0.2).double(), 0.0
    for t in range(3):
        h = (h - (x[:, t - 1] if t else 0.0)).tanh()
        total = total + Normal(2 * h, 0.5).log_prob(x[:, t])
    assert isinstance(total, Tensor)
    close(dg.log_evidence(model, {"x": x}), total)


def test_names_of_states():
    see = Tabular(SEE, "z", states=["dry", "wet"])
    model = dg.model(z=lambda last=dg.lag("z", init=FIRST): Categorical(MOVE[last]), x=see)
    named = {"x": [["dry", "wet", None], ["wet", "dry"]]}
    numbers = {"x": torch.tensor([[0, 1, -1], [1, 0, -1]])}
    close(
        dg.posterior(model, "z", given=named).probs, dg.posterior(model, "z", given=numbers).probs
    )
    masked = {"x": (numbers["x"].abs(), numbers["x"] >= 0)}
    close(dg.log_evidence(model, named), dg.log_evidence(model, masked))
    alike = dg.log_evidence(model, {"x": "wet", "z": torch.zeros(1, 2).long()})
    close(alike, START[:1].log() + MOVE[0, 0].log() + 2 * SEE[0, 1].log())
    with pytest.raises(dg.GraphError, match="x has no state 'wett'; did you mean 'wet'"):
        dg.posterior(model, "z", given={"x": [["wett"]]})


def test_contradictions():
    stay = torch.eye(2).double()
    first = Categorical(double([0.5, 0.5]))
    model = dg.model(
        z=lambda last=dg.lag("z", init=first): Categorical(logits=stay[last].log()),
        x=lambda z: Categorical(logits=stay[z].log()),
    )
    x = torch.tensor([[0, 0], [0, 1]])
    close(dg.log_evidence(model, {"x": x}), double([0.5, 0.0]).log())
    text = "sequence 1 of the evidence has probability zero"
    with pytest.raises(dg.GraphError, match=text):
        dg.posterior(model, "z", given={"x": x})
    with pytest.raises(dg.GraphError, match=text):
        dg.sample_posterior(model, "z", 2, given={"x": x})
    with pytest.raises(dg.GraphError, match=text):
        dg.most_probable(model, given={"x": x})


def test_a_plan_is_explained():
    plan = dg.explain(Track(), "speed", given=["x"])
    assert plan.is_exact
    assert plan.pruned == ("y",)
    assert plan.given == ("x", "u")
    (part,) = plan.parts
    assert part.engine.startswith("blocked scan over 999 steps")
    assert part.variables == ("speed", "position")
    assert "Kalman smoother: 1 sequences of 1000 steps, 3 hidden and 2 observed" in part.why
    real = dg.explain(coupled(), "b", given={"u": U, "w": W, "v": V})
    assert "hidden Markov model: 1 sequences of 4 steps, 6 states" in real.parts[0].why
    assert real.work > 4 * 36
    assert real.memory > 0
    start = Normal(0.0, 1.0)
    wild = dg.model(
        z=lambda last=dg.lag("z", init=start): Normal(last.sin(), 1.0), x=lambda z: Normal(z, 1.0)
    )
    refused = dg.explain(wild, "z", given="x")
    assert not refused.is_exact
    assert "particles" in refused.parts[0].engine
    assert "sin of a parent" in refused.parts[0].why
    with pytest.raises(dg.InadmissibleError, match="sin of a parent"):
        dg.explain(wild, "z", given="x", exact=True)
    with pytest.raises(dg.InadmissibleError, match="more than max_memory"):
        dg.explain(Track(), "speed", given=["x"], max_memory=100)


@pytest.mark.parametrize("finite", [True, False], ids=["tables", "gaussians"])
def test_what_is_set_at_all_steps_is_as_if_it_were_seen(finite):
    torch.manual_seed(0)
    move = torch.randn(2, 2, 2)
    p = dg.model(
        u=Categorical(torch.ones(2)) if finite else Normal(0.0, 1.0),
        z=(lambda u, last=dg.lag("z", init=0): Categorical(logits=move[u, last]))
        if finite
        else (lambda u, last=dg.lag("z", init=0.0): Normal(last + u, 1.0)),
        x=lambda z: Normal(1.0 * z, 0.5),
    )
    x, u = torch.randn(2, 4), torch.ones(2, 4, dtype=torch.long if finite else torch.float)
    found = dg.posterior(dg.do(p, u=u[0, 0]), "z", given={"x": x})
    seen = dg.posterior(p, "z", given={"x": x, "u": u})
    torch.testing.assert_close(found.mean, seen.mean)
    law = dg.log_evidence(p, {"u": u})
    torch.testing.assert_close(found.log_evidence, seen.log_evidence - law)
