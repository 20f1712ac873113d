"""A linear state space with the names of its variables, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from daguerre.infer.chain.plan import Plan
from daguerre.infer.chain.solved import Solved
from daguerre.infer.chain.ssm import StateSpace
from daguerre.infer.chain.states import (
    draw_states,
    plan_of_states,
    smoothed_states,
    state_evidence,
)
from daguerre.infer.gaussian.distributions import Gaussian

__all__ = ["GaussianChain"]


@dataclass(frozen=True, eq=False)
class GaussianChain:
    """A state space with the names of its parts.

    Attributes:
        model: The state space and its observations.
        events: Per hidden variable, the shape of its event; they lie one after another.
    """

    model: StateSpace
    events: dict[str, torch.Size]

    @property
    def targets(self) -> tuple[str, ...]:
        """The hidden variables."""
        return tuple(self.events)

    @cached_property
    def plan(self) -> Plan:
        """How it is scanned."""
        return plan_of_states(self.model)

    @property
    def cost(self) -> tuple[float, float]:
        """Predicted multiplications and bytes."""
        batch, steps, m = self.model.values.shape
        d = self.model.sizes[0]
        return batch * steps * (8.0 * d**3 + 8 * m * d**2), 8.0 * batch * steps * (m + 6) * d**2

    @property
    def words(self) -> str:
        """What it is, for a plan to be read."""
        batch, steps, m = self.model.values.shape
        size = f"{self.model.sizes[0]} hidden and {m} observed numbers"
        return f"Kalman smoother: {batch} sequences of {steps} steps, {size}"

    def log_evidence(self) -> Tensor:
        """Return the log-density of the observed in nats, `[B]`."""
        return state_evidence(self.model)

    def solve(self, targets: Sequence[str]) -> Solved:
        """Return the posterior of some targets."""
        found = smoothed_states(self.model, plan=self.plan)
        means, cov = self._parts(found.mean), found.covariance
        marginals = {}
        for name in targets:
            part = self._place(name)
            marginals[name] = Gaussian(means[name], cov[..., part, part])

        def draw(n: int) -> dict[str, Tensor]:
            drawn = self._parts(draw_states(self.model, n, plan=found.plan))
            return {name: drawn[name] for name in targets}

        return Solved(dict(marginals), found.log_evidence, draw)

    def most_probable(self) -> dict[str, Tensor]:
        """Return the smoothed means, which is where the joint density is highest."""
        return self._parts(smoothed_states(self.model).mean)

    def _place(self, name: str) -> slice:
        """Return where a variable lies in the state."""
        names = list(self.events)
        start = sum(self.events[n].numel() for n in names[: names.index(name)])
        return slice(start, start + self.events[name].numel())

    def _parts(self, states: Tensor) -> dict[str, Tensor]:
        """Return the part of each variable of state vectors `[..., d]`."""
        return {
            name: states[..., self._place(name)].reshape(*states.shape[:-1], *event)
            for name, event in self.events.items()
        }
