"""Layers of all sorts, each used in its way, whose gradients do not depend on shares."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

__all__ = ["LAYERS"]


class Used(nn.Module):
    """Layers, and what is computed of rows `[n, 4]` with them."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x).tanh())


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(4, 4), torch.randn(4, 4)])

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.weights
        return (x @ first + second.exp().mean()) @ second.T


def recurrence(x: Tensor, cell: nn.Module) -> Tensor:
    state = torch.zeros_like(x)
    for _ in range(3):
        state = cell(x, state)
    return state


def descent(x: Tensor, energy: nn.Module) -> Tensor:
    """Move rows down a slope: what is learned lies in a gradient."""
    at = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(at).tanh().sum(), at, create_graph=True)
    return at - slope


def slopes(x: Tensor, net: nn.Module) -> Tensor:
    return torch.vmap(torch.func.jacrev(lambda row: net(row).tanh()))(x).flatten(1)


def by_function(x: Tensor, net: nn.Module) -> Tensor:
    return torch.func.functional_call(net, {"bias": torch.ones(4)}, (x,))


def recomputed(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    return checkpoint(lambda y: second(first(y).tanh()), x, use_reentrant=False)


def as_sequence(x: Tensor, net: nn.Module) -> Tensor:
    found = net(torch.stack([x, 2 * x], 1))
    return (found[0] if isinstance(found, tuple) else found).sum(1)


def looked_up(x: Tensor, table: nn.Module) -> Tensor:
    return table(x[:, 0].abs().long())


def line() -> nn.Linear:
    return nn.Linear(4, 4)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "layers": lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 4)),
    "convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2), nn.GroupNorm(2, 4), nn.Flatten()
    ),
    "attention": lambda: Used(
        as_sequence, nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    ),
    "GRU": lambda: Used(as_sequence, nn.GRU(4, 4, batch_first=True)),
    "cell": lambda: Used(recurrence, nn.GRUCell(4, 4)),
    "table": lambda: Used(looked_up, nn.Embedding(9, 4)),
    "spectral norm": lambda: parametrizations.spectral_norm(line()),
    "weight norm": lambda: parametrizations.weight_norm(line()),
    "tied": Tied,
    "used directly": Listed,
    "frozen": lambda: nn.Sequential(line().requires_grad_(requires_grad=False), line()),
    "a slope": lambda: Used(descent, line()),
    "slopes of rows": lambda: Used(slopes, line()),
    "called as a function": lambda: Used(by_function, line()),
    "recomputed": lambda: Used(recomputed, line(), line()),
}
