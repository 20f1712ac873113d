"""Drawing of graphical models: one notation, one layout, several writers. No torch, no binary.

[draw][daguerre.draw.draw] turns a graph, a figure, a model or an objective into a
[Drawing][daguerre.draw.Drawing].
"""

from daguerre.draw.depths import collapsed
from daguerre.draw.drawing import Drawable, Drawing, draw
from daguerre.draw.equations import factor, factorisation, marginal
from daguerre.draw.factors import factor_figure
from daguerre.draw.formula import formula_svg
from daguerre.draw.labels import label
from daguerre.draw.layout import layout
from daguerre.draw.mathml import mathml
from daguerre.draw.notation import (
    Arrow,
    Figure,
    Frame,
    Node,
    figure,
    with_caption,
    with_critic,
    with_double_outlines,
    with_inference,
    with_labels,
    with_laws,
)
from daguerre.draw.repeats import folded
from daguerre.draw.typeset import Equation, equation
from daguerre.draw.unit_layers import unit_figure
from daguerre.draw.unrolled import unrolled

__all__ = [
    "Arrow",
    "Drawable",
    "Drawing",
    "Equation",
    "Figure",
    "Frame",
    "Node",
    "collapsed",
    "draw",
    "equation",
    "factor",
    "factor_figure",
    "factorisation",
    "figure",
    "folded",
    "formula_svg",
    "label",
    "layout",
    "marginal",
    "mathml",
    "unit_figure",
    "unrolled",
    "with_caption",
    "with_critic",
    "with_double_outlines",
    "with_inference",
    "with_labels",
    "with_laws",
]
