"""Planted mistakes: each is caught, and the message names the variable, the place and the fix."""

import re

import pytest
import torch
from models import Decoder, Encoder, Generator, Latent
from torch import nn
from torch.distributions import Bernoulli, ExpTransform, Normal

import daguerre as dg
from daguerre.gallery.rnn import LSTM
from daguerre.joint import as_joint
from daguerre.nn import mlp
from daguerre.queries import batch_size


def standard(self):
    return Normal(torch.zeros(2), 1.0)


def declare(base: type[dg.Model] = dg.Model, /, **body):
    """Create a class as a class statement does."""
    return type("Slip", (base,), body)


# Slips in a class body, found when the class is made


def test_a_misspelt_parent_is_found_when_the_class_is_made():
    with pytest.raises(dg.GraphError) as error:

        class Slip(dg.Model):
            @dg.rv
            def latent(self):
                return Normal(torch.zeros(2), 1.0)

            @dg.rv
            def x(self, latant):
                return Normal(latant, 1.0)

    first, *places = str(error.value).splitlines()
    assert first == "Slip: 'x' has the unknown parent 'latant'; did you mean 'latent'?"
    assert all(
        re.fullmatch(r"  (x|latent) is declared at .*test_errors.py:\d+", p) for p in places
    )
    assert len(places) == 2


def test_a_misspelt_parent_of_a_bijection_is_found_when_the_class_is_made():
    with pytest.raises(dg.GraphError, match="'x' has the unknown parent 'zz'; did you mean 'z'"):
        declare(Latent, x=dg.bijection("zz", ExpTransform()))


@pytest.mark.parametrize(
    "name", ["train", "type", "forward", "to", "training", "graph", "sample", "base", "_z"]
)
def test_a_reserved_name_is_refused_by_both_front_ends(name):
    message = f"'{name}' is a reserved name of torch.nn.Module; use another"
    with pytest.raises(dg.GraphError, match=f"Slip: {message}") as error:
        declare(**{name: dg.rv(standard)})
    assert f"{name} is declared at" in str(error.value)
    with pytest.raises(dg.GraphError, match=message):
        dg.model(**{name: Normal(0.0, 1.0)})


def test_a_reserved_name_is_refused_for_an_input_too():
    with pytest.raises(dg.GraphError, match="'type' is a reserved name"):
        declare(type=dg.Input(2))


def test_a_cycle_is_found_when_the_class_is_made():
    message = (
        r"Slip: the graph has a cycle: (x -> z -> x|z -> x -> z); remove an edge\n  . is decl"
    )
    with pytest.raises(dg.GraphError, match=message):
        declare(x=dg.rv(lambda self, z: Normal(z, 1.0)), z=dg.rv(lambda self, x: Normal(x, 1.0)))


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (lambda self, z, scale=1.0: Normal(z, scale), "scale=1.0"),
        (lambda self, *parents: Normal(0.0, 1.0), r"\*parents"),
        (lambda self, **parents: Normal(0.0, 1.0), r"\*\*parents"),
        (lambda self, *, z: Normal(z, 1.0), "z"),
    ],
)
def test_a_parameter_that_cannot_be_a_parent_is_refused(function, shown):
    message = (
        rf"Slip: x \(.*test_errors.py:\d+\): the parameters of a CPD are its parents, so"
        rf" `{shown}` cannot be one; keep constants on self"
    )
    with pytest.raises(dg.GraphError, match=message):
        declare(Latent, x=dg.rv(function))


@pytest.mark.parametrize(
    ("override", "what"),
    [(lambda self, z: z, "function"), (3.0, "float"), (None, "NoneType"), (property(), "prop")],
)
def test_a_variable_overridden_by_something_else_is_refused(override, what):
    message = f"Slip.x overrides the variable 'x' by {what}.*; declare it with @dg.rv"
    with pytest.raises(dg.GraphError, match=message):
        declare(Decoder, x=override)


@pytest.mark.parametrize(
    ("value", "what"),
    [(nn.Linear(2, 2), "Linear"), (nn.Parameter(torch.ones(2)), "Parameter"), (3, "int")],
)
def test_an_attribute_with_the_name_of_a_variable_is_refused(value, what):
    model = Decoder()
    message = rf"'z' is a variable of Decoder; name the {what} otherwise \(self\.z_net = \.\.\.\)"
    with pytest.raises(dg.GraphError, match=message):
        model.z = value


def test_a_bijection_without_its_parent_is_refused():
    with pytest.raises(TypeError, match=r'name the parent that is mapped: @dg.bijection\("z"\)'):
        dg.bijection(standard)  # type: ignore[call-overload] - the slip itself


@pytest.mark.parametrize("transform", [ExpTransform, torch.exp, nn.Tanh()])
def test_a_bijection_by_what_is_no_transform_is_refused(transform):
    message = r"dg.bijection\('z', ...\) takes a torch Transform such as ExpTransform\(\), not "
    with pytest.raises(TypeError, match=message):
        dg.bijection("z", transform)


def test_a_model_without_variables_has_an_empty_graph():
    empty = declare()()
    assert empty.graph == dg.Graph([])
    assert empty.sample(3) == {}
    assert len(empty.shapes()) == 0
    assert dg.model().graph == empty.graph
    with pytest.raises(dg.GraphError, match="n is missing and nothing is given"):
        empty.log_prob({})


# A CPD that returns the wrong kind of thing


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (
            dg.rv(lambda self, z: z),  # type: ignore[arg-type] - the slip itself
            "declared with dg.rv, so its CPD returns a Distribution; it returned a Tensor of shape"
            " [{n}, 2]; return a torch Distribution, or declare it with @dg.deterministic",
        ),
        (
            dg.deterministic(lambda self, z: Normal(z, 1.0)),  # type: ignore[arg-type] - the slip
            "declared with dg.deterministic, so its CPD returns a Tensor; it returned a Normal;"
            " return a Tensor, or declare it with @dg.rv (a Distribution) or @dg.bijection",
        ),
        (
            dg.bijection("z")(lambda self: torch.ones(2)),  # type: ignore[arg-type] - the slip
            "declared with dg.bijection, so its CPD returns a Transform; it returned a Tensor of"
            " shape [2]",
        ),
        (
            dg.deterministic(lambda self, z: None),  # type: ignore[arg-type] - the slip itself
            "declared with dg.deterministic, so its CPD returns a Tensor; it returned a NoneType",
        ),
    ],
)
def test_a_cpd_that_breaks_its_promise_is_named(declaration, message):
    model = declare(Latent, x=declaration)()
    for ask, n in ((model.shapes, "n"), (lambda: model.sample(5), "5")):
        with pytest.raises(TypeError) as error:
            ask()
        assert re.match(r"x \(z -> x\), CPD at .*test_errors.py:\d+: ", str(error.value))
        assert message.replace("{n}", n) in str(error.value)


def test_a_cpd_that_breaks_its_promise_is_named_when_it_is_scored():
    model = declare(Latent, x=dg.rv(lambda self, z: z))()  # type: ignore[arg-type] - the slip
    with pytest.raises(TypeError, match=r"declared with dg.rv, so its CPD returns a Distri"):
        model.log_prob({"z": torch.zeros(5, 2), "x": torch.zeros(5, 2)})


def test_a_bound_module_that_the_function_does_not_take_is_refused():
    cpd = dg.rv(lambda z, net: Normal(net(z), 1.0), nets=nn.Identity())
    message = r"x \(.*test_errors\.py:\d+\) binds the module 'nets'.*did you mean 'net'"
    with pytest.raises(dg.GraphError, match=message):
        dg.model(z=Normal(0.0, 1.0), x=cpd)


# Shapes that do not fit


@pytest.mark.parametrize("wide", [1, 17])
def test_a_decoder_of_the_wrong_width_is_caught_when_data_is_scored(wide):
    class Slip(Latent):
        def __init__(self):
            super().__init__()
            self.net = mlp(2, 8, wide)

        @dg.rv
        def x(self, z):
            return Bernoulli(logits=self.net(z))

    with pytest.raises(dg.GraphError) as error:
        Slip().log_prob({"z": torch.zeros(4, 2), "x": torch.zeros(4, 16)})
    assert re.fullmatch(
        rf"x \(z -> x\), CPD at .*test_errors.py:\d+: the CPD gives x the event shape \[{wide}\],"
        rf" but the value has \[16\] \(whole shapes \[4, {wide}\] and \[4, 16\]\); nothing is"
        r" broadcast: change the CPD or the value",
        str(error.value),
    )


def test_a_root_of_the_wrong_width_is_caught_when_it_is_scored():
    message = r"z, CPD at .*: the CPD gives z the event shape \[2\], but the value has \[3\]"
    with pytest.raises(dg.GraphError, match=message):
        Latent().log_prob({"z": torch.zeros(4, 3)})


def test_a_cpd_that_loses_the_batch_is_caught_when_it_is_scored():
    model = dg.replace(Decoder(), x=lambda z: Normal(torch.zeros(3), 1.0))
    with pytest.raises(dg.GraphError, match=r"x the event shape \[\], but the value has \[3\]"):
        model.log_prob({"z": torch.zeros(4, 2), "x": torch.zeros(4, 3)})


def test_an_input_of_the_wrong_width_is_caught_in_the_layer_that_takes_it():
    with pytest.raises(
        dg.GraphError, match=r"z \(x -> z\)[^\0]*in layer net = Linear[^\0]*\[4, 5\]"
    ):
        Encoder().sample(given={"x": torch.zeros(4, 5)})


# Keys and values


def test_a_wrong_key_is_told_with_the_known_ones():
    values = {"z": torch.zeros(4, 2), "data": torch.zeros(4, 3)}
    with pytest.raises(dg.GraphError, match="no variable 'data' in the graph; known: z, x"):
        Decoder().log_prob(values)
    with pytest.raises(dg.GraphError, match="no variable 'data' in the graph; known: z, x"):
        Decoder().sample(given=values)


@pytest.mark.parametrize(
    ("model", "given", "missing"),
    [(Decoder, ["z"], "x"), (Decoder, ["x"], "z"), (Encoder, ["z"], "x")],
)
def test_a_missing_value_is_named(model, given, missing):
    values = {name: torch.zeros(4, 3 if name == "x" else 2) for name in given}
    message = rf"{missing} is missing \(given: {given[0]}\); a marginal is model\[names\]"
    with pytest.raises(dg.GraphError, match=message):
        model().log_prob(values)


def test_nothing_given_is_told_as_such():
    with pytest.raises(
        dg.GraphError, match="say how many draws: n is missing and nothing is give"
    ):
        Decoder().sample()


@pytest.mark.parametrize("n", [-1, 2.0, "3", torch.tensor(3.0)])
def test_a_number_of_draws_that_is_none_is_refused(n):
    with pytest.raises(dg.GraphError, match="n is the number of draws, 0 or more, not "):
        Decoder().sample(n)


def test_two_batch_sizes_are_refused():
    values = {"z": torch.zeros(4, 2), "x": torch.zeros(5, 3)}
    message = "the first dimension is the batch, but the sizes differ: {'z': 4, 'x': 5}"
    with pytest.raises(dg.GraphError, match=message):
        Decoder().log_prob(values)
    with pytest.raises(dg.GraphError, match=message):
        Decoder().sample(given=values)


def test_a_batch_of_another_size_than_asked_for_is_refused():
    with pytest.raises(dg.GraphError, match=r"sizes differ: \{'n': 3, 'z': 4\}"):
        Decoder().sample(3, {"z": torch.zeros(4, 2)})


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (torch.tensor(1.0), "a tensor without dimensions"),
        ([1.0, 2.0], "a list; torch.as_tensor makes one"),
        (None, "a NoneType"),
    ],
)
def test_what_is_no_batch_of_values_is_refused(value, came):
    message = rf"x must be a Tensor \[n, \*event\], not {came}"
    with pytest.raises(dg.GraphError, match=message):
        batch_size({"x": value})
    with pytest.raises(dg.GraphError, match=message):
        Decoder().log_prob({"z": torch.zeros(2, 2), "x": value})


def test_a_forward_draw_below_an_open_ancestor_is_refused():
    message = (
        r"x is given but its ancestors z are not, so a forward draw would ignore x; give them too,"
        r" or intervene with dg.do\(model, x=...\)"
    )
    for model in (Decoder(), Generator()):
        with pytest.raises(dg.InadmissibleError, match=message):
            model.sample(given={"x": torch.zeros(4, 3)})


def test_an_input_must_be_given():
    with pytest.raises(dg.GraphError, match="x must be given: it has no CPD of its own"):
        Encoder().sample(3)


# Rewriting and multiplying


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda m: dg.replace(m, latnt=Normal(0.0, 1.0)),
        lambda m: dg.do(m, latnt=1.0),
        lambda m: m["latnt"],
        lambda m: m["x", "latnt"],
        lambda m: m.kind("latnt"),
    ],
)
def test_an_unknown_name_is_told_with_a_suggestion(rewrite):
    model = dg.model(latent=Normal(0.0, 1.0), x=lambda latent: Normal(latent, 1.0))
    with pytest.raises(
        dg.GraphError, match="no variable 'latnt' in the graph; did you mean 'laten"
    ):
        rewrite(model)


@pytest.mark.parametrize("thing", [3, "x", Encoder, nn.Linear(2, 2)])
def test_what_is_no_factor_does_not_multiply(thing):
    message = r"expected a dg.Model, dg.data\(...\) or a product of them, not "
    with pytest.raises(TypeError, match=message):
        _ = dg.data("x") * thing
    with pytest.raises(TypeError, match=message):
        as_joint(thing)


@pytest.mark.parametrize("names", [(), (3,), (torch.zeros(2),)])
def test_data_without_names_is_refused(names):
    with pytest.raises(dg.GraphError, match=r"dg.data takes the names of the observed variables"):
        dg.data(*names)


def test_two_definitions_of_a_variable_do_not_multiply():
    with pytest.raises(dg.GraphError, match="both factors define 'z'; one must not"):
        _ = (Decoder() * Encoder()).graph


@pytest.mark.parametrize("sizes", [(), (3,)])
def test_a_net_of_less_than_two_sizes_is_refused(sizes):
    with pytest.raises(ValueError, match="an mlp needs at least an input and an output size, not"):
        mlp(*sizes)


# Numbers beyond a table, and what stands before the first step


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            [0, 7, 2],
            "(?s)embed = Embedding.6, 4.*it has rows 0 to 5, but is asked for rows 0 to 7",
        ),
        ([0, 1, 7], "(?s)x .state -> x..*x holds numbers 0 to 7"),
    ],
)
def test_a_letter_beyond_the_vocabulary_is_told_with_its_number(x, message):
    p, x = LSTM(5, hidden=4), torch.tensor([x])
    with pytest.raises(dg.GraphError, match=message):
        dg.nll(p).losses({"x": x})
    with pytest.raises(dg.GraphError, match=message):
        p["x"].log_prob({"x": x})


def test_a_number_that_stands_in_for_a_vector_is_named():
    walk = dg.model(
        z=dg.rv(
            lambda net, last=dg.lag("z", init=0.0): Normal(net(last), 1.0), net=nn.Linear(3, 3)
        )
    )
    message = r"init of z\[t-1\] is 0.0, so give a Tensor if z is more than a number"
    with pytest.raises(dg.GraphError, match=message):
        walk.sample(2, t=3)
