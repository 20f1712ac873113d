"""Families: the standard normal, shorter surprisals, supports, and small nets."""

import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Exponential,
    Gamma,
    Independent,
    Normal,
    Poisson,
    constraints,
    kl_divergence,
)

import daguerre as dg
from daguerre.families import pathwise_draw, support, surprisal
from daguerre.nn import mlp
from daguerre.program import validation
from daguerre.scoring import sum_event


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_the_standard_normal_is_a_normal(shape):
    ours, torchs = dg.StandardNormal(*shape), Normal(torch.zeros(shape), 1.0)
    x = torch.randn(5, *shape)
    assert ours.batch_shape == shape
    torch.testing.assert_close(ours.log_prob(x), torchs.log_prob(x))
    torch.testing.assert_close(ours.entropy(), torchs.entropy())
    assert (kl_divergence(ours, torchs) == 0).all()


def test_the_standard_normal_draws_the_same_numbers():
    torch.manual_seed(1)
    ours = dg.StandardNormal(3).expand((4, 3)).rsample()
    torch.manual_seed(1)
    assert torch.equal(ours, Normal(torch.zeros(4, 3), 1.0).rsample())


def test_independent_copies_of_a_standard_normal_are_one():
    copies = dg.StandardNormal(3).expand((4, 3))
    assert isinstance(copies, dg.StandardNormal)
    assert repr(copies) == "StandardNormal(4, 3)"


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize(
    ("family", "value"),
    [
        (Normal(torch.zeros(3), 2.0), torch.tensor([0.5, -1.0, 3.0])),
        (Bernoulli(logits=torch.tensor([0.5, -1.0, 3.0])), torch.tensor([1.0, 0.0, 1.0])),
        (Bernoulli(probs=torch.tensor([0.5, 0.1, 0.9])), torch.tensor([1.0, 0.0, 1.0])),
        (Categorical(logits=torch.randn(3, 5)), torch.tensor([4, 0, 2])),
        (Poisson(torch.tensor([0.5, 1.0, 3.0])), torch.tensor([0.0, 4.0, 2.0])),
    ],
)
def test_a_surprisal_is_a_negative_log_probability(family, value, checked):
    with validation(enabled=checked):
        torch.testing.assert_close(surprisal(family, value), -family.log_prob(value))


def test_the_surprisal_of_a_root_covers_the_batch():
    family = Bernoulli(logits=torch.tensor([0.5, -1.0]))
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    with validation(enabled=False):
        torch.testing.assert_close(surprisal(family, x), -family.log_prob(x))


def test_supports_are_those_of_torch_but_for_intensities():
    assert support(Normal(0.0, 1.0)) is constraints.real
    assert support(Exponential(1.0)) is constraints.nonnegative
    assert support(Bernoulli(0.5)) is constraints.unit_interval
    assert support(Gamma(0.5, 1.0)) is constraints.positive


def test_a_family_may_declare_no_support():
    assert support(torch.distributions.Distribution(validate_args=False)) is None


def test_an_event_is_summed_but_for_the_batch():
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert sum_event(x).tolist() == [66.0, 210.0]
    assert sum_event(x[:, 0]).tolist() == [6.0, 54.0]
    assert sum_event(x[:, 0, 0]).tolist() == [0.0, 12.0]
    assert sum_event(torch.zeros(0, 3)).shape == (0,)


def test_the_switch_of_torch_is_restored_after_an_error():
    before = torch.distributions.Distribution._validate_args
    with pytest.raises(ZeroDivisionError), validation(enabled=not before):
        _ = 1 / (torch.distributions.Distribution._validate_args is before)
    assert torch.distributions.Distribution._validate_args is before


def test_an_mlp_is_linear_at_the_end():
    net = mlp(2, 5, 7, 3, activation=nn.Tanh)
    kinds = [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [type(layer) for layer in net] == kinds
    assert net(torch.zeros(4, 2)).shape == (4, 3)
    assert [type(layer) for layer in mlp(2, 3)] == [nn.Linear]


def test_an_event_of_several_dimensions_may_be_declared_or_not():
    x = torch.randn(4, 2, 3)
    plain = dg.model(x=Normal(torch.zeros(2, 3), 1.0))
    declared = dg.model(x=Independent(Normal(torch.zeros(2, 3), 1.0), 2))
    torch.testing.assert_close(plain.log_prob({"x": x}), declared.log_prob({"x": x}))


@pytest.mark.parametrize("expanded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pathwise_draw_is_that_of_torch_for_the_same_seed(dtype, expanded):
    loc = torch.randn(3, dtype=dtype, requires_grad=True)
    scale = torch.rand(3, dtype=dtype).add(0.5).requires_grad_()
    distribution = Normal(loc, scale)
    if expanded:
        distribution = distribution.expand((5, 3))
    torch.manual_seed(3)
    ours = pathwise_draw(distribution)
    torch.manual_seed(3)
    theirs = distribution.rsample()
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours.square().sum(), (loc, scale)),
        torch.autograd.grad(theirs.square().sum(), (loc, scale)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
