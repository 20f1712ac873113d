"""A hidden Markov model with the names of its variables, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.distributions import Distribution

from daguerre.discrete import split_numbers
from daguerre.infer.chain.hmm import HMM, log_evidence, plan_of, smoothed
from daguerre.infer.chain.paths import draw_paths, viterbi
from daguerre.infer.chain.plan import Plan
from daguerre.infer.chain.solved import Solved
from daguerre.infer.distributions import Finite, finite_of

__all__ = ["FiniteChain"]


@dataclass(frozen=True, eq=False)
class FiniteChain:
    """A hidden Markov model with the names of its states.

    Attributes:
        hmm: The model and its observations.
        states: Per hidden variable its values, `[k, *event]`; a state of the model is a tuple of
            those, the last variable counting fastest.
        functions: Per deterministic function of the states, its values, `[K, *event]`.
    """

    hmm: HMM
    states: dict[str, Tensor]
    functions: dict[str, Tensor]

    @property
    def targets(self) -> tuple[str, ...]:
        """The hidden variables, and functions of them."""
        return (*self.states, *self.functions)

    @cached_property
    def plan(self) -> Plan:
        """How it is scanned."""
        return plan_of(self.hmm)

    @property
    def cost(self) -> tuple[float, float]:
        """Predicted multiplications and bytes."""
        batch, steps, k = self.hmm.shape
        summaries = 0 if self.plan.blocks == 1 else k**3
        cells = batch * steps * k
        return batch * steps * (4.0 * k**2 + summaries), 8.0 * (6 * cells + self._pairs)

    @property
    def words(self) -> str:
        """What it is, for a plan to be read."""
        batch, steps, k = self.hmm.shape
        return f"hidden Markov model: {batch} sequences of {steps} steps, {k} states"

    @property
    def _pairs(self) -> int:
        return self.hmm.log_transition.numel()

    @property
    def _counts(self) -> tuple[int, ...]:
        return tuple(len(s) for s in self.states.values())

    def log_evidence(self) -> Tensor:
        """Return the log-probability or -density of the observed in nats, `[B]`."""
        return log_evidence(self.hmm)

    def solve(self, targets: Sequence[str]) -> Solved:
        """Return the posterior of some targets."""
        found = smoothed(self.hmm, plan=self.plan)
        marginals = {name: self._marginal(found.probs, name) for name in targets}

        def draw(n: int) -> dict[str, Tensor]:
            drawn = self._named(draw_paths(self.hmm, n, plan=found.plan))
            return {name: drawn[name] for name in targets}

        return Solved(marginals, found.log_evidence, draw)

    def most_probable(self) -> dict[str, Tensor]:
        """Return the most probable path."""
        path = self._named(viterbi(self.hmm).states)
        return {name: path[name] for name in self.states}

    def _marginal(self, probs: Tensor, name: str) -> Distribution:
        if name in self.functions:
            return finite_of(probs, self.functions[name])
        others = [i - len(self.states) for i, n in enumerate(self.states) if n != name]
        table = probs.unflatten(-1, self._counts)
        return Finite(table.sum(others) if others else table, self.states[name])

    def _named(self, states: Tensor) -> dict[str, Tensor]:
        """Return the values of each variable for numbers of product states."""
        indices = split_numbers(states, self._counts)
        pairs = zip(self.states.items(), indices, strict=True)
        named = {name: values[index] for (name, values), index in pairs}
        return named | {name: values[states] for name, values in self.functions.items()}
