"""Planted mistakes: each is refused with what, where and what to do."""

import re

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, ExpTransform, Normal, OneHotCategorical

import daguerre as dg
from daguerre.objectives.estimators import PATHWISE


class Decoder(dg.Model):
    """p: z ~ N(0, I_2), x | z ~ N(net(z), 1) in three dimensions."""

    def __init__(self, latent=2, pixels=3):
        super().__init__()
        self.net = nn.Linear(latent, pixels)

    @dg.rv
    def z(self):
        return dg.StandardNormal(2)

    @dg.rv
    def x(self, z):
        return Normal(self.net(z), 1.0)


class Bent(Decoder):
    @dg.rv
    def x(self, z):
        return Normal(self.net(z).tanh(), 1.0)


class Generator(Decoder):
    @dg.deterministic
    def x(self, z):
        return self.net(z)


class Encoder(dg.Model):
    x = dg.Input()

    def __init__(self, pixels=3, latent=2):
        super().__init__()
        self.net = nn.Linear(pixels, latent)

    @dg.rv
    def z(self, x):
        return Normal(self.net(x), 1.0)


def encoder(**cpds):
    return dg.model(**{"x": dg.Input(3), **cpds})


def latent(x):
    return Normal(x[:, :2], 1.0)


PLACE = r"(?:.|\n)*CPD at .*test_admissibility\.py:\d+"
WAYS_OUT = (
    r"x is implicit: a deterministic function of z.*Use dg\.gan.*return a distribution such as"
)


@pytest.mark.parametrize(
    "ask",
    [
        lambda g: dg.elbo(g, Encoder()),
        lambda g: g.log_prob({"z": torch.zeros(4, 2), "x": torch.zeros(4, 3)}),
        lambda g: g["x"].log_prob({"x": torch.zeros(4, 3)}),
        dg.nll,
        lambda g: dg.nll(g, observed=["x"]),
        lambda g: dg.KL(dg.data("x") * Encoder(), g),
        lambda g: dg.KL(g, Decoder()),
    ],
)
def test_a_generator_has_no_density_and_two_ways_out(ask):
    with pytest.raises(dg.InadmissibleError, match=WAYS_OUT):
        ask(Generator())


def test_a_flow_in_its_place_has_one():
    p = dg.replace(Decoder(), x=dg.bijection("z", ExpTransform()))
    assert dg.nll(p).losses(torch.ones(4, 2))["model"].isfinite()


@pytest.mark.parametrize(
    ("q", "message"),
    [
        (encoder(Z=latent), f"q draws 'Z', which is no variable of p; did you mean 'z'{PLACE}"),
        (encoder(zz=latent), f"q draws 'zz', which is no variable of p; did you mean 'z'{PLACE}"),
        (
            encoder(),
            rf"q lacks z, latent in p; give q a CPD for it, or.*observed=\(\.\.\.\){PLACE}",
        ),
        (encoder(z=latent, w=latent), f"q draws 'w', which is no variable of p{PLACE}"),
        (dg.model(X=dg.Input(3), z=lambda X: latent(X)), "given 'X', which p lacks.*mean 'x'"),
    ],
    ids=["capital", "doubled", "missing", "invented", "input"],
)
def test_a_q_that_does_not_match_p_is_refused(q, message):
    with pytest.raises(dg.GraphError, match=message):
        dg.elbo(Decoder(), q)


@pytest.mark.parametrize("latent", [1, 3])
def test_a_decoder_one_column_off_is_found_before_any_data(latent):
    with pytest.raises(dg.GraphError) as error:
        dg.elbo(Decoder(latent=latent), Encoder())
    message = str(error.value)
    assert re.search(r"x \(z -> x\), CPD at .*test_admissibility\.py:\d+", message)
    assert f"in layer net = Linear(in_features={latent}" in message
    assert "z has shape [n, 2]" in message


@pytest.mark.parametrize("pixels", [2, 4])
def test_an_encoder_one_column_off_is_found_before_any_data(pixels):
    with pytest.raises(dg.GraphError, match=r"(?s)z \(x -> z\), CPD at.*x has shape \[n, 3\]"):
        dg.elbo(Decoder(), Encoder(pixels=pixels))


def test_a_latent_of_another_width_is_found_before_any_data():
    with pytest.raises(
        dg.GraphError,
        match=r"(?s)z.*event shape \[2\].*inference model it has \[3\].*make",
    ):
        dg.elbo(Decoder(), Encoder(latent=3))


def test_an_input_declared_with_another_shape_is_found():
    q = dg.model(x=dg.Input(4), z=lambda x: Normal(x[:, :2], 1.0))
    with pytest.raises(dg.GraphError, match=r"x \(z -> x\).*\[3\].*dg\.Input it has \[4\]"):
        dg.elbo(Decoder(), q)


def test_a_cpd_that_loses_the_batch_is_found():
    p = dg.replace(Decoder(), x=lambda z: Normal(z.mean(0), 1.0))
    with pytest.raises(dg.GraphError, match=r"x \(z -> x\).*shape \[2\].*must be\s+the batch"):
        dg.elbo(p, Encoder(pixels=2))


def test_a_cpd_that_returns_the_wrong_thing_is_found():
    p = dg.replace(Decoder(), x=lambda z: 2 * z)
    with pytest.raises(TypeError, match=r"x \(z -> x\).*returns a Distribution; it returned a T"):
        dg.elbo(p, Encoder())


def test_a_discrete_latent_is_refused_where_a_pathwise_gradient_is_asked_for():
    p = dg.replace(Decoder(), z=Bernoulli(torch.full((2,), 0.5)))
    q = encoder(z=dg.rv(lambda x, net: Bernoulli(logits=net(x)), net=nn.Linear(3, 2)))
    with pytest.raises(dg.InadmissibleError, match=r"z \(x -> z\).*Bernoulli carry no pathwise"):
        dg.elbo(p, q, gradients=PATHWISE)


def test_a_discrete_latent_that_learns_nothing_is_drawn():
    p = dg.replace(Decoder(), z=OneHotCategorical(torch.full((2,), 0.5)))
    q = encoder(z=lambda x: OneHotCategorical(logits=x[:, :2]))
    assert dg.elbo(p, q).losses(torch.zeros(4, 3))["model"].requires_grad


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"X": torch.zeros(4, 3)}, "lacks 'x', which the objective observes; did you mean 'X'"),
        ({}, "lacks 'x'"),
        (5, "lacks 'x'"),
        (torch.zeros(4, 5), r"x \(z -> x\).*event shape \[3\], but the data has \[5\]"),
        (torch.zeros(4), r"event shape \[3\], but the data has \[\]"),
        (torch.zeros(()), r"x must be a Tensor \[n, \*event\], not a tensor without dim"),
        ({"x": [1.0, 2.0]}, r"x must be a Tensor .*not a list; torch.as_tensor"),
    ],
    ids=["name", "nothing", "number", "width", "no event", "no batch", "list"],
)
def test_a_batch_that_does_not_fit_is_refused(batch, message):
    with pytest.raises(dg.GraphError, match=message):
        dg.elbo(Decoder(), Encoder()).losses(batch)


@pytest.mark.parametrize("batch", [[1.0], torch.zeros(4, 3).numpy(), None], ids=type)
def test_a_batch_that_is_no_tensor_is_refused(batch):
    with pytest.raises(TypeError, match=r"a batch is \{name: Tensor\}.*not a"):
        dg.elbo(Decoder(), Encoder()).losses(batch)


def test_a_tensor_cannot_stand_for_two_variables():
    q = dg.model(x=dg.Input(), y=dg.Input(), z=lambda x, y: Normal(x + y, 1.0))
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0), y=lambda z: Normal(z, 1.0))
    with pytest.raises(dg.GraphError, match="a batch is a dict with the keys x, y"):
        dg.elbo(p, q).losses(torch.zeros(4))


def test_batches_of_different_sizes_are_refused():
    q = dg.model(x=dg.Input(), y=dg.Input(), z=lambda x, y: Normal(x + y, 1.0))
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0), y=lambda z: Normal(z, 1.0))
    with pytest.raises(dg.GraphError, match=r"sizes differ: \{'x': 4, 'y': 5\}"):
        dg.elbo(p, q).losses({"x": torch.zeros(4), "y": torch.zeros(5)})


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (Decoder(), dg.data("x"), r"x is empirical data.*put the data first: KL\(data, p\)"),
        (dg.data("x"), Decoder(), "integral over z, which is latent; use dg.elbo"),
        (
            dg.data("x"),
            Bent()["x"],
            r"integral over z.* .tanh of a parent is not affine.*use dg\.elbo",
        ),
        (dg.data("y"), Decoder()["z"], "share no variable: y against z"),
        (Decoder(), Decoder()["z"], r"x is on one side only; restrict it with \['z'\]"),
        (dg.data("x", "y") * Encoder(), Decoder(), r"y is on one side only"),
    ],
    ids=["data second", "latent", "marginal", "nothing shared", "superset", "extra data"],
)
def test_sides_that_do_not_match_are_refused(a, b, message):
    with pytest.raises(dg.GraphError, match=message):
        dg.KL(a, b)


def test_nll_refuses_what_must_be_integrated_out():
    with pytest.raises(dg.InadmissibleError, match=r"integral over z.*use dg\.elbo"):
        dg.nll(Bent(), observed=["x"])


@pytest.mark.parametrize("name", ["h", "other"])
def test_each_side_computes_its_own_maps_of_the_same_name_too(name):
    """q is the posterior, so that the bound of each draw is the evidence of x under N(0, 5)."""
    p = dg.model(
        z=Normal(0.0, 1.0), h=dg.deterministic(lambda z: 2 * z), x=lambda h: Normal(h, 1.0)
    )
    scale = dg.deterministic(lambda x: 0.4 * x)
    law = {"h": lambda h: Normal(h, 0.2**0.5), "other": lambda other: Normal(other, 0.2**0.5)}
    q = dg.model(x=dg.Input(), **{name: scale}, z=law[name])
    x = torch.randn(5)
    want = -Normal(0.0, 5**0.5).log_prob(x).mean()
    torch.testing.assert_close(dg.iwae(p, q, particles=2).losses({"x": x})["model"], want)


def test_q_may_look_at_what_p_lacks_if_the_data_is_said_to_hold_it():
    p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
    q = dg.model(mean=dg.Input(), z=lambda mean: Normal(mean, 0.5**0.5))
    with pytest.raises(dg.GraphError, match=r"'mean', which p lacks.*observed=\['x', 'mean'\]"):
        dg.elbo(p, q)
    x = torch.randn(5)
    want = -Normal(0.0, 2**0.5).log_prob(x).mean()
    for cost in (
        dg.iwae(p, q, particles=2, observed=["x", "mean"]),
        dg.KL(dg.data("x", "mean") * q, p, gradients=dg.estimators.STICK_THE_LANDING),
    ):
        torch.testing.assert_close(cost.losses({"x": x, "mean": x / 2})["model"], want)


def test_something_else_than_a_joint_is_refused():
    with pytest.raises(TypeError, match=r"expected a dg\.Model, dg\.data"):
        dg.KL(3, Decoder())  # type: ignore[arg-type]  # what a user may pass


def test_an_unknown_player_is_refused():
    cost = dg.elbo(Decoder(), Encoder())
    with pytest.raises(dg.GraphError, match="no player 'modle'; did you mean 'model'"):
        cost.losses(torch.zeros(4, 3), players=["modle"])


def test_an_error_leaves_the_checks_of_torch_on():
    cost = dg.elbo(Decoder(), Encoder())
    with pytest.raises(dg.GraphError, match="dtype"):
        cost.losses(torch.zeros(4, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="scale"):
        Normal(0.0, -1.0)


BY_SAMPLES = {"gan", "f_divergence", "wasserstein", "mmd", "sliced_wasserstein", "sinkhorn"}


def admitted(table):
    return {row["cost"] for row in table if row["admissible"] == "yes"}


def test_every_cost_is_listed_with_its_reason():
    implicit = dg.objectives_for(Generator(), Encoder())
    assert admitted(implicit) >= BY_SAMPLES
    why = {row["cost"]: row["why"] for row in implicit}
    refused = why.keys() - admitted(implicit) - {"vq_vae", "cyclegan"}
    assert all(re.search(WAYS_OUT, why[name]) for name in refused)
    table = dg.objectives_for(Bent(), Encoder())
    why = {row["cost"]: row["why"] for row in table}
    assert why.keys() - admitted(table) == {
        "nll",
        "semi_supervised",
        "vq_vae",
        "cyclegan",
    }
    assert "integral over z" in why["nll"]
    assert why["elbo"] == "closed form; Monte Carlo, pathwise in z"
    assert "q declares no h and no e" in why["vq_vae"]
    alone = {row["cost"]: row for row in dg.objectives_for(Decoder())}
    assert alone["elbo"]["admissible"] == "no"
    assert "q for z" in alone["elbo"]["why"]
    wide = dg.objectives_for(Decoder(latent=3), Encoder())
    assert not admitted(wide)
    assert "(z -> x)" in {row["cost"]: row["why"] for row in wide}["gan"]


def test_what_is_listed_as_refused_is_refused_with_the_same_words():
    why = {row["cost"]: row["why"] for row in dg.objectives_for(Generator(), Encoder())}
    for name in ("elbo", "iwae", "wake_sleep"):
        with pytest.raises(dg.InadmissibleError) as refused:
            getattr(dg.recipes, name)(Generator(), Encoder())
        assert str(refused.value).splitlines()[0] == why[name]


def test_a_model_without_latents_needs_no_q():
    found = dg.objectives_for(dg.model(x=Normal(0.0, 1.0)))
    assert admitted(found) >= {"nll", *BY_SAMPLES}
    table = {row["cost"]: row for row in found}
    assert not {"elbo", "iwae", "wae"} & admitted(found)
    assert "no latent variable: its likelihood is dg.nll(p)" in table["elbo"]["why"]


def test_an_event_that_holds_no_number_is_refused():
    nothing = dg.model(z=Normal(torch.zeros(0), 1.0), x=dg.deterministic(lambda z: 2 * z))
    message = r"the event shape of x is \[0\], which holds no number"
    for build in (
        lambda: dg.MMD(dg.data("x"), nothing["x"]),
        lambda: dg.gan(nothing, nn.Linear(1, 1)),
        lambda: dg.KL(dg.data("x"), dg.model(x=Normal(torch.zeros(0), 1.0))),
    ):
        with pytest.raises(dg.GraphError, match=message):
            build()


def test_a_scalar_event_is_compared_as_one_number():
    class OfOne(nn.Linear):
        def forward(self, input):  # noqa: A002 - torch's name
            return super().forward(input[:, None])

    p = dg.model(z=Normal(0.0, 1.0), x=dg.deterministic(lambda z: 2 * z))
    penalties = (dg.penalties.gradient(10.0), dg.penalties.r1(1.0))
    game = dg.gan(p, OfOne(1, 1), penalty=penalties)
    assert all(loss.isfinite() for loss in game.losses(torch.randn(5)).values())
    assert dg.MMD(dg.data("x"), p["x"]).losses(torch.randn(5))["model"].isfinite()
    shapes = r"(?s)the critic \(x -> the critic\).*x has shape \[n\]"
    with pytest.raises(dg.GraphError, match=shapes):
        dg.gan(p, nn.Linear(1, 1))


def test_a_critic_of_several_variables_takes_them_all():
    p, q = Generator(), Encoder()
    with pytest.raises(dg.GraphError, match=r"called with z, x, but .*dg.nn.Joined\(net\)"):
        dg.JS(dg.data("x") * q, p, critic=dg.nn.mlp(5, 4, 1))
    joined = dg.nn.Joined(dg.nn.mlp(5, 4, 1))
    assert dg.JS(dg.data("x") * q, p, critic=joined).losses(torch.zeros(4, 3))["model"].isfinite()
