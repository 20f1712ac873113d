"""Drawing of graphical models: one notation, one layout, several writers. No torch, no binary.

[draw][daguerre.draw.draw] turns a graph, a figure, a model or an objective into a
[Drawing][daguerre.draw.Drawing].
"""

from daguerre.draw.drawing import Drawable, Drawing, draw
from daguerre.draw.equations import factor, factorisation, marginal
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
    with_inference,
    with_labels,
)
from daguerre.draw.typeset import Equation, equation

__all__ = [
    "Arrow",
    "Drawable",
    "Drawing",
    "Equation",
    "Figure",
    "Frame",
    "Node",
    "draw",
    "equation",
    "factor",
    "factorisation",
    "figure",
    "formula_svg",
    "label",
    "layout",
    "marginal",
    "mathml",
    "with_caption",
    "with_critic",
    "with_inference",
    "with_labels",
]
