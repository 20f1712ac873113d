"""What a user may do wrong, or in a way of their own: a right answer, or an error that helps."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal

import daguerre as dg

NAN = math.nan


def mixture():
    """k -> z -> x: two states, then linear Gaussians."""
    return dg.model(
        k=dg.Tabular([0.5, 0.5]),
        z=dg.LinearGaussian(bias=[-2.0, 2.0], scale=[1.0, 1.0], given=["k"]),
        x=lambda z: Normal(3 * z, 1.0),
    )


def rain():
    """Rain wets the grass, always; states have names."""
    return dg.model(
        rain=dg.Tabular([0.8, 0.2], states=["no", "yes"]),
        wet=dg.Tabular([[0.9, 0.1], [0.0, 1.0]], "rain", states=["dry", "wet"]),
    )


def ask(x):
    return dg.posterior(mixture(), "z", given={"x": x}).mean.detach()


@pytest.mark.parametrize("x", [-1, -1.0, np.float32(-1), [-1.0], np.array([-1.0])])
def test_a_number_is_a_value_however_it_is_written(x):
    expected = ask(torch.tensor([-1.0]))
    torch.testing.assert_close(ask(x).float(), expected)
    assert expected < -0.1  # not the prior mean of 0, as if it were missing


def test_negative_integers_are_not_taken_for_missing_numbers():
    for x in ([-1, 2], [-1, -2]):
        with pytest.raises(dg.GraphError, match=r"x is continuous.*give floats, NaN"):
            ask(torch.tensor(x))


def test_negative_integers_mark_missing_states():
    p = dg.model(
        k=Categorical(torch.ones(3)),
        b=lambda k: Bernoulli((k + 1) / 4),
        x=lambda b: Normal(b, 1.0),
    )
    found = dg.posterior(p, "k", given={"b": torch.tensor([1, -1])}).probs
    torch.testing.assert_close(found, torch.tensor([[1 / 6, 1 / 3, 1 / 2], [1 / 3] * 3]))


def test_none_is_missing_in_lists():
    found = ask([1, None])
    torch.testing.assert_close(found, torch.stack([ask(1.0)[0], torch.tensor(0.0)]))
    torch.testing.assert_close(ask([None, None]), torch.zeros(2))


@pytest.mark.parametrize("b", [1, True, 1.0, torch.tensor([1]), torch.tensor([True])])
def test_a_yes_is_true_one_or_a_float_also_to_children(b):
    p = dg.model(
        k=Categorical(torch.ones(3)),
        b=lambda k: Bernoulli((k + 1) / 4),
        y=dg.rv(lambda b, net: Normal(net(b[:, None])[:, 0], 1.0), net=nn.Linear(1, 1)),
    )
    found = dg.posterior(p, "k", given={"b": b, "y": 0.5}).probs
    torch.testing.assert_close(found, torch.tensor([[1 / 6, 1 / 3, 1 / 2]]))


@pytest.mark.parametrize("x", [torch.zeros(0), []])
def test_no_rows_are_answered_by_no_rows(x):
    p = mixture()
    found = dg.posterior(p, ["k", "z"], given={"x": x})
    assert found["k"].probs.shape == (0, 2)
    assert found.sample(3)["z"].shape == (3, 0)
    assert dg.log_evidence(p, {"x": x}).shape == (0,)
    assert dg.most_probable(p, "k", given={"x": x}).values["k"].shape == (0,)
    assert dg.posterior(rain(), "rain", given={"wet": []}).probs.shape == (0, 2)


def test_no_draws_of_a_mixture():
    assert dg.posterior(mixture(), "z", given={"x": 1.0}).sample(0).shape == (0, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": torch.zeros(2, 1)}, r"shape \[2, 1\]; expected \[2\]"),
        ({"x": torch.zeros(2, device="meta")}, "meta device"),
        ({"x": torch.zeros(2, dtype=torch.complex64)}, "complex"),
        ({"x": {"value": 1.0}}, "must be a Tensor or list"),
        ({"x": [["a"], 1]}, "must be a Tensor or list"),
        ({"x": math.inf}, "infinite"),
        ({"k": -1}, "k has the states 0 to 1"),
    ],
)
def test_evidence_of_a_wrong_kind_is_refused(given, message):
    with pytest.raises(dg.GraphError, match=message):
        dg.posterior(mixture(), "z", given=given)


def test_words_of_a_question_are_checked():
    p = mixture()
    with pytest.raises(TypeError, match="given maps names to values"):
        dg.posterior(p, "z", given="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="targets are names"):
        dg.posterior(p, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_memory is a number of bytes, not '1GB'"):
        dg.posterior(p, "z", max_memory="1GB")  # type: ignore[arg-type]


def test_likelihoods_of_what_is_not_finite_are_refused():
    likely = {"z": torch.tensor([0.2, 0.8])}
    with pytest.raises(dg.InadmissibleError, match="soft evidence on z"):
        dg.posterior(mixture(), "k", given={"x": 1.0}, soft=likely)


def test_an_answer_is_one_line_and_says_whom_not_to_trust():
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(50 * z.relu(), 0.001))
    torch.manual_seed(0)
    found = dg.posterior(p, "z", given={"x": torch.tensor([150.0, -9.0])})
    assert "1 of 2 rows unreliable" in repr(found) or "2 of 2 rows unreliable" in repr(found)
    exact = dg.posterior(mixture(), ["k", "z"], given={"x": 1.0})
    assert repr(exact).startswith("Answer(k: Finite, z: GaussianMixture; exact, by Gaussian")
    with pytest.raises(dg.InadmissibleError, match=r"z is not finite.*answer\[name\].probs"):
        _ = exact.probs


def test_impossible_evidence_is_told_by_the_names_of_states():
    p = dg.model(
        rain=dg.Tabular([0.8, 0.2], states=["no", "yes"]),
        wet=dg.Tabular([[0.9, 0.1], [0.0, 1.0]], "rain", states=["dry", "wet"]),
        slip=dg.Tabular([[0.9, 0.1], [0.5, 0.5]], "wet"),
    )
    with pytest.raises(dg.GraphError, match=r"row 1 .*zero.*: rain = yes, wet = dry"):
        dg.posterior(p, "slip", given={"rain": "yes", "wet": ["wet", "dry"]})


def test_parameters_that_are_nan_give_an_error():
    p = dg.model(k=Categorical(torch.ones(2)), y=lambda k: _broken(k))
    for target, given in (("y", None), ("k", {"y": 1})):
        with pytest.raises(dg.GraphError, match="probability that is NaN"):
            dg.posterior(p, target, given=given)


def _broken(k):
    return Categorical(torch.full((len(k), 3), NAN), validate_args=False)


def test_negative_scales_give_an_error():
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: _backwards(z))
    with pytest.raises(dg.GraphError, match="negative scale"):
        dg.posterior(p, "z", given={"x": 1.0})


def _backwards(z):
    return Normal(z, -torch.ones_like(z), validate_args=False)


class Noisy(dg.Model):
    """A classifier with layers that behave otherwise in training."""

    x = dg.Input(4)

    def __init__(self):
        super().__init__()
        layers = (nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.net = nn.Sequential(*layers)

    @dg.rv
    def y(self, x):
        return Categorical(logits=self.net(x))


def test_questions_are_asked_in_evaluation_mode_and_leave_the_model_alone():
    torch.manual_seed(0)
    p, x = Noisy(), torch.randn(5, 4)
    before = {name: value.clone() for name, value in p.state_dict().items()}
    found = dg.posterior(p, "y", given={"x": x}).probs
    dg.most_probable(p, given={"x": x})
    dg.explain(p, "y", given=["x"])
    dg.posterior(p, "y", given={"x": x}).log_prob(torch.zeros(5, dtype=torch.long))
    assert p.training
    assert p.net[2].training
    for name, value in p.state_dict().items():
        torch.testing.assert_close(value, before[name])
    torch.testing.assert_close(found, p.eval().net(x).softmax(1))


def test_evidence_on_a_map_that_screens_off_needs_no_density():
    p = dg.model(
        z=Normal(0.0, 1.0),
        h=dg.deterministic(lambda z: z**2),
        x=lambda h: Normal(h, 1.0),
    )
    found = dg.posterior(p, "x", given={"h": 4.0})
    assert found.exact
    torch.testing.assert_close(found.mean, torch.tensor([4.0]))
    assert found.log_evidence is None  # h has no density


def test_the_log_evidence_is_not_that_of_a_part_of_the_evidence():
    p = dg.model(
        w=Normal(0.0, 1.0),
        y=lambda w: Normal(w.relu(), 1.0),
        z=Normal(0.0, 1.0),
        x=lambda z: Normal(z, 1.0),
    )
    found = dg.posterior(p, "x", given={"z": 1.0, "y": 2.0})
    assert found.exact
    assert found.log_evidence is None  # that of z alone would be -1.42
    with pytest.raises(dg.InadmissibleError, match="y is neither finite nor linear"):
        found.log_prob(torch.tensor([1.0]))


def test_do_takes_names_of_states():
    p = dg.do(rain(), rain="yes")
    assert p.sample(3)["wet"].tolist() == [1, 1, 1]
    with pytest.raises(dg.GraphError, match="did you mean 'yes'"):
        dg.do(rain(), rain="yess")
    with pytest.raises(dg.GraphError, match="no names; give a number"):
        dg.do(mixture(), z="high")


def test_a_function_with_a_large_default_is_refused_in_a_line():
    weight = torch.ones(64, 4)
    with pytest.raises(dg.GraphError, match=r"`w=\.\.\.` cannot be one") as error:
        dg.model(z=dg.StandardNormal(4), x=lambda z, w=weight: Normal(z @ w.T, 1.0))
    assert len(str(error.value)) < 150


def test_errors_list_few_of_many_names():
    p = dg.model(**{f"v{i}": Normal(0.0, 1.0) for i in range(500)})
    with pytest.raises(dg.GraphError, match="and 480 more") as error:
        dg.posterior(p, "unheard")
    assert len(str(error.value)) < 300


def test_long_chains_and_wide_stars():
    """Neither recursion nor a product of many small numbers stops them."""
    step = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    chain = {f"v{i}": dg.Tabular(step, f"v{i - 1}") for i in range(1, 1500)}
    p = dg.model(v0=dg.Tabular([0.5, 0.5]), **chain)
    found = dg.posterior(p, "v1499", given={"v0": 1}).probs[0]
    torch.testing.assert_close(found, torch.tensor([2 / 3, 1 / 3]))
    star = {f"v{i}": dg.Tabular(step, "c") for i in range(400)}
    p = dg.model(c=dg.Tabular([0.5, 0.5]), **star)
    log = dg.log_evidence(p, {f"v{i}": 1 for i in range(400)}).item()
    assert log == pytest.approx(math.log(0.5) + 400 * math.log(0.8), rel=1e-6)


class Classifier(dg.Model):
    """p(y | x)."""

    x = dg.Input(2)

    @dg.rv
    def y(self, x):
        return Categorical(logits=x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 5), r"x has the shape \[3, 5\], but is declared dg.Input\(2\)"),
        (torch.zeros(2), r"x has the shape \[2\], but is declared"),
        (torch.tensor([[0.0, 1.0], [NAN, 1.0]]), "no row may lack, but row 1 holds NaN"),
    ],
)
def test_inputs_are_as_declared(x, message):
    with pytest.raises(dg.GraphError, match=message):
        dg.posterior(Classifier(), "y", given={"x": x})


def test_a_finite_child_of_what_is_continuous_is_told_why():
    p = dg.model(z=Normal(0.0, 1.0), y=lambda z: Bernoulli(logits=3 * z))
    with pytest.raises(dg.InadmissibleError, match="y is a child of z, which is continuous"):
        dg.posterior(p, "z", given={"y": 1}, exact=True)


def test_a_call_that_would_take_too_much_memory_is_refused_before_it_is_made():
    p = dg.model(
        a=Categorical(torch.ones(100_000)),
        b=lambda a: Categorical(logits=torch.zeros(len(a), 100_000)),  # 40 GB
    )
    with pytest.raises(dg.InadmissibleError, match="b takes 1e\\+10 numbers for all states of a"):
        dg.posterior(p, "a", given={"b": 1})
