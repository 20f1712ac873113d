"""Laws that every measure obeys, and what each refuses."""

import math

import pytest
import torch
from measured import MEASURES, Coder, Decoder, Generator, data
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal, OneHotCategorical

import daguerre as dg
from daguerre import measures as m
from daguerre.evaluate import measures as module

every = pytest.mark.parametrize("entry", MEASURES, ids=str)


def test_every_measure_is_in_the_registry():
    listed = {type(entry.make(entry.model())) for entry in MEASURES}
    made = {getattr(module, name) for name in module.__all__}
    no_measures = {m.Annealing, m.Classifier, m.Score, m.Scores, m.Subject, m.Measure, m.Features}
    assert listed == made - no_measures - {m.train_classifier}


@every
def test_it_gives_the_scores_it_names_each_with_an_error_bar_and_a_reading(entry):
    scores = entry.scores(entry.model())
    assert sorted(score.name for score in scores) == sorted(entry.gives)
    for score in scores:
        assert math.isfinite(score.value)
        assert 0 <= score.spread < math.inf
        assert score.note


@every
def test_the_seed_decides_and_nothing_is_left_behind(entry):
    p = entry.model().train()
    before = torch.get_rng_state()
    one = entry.scores(p, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert p.training
    assert p.drop.training
    assert p.shift.grad is None
    assert p.shift.requires_grad
    torch.manual_seed(55)
    assert entry.scores(p, seed=1) == one
    assert (entry.scores(p, seed=2) == one) is entry.drawless


@every
def test_models_are_measured_in_evaluation_mode(entry):
    """Dropout by one half would halve what is seen of z and add noise."""
    p = entry.model()
    assert entry.scores(p.train()) == entry.scores(p.eval())


@every
def test_its_place_in_the_list_changes_nothing(entry):
    p = entry.model()
    q = Coder() if entry.coded else None

    def noise(of):
        return m.Score("noise", torch.randn(()).item(), 0.0, "moves the generator")

    measures = [noise, entry.make(p), noise]
    scores = dg.evaluate(p, q, data(), measures=measures).scores
    assert scores[0].value == scores[-1].value
    assert scores[1:-1] == entry.scores(p).scores


# A measure of one's own


def test_a_function_is_a_measure():
    def sharpness(of):
        """The spread of the samples."""
        return m.Score.mean("sharpness", of.fake.square().mean(1), "mean square")

    score = dg.evaluate(Generator(), data=data(2000), measures=[sharpness])["sharpness"]
    assert abs(score.value - 1.25) < 4 * score.spread


def test_scores_of_one_name_are_told_apart():
    scores = dg.evaluate(Decoder(), Coder(), data(), measures=[m.IWAE(1), m.IWAE(30)])
    assert [score.name for score in scores] == ["iwae", "iwae 2"]
    assert "30 particles" in scores["iwae 2"].note
    assert len(scores.json()) == 2


def test_data_of_the_same_seed_is_not_the_noise_of_the_draws():
    """With one seed for both, samples of the right model would be the data, number by number."""
    torch.manual_seed(4)
    p, x = dg.model(x=Normal(torch.zeros(2), 1.0)), torch.randn(100, 2)
    scores = dg.evaluate(p, data=x, measures=[m.FID(), m.Manifold()], seed=4)
    assert scores["FID"].value > 0.001
    assert scores["density"].value != 1


def test_what_is_no_score_is_refused():
    with pytest.raises(TypeError, match="<lambda> returned 3; a measure returns a Score"):
        dg.evaluate(Generator(), data=data(), measures=[lambda of: [3]])  # type: ignore[list-item]


def test_scores_go_into_a_file():
    scores = dg.evaluate(Decoder(), Coder(), data(), measures=[m.ELBO()])
    assert scores.json() == {
        "elbo": {
            "value": scores["elbo"].value,
            "spread": scores["elbo"].spread,
            "note": "nats, a lower bound of log p(x)",
        }
    }


# What is refused


def mixed():
    """A discrete latent."""
    return dg.model(
        k=Categorical(torch.ones(2)), x=lambda k: Normal(k[:, None] * torch.ones(2), 1.0)
    )


def mixed_coder():
    return dg.model(x=dg.Input(2), k=lambda x: Categorical(logits=x))


def chain():
    return dg.model(
        z=lambda z=dg.lag("z", init=torch.zeros(2)): Normal(z, 1.0),  # type: ignore[misc]
        x=lambda z: Normal(z, 1.0),
    )


def chain_coder():
    return dg.model(x=dg.Input(2), z=lambda x: Normal(x, 1.0))


def hidden():
    return dg.model(
        z=Normal(torch.zeros(2), 1.0), y=lambda z: Normal(z, 1.0), x=lambda y: Normal(y, 1.0)
    )


def hidden_coder():
    return dg.model(x=dg.Input(2), y=lambda x: Normal(x, 1.0), z=lambda y: Normal(y, 1.0))


def conditional():
    return dg.model(c=dg.Input(2), z=lambda c: Normal(c, 1.0), x=lambda z: Normal(z, 1.0))


def visible():
    return dg.model(x=Normal(torch.zeros(2), 1.0))


SEQUENCES = torch.zeros(20, 5, 2)
NO_GAME = dg.elbo(Decoder(), Coder())
WIDE = torch.zeros(20, 2000)
Q = "takes draws of the latents given the data, so an inference model"
REFUSED = [
    (m.ELBO(), Decoder, None, data(), dg.InadmissibleError, Q),
    (m.IWAE(), Decoder, None, data(), dg.InadmissibleError, Q),
    (m.RateDistortion(), Decoder, None, data(), dg.InadmissibleError, Q),
    (m.UnitRates(), Decoder, None, data(), dg.InadmissibleError, Q),
    (m.ActiveUnits(), Decoder, None, data(), dg.InadmissibleError, Q),
    (m.AggregateSplit(), Decoder, None, data(), dg.InadmissibleError, Q),
    (m.Calibration(), Decoder, None, data(), dg.InadmissibleError, Q),
    (m.ELBO(), Generator, Coder, data(), dg.InadmissibleError, "x is implicit"),
    (m.AIS(), Generator, None, data(), dg.InadmissibleError, "AIS takes the density .* implicit"),
    (m.BDMC(), Generator, None, None, dg.InadmissibleError, "BDMC takes the density .* implicit"),
    (m.AIS(), mixed, None, data(), dg.InadmissibleError, "k ~ Categorical is discrete.*IWAE"),
    (m.AIS(), chain, None, SEQUENCES, dg.InadmissibleError, "AIS moves the latents of one row"),
    (m.AIS(), visible, None, data(), dg.InadmissibleError, "p.log_prob\\(x\\) is exact"),
    (m.ActiveUnits(), mixed, mixed_coder, data(), dg.InadmissibleError, "k .* has no mean"),
    (m.ActiveUnits(), chain, chain_coder, SEQUENCES, dg.InadmissibleError, "plates or time"),
    (m.UnitRates(), chain, chain_coder, SEQUENCES, dg.InadmissibleError, "plates or time"),
    (m.AggregateSplit(), hidden, hidden_coder, data(), dg.InadmissibleError, "integral over y"),
    (m.Calibration(), chain, chain_coder, None, dg.InadmissibleError, "plates or time"),
    (m.Calibration(lambda given, n: {}), conditional, None, None, dg.InadmissibleError, "needs c"),
    (m.Calibration(lambda given, n: {"y": 0}), Decoder, None, None, ValueError, "none of .* z"),  # type: ignore[arg-type]
    (m.Calibration(bins=7), Decoder, Coder, None, ValueError, "bins=7 must divide the 100 ranks"),
    (m.Calibration(rows=50), Decoder, Coder, None, ValueError, "5 of 50 rows"),
    (m.MMD2(), Generator, None, None, ValueError, "data=x"),
    (m.FID(), dg.model, None, WIDE, ValueError, "too wide to be compared as they are"),
    (m.FID(), Generator, None, data(8), ValueError, "takes 10 rows at least, not 8"),
    (m.FID(lambda x: x[:, 0]), Generator, None, data(), ValueError, "tensor \\[200, d\\], not"),
    (m.KID(lambda x: x / 0), Generator, None, data(), ValueError, "NaN or infinite"),
    (m.Manifold(k=200), Generator, None, data(), ValueError, "expected 1 to 179"),
    (m.Memorisation(torch.zeros(9, 3)), Generator, None, data(), ValueError, "3 values.* 2;"),
    (m.CriticRatio(NO_GAME), Generator, None, data(), dg.GraphError, "that of one critic"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: f"{type(c[0]).__name__}: {c[-1][:30]}")
def test_what_does_not_apply_is_refused_with_a_reason(case):
    measure, p, q, x, error, text = case
    model = dg.model(x=Normal(torch.zeros(2000), 1.0)) if p is dg.model else p()
    with pytest.raises(error, match=text):
        dg.evaluate(model, None if q is None else q(), x, measures=[measure])


def test_a_critic_that_is_no_ratio_is_refused():
    game = dg.gan(Generator(), nn.Linear(2, 1), loss=dg.games.HINGE)
    with pytest.raises(dg.InadmissibleError, match=r"the best critic of .* is not the log-ratio"):
        dg.evaluate(Generator(), data=data(), measures=[m.CriticRatio(game)])


@pytest.mark.parametrize(
    "make", [lambda: m.IWAE(0), lambda: m.Annealing(steps=0), lambda: m.Annealing(chains=0)]
)
def test_numbers_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match="not "):
        make()


def test_without_a_list_what_does_not_apply_is_left_out_and_said():
    scores = dg.evaluate(mixed(), mixed_coder(), data())
    assert "active units" not in scores
    assert "rate" in scores
    assert "no ActiveUnits: k ~ Categorical has no mean" in repr(scores)
    assert "ActiveUnits" in scores.json()["refused"]


@pytest.mark.parametrize("family", [Bernoulli, OneHotCategorical])
def test_units_that_are_states_have_rates_and_means(family):
    p = dg.model(k=family(logits=torch.zeros(2)), x=lambda k: Normal(2 * k - 1, 0.5))
    q = dg.model(x=dg.Input(2), k=lambda x: family(logits=8 * x / 2))
    x = p.sample(400)["x"]
    scores = dg.evaluate(p, q, x, measures=[m.UnitRates(), m.ActiveUnits(), m.RateDistortion()])
    assert scores["active units"].value == 2
    whole = sum(score.value for score in scores if score.name.startswith("rate k"))
    assert whole == pytest.approx(scores["rate"].value, abs=1e-4)
    assert whole > 0.4
