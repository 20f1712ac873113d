"""Divergences that are a distance of two sets of rows: draw both sides, compare the draws.

A distance is a value: its function of rows, and what the ledger and the formula say of it. Costs
that differ in nothing else (a maximum mean discrepancy, a transport) share one divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from daguerre.joint import Joint
from daguerre.objectives.density import in_rows
from daguerre.objectives.objective import Divergence, Player, Round, Term
from daguerre.objectives.sides import (
    argument,
    expectation,
    letters,
    modules_of,
    needed,
    repeating,
    sampled_sides,
)
from daguerre.program import Program
from daguerre.running import draw
from daguerre.shapes import Shape
from daguerre.structure.recurrence import blocks

__all__ = ["Distance", "SampleDistance", "Sampler", "Written"]


@dataclass(frozen=True)
class Sampler:
    """What draws one side.

    Attributes:
        program: The steps that what is compared follows from.
        given: Variables that the batch holds.
        plates: The plates of each variable of either side, time last.
    """

    program: Program
    given: tuple[str, ...]
    plates: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, side: Joint, plates: Mapping[str, Sequence[str]]) -> Sampler:
        """Read off what is needed of a side."""
        return cls(needed(side), side.given, plates)

    @property
    def recurs(self) -> bool:
        """Whether some variables are run slice by slice."""
        parts = blocks(self.program.graph, frozenset(self.given))
        return any(block.direction for block in parts)

    def draw(self, names: Iterable[str], at: Round, *, pathwise: bool) -> list[Tensor]:
        """Draw some variables, `[n, *plates, *event]` each, as often as the data repeat."""
        at = in_rows(at, self.plates)
        known = {name: at.given[name] for name in self.given}
        if at.sizes is None:
            values = draw(self.program, at.n, known, pathwise=pathwise).values
            return [values[name] for name in names]
        values = draw(self.program, at.n, known, pathwise=pathwise, sizes=at.sizes).values
        return [at.sizes.leave(values[name], self.plates.get(name, ())) for name in names]


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
        self.plates = repeating(a, b)
        self.players = (Player("model", modules_of(b, a)),)
        self._sides = (Sampler.of(a, self.plates), Sampler.of(b, self.plates))
        self.recurs = any(side.recurs for side in self._sides)

    @property
    def title(self) -> str:
        """The distance, and the variables."""
        return f"{self.distance.title} over {', '.join(self.names)}"

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the distance of n draws of each side."""
        assert player == "model"
        x, y = (at.peers.rows(self._rows(side, at)) for side in self._sides)
        return self.distance.between(x, y)

    def _rows(self, side: Sampler, at: Round) -> Tensor:
        values = side.draw(self.names, at, pathwise=True)
        return torch.cat([value.reshape(at.n, -1) for value in values], 1)

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
