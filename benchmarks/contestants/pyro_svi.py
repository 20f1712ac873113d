"""Pyro: `SVI` as in its VAE tutorial, validation off, with the KL in closed form.

The variant `JitTraceMeanField_ELBO` is no contestant: in Pyro 1.9.2 it traces anew at every step.
"""

from __future__ import annotations

import pyro
import torch
from pyro import distributions as dist
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor

from contestants import Step
from contestants.torch_nets import batches, decoder, encoder
from problem import Problem

__all__ = ["eager"]


def eager(problem: Problem) -> Step:
    """One call of `SVI.step`: model and guide run as Python."""
    pyro.enable_validation(is_validate=False)
    nets = decoder(problem), encoder(problem)
    prior = torch.zeros(problem.batch_size, problem.latent)

    def model(x: Tensor) -> None:
        net = pyro.module("decoder", nets[0])
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(prior, 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=net(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        net = pyro.module("encoder", nets[1])
        with pyro.plate("data", len(x)):
            mean, log_variance = net(x).chunk(2, dim=-1)
            pyro.sample("z", dist.Normal(mean, torch.exp(0.5 * log_variance)).to_event(1))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": problem.lr}), loss=TraceMeanField_ELBO())
    xs = batches(problem)
    return lambda: svi.step(next(xs)) / problem.batch_size
