"""Chains recognised in models with lags, against enumeration and the dense Gaussian."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Exponential, MultivariateNormal, Normal

import daguerre as dg
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.infer.chain.answer import answer, log_evidence, most_probable
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
        found, expected = answer(model, "z", observed), smoothed(by_hand(model, y=y))
        marginal = found["z"]
        assert isinstance(marginal, Finite)
        close(marginal.probs, expected.probs)
        assert found.log_evidence is not None
        close(found.log_evidence, expected.log_evidence)
        close(log_evidence(model, observed), expected.log_evidence)
        assert found.exact
        assert "scan over 4 steps" in found.method
        assert marginal.batch_shape == (2, 5)
        best = most_probable(model, observed)
        assert torch.equal(best.values["z"], viterbi(by_hand(model, y=y)).states)
        draws = found.sample(7)
        assert isinstance(draws, Tensor)
        assert draws.shape == (7, 2, 5)


def test_ragged_sequences():
    lengths = torch.tensor([5, 2])
    hmm = by_hand(Weather(), y=True)
    expected = smoothed(HMM(hmm.log_start, hmm.log_transition, hmm.log_likelihood, lengths))
    found = answer(Weather(), "z", {"x": X, "y": Y}, lengths=lengths)
    assert isinstance(found.probs, Tensor)
    close(found.probs[1, :2], expected.probs[1, :2])
    close(log_evidence(Weather(), {"x": X, "y": Y}, lengths=lengths), expected.log_evidence)


def test_the_evidence_trains_the_model():
    model = Weather()
    log_evidence(model, {"x": X, "y": Y}).sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    step = 1e-6
    ends = []
    for sign in (-1, 1):
        moved = Weather()
        with torch.no_grad():
            moved.mean[1] += sign * step
        ends.append(log_evidence(moved, {"x": X, "y": Y}).sum().item())
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
    close(log_evidence(model, observed), total.logsumexp(0, keepdim=True))
    found = answer(model, ["b", "a"], observed)
    probs = total.softmax(0)
    for t, k in itertools.product(range(steps), range(3)):
        expected = sum(
            (p for p, path in zip(probs, cells, strict=True) if path[t][1] == k), torch.zeros(())
        )
        assert isinstance(found.probs, dict)
        close(found.probs["b"][0, t, k], expected)
    best = most_probable(model, observed)
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
    found = answer(model, ["speed", "position"], {"u": u, "x": x, "y": y})
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
    log_evidence(model, {"u": u, "x": x, "y": y}).sum().backward()
    assert model.first.grad is not None
    close(most_probable(model, {"u": u, "x": x, "y": y}).values["speed"], found["speed"].mean)


def test_what_bears_on_nothing_is_left_out():
    model = dg.model(
        z=lambda last=dg.lag("z", init=FIRST): Categorical(MOVE[last]),
        x=lambda z: Categorical(SEE[z]),
        w=lambda x, z: Exponential(1.0 + x + z),
    )
    found = answer(model, "z", {"x": X}).probs
    assert isinstance(found, Tensor)
    close(found, smoothed(HMM(START.log(), MOVE.log(), SEE.log().T[X])).probs)


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
            "not a Gaussian with a mean affine in the hidden z",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last, last.exp()),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "constant covariance",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=1.0): Exponential(last), x=lambda z: Normal(z, 1.0)
            ),
            {"x": ONES},
            "z is Exponential, neither finite nor Gaussian",
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
            "observed and missing",
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
        answer(model, "z", observed)


@pytest.mark.parametrize(
    ("targets", "observed", "text"),
    [
        ("z", {"x": torch.ones(3)}, r"\[B, T, \*event\]"),
        ("z", {}, "nothing is"),
        ("zz", {"x": X}, "did you mean 'z'"),
        ("x", {"x": X}, "x is no hidden variable of the chain"),
        ("z", {"x": X, "y": torch.ones(2, 5, 1)}, r"event \[1\]"),
    ],
)
def test_wrong_questions_are_refused(targets, observed, text):
    with pytest.raises(dg.GraphError, match=text):
        answer(Weather(), targets, observed)
