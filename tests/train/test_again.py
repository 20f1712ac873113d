"""Compiled steps that are run again without a look at what they were compiled for."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal

import daguerre as dg


class Scaled(dg.Model):
    """x ~ N(net, scale), where the scale is a number that may change."""

    def __init__(self):
        super().__init__()
        self.mean, self.scale = nn.Parameter(torch.zeros(2)), 1.0

    @dg.rv
    def x(self):
        return Normal(self.mean, self.scale)


def batches(count, rows=8):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, 2, generator=generator) for _ in range(count)]


def test_again_does_what_a_call_does():
    steps = [dg.train.Step(dg.nll(Scaled()), compile=True) for _ in range(2)]
    for x in [*batches(4), *batches(3, rows=5), *batches(2)]:
        assert torch.equal(steps[0](x), steps[1].again(x))
    assert torch.equal(steps[0].parameters[0], steps[1].parameters[0])
    assert len(steps[1]._replays) == 2


def test_a_call_sees_what_has_changed_and_so_does_again_after_it():
    p = Scaled()
    step = dg.train.Step(dg.nll(p), compile=True)
    first, *rest = batches(4)
    step.again(first)
    p.scale = 2.0
    for x in rest:
        expected = -p.log_prob({"x": x}).mean()
        loss = step(x) if x is rest[0] else step.again(x)
        torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_what_a_callback_changes_counts_from_the_next_step_on(compiled):
    p = Scaled()

    def change(now):
        p.scale = 3.0

    history = dg.fit(
        dg.nll(p),
        torch.zeros(4, 2),
        steps=8,
        lr=1e-9,
        compile=compiled,
        callbacks=[dg.train.every(5, change)],
    )
    gain = history["model"][5:] - history["model"][:3]
    torch.testing.assert_close(gain, torch.full([3], 2 * torch.tensor(3.0).log().item()))


class Counting(nn.Module):
    """A net that replaces one of its tensors at each call."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.zeros(2)), torch.zeros(())

    def forward(self, z):
        self.calls = self.calls + 1
        return z + self.weight * self.calls


def test_a_step_that_replaces_tensors_is_always_run_with_a_look():
    net = Counting()
    p = dg.model(z=dg.StandardNormal(2), x=dg.rv(lambda z, net: Normal(net(z), 1.0), net=net))
    step = dg.train.Step(dg.nll(p), compile=True)
    before = net.calls.item()
    for x in batches(4):
        step.again({"x": x, "z": x})
    assert net.calls.item() - before == 4
    assert not step._replays


def test_one_tensor_under_two_names_is_run_with_a_look():
    p = dg.model(a=dg.rv(lambda net: Normal(net.bias, 1.0), net=nn.Linear(2, 2)),
                 b=dg.rv(lambda a: Normal(a, 1.0)))  # fmt: skip
    step = dg.train.Step(dg.nll(p), compile=True)
    x, y = batches(2)
    for values in ({"a": x, "b": x}, {"a": x, "b": y}):
        expected = -p.log_prob(values).mean()
        torch.testing.assert_close(step.again(values), expected)
