"""What Hu et al. (2018, arXiv 1706.00550) prove, by quadrature and the library's own losses."""

import math
from collections.abc import Callable

import pytest
import torch
from nets import zeros
from parts import generator
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn.functional import softplus
from toys import f64, integrate, nodes, normal

import daguerre as dg
from daguerre.objectives.games import IWGAN

GRID = torch.linspace(-16, 16, 32_001, dtype=torch.float64)
WIDTH = GRID[1] - GRID[0]

# Lemma 1, oracle B2

CASES = {  # (theta, a, b) of D(x) = sigmoid(a x + b): at theta, and one unit away
    (1.0, -1.0, 0.5): (0.3010135664, 0.3892632974, None),
    (1.0, -0.3, 0.0): (0.0859307865, 0.0964153671, 0.4823523151),
    (2.0, 0.7, -0.4): (-0.1008315704, -0.061243394, 0.358492371),
    (1.5, 0.0, 0.0): (0.0, 0.0, 0.4030069731),
}


def density(mean: Tensor | float) -> Tensor:
    return Normal(mean, 1.0).log_prob(GRID).exp()


def slope(function: Callable[[Tensor], Tensor], at: float) -> float:
    theta = f64(at).requires_grad_()
    return torch.autograd.grad(function(theta).sum(), theta)[0].item()


def adversarial_loss(logit: Tensor) -> Callable[[Tensor], Tensor]:
    """-E log q^r(y | x): the loss of the model, where y is fake with weight 1/2."""
    return lambda theta: (
        0.5 * (density(theta) * dg.games.NON_SATURATING.model(logit)).sum() * WIDTH
    )


def divergences(logit: Tensor, start: float) -> Callable[[Tensor], Tensor]:
    """E KL(p(x | y) || q^r(x | y)) - JSD, with q^r(x | y) proportional to q^r(y | x) p_0(x)."""
    mixture = (density(start) + density(0.0)) / 2
    reverse = []
    for judged in (logit.sigmoid(), (-logit).sigmoid()):  # of y = 0, then of y = 1
        joint = judged * mixture
        reverse.append(joint / (joint.sum() * WIDTH))

    def kl(p: Tensor, q: Tensor) -> Tensor:
        return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum() * WIDTH

    def value(theta: Tensor) -> Tensor:
        fake, real = density(theta), density(0.0)
        both = (fake + real) / 2
        jsd = (kl(fake, both) + kl(real, both)) / 2
        return (kl(fake, reverse[0]) + kl(real, reverse[1])) / 2 - jsd

    return value


@pytest.mark.parametrize("case", CASES)
def test_lemma_1_holds_at_the_start_for_any_discriminator_and_not_elsewhere(case):
    theta, a, b = case
    here, off, other = CASES[case]
    logit = a * GRID + b
    left, right = adversarial_loss(logit), divergences(logit, theta)
    assert slope(left, theta) == pytest.approx(here, abs=1e-8)
    assert slope(right, theta) == pytest.approx(here, abs=1e-8)
    assert slope(left, theta + 1) == pytest.approx(off, abs=1e-8)
    if other is not None:
        assert slope(right, theta + 1) == pytest.approx(other, abs=1e-8)


def test_the_draws_of_a_game_have_the_gradient_of_lemma_1():
    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -0.3 * x

    class Moved(dg.Model):
        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(f64(1.0))

        @dg.rv
        def x(self):
            return Normal(self.mean, 1.0)

    n, p = 100_000, Moved()
    torch.manual_seed(0)
    loss = dg.gan(p, Linear()).losses(zeros(n, 1), players=["model"])["model"]
    (found,) = torch.autograd.grad(loss, [p.mean])
    # each row's slope, 0.3 (1 - D) / 2, has a standard deviation below 0.03
    assert abs(found.item() / 2 - 0.0859307865) < 5 * 0.03 / math.sqrt(n)


# Lemma 2, oracle B4: data N(0, 4), frozen fakes N(0, 1.25)


def pair(w: Tensor, s: Tensor, k: Tensor, v: Tensor) -> tuple[dg.Model, dg.Model]:
    p = dg.model(
        z=normal(0.0, 1.0),
        x=dg.rv(lambda z, c: Normal(c[0] * z, c[1]), c=nn.ParameterList([w, s])),
    )
    q = dg.model(
        x=dg.Input(),
        z=dg.rv(lambda x, c: Normal(c[0] * x, c[1].sqrt()), c=nn.ParameterList([k, v])),
    )
    return p, q


def bounds(p: dg.Model, q: dg.Model, x: Tensor) -> Tensor:
    """Return the exact evidence bound of each x, by the log-densities of the library."""
    rule = nodes(1, 12)
    rows = x.repeat_interleave(len(rule.weights))
    cpd = q.steps()[1].cpd(rows)  # type: ignore[misc]
    assert isinstance(cpd, Normal)
    z = cpd.mean + cpd.stddev * rule.draws[:, 0].repeat(len(x))
    values = {"x": rows, "z": z}
    ratio = p.log_prob(values) - q.log_prob(values)
    return (ratio.reshape(len(x), -1) * rule.weights).sum(1)


def test_lemma_2_holds_with_its_constant():
    """Eq. 12, term by term: the perfect discriminator is the provenance of x, a label."""
    p, q = pair(f64(1.2), f64(0.7), f64(0.4), f64(0.3))
    rule = nodes(1, 12)
    real, fake = 2 * rule.draws[:, 0], math.sqrt(1.25) * rule.draws[:, 0]
    vae_bound = (rule.weights * bounds(p, q, real)).sum()
    assert vae_bound.item() == pytest.approx(-2.67873978735, abs=1e-9)

    def equation_12(y: int) -> Tensor:
        """E_q*r[...] where x is real (y = 1) or fake: q*r(y | x) is all at 1 - y."""
        to_prior = -math.log(2)  # of y: -KL(q*r(y | x) || p(y))
        if y == 1:
            return bounds(p, q, real) + to_prior
        return normal(0.0, 4.0).log_prob(fake) + to_prior  # z given y = 1: KL 0

    total = 0.5 * (rule.weights * (equation_12(0) + equation_12(1))).sum()
    assert total.item() == pytest.approx(-2.91668493112, abs=1e-9)
    constant = total - 0.5 * vae_bound
    assert constant.item() == pytest.approx(-1.57731503744, abs=1e-9)
    own = [*p.parameters(), *q.parameters()]
    ours, half = torch.autograd.grad(total, own), torch.autograd.grad(0.5 * vae_bound, own)
    for one, other in zip(ours, half, strict=True):
        torch.testing.assert_close(one, other)


def test_the_bound_of_lemma_2_is_that_of_the_library(monkeypatch):
    p, q = pair(f64(1.2), f64(0.7), f64(0.4), f64(0.3))
    for x in (-1.5, 0.2, 2.0):
        found = -integrate(monkeypatch, dg.elbo(p, q), {"x": f64(x)})
        assert found == pytest.approx(bounds(p, q, f64(x)).item(), abs=1e-9)


# The bound of InfoGAN, oracle G1


class Flipped(dg.Model):
    """A fair coin sent through a channel that flips it."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(f64(math.log((1 - rate) / rate)))

    @dg.rv
    def c(self):
        return Bernoulli(f64(0.5))

    @dg.rv
    def x(self, c):
        return Bernoulli(logits=self.logit * (2 * c - 1))


def told_by(rate: float) -> dg.Model:
    logit = math.log((1 - rate) / rate)
    return dg.model(x=dg.Input(1), c=lambda x: Bernoulli(logits=logit * (2 * x - 1)))


@pytest.mark.parametrize(
    ("rate", "bound"), [(0.2, 0.331374193134), (0.1, 0.368064207168)], ids=["bound", "tight"]
)
def test_infogans_bound_of_a_binary_channel_is_exact(rate, bound):
    cost = dg.cross_entropy(Flipped(0.1), told_by(rate), of="c", gradients=dg.estimators.ENUMERATE)
    information = math.log(2) - cost.losses(1)["model"].item()
    assert information == pytest.approx(bound, abs=1e-9)


def test_what_the_bound_misses_is_the_divergence_from_the_posterior():
    posterior, q = Bernoulli(f64(0.9)), Bernoulli(f64(0.8))
    assert kl_divergence(posterior, q).item() == pytest.approx(0.0366900140348, abs=1e-9)
    assert pytest.approx(0.0366900140348, abs=1e-11) == 0.368064207168 - 0.331374193134


def test_infogans_bound_of_a_gaussian_channel_is_below_the_information(monkeypatch):
    p = dg.model(c=normal(0.0, 1.0), x=dg.deterministic(lambda c: c))
    told = dg.model(
        c=normal(0.0, 1.0),
        e=normal(0.0, 1.0),
        x=dg.deterministic(lambda c, e: c + 0.4 * e),
    )
    assert p.kind("x") == told.kind("x") == "implicit"
    entropy = 0.5 * math.log(2 * math.pi * math.e)

    def information(q: dg.Model) -> float:
        cost = dg.cross_entropy(told, q, of="c")
        return entropy - integrate(monkeypatch, cost, {}, draws=2)

    q = dg.model(x=dg.Input(), c=lambda x: normal(x, 0.16))
    best = dg.model(x=dg.Input(), c=lambda x: normal(x / 1.16, 0.16 / 1.16))
    assert information(q) == pytest.approx(0.916290731874, abs=1e-9)
    assert information(best) == pytest.approx(0.990500734433, abs=1e-9)


# Importance weighted GAN, oracle B5


def test_the_weights_of_iwgan_are_those_of_oracle_b5():
    logits = f64(-1.0, 0.0, 2.0).requires_grad_()
    (weighted,) = torch.autograd.grad(IWGAN.model(logits).mean(), logits)
    (plain,) = torch.autograd.grad(dg.games.NON_SATURATING.model(logits).mean(), logits)
    torch.testing.assert_close(-plain, f64(0.243686192877, 0.166666666667, 0.0397343073407))
    torch.testing.assert_close(-weighted, f64(0.0307118192361, 0.0570975996923, 0.100582797937))
    weights = weighted / (logits.sigmoid() - 1)
    torch.testing.assert_close(weights, f64(0.0420100661341, 0.114195199385, 0.843794734481))


@pytest.mark.parametrize("logits", [f64(0.3), f64(0.3, 0.3, 0.3)], ids=["one draw", "equal"])
def test_without_a_difference_iwgan_is_a_gan(logits):
    torch.testing.assert_close(
        IWGAN.model(logits).mean(), dg.games.NON_SATURATING.model(logits).mean()
    )
    torch.testing.assert_close(
        IWGAN.first(logits).mean(), dg.games.NON_SATURATING.first(logits).mean()
    )


def test_under_the_best_critic_weights_make_model_draws_data():
    """B5: E_g[w] = 1 and E_g[w x^2] = E_data[x^2] for N(0, 1) against N(1, 1)."""
    x = torch.linspace(-13, 15, 20_001, dtype=torch.float64)
    mass = Normal(1.0, 1.0).log_prob(x).exp() * (x[1] - x[0])
    weights = (0.5 - x).exp()
    assert (mass * weights).sum().item() == pytest.approx(1, abs=1e-9)
    assert (mass * weights * x**2).sum().item() == pytest.approx(1, abs=1e-9)


# The critic of adversarial variational Bayes, oracle G3


def test_the_best_critic_of_codes_is_their_log_ratio():
    """The loss of a critic of q(z | x) against p(z) is flat at log q(z | x) - log p(z)."""
    q, prior = normal(0.5, 0.25), normal(0.0, 1.0)
    best = (q.log_prob(GRID) - prior.log_prob(GRID)).requires_grad_()
    masses = [d.log_prob(GRID).exp() * WIDTH for d in (q, prior)]
    game = dg.games.NON_SATURATING
    loss = (masses[0] * game.real(best) + masses[1] * game.fake(best)).sum()
    (flat,) = torch.autograd.grad(loss, best)
    assert flat.abs().max().item() < 1e-15
    assert (masses[0] * best).sum().item() == pytest.approx(0.44314718056, abs=1e-8)
    at = f64(0.3)
    assert (q.log_prob(at) - prior.log_prob(at)).item() == pytest.approx(0.65814718056)


def test_a_generator_whose_discriminator_is_blind_learns_nothing():
    """D = 1/2: the two gradients of lemma 1 cancel."""
    p = generator()
    blind = dg.gan(p, Blind())
    loss = blind.losses({"x": zeros(4, 3)}, players=["model"])["model"]
    assert loss.item() == pytest.approx(softplus(torch.zeros(())).item())
    assert all(g.abs().sum() == 0 for g in torch.autograd.grad(loss, [*p.parameters()]))


class Blind(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0 * x.sum(1)
