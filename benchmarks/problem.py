"""The work that every contestant does: one Bernoulli VAE, its first weights and its batches.

The nets are those of the VAE example of PyTorch: one hidden layer of ReLU units on each side, a
Gaussian q(z | x) with its log-variance as an output, logits for the pixels, Adam. Only numpy is
needed here, so that contestants of other frameworks start from the very same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["LAYERS", "PROBLEMS", "Array", "Layer", "Problem"]

Array = np.ndarray
Layer = tuple[Array, Array]

LAYERS = ("encoder.hidden", "encoder.out", "decoder.hidden", "decoder.out")


@dataclass(frozen=True)
class Problem:
    """A VAE of given sizes, and what its training starts from.

    Attributes:
        pixels: Size of an observation, zeros and ones.
        hidden: Width of the one hidden layer of encoder and decoder.
        latent: Size of z.
        batch_size: Observations a step.
        lr: Adam's learning rate.
        turn: Steps that are timed together, the same number for every contestant.
    """

    pixels: int
    hidden: int
    latent: int
    batch_size: int = 128
    lr: float = 1e-3
    turn: int = 400

    @property
    def title(self) -> str:
        return f"{self.pixels}-{self.hidden}-{self.latent}"

    @cached_property
    def batches(self) -> Array:
        """Binary observations `[64, batch_size, pixels]`, float32; each pixel has its own rate.

        A single batch would be learnt by heart: Adam's moments then decay into denormal numbers,
        which slow the later steps down.
        """
        random = np.random.default_rng(0)
        rates = random.uniform(size=self.pixels)
        shape = (64, self.batch_size, self.pixels)
        return (random.uniform(size=shape) < rates).astype(np.float32)

    @cached_property
    def weights(self) -> dict[str, Layer]:
        """Weights `[fan_out, fan_in]` and biases, uniform within one over the root of fan_in."""
        random = np.random.default_rng(1)
        sizes = (
            (self.pixels, self.hidden),
            (self.hidden, 2 * self.latent),
            (self.latent, self.hidden),
            (self.hidden, self.pixels),
        )

        def layer(fan_in: int, fan_out: int) -> Layer:
            bound = fan_in**-0.5
            weight = random.uniform(-bound, bound, (fan_out, fan_in)).astype(np.float32)
            return weight, random.uniform(-bound, bound, fan_out).astype(np.float32)

        return {name: layer(*size) for name, size in zip(LAYERS, sizes, strict=True)}


PROBLEMS = {"small": Problem(64, 64, 8), "large": Problem(784, 400, 20, turn=30)}
