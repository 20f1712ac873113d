"""Joints: products, marginals, change of variables, and what they refuse."""

import math

import pytest
import torch
from models import MODELS, Chain, Decoder, Encoder, Generator, LeakyReLU, Shifted
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Exponential,
    ExpTransform,
    LogNormal,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)

import daguerre as dg
from daguerre.joint import Empirical, Joint, as_joint
from daguerre.program import Step
from daguerre.queries import batch_size
from daguerre.scoring import density_plan, obstacle

STANDARD = Normal(0.0, 1.0)


def pair():
    """z ~ N(0, I) in three dimensions, x ~ N(2 z, I)."""
    return dg.model(z=Normal(torch.zeros(3), 1.0), x=lambda z: Normal(2 * z, 1.0))


# Change of variables, against closed forms: z ~ N(0, 1),
# log p(x) = log phi(T^-1(x)) - log |T'(T^-1(x))|


@pytest.mark.parametrize(
    ("transform", "x", "log_p"),
    [
        (ExpTransform(), 2.0, -1.85231222072),
        (AffineTransform(1.0, 2.0), 2.0, -1.73708571376),
        (LeakyReLU(0.1), -0.2, -0.616353440211),  # log phi(-2) + log 10
        (LeakyReLU(0.1), 0.5, -0.5 * math.log(2 * math.pi) - 0.125),
    ],
)
def test_an_invertible_pushforward_scores_exactly(transform, x, log_p):
    model = dg.model(z=STANDARD, x=dg.bijection("z", transform))
    assert model.log_prob({"x": torch.tensor([x])}).item() == pytest.approx(log_p, abs=1e-6)


def test_a_rectified_normal_has_an_atom_and_no_density():
    model = dg.model(z=STANDARD, x=dg.deterministic(lambda z: torch.relu(z)))
    x = model.sample(40_000)["x"]
    assert (x == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)  # four standard errors
    assert x.mean().item() == pytest.approx(0.398942280401, abs=0.012)  # 1 / sqrt(2 pi)
    with pytest.raises(dg.InadmissibleError, match="x is implicit: a deterministic function of z"):
        model.log_prob({"x": torch.tensor([0.5])})


def test_a_chain_of_bijections_is_their_composition():
    model = dg.model(
        z=STANDARD,
        y=dg.bijection("z", ExpTransform()),
        x=dg.bijection("y", AffineTransform(1.0, 2.0)),
    )
    x = torch.linspace(1.5, 6.0, 7)
    expected = TransformedDistribution(STANDARD, [ExpTransform(), AffineTransform(1.0, 2.0)])
    torch.testing.assert_close(model.log_prob({"x": x}), expected.log_prob(x))
    torch.testing.assert_close(model["x"].log_prob({"x": x}), expected.log_prob(x))


def test_every_marginal_of_a_chain_has_its_own_density():
    model = Chain()
    values = model.sample(6)
    y = LogNormal(torch.zeros(2), 1.0).log_prob(values["y"]).sum(1)
    torch.testing.assert_close(model["y"].log_prob(values), y)
    torch.testing.assert_close(model["z", "y"].log_prob(values), y)
    torch.testing.assert_close(model["z"].log_prob(values), STANDARD.log_prob(values["z"]).sum(1))
    torch.testing.assert_close(model["z", "x"].log_prob(values), model["x"].log_prob(values))


def test_a_density_integrates_to_one():
    x = torch.linspace(1.0 + 1e-4, 60.0, 200_000)
    model = dg.model(
        z=STANDARD,
        y=dg.bijection("z", ExpTransform()),
        x=dg.bijection("y", AffineTransform(1.0, 2.0)),
    )
    mass = torch.trapezoid(model.log_prob({"x": x}).exp(), x)
    assert mass.item() == pytest.approx(1.0, abs=2e-3)


def test_a_conditional_bijection_is_scored_given_its_condition():
    model = Shifted()
    values = model.sample(6)
    z = (values["x"] - values["y"]) / model.net(values["y"]).exp()
    torch.testing.assert_close(values["z"], z)
    prior = Normal(torch.zeros(2), 2.0).log_prob(values["y"]).sum(1)
    given = Normal(values["y"], model.net(values["y"]).exp()).log_prob(values["x"]).sum(1)
    torch.testing.assert_close(model.log_prob(values), prior + given)


def test_a_bijection_on_the_way_is_inverted_and_what_hangs_below_is_scored():
    model = dg.model(z=STANDARD, y=dg.bijection("z", ExpTransform()), x=lambda y: Normal(y, 0.5))
    values = model.sample(6)
    expected = LogNormal(0.0, 1.0).log_prob(values["y"])
    expected = expected + Normal(values["y"], 0.5).log_prob(values["x"])
    torch.testing.assert_close(model["y", "x"].log_prob(values), expected)
    torch.testing.assert_close(model.log_prob(values), expected)


def test_a_function_beside_a_bijection_is_refused():
    with pytest.raises(dg.InadmissibleError, match="y is a function of z: the two have no joint"):
        Chain()["z", "y"].density_plan()


def test_two_bijections_of_one_variable_have_no_joint_density():
    model = dg.model(
        z=STANDARD, x=dg.bijection("z", ExpTransform()), y=dg.bijection("z", LeakyReLU(0.5))
    )
    with pytest.raises(dg.InadmissibleError, match="is a function of z: the two have no joint"):
        model["x", "y"].log_prob(model.sample(2))


def test_a_map_that_broadcasts_is_no_bijection():
    wide = AffineTransform(torch.zeros(3), 1.0)
    model = dg.model(z=Normal(torch.zeros(1), 1.0), x=dg.bijection("z", wide))
    with pytest.raises(dg.GraphError, match=r"gives z the event shape \[1\], but .* has \[3\]"):
        model.log_prob({"x": torch.zeros(4, 3)})


def test_a_zuko_transform_keeps_its_density():
    zuko = pytest.importorskip("zuko", reason="zuko is an extra: pip install daguerre[flows]")
    widths, heights, slopes = torch.randn(3, 8), torch.randn(3, 8), torch.randn(3, 7)
    spline = zuko.transforms.MonotonicRQSTransform(widths, heights, slopes)
    model = dg.model(z=Normal(torch.zeros(3), 1.0), x=dg.bijection("z", spline))
    x = model.sample(6)["x"]
    expected = TransformedDistribution(Normal(torch.zeros(3), 1.0), [spline])
    torch.testing.assert_close(model.log_prob({"x": x}), expected.log_prob(x).sum(1))


def test_a_zuko_flow_is_a_learned_bijection():
    zuko = pytest.importorskip("zuko", reason="zuko is an extra: pip install daguerre[flows]")

    class Flow(dg.Model):
        def __init__(self):
            super().__init__()
            self.flow = zuko.flows.MAF(features=3, transforms=2, hidden_features=[8])

        @dg.rv
        def z(self):
            return Normal(torch.zeros(3), 1.0)

        @dg.bijection("z")
        def x(self):
            return self.flow().transform.inv

    model = Flow()
    x = torch.randn(6, 3)
    torch.testing.assert_close(model.log_prob({"x": x}), model.flow().log_prob(x))
    model.log_prob({"x": x}).sum().backward()
    assert all(p.grad is not None for p in model.flow.parameters())
    assert model.shapes()


# Densities


def test_a_family_with_an_event_of_its_own_counts_it_once():
    scale = torch.tensor([[1.0, 0.0], [0.5, 2.0]])
    prior = MultivariateNormal(torch.zeros(2), scale_tril=scale)
    model = dg.model(z=prior, x=lambda z: MultivariateNormal(z, scale_tril=scale))
    values = model.sample(5)
    expected = prior.log_prob(values["z"])
    expected = expected + MultivariateNormal(values["z"], scale_tril=scale).log_prob(values["x"])
    torch.testing.assert_close(model.log_prob(values), expected)
    assert model.log_prob({k: v[:0] for k, v in values.items()}).shape == (0,)


def test_every_dimension_right_of_the_batch_is_the_event():
    model = dg.model(z=Normal(torch.zeros(2, 3, 4), 1.0))
    z = torch.randn(5, 2, 3, 4)
    torch.testing.assert_close(model.log_prob({"z": z}), STANDARD.log_prob(z).sum((1, 2, 3)))


def test_a_marginal_that_needs_no_integral_leaves_out_the_rest():
    model = pair()
    values = model.sample(5)
    expected = STANDARD.log_prob(values["z"]).sum(1)
    torch.testing.assert_close(model["z"].log_prob(values), expected)
    assert MODELS["generator"].make()["z"].log_prob({"z": torch.zeros(5, 2)}).shape == (5,)


def test_a_density_of_no_variable_is_one():
    model = dg.do(pair(), z=torch.ones(3), x=torch.ones(3))
    assert model.log_prob({"x": torch.ones(4, 3)}).tolist() == [0.0] * 4
    with pytest.raises(dg.GraphError, match="x is a function of other variables"):
        model.log_prob({"x": torch.zeros(4, 3)})


def test_nan_comes_out_where_it_went_in():
    model, values = pair(), pair().sample(4)
    values["x"][1, 2] = math.nan
    assert model.log_prob(values).isnan().tolist() == [False, True, False, False]
    x = Chain().sample(4)["x"]
    x[2, 0] = math.nan
    assert Chain().log_prob({"x": x}).isnan().tolist() == [False, False, True, False]


def test_nan_is_treated_alike_before_and_after_a_compilation():
    values = {"x": torch.tensor([math.nan, 0.0])}
    for enabled in (True, False):
        torch.distributions.Distribution.set_default_validate_args(enabled)
        assert dg.model(x=STANDARD).log_prob(values).isnan().tolist() == [True, False]
        assert torch.distributions.Distribution._validate_args is enabled


@pytest.mark.parametrize(
    ("family", "value", "allowed"),
    [
        (Exponential(1.0), -1.0, "GreaterThanEq"),
        (Bernoulli(0.5), 1.5, r"Interval\(lower_bound=0.0, upper_bound=1.0\)"),
        (LogNormal(0.0, 1.0), -2.0, "GreaterThan"),
    ],
)
def test_a_value_outside_the_support_is_refused_with_its_row(family, value, allowed):
    model = dg.model(x=family)
    message = rf"x: the support of its {type(family).__name__} is {allowed}.*row 1 of x .* {value}"
    with pytest.raises(dg.GraphError, match=message):
        model.log_prob({"x": torch.tensor([1.0, value, 1.0])})


def test_intensities_are_scored_by_cross_entropy():
    model = dg.model(x=Bernoulli(torch.tensor([0.25])))
    expected = 0.3 * math.log(0.25) + 0.7 * math.log(0.75)
    assert model.log_prob({"x": torch.tensor([[0.3]])}).item() == pytest.approx(expected)


class Unscaled(torch.distributions.Distribution):
    """A family that declares no support."""

    def log_prob(self, value):
        return -value.abs()


def test_a_family_that_declares_no_support_is_not_checked():
    model = dg.model(x=Unscaled(validate_args=False))
    assert model.log_prob({"x": torch.tensor([3.0])}).item() == -3.0


# Sampling


def test_what_is_given_stays_and_what_is_below_follows():
    model = pair()
    z = torch.full((2000, 3), 5.0)
    values = model.sample(given={"z": z})
    assert values["z"] is z
    assert values["x"].mean().item() == pytest.approx(10.0, abs=0.06)  # four standard errors


def test_a_marginal_samples_what_it_keeps_in_the_order_asked():
    assert list(pair()["x"].sample(2)) == ["x"]
    assert list(pair()["x", "z"].sample(2)) == ["x", "z"]


def test_a_product_feeds_one_factor_into_the_other():
    joint = dg.data("x") * Encoder()
    values = joint.sample(given={"x": torch.zeros(4, 3)})
    assert joint.graph == dg.Graph.from_edges([("x", "z")])
    assert joint.given == joint.data == ("x",)
    assert {k: tuple(v.shape) for k, v in values.items()} == {"x": (4, 3), "z": (4, 2)}


def test_a_product_of_two_models_scores_like_their_sum():
    prior = dg.model(x=Normal(torch.zeros(3), 1.0))
    q = Encoder()
    joint = prior * q
    values = joint.sample(5)
    torch.testing.assert_close(
        joint.log_prob(values), prior.log_prob({"x": values["x"]}) + q.log_prob(values)
    )
    assert (q * prior).graph == joint.graph
    torch.testing.assert_close((q * prior).log_prob(values), joint.log_prob(values))


def test_a_product_of_three_is_associative():
    x = dg.model(x=Normal(torch.zeros(3), 1.0))
    y = dg.model(z=dg.Input(2), y=lambda z: Normal(z, 1.0))
    left, right = (x * Encoder()) * y, x * (Encoder() * y)
    assert left.graph == right.graph
    assert left.names == ("x", "z", "y")


def test_an_input_that_no_factor_defines_must_be_given():
    joint = Encoder() * dg.model(z=dg.Input(2), y=lambda z: Normal(z, 1.0))
    assert joint.given == ("x",)
    with pytest.raises(dg.GraphError, match="x must be given: it has no CPD of its own"):
        joint.sample(3)


def test_data_has_samples_and_no_density():
    data = dg.data("x", "y")
    assert data == Empirical(("x", "y"))
    assert data.graph == dg.Graph.from_edges([], nodes=["x", "y"])
    assert [step.cpd for step in data.steps()] == [None, None]


# Plans


def test_a_plan_says_what_is_filled_in_and_what_is_scored():
    plan = density_plan(Shifted.graph, ["x", "y"])
    assert plan.names == ("x", "y")
    assert plan.moves == (("z", "x"),)
    assert set(plan.terms) == {"z", "y", "x"}


def test_a_bijection_whose_condition_depends_on_its_argument_cannot_be_inverted():
    graph = dg.Graph.from_edges([("y", "x")], bijective=[("z", "y"), ("z", "x")])
    with pytest.raises(dg.InadmissibleError, match="x is implicit: a deterministic function of"):
        density_plan(graph, ["x"])


def test_an_integral_is_refused_with_the_ways_out():
    with pytest.raises(dg.InadmissibleError) as error:
        Decoder()["x"].log_prob({"x": torch.zeros(2, 3)})
    assert str(error.value) == (
        "the density of x needs an integral over z, which is latent; use dg.elbo(p, q) with a q"
        " for z, or ask for the joint with z"
    )


def test_the_density_of_an_implicit_variable_is_refused_with_the_ways_out():
    with pytest.raises(dg.InadmissibleError) as error:
        Generator().log_prob({"z": torch.zeros(2, 2), "x": torch.zeros(2, 3)})
    assert str(error.value) == (
        "x is implicit: a deterministic function of z without a density. Use dg.gan(p, critic),"
        " which needs samples only, or return a distribution such as Normal(net(z), scale) from"
        " its CPD, declared with @dg.rv, to give it one"
    )


@pytest.mark.parametrize(
    ("graph", "name", "why"),
    [
        (
            dg.Graph.from_edges([("u", "x")], inputs=["u"], deterministic=["x"]),
            "x",
            "x is deterministic: a deterministic function of u",
        ),
        (
            dg.Graph.from_edges([], nodes=["x"], deterministic=["x"]),
            "x",
            "x is deterministic: a deterministic function of constants",
        ),
    ],
)
def test_a_plan_refuses_what_has_no_density(graph, name, why):
    with pytest.raises(dg.InadmissibleError, match=why):
        density_plan(graph, [name])


def test_what_stands_against_a_density_is_told_per_variable():
    assert obstacle(Encoder.graph, "x") == "x is an input: it has no distribution of its own"
    assert obstacle(Encoder.graph, "z") is None


# Small print


def test_as_joint_keeps_a_joint_and_wraps_a_factor():
    joint = as_joint(Decoder())
    assert as_joint(joint) is joint
    assert isinstance(as_joint(dg.data("x")), Joint)


def test_batch_size_is_what_all_values_share():
    assert batch_size({"x": torch.zeros(3, 1), "y": torch.zeros(3)}) == 3
    assert batch_size({}, 4) == 4
    assert batch_size({"x": torch.zeros(0, 2)}, 0) == 0


def test_a_step_without_a_cpd_says_that_it_is_an_input():
    step = Step(Encoder.graph["x"], None)
    with pytest.raises(dg.GraphError, match="x is an input: it must be given"):
        step.outcome({})
