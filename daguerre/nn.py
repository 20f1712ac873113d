"""Small networks, so that examples need no boilerplate."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

__all__ = ["mlp"]


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
