"""Latents that are summed over, drawn, or observed for some rows: all against formulas by hand."""

import math

import pytest
import torch
from labelled import CLASSES, LABELS, Labelled, Labeller, X
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal
from toys import f64

import daguerre as dg
from daguerre.objectives.estimators import ENUMERATE, gumbel_softmax, score_function


def labelled_bound(p: Labelled, q: Labeller, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """-log p(x, y, z) + log q(z | x, y) of each row, its KL in closed form."""
    posterior = q.z(x, y)
    z = posterior.loc + posterior.scale * noise
    rate = torch.distributions.kl_divergence(posterior, Normal(f64(0.0), 1.0)).sum(1)
    return rate - p.x(y, z).log_prob(x).sum(1) - Categorical(logits=p.prior).log_prob(y)


def by_hand(p: Labelled, q: Labeller, labels: Tensor, noise: Tensor) -> Tensor:
    """The cost of M2: a row with a label, or the sum over its labels, weighed by q."""
    every = torch.stack(
        [labelled_bound(p, q, X, torch.full((5,), k), noise[k]) for k in range(CLASSES)],
        1,
    )
    log_q = q.classifier(X).log_softmax(1)
    unlabelled = (log_q.exp() * (every + log_q)).sum(1)
    known = every.gather(1, labels.clamp_min(0)[:, None]).squeeze(1)
    return torch.where(labels >= 0, known, unlabelled).mean()


def test_partly_observed_labels_cost_what_the_formula_says(monkeypatch):
    p, q = Labelled(), Labeller()
    noise = torch.randn(CLASSES, 5, 2, generator=torch.Generator().manual_seed(3)).double()
    cost = dg.elbo(p, q, partial=["y"])
    assert cost.given == ("x", "y")
    monkeypatch.setattr("daguerre.families.standard_noise", lambda like: noise.reshape(like.shape))
    loss = cost.losses({"x": X, "y": LABELS})["model"]
    expected = by_hand(p, q, LABELS, noise)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    parameters = [*p.parameters(), *q.parameters()]
    found = torch.autograd.grad(loss, parameters)
    wanted = torch.autograd.grad(expected, parameters)
    torch.testing.assert_close(found, wanted)


def test_a_latent_without_labels_is_summed_over(monkeypatch):
    p, q = Labelled(), Labeller()
    noise = torch.randn(CLASSES, 5, 2, generator=torch.Generator().manual_seed(3)).double()
    cost = dg.elbo(p, q)
    monkeypatch.setattr("daguerre.families.standard_noise", lambda like: noise.reshape(like.shape))
    loss = cost.losses({"x": X})["model"]
    nothing = torch.full((5,), -1)
    assert loss.item() == pytest.approx(by_hand(p, q, nothing, noise).item(), abs=1e-12)
    assert "exact, summed over its states" in str(cost.explain())


def test_the_bound_of_several_draws_sums_over_states_inside(monkeypatch):
    p, q = Labelled(), Labeller()
    noise = torch.randn(CLASSES, 2, 5, 2, generator=torch.Generator().manual_seed(3)).double()
    cost = dg.iwae(p, q, particles=2, partial=["y"])
    monkeypatch.setattr("daguerre.families.standard_noise", lambda like: noise.reshape(like.shape))
    loss = cost.losses({"x": X, "y": LABELS})["model"]
    rows = []
    for k in range(CLASSES):
        y = torch.full((5,), k)
        for draw in noise[k]:
            posterior = q.z(X, y)
            z = posterior.loc + posterior.scale * draw
            own = posterior.log_prob(z).sum(1)
            prior = Normal(f64(0.0), 1.0).log_prob(z).sum(1) + p.prior.log_softmax(0)[k]
            rows.append(p.x(y, z).log_prob(X).sum(1) + prior - own)
    weights = torch.stack(rows).view(CLASSES, 2, 5)
    known = weights.gather(0, LABELS.clamp_min(0).expand(1, 2, 5)).squeeze(0)
    total = torch.where(LABELS >= 0, known, weights.logsumexp(0))
    expected = math.log(2) - total.logsumexp(0).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)


class Pair(dg.Model):
    """z -> x, w with w a latent that the data holds for some rows."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(f64(0.7))

    @dg.rv
    def z(self):
        return Normal(f64(0.0).squeeze(), 1.0)

    @dg.rv
    def w(self, z):
        return Normal(self.slope * z, 0.5)

    @dg.rv
    def x(self, w):
        return Normal(2 * w, 0.6)


class PairPosterior(dg.Model):
    x = dg.Input()

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(f64(0.3))

    @dg.rv
    def w(self, x):
        return Normal(0.4 * x, self.scale.exp())

    @dg.rv
    def z(self, w):
        return Normal(0.5 * w, 0.8)


def test_a_continuous_latent_is_taken_from_the_data_where_it_is_there(monkeypatch):
    p, q, x = Pair(), PairPosterior(), f64(0.5, -1.0, 0.2)
    w = f64(float("nan"), 0.3, float("nan"))
    noise = f64(0.4, -0.2, 1.1)
    cost = dg.elbo(p, q, observed=["x"], partial=["w"])
    monkeypatch.setattr("daguerre.families.standard_noise", lambda like: noise)
    loss = cost.losses({"x": x, "w": w})["model"]
    drawn = 0.4 * x + q.scale.exp() * noise
    value = torch.where(w.isnan(), drawn, w.nan_to_num())
    log_q = torch.where(w.isnan(), q.w(x).log_prob(value), 0.0)
    z = 0.5 * value + 0.8 * noise
    rate = torch.distributions.kl_divergence(q.z(value), Normal(f64(0.0), 1.0))
    log_p = p.w(z).log_prob(value) + p.x(value).log_prob(x)
    assert loss.item() == pytest.approx((log_q + rate - log_p).mean().item(), abs=1e-12)
    parameters = [*p.parameters(), *q.parameters()]
    for grad in torch.autograd.grad(loss, parameters):
        assert grad.isfinite().all()


def test_a_label_that_is_always_there_costs_what_observing_it_costs(monkeypatch):
    p, q = Labelled(), Labeller()
    labels = LABELS.clamp_min(0)
    noise = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(3)).double()
    given = dg.model(
        x=dg.Input(4), y=dg.Input(dtype=torch.int64), z=dg.rv(lambda x, y, q: q.z(x, y), q=q)
    )
    full = dg.elbo(p, given, observed=["x", "y"])
    part = dg.elbo(p, q, partial=["y"])
    monkeypatch.setattr(
        "daguerre.families.standard_noise",
        lambda like: noise.repeat(len(like) // 5, 1, 1).reshape(like.shape),
    )
    batch = {"x": X, "y": labels}
    assert part.losses(batch)["model"].item() == pytest.approx(full.losses(batch)["model"].item())


def test_the_score_function_takes_no_blame_for_what_was_observed():
    p, q = Labelled(), Labeller()
    torch.manual_seed(0)
    labels = LABELS.clamp_min(0)
    cost = dg.elbo(p, q, partial=["y"], gradients={"y": score_function(draws=2)})
    loss = cost.losses({"x": X, "y": labels})["model"]
    grads = torch.autograd.grad(loss, [*q.classifier.parameters()], allow_unused=True)
    assert all(grad is None or not grad.any() for grad in grads)


def test_data_may_lack_what_is_observed_in_part_and_nothing_else():
    p, q = Labelled(), Labeller()
    cost = dg.elbo(p, q, partial=["y"])
    data = {"x": X.float().double(), "y": LABELS}
    history = dg.fit(cost, data, steps=2, batch_size=5, progress=False, compile=False)
    assert len(history) == 2
    with pytest.raises(ValueError, match="support of Categorical"):
        dg.fit(cost, {"x": X, "y": LABELS + 5}, steps=1, batch_size=5, progress=False)
    with pytest.raises(ValueError, match="x has NaN"):
        dg.fit(cost, {"x": X * math.nan, "y": LABELS}, steps=1, batch_size=5, progress=False)


def test_a_name_that_is_no_latent_cannot_be_observed_in_part():
    with pytest.raises(dg.GraphError, match="'label' is no latent variable of the first side"):
        dg.elbo(Labelled(), Labeller(), partial=["label"])
    with pytest.raises(dg.GraphError, match=r"'Z' is no latent.*did you mean 'z'"):
        dg.elbo(Labelled(), Labeller(), gradients={"Z": ENUMERATE})


def test_a_normal_latent_has_no_states_to_sum_over():
    with pytest.raises(dg.InadmissibleError, match=r"z ~ Normal have no list of states"):
        dg.elbo(Labelled(), Labeller(), gradients={"z": ENUMERATE})
    with pytest.raises(dg.InadmissibleError, match=r"y ~ Categorical cannot be relaxed"):
        dg.elbo(Labelled(), Labeller(), gradients={"y": gumbel_softmax(0.5)})


class Modalities(dg.Model):
    """z -> x1, x2; whether a row holds them is given."""

    held1, held2 = dg.Input(dtype=torch.bool), dg.Input(dtype=torch.bool)

    @dg.rv
    def z(self):
        return Normal(torch.zeros(1, dtype=torch.float64), 1.0)

    @dg.rv
    def x1(self, z):
        return Normal(2 * z, 0.5)

    @dg.rv
    def x2(self, z):
        return Normal(1 - z, 0.9)


class Experts(dg.Model):
    """The posterior of whatever is held, exactly: a product of Gaussian experts."""

    x1, x2 = dg.Input(1), dg.Input(1)
    held1, held2 = dg.Input(dtype=torch.bool), dg.Input(dtype=torch.bool)

    @dg.rv
    def z(self, x1, x2, held1, held2):
        one = torch.ones_like(x1)
        means, scales = [x1 / 2, 1 - x2], [0.25 * one, 0.9 * one]
        return dg.nn.product_of_experts(means, scales, [held1, held2])


@pytest.mark.parametrize("bound", [dg.elbo, dg.iwae])
def test_a_product_of_experts_bounds_what_is_held_of_each_row(bound):
    x1, x2 = f64(0.7, 0.7, math.nan)[:, None], f64(-0.2, math.nan, -0.2)[:, None]
    held = {"held1": ~x1.isnan()[:, 0], "held2": ~x2.isnan()[:, 0]}
    cost = bound(Modalities(), Experts(), observed=("x1", "x2"), partial=("x1", "x2"))
    loss = cost.losses({"x1": x1, "x2": x2, **held})["model"].item()
    both = torch.distributions.MultivariateNormal(
        f64(0.0, 1.0), f64(4.25, -2.0, -2.0, 1.81).view(2, 2)
    )
    exact = [
        both.log_prob(f64(0.7, -0.2)),
        Normal(0.0, 4.25**0.5).log_prob(f64(0.7)),
        Normal(1.0, 1.81**0.5).log_prob(f64(-0.2)),
    ]
    evidence = torch.stack([*map(torch.squeeze, exact)]).mean().item()
    if bound is dg.iwae:  # the posterior's own draws give the evidence, each of them
        assert loss == pytest.approx(-evidence, abs=1e-6)
    torch.manual_seed(0)
    many = {name: value.repeat(40_000, *[1] * (value.dim() - 1)) for name, value in held.items()}
    rows = {"x1": x1.repeat(40_000, 1), "x2": x2.repeat(40_000, 1), **many}
    mean = cost.losses(rows)["model"].item()
    assert mean == pytest.approx(-evidence, abs=0.02)


class Sprinkler(dg.Model):
    """Cloudy, sprinkler, rain, wet grass: the oracle G7."""

    @dg.rv
    def c(self):
        return Bernoulli(f64(0.5).squeeze())

    @dg.rv
    def s(self, c):
        return Bernoulli(0.5 - 0.4 * c)

    @dg.rv
    def r(self, c):
        return Bernoulli(0.2 + 0.6 * c)

    @dg.rv
    def w(self, s, r):
        return Bernoulli(0.9 * (s + r - s * r) + 0.09 * s * r)


class Anything(dg.Model):
    """A q of every latent, each a fair coin: all states are summed over."""

    w = dg.Input()

    @dg.rv
    def c(self, w):
        return Bernoulli(torch.full_like(w, 0.5))

    @dg.rv
    def s(self, w):
        return Bernoulli(torch.full_like(w, 0.5))

    @dg.rv
    def r(self, w):
        return Bernoulli(torch.full_like(w, 0.5))


def test_a_bound_that_sums_over_all_states_is_the_evidence_of_oracle_g7():
    def probability(**seen: float) -> float:
        cost = dg.iwae(
            Sprinkler(), Anything(), particles=1, partial=("s", "r"), gradients=ENUMERATE
        )
        nan = f64(math.nan)
        batch = {"w": f64(1.0), "s": nan, "r": nan} | {k: f64(v) for k, v in seen.items()}
        return math.exp(-cost.losses(batch)["model"].item())

    wet = probability()
    assert wet == pytest.approx(0.6471, abs=1e-6)
    assert probability(s=1.0) / wet == pytest.approx(0.429763560501, abs=1e-6)
    assert probability(r=1.0) / wet == pytest.approx(0.70792767733, abs=1e-6)
    both = probability(s=1.0, r=1.0) / probability(r=1.0)
    assert both == pytest.approx(0.194499017682, abs=1e-6)


def test_a_recurrent_net_is_a_model_of_sequences_as_oracle_g9_says():
    """h_t = tanh(0.7 h_{t-1} + 1.3 (2 y_{t-1} - 1)), P(y_t = 1) = sigmoid(2 h_t)."""

    def state(h: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(0.7 * h + 1.3 * (2 * y - 1))

    p = dg.model(
        h1=torch.tanh(f64(-1.3)).squeeze(),
        h2=dg.deterministic(lambda h1, y1: state(h1, y1)),
        h3=dg.deterministic(lambda h2, y2: state(h2, y2)),
        h4=dg.deterministic(lambda h3, y3: state(h3, y3)),
        h5=dg.deterministic(lambda h4, y4: state(h4, y4)),
        h6=dg.deterministic(lambda h5, y5: state(h5, y5)),
        y1=lambda h1: Bernoulli(logits=2 * h1),
        y2=lambda h2: Bernoulli(logits=2 * h2),
        y3=lambda h3: Bernoulli(logits=2 * h3),
        y4=lambda h4: Bernoulli(logits=2 * h4),
        y5=lambda h5: Bernoulli(logits=2 * h5),
        y6=lambda h6: Bernoulli(logits=2 * h6),
    )
    names = [f"y{t}" for t in range(1, 7)]
    every = torch.cartesian_prod(*[f64(0.0, 1.0)] * 6)
    odds = p.log_prob(dict(zip(names, every.T, strict=True))).exp()
    assert odds.sum().item() == pytest.approx(1.0, abs=1e-12)
    for first, third in ((0.0, 0.753378558283), (1.0, 0.867164599371)):
        given = (every[:, 0] == first) & (every[:, 1] == 1)
        share = odds[given & (every[:, 2] == 1)].sum() / odds[given].sum()
        assert share.item() == pytest.approx(third, abs=1e-10)
