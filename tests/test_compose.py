"""The functional front end, and models rewritten: replace and do."""

import copy
import functools

import pytest
import torch
from models import Chain, Decoder, Encoder, Generator, Hidden, Mixture, Shifted
from torch import nn
from torch.distributions import AffineTransform, Bernoulli, ExpTransform, Independent, Normal

import daguerre as dg


def normal(width):
    return Normal(torch.zeros(width), 1.0)


class Head(nn.Module):
    """A CPD as a module: the parameter names of forward are the parents."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 3)

    def forward(self, z):
        return Normal(self.line(z), 0.5)


class Written(dg.Model):
    """What the functional models below build, as a class."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 3)

    @dg.rv
    def z(self):
        return normal(2)

    y = dg.bijection("z", ExpTransform())

    @dg.rv
    def w(self):
        return normal(2)

    @dg.bijection("w")
    def v(self, y):
        return AffineTransform(y, 2.0)

    @dg.deterministic
    def mean(self, v):
        return self.net(v)

    @dg.rv
    def x(self, mean):
        return Normal(mean, 0.5)


def built(net):
    return dg.model(
        z=normal(2),
        y=dg.bijection("z", ExpTransform()),
        w=normal(2),
        v=dg.bijection("w")(lambda y: AffineTransform(y, 2.0)),
        mean=dg.deterministic(lambda v, net: net(v), net=net),
        x=lambda mean: Normal(mean, 0.5),
    )


def drawn(model, n=5):
    torch.manual_seed(1)
    return model.sample(n)


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in {*a, *b})


# Both front ends build one thing


def test_both_front_ends_give_one_graph():
    model = built(nn.Linear(2, 3))
    assert model.graph == Written.graph
    assert model.graph.names == Written.graph.names
    assert model.graph.order == Written.graph.order


def test_both_front_ends_give_the_same_samples_and_densities():
    written = Written()
    model = built(written.net)
    values = drawn(written)
    assert same(values, drawn(model))
    assert torch.equal(written.log_prob(values), model.log_prob(values))


def test_both_front_ends_give_the_same_table_of_shapes():
    def rows(model):
        return [{k: v for k, v in row.items() if k != "declared at"} for row in model.shapes()]

    written = Written()
    assert rows(written) == rows(built(written.net))


@pytest.mark.parametrize(
    ("cpd", "kind"),
    [
        (normal(2), "prescribed"),
        (torch.zeros(2), "deterministic"),
        (lambda: normal(2), "prescribed"),
        (dg.rv(lambda z: Normal(z, 1.0)), "prescribed"),
        (dg.deterministic(lambda z: z.exp()), "implicit"),
        (dg.bijection("z", ExpTransform()), "prescribed"),
        (dg.bijection("z")(lambda: ExpTransform()), "prescribed"),
        (Head(), "prescribed"),
        (dg.Input(2), "input"),
    ],
)
def test_every_kind_of_cpd_is_read(cpd, kind):
    model = dg.model(z=normal(2), x=cpd)
    given = {"x": torch.zeros(4, 2)} if kind == "input" else {}
    assert model.kind("x") == kind
    assert model.sample(4, given)["x"].shape[0] == 4


def test_a_deterministic_module_takes_its_parents_from_forward():
    tanh = nn.Tanh()
    model = dg.model(input=normal(2), x=dg.deterministic(tanh))
    values = model.sample(4)
    assert model.graph.edges == (("input", "x"),)
    assert torch.equal(values["x"], values["input"].tanh())


def test_a_module_as_a_cpd_is_registered_under_the_name_of_its_variable():
    model = dg.model(z=normal(2), x=Head())
    assert list(model.state_dict()) == ["x.line.weight", "x.line.bias"]
    assert dict(model.named_parameters())


# Modules bound by name


def test_bound_modules_are_parameters_and_no_parents():
    net = nn.Linear(2, 3)
    model = dg.model(z=normal(2), x=dg.rv(lambda z, net: Normal(net(z), 1.0), net=net))
    assert model.graph.parents("x") == ("z",)
    assert list(model.state_dict()) == ["x.net.weight", "x.net.bias"]
    model.log_prob(model.sample(4)).sum().backward()
    assert net.weight.grad is not None


def test_bound_modules_may_stand_anywhere_among_the_parameters():
    net = nn.Linear(2, 2)
    model = dg.model(
        z=normal(2),
        y=normal(2),
        x=dg.rv(lambda y, net, z: Normal(y + net(z), 1.0), net=net),
    )
    values = model.sample(4)
    expected = Normal(values["y"] + net(values["z"]), 1.0).log_prob(values["x"]).sum(1)
    roots = model["y", "z"].log_prob(values)
    torch.testing.assert_close(model.log_prob(values), roots + expected)


def test_a_deep_copy_binds_its_own_modules():
    model = built(nn.Linear(2, 3))
    before, other = drawn(model), copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert same(before, drawn(other))
    assert not same(before, drawn(model))


def test_a_state_dict_travels_between_functional_models():
    one, other = built(nn.Linear(2, 3)), built(nn.Linear(2, 3))
    other.load_state_dict(one.state_dict())
    assert same(drawn(one), drawn(other))


def test_a_constant_tensor_is_a_buffer_that_moves_with_the_model():
    model = dg.model(x=torch.ones(2)).to(torch.float64)
    assert list(model.state_dict()) == ["x.value"]
    assert model.sample(3)["x"].dtype == torch.float64


class Scaled:
    """A CPD that is an object with settings."""

    def __call__(self, z):
        return Normal(z, 2.0)


def test_any_callable_that_names_its_parents_is_a_cpd():
    model = dg.model(z=normal(2), x=Scaled())
    assert model.graph.parents("x") == ("z",)
    assert model.sample(3)["x"].shape == (3, 2)


NET = nn.Linear(2, 3)
WEIGHT = torch.ones(2, requires_grad=True)


@pytest.mark.parametrize(
    ("cpd", "key"),
    [(lambda z: Normal(NET(z), 1.0), "NET"), (lambda z: Normal(WEIGHT * z, 1.0), "WEIGHT")],
)
def test_a_function_that_uses_parameters_from_outside_is_refused(cpd, key):
    message = f"x: its function uses '{key}' from outside, .* pass it along: dg.rv.*{key}={key}"
    with pytest.raises(dg.GraphError, match=message):
        dg.model(z=normal(2), x=cpd)
    with pytest.raises(dg.GraphError, match=message):
        dg.model(z=normal(2), x=dg.rv(cpd))


def test_a_closure_over_a_module_is_refused():
    net = nn.Linear(2, 3)
    with pytest.raises(dg.GraphError, match="x: its function uses 'net' from outside"):
        dg.replace(Decoder(), x=lambda z: Normal(net(z), 1.0))


def test_a_method_that_would_leave_its_module_behind_is_refused():
    with pytest.raises(dg.GraphError, match=r"x: a method leaves its Decoder behind.*net\.x\("):
        dg.replace(Decoder(), x=Decoder().x)


@pytest.mark.parametrize(
    ("cpd", "what"),
    [
        (Normal(WEIGHT, 1.0), "Normal"),
        (Independent(Normal(WEIGHT, 1.0), 1), "Independent"),
        (WEIGHT, "Tensor"),
        (nn.Parameter(torch.ones(2)), "Parameter"),
        (dg.bijection("z", AffineTransform(WEIGHT, 1.0)), "AffineTransform"),
        (dg.bijection("z", AffineTransform(WEIGHT, 1.0).inv), r"_?Inverse\w*"),  # zuko renames it
        (
            dg.bijection(
                "z", torch.distributions.ComposeTransform([AffineTransform(0.0, WEIGHT)])
            ),
            "ComposeTransform",
        ),
    ],
)
def test_a_plain_value_that_wants_a_gradient_is_refused(cpd, what):
    message = f"x: the {what} requires a gradient, .* write a module whose forward"
    with pytest.raises(dg.GraphError, match=message):
        dg.model(z=normal(2), x=cpd)


def test_a_transform_that_leads_back_to_itself_is_fine():
    there = ExpTransform()
    back = there.inv
    vars(there)["back"] = back
    assert dg.model(z=normal(2), x=dg.bijection("z", there)).sample(3)["x"].min() > 0


@pytest.mark.parametrize("cpd", [3, "z", None, [normal(2)]])
def test_what_is_no_cpd_is_refused(cpd):
    with pytest.raises(TypeError, match="x: expected a Distribution, function, module or Tensor"):
        dg.model(z=normal(2), x=cpd)


@pytest.mark.parametrize("function", [torch.relu, functools.partial(torch.add, other=1)])
def test_a_function_that_names_no_parameters_is_refused(function):
    message = r"x \(.*\): the parameters of a CPD are its parents, but those of .* lambda z"
    with pytest.raises(dg.GraphError, match=message):
        dg.model(z=normal(2), x=dg.deterministic(function))


# Replacing one CPD


def test_replace_swaps_one_cpd_and_shares_the_others():
    model = Decoder()
    swapped = dg.replace(model, x=dg.deterministic(lambda z: z.exp()))
    assert swapped.kind("x") == "implicit"
    assert swapped.graph.edges == model.graph.edges
    assert {id(p) for p in model.parameters()} <= {id(p) for p in swapped.parameters()}


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda m: dg.replace(m, x=dg.deterministic(lambda z: z.exp())),
        lambda m: dg.do(m, z=torch.ones(2)),
    ],
)
def test_a_rewritten_model_leaves_the_original_as_it_was(rewrite):
    model = Decoder().eval()
    graph, keys, before = model.graph, list(model.state_dict()), drawn(model)
    drawn(rewrite(model))
    assert model.graph == graph == Decoder.graph
    assert list(model.state_dict()) == keys
    assert same(before, drawn(model))


def test_training_the_rewritten_model_trains_the_original():
    model = Hidden()
    swapped = dg.replace(model, z=Normal(torch.ones(2), 1.0))
    with torch.no_grad():
        next(swapped.parameters()).fill_(7.0)
    assert (model.inner.weight == 7.0).all()


def test_replacing_a_cpd_by_itself_changes_nothing():
    model = Decoder().eval()
    swapped = dg.replace(model, x=dg.rv(lambda z, net: Normal(net(z), 0.5), net=model.net))
    assert same(drawn(model), drawn(swapped))
    values = drawn(model)
    assert torch.equal(model.log_prob(values), swapped.log_prob(values))


def test_a_replacement_may_have_other_parents():
    swapped = dg.replace(Shifted(), y=lambda z: Normal(z, 1.0))
    assert swapped.graph.parents("y") == ("z",)
    assert swapped.graph.order == ("z", "y", "x")


def test_an_input_may_be_given_a_distribution_and_the_reverse():
    joint = dg.replace(Encoder(), x=normal(3))
    assert joint.graph.inputs == ()
    assert joint.sample(4)["z"].shape == (4, 2)
    again = dg.replace(joint, x=dg.Input(3))
    assert again.graph == Encoder.graph
    assert again.inputs()["x"].shape == (3,)


def test_replacements_stack():
    twice = dg.replace(dg.replace(Decoder(), x=normal(4)), z=normal(5))
    values = twice.sample(3)
    assert {k: tuple(v.shape) for k, v in values.items()} == {"z": (3, 5), "x": (3, 4)}


def test_a_replacement_that_closes_a_cycle_is_refused():
    with pytest.raises(dg.GraphError, match="cycle"):
        dg.replace(Decoder(), z=lambda x: Normal(x, 1.0))


# Intervening


def test_do_cuts_the_arrows_and_sets_the_value():
    model = dg.do(Hidden(), h=torch.full((4,), 2.0))
    values = model.sample(3)
    assert model.graph.edges == (("h", "x"),)
    assert model.kind("h") == "deterministic"
    assert (values["h"] == 2.0).all()
    assert values["h"].shape == (3, 4)


def test_do_takes_a_number():
    model = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
    assert dg.do(model, z=3.0).sample(2)["z"].tolist() == [3.0, 3.0]
    mixture = Mixture()
    assert (dg.do(mixture, k=2).sample(500)["x"].mean(0) - mixture.means[2]).abs().max() < 0.2


def test_intervening_above_is_conditioning_and_below_is_not():
    model = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
    x = torch.tensor([1.5])
    above = dg.do(model, z=0.5).log_prob({"x": x})
    torch.testing.assert_close(above, Normal(0.5, 1.0).log_prob(x))
    below = dg.do(model, x=1.5).log_prob({"z": x})
    torch.testing.assert_close(below, Normal(0.0, 1.0).log_prob(x))


def test_do_makes_the_children_of_a_constant_deterministic():
    assert dg.do(Generator(), z=torch.ones(2)).kind("x") == "deterministic"


def test_do_on_a_bijection_frees_its_argument():
    model = dg.do(Chain(), y=torch.ones(2))
    values = model.sample(3)
    assert (values["x"] == 3.0).all()
    expected = Normal(0.0, 1.0).log_prob(values["z"]).sum(1)
    torch.testing.assert_close(model.log_prob(values), expected)


def test_the_tensors_of_a_constant_move_with_the_model():
    prior = Normal(torch.zeros(2), 1.0)
    p = dg.model(z=prior, k=Independent(Bernoulli(torch.full((3,), 0.5)), 1)).double()
    drawn = p.sample(4)
    assert (drawn["z"].dtype, drawn["k"].dtype) == (torch.float64, torch.float64)
    assert p.log_prob(drawn).dtype == torch.float64
    assert not p.state_dict()
    assert prior.loc.dtype == torch.float32  # the user's own stays as it was
