"""Divergences that are a distance of two sets of rows: draw both sides, compare the draws.

A distance is a value: its function of rows, and what the ledger and the formula say of it. Costs
that differ in nothing else (a maximum mean discrepancy, a transport) share one divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from daguerre.joint import Joint
from daguerre.objectives.objective import Divergence, Player, Round, Term
from daguerre.objectives.sides import (
    argument,
    expectation,
    letters,
    modules_of,
    needed,
    sampled_sides,
)
from daguerre.program import Program
from daguerre.running import draw
from daguerre.shapes import Shape

__all__ = ["Distance", "SampleDistance", "Written"]


class Written(NamedTuple):
    """One side in LaTeX.

    Attributes:
        over: What its draws come from, such as `p(z)`.
        point: A draw of what is compared, such as `G(z)`.
        copy: An independent draw, such as `G(z')`.
    """

    over: str
    point: str
    copy: str

    @property
    def law(self) -> str:
        """The distribution of what is compared."""
        return rf"\mathrm{{law}}_{{{self.over}}}[{self.point}]"


@dataclass(frozen=True)
class Distance:
    """A distance of two samples.

    Attributes:
        name: The function that builds it, for messages.
        title: What the ledger calls it.
        between: From rows `[n, D]` of the one side and `[n, D]` of the other to a scalar.
        estimator: How it is estimated.
        formula: Its LaTeX, from the two sides.
    """

    name: str
    title: str
    between: Callable[[Tensor, Tensor], Tensor]
    estimator: str
    formula: Callable[[Written, Written], str]


@final
class SampleDistance(Divergence):
    """A distance of the draws of two joints, each draw one row of all variables side by side."""

    def __init__(self, a: Joint, b: Joint, distance: Distance) -> None:
        self.a, self.b, self.distance = a, b, distance
        self.names, self._learns, self.shapes = sampled_sides(a, b, distance.name)
        self.players = (Player("model", modules_of(b, a)),)
        self._sides = ((needed(a), a.given), (needed(b), b.given))

    @property
    def title(self) -> str:
        """The distance, and the variables."""
        return f"{self.distance.title} over {', '.join(self.names)}"

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the distance of n draws of each side."""
        assert player == "model"
        x, y = (self._rows(side, at.n, at.given) for side in self._sides)
        return self.distance.between(x, y)

    def _rows(
        self, side: tuple[Program, tuple[str, ...]], n: int, given: Mapping[str, Tensor]
    ) -> Tensor:
        program, names = side
        values = draw(program, n, {k: given[k] for k in names}, pathwise=True).values
        return torch.cat([values[name].reshape(n, -1) for name in self.names], 1)

    def ledger(self) -> tuple[Term, ...]:
        """Say how it is estimated."""
        sides = ((self.a, self.shapes.a), (self.b, self.shapes.b))
        moved = [_moved(side, shapes) for side, shapes in sides if side in self._learns]
        drawn = " and ".join(f"pathwise through {', '.join(names)}" for names in moved if names)
        how = f"{self.distance.estimator}; {drawn or 'nothing to learn'}"
        return (Term("model", self.title, how, "samples only: no density, no critic"),)

    def latex(self) -> dict[str, str]:
        """Return the formula of the distance."""
        first, second = letters(self.a, self.b)
        one = self._written(self.a, self.shapes.a, first)
        return {"model": self.distance.formula(one, self._written(self.b, self.shapes.b, second))}

    def _written(self, side: Joint, shapes: Mapping[str, Shape], symbol: str) -> Written:
        over = expectation(side, shapes, symbol)

        def point(mark: str) -> str:
            names = [argument(side, name, mark, symbol) for name in self.names]
            return f"({', '.join(names)})" if len(names) > 1 else names[0]

        return Written(over, point(""), point("'"))


def _moved(side: Joint, shapes: Mapping[str, Shape]) -> list[str]:
    """Return what is drawn of a side, unless it is a fixed prior, which no gradient reaches."""
    steps = [s for s in needed(side).steps if s.name not in side.given]
    fixed = (s.variable.map == "stochastic" and _is_fixed(shapes.get(s.name)) for s in steps)
    return [] if all(fixed) else [s.name for s in steps]


def _is_fixed(shape: Shape | None) -> bool:
    return shape is not None and not shape.learned
