r"""A formula as a value: LaTeX, MathML for browsers, SVG for everything else."""

from __future__ import annotations

from dataclasses import dataclass

from daguerre.draw.formula import formula, formula_svg
from daguerre.draw.mathml import mathml

__all__ = ["Equation", "equation"]


@dataclass(frozen=True, slots=True)
class Equation:
    r"""A formula that shows itself in notebooks; `str` of it is its LaTeX.

    Attributes:
        latex: LaTeX without dollar signs.

    Raises:
        ValueError: A formula that cannot be set.

    Example:
        >>> Equation(r"p(z)\,p_\theta(x \mid z)").svg.startswith("<svg")
        True
    """

    latex: str

    def __post_init__(self) -> None:
        formula(self.latex)

    @property
    def mathml(self) -> str:
        """The formula as a `math` element on a line of its own."""
        return mathml(self.latex, block=True)

    @property
    def svg(self) -> str:
        """The formula as an SVG element of outlines, in the colour of the text around it."""
        return formula_svg(self.latex)

    def __str__(self) -> str:
        return self.latex

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle {self.latex}$"

    def _repr_html_(self) -> str:
        return self.mathml


def equation(latex: str) -> Equation:
    r"""Make a value of any LaTeX formula, such as `model.latex()` or `objective.latex()`.

    Args:
        latex: The formula, without dollar signs.

    Raises:
        ValueError: A command that cannot be set, unbalanced braces, a comment or a colour.

    Example:
        >>> equation("x^2")._repr_latex_()
        '$\\displaystyle x^2$'
    """
    return Equation(latex)
