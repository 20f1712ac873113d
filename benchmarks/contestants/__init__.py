"""Contestants: one training step of the same model, written as each library's users write it.

Each is a function from a problem to a step, a function without arguments that takes one training
step and returns its loss (nats per observation), which `float` accepts. The modules are imported
by the process that runs them alone: two frameworks never share a process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, SupportsFloat

from problem import PROBLEMS, Chain

__all__ = ["CHAINS", "CONTESTANTS", "HAND_WRITTEN", "OURS", "Contestant", "Make", "Step", "of"]

Step = Callable[[], SupportsFloat]
Make = Callable[[Any], Step]


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

CHAINS = {
    HAND_WRITTEN: Contestant("chains_by_hand", "eager", "torch"),
    "Daguerre": Contestant("daguerre_chain", "recorded", "daguerre"),
    "Daguerre, eager": Contestant("daguerre_chain", "eager", "daguerre"),
    OURS: Contestant("daguerre_chain", "compiled", "daguerre"),
    "Pyro, its example": Contestant("pyro_example", "eager", "pyro-ppl"),
    "Pyro": Contestant("pyro_chain", "eager", "pyro-ppl"),
    "NumPyro": Contestant("numpyro_chain", "jitted", "numpyro"),
}


def of(problem: str) -> Mapping[str, Contestant]:
    """Return who races on a problem."""
    return CHAINS if isinstance(PROBLEMS[problem], Chain) else CONTESTANTS
