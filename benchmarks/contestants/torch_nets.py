"""What the contestants on PyTorch share: the nets with their first weights, and the batches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import cycle

import torch
from torch import Tensor, nn

from problem import Layer, Problem

__all__ = ["batches", "decoder", "encoder"]

torch.set_num_threads(1)
torch.manual_seed(0)


def encoder(problem: Problem) -> nn.Sequential:
    """Build the net from x to the mean and log-variance of z, `[n, 2 * latent]`."""
    return _net(problem, "encoder")


def decoder(problem: Problem) -> nn.Sequential:
    """Build the net from z to the logits of x, `[n, pixels]`."""
    return _net(problem, "decoder")


def batches(problem: Problem) -> Iterator[Tensor]:
    """Return the batches as tensors, over and over."""
    return cycle(torch.from_numpy(problem.batches).unbind())


def _net(problem: Problem, side: str) -> nn.Sequential:
    hidden = _linear(problem.weights[f"{side}.hidden"])
    out = _linear(problem.weights[f"{side}.out"])
    return nn.Sequential(OrderedDict(hidden=hidden, relu=nn.ReLU(), out=out))


def _linear(layer: Layer) -> nn.Linear:
    weight, bias = layer
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return linear
