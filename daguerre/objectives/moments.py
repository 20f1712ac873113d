r"""Divergences from samples without a critic: the distance of two means in a feature space.

$$\mathrm{MMD}^2(a, b) = \mathbb{E}\,k(x, x') + \mathbb{E}\,k(y, y') - 2\,\mathbb{E}\,k(x, y),
  \qquad x, x' \sim a,\; y, y' \sim b$$
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from daguerre.graph import GraphError
from daguerre.joint import Factor, Joint, as_joint
from daguerre.kernels import Kernel, energy
from daguerre.objectives.objective import Divergence, Objective, Player, Round, Term
from daguerre.objectives.sides import argument, expectation, modules_of, sampled_sides
from daguerre.program import Program, draw

__all__ = ["MMD", "MaximumMeanDiscrepancy"]

_PRIME = "'"


def MMD(  # noqa: N802 - the field's name
    a: Factor | Joint, b: Factor | Joint, *, kernel: Kernel = energy
) -> Objective:
    r"""Return the squared maximum mean discrepancy of two joints, from samples and one player.

    The estimate is unbiased, so it may be negative. With the energy kernel
    $k(x, y) = -\lVert x - y \rVert$ it is the energy distance, which needs no bandwidth.

    Args:
        a: The first side, such as `dg.data("x")`.
        b: The second side, such as `p["x"]`; draws carry pathwise gradients.
        kernel: A symmetric function of rows `[n, D]` and `[m, D]` that returns `[n, m]`: `energy`,
            or `rbf(...)` and `median_kernel(x)` of `daguerre.kernels`.

    Raises:
        InadmissibleError: A draw that needs a gradient has none, or the data comes second.
        GraphError: The sides differ in variables or shapes.
        TypeError: `kernel` cannot be called.

    References:
        Gretton et al. (2012), A kernel two-sample test, JMLR 13; Szekely and Rizzo (2013) for the
        energy distance; Li, Swersky and Zemel (2015, arXiv 1502.02761) for generators.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> MMD(dg.data("x"), p["x"])
        Objective(MMD² over x; players: model)
    """
    if not callable(kernel):
        raise TypeError(f"kernel is a function of two sets of rows, not {kernel!r}")
    return Objective(((1.0, MaximumMeanDiscrepancy(as_joint(a), as_joint(b), kernel)),))


@final
class MaximumMeanDiscrepancy(Divergence):
    """A discrepancy of two joints by a kernel."""

    def __init__(self, a: Joint, b: Joint, kernel: Kernel) -> None:
        self.a, self.b, self.kernel = a, b, kernel
        self.names, self._learns, self.shapes = sampled_sides(a, b, "MMD")
        self.players = (Player("model", modules_of(b, a)),)
        self._sides = ((a.program, a.given), (b.program, b.given))

    @property
    def title(self) -> str:
        """MMD, and the variables."""
        return f"MMD² over {', '.join(self.names)}"

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the unbiased estimate from n draws of each side."""
        assert player == "model"
        if at.n < 2:
            raise GraphError(f"MMD compares pairs of rows, so a batch has two or more, not {at.n}")
        x, y = (self._rows(side, at.n, at.given) for side in self._sides)
        return self._within(x) + self._within(y) - 2 * self.kernel(x, y).mean()

    def _rows(
        self, side: tuple[Program, tuple[str, ...]], n: int, given: Mapping[str, Tensor]
    ) -> Tensor:
        program, names = side
        values = draw(program, n, {k: given[k] for k in names}, pathwise=True).values
        return torch.cat([values[name].reshape(n, -1) for name in self.names], 1)

    def _within(self, rows: Tensor) -> Tensor:
        """Return the mean kernel of pairs of different rows."""
        n = len(rows)
        itself = torch.eye(n, dtype=torch.bool, device=rows.device)
        return self.kernel(rows, rows).masked_fill(itself, 0.0).sum() / (n * (n - 1))

    def ledger(self) -> tuple[Term, ...]:
        """Say how it is estimated."""
        drawn = " and ".join(
            f"pathwise through {', '.join(n for n in side.graph.order if n not in side.given)}"
            for side in self._learns
        )
        how = f"unbiased, over pairs of a batch; {drawn or 'nothing to learn'}"
        return (Term("model", self.title, how, "samples only: no density, no critic"),)

    def latex(self) -> dict[str, str]:
        """Return the three averages of the kernel."""
        over = [
            expectation(side, shapes, symbol)
            for side, shapes, symbol in (
                (self.a, self.shapes.a, "q"),
                (self.b, self.shapes.b, "p"),
            )
        ]

        def point(side: int, mark: str = "") -> str:
            names = [argument((self.a, self.b)[side], name, mark) for name in self.names]
            return f"({', '.join(names)})" if len(names) > 1 else names[0]

        terms = (
            rf"{sign}\mathbb{{E}}_{{{over[i]}}}\,\mathbb{{E}}_{{{over[j]}}}"
            rf"\left[k({point(i)}, {point(j, _PRIME)})\right]"
            for sign, i, j in (("", 0, 0), ("+ ", 1, 1), ("- 2 ", 0, 1))
        )
        return {"model": " ".join(terms)}
