r"""Batch normalisation over the rows of all processes, not over each share by itself.

$$\mu = \frac{\sum_r n_r \mu_r}{\sum_r n_r}, \qquad
  \sigma^2 = \frac{\sum_r n_r \left(\sigma_r^2 + (\mu_r - \mu)^2\right)}{\sum_r n_r}$$

from the counts, means and variances of the shares, with gradients through all of them. Torch's
own `SyncBatchNorm` is for GPUs alone.

References:
    Ioffe and Szegedy (2015, arXiv 1502.03167); Chan, Golub and LeVeque (1983), The American
    Statistician 37, for joining variances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from daguerre.peers import Peers

__all__ = ["normalised_over"]


@contextmanager
def normalised_over(modules: Iterable[nn.Module], peers: Peers) -> Iterator[None]:
    """Let layers of batch normalisation in training see the rows of all processes for a while."""
    found = dict.fromkeys(layer for module in modules for layer in module.modules())
    layers = [layer for layer in found if isinstance(layer, _BatchNorm)]
    before = {layer: vars(layer).pop("forward", None) for layer in layers}
    for layer in layers if peers.world > 1 else ():
        layer.forward = partial(_forward, layer, peers)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer, own in before.items():
            vars(layer).pop("forward", None)
            if own is not None:
                layer.forward = own


def _forward(layer: _BatchNorm, peers: Peers, x: Tensor) -> Tensor:
    """Normalise `[n, C, ...]`."""
    if not layer.training:
        return type(layer).forward(layer, x)
    layer._check_input_dim(x)
    count, mean, variance = _moments(x.float() if x.dtype.itemsize < 4 else x, peers)
    if layer.track_running_stats:
        _follow(layer, mean, variance * count / (count - 1))
    shape = [1, -1] + [1] * (x.dim() - 2)
    found = (x - mean.view(shape)) * (variance + layer.eps).rsqrt().view(shape)
    if layer.affine:
        found = found * layer.weight.view(shape) + layer.bias.view(shape)
    return found.to(x.dtype)


def _moments(x: Tensor, peers: Peers) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many numbers a channel has, their mean and variance `[C]`, in one message."""
    dims = [d for d in range(x.dim()) if d != 1]
    variance, mean = torch.var_mean(x, dims, correction=0)
    own = torch.full_like(mean, x.numel() // x.shape[1])
    counts, means, variances = peers.rows(torch.stack([own, mean, variance])[None]).unbind(1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    return count, mean, (counts * (variances + (means - mean).square())).sum(0) / count


@torch.no_grad()
def _follow(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics, as torch does."""
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    if layer.momentum is None:
        rate = 1 / layer.num_batches_tracked.to(mean.dtype)
    else:
        rate = layer.momentum
    for running, new in ((layer.running_mean, mean), (layer.running_var, variance)):
        assert running is not None
        running.add_(rate * (new.to(running.dtype) - running))
