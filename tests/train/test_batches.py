"""Data checked before the first step, and the stream of batches."""

import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    Normal,
    OneHotCategorical,
    Poisson,
)

import daguerre as dg
from daguerre.objectives.observations import read_data
from daguerre.train.batches import Batches


class Family(dg.Model):
    """Three independent draws of a family, all its parameters exp(a)."""

    def __init__(self, family):
        super().__init__()
        self.family, self.a = family, nn.Parameter(torch.zeros(3))

    @dg.rv
    def x(self) -> Distribution:
        return self.family(self.a.exp())


FAMILIES = {
    "bernoulli": lambda a: Bernoulli(logits=a),
    "gamma": lambda a: Gamma(a, a),
    "beta": lambda a: Beta(a, a),
    "categorical": lambda a: Categorical(logits=a),
    "one-hot": lambda a: OneHotCategorical(logits=a),
    "poisson": Poisson,
    "exponential": Exponential,
    "dirichlet": Dirichlet,
    "normal": lambda a: Normal(a, 1.0),
}


def cost(family):
    return dg.nll(Family(FAMILIES[family]))


def planted(value):
    x = torch.full((6, 3), 0.5)
    x[4, 1] = value
    return x


@pytest.mark.parametrize(
    ("family", "data", "place"),
    [
        ("bernoulli", planted(-1.0), r"x = -1\.0 at \[4, 1\]"),
        ("bernoulli", planted(255.0), r"x = 255\.0 at \[4, 1\]"),
        ("gamma", planted(-0.1), r"at \[4, 1\]"),
        ("gamma", planted(0.0), r"x = 0\.0 at \[4, 1\]"),
        ("exponential", planted(-0.1), r"at \[4, 1\]"),
        ("beta", planted(1.5), r"x = 1\.5 at \[4, 1\]"),
        ("poisson", planted(1.0).mul(2).sub(3), r"x = -2\.0 at \[0, 0\]"),
        ("poisson", planted(1.0), r"x = 0\.5 at \[0, 0\]"),
        ("categorical", torch.tensor([0, 2, 3]), r"x = 3 at \[2\]"),
        ("categorical", torch.tensor([0, 2, -1]), r"x = -1 at \[2\]"),
        ("one-hot", planted(1.0), r"x = \[0\.5, 0\.5, 0\.5\] at \[0\]"),
        ("dirichlet", torch.eye(3).mul(0.9), r"at \[0\]"),
    ],
)
def test_data_outside_the_support_is_refused(family, data, place):
    with pytest.raises(ValueError, match=place) as error:
        read_data(cost(family), data)
    message = str(error.value)
    assert message.startswith("x, CPD at ")
    assert "test_batches.py:" in message
    assert "the support of" in message
    assert "rescale the data, or return another family" in message


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_whole_numbers_for_a_real_variable_are_refused(dtype):
    message = f"x is torch.float32 in the model, but the data is {dtype}; convert it with .float()"
    with pytest.raises(dg.GraphError, match=message):
        read_data(cost("bernoulli"), torch.ones(6, 3).to(dtype))


def test_the_place_is_that_of_the_whole_data():
    x = torch.full((10_000, 3), 0.5)
    x[9_000, 2] = 2
    with pytest.raises(ValueError, match=r"at \[9000, 2\]"):
        read_data(cost("bernoulli"), x)


@pytest.mark.parametrize(
    ("family", "data"),
    [
        ("bernoulli", torch.tensor([[0.0, 0.3, 1.0]])),
        ("gamma", torch.rand(5, 3) + 0.1),
        ("beta", torch.rand(5, 3).clamp(0.1, 0.9)),
        ("categorical", torch.tensor([0, 1, 2])),
        ("one-hot", torch.eye(3)),
        ("poisson", torch.tensor([[0.0, 1.0, 7.0]])),
        ("normal", torch.randn(5, 3) * 100),
        ("dirichlet", torch.full((2, 3), 1 / 3)),
    ],
)
def test_data_inside_the_support_trains(family, data):
    history = dg.fit(cost(family), data, steps=2, progress=False)
    assert history["model"].isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused_with_their_row(value):
    with pytest.raises(ValueError, match=r"x has NaN or infinite values in 1 of 6 rows.*row 4"):
        read_data(cost("normal"), planted(value))


def test_nan_in_an_input_is_refused_too():
    p = dg.model(c=dg.Input(), x=lambda c: Normal(c, 1.0))
    with pytest.raises(ValueError, match=r"c has NaN or infinite values in 1 of 3 .*row 2"):
        read_data(dg.nll(p), {"x": torch.zeros(3), "c": torch.tensor([0.0, 1.0, float("nan")])})


def test_data_without_rows_is_refused():
    with pytest.raises(ValueError, match="the data is empty: x has no rows"):
        read_data(cost("normal"), torch.zeros(0, 3))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"X": torch.zeros(4, 3)}, dg.GraphError, "lacks 'x'.*did you mean 'X'"),
        (torch.zeros(4, 2), dg.GraphError, r"event shape \[3\], but the data has \[2\]"),
        (torch.zeros(4, 3).numpy(), TypeError, r"a batch is.*torch\.as_tensor"),
    ],
    ids=["name", "shape", "numpy"],
)
def test_data_that_does_not_fit_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        dg.fit(cost("normal"), data, steps=1)


def test_an_objective_without_data_is_not_fitted_to_any():
    p = Family(FAMILIES["normal"])
    with pytest.raises(ValueError, match=r"observes no data.*dg\.train\.Step\(objective\)\(n\)"):
        dg.fit(dg.KL(p, dg.model(x=Normal(torch.zeros(3), 1.0))), 10, steps=1)  # type: ignore[arg-type]


def test_further_names_in_the_data_are_left_out():
    data = {"x": torch.zeros(4, 3), "label": torch.full((7,), float("nan"))}
    assert [*read_data(cost("normal"), data)] == ["x"]


def test_an_epoch_holds_every_row_at_most_once_and_differs_from_the_next():
    batches = Batches({"x": torch.arange(10), "y": torch.arange(10) * 2}, 3, seed=0)
    assert batches.per_epoch == 3
    epochs = []
    for _ in range(4):
        rows = [next(batches) for _ in range(3)]
        assert all(torch.equal(batch["y"], 2 * batch["x"]) for batch in rows)
        epochs.append(torch.cat([batch["x"] for batch in rows]).tolist())
        assert len({*epochs[-1]}) == 9
    assert len({*map(tuple, epochs)}) == 4
    assert {row for epoch in epochs for row in epoch} == {*range(10)}


def test_the_order_is_that_of_the_seed_alone():
    def rows(seed):
        batches = Batches({"x": torch.arange(10)}, 4, seed=seed)
        return [next(batches)["x"].tolist() for _ in range(5)]

    first = rows(3)
    torch.manual_seed(99)
    assert rows(3) == first
    assert rows(4) != first


@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_is_never_larger_than_the_data(rows):
    batches = Batches({"x": torch.arange(rows)}, 128, seed=0)
    assert (batches.size, batches.per_epoch) == (rows, 1)
    assert sorted(next(batches)["x"].tolist()) == [*range(rows)]


def test_every_place_in_the_stream_can_be_gone_to():
    data = {"x": torch.arange(10)}
    stream = Batches(data, 3, seed=0)
    places, rows = [], []
    for _ in range(10):
        places.append(stream.state())
        rows.append(next(stream)["x"])
    for i, place in enumerate(places):
        other = Batches(data, 3, seed=1)
        other.set(place)
        assert other.drawn == i
        assert all(torch.equal(next(other)["x"], later) for later in rows[i:])
