"""Laws of every model: kinds, samples, densities, and the manners of an nn.Module."""

import copy
import pickle

import pytest
import torch
from models import DENSE, MODELS, Chain, Decoder, Encoder, Entry, Generator, Latent
from torch import nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.joint import as_joint
from daguerre.program import validation
from daguerre.running import draw
from daguerre.scoring import complete, negative_log_density

every = pytest.mark.parametrize("entry", MODELS.values(), ids=MODELS)
every_dense = pytest.mark.parametrize("entry", DENSE.values(), ids=DENSE)


def sampled(entry: Entry, n: int = 5):
    """A model and a batch of its own samples."""
    model = entry.make().eval()  # batch statistics would make rows depend on one another
    return model, model.sample(n, entry.given(model, n))


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in {*a, *b})


# Kinds and samples


@every
def test_kinds_are_derived(entry):
    model = entry.make()
    assert {name: model.kind(name) for name in model.graph.names} == entry.kinds


@every
@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_sample_has_every_variable_in_order_with_the_batch_first(entry, n):
    _, values = sampled(entry, n)
    assert list(values) == list(entry.kinds)
    assert {k: tuple(v.shape) for k, v in values.items()} == {
        k: (n, *event) for k, event in entry.events.items()
    }


def drawn(pull, given):
    """Draw five rows from the seed 1."""
    torch.manual_seed(1)
    return pull(5, given)


@every
def test_the_same_seed_draws_the_same_numbers(entry):
    model, values = sampled(entry)
    given = {k: values[k] for k in model.graph.inputs}
    assert same(drawn(model.sample, given), drawn(model.sample, given))


@pytest.mark.parametrize("entry", [MODELS[n] for n in ("decoder", "generator", "shifted")])
def test_gradients_change_nothing_about_the_numbers(entry):
    model, _ = sampled(entry)
    assert same(drawn(model.sample, {}), drawn(model.rsample, {}))


@every
def test_samples_carry_no_gradient(entry):
    _, values = sampled(entry)
    assert not any(v.requires_grad for v in values.values())


def test_pathwise_samples_carry_a_gradient_to_the_parameters():
    model = Generator()
    model.rsample(4)["x"].square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_learned_draw_without_a_pathwise_gradient_is_refused():
    with pytest.raises(dg.InadmissibleError, match=r"draws of k ~ Categorical carry no pathwise"):
        MODELS["mixture"].make().rsample(4)


def test_a_fixed_draw_needs_no_gradient():
    assert dg.model(k=torch.distributions.Bernoulli(0.5)).rsample(4)["k"].shape == (4,)


# Densities


@every_dense
def test_log_prob_is_the_formula_written_by_hand(entry):
    model, values = sampled(entry)
    torch.testing.assert_close(model.log_prob(values), entry.density(model, values))


@every_dense
def test_log_prob_is_the_formula_in_double_precision(entry):
    model = entry.make().eval().to(torch.float64)
    values = model.sample(5, entry.given(model, 5, torch.float64))
    assert all(v.dtype in (torch.float64, torch.int64) for v in values.values())
    torch.testing.assert_close(model.log_prob(values), entry.density(model, values))


@every_dense
def test_what_is_implied_may_be_left_out(entry):
    model, values = sampled(entry)
    fewer = {k: v for k, v in values.items() if k not in entry.implied}
    torch.testing.assert_close(model.log_prob(fewer), model.log_prob(values))


@pytest.mark.parametrize("name", [n for n, e in DENSE.items() if e.implied])
def test_what_is_implied_must_agree(name):
    entry = DENSE[name]
    model, values = sampled(entry)
    for implied in entry.implied:
        wrong = {**values, implied: values[implied] + 0.5}
        message = rf"{implied} is a function of other variables.* differs .* by up to 0\.5"
        with pytest.raises(dg.GraphError, match=message):
            model.log_prob(wrong)


@pytest.mark.parametrize("name", [n for n, e in DENSE.items() if e.implied])
def test_what_is_implied_must_have_the_implied_shape(name):
    entry = DENSE[name]
    model, values = sampled(entry)
    for implied in entry.implied:
        wrong = {**values, implied: values[implied][:, :1]}
        with pytest.raises(dg.GraphError, match=rf"{implied} has shape \[5, 1\], but its parents"):
            model.log_prob(wrong)


def test_nan_agrees_with_the_nan_that_it_implies():
    model = MODELS["hidden"].make()
    values = model.sample(2)
    values |= {"z": values["z"] * torch.nan, "h": values["h"] * torch.nan}
    assert model.log_prob(values).isnan().all()


@every_dense
def test_every_value_must_have_exactly_the_shape_of_its_event(entry):
    model, values = sampled(entry)
    for name in set(values) - set(entry.implied) - set(model.graph.inputs):
        wrong = {**values, name: values[name].unsqueeze(1)}
        with pytest.raises(dg.GraphError):
            model.log_prob(wrong)


@every_dense
def test_rows_are_scored_one_by_one(entry):
    model, values = sampled(entry, 4)
    row = model.log_prob({k: v[2:3] for k, v in values.items()})
    torch.testing.assert_close(model.log_prob(values)[2:3], row)


@every_dense
def test_an_empty_batch_has_an_empty_density(entry):
    model, values = sampled(entry, 0)
    assert model.log_prob(values).shape == (0,)


def test_gradients_of_log_prob_reach_the_parameters():
    model = Decoder()
    model.log_prob(model.sample(4)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# Declaring: inheritance, overriding, mixins


def test_a_subclass_that_swaps_one_cpd_has_the_same_graph_but_for_its_map():
    assert Decoder.graph.edges == Generator.graph.edges
    assert Decoder.graph.order == Generator.graph.order
    assert {v.name for v in Decoder.graph.variables} == {"z", "x"}
    assert [Decoder.graph[n].map for n in "zx"] == ["stochastic", "stochastic"]
    assert [Generator.graph[n].map for n in "zx"] == ["stochastic", "deterministic"]


def test_overriding_leaves_the_base_class_alone():
    before = Decoder.graph
    type("Other", (Decoder,), {"x": dg.rv(lambda self: Normal(self.zero, 1.0))})
    assert Decoder.graph == before
    assert Decoder().kind("x") == "prescribed"


def test_an_override_may_change_the_parents():
    class Deaf(Decoder):
        @dg.rv
        def x(self):  # type: ignore[override] - other parents: legal here, no subtype to checkers
            return Normal(self.zero, 1.0)

    assert Deaf.graph.edges == ()
    assert Deaf().sample(2)["x"].shape == (2, 2)


def test_super_calls_the_cpd_of_the_base_class():
    class Sharper(Decoder):
        @dg.rv
        def x(self, z):
            return Normal(super().x(z).mean, 0.1)

    assert Sharper().x(torch.zeros(2, 2)).scale[0, 0].item() == pytest.approx(0.1)


def test_mixins_bring_variables_and_the_method_resolution_order_decides():
    class Noise:
        @dg.rv
        def x(self, z):
            return Normal(z, 3.0)

    class First(Noise, Latent): ...

    class Wins(Noise, Decoder): ...

    class Loses(Decoder, Noise): ...

    assert First.graph.names == ("z", "x")
    assert Wins().x(torch.zeros(1, 2)).scale.flatten()[0] == 3
    assert Loses().x(torch.zeros(2, 2)).scale.flatten()[0] == 0.5


def test_a_declared_variable_called_on_the_instance_is_its_cpd():
    model = Decoder()
    assert isinstance(model.z(), Normal)
    assert model.x(torch.zeros(4, 2)).mean.shape == (4, 3)


def test_the_docstring_of_a_cpd_survives():
    class Documented(Latent):
        @dg.rv
        def x(self, z):
            """The data."""
            return Normal(z, 1.0)

    assert Documented.x.__doc__ == "The data."


# Manners of an nn.Module


def test_state_dict_has_the_keys_that_the_attributes_have():
    assert list(nn.Module.state_dict(Encoder())) == ["net.weight", "net.bias"]
    assert list(Chain().state_dict()) == ["zero"]


@every
def test_parameters_saved_and_loaded_give_the_same_model(entry):
    model, values = sampled(entry)
    other = entry.make().eval()
    other.load_state_dict(model.state_dict())
    given = {k: values[k] for k in model.graph.inputs}
    assert same(drawn(model.sample, given), drawn(other.sample, given))


@every
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_draws_the_same_and_shares_nothing(entry, clone):
    model, values = sampled(entry)
    given = {k: values[k] for k in model.graph.inputs}
    other, before = clone(model), drawn(model.sample, given)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    assert other.graph == model.graph
    assert same(before, drawn(other.sample, given))


@every
def test_questions_change_neither_parameters_nor_mode(entry):
    model, _ = sampled(entry)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    values = model.sample(5, entry.given(model, 5))
    model.shapes()
    if entry.density:
        model.log_prob(values)
    assert same(before, model.state_dict())
    assert not model.training


# Compilation


@every_dense
def test_drawing_and_scoring_compile_into_one_graph_each(entry):
    model, values = sampled(entry)
    program, plan = as_joint(model).program, model[_scored(entry)].density_plan()
    given = {k: values[k] for k in model.graph.inputs}
    known = {k: values[k] for k in (*plan.names, *given)}

    def score(known):
        trace = complete(program, plan, known, {})
        return sum(negative_log_density(program.by_name[name], trace) for name in plan.terms)

    def pull(n, given):
        return draw(program, n, given, pathwise=False).values

    with validation(enabled=False):
        torch.testing.assert_close(_compiled(score)(known), -model.log_prob(values))
        expected, compiled = drawn(pull, given), drawn(_compiled(pull), given)
    assert all(torch.allclose(expected[k], compiled[k]) for k in expected)


def _scored(entry: Entry) -> list[str]:
    return [k for k, kind in entry.kinds.items() if kind != "input" and k not in entry.implied]


def _compiled(function):
    torch.compiler.reset()
    return torch.compile(function, backend="eager", fullgraph=True)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("entry", [MODELS[n] for n in ("decoder", "encoder", "chain")])
def test_the_methods_of_a_model_can_be_compiled(entry):
    model, values = sampled(entry)
    given = {k: values[k] for k in model.graph.inputs}
    torch.compiler.reset()
    score = torch.compile(model.log_prob, backend="eager")
    pull = torch.compile(model.sample, backend="eager")
    with validation(enabled=False):
        torch.testing.assert_close(score(values), model.log_prob(values))
        expected, compiled = drawn(model.sample, given), drawn(pull, given)
    assert all(torch.allclose(expected[k], compiled[k]) for k in expected)


def test_a_joint_that_has_been_asked_once_scores_in_one_graph():
    model, values = sampled(MODELS["decoder"])
    joint = model["z", "x"]
    expected = joint.log_prob(values)
    with validation(enabled=False):
        torch.testing.assert_close(_compiled(joint.log_prob)(values), expected)
