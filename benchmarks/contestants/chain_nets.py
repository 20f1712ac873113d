"""What the contestants of torch share: the nets of a deep Markov model, from the given weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from problem import Array, Chain

__all__ = ["Nets", "backwards", "batches"]

torch.set_num_threads(1)
torch.manual_seed(0)


def layer(chain: Chain, name: str) -> nn.Linear:
    """Return a linear layer with the weights that it starts from."""
    weight, bias = chain.weights[name]
    made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight.data.copy_(torch.from_numpy(weight))
    made.bias.data.copy_(torch.from_numpy(bias))
    return made


def _mlp(chain: Chain, *names: str) -> nn.Sequential:
    layers = [part for name in names for part in (layer(chain, name), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class Emitter(nn.Sequential):
    """From a state to the logits of its keys."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(*_mlp(chain, "emit.0", "emit.2", "emit.4"))


class Transition(nn.Module):
    """From a state to mean and scale of the next one."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.gate = _mlp(chain, "gate.0", "gate.2")
        self.proposal = _mlp(chain, "proposal.0", "proposal.2")
        self.linear, self.spread = layer(chain, "linear"), layer(chain, "spread")

    def forward(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale."""
        gate, proposed = torch.sigmoid(self.gate(last)), self.proposal(last)
        mean = (1 - gate) * self.linear(last) + gate * proposed
        return mean, softplus(self.spread(proposed.relu()))


class Combiner(nn.Module):
    """From the state before and what is read to mean and scale of a state."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.recall = layer(chain, "recall")
        self.mean, self.scale = layer(chain, "mean"), layer(chain, "scale")

    def forward(self, last: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale."""
        both = 0.5 * (torch.tanh(self.recall(last)) + read)
        return self.mean(both), softplus(self.scale(both))


def reader(chain: Chain) -> nn.RNN:
    """Return the net that reads pieces backwards."""
    net = nn.RNN(chain.keys, chain.units, nonlinearity="relu", batch_first=True)
    for name, kind in (("read", "ih"), ("repeat", "hh")):
        weight, bias = chain.weights[name]
        getattr(net, f"weight_{kind}_l0").data.copy_(torch.from_numpy(weight))
        getattr(net, f"bias_{kind}_l0").data.copy_(torch.from_numpy(bias))
    return net


class Nets(nn.Module):
    """The nets of model and posterior, and where their recursions start."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.emitter, self.transition = Emitter(chain), Transition(chain)
        self.combiner, self.reader = Combiner(chain), reader(chain)
        self.end = nn.Parameter(torch.zeros(1, 1, chain.units))
        self.first, self.guided = (nn.Parameter(torch.zeros(chain.latent)) for _ in range(2))

    def read(self, turned: Tensor, mask: Tensor) -> Tensor:
        """Return what the reader has heard from the end on, at each step `[n, T, units]`."""
        heard, _ = self.reader(turned, self.end.expand(-1, len(turned), -1).contiguous())
        return backwards(heard, mask.sum(1).long())


def batches(chain: Chain) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield pieces `[n, T, keys]`, the same backwards, and which steps there are `[n, T]`."""

    def read(x: Array, lengths: Array) -> tuple[Tensor, Tensor, Tensor]:
        mask = torch.arange(chain.steps) < torch.from_numpy(lengths)[:, None]
        pieces = torch.from_numpy(x)
        return pieces, backwards(pieces, torch.from_numpy(lengths)), mask.float()

    return cycle([read(*batch) for batch in chain.batches])


def backwards(x: Tensor, lengths: Tensor) -> Tensor:
    """Turn each piece `[n, T, ...]` around within its own length."""
    turned = [torch.cat((one[:m].flip(0), one[m:])) for one, m in zip(x, lengths, strict=True)]
    return torch.stack(turned)
