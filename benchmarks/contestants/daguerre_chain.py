"""Daguerre: the deep Markov model of its gallery, and the training step that `dg.fit` takes."""

from __future__ import annotations

from itertools import cycle, islice

import torch
from torch import Tensor, nn

import daguerre as dg
from contestants import Step
from contestants.chain_nets import batches
from daguerre.gallery.dmm import DeepMarkov, Smoother
from daguerre.train.optimizers import Adam
from daguerre.train.step import Step as TrainingStep
from problem import Chain

__all__ = ["compiled", "eager", "recorded"]


def recorded(chain: Chain) -> Step:
    """The step as it is by default: one slice is traced, and the others run as its code."""
    return _steps(chain, compiled=None)


def eager(chain: Chain) -> Step:
    """Each slice by its CPDs."""
    return _steps(chain, compiled=False)


def compiled(chain: Chain) -> Step:
    """Loss, gradients and update as one compiled graph."""
    return _steps(chain, compiled=True)


def _steps(chain: Chain, *, compiled: bool | None) -> Step:
    p = DeepMarkov(chain.keys, chain.latent, chain.emission, chain.transition)
    q = Smoother(chain.keys, chain.latent, chain.units)
    q.cell = nn.RNNCell(chain.keys, chain.units, nonlinearity="relu")
    for name, layer in (("scale", q.spread), ("recall", q.recall), ("mean", q.mean)):
        _begin(chain, name, layer.weight, layer.bias)
    for name in chain.weights:
        if name.split(".")[0] in ("gate", "proposal", "spread", "emit", "linear"):
            layer = p.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            _begin(chain, name, layer.weight, layer.bias)
    _begin(chain, "read", q.cell.weight_ih, q.cell.bias_ih)
    _begin(chain, "repeat", q.cell.weight_hh, q.cell.bias_hh)
    objective = dg.elbo(p, q, partial=["x"])
    step = TrainingStep(objective, optimizer=Adam(lr=chain.lr), compile=compiled)
    xs = cycle([_ended(*batch) for batch in islice(batches(chain), len(chain.batches))])
    return lambda: step({"x": next(xs)})


def _begin(chain: Chain, name: str, weight: Tensor, bias: Tensor) -> None:
    given, shift = chain.weights[name]
    weight.data.copy_(torch.from_numpy(given))
    bias.data.copy_(torch.from_numpy(shift))


def _ended(x: Tensor, _: Tensor, mask: Tensor) -> Tensor:
    """Return pieces that are missing beyond their end."""
    return x.masked_fill(mask[..., None] == 0, torch.nan)
