"""Estimators of gradients, exact: every possible draw is made once and weighed with its odds.

Parameters are inputs with a row for each outcome, so that one pass gives the gradient estimate of
every outcome, and the sum over outcomes is the estimator's mean without Monte Carlo error.
"""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal
from toys import STATES, divergence, f64, nodes

import daguerre as dg
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.estimators import (
    DREG,
    ENUMERATE,
    PATHWISE,
    STICK_THE_LANDING,
    Estimator,
    pathwise,
    score_function,
)
from daguerre.objectives.importance import ImportanceWeighted, Particles
from daguerre.objectives.kl_plan import Choices, kl_plan
from daguerre.objectives.objective import Round

PHI, THETA = f64(-0.4, 0.7, 0.3), f64(2.0, -1.0, 0.3)


class Belief(dg.Model):
    """h1, h2 -> x of the oracle G6, its weights an input of each row."""

    theta, phi = dg.Input(3), dg.Input(3)

    @dg.rv
    def h1(self):
        return Bernoulli(f64(0.3).squeeze())

    @dg.rv
    def h2(self):
        return Bernoulli(f64(0.6).squeeze())

    @dg.rv
    def x(self, h1, h2, theta, phi):
        return Bernoulli(logits=theta[:, 0] * h1 + theta[:, 1] * h2 + theta[:, 2] + 0 * phi[:, 0])


class Recognition(dg.Model):
    """q(h1) q(h2 | h1), its logits an input of each row."""

    x, theta, phi = dg.Input(), dg.Input(3), dg.Input(3)

    @dg.rv
    def h1(self, phi):
        return Bernoulli(logits=phi[:, 0])

    @dg.rv
    def h2(self, h1, phi):
        return Bernoulli(logits=phi[:, 1] + phi[:, 2] * h1)


def given(n: int, x: float = 1.0) -> dict[str, Tensor]:
    return {
        "x": torch.full([n], x, dtype=torch.float64),
        "theta": THETA.repeat(n, 1).requires_grad_(),
        "phi": PHI.repeat(n, 1).requires_grad_(),
    }


def log_joint(phi: Tensor, theta: Tensor, x: float = 1.0) -> tuple[Tensor, Tensor]:
    """log q(h) and log p(x, h) of the four states, by hand."""
    h1, h2 = STATES.T
    value = torch.tensor(x, dtype=torch.float64)
    log_q = Bernoulli(logits=phi[0]).log_prob(h1) + Bernoulli(
        logits=phi[1] + phi[2] * h1
    ).log_prob(h2)
    log_p = Bernoulli(f64(0.3)).log_prob(h1) + Bernoulli(f64(0.6)).log_prob(h2)
    likelihood = Bernoulli(logits=theta[0] * h1 + theta[1] * h2 + theta[2])
    return log_q, log_p + likelihood.log_prob(value.expand(4))


def exact(particles: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """The importance-weighted bound and its gradients by phi and theta, over all tuples."""
    phi, theta = PHI.clone().requires_grad_(), THETA.clone().requires_grad_()
    log_q, log_p = log_joint(phi, theta)
    index = torch.tensor([*itertools.product(range(4), repeat=particles)])
    odds = log_q[index].sum(1).exp()
    bound = (odds * ((log_p - log_q)[index].logsumexp(1) - math.log(particles))).sum()
    by_phi, by_theta = torch.autograd.grad(bound, (phi, theta))
    return bound.detach(), by_phi, by_theta


def over_all_draws(
    patch: pytest.MonkeyPatch, part, draws: int, player: str = "model"
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of an estimate and of its gradients by phi and theta, over all tuples of draws."""
    tuples = torch.tensor([*itertools.product(range(4), repeat=draws)])
    n = len(tuples)
    columns = itertools.cycle([STATES[tuples.T][..., i].reshape(-1) for i in (0, 1)])
    batch = given(n)
    with patch.context() as inside:
        inside.setattr(
            "daguerre.objectives.latents.draw_state",
            lambda cpd: next(columns).view(cpd.batch_shape),
        )
        odds = log_joint(PHI, THETA)[0][tuples].sum(1).exp()
        values = dg.Objective(((1.0, part),)).losses(batch, players=[player])[player]
        by_phi, by_theta = torch.autograd.grad(values, (batch["phi"], batch["theta"]))
    weights = odds[:, None] * n  # the loss is a mean over rows
    return values.detach(), (weights * by_phi).sum(0), (weights * by_theta).sum(0)


def plan(gradients: Estimator, p=None, q=None):
    data = dg.data("x", "theta", "phi")
    a = data * (q or Recognition())
    return kl_plan(
        a, dg.joint.Joint((p or Belief(),), ("h1", "h2", "x", "theta", "phi")), Choices(gradients)
    )


def test_enumeration_gives_the_exact_bound_and_gradients():
    batch = given(1)
    loss = KullbackLeibler(plan(ENUMERATE)).loss("model", at(batch))
    bound, by_phi, by_theta = exact()
    assert loss.item() == pytest.approx(-bound.item(), abs=1e-12)
    found = torch.autograd.grad(loss, (batch["phi"], batch["theta"]))
    torch.testing.assert_close(found[0].squeeze(0), -by_phi)
    torch.testing.assert_close(found[1].squeeze(0), -by_theta)


def at(batch):
    return Round(len(batch["x"]), batch)


@pytest.mark.parametrize("draws", [2, 3])
def test_the_score_function_with_leave_one_out_baseline_is_unbiased(monkeypatch, draws):
    part = KullbackLeibler(plan(score_function(draws=draws)))
    _, by_phi, by_theta = over_all_draws(monkeypatch, part, draws)
    _, phi, theta = exact()
    torch.testing.assert_close(by_phi, -phi)
    torch.testing.assert_close(by_theta, -theta)


def test_the_score_function_is_unbiased_with_any_learned_baseline(monkeypatch):
    class Guess(nn.Module):
        def forward(self, x, theta, phi):
            return 3 * x + 1.7

    part = KullbackLeibler(plan(score_function(baseline=Guess())))
    _, by_phi, by_theta = over_all_draws(monkeypatch, part, 1)
    _, phi, theta = exact()
    torch.testing.assert_close(by_phi, -phi)
    torch.testing.assert_close(by_theta, -theta)


@pytest.mark.parametrize("particles", [2, 3])
def test_vimco_is_unbiased(monkeypatch, particles):
    part = ImportanceWeighted(plan(score_function(draws=2)), Particles(particles))
    _, by_phi, by_theta = over_all_draws(monkeypatch, part, particles)
    _, phi, theta = exact(particles)
    torch.testing.assert_close(by_phi, -phi)
    torch.testing.assert_close(by_theta, -theta)


class Twins(dg.Model):
    """Two independent pairs: h1 -> x1 and h2 -> x2."""

    theta, phi = dg.Input(3), dg.Input(3)

    @dg.rv
    def h1(self):
        return Bernoulli(f64(0.3).squeeze())

    @dg.rv
    def h2(self):
        return Bernoulli(f64(0.6).squeeze())

    @dg.rv
    def x(self, h1, theta, phi):
        return Bernoulli(logits=theta[:, 0] * h1 - 0.5 + 0 * phi[:, 0])

    @dg.rv
    def y(self, h2, theta):
        return Bernoulli(logits=theta[:, 1] * h2 + theta[:, 2])


class Apart(dg.Model):
    """q(h1) q(h2)."""

    x, theta, phi = dg.Input(), dg.Input(3), dg.Input(3)

    @dg.rv
    def h1(self, phi):
        return Bernoulli(logits=phi[:, 0])

    @dg.rv
    def h2(self, phi):
        return Bernoulli(logits=phi[:, 1])


def test_a_draw_is_blamed_for_what_the_graph_says_it_can_change():
    def follows(chosen):
        return {(e.kind, e.name): sorted(e.follows) for e in chosen.entries()}

    assert follows(plan(score_function())) == {
        ("closed", "h1"): [],
        ("closed", "h2"): ["h1"],  # its posterior depends on h1
        ("b", "x"): ["h1", "h2"],
    }
    a = dg.data("x", "theta", "phi", "y") * Apart()
    b = dg.joint.Joint((Twins(),), ("h1", "h2", "x", "y", "theta", "phi"))
    assert follows(kl_plan(a, b, Choices(score_function()))) == {
        ("closed", "h1"): [],
        ("closed", "h2"): [],
        ("b", "x"): ["h1"],
        ("b", "y"): ["h2"],
    }


def test_a_recovered_parent_and_a_map_pass_the_blame_on():
    p = dg.model(
        h=Bernoulli(f64(0.5).squeeze()),
        m=dg.deterministic(lambda h: 2 * h - 1),
        x=lambda m: Normal(m, 1.0),
        y=Normal(0.0, 1.0),
    )
    q = dg.model(x=dg.Input(), h=lambda x: Bernoulli(logits=x))
    part = divergence(dg.elbo(p, q, observed=("x", "y"), gradients=score_function()))
    found = {(e.kind, e.name): sorted(e.follows) for e in part.entries}
    assert found == {("closed", "h"): [], ("b", "x"): ["h"], ("b", "y"): []}


def gradients_over_draws(patch, part, draws):
    """Each outcome's gradient by phi, and its odds."""
    tuples = torch.tensor([*itertools.product(range(4), repeat=draws)])
    n = len(tuples)
    columns = itertools.cycle([STATES[tuples.T][..., i].reshape(-1) for i in (0, 1)])
    batch = given(n) | {"y": torch.ones(n, dtype=torch.float64)}
    with patch.context() as inside:
        inside.setattr(
            "daguerre.objectives.latents.draw_state",
            lambda cpd: next(columns).view(cpd.batch_shape),
        )
        loss = part.loss("model", at(batch))
        (by_phi,) = torch.autograd.grad(loss, [batch["phi"]])
    log_q = sum(Bernoulli(logits=PHI[i]).log_prob(STATES[:, i]) for i in (0, 1))
    return n * by_phi, torch.as_tensor(log_q)[tuples].sum(1).exp()


def test_leaving_out_what_a_draw_cannot_change_keeps_the_mean_and_lowers_the_variance(monkeypatch):
    a = dg.data("x", "theta", "phi", "y") * Apart()
    b = dg.joint.Joint((Twins(),), ("h1", "h2", "x", "y", "theta", "phi"))
    blocks = KullbackLeibler(kl_plan(a, b, Choices(score_function(draws=2))))
    plain = KullbackLeibler(kl_plan(a, b, Choices(score_function(draws=2))))
    everything = frozenset(plain.plan.scored)
    plain.entries = tuple(entry._replace(follows=everything) for entry in plain.entries)
    means, variances = [], []
    for part in (blocks, plain):
        rows, odds = gradients_over_draws(monkeypatch, part, 2)
        mean = (odds[:, None] * rows).sum(0)
        means.append(mean)
        variances.append((odds[:, None] * (rows - mean) ** 2).sum(0))
    torch.testing.assert_close(*means)
    assert variances[0].sum() < 0.6 * variances[1].sum()


class Gaussian(dg.Model):
    """z -> x, linear and Gaussian, of the importance-weighted oracle."""

    theta, phi = dg.Input(1), dg.Input(2)

    @dg.rv
    def z(self):
        return Normal(f64(0.0).squeeze(), 1.0)

    @dg.rv
    def x(self, z, theta, phi):
        return Normal(theta[:, 0] * z + 0 * phi[:, 0], 0.7)


class Proposal(dg.Model):
    """q(z) with mean and log-scale as inputs."""

    x, theta, phi = dg.Input(), dg.Input(1), dg.Input(2)

    @dg.rv
    def z(self, phi):
        return Normal(phi[:, 0], phi[:, 1].exp())


def gaussian_batch(n, x=1.3, phi=(0.2, -0.5)):
    return {
        "x": torch.full([n], x, dtype=torch.float64),
        "theta": torch.ones(n, 1, dtype=torch.float64, requires_grad=True),
        "phi": f64(*phi).repeat(n, 1).requires_grad_(),
    }


def gaussian_plan(gradients):
    a = dg.data("x", "theta", "phi") * Proposal()
    return kl_plan(
        a, dg.joint.Joint((Gaussian(),), ("z", "x", "theta", "phi")), Choices(gradients)
    )


def integrated(patch, part, draws, order, batch=gaussian_batch):
    """Value and gradients of an estimate, averaged over draws by quadrature."""
    rule = nodes(draws, order)
    n = len(rule.weights)
    rows = batch(n)
    with patch.context() as inside:
        inside.setattr(
            "daguerre.families.standard_noise", lambda like: rule.draws.T.reshape(like.shape)
        )
        loss = part.loss("model", at(rows))
        grads = torch.autograd.grad(loss, (rows["phi"], rows["theta"]))
    return [(rule.weights[:, None] * n * grad).sum(0) for grad in grads]


@pytest.mark.parametrize("order", [0.0, 0.5])
def test_the_doubly_reparametrised_gradient_has_the_mean_of_the_plain_one(monkeypatch, order):
    plain = ImportanceWeighted(gaussian_plan(PATHWISE), Particles(2, order=order))
    doubly = ImportanceWeighted(gaussian_plan(DREG), Particles(2, order=order))
    expected = integrated(monkeypatch, plain, 2, 40)
    for found, want in zip(integrated(monkeypatch, doubly, 2, 40), expected, strict=True):
        torch.testing.assert_close(found, want, rtol=0, atol=2e-6)


def test_the_doubly_reparametrised_gradient_is_the_known_one():
    """K = 5: 2e7 draws of it gave 0.67144 and 0.44055."""
    torch.manual_seed(0)
    n, batch = 400_000, gaussian_batch(400_000)
    loss = ImportanceWeighted(gaussian_plan(DREG), Particles(5)).loss("model", at(batch))
    (grad,) = torch.autograd.grad(loss, [batch["phi"]])
    error = 5 * (n * grad).std(0) / math.sqrt(n)  # fails by chance once in a million times
    assert (((-n * grad).mean(0) - f64(0.67144, 0.44055)).abs() < error + 1e-4).all()
    assert loss.item() == pytest.approx(1.86034, abs=0.005)


def test_a_doubly_reparametrised_chain_has_the_mean_of_the_plain_one(monkeypatch):
    p = dg.model(
        phi=dg.Input(2), theta=dg.Input(1), z1=Normal(f64(0.0).squeeze(), 1.0),
        z2=lambda z1: Normal(0.8 * z1, 1.0),
        x=lambda z2, theta, phi: Normal(theta[:, 0] * z2 + 0 * phi[:, 0], 0.7),
    )  # fmt: skip
    q = dg.model(
        x=dg.Input(), theta=dg.Input(1), phi=dg.Input(2),
        z2=lambda x, phi: Normal(phi[:, 0] * x, 0.8),
        z1=lambda z2, phi: Normal(phi[:, 1] * z2, 0.9),
    )  # fmt: skip

    def part(gradients):
        a, b = (
            dg.data("x", "theta", "phi") * q,
            dg.joint.Joint((p,), ("z1", "z2", "x", "theta", "phi")),
        )
        return ImportanceWeighted(kl_plan(a, b, Choices(gradients)), Particles(2))

    def gradients(estimator):
        rule = nodes(4, 16)
        rows = gaussian_batch(len(rule.weights))
        columns = itertools.cycle([rule.draws[:, :2].T, rule.draws[:, 2:].T])
        chain = part(estimator)
        with monkeypatch.context() as inside:
            inside.setattr(
                "daguerre.families.standard_noise", lambda like: next(columns).reshape(like.shape)
            )
            loss = chain.loss("model", at(rows))
            (grad,) = torch.autograd.grad(loss, [rows["phi"]])
        return (rule.weights[:, None] * len(rule.weights) * grad).sum(0)

    torch.testing.assert_close(gradients(DREG), gradients(PATHWISE), rtol=0, atol=3e-3)


def test_sticking_the_landing_leaves_no_noise_at_the_posterior():
    """Oracle G5: the model of A3 with q the posterior."""
    torch.manual_seed(0)
    n, variance = 50_000, 1 / (1 / 0.49 + 1)

    def gradient(estimator):
        batch = gaussian_batch(n, phi=(variance * 1.3 / 0.49, 0.5 * math.log(variance)))
        chosen = gaussian_plan(estimator)
        part = KullbackLeibler(replace(chosen, closed={}))
        (grad,) = torch.autograd.grad(part.loss("model", at(batch)), [batch["phi"]])
        return n * grad[:, 0]

    assert gradient(STICK_THE_LANDING).abs().max().item() < 1e-12
    noise = gradient(PATHWISE).var().item() * variance
    assert noise == pytest.approx(1.0, abs=5 * math.sqrt(2 / n))  # 1 / s^2, five standard errors


def test_the_pathwise_variance_is_that_of_oracle_g5():
    """The gradient of E z^2 by the mean, of z ~ N(mu, 1) at mu = 1."""
    torch.manual_seed(0)
    n = 200_000
    a = dg.model(mu=dg.Input(1), z=lambda mu: Normal(mu[:, 0], 1.0))
    b = dg.model(z=Normal(f64(0.0).squeeze(), 0.5**0.5))  # -log b is z^2 and a constant
    mu = torch.ones(n, 1, dtype=torch.float64, requires_grad=True)
    found = {}
    for name, estimator in {"path": PATHWISE, "score": score_function(draws=2)}.items():
        cost = dg.cross_entropy(a, b, of="z", gradients=estimator)
        (grad,) = torch.autograd.grad(cost.losses({"mu": mu})["model"], [mu])
        found[name] = n * grad.squeeze(1)
        assert found[name].mean().item() == pytest.approx(2.0, abs=5 * 6 / math.sqrt(n))
    assert found["path"].var().item() == pytest.approx(4.0, rel=0.02)
    assert found["score"].var().item() > 2 * found["path"].var().item()


def test_the_plain_score_function_has_the_variance_of_oracle_g5():
    """A constant for a baseline, that of -log b = z^2 + c, leaves the plain estimator of z^2."""
    torch.manual_seed(0)
    n = 400_000

    class Constant(nn.Module):
        def forward(self, mu):
            return torch.full((len(mu),), 0.5 * math.log(math.pi), dtype=mu.dtype)

    a = dg.model(mu=dg.Input(1), z=lambda mu: Normal(mu[:, 0], 1.0))
    b = dg.model(z=Normal(f64(0.0).squeeze(), 0.5**0.5))
    mu = torch.ones(n, 1, dtype=torch.float64, requires_grad=True)
    cost = dg.cross_entropy(a, b, of="z", gradients=score_function(baseline=Constant()))
    (grad,) = torch.autograd.grad(cost.losses({"mu": mu}, players=["model"])["model"], [mu])
    assert (n * grad).mean().item() == pytest.approx(2.0, abs=5 * math.sqrt(30 / n))
    assert (n * grad).var().item() == pytest.approx(30.0, rel=0.05)


def test_several_pathwise_draws_are_averaged():
    torch.manual_seed(0)
    many = KullbackLeibler(replace(gaussian_plan(pathwise(draws=7)), closed={}))
    one = KullbackLeibler(replace(gaussian_plan(PATHWISE), closed={}))
    rows = gaussian_batch(3)
    assert len(many.latents.draw(at(rows)).trace.values["z"]) == 21
    spread = {
        part: torch.stack([part.loss("model", at(rows)).detach() for _ in range(400)]).var()
        for part in (many, one)
    }
    assert spread[many] < 0.25 * spread[one]


def test_sticking_the_landing_is_refused_for_bounds_of_several_draws():
    with pytest.raises(dg.InadmissibleError, match=r"biased for 3 draws of z.*DREG"):
        ImportanceWeighted(gaussian_plan(STICK_THE_LANDING), Particles(3))
