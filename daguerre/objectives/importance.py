r"""The importance-weighted bound: K draws of the latents for each example.

$$\mathcal{L}_K = \mathbb{E} \log \tfrac1K \sum_k w_k \le \log p(x),
  \qquad w_k = p(x, z_k) / q(z_k \mid x)$$
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

from torch import Tensor

from daguerre.draw.labels import label
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.kl_plan import kl_ratio_latex
from daguerre.objectives.objective import Divergence, Round, Term

__all__ = ["ImportanceWeighted", "log_weights"]


def log_weights(
    divergence: KullbackLeibler, n: int, given: Mapping[str, Tensor], *, particles: int
) -> Tensor:
    """Return the log-weights of several draws for each row of a batch, `[n, particles]`."""
    rows = {name: value.repeat_interleave(particles, 0) for name, value in given.items()}
    return divergence.log_weights(n * particles, rows).view(n, particles)


@final
class ImportanceWeighted(Divergence):
    """Minus the importance-weighted bound with K particles."""

    def __init__(self, inner: KullbackLeibler, particles: int) -> None:
        self.inner, self.particles = inner, particles
        self.a, self.b, self.names, self.shapes = inner.a, inner.b, inner.names, inner.shapes
        self.players = inner.players

    @property
    def title(self) -> str:
        """The bound, and the variables."""
        return f"IWAE-{self.particles} over {', '.join(self.names)}"

    def loss(self, player: str, at: Round) -> Tensor:
        """Return minus the batch mean of the bound, in nats."""
        assert player == "model"
        weights = log_weights(self.inner, at.n, at.given, particles=self.particles)
        return math.log(self.particles) - weights.logsumexp(1).mean()

    def ledger(self) -> tuple[Term, ...]:
        """Say how it is estimated."""
        drawn = ", ".join(n for n in self.a.graph.order if n not in self.a.given)
        kept = [Term(*row) for row in self.inner.ledger() if row.estimator == "left out"]
        how = f"{self.particles} draws for each example, pathwise in {drawn}"
        why = "a closed form of one term would not be a weight"
        return Term(
            "model", f"-log mean w, w = p / q over {', '.join(self.names)}", how, why
        ), *kept

    def latex(self) -> dict[str, str]:
        """Return the expectation that is minimised."""
        over, ratio = kl_ratio_latex(self.inner.plan)
        drawn = [n for n in self.a.graph.order if n not in self.a.given]
        draws = ", ".join(f"{{{label(n)}}}^{{(k)}}" for n in drawn)
        weight = rf"\left.{ratio}\right|_{{{draws}}}"
        mean = rf"\frac{{1}}{{{self.particles}}} \sum_{{k=1}}^{{{self.particles}}} {weight}"
        return {"model": rf"\mathbb{{E}}_{{{over}}}\left[-\log {mean}\right]"}
