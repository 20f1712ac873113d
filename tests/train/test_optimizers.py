"""Optimisers: step by step those of torch, whatever the layout of parameters and gradients."""

import pytest
import torch

import daguerre as dg

PAIRS = {
    "adam": (dg.Adam(lr=0.02), lambda p: torch.optim.Adam(p, lr=0.02)),
    "adam, all options": (
        dg.Adam(lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.2),
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.2),
    ),
    "sgd": (dg.SGD(lr=0.05), lambda p: torch.optim.SGD(p, lr=0.05)),
    "sgd, momentum and decay": (
        dg.SGD(lr=0.05, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    ),
    "rmsprop": (
        dg.RMSprop(lr=0.03, alpha=0.9, eps=1e-6),
        lambda p: torch.optim.RMSprop(p, lr=0.03, alpha=0.9, eps=1e-6),
    ),
}
LAYOUTS = {
    "plain": lambda: torch.randn(3, 4),
    "transposed": lambda: torch.randn(4, 3).t(),
    "strided": lambda: torch.randn(3, 8)[:, ::2],
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "scalar": lambda: torch.randn(()),
    "float64": lambda: torch.randn(3, 4, dtype=torch.float64),
}


def reverse(x):
    return x.permute([*range(x.dim())][::-1])


GRADIENTS = {
    "plain": lambda p: torch.randn_like(p, memory_format=torch.contiguous_format),
    "expanded": lambda p: torch.randn((), dtype=p.dtype).expand_as(p),
    "transposed": lambda p: reverse(torch.randn(p.shape[::-1], dtype=p.dtype)),
    "sliced": lambda p: torch.randn(*p.shape, 2, dtype=p.dtype)[..., 0],
}


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", PAIRS)
def test_five_steps_are_those_of_torch(name, layout, gradient):
    rule, theirs = PAIRS[name]
    ours = [LAYOUTS[layout](), torch.randn(2)]
    copies = [torch.nn.Parameter(p.clone(memory_format=torch.contiguous_format)) for p in ours]
    state, reference = rule.start(ours), theirs(copies)
    for _ in range(5):
        gradients = [GRADIENTS[gradient](p) for p in ours]
        for copy, g in zip(copies, gradients, strict=True):
            copy.grad = g.clone(memory_format=torch.contiguous_format)
        reference.step()
        rule.update(ours, gradients, state, rule.lr)
        for one, copy in zip(ours, copies, strict=True):
            torch.testing.assert_close(one, copy.detach(), rtol=2e-6, atol=2e-7)


def test_a_strided_parameter_leaves_its_neighbours_alone():
    whole = torch.randn(3, 8)
    before, view = whole.clone(), whole[:, ::2]
    rule = dg.Adam(lr=0.1)
    rule.update([view], [torch.ones(3, 4)], rule.start([view]), 0.1)
    assert torch.equal(whole[:, 1::2], before[:, 1::2])
    torch.testing.assert_close(view, before[:, ::2] - 0.1)


@pytest.mark.parametrize("name", PAIRS)
def test_optimisers_are_values_and_keep_no_state(name):
    rule, _ = PAIRS[name]
    assert rule == type(rule)(**vars(rule))
    assert hash(rule) == hash(type(rule)(**vars(rule)))
    one, other = [torch.ones(2)], [torch.ones(2)]
    for parameters in (one, other):
        rule.update(parameters, [torch.ones(2)], rule.start(parameters), rule.lr)
    assert torch.equal(one[0], other[0])
