"""Calibration and critics: what is right passes, at a stated rate, and what is wrong is caught."""

import math

import pytest
import torch
from measured import Coder, Critic, Decoder, Generator, data, posterior
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre import measures as m
from daguerre.evaluate.calibration import calibration, drawn_by, uniformity
from daguerre.evaluate.subject import seeded


def p_values(q, seed, rows=500):
    with seeded(seed):
        ranks = calibration(Decoder().eval(), drawn_by(q.eval()), held=("x",), rows=rows, draws=99)
        return uniformity(ranks["z"], draws=99).p_value


def test_an_exact_posterior_passes():
    """120 p-values: below 0.05 in 6 on average, in 16 or more once in 4,000 times."""
    found = torch.cat([p_values(Coder(), seed) for seed in range(60)])
    assert (found < 0.05).sum() < 16
    assert abs(found.mean() - 0.5) < 4 / (12 * 120) ** 0.5


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_posterior_of_another_width_is_caught_each_time(factor):
    for seed in range(5):
        assert p_values(Coder(factor), seed, rows=1000).min() < 1e-3


@pytest.mark.parametrize(
    ("factor", "shift", "word"), [(0.7, 0.0, "narrow"), (1.4, 0.0, "wide"), (1.0, 0.2, "high")]
)
def test_it_says_what_is_wrong(factor, shift, word):
    q = dg.model(x=dg.Input(2), z=lambda x: Normal(0.8 * x + shift, factor * 0.2**0.5))
    score = dg.evaluate(Decoder(), q, measures=[m.Calibration()])["calibration"]
    assert score.note.endswith(f"too {word}")
    assert score.value > 1 + 4 * score.spread


def test_the_score_of_an_exact_posterior_is_one_within_its_spread():
    for measure in (m.Calibration(), m.Calibration(posterior)):
        score = dg.evaluate(Decoder(), Coder(), measures=[measure])["calibration"]
        assert abs(score.value - 1) < 4 * score.spread


def test_the_exact_engine_is_calibrated():
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(2 * z, 1.0))

    def exact(given, draws):
        return {"z": dg.posterior(p, "z", given=given).sample(draws)}

    score = dg.evaluate(p, measures=[m.Calibration(exact)])["calibration"]
    assert abs(score.value - 1) < 4 * score.spread


@pytest.mark.parametrize("right", [True, False])
def test_states_are_ranked_with_ties_broken_at_random(right):
    """k is one of two: exact by Bayes' rule, or told to be sure."""
    p = dg.model(k=Bernoulli(torch.tensor(0.3)), x=lambda k: Normal(2 * k, 1.0))
    logit = math.log(0.3 / 0.7)
    q = dg.model(
        x=dg.Input(), k=lambda x: Bernoulli(logits=(2 * x - 2 + logit) * (1 if right else 3))
    )
    score = dg.evaluate(p, q, measures=[m.Calibration(rows=4000)])["calibration"]
    assert (abs(score.value - 1) < 4 * score.spread) is right


def test_uniform_ranks_have_pearsons_distribution():
    """Of 2,000 columns the share of p < 0.05 is 0.05 to 4 standard errors, 0.02."""
    ranks = torch.randint(100, (500, 2000), generator=torch.Generator().manual_seed(3))
    found = uniformity(ranks, draws=99)
    assert abs((found.p_value < 0.05).double().mean().item() - 0.05) < 0.02
    assert found.histogram.sum(0).eq(500).all()
    assert found.statistic.std().item() == pytest.approx((2 / 19) ** 0.5, rel=0.1)


# What a critic says: N(0, 1.25 I) against the same shifted by one in both dimensions


def test_the_best_critic_finds_both_divergences():
    """KL = 2 / (2 * 1.25) = 0.8; the JS of two Gaussians that far apart by quadrature."""
    game = dg.gan(Generator(1.0), Critic())
    scores = dg.evaluate(Generator(1.0), data=data(20_000), measures=[m.CriticRatio(game)])
    distance = (2 / 1.25) ** 0.5
    grid = torch.linspace(-12, 12, 8001, dtype=torch.float64)
    a, b = (Normal(mean, 1.0).log_prob(grid).exp() for mean in (0.0, distance))
    mean = (a + b) / 2
    terms = sum((v * (v / mean).log()).nan_to_num() / 2 for v in (a, b))
    exact = {"critic kl": 0.8, "critic js": torch.trapezoid(terms, grid).item()}  # type: ignore[arg-type]
    for name, value in exact.items():
        assert abs(scores[name].value - value) < 4 * scores[name].spread


def test_another_critic_finds_less_of_the_js():
    critic = Critic()
    best, worse = [], []
    for factor, found in ((1.0, best), (3.0, worse)):
        critic.weight.data.fill_(-0.8 * factor)
        game = dg.gan(Generator(1.0), critic)
        scores = dg.evaluate(Generator(1.0), data=data(5000), measures=[m.CriticRatio(game)])
        found.append(scores["critic js"])
    assert worse[0].value < best[0].value - 4 * best[0].spread


def test_a_critic_of_pairs_sees_what_both_sides_draw():
    """ALI: (x, q(z | x)) against (p(x | z), z); a critic that knows nothing says 0."""

    class Blind(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(4))

        def forward(self, *values):
            return torch.cat(values, 1) @ self.weight

    p, q = Decoder(), Coder()
    game = dg.recipes.ali(p, q, Blind())
    scores = dg.evaluate(p, q, data(50), measures=[m.CriticRatio(game)])
    assert scores["critic js"].value == pytest.approx(0, abs=1e-6)
    assert scores["critic kl"].value == 0
