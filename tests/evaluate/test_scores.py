"""One call measures both kinds of models, and leaves everything as it was."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal

import daguerre as dg


class Decoder(dg.Model):
    """x = z + shift, with noise: N(shift, 1.25 I)."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = nn.Parameter(torch.full((2,), shift))
        self.modes = []

    @dg.rv
    def z(self):
        return dg.StandardNormal(2)

    @dg.rv
    def x(self, z):
        self.modes.append(self.training)
        return Normal(z + self.shift, 0.5)


class Generator(Decoder):
    @dg.deterministic
    def x(self, z):
        self.modes.append(self.training)
        return z * 1.25**0.5 + self.shift


class Encoder(dg.Model):
    x = dg.Input(2)

    @dg.rv
    def z(self, x):
        return Normal(0.8 * x, 0.2**0.5)


def data(n=600):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(9)) * 1.25**0.5


def test_a_model_with_a_density_gets_bounds_and_two_sample_measures():
    x = data()
    scores = dg.evaluate(Decoder(), Encoder(), x, particles=10)
    bounds = ["elbo", "iwae", "rate", "distortion", "active units"]
    assert [score.name for score in scores] == [*bounds, "mmd2", "c2st"]
    exact = Normal(0.0, 1.25**0.5).log_prob(x).sum(1)  # q is the posterior of the unshifted model
    assert scores["iwae"].value == pytest.approx(exact.mean().item(), abs=1e-4)
    assert scores["iwae"].spread == pytest.approx((exact.std() / 600**0.5).item(), rel=0.01)
    assert abs(scores["elbo"].value - exact.mean().item()) < 4 * scores["elbo"].spread


def test_a_model_without_a_density_gets_two_sample_measures():
    scores = dg.evaluate(Generator(), None, data())
    assert [score.name for score in scores.scores] == ["mmd2", "c2st"]
    assert "elbo" not in scores
    assert "mmd2" in scores


@pytest.mark.parametrize("kind", [Decoder, Generator])
def test_a_right_model_looks_like_the_data_and_a_wrong_one_does_not(kind):
    right, wrong = (dg.evaluate(kind(shift), None, data()) for shift in (0.0, 3.0))
    assert abs(right["mmd2"].value) < 4 * right["mmd2"].spread
    assert abs(right["c2st"].value - 0.5) < 4 * right["c2st"].spread
    assert wrong["mmd2"].value > 20 * wrong["mmd2"].spread
    assert wrong["c2st"].value > 0.9


@pytest.mark.parametrize("training", [True, False])
def test_models_are_measured_in_evaluation_mode_and_given_theirs_back(training):
    p, q = Decoder().train(training), Encoder().train(training)
    p.modes.clear()
    dg.evaluate(p, q, data(100), particles=2)
    assert (p.training, q.training) == (training, training)
    assert p.modes
    assert not any(p.modes)


def test_the_mode_comes_back_after_an_error():
    p, q = Decoder(), Encoder()
    with pytest.raises(dg.GraphError, match="event shape"):
        dg.evaluate(p, q, torch.zeros(10, 3))
    assert p.training
    assert q.training


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    one = dg.evaluate(Decoder(), Encoder(), data(100), particles=2, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(55)
    assert dg.evaluate(Decoder(), Encoder(), data(100), particles=2, seed=1) == one
    assert dg.evaluate(Decoder(), Encoder(), data(100), particles=2, seed=2) != one


def test_no_gradient_is_kept():
    p = Decoder()
    dg.evaluate(p, Encoder(), data(100), particles=2)
    assert p.shift.grad is None


def test_a_density_is_needed_for_a_q():
    with pytest.raises(dg.InadmissibleError, match="x is implicit"):
        dg.evaluate(Generator(), Encoder(), data(100))


def test_a_missing_variable_is_refused():
    for q in (Encoder(), None):
        with pytest.raises(dg.GraphError, match=r"the data lacks 'x'.*did you mean 'X'"):
            dg.evaluate(Decoder(), q, {"X": data(100)})


def test_inputs_are_given_to_the_draws():
    p = dg.model(
        c=dg.Input(1),
        z=Normal(torch.zeros(1), 1.0),
        x=dg.deterministic(lambda z, c: 0.1 * z + 10 * c),
    )
    c = torch.randn(400, 1)
    scores = dg.evaluate(p, None, {"x": 10 * c + 0.1 * torch.randn(400, 1), "c": c})
    assert abs(scores["mmd2"].value) < 4 * scores["mmd2"].spread


def test_several_observed_variables_are_measured_together():
    """The marginals agree; only the pair tells the two apart."""
    p = dg.model(x=Normal(torch.zeros(1), 1.0), y=Normal(torch.zeros(1), 1.0))
    x = torch.randn(600, 1)
    apart = dg.evaluate(p, None, {"x": x, "y": -x})
    same = dg.evaluate(p, None, {"x": x, "y": torch.randn(600, 1)})
    assert apart["mmd2"].value > 10 * apart["mmd2"].spread
    assert abs(same["mmd2"].value) < 4 * same["mmd2"].spread


def test_scores_are_a_table():
    scores = dg.evaluate(Generator(), None, data(100))
    assert repr(scores).splitlines()[0].split() == ["measure", "value", "spread", "reading"]
    with pytest.raises(KeyError, match="no measure 'mmd'; did you mean 'mmd2'"):
        scores["mmd"]
