"""All random numbers of a fit: seeded for a while, and given back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Chance", "seeded"]


@dataclass(frozen=True)
class Chance:
    """Python's, numpy's and torch's generators.

    Attributes:
        devices: Devices other than the CPU whose generators belong to it.
    """

    devices: Sequence[torch.device] = ()

    @classmethod
    def on(cls, device: torch.device | None) -> Chance:
        """Return the generators of what runs on a device."""
        return cls([device] if device is not None and device.type == "cuda" else [])

    def seed(self, seed: int) -> None:
        """Start them all from one number."""
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)

    def state(self) -> dict[str, Tensor]:
        """Return where they are, as tensors."""
        _, words, gauss = random.getstate()
        numpy = np.random.get_state(legacy=False)
        assert isinstance(numpy, dict)
        key = numpy["state"]["key"]
        found = {
            "python": torch.from_numpy(np.array(words, dtype=np.int64)),
            "python gauss": _optional(gauss),
            "numpy": torch.from_numpy(np.append(key.astype(np.int64), numpy["state"]["pos"])),
            "numpy gauss": _optional(numpy["gauss"] if numpy["has_gauss"] else None),
            "torch": torch.get_rng_state(),
        }
        for i, device in enumerate(self.devices):
            found[f"device {i}"] = torch.cuda.get_rng_state(device)
        return found

    def set(self, state: Mapping[str, Tensor]) -> None:
        """Go back to where they were."""
        gauss = state["python gauss"].tolist()
        random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
        *key, place = state["numpy"].tolist()
        gauss = state["numpy gauss"].tolist()
        np.random.set_state(
            {
                "bit_generator": "MT19937",
                "state": {"key": np.array(key, dtype=np.uint32), "pos": place},
                "has_gauss": len(gauss),
                "gauss": gauss[0] if gauss else 0.0,
            }
        )
        torch.set_rng_state(state["torch"])
        for i, device in enumerate(self.devices):
            torch.cuda.set_rng_state(state[f"device {i}"], device)


def _optional(value: float | None) -> Tensor:
    """Write a number that may be absent: the second of a pair of normal draws."""
    return torch.tensor([] if value is None else [value], dtype=torch.float64)


@contextmanager
def seeded(chance: Chance, seed: int) -> Iterator[None]:
    """Draw from a seed for a while; the generators of everybody else are left alone.

    Example:
        >>> with seeded(Chance(), 3):
        ...     first = torch.rand(2)
        >>> with seeded(Chance(), 3):
        ...     torch.equal(torch.rand(2), first)
        True
    """
    before = chance.state()
    try:
        chance.seed(seed)
        yield
    finally:
        chance.set(before)
