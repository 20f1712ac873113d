"""Shapes before data: what the table says, what it refuses, and that it touches nothing."""

import pytest
import torch
from models import MODELS, Chain, Decoder, Encoder, Generator, Latent, Shifted
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal, Uniform, constraints

import daguerre as dg
from daguerre.joint import as_joint
from daguerre.program import check_batch
from daguerre.shapes import Shape, trace_shapes
from daguerre.table import Table

every = pytest.mark.parametrize("entry", MODELS.values(), ids=MODELS)


def traced(model, **given):
    return trace_shapes(as_joint(model).program, given)


# What the table says


@every
def test_the_table_foretells_the_samples(entry):
    model = entry.make()
    rows = {row["variable"]: row for row in model.shapes()}
    values = model.sample(3, entry.given(model, 3))
    for name, value in values.items():
        event = ", ".join(map(str, ("n", *value.shape[1:])))
        assert rows[name]["shape"] == f"[{event}]"
        assert rows[name]["dtype"] == str(value.dtype).removeprefix("torch.")
        assert rows[name]["kind"] == entry.kinds[name]


def test_the_table_prints_itself_aligned():
    head, x, z = str(Encoder().shapes()).splitlines()
    assert head == "variable  parents  kind        shape   dtype    CPD     declared at"
    assert x == "x         -        input       [n, 3]  float32  given   input"
    assert z.startswith("z         x        prescribed  [n, 2]  float32  Normal  /")


def test_the_table_names_the_class_of_every_cpd_and_its_place():
    rows = {row["variable"]: row for row in Chain().shapes()}
    assert [rows[n]["CPD"] for n in "zyx"] == ["Normal", "ExpTransform", "AffineTransform"]
    assert rows["z"]["declared at"].rpartition(":")[0].endswith("models.py")


def test_an_input_of_unknown_shape_leaves_everything_below_it_open():
    class Open(Encoder):
        x = dg.Input()

    rows = {row["variable"]: row["shape"] for row in Open().shapes()}
    assert rows == {"x": "?", "z": "?"}
    rows = {row["variable"]: row["shape"] for row in Open().shapes(x=(3,))}
    assert rows == {"x": "[n, 3]", "z": "[n, 2]"}


def test_a_shape_for_an_unknown_name_is_refused():
    with pytest.raises(dg.GraphError, match="no variable 'y' in the graph; known: x, z"):
        Encoder().shapes(y=(3,))


def test_the_type_of_an_input_is_declared_with_it():
    class Words(dg.Model):
        k = dg.Input(4, dtype=torch.int64)

        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(7, 3)

        @dg.rv
        def x(self, k):
            return Normal(self.words(k), 1.0)

    rows = {row["variable"]: row for row in Words().shapes()}
    assert rows["k"]["dtype"] == "int64"
    assert rows["x"]["shape"] == "[n, 4, 3]"


def test_code_that_looks_into_a_tensor_leaves_its_variable_open():
    class Curious(Latent):
        @dg.rv
        def x(self, z):
            return Normal(z if z.sum() > 0 else -z, 1.0)

    rows = {row["variable"]: row["shape"] for row in Curious().shapes()}
    assert rows == {"z": "[n, 2]", "x": "?"}


def test_a_shape_tells_whether_gradients_reach_the_distribution():
    shapes = traced(Decoder())
    assert not shapes["z"].learned
    assert shapes["x"] == Shape(
        (3,), torch.float32, Normal, learned=True, support=constraints.real
    )
    assert not traced(Generator())["x"].learned


def test_a_nested_distribution_is_learned_where_its_base_is():
    model = dg.replace(
        Decoder(),
        x=dg.rv(
            lambda z, net: torch.distributions.Independent(Normal(net(z), 1.0), 1),
            net=nn.Linear(2, 3),
        ),
    )
    assert traced(model)["x"].learned


@pytest.mark.parametrize(
    ("family", "known"),
    [
        (Normal(0.0, 1.0), "Real()"),
        (Bernoulli(0.5), "Interval(lower_bound=0.0, upper_bound=1.0)"),
        (Categorical(logits=torch.zeros(4)), "IntegerInterval(lower_bound=0, upper_bound=3)"),
        (Uniform(0.0, 1.0), "None"),
    ],
)
def test_a_support_is_known_where_its_bounds_are_no_tensors(family, known):
    assert str(traced(dg.model(x=family))["x"].support) == known


# What it refuses, before data


def with_layers(*layers):
    model = Decoder()
    model.net = nn.Sequential(*layers)
    return model


def test_a_layer_of_the_wrong_width_is_named_with_edge_file_and_line():
    model = with_layers(nn.Linear(2, 5), nn.Linear(6, 3))
    with pytest.raises(dg.GraphError) as error:
        model.shapes()
    first, layer, parent = str(error.value).splitlines()
    assert first.startswith("x (z -> x), CPD at ")
    assert "models.py:" in first
    assert "[n, 5] X [6, 3]" in first
    assert layer == "  in layer net.1 = Linear(in_features=6, out_features=3, bias=True)"
    assert parent == "  z has shape [n, 2]"


@pytest.mark.parametrize(
    "cpd", [lambda z: Normal(torch.zeros(3), 1.0), lambda z: Normal(z.sum(), 1.0)]
)
def test_a_cpd_that_loses_the_batch_is_refused(cpd):
    model = dg.replace(Decoder(), x=cpd)
    with pytest.raises(
        dg.GraphError, match=r"x .*test_shapes\.py:\d+: the CPD returned the .* \[n, "
    ):
        model.shapes()
    with pytest.raises(dg.GraphError, match=r"its first dimension must be the batch, \[5, \.\.\."):
        model.sample(5)


def test_a_value_that_holds_the_batch_passes():
    step = as_joint(Decoder()).program.by_name["x"]
    value = torch.zeros(4, 2)
    check_batch(step, value.shape, 4)
    with pytest.raises(dg.GraphError, match="because x has parents"):
        check_batch(step, value.shape, 5)


def test_a_draw_that_must_carry_a_gradient_and_cannot_is_refused_before_data():
    model = dg.replace(
        Decoder(), x=dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=nn.Linear(2, 3))
    )
    assert traced(model)["x"].cpd is Bernoulli
    with pytest.raises(dg.InadmissibleError, match="draws of x ~ Bernoulli carry no pathwise"):
        trace_shapes(as_joint(model).program, {}, pathwise=True)


def test_an_error_of_the_users_own_keeps_its_message():
    class Angry(Latent):
        @dg.rv
        def x(self, z):
            raise ValueError("the net is not built yet")

    message = r"x \(z -> x\), CPD at .*: the net is not built yet\n  z has shape \[n, 2\]$"
    with pytest.raises(dg.GraphError, match=message):
        Angry().shapes()


def test_a_graph_error_from_inside_a_cpd_is_passed_on():
    class Picky(Latent):
        @dg.rv
        def x(self, z):
            raise dg.GraphError("my own words")

    with pytest.raises(dg.GraphError, match=r"^my own words$"):
        Picky().sample(2)


def test_an_error_without_a_message_is_named_by_its_class():
    class Angry(Latent):
        @dg.rv
        def x(self, z):
            raise LookupError

    with pytest.raises(dg.GraphError, match="LookupError"):
        Angry().sample(2)


def test_an_error_outside_of_any_cpd_stays_what_it_is():
    from daguerre.locate import located

    def fail(error):
        with located():
            raise error

    for error in (RuntimeError("elsewhere"), TypeError("elsewhere")):
        with pytest.raises(type(error), match=r"^elsewhere$"):
            fail(error)


def test_a_missing_method_of_torch_keeps_its_type_and_gains_its_place():
    class Half(torch.distributions.Distribution):
        def __init__(self):
            super().__init__(validate_args=False)

        def expand(self, batch_shape, _instance=None):
            return self

    with pytest.raises(NotImplementedError, match=r"^x"):
        dg.model(x=Half()).sample(2)


# It touches nothing


@every
def test_shapes_draw_nothing_and_change_nothing(entry):
    model = entry.make()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    before = torch.get_rng_state()
    model.shapes()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert model.training


def test_batch_statistics_are_not_touched_in_training_mode():
    model = Decoder().train()
    norm = model.net[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    model.shapes()
    assert norm.num_batches_tracked == 0
    assert (norm.running_mean == 0).all()
    model.sample(7)
    assert norm.num_batches_tracked == 1
    assert (norm.running_mean != 0).all()


def test_what_a_layer_averages_in_place_is_not_touched():
    class Averaged(Latent):
        mean: torch.Tensor

        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.ones(2))
            self.tied = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))

        @dg.rv
        def x(self, z):
            self.mean.mul_(0.5)
            return Normal(self.tied(z) + self.mean, 1.0)

    model = Averaged()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert [row["shape"] for row in model.shapes()] == ["[n, 2]", "[n, 2]"]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_tied_parameters_stay_tied():
    model = with_layers(nn.Linear(2, 2), nn.Linear(2, 2))
    model.net[1].weight = model.net[0].weight
    model.shapes()
    assert model.net[1].weight is model.net[0].weight


def test_a_lazy_layer_has_no_shapes_before_its_first_sample():
    model = with_layers(nn.LazyLinear(3))
    with pytest.raises(dg.GraphError, match=r"net\.0\.weight is lazy and has no shape yet; draw"):
        model.shapes()
    model.sample(2)
    assert [row["shape"] for row in model.shapes()] == ["[n, 2]", "[n, 3]"]


def test_parameters_of_any_size_cost_no_memory():
    model = dg.model(
        z=Normal(torch.zeros(1), 1.0), x=lambda z: Normal(z.expand(len(z), 10**9), 1.0)
    )
    assert [row["shape"] for row in model.shapes()] == ["[n, 1]", "[n, 1000000000]"]


def test_a_model_on_the_meta_device_has_shapes():
    model = Shifted().to("meta")
    assert [row["shape"] for row in model.shapes()] == ["[n, 2]"] * 3


def test_the_switch_of_torch_is_given_back():
    before = torch.distributions.Distribution._validate_args
    Decoder().shapes()
    assert torch.distributions.Distribution._validate_args is before


def test_discrete_variables_have_integer_shapes():
    model = dg.model(k=Categorical(logits=torch.zeros(4)))
    assert [(row["shape"], row["dtype"]) for row in model.shapes()] == [("[n]", "int64")]


# Tables


def test_a_table_is_its_rows():
    table = Table(("name", "shape"), (("z", "[n, 8]"), ("long", "[n]")))
    assert len(table) == 2
    assert list(table)[1] == {"name": "long", "shape": "[n]"}
    assert str(table) == repr(table) == "name  shape\nz     [n, 8]\nlong  [n]"


def test_a_table_without_rows_is_its_header():
    assert str(Table(("name", "shape"), ())) == "name  shape"


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = torch.zeros(())

    def forward(self, z):
        self.calls = self.calls + 1
        return z


def test_attributes_that_a_layer_replaces_are_as_they_were():
    net = Counting()
    p = dg.model(z=dg.StandardNormal(2), x=dg.rv(lambda z, net: Normal(net(z), 1.0), net=net))
    p.shapes()
    assert type(net.calls) is torch.Tensor
    assert net.calls.item() == 0
