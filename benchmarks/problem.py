"""The work that every contestant does: a Bernoulli VAE or a deep Markov model, and its numbers.

The nets of the VAE are those of PyTorch's example: one hidden layer of ReLU units on each side, a
Gaussian q(z | x) with its log-variance as an output, logits for the pixels, Adam. Those of the
deep Markov model are of Pyro's example. Only numpy is needed here, so that contestants of other
frameworks start from the very same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["LAYERS", "PROBLEMS", "Array", "Chain", "Layer", "Problem"]

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
        return {name: _layer(random, *size) for name, size in zip(LAYERS, sizes, strict=True)}


@dataclass(frozen=True)
class Chain:
    """A deep Markov model of polyphonic music, as long and as wide as the JSB chorales.

    Attributes:
        keys: Zeros and ones at a step.
        latent: Size of a state.
        emission: Width of the two hidden layers between a state and its keys.
        transition: Width of the hidden layers of a move.
        units: Recurrent units of ReLU that read a piece backwards.
        steps: Time steps of the longest piece.
        batch_size: Pieces a step.
        lr: Adam's learning rate.
        turn: Steps that are timed together, the same number for every contestant.
    """

    keys: int = 88
    latent: int = 100
    emission: int = 100
    transition: int = 200
    units: int = 600
    steps: int = 129
    batch_size: int = 20
    lr: float = 8e-4
    turn: int = 16

    @property
    def title(self) -> str:
        """The sizes."""
        return f"{self.keys}-{self.latent}-{self.units}, {self.steps} steps"

    @cached_property
    def batches(self) -> list[tuple[Array, Array]]:
        """Pieces `[batch_size, steps, keys]`, float32, and their lengths; each key has a rate."""
        random = np.random.default_rng(0)
        rates = random.uniform(high=8 / self.keys, size=self.keys)
        shape = (self.batch_size, self.steps, self.keys)

        def batch() -> tuple[Array, Array]:
            lengths = random.integers(self.steps // 3, self.steps + 1, self.batch_size)
            lengths[0] = self.steps
            sounds = (random.uniform(size=shape) < rates).astype(np.float32)
            return sounds * (np.arange(self.steps) < lengths[:, None])[..., None], lengths

        return [batch() for _ in range(8)]

    @cached_property
    def weights(self) -> dict[str, Layer]:
        """Weights `[fan_out, fan_in]` and biases; the linear move begins as the identity."""
        random = np.random.default_rng(1)
        z, units = self.latent, self.units
        sizes = {
            "gate.0": (z, self.transition),
            "gate.2": (self.transition, z),
            "proposal.0": (z, self.transition),
            "proposal.2": (self.transition, z),
            "spread": (z, z),
            "emit.0": (z, self.emission),
            "emit.2": (self.emission, self.emission),
            "emit.4": (self.emission, self.keys),
            "recall": (z, units),
            "mean": (units, z),
            "scale": (units, z),
            "read": (self.keys, units),
            "repeat": (units, units),
        }
        found = {name: _layer(random, *size) for name, size in sizes.items()}
        same = np.eye(z, dtype=np.float32), np.zeros(z, np.float32)
        return found | {"linear": same}


def _layer(random: np.random.Generator, fan_in: int, fan_out: int) -> Layer:
    bound = fan_in**-0.5
    weight = random.uniform(-bound, bound, (fan_out, fan_in)).astype(np.float32)
    return weight, random.uniform(-bound, bound, fan_out).astype(np.float32)


PROBLEMS = {
    "small": Problem(64, 64, 8),
    "large": Problem(784, 400, 20, turn=30),
    "dmm": Chain(),
}
