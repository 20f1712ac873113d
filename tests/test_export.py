"""Exports: the same numbers as the model, in a file that another program runs."""

import numpy as np
import pytest
import torch
from export_cases import FAMILIES, below
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Gamma,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)
from torch.distributions.transforms import ExpTransform

import daguerre as dg
from daguerre.gallery.twins import Decoder, Encoder, Generator

# What comes out


def test_a_decoder_gives_its_parameters_its_mean_and_its_draws():
    p = Decoder(9, 4, 8).eval()
    exported = dg.export(p, ["x", "x.mean", "x.draw"], given=["z"])
    z, noise = torch.randn(5, 4), torch.randn(5, 9)
    found = exported(z=z, x_noise=noise)
    law = p.x(z)
    assert [*found] == ["x.loc", "x.scale", "x.mean", "x.draw"]
    assert torch.equal(found["x.loc"], law.loc)
    assert torch.equal(found["x.scale"], law.scale)
    assert torch.equal(found["x.mean"], law.mean)
    assert torch.equal(found["x.draw"], law.loc + law.scale * noise)


def test_a_generator_and_an_encoder_are_exported_by_default_from_what_they_take():
    g, q = Generator(9, 4, 8).eval(), Encoder(9, 4, 8).eval()
    z, x = torch.randn(5, 4), torch.rand(5, 9)
    assert torch.equal(dg.export(g, "x")(z=z)["x"], g.x(z))
    found = dg.export(q, "z", example={"x": x})(x=x)
    assert torch.equal(found["z.loc"], q.z(x).loc)
    assert torch.equal(found["z.scale"], q.z(x).scale)


def test_sample_takes_the_noise_of_every_random_variable():
    g = Generator(9, 4, 8).eval()
    exported = dg.export(g, "sample")
    z = torch.randn(2, 4)
    found = exported(z_noise=z)
    assert [*found] == ["z.draw", "x"]
    assert torch.equal(found["z.draw"], z)
    assert torch.equal(found["x"], g.x(z))


def test_log_prob_is_the_density_of_the_model():
    p = Decoder(9, 4, 8).eval()
    values = p.sample(6)
    found = dg.export(p, "log_prob")(**values)["log_prob"]
    assert torch.allclose(found, p.log_prob(values))


def test_the_density_of_a_flow_goes_through_its_inverse():
    p = dg.model(z=dg.StandardNormal(2), x=dg.bijection("z", ExpTransform()))
    exported = dg.export(p, "log_prob")
    x = torch.rand(4, 2) + 0.1
    assert [*exported.inputs] == ["x"]
    expected = LogNormal(0.0, 1.0).log_prob(x).sum(1)
    assert torch.allclose(exported(x=x)["log_prob"], expected)


def test_what_is_between_can_be_given_and_asked_for():
    p = dg.model(
        z=dg.StandardNormal(3),
        h=dg.deterministic(lambda z: z.exp()),
        x=lambda h: Normal(2 * h, 1.0),
    )
    z = torch.randn(4, 3)
    found = dg.export(p, ["h", "x.mean"])(z=z)
    assert torch.equal(found["h"], z.exp())
    assert torch.equal(found["x.mean"], 2 * z.exp())
    assert torch.equal(dg.export(p, "x.mean", given="h")(h=z)["x.mean"], 2 * z)


def test_a_product_of_models_is_exported_as_one():
    p = dg.model(z=dg.StandardNormal(2), x=lambda z: Normal(z, 1.0))
    classifier = dg.model(x=dg.Input(2), y=lambda x: Bernoulli(logits=x.sum(1)))
    found = dg.export(p * classifier, ["x.draw", "y.probs"])
    z, noise = torch.randn(4, 2), torch.randn(4, 2)
    y = found(z=z, x_noise=noise)["y.probs"]
    assert torch.allclose(y, (z + noise).sum(1).sigmoid())


class Schools(dg.Model):
    """Eight schools; its plate is a dimension of what is given and of what comes."""

    sigma = dg.Plate("school", 8)(dg.Input(1))

    @dg.rv
    def mu(self):
        return Normal(torch.zeros(1), 5.0)

    @dg.Plate("school", 8)
    @dg.rv
    def theta(self, mu):
        return Normal(mu, 2.0)

    @dg.Plate("school", 8)
    @dg.rv
    def y(self, theta, sigma):
        return Normal(theta, sigma.abs())


def test_plates_are_dimensions_after_the_batch():
    exported = dg.export(Schools(), "sample")
    sigma, mu = torch.rand(3, 8, 1), torch.randn(3, 1)
    theta, y = torch.randn(3, 8, 1), torch.randn(3, 8, 1)
    found = exported(sigma=sigma, mu_noise=mu, theta_noise=theta, y_noise=y)
    expected = 5 * mu[:, None] + 2 * theta + sigma * y
    assert torch.allclose(found["y.draw"], expected, atol=1e-5)
    values = {"sigma": sigma, "mu": mu, "theta": theta, "y": y}
    score = dg.export(Schools(), "log_prob")(**values)["log_prob"]
    assert torch.allclose(score, Schools().log_prob(values))


# Draws by noise


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_have_the_law_of_the_family(family):
    exported = dg.export(below(FAMILIES[family]), "x.draw")
    n = 20_000
    z = torch.tensor([[0.3, -0.8, 0.5]]).expand(n, 3)
    name, shape = next((k, s.event) for k, s in exported.inputs.items() if k != "z")
    generator = torch.Generator().manual_seed(3)
    is_normal = family in ("Normal", "Independent", "LogNormal", "MultivariateNormal")
    make = torch.randn if is_normal else torch.rand
    found = exported(**{"z": z, name: make(n, *shape, generator=generator)})["x.draw"]
    law = FAMILIES[family](z[:1])
    if family == "Categorical":
        found = nn.functional.one_hot(found, 3).float()
        law = OneHotCategorical(logits=z[:1])
    if family == "Cauchy":  # which has quartiles, but no moments
        quartiles = found.quantile(torch.tensor([0.25, 0.5, 0.75]), 0)
        assert torch.allclose(quartiles, z[0] + torch.tensor([[-2.0], [0], [2]]), atol=0.15)
        return
    error = (law.variance[0] / n).sqrt()
    assert ((found.mean(0) - law.mean[0]).abs() < 4.5 * error).all()
    assert torch.allclose(found.var(0), law.variance[0], rtol=0.15)
    if isinstance(law, MultivariateNormal):
        assert torch.allclose(found.T.cov(), law.covariance_matrix[0], atol=0.15)


def test_a_family_without_noise_is_refused_and_its_parameters_are_not():
    p = below(lambda z: Gamma(z.exp(), 1.0))
    with pytest.raises(NotImplementedError, match="draws of a Gamma are no function of noise"):
        dg.export(p, "x.draw")
    assert [*dg.export(p, "x").outputs] == ["x.concentration", "x.rate"]


# What an export is


def test_it_holds_for_batches_that_it_was_not_made_with():
    exported = dg.export(Decoder(9, 4, 8), "x.mean")
    for n in (1, 2, 5, 100):
        assert exported(z=torch.randn(n, 4))["x.mean"].shape == (n, 9)


def test_it_says_what_it_takes_and_gives():
    assert repr(dg.export(Decoder(9, 4, 8), ["x.mean", "x.draw"])) == (
        "Decoder  name     shape   dtype\n"
        "input    z        [n, 4]  float32\n"
        "input    x_noise  [n, 9]  float32\n"
        "output   x.mean   [n, 9]  float32\n"
        "output   x.draw   [n, 9]  float32\n"
        "equal to the model up to 0"
    )


def test_it_runs_in_evaluation_mode_and_leaves_the_model_and_the_generator_as_they_were():
    p = Decoder(9, 4, 8).train()
    p.net[0].eval()
    before = {k: v.clone() for k, v in p.state_dict().items()}
    state = torch.get_rng_state()
    exported = dg.export(p, "x.mean")
    assert torch.equal(torch.get_rng_state(), state)
    assert p.training
    assert not p.net[0].training
    assert all(torch.equal(v, before[k]) for k, v in p.state_dict().items())
    z = torch.randn(3, 4)
    assert torch.equal(exported(z=z)["x.mean"], p.eval().x(z).mean)


def test_its_weights_are_those_of_its_time_and_only_those_that_it_needs():
    p = Decoder(9, 4, 8).eval()
    p.idle = nn.Linear(1000, 100)
    exported = dg.export(p, "x.mean")
    z = torch.randn(3, 4)
    before = exported(z=z)["x.mean"]
    with torch.no_grad():
        for parameter in p.parameters():
            parameter.add_(1.0)
    assert torch.equal(exported(z=z)["x.mean"], before)
    assert not [name for name in exported.program.state_dict if "idle" in name]
    assert not [t for t in exported.program.parameters() if t.requires_grad]


def test_other_types_are_kept():
    p = dg.model(
        z=Normal(torch.zeros(3, dtype=torch.float64), 1.0),
        k=Categorical(torch.ones(4)),
        x=dg.rv(lambda z, k: Normal(z + k[:, None], torch.ones(3, dtype=torch.float64))),
    )
    exported = dg.export(p, "x.mean")
    assert [s.dtype for s in exported.inputs.values()] == [torch.float64, torch.int64]
    z, k = torch.randn(2, 3, dtype=torch.float64), torch.tensor([3, 1])
    assert torch.equal(exported(z=z, k=k)["x.mean"], z + k[:, None])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"the input z \[n, 3\] is missing: give \['z'\]"),
        ({"z": torch.zeros(2, 4)}, r"the input z is \[n, 3\] torch.float32, not \[2, 4\]"),
        ({"z": torch.zeros(2, 3, dtype=torch.float64)}, r"not \[2, 3\] torch.float64"),
        ({"z": torch.zeros(3)}, r"not \[3\] torch.float32"),
        ({"z": torch.zeros(2, 3), "zz": torch.zeros(2)}, "no input 'zz'; did you mean 'z'"),
    ],
)
def test_wrong_inputs_are_refused(values, message):
    exported = dg.export(below(dg.deterministic(lambda z: 2 * z)), "x")
    with pytest.raises(dg.GraphError, match=message):
        exported(**values)


# What is refused


@pytest.mark.parametrize(
    ("outputs", "given", "message"),
    [
        ("y", None, r"there is no 'y' to export; known: z, h, x \(or sample, or log_prob\)"),
        ("xx.mean", None, "there is no 'xx.mean' to export; did you mean 'x'"),
        ("x.mode1", None, "x .*a Normal has no 'mode1'; did you mean 'mode'"),
        ("x.mean", ["zz"], "no variable 'zz' in the graph; did you mean 'z'"),
        (
            "x.mean",
            [],
            r'x.mean needs z \(z -> h\), which is random .*given=\[\'z\'\], or .*"z.dr',
        ),
        ("h.draw", None, 'h is a function of its parents, so it has no draw: ask for "h"'),
        ("z", ["x"], r'infer z from x takes a posterior; export .*dg.export\(q, "z"\)'),
        ("z.mean", None, 'z.mean depends on nothing .* or export draws, "z.draw"'),
        ("x.mean", ["h", "z"], "z is given, but x.mean does not depend on it; leave it out"),
        (["h", "log_prob"], None, "log_prob is exported alone"),
        ([], None, "say what is to be exported"),
    ],
)
def test_questions_that_make_no_sense_are_refused(outputs, given, message):
    p = dg.model(
        z=dg.StandardNormal(3),
        h=dg.deterministic(lambda z: z.exp()),
        x=lambda h: Normal(2 * h, 1.0),
    )
    with pytest.raises(dg.GraphError, match=message):
        dg.export(p, outputs, given=given)


def test_a_draw_of_what_is_above_a_given_variable_is_refused():
    p = dg.model(
        a=dg.StandardNormal(1), b=lambda a: Normal(a, 1.0), x=lambda b, a: Normal(a + b, 1.0)
    )
    with pytest.raises(dg.InadmissibleError, match="which follows from a: a forward run would"):
        dg.export(p, ["a.draw", "x.mean"], given=["b"])


def test_what_would_be_inferred_from_a_given_variable_is_refused():
    p = dg.model(z=dg.StandardNormal(1), x=lambda z: Normal(z, 1.0), y=lambda z: Normal(z, 1.0))
    with pytest.raises(dg.InadmissibleError, match=r"y needs z .*to infer it from x takes a post"):
        dg.export(p, "y", given=["x"])


def test_types_that_numpy_lacks_have_no_onnx_form(tmp_path):
    p = dg.model(z=dg.Input(3, dtype=torch.bfloat16), x=dg.deterministic(lambda z: 2 * z))
    exported = dg.export(p, "x")
    assert exported(z=torch.ones(2, 3, dtype=torch.bfloat16))["x"].sum() == 12
    with pytest.raises(NotImplementedError, match="has no bfloat16"):
        exported.save(tmp_path / "x.onnx")


def test_weights_that_are_shared_stay_so():
    net = nn.Linear(3, 3)
    p = dg.model(
        z=dg.StandardNormal(3),
        h=dg.deterministic(lambda z, net: net(z), net=net),
        x=dg.deterministic(lambda h, net: net(h), net=net),
    )
    exported = dg.export(p, "x")
    z = torch.randn(4, 3)
    assert torch.equal(exported(z=z)["x"], net(net(z)))
    assert len({id(t) for t in exported.program.state_dict.values()}) == 2


def test_inputs_say_their_shape_or_come_with_an_example():
    with pytest.raises(dg.GraphError, match=r"shape of x is not known: declare it, x = dg.Input"):
        dg.export(Encoder(9, 4, 8), "z")
    with pytest.raises(dg.GraphError, match="the example of x is a Tensor of one row or more"):
        dg.export(Encoder(9, 4, 8), "z", example={"x": torch.zeros(0, 9)})
    with pytest.raises(dg.GraphError, match="no variable 'y' in the graph"):
        dg.export(Encoder(9, 4, 8), "z", example={"y": torch.zeros(1, 9)})


def test_chains_are_refused_with_the_way_out():
    p = dg.model(z=dg.rv(lambda before=dg.lag("z", init=0.0): Normal(before, 1.0)))
    with pytest.raises(dg.InadmissibleError, match="export one step, of a model whose state is"):
        dg.export(p, "sample")


def branches(z):
    return z if z.sum() > 0 else -z


def leaves_torch(z):
    return torch.from_numpy(z.detach().numpy() * 2)


def counts_rows(z):
    return z / len(z)


def loops_over_rows(z):
    return torch.stack([row.exp() for row in z])


def draws(z):
    return z + torch.randn_like(z)


def has_one_batch_size(z):
    return z + torch.ones(7, 3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (branches, r"depends on the contents of a tensor \(.*: return z if z.sum\(\) > 0 else -z"),
        (leaves_torch, r"its code cannot be traced \(.*numpy\(\) \* 2\)\): \.numpy\(\) is not"),
        (counts_rows, r"takes the batch size as a Python number"),
        (loops_over_rows, r"takes the batch size as a Python number"),
        (draws, r"draws by itself, or changes a buffer"),
        (has_one_batch_size, r"The size of tensor a|must match the size|returned the shape \[7"),
    ],
)
def test_what_is_no_straight_line_is_refused_where_it_is(function, message, capfd):
    line = function.__code__.co_firstlineno
    with pytest.raises(dg.GraphError, match=message) as error:
        dg.export(below(dg.deterministic(function)), "x")
    assert f"x (z -> x), CPD at {__file__}:{line}" in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_density_that_is_no_straight_line_is_refused_where_it_is():
    p = below(lambda z: Normal(branches(z), 1.0))
    with pytest.raises(dg.GraphError, match=r"x \(z -> x\), CPD at .*contents of a tensor"):
        dg.export(p, "log_prob")


class Counting(dg.Model):
    """A CPD that remembers how often it was called."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    @dg.rv
    def z(self):
        return dg.StandardNormal(3)

    @dg.deterministic
    def x(self, z):
        self.calls += 1
        return z + self.calls


def test_a_cpd_that_changes_a_buffer_is_refused():
    with pytest.raises(dg.GraphError, match="draws by itself, or changes a buffer"):
        dg.export(Counting(), "x")


def test_an_export_that_computes_something_else_is_refused():
    noise = np.random.default_rng(0)  # which torch does not see, and takes for a constant
    p = below(dg.deterministic(lambda z: z + noise.random()))
    with pytest.raises(ValueError, match="the export gives another x: it differs by up to"):
        dg.export(p, "x")


def test_a_mean_that_is_none_is_refused():
    with pytest.raises(dg.GraphError, match="a Categorical has no mean"):
        dg.export(below(lambda z: Categorical(logits=z)), "x.mean")
    mixture = below(lambda z: MixtureSameFamily(Categorical(logits=z), Normal(z, 1.0)))
    with pytest.raises(dg.GraphError, match=r'no parameters that are tensors: ask for "x\.mean"'):
        dg.export(mixture, "x")
    found = dg.export(mixture, "x.mean")(z=torch.zeros(2, 3))
    assert torch.allclose(found["x.mean"], torch.zeros(2))
