"""Tiny trainable pairs p, q in float64, one per way in which an ELBO can be computed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Gamma, Laplace, LogNormal, Normal

import daguerre as dg

__all__ = ["MODELS"]

Built = tuple[dg.Model, dg.Model, dict[str, Tensor]]
MODELS: dict[str, Callable[[], Built]] = {}


def entry(name: str) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    def register(build: Callable[[], Built]) -> Callable[[], Built]:
        MODELS[name] = build
        return build

    return register


def net(*sizes: int) -> nn.Module:
    return dg.nn.mlp(*sizes, activation=nn.Tanh).double()


def reals(n: int, *event: int) -> Tensor:
    return torch.randn(n, *event, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def zeros(*event: int) -> Tensor:
    return torch.zeros(*event, dtype=torch.float64)


def encoder(width: int, latent: int) -> dg.Model:
    def z(x: Tensor, net: nn.Module) -> Normal:
        mean, log_scale = net(x).chunk(2, 1)
        return Normal(mean, log_scale.exp())

    return dg.model(x=dg.Input(), z=dg.rv(z, net=net(width, 2 * latent)))


@entry("gaussian")
def gaussian() -> Built:
    """Closed KL, Gaussian likelihood."""
    p = dg.model(
        z=Normal(zeros(2), 1.0), x=dg.rv(lambda z, net: Normal(net(z), 0.7), net=net(2, 3, 3))
    )
    return p, encoder(3, 2), {"x": reals(4, 3)}


@entry("bernoulli")
def bernoulli() -> Built:
    """Grey intensities under a Bernoulli."""
    p = dg.model(
        z=Normal(zeros(2), 1.0), x=dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=net(2, 3))
    )
    return p, encoder(3, 2), {"x": reals(4, 3).sigmoid()}


@entry("no closed form")
def laplace() -> Built:
    """Laplace prior against a Normal: every term is averaged."""
    p = dg.model(
        z=Laplace(zeros(2), 1.0), x=dg.rv(lambda z, net: Normal(net(z), 0.7), net=net(2, 3))
    )
    return p, encoder(3, 2), {"x": reals(4, 3)}


@entry("log-normal against gamma")
def lognormal() -> Built:
    """Two families of positive numbers without a closed KL."""

    def z(x: Tensor, net: nn.Module) -> LogNormal:
        mean, log_scale = net(x).chunk(2, 1)
        return LogNormal(mean, log_scale.exp())

    p = dg.model(
        z=Gamma(2 + zeros(1), 1 + zeros(1)),
        x=dg.rv(lambda z, net: Normal(net(z), 0.7), net=net(1, 3)),
    )
    return p, dg.model(x=dg.Input(), z=dg.rv(z, net=net(3, 2))), {"x": reals(4, 3)}


@entry("learned prior, reverse order, maps")
def reverse() -> Built:
    """Two layers of latents that q draws the other way round, with maps in both."""
    p = dg.model(
        c=dg.Input(1),
        z1=dg.rv(lambda c, net: Normal(net(c), 1.0), net=net(1, 1)),
        h=dg.deterministic(lambda z1, net: net(z1).tanh(), net=net(1, 2)),
        z2=dg.rv(lambda h, net: Normal(net(h), 0.8), net=net(2, 1)),
        x=dg.rv(lambda z2, net: Normal(net(z2), 0.7), net=net(1, 2)),
    )
    q = dg.model(
        x=dg.Input(2),
        f=dg.deterministic(lambda x, net: net(x).tanh(), net=net(2, 2)),
        z2=dg.rv(lambda f, net: Normal(net(f), 0.5), net=net(2, 1)),
        z1=dg.rv(lambda z2, f, net: Normal(net(torch.cat([z2, f], 1)), 0.6), net=net(3, 1)),
    )
    return p, q, {"x": reals(4, 2), "c": reals(4, 1)}
