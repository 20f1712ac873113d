"""Small games to train: a VAE, a GAN, one mean."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import daguerre as dg

__all__ = ["Mean", "Played", "gan", "snapshot", "vae"]


class Mean(dg.Model):
    """x ~ N(mean, 1): one parameter."""

    def __init__(self, mean: float = 0.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))

    @dg.rv
    def x(self):
        return Normal(self.mean, 1.0)


class Decoder(dg.Model):
    def __init__(self) -> None:
        super().__init__()
        self.net = dg.nn.mlp(2, 8, 4)

    @dg.rv
    def z(self):
        return dg.StandardNormal(2)

    @dg.rv
    def x(self, z: Tensor):
        return Bernoulli(logits=self.net(z))


class Generator(Decoder):
    @dg.deterministic
    def x(self, z: Tensor):
        return self.net(z).sigmoid()


class Encoder(dg.Model):
    x = dg.Input()

    def __init__(self) -> None:
        super().__init__()
        self.net = dg.nn.mlp(4, 8, 4)

    @dg.rv
    def z(self, x: Tensor):
        mean, log_scale = self.net(x).chunk(2, 1)
        return Normal(mean, log_scale.exp())


class Played(NamedTuple):
    """A game, its modules by role, and data for it."""

    objective: dg.Objective
    modules: dict[str, nn.Module]
    x: Tensor


def vae() -> Played:
    torch.manual_seed(1)
    p, q = Decoder(), Encoder()
    return Played(dg.elbo(p, q), {"p": p, "q": q}, torch.rand(50, 1).round().repeat(1, 4))


def gan() -> Played:
    torch.manual_seed(1)
    p, critic = Generator(), dg.nn.mlp(4, 8, 1)
    return Played(dg.gan(p, critic), {"p": p, "critic": critic}, torch.rand(50, 4))


def snapshot(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]
