"""Which CPDs are linear Gaussian, with what weights, and why others are not."""

import pytest
import torch
from torch import nn
from torch.distributions import (
    Independent,
    Laplace,
    LogNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)
from torch.nn.functional import dropout, relu

from daguerre.cpds import Affine, LinearGaussian
from daguerre.families import StandardNormal, shared
from daguerre.infer.gaussian import read_affine

W = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], dtype=torch.float64)
B = torch.tensor([0.3, -1.0], dtype=torch.float64)
S = torch.tensor([0.5, 2.0], dtype=torch.float64)
TRIL = torch.tensor([[0.5, 0.0], [-1.0, 2.0]], dtype=torch.float64)


def read(cpd, arguments=("z",), events=None, states=None) -> Affine:
    found = read_affine(
        cpd,
        arguments,
        events={"z": [3]} if events is None else events,
        states=states,
        dtype=torch.float64,
    )
    assert isinstance(found, Affine), found
    return found


def covariance(found: Affine) -> torch.Tensor:
    return found.scale @ found.scale.mT


def linear():
    layer = nn.Linear(3, 2).double()
    with torch.no_grad():
        layer.weight.copy_(W)
        layer.bias.copy_(B)
    return layer


# what is affine

MEANS = {
    "layer": linear(),
    "layers": nn.Sequential(linear(), nn.Identity(), nn.Dropout(0.5).eval()),
    "matmul": lambda z: z @ W.T + B,
    "einsum": lambda z: torch.einsum("ij,bj->bi", W, z) + B,
    "batched matmul": lambda z: (W.expand(len(z), 2, 3) @ z.unsqueeze(-1)).squeeze(-1) + B,
    "addmm": lambda z: torch.addmm(B, z, W.T),
    "components": lambda z: torch.stack(
        [z[:, 0] - 2 * z[..., 1] + z[:, 2] / 2 + B[0], z[:, 1:].sum(-1) + 2 * z[:, 1] + B[1]], -1
    ),
    "cat": lambda z: torch.cat([z @ W[:1].T, -(z @ -W[1:].T)], 1) + B,
    "split": lambda z: (
        sum((x * w for x, w in zip(z.unbind(-1), W.T[:, None], strict=True)), B)
        if z.dim() == 1
        else sum((x[:, None] * w for x, w in zip(z.unbind(-1), W.T, strict=True)), B)
    ),
    "chosen": lambda z: (
        torch.where(torch.tensor([True, False]), z @ W[0][:, None], z @ W[1:].T) + B
    ),
    "moved": lambda z: (W @ z.mT).mT + B,
    "viewed": lambda z: (z.view(-1, 1, 3).expand(-1, 2, 3) * W).sum(-1).clone().contiguous() + B,
    "mean": lambda z: 3 * (z[:, None].repeat(1, 2, 1) * W).mean(-1) + B.to(z.dtype),
    "gathered": lambda z: z[:, [2, 1, 0]] @ W[:, [2, 1, 0]].T + B,
    "index": lambda z: z.index_select(1, torch.tensor([1, 0, 2])) @ W[:, [1, 0, 2]].T + B,
    "filled": lambda z: torch.zeros_like(z[:, :2]) + z @ W.T + torch.ones_like(z[:, :2]) * B,
    "subtracted": lambda z: B - (0 - z) @ W.T,
}


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
def test_affine_means_are_read_however_they_are_written(mean):
    found = read(lambda z: Normal(mean(z), S))
    torch.testing.assert_close(found.bias, B)
    torch.testing.assert_close(found.weights["z"], W)
    torch.testing.assert_close(found.scale, S.diag())


GAUSSIANS = {
    "normal": (lambda m: Normal(m, S), S.square().diag()),
    "independent": (lambda m: Independent(Normal(m, S.expand_as(m)), 1), S.square().diag()),
    "like": (lambda m: Normal(m, torch.full_like(m, 0.5)), torch.eye(2).double() / 4),
    "tril": (lambda m: MultivariateNormal(m, scale_tril=TRIL), TRIL @ TRIL.T),
    "covariance": (lambda m: MultivariateNormal(m, TRIL @ TRIL.T), TRIL @ TRIL.T),
    "precision": (
        lambda m: MultivariateNormal(m, precision_matrix=torch.linalg.inv(TRIL @ TRIL.T)),
        TRIL @ TRIL.T,
    ),
    "low rank": (
        lambda m: LowRankMultivariateNormal(m, S[:, None], torch.ones(2).double()),
        torch.outer(S, S) + torch.eye(2).double(),
    ),
    "deterministic": (lambda m: m, torch.zeros(2, 2).double()),
}


@pytest.mark.parametrize(("family", "expected"), GAUSSIANS.values(), ids=GAUSSIANS)
def test_every_gaussian_family_gives_its_covariance(family, expected):
    found = read(lambda z: family(z @ W.T + B))
    torch.testing.assert_close(covariance(found), expected)
    torch.testing.assert_close(found.weights["z"], W)


def test_a_root_is_one_event():
    found = read(lambda: StandardNormal(2, 3), arguments=(), events={})
    assert found.bias.shape == (6,)
    torch.testing.assert_close(found.scale, torch.eye(6).double())
    assert found.weights == {}


def test_rows_of_vectors_are_blocks():
    tril = torch.stack([TRIL, 3 * TRIL, TRIL + torch.eye(2)])
    found = read(lambda: MultivariateNormal(torch.zeros(3, 2), scale_tril=tril), (), {})
    torch.testing.assert_close(found.scale, torch.block_diag(*tril))


def test_several_parents_of_any_shape_keep_their_order():
    def cpd(y, z, x):
        return Normal(2 * y + (z * torch.arange(6.0).reshape(2, 3)).sum((1, 2)) - x[:, 1], 1.0)

    found = read(cpd, ("y", "z", "x"), {"x": [2], "y": [], "z": [2, 3]})
    assert list(found.weights) == ["y", "z", "x"]
    assert found.weights["y"].tolist() == [[2.0]]
    assert found.weights["z"].tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]
    assert found.weights["x"].tolist() == [[0.0, -1.0]]


def test_a_parent_that_is_ignored_has_the_weight_zero():
    found = read(lambda z: Normal(torch.zeros(len(z), 2), 1.0))
    assert not found.weights["z"].any()


def test_a_convolution_is_affine():
    conv = nn.Conv2d(1, 2, 3, padding=1).double()
    found = read(conv, events={"z": [1, 4, 5]})
    x = torch.randn(7, 1, 4, 5).double()
    expected = (x.flatten(1) @ found.weights["z"].T + found.bias).reshape(7, 2, 4, 5)
    torch.testing.assert_close(conv(x), expected)


def test_a_wide_linear_gaussian_in_float32_is_read():
    layer = nn.Linear(200, 784)
    found = read_affine(lambda z: Normal(layer(z), 0.1), ["z"], events={"z": [200]})
    assert isinstance(found, Affine)
    torch.testing.assert_close(found.weights["z"], layer.weight)


# discrete parents


def test_states_of_discrete_parents_are_leading_dimensions():
    slope = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).double()
    bits = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).double()

    def cpd(a, z, b):
        return Normal(slope[a, b.sum(-1).long()] * z, 1.0 + a)

    states = {"a": torch.arange(2), "b": bits}
    found = read(cpd, ("a", "z", "b"), {"z": []}, states)
    torch.testing.assert_close(found.weights["z"][..., 0, 0], slope)
    assert found.bias.shape == (2, 3, 1)
    torch.testing.assert_close(
        found.scale[..., 0, 0], torch.tensor([[1.0] * 3, [2.0] * 3]).double()
    )


def test_a_net_may_choose_the_weights_by_a_discrete_parent():
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    states = {"a": torch.linspace(0, 1, 5).double()[:, None]}
    found = read(lambda z, a: Normal((net(a) * z).sum(-1), 1.0), ("z", "a"), None, states)
    torch.testing.assert_close(found.weights["z"][:, 0], net(states["a"]))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0)])
def test_a_linear_gaussian_module_is_read_directly(order):
    weight = torch.arange(12.0).reshape(3, 2, 1, 2)
    cpd = LinearGaussian(
        torch.arange(6.0).reshape(3, 2, 1), torch.ones(3, 2, 1), weights={"z": weight}, given="ab"
    )
    states = {"a": torch.tensor(order), "b": torch.arange(2)}
    direct = read_affine(cpd, cpd.parents, events={"z": [2]}, states=states)
    traced = read_affine(
        lambda z, a, b: cpd(z, a, b), cpd.parents, events={"z": [2]}, states=states
    )
    assert isinstance(direct, Affine)
    assert isinstance(traced, Affine)
    torch.testing.assert_close(direct, traced)
    torch.testing.assert_close(direct.weights["z"], weight[list(order)])


# gradients


def test_gradients_reach_the_parameters():
    layer, log_scale = linear(), torch.zeros(2, dtype=torch.float64, requires_grad=True)
    found = read(lambda z: Normal(layer(z), log_scale.exp()))
    (found.bias.sum() + 2 * found.weights["z"].sum() + 3 * found.scale.trace()).backward()
    assert layer.bias.grad is not None
    assert layer.weight.grad is not None
    assert log_scale.grad is not None
    torch.testing.assert_close(layer.bias.grad, torch.ones(2).double())
    torch.testing.assert_close(layer.weight.grad, torch.full((2, 3), 2.0).double())
    torch.testing.assert_close(log_scale.grad, torch.full((2,), 3.0).double())


# what is not

REFUSED = {
    "relu": (lambda z: Normal(relu(z), 1.0), "relu of a parent is not affine"),
    "product": (lambda z: z * z, "mul of a parent is not affine"),
    "matrix product": (lambda z: z @ z.mT @ z, "mm of a parent is not affine"),
    "quotient": (lambda z: 1 / z, "reciprocal of a parent is not affine"),
    "divisor": (lambda z: S[0] / z, "div of a parent is not affine"),
    "gate": (lambda z: z * (z @ W.T @ W), "mul of a parent is not affine"),
    "floor": (lambda z: torch.div(z, 2, rounding_mode="floor"), "div of a parent is not"),
    "branch": (lambda z: z if z.sum() > 0 else -z, "gt of a parent is not affine"),
    "item": (lambda z: Normal(z * z[0, 0].item(), 1.0), "local_scalar_dense of a parent"),
    "rounding": (lambda z: z.long().to(z.dtype), "a parent becomes int64"),
    "copied": (lambda z: torch.zeros(len(z), 3).double().copy_(z), "copy of a parent is not"),
    "detached": (lambda z: z.data.abs(), "abs of a parent is not affine"),
    "numpy": (lambda z: torch.from_numpy(z.numpy()), "fails on tensors that are followed"),
    "list": (lambda z: torch.tensor(z.tolist()), "fails on tensors that are followed"),
    "scale": (lambda z: Normal(z, z.exp()), "exp of a parent is not affine"),
    "linear scale": (lambda z: Normal(z, 10 + z), "the scale depends on the parents"),
    "noise": (lambda z: z + torch.randn(3), "randn draws at random"),
    "noise alike": (lambda z: z + torch.randn_like(z), "randn_like draws at random"),
    "dropout": (lambda z: dropout(z), "draws at random"),
    "log-normal": (lambda z: LogNormal(z, 1.0), "LogNormal is not Gaussian"),
    "laplace": (lambda z: Laplace(z, 1.0), "Laplace is not Gaussian"),
    "shared": (lambda z: shared(Normal(z, 1.0), 10), "SharedNormal is not Gaussian"),
    "integer": (lambda z: torch.zeros(len(z)).long(), "the values are int64, not real"),
    "centred": (lambda z: z - z.mean(0), "other rows than its own"),
    "cumulative": (lambda z: z.cumsum(0), "other rows than its own"),
    "row scale": (lambda z: Normal(z, torch.arange(1.0, 1 + len(z))[:, None]), "other rows"),
    "lost batch": (lambda z: Normal(z[0], 1.0), "loses the batch of 2 rows"),
    "bijection": (lambda z: torch.distributions.ExpTransform(), "a bijection is not followed"),
    "mistake": (lambda z: z.nothing(), "AttributeError"),
}


@pytest.mark.parametrize(("cpd", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_linear_gaussian_is_refused_with_the_reason(cpd, reason):
    found = read_affine(cpd, ["z"], events={"z": [3]}, dtype=torch.float64)
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize(
    "cpd",
    [
        lambda z: Normal((z + 100).abs() - 100, 1.0),  # on all that a probe may look at
        lambda z: Normal(relu(z + 1e6) - 1e6, 1.0),
        lambda z: z.clamp(-1e9, 1e9),
    ],
)
def test_what_looks_affine_near_zero_is_refused_all_the_same(cpd):
    assert isinstance(read_affine(cpd, ["z"], events={"z": [3]}), str)


def test_reading_leaves_the_generator_and_the_parameters_alone():
    layer = linear()
    before, state = layer.weight.clone(), torch.get_rng_state()
    read(lambda z: Normal(layer(z), 1.0))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(before, layer.weight)
    assert layer.weight.grad is None
