"""Small networks and critics, so that examples need no boilerplate."""

from __future__ import annotations

from itertools import pairwise
from typing import final

from torch import Tensor, nn

__all__ = ["Projection", "mlp"]


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Build a multilayer perceptron `[n, sizes[0]] -> [n, sizes[-1]]`, linear at the end.

    Args:
        sizes: Widths of input, hidden layers and output; two at least.
        activation: The module class between the layers.

    Raises:
        ValueError: Fewer than two sizes.

    Example:
        >>> import torch
        >>> mlp(8, 128, 64)(torch.zeros(5, 8)).shape
        torch.Size([5, 64])
    """
    if len(sizes) < 2:
        raise ValueError(f"an mlp needs at least an input and an output size, not {sizes}")
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


@final
class Projection(nn.Module):
    r"""A conditional critic whose logit is linear in an embedding of the condition.

    $$s(x, y) = \psi(\phi(x)) + \langle \mathrm{embed}(y), \phi(x) \rangle$$

    This is the form of the log-ratio where the classes are log-linear in the features.

    Args:
        features: $\phi$, from x to `[n, width]`.
        embed: From the condition y to `[n, width]`: `torch.nn.Embedding(classes, width)` for
            labels, `torch.nn.Linear(classes, width, bias=False)` for one-hot vectors.
        width: The number of features.

    References:
        Miyato and Koyama (2018, arXiv 1802.05637).

    Example:
        >>> import torch
        >>> critic = Projection(mlp(4, 16, 8), nn.Embedding(10, 8), width=8)
        >>> critic(torch.zeros(5, 4), torch.arange(5)).shape
        torch.Size([5])
    """

    def __init__(self, features: nn.Module, embed: nn.Module, *, width: int) -> None:
        super().__init__()
        self.features, self.embed, self.head = features, embed, nn.Linear(width, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return one logit per row, `[n]`."""
        phi = self.features(x)
        return self.head(phi).squeeze(1) + (self.embed(y) * phi).sum(1)
