"""Chains recognised in models with lags, against enumeration and the dense Gaussian."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Exponential, MultivariateNormal, Normal

import daguerre as dg
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.infer.chain.hmm import HMM, smoothed
from daguerre.infer.chain.paths import viterbi
from daguerre.infer.distributions import Finite

START = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MOVE = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]], dtype=torch.float64)
FIRST = Categorical(START)
SEE = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], dtype=torch.float64)


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


class Weather(dg.Model):
    def __init__(self):
        super().__init__()
        self.move, self.see = Tabular(MOVE, "last"), Tabular(SEE, "z")
        self.mean = nn.Parameter(torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64))

    @dg.rv
    def z(self, last=dg.lag("z", init=FIRST)):
        return self.move(last)

    @dg.rv
    def x(self, z):
        return self.see(z)

    @dg.rv
    def y(self, z):
        return Normal(self.mean[z], 1.5)


X = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 0, 1]])
Y = double([[0.3, 1.0, math.nan, -0.5, 2.0], [math.nan, 0.1, 0.2, 3.0, -1.0]])


def by_hand(model: Weather, *, y: bool) -> HMM:
    likelihood = SEE.log().T[X]
    if y:
        seen = Normal(model.mean.detach(), 1.5).log_prob(Y.nan_to_num().unsqueeze(-1))
        likelihood = likelihood + torch.where(Y.isnan().unsqueeze(-1), 0.0, seen)
    return HMM(START.log(), MOVE.log(), likelihood)


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


U = double([[0.5, -1.0, 2.0, 0.0]])
W = double([[1.0, 0.0, 1.0, 1.0]])
V = double([[0.2, -0.3, 1.0, 0.4]])


def coupled() -> dg.Model:
    """Two coupled hidden variables, an input, a deterministic node, an autoregressive emission."""
    return dg.model(
        u=dg.Input(),
        a=lambda u, last=dg.lag("a", init=0.0): Bernoulli(logits=0.3 + 1.1 * last + 0.4 * u),
        b=lambda a, last=dg.lag("b", init=FIRST), other=dg.lag("a", init=0.0): Categorical(
            logits=MOVE[last.long()].log() + torch.stack([a, 0 * a, other], -1)
        ),
        h=dg.deterministic(lambda a, b: a - 0.5 * b),
        w=lambda h, v: Bernoulli(logits=h + v),
        v=lambda h, past=dg.lag("v", 2, init=1.0): Normal(h + 0.5 * past, 0.7),
    )


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


class Track(dg.Model):
    """Position and speed, the position a function; a start to be learned; two sensors."""

    u = dg.Input()

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([0.5, -0.2], dtype=torch.float64))
        one = double([[0.9, 0.1], [-0.2, 0.8]])
        self.move = LinearGaussian(torch.zeros(2).double(), double([0.3, 0.4]), weights={"s": one})

    @dg.rv
    def speed(self, u, last=dg.lag("speed", init=lambda self: Normal(self.first, 1.0))):
        law = self.move(last)
        return Normal(law.mean + u.unsqueeze(-1), law.stddev)

    @dg.deterministic
    def position(self, speed, last=dg.lag("position", init=1.0)):
        return last + 0.5 * speed[..., 0]

    @dg.rv
    def x(self, position, speed):
        return Normal(torch.stack([position, speed[..., 1] - position], -1), 0.6)

    @dg.rv
    def y(self, position, x):
        return Normal(2 * position - x[..., 0] + 1.0, 0.9)


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


def walk() -> dg.Model:
    start = Normal(double(0.0), 1.0)
    return dg.model(
        z=lambda last=dg.lag("z", init=start): Normal(last, 0.5**0.5),
        x=lambda z: Normal(z, 0.3**0.5),
    )


def test_states_that_are_known_now_and_then():
    known = torch.tensor([[-1, 2, -1, -1, 0], [-1] * 5])
    found = dg.posterior(Weather(), "x", given={"z": known})
    filled = smoothed(HMM(START.log(), MOVE.log(), pinned(known)))
    close(found.probs, filled.probs @ SEE)
    close(found.log_evidence, filled.log_evidence)
    close(found.log_evidence[1], double(0.0))


def pinned(known: Tensor) -> Tensor:
    agrees = (known.unsqueeze(-1) == torch.arange(3)) | (known < 0).unsqueeze(-1)
    return torch.zeros(2, 5, 3).double().masked_fill(~agrees, -math.inf)


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
    wild = dg.model(
        z=lambda last=dg.lag("z", init=GAUSS): Normal(last.sin(), 1.0), x=lambda z: Normal(z, 1.0)
    )
    refused = dg.explain(wild, "z", given="x")
    assert not refused.is_exact
    assert "particles" in refused.parts[0].engine
    assert "sin of a parent" in refused.parts[0].why
    with pytest.raises(dg.InadmissibleError, match="sin of a parent"):
        dg.explain(wild, "z", given="x", exact=True)
    with pytest.raises(dg.InadmissibleError, match="more than max_memory"):
        dg.explain(Track(), "speed", given=["x"], max_memory=100)


def test_memory_and_what_else_is_refused():
    with pytest.raises(dg.InadmissibleError, match="more than max_memory"):
        dg.posterior(Weather(), "z", given={"x": X}, max_memory=100)
    with pytest.raises(dg.InadmissibleError, match="soft evidence on x: chains take none"):
        dg.posterior(Weather(), "z", given={"y": Y}, soft={"x": torch.ones(5, 2)})
    with pytest.raises(dg.InadmissibleError, match="b would be summed out"):
        dg.most_probable(coupled(), "a", given={"u": U, "w": W, "v": V})
    with pytest.raises(dg.GraphError, match="u is an input, which has a value at every step"):
        dg.posterior(coupled(), "a", given={"u": U * math.nan, "w": W})
    with pytest.raises(dg.GraphError, match="u must be given"):
        dg.posterior(coupled(), "a", given={"w": W})
    with pytest.raises(dg.GraphError, match=r"event \[2\], but the CPD has the event \[1\]"):
        dg.posterior(walk(), "z", given={"x": torch.ones(1, 3, 2)})


GAUSS = Normal(0.0, 1.0)
ONES = torch.ones(1, 3)
ELEVEN = torch.zeros(11)


@pytest.mark.parametrize(
    ("model", "observed", "text"),
    [
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last.sin(), 1.0),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "not linear Gaussian in the hidden z: sin of a parent",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last, 1.0 + last),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "the scale depends on the parents",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=1.0): Exponential(last), x=lambda z: Normal(z, 1.0)
            ),
            {"x": ONES},
            "Exponential is not Gaussian",
        ),
        (
            dg.model(
                s=lambda last=dg.lag("s", init=0.0): Bernoulli(logits=last),
                z=lambda s, last=dg.lag("z", init=GAUSS): Normal(last + s, 1.0),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "s are finite and z are not",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last.clamp(max=1e9), 1.0),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "clamp of a parent is not affine",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last, 1.0),
                x=lambda z: Normal((z + 1e6).relu(), 1.0),
            ),
            {"x": ONES},
            r"x \(z -> x\), CPD at .*relu of a parent is not affine",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", 2, init=0.0): Bernoulli(logits=last),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "the hidden z of 2 steps ago",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=ELEVEN): Bernoulli(logits=last),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": torch.ones(1, 3, 11)},
            "2048 states together",
        ),
        (
            dg.model(
                z=lambda past=dg.lag("x", init=0.0), last=dg.lag("z", init=0.0): Bernoulli(
                    logits=past + last
                ),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": torch.tensor([[1.0, math.nan, 2.0]])},
            r"x is hidden where it is missing \(NaN\)",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last, 1.0),
                x=dg.deterministic(lambda z: z),
            ),
            {"x": ONES},
            "x is observed and deterministic",
        ),
    ],
)
def test_what_is_not_exact_is_refused(model, observed, text):
    with pytest.raises(dg.InadmissibleError, match=text):
        dg.posterior(model, "z", given=observed, exact=True)


@pytest.mark.parametrize(
    ("targets", "observed", "text"),
    [
        ("z", {"x": torch.ones(3)}, r"\[B, T, \*event\]"),
        ("z", {}, "nothing is"),
        ("zz", {"x": X}, "did you mean 'z'"),
        ("x", {"x": X}, "x is a target and given"),
        ((), {"x": X}, "targets is empty"),
        ("z", {"xx": X}, "did you mean 'x'"),
        ("z", {"x": [["a"]]}, "its states have no names"),
        ("z", {"x": X, "y": Y[:, :4]}, "one B and T"),
        ("z", {"x": {}}, "or a list of names per sequence"),
        ("z", {"x": X, "y": torch.ones(2, 5, 1)}, r"event \[1\]"),
    ],
)
def test_wrong_questions_are_refused(targets, observed, text):
    with pytest.raises(dg.GraphError, match=text):
        dg.posterior(Weather(), targets, given=observed)
