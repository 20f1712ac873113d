"""What games are made of: small models, critics, and losses from one seed."""

from collections.abc import Callable

import torch
from nets import net, reals, zeros
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Normal
from toys import f64

import daguerre as dg

__all__ = [
    "Critic",
    "Cut",
    "X",
    "back",
    "decoder",
    "generator",
    "gradient",
    "mapping",
    "pixels",
    "same_gradient",
    "seeded",
    "stranger",
    "there",
]

X = reals(4, 3)


class Critic(nn.Module):
    """A net of some variables, joined."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.net = net(sum(widths), 4, 1)

    def forward(self, *values: Tensor) -> Tensor:
        return self.net(torch.cat(values, 1))


class Cut(nn.Module):
    """A critic that calls real, without doubt, what lies beyond a point."""

    def __init__(self, at: float, certainty: float = 1e3) -> None:
        super().__init__()
        self.at, self.certainty = nn.Parameter(f64(at)), certainty

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        return self.certainty * (x - self.at).sum(1)


def generator() -> dg.Model:
    return dg.model(
        z=Normal(zeros(2), 1.0), x=dg.deterministic(lambda z, net: net(z), net=net(2, 3, 3))
    )


def decoder(family: Callable[[Tensor], Distribution] = lambda m: Normal(m, 0.7)) -> dg.Model:
    return dg.model(
        z=Normal(zeros(2), 1.0), x=dg.rv(lambda z, net: family(net(z)), net=net(2, 3, 3))
    )


def pixels() -> dg.Model:
    return decoder(lambda m: Bernoulli(logits=m))


def stranger() -> dg.Model:
    return dg.model(x=dg.Input(3), c=lambda x: Normal(x, 1.0))


def mapping() -> dg.Model:
    return dg.model(x=dg.Input(3), z=dg.deterministic(lambda x, net: net(x), net=net(3, 3, 2)))


def there() -> dg.Model:
    return dg.model(a=dg.Input(2), b=dg.deterministic(lambda a, net: net(a), net=net(2, 3)))


def back() -> dg.Model:
    return dg.model(b=dg.Input(3), a=dg.deterministic(lambda b, net: net(b), net=net(3, 2)))


def seeded(cost: dg.Objective, batch: dict[str, Tensor], player: str) -> Tensor:
    torch.manual_seed(7)
    return cost.losses(batch, players=[player])[player]


def gradient(loss: Tensor, cost: dg.Objective, player: str) -> list[Tensor]:
    own = next(p for p in cost.players if p.name == player).parameters()
    return list(torch.autograd.grad(loss, own))


def same_gradient(one: Tensor, other: Tensor, cost: dg.Objective) -> None:
    """Check that two losses of the model have one gradient."""
    pairs = zip(gradient(one, cost, "model"), gradient(other, cost, "model"), strict=True)
    for ours, expected in pairs:
        torch.testing.assert_close(ours, expected)
