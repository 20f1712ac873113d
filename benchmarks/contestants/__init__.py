"""Contestants: one training step of the same VAE, written as each library's users write it.

Each is a function from a [Problem][problem.Problem] to a step, a function without arguments that
takes one training step and returns its loss (nats per observation), which `float` accepts. The
modules are imported by the process that runs them alone: two frameworks never share a process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import SupportsFloat

from problem import Problem

__all__ = ["CONTESTANTS", "HAND_WRITTEN", "OURS", "Contestant", "Make", "Step"]

Step = Callable[[], SupportsFloat]
Make = Callable[[Problem], Step]


@dataclass(frozen=True)
class Contestant:
    """Where a contestant is found: the module in this folder, its function, the package shown."""

    module: str
    function: str
    package: str

    def load(self) -> Make:
        """Import the contestant, and with it its framework."""
        return getattr(import_module(f"contestants.{self.module}"), self.function)


HAND_WRITTEN = "hand-written"
OURS = "Daguerre, compiled"

CONTESTANTS = {
    HAND_WRITTEN: Contestant("handwritten", "eager", "torch"),
    "hand-written, torch.compile": Contestant("handwritten", "compiled", "torch"),
    "Daguerre, eager": Contestant("daguerre_vae", "eager", "daguerre"),
    OURS: Contestant("daguerre_vae", "compiled", "daguerre"),
    "Pyro": Contestant("pyro_svi", "eager", "pyro-ppl"),
    "NumPyro": Contestant("numpyro_svi", "jitted", "numpyro"),
    "NumPyro, state donated": Contestant("numpyro_svi", "donated", "numpyro"),
    "Pixyz": Contestant("pixyz_vae", "eager", "pixyz"),
}
