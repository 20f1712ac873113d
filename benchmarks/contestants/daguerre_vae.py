"""Daguerre: a decoder, an encoder, `dg.elbo`, and the training step that `dg.fit` takes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from contestants import Step
from contestants.torch_nets import batches, decoder, encoder
from daguerre.train.optimizers import Adam
from daguerre.train.step import Step as TrainingStep
from problem import Problem

__all__ = ["Decoder", "Encoder", "compiled", "eager", "fit"]


class Decoder(dg.Model):
    """p(z) p(x | z), for binary pixels."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.latent, self.net = problem.latent, decoder(problem)

    @dg.rv
    def z(self) -> Normal:
        return dg.StandardNormal(self.latent)

    @dg.rv
    def x(self, z: Tensor) -> Bernoulli:
        return Bernoulli(logits=self.net(z))


class Encoder(dg.Model):
    """q(z | x)."""

    x = dg.Input()

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.net = encoder(problem)

    @dg.rv
    def z(self, x: Tensor) -> Normal:
        mean, log_variance = self.net(x).chunk(2, dim=-1)
        return Normal(mean, torch.exp(0.5 * log_variance))


def eager(problem: Problem) -> Step:
    """The step as it runs without a compiler."""
    return _steps(problem, compiled=False)


def compiled(problem: Problem) -> Step:
    """Loss, gradients and update as one compiled graph, which is the default."""
    return _steps(problem, compiled=True)


def fit(problem: Problem, data: Tensor, *, steps: int, compiled: bool) -> None:
    """Train for some steps on shuffled batches of the data."""
    dg.fit(
        dg.elbo(Decoder(problem), Encoder(problem)),
        data,
        steps=steps,
        batch_size=problem.batch_size,
        lr=problem.lr,
        compile=compiled,
        progress=False,
    )


def _steps(problem: Problem, *, compiled: bool) -> Step:
    objective = dg.elbo(Decoder(problem), Encoder(problem))
    step = TrainingStep(objective, optimizer=Adam(lr=problem.lr), compile=compiled)
    xs = batches(problem)
    return lambda: step.again(next(xs))  # as `dg.fit` does
