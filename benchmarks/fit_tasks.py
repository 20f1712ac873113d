"""What is fitted in `train.py`: each task as Daguerre has it, and as it is written by hand.

By hand means what people write who know PyTorch well: each player's loss is a compiled function,
`backward`, a fused optimiser. Both begin with the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

import daguerre as dg

__all__ = ["TASKS", "Hand", "Task"]

_SMALL, _LARGE, _PICTURE = (64,), (784,), (1, 28, 28)
Hand = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Task:
    """A fit.

    Attributes:
        title: What it is called.
        shape: Of an observation, zeros and ones.
        rows: Of a batch.
        turn: Steps that are timed together.
        game: Makes the objective of nets.
        nets: Makes the nets.
        by_hand: Makes the losses of the players from the nets, critics first.
        players: The nets that each player moves.
        rule: How.
    """

    title: str
    shape: tuple[int, ...]
    rows: int
    turn: int
    nets: Callable[[], Mapping[str, nn.Module]]
    game: Callable[..., dg.Objective]
    by_hand: Callable[..., Mapping[str, Callable[[Tensor], Tensor]]]
    players: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"model": ("decoder", "encoder")}
    )
    rule: dg.Adam = dg.Adam(1e-3)  # noqa: RUF009 - frozen

    def hand(self, device: str, precision: torch.dtype | None) -> Hand:
        """Return a step of all players, written by hand."""
        nets = made(self, device)
        losses = self.by_hand(**nets)
        moves = [
            (name, _move(losses[name], [nets[n] for n in own], self.rule, device, precision))
            for name, own in self.players.items()
        ]
        return lambda x: {name: move(x) for name, move in moves}


def made(task: Task, device: str) -> dict[str, nn.Module]:
    """Make the nets of a task, always with the same weights."""
    torch.manual_seed(0)
    return {name: net.to(device).train() for name, net in task.nets().items()}


def _move(
    loss: Callable[[Tensor], Tensor],
    nets: list[nn.Module],
    rule: dg.Adam,
    device: str,
    precision: torch.dtype | None,
) -> Callable[[Tensor], Tensor]:
    parameters = [p for net in nets for p in net.parameters()]
    optimizer = torch.optim.Adam(
        parameters, lr=rule.lr, betas=rule.betas, eps=rule.eps, fused=True
    )
    compiled = torch.compile(loss, dynamic=False)

    def move(x: Tensor) -> Tensor:
        with torch.autocast(device, precision, enabled=precision is not None):
            value = compiled(x)
        optimizer.zero_grad()
        value.backward(inputs=parameters)
        optimizer.step()
        return value.detach()

    return move


def _gaussian(x: Tensor, net: nn.Module) -> Normal:
    mean, log_variance = net(x).chunk(2, dim=-1)
    return Normal(mean, torch.exp(0.5 * log_variance))


def _autoencoder(decoder: nn.Module, encoder: nn.Module, latent: int, shape: tuple[int, ...]):
    p = dg.model(
        z=dg.StandardNormal(latent), x=dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=decoder)
    )
    q = dg.model(x=dg.Input(*shape), z=dg.rv(_gaussian, net=encoder))
    return p, q


def _vae(latent: int, shape: tuple[int, ...]) -> Callable[..., dg.Objective]:
    return lambda decoder, encoder: dg.elbo(*_autoencoder(decoder, encoder, latent, shape))


def _vae_by_hand(decoder: nn.Module, encoder: nn.Module):
    def loss(x: Tensor) -> Tensor:
        mean, log_variance = encoder(x).float().chunk(2, dim=-1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        rebuilt = binary_cross_entropy_with_logits(decoder(z).float(), x, reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (rebuilt + kl) / len(x)

    return {"model": loss}


def _iwae(decoder: nn.Module, encoder: nn.Module) -> dg.Objective:
    return dg.iwae(*_autoencoder(decoder, encoder, 50, _LARGE), particles=50)


def _iwae_by_hand(decoder: nn.Module, encoder: nn.Module, particles: int = 50):
    def loss(x: Tensor) -> Tensor:
        mean, log_variance = encoder(x).float().chunk(2, dim=-1)
        noise = torch.randn(particles, *mean.shape, device=mean.device)
        z = mean + torch.exp(0.5 * log_variance) * noise
        logits = decoder(z).float()
        rebuilt = binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
        latents = 0.5 * (noise.square() + log_variance - z.square())
        bound = (latents.sum(-1) - rebuilt.sum(-1)).logsumexp(0) - math.log(particles)
        return -bound.mean()

    return {"model": loss}


def _generated(decoder: nn.Module, latent: int):
    x = dg.deterministic(lambda z, net: net(z), net=decoder)
    return dg.model(z=dg.StandardNormal(latent), x=x)


def _wgan(decoder: nn.Module, critic: nn.Module, latent: int = 50) -> dg.Objective:
    p = _generated(decoder, latent)["x"]
    return dg.Wasserstein(dg.data("x"), p, critic=critic, penalty=dg.penalties.gradient(10.0))


def _wgan_by_hand(decoder: nn.Module, critic: nn.Module, latent: int = 50):
    def of_critic(x: Tensor) -> Tensor:
        with torch.no_grad():
            fake = decoder(torch.randn(len(x), latent, device=x.device))
        between = fake + torch.rand(len(x), 1, device=x.device) * (x - fake)
        slopes = torch.func.grad(lambda at: critic(at).sum())(between)
        penalty = (slopes.norm(2, dim=1) - 1).square().mean()
        return critic(fake).mean() - critic(x).mean() + 10 * penalty

    def of_model(x: Tensor) -> Tensor:
        return -critic(decoder(torch.randn(len(x), latent, device=x.device))).mean()

    return {"critic": of_critic, "model": of_model}


def _gan_by_hand(decoder: nn.Module, critic: nn.Module, latent: int = 64):
    def of_critic(x: Tensor) -> Tensor:
        with torch.no_grad():
            fake = decoder(torch.randn(len(x), latent, device=x.device))
        return softplus(-critic(x).float()).mean() + softplus(critic(fake).float()).mean()

    def of_model(x: Tensor) -> Tensor:
        fake = decoder(torch.randn(len(x), latent, device=x.device))
        return softplus(-critic(fake).float()).mean()

    return {"critic": of_critic, "model": of_model}


def _mlps(*sizes: int, latent: int, activation: type[nn.Module] = nn.ReLU):
    pixels, *hidden = sizes

    def nets() -> dict[str, nn.Module]:
        return {
            "decoder": dg.nn.mlp(latent, *hidden, pixels, activation=activation),
            "encoder": dg.nn.mlp(pixels, *hidden, 2 * latent, activation=activation),
        }

    return nets


def _wgan_nets() -> dict[str, nn.Module]:
    return {"decoder": dg.nn.mlp(50, 128, 128, 128, 64), "critic": dg.nn.mlp(64, 128, 128, 128, 1)}


def _down(*channels: int, norm: bool, out: int) -> nn.Sequential:
    """Halve pictures of 28 x 28 twice, and give so many numbers."""
    layers: list[nn.Module] = []
    for i, (one, other) in enumerate(pairwise((1, *channels))):
        layers += [nn.Conv2d(one, other, 4, stride=2, padding=1)]
        layers += [nn.BatchNorm2d(other)] * (norm and i > 0) + [nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * 49, out))


def _up(latent: int, *channels: int, norm: bool, squash: bool) -> nn.Sequential:
    """Make pictures of 28 x 28 of codes."""
    first = channels[0]
    layers: list[nn.Module] = [nn.Linear(latent, first * 49), nn.Unflatten(1, (first, 7, 7))]
    for one, other in pairwise((*channels, 1)):
        layers += [nn.BatchNorm2d(one)] * norm + [nn.ReLU()]
        layers += [nn.ConvTranspose2d(one, other, 4, stride=2, padding=1)]
    return nn.Sequential(*layers, *[nn.Sigmoid()] * squash)


def _conv_vae_nets() -> dict[str, nn.Module]:
    return {
        "decoder": _up(16, 64, 32, norm=False, squash=False),
        "encoder": _down(32, 64, norm=False, out=32),
    }


def _dcgan_nets() -> dict[str, nn.Module]:
    return {
        "decoder": _up(64, 64, 32, norm=True, squash=True),
        "critic": _down(32, 64, norm=True, out=1),
    }


_GAME = {"critic": ("critic",), "model": ("decoder",)}
TASKS = {
    "vae-small": Task(
        "VAE 64-64-8", _SMALL, 128, 400, _mlps(64, 64, latent=8), _vae(8, _SMALL), _vae_by_hand
    ),
    "vae-large": Task(
        "VAE 784-400-20",
        _LARGE,
        128,
        40,
        _mlps(784, 400, latent=20),
        _vae(20, _LARGE),
        _vae_by_hand,
    ),
    "iwae": Task(
        "IWAE-50 784-200-200-50",
        _LARGE,
        20,
        5,
        _mlps(784, 200, 200, latent=50, activation=nn.Tanh),
        _iwae,
        _iwae_by_hand,
    ),
    "wgan-gp": Task(
        "WGAN-GP 64", _SMALL, 64, 100, _wgan_nets, _wgan, _wgan_by_hand, _GAME,
        dg.Adam(1e-4, betas=(0.0, 0.9)),
    ),
    "conv-vae": Task(
        "VAE of convolutions, 28 x 28", _PICTURE, 64, 8, _conv_vae_nets, _vae(16, _PICTURE),
        _vae_by_hand,
    ),
    "dcgan": Task(
        "DCGAN, 28 x 28", _PICTURE, 64, 6, _dcgan_nets,
        lambda decoder, critic: dg.gan(_generated(decoder, 64), critic), _gan_by_hand, _GAME,
        dg.Adam(2e-4, betas=(0.5, 0.999)),
    ),
}  # fmt: skip
