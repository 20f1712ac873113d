"""Pixyz: the VAE of its tutorial, `-log p` in expectation plus the KL in closed form."""

from __future__ import annotations

import torch
from pixyz.distributions import Bernoulli, Normal
from pixyz.losses import KullbackLeibler
from pixyz.models import VAE
from torch import Tensor

from contestants import Step
from contestants.torch_nets import batches, decoder, encoder
from problem import Problem

__all__ = ["eager"]


class Inference(Normal):
    """q(z | x)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(var=["z"], cond_var=["x"], name="q")
        self.net = encoder(problem)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self.net(x).chunk(2, dim=-1)
        return {"loc": mean, "scale": torch.exp(0.5 * log_variance)}


class Generator(Bernoulli):
    """p(x | z)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(var=["x"], cond_var=["z"], name="p")
        self.net = decoder(problem)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"probs": torch.sigmoid(self.net(z))}


def eager(problem: Problem) -> Step:
    """One call of `VAE.train`."""
    q, p = Inference(problem), Generator(problem)
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    features = [problem.latent]
    prior = Normal(loc=zero, scale=one, var=["z"], features_shape=features, name="p_{prior}")
    model = VAE(
        q,
        p,
        regularizer=KullbackLeibler(q, prior),
        optimizer=torch.optim.Adam,
        optimizer_params={"lr": problem.lr},
    )
    xs = batches(problem)
    # Pixyz keeps results by the identity of tensors: the same object twice is an error
    return lambda: model.train({"x": next(xs).detach()}).detach()
