"""One graph, two costs: a VAE and a GAN that share everything but p(x | z) and the cost.

`Decoder` and `Generator` are the same directed graph z -> x around the same network. The decoder
returns a density, so its cost can be an ELBO and needs an encoder; the generator returns a point,
so its cost is a divergence from samples and needs a critic. Neither encoder nor critic is in the
graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.game import Game

__all__ = ["Critic", "Decoder", "Encoder", "Generator", "gan", "vae"]


class Decoder(dg.Model):
    """A prescribed model: z ~ N(0, I), x | z ~ N(net(z), s^2) with a learned noise s."""

    def __init__(self, pixels: int = 64, latent: int = 16, hidden: int = 128) -> None:
        super().__init__()
        self.latent = latent
        self.net = nn.Sequential(
            *(nn.Linear(latent, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
            *(nn.Linear(hidden, pixels), nn.Sigmoid()),
        )
        self.log_noise = nn.Parameter(torch.tensor(-1.0))

    @dg.rv
    def z(self):
        return dg.StandardNormal(self.latent)

    @dg.rv
    def x(self, z: Tensor):
        return Normal(self.net(z), self.log_noise.exp())


class Generator(Decoder):
    """The same graph with one CPD swapped for a Dirac: x = net(z), an implicit model."""

    @dg.deterministic
    def x(self, z: Tensor):
        return self.net(z)


class Encoder(dg.Model):
    """The inference model of the VAE: q(z | x), a graph of its own."""

    x = dg.Input()

    def __init__(self, pixels: int = 64, latent: int = 16, hidden: int = 128) -> None:
        super().__init__()
        self.net = dg.nn.mlp(pixels, hidden, hidden, 2 * latent)

    @dg.rv
    def z(self, x: Tensor):
        mean, log_scale = self.net(x).chunk(2, 1)
        return Normal(mean, log_scale.exp())


class Critic(nn.Module):
    """The critic of the GAN: no model, only part of the cost.

    It sees its data through noise while it learns, so that real and generated pictures overlap
    (Arjovsky and Bottou 2017, arXiv 1701.04862).
    """

    def __init__(self, pixels: int = 64, hidden: int = 128, noise: float = 0.1) -> None:
        super().__init__()
        self.noise = noise
        self.net = nn.Sequential(
            *(nn.Linear(pixels, hidden), nn.LeakyReLU(0.2)),
            *(nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)),
            nn.Linear(hidden, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[n, 1]`, high where x looks real."""
        return self.net(x + self.noise * torch.randn_like(x) if self.training else x)


def vae(pixels: int = 64) -> Game:
    """Build the VAE for vectors of pixels in [0, 1]."""
    p, q = Decoder(pixels), Encoder(pixels)
    return Game({"p": p, "q": q}, dg.elbo(p, q), {"epochs": 150})


def gan(pixels: int = 64) -> Game:
    """Build the GAN for vectors of pixels in [0, 1]."""
    p, critic = Generator(pixels), Critic(pixels)
    options = {"epochs": 500, "batch_size": 64, "optimizer": dg.Adam(2e-4, betas=(0.5, 0.999))}
    return Game({"p": p, "critic": critic}, dg.gan(p, critic), options)
