"""The yardstick: what someone who knows PyTorch well writes by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from contestants import Step
from contestants.torch_nets import batches, decoder, encoder
from problem import Problem

__all__ = ["VAE", "compiled", "eager", "fit"]


class VAE(nn.Module):
    """Both nets; called with a batch, it returns -ELBO with the KL in closed form."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder(problem), decoder(problem)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.decoder(z)
        rebuild = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (rebuild + kl) / len(x)


def eager(problem: Problem) -> Step:
    """Plain eager PyTorch with fused Adam."""
    return _steps(problem, compiled=False)


def compiled(problem: Problem) -> Step:
    """The loss compiled, fused Adam outside: the fastest of the usual ways to compile a step."""
    return _steps(problem, compiled=True)


def fit(problem: Problem, data: Tensor, *, steps: int, compiled: bool) -> None:
    """Train for some steps, less than an epoch, on shuffled batches of the data."""
    step = _step(problem, compiled=compiled)
    order = torch.randperm(len(data))
    for rows in order.split(problem.batch_size)[:steps]:
        step(data[rows])


def _steps(problem: Problem, *, compiled: bool) -> Step:
    xs, step = batches(problem), _step(problem, compiled=compiled)
    return lambda: step(next(xs))


def _step(problem: Problem, *, compiled: bool) -> Callable[[Tensor], Tensor]:
    model = VAE(problem)
    optimizer = torch.optim.Adam(model.parameters(), lr=problem.lr, fused=True)
    loss_of = torch.compile(model) if compiled else model

    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(x)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
