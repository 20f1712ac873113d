r"""An f-divergence of two joints that both have densities, without a critic.

$$D_f(a \Vert b) = \mathbb{E}_a[h(s)] + \mathbb{E}_b[h(s)], \qquad
  h(s) = \frac{f(e^s)}{1 + e^s}, \quad s = \log a / b$$

This is the average over the mixture of both, so that no weight exceeds two wherever either side
has its mass: a divergence that is bounded, such as JS, has a bounded estimate. Averages over one
side alone, $\mathbb{E}_b[f(a / b)]$, can have an infinite variance.

References:
    Veach and Guibas (1995) for the balance heuristic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import softplus

from daguerre.families import Shared, SharedNormal
from daguerre.graph import InadmissibleError
from daguerre.joint import Joint
from daguerre.objectives.objective import Divergence, Player, Round, Term
from daguerre.objectives.sides import (
    conditional,
    integrates_out,
    modules_of,
    repeating,
    sampled_sides,
)
from daguerre.program import Program, Trace
from daguerre.running import draw
from daguerre.scoring import DensityPlan, complete, negative_log_density

__all__ = ["LOG2", "Prescribed", "jensen_shannon"]

LOG2 = 0.6931471805599453


def jensen_shannon(s: Tensor) -> Tensor:
    r"""Return h of the Jensen-Shannon divergence, at most $\tfrac12 \log 2$."""
    return (torch.sigmoid(s) * s - softplus(s) + LOG2) / 2


class _Side(NamedTuple):
    """What is needed to draw from a side and to score it."""

    program: Program
    given: tuple[str, ...]
    plan: DensityPlan
    learns: bool


@final
class Prescribed(Divergence):
    """An f-divergence of two joints with densities, from draws of both.

    Attributes:
        name: What it is called.
        weighed: $h(s) = f(e^s) / (1 + e^s)$.
    """

    def __init__(self, a: Joint, b: Joint, name: str, weighed: Callable[[Tensor], Tensor]) -> None:
        self.a, self.b, self.name, self.weighed = a, b, name, weighed
        self._check_data()
        self.names, learns, self.shapes = sampled_sides(a, b, name)
        for variable, plates in repeating(a, b).items():
            if plates:
                raise InadmissibleError(
                    f"{variable} repeats in {', '.join(plates)}, which {name} without a critic"
                    " does not take; give critic=..., or use dg.KL"
                )
        self.players = (Player("model", modules_of(b, a)),)
        self._sides = tuple(self._side(side, side in learns) for side in (a, b))
        for variable, shape in (self.shapes.a | self.shapes.b).items():
            if shape.cpd in (Shared, SharedNormal):
                raise InadmissibleError(
                    f"{variable} is shared by all rows of the data, so single rows have no ratio"
                    " of densities; use dg.KL"
                )

    @property
    def title(self) -> str:
        """The divergence, and the variables."""
        return f"{self.name} over {', '.join(self.names)}"

    def _check_data(self) -> None:
        for side in (self.a, self.b):
            if compared := [n for n in side.data if n not in self.b.graph.inputs]:
                raise InadmissibleError(
                    f"{self.name} without a critic needs a density of both sides, but"
                    f" {', '.join(compared)} is empirical data, which can only be sampled; give"
                    " critic=..., a module from the variables to one logit per row"
                )

    def _side(self, side: Joint, learns: bool) -> _Side:  # noqa: FBT001 - a field
        plan = integrates_out(side, (n for n in self.names if n in side.names), self.name)
        terms = tuple(n for n in plan.terms if n not in side.data)  # conditions cancel
        return _Side(side.program, side.given, replace(plan, terms=terms), learns)

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the unbiased estimate from n draws of each side."""
        assert player == "model"
        one, other = (self.weighed(self._log_ratio(i, at)).mean() for i in (0, 1))
        return one + other

    def _log_ratio(self, drawn: int, at: Round) -> Tensor:
        """Return log a / b at draws of one side, `[n]`."""
        own = self._sides[drawn]
        given = {k: at.given[k] for k in own.given}
        trace = draw(own.program, at.n, given, pathwise=own.learns)
        known = {k: trace.values[k] for k in self.names}
        on_a, on_b = (
            self._surprisal(side, trace if side is own else self._known(side, known, at))
            for side in self._sides
        )
        return on_b - on_a

    def _known(self, side: _Side, known: Mapping[str, Tensor], at: Round) -> Trace:
        return Trace({**{k: at.given[k] for k in side.given}, **known}, {})

    def _surprisal(self, side: _Side, trace: Trace) -> Tensor:
        scored = complete(side.program, side.plan, trace.values, trace.outcomes)
        terms = [negative_log_density(side.program.by_name[n], scored) for n in side.plan.terms]
        return sum(terms[1:], start=terms[0])

    def ledger(self) -> tuple[Term, ...]:
        """Say how it is estimated."""
        drawn = ", ".join(
            dict.fromkeys(
                n
                for side, one in zip((self.a, self.b), self._sides, strict=True)
                for n in side.graph.order
                if one.learns and n not in side.given
            )
        )
        how = (
            f"n draws of each side, {f'pathwise through {drawn}' if drawn else 'nothing to learn'}"
        )
        return (Term("model", self.title, how, "both densities exist; no weight exceeds two"),)

    def latex(self) -> dict[str, str]:
        """Return the divergence of the densities of the two sides."""
        densities = [
            r"\, ".join(conditional(side, n, shapes, symbol) for n in one.plan.terms)
            for side, one, shapes, symbol in (
                (self.a, self._sides[0], self.shapes.a, "q"),
                (self.b, self._sides[1], self.shapes.b, "p"),
            )
        ]
        name = self.name.replace(" ", r"\ ")
        return {"model": rf"\mathrm{{{name}}}\left({densities[0]} \,\Vert\, {densities[1]}\right)"}
