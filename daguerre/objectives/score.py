r"""The score function: what a draw is blamed for, less a baseline, times the score of its density.

$$\nabla_\phi\,\mathbb{E}_{q_\phi(z)}[f(z)] =
  \mathbb{E}\big[(f(z) - b)\,\nabla_\phi \log q_\phi(z)\big]$$

for every b that does not depend on z. Of a sum of costs, a draw is blamed for those alone that it
can change, which the graph tells: the mean stays, and the noise of the others goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, reduce
from operator import add

from torch import Tensor, nn

from daguerre.graph import GraphError
from daguerre.objectives.estimators import ScoreFunction
from daguerre.objectives.kl_plan import Entry, KLPlan
from daguerre.objectives.latents import Drawn
from daguerre.objectives.objective import Round
from daguerre.rows import tile

__all__ = ["ScoreFunctions"]

Costs = Mapping[Entry, Tensor]


class ScoreFunctions:
    """The latents of a plan whose gradients are those of the score function."""

    def __init__(self, plan: KLPlan) -> None:
        self.plan, self.names = plan, plan.scored

    @cached_property
    def baselines(self) -> dict[str, nn.Module]:
        """The nets that learn what an example costs, by latent."""
        chosen = {n: self.plan.how[n] for n in self.names}
        return {
            n: e.baseline
            for n, e in chosen.items()
            if isinstance(e, ScoreFunction) and e.baseline is not None
        }

    def surrogate(
        self, drawn: Drawn, costs: Costs, densities: Mapping[str, Tensor], at: Round
    ) -> Tensor:
        """Return zero, with the gradient of the score function.

        Args:
            drawn: What was drawn.
            costs: The weighted terms of the sum, `[rows]` each.
            densities: log a of each of the latents at its draws, `[rows]`.
            at: The batch.
        """
        total = reduce(add, (self._one(n, drawn, costs, densities[n], at) for n in self.names))
        total = total / (drawn.n * drawn.copies)
        return total - total.detach()

    def _one(self, name: str, drawn: Drawn, costs: Costs, density: Tensor, at: Round) -> Tensor:
        signal = self._signal(name, drawn, costs)
        advantage = (signal - self._expected(name, signal, drawn, at)).detach()
        before = drawn.history.get(len(signal))
        weight = before.detach().exp() if before is not None else 1.0
        return (weight * advantage * density).sum()

    def _signal(self, name: str, drawn: Drawn, costs: Costs) -> Tensor:
        """Add up the costs downstream of a draw, one sum for each of its rows, detached."""
        rows = len(drawn.trace.values[name])
        found = [cost.detach() for entry, cost in costs.items() if name in entry.follows]
        return reduce(add, (drawn.reduced(cost, rows) for cost in found)).detach()

    def _expected(self, name: str, signal: Tensor, drawn: Drawn, at: Round) -> Tensor:
        """Return the baseline of each row: what other draws would have cost."""
        if name in self.baselines:
            return tile(self._guess(name, at), len(signal))
        draws = signal.view(-1, drawn.copies, drawn.n)
        return ((draws.sum(1, keepdim=True) - draws) / (drawn.copies - 1)).flatten()

    def regression(self, drawn: Drawn, costs: Costs, at: Round) -> Tensor:
        """Return what the baselines minimise: their squared errors."""
        signals = {name: self._signal(name, drawn, costs) for name in self.baselines}
        guesses = {name: self._guess(name, at) for name in signals}
        errors = ((tile(guesses[n], len(s)) - s).square().mean() for n, s in signals.items())
        return reduce(add, errors)

    def _guess(self, name: str, at: Round) -> Tensor:
        guess = self.baselines[name](*(at.given[n] for n in self.plan.a.given))
        if guess.numel() != at.n or guess.shape[:1] != (at.n,):
            raise GraphError(
                f"the baseline of {name} must return one number per example, [{at.n}] or"
                f" [{at.n}, 1]; it returned {list(guess.shape)}"
            )
        return guess.reshape(at.n)
