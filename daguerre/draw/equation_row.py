"""The formulas of a page: a factorisation in pieces, one for each variable, to be lit alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from daguerre.draw.breaking import broken
from daguerre.draw.equations import factor, factorisation
from daguerre.draw.formula import Outline, formula
from daguerre.draw.labels import index, label
from daguerre.draw.letters import written
from daguerre.draw.markup import clean, element, number
from daguerre.graph import Graph, Plate

__all__ = ["cost_row", "model_row"]

_SIZE, _SET = 19.0, 21.0  # of the type as shown, and as it is set: with the outlines of nodes
_WIDEST = 900.0  # of a line of a cost
_MOST = 40  # factors that are shown
_TIME = Plate("t")


def model_row(graph: Graph) -> str:
    """Write the factors and maps of a model as outlines, each marked with its variable.

    Args:
        graph: The model.

    Raises:
        ValueError: A factor that cannot be set.

    Example:
        >>> model_row(Graph.from_edges([("z", "x")])).count("data-name")
        2
    """
    names = [n for n in graph.order if graph[n].map != "input"]
    if len(names) > _MOST:
        words = f"{len(names)} factors are too many to be shown here."
        return _row("Model", f'<span class="note">{words}</span>')
    random = [n for n in names if graph[n].map == "stochastic"]
    is_joint = bool(random) and any(graph.kind(n) == "prescribed" for n in graph.leaves)
    pieces = {n: _piece(graph, n, is_joint=is_joint) for n in sorted(names, key=_maps_last(graph))}
    left = [factorisation(graph).partition(" = ")[0] + " ="] if is_joint and random[1:] else []
    images = _images([*left, *pieces.values()])
    kinds = {"stochastic": "factor", "deterministic": "factor map"}
    spans = (
        f'<span class="{kinds[graph[n].map]}" data-name="{escape(clean(n))}">{image}</span>'
        for n, image in zip(pieces, images[len(left) :], strict=True)
    )
    return _row("Model", "".join([*images[: len(left)], *spans])) if pieces else ""


def cost_row(latex: str) -> str:
    """Write a cost as an outline, on several lines if it is long.

    Args:
        latex: The cost.

    Raises:
        ValueError: A formula that cannot be set.
    """
    return _row("Cost", *_images([broken(latex, most=_WIDEST, size=_SET)]))


def _maps_last(graph: Graph) -> Callable[[str], bool]:
    return lambda name: graph[name].map == "deterministic"


def _piece(graph: Graph, name: str, *, is_joint: bool) -> str:
    """Write one factor under its own products, one draw, or one map."""
    latex = factor(graph, name)
    if graph[name].map == "deterministic":
        return latex
    if not is_joint:
        return rf"{label(name)} \sim {latex}"
    plates = [plate for plate in graph.plates if plate.name in graph[name].plates]
    chains = {
        n for v in graph.variables if v.lags for n in (v.name, *(g.variable for g in v.lags))
    }
    in_time = name in chains | graph.descendants(chains)
    return "".join(map(_product, [*plates, *([_TIME] if in_time else [])])) + latex


def _product(plate: Plate) -> str:
    if len(plate.name) > 1:
        return rf"\prod_{{{index(plate)}}} "
    return rf"\prod_{{{index(plate)}=1}}^{{{plate.size or label(plate.name.upper())}}} "


def _images(pieces: Sequence[str]) -> list[str]:
    """Set formulas as images of one height, so that they stand on one line."""
    outlines = [formula(latex, size=_SET) for latex in pieces]
    rise = max((o.ascent for o in outlines), default=0.0) + 1
    fall = max((o.descent for o in outlines), default=0.0) + 1
    return [_image(o, latex, rise, fall) for o, latex in zip(outlines, pieces, strict=True)]


def _image(outline: Outline, latex: str, rise: float, fall: float) -> str:
    width, height, scale = outline.width + 2, rise + fall, _SIZE / _SET
    box = " ".join(map(number, (-1, -rise, width, height)))
    size = {"width": number(width * scale), "height": number(height * scale), "viewBox": box}
    words = {"class": "formula", "role": "img", "aria-label": latex[:200]}
    path = element("path", {"class": "type", "d": outline.path}) if outline.path else ""
    pieces = (written(piece, kind="type") for piece in outline.words)
    return element("svg", {**words, **size}, path, *pieces)


def _row(name: str, content: str) -> str:
    return f'<div class="row {name.lower()}"><h3>{name}</h3><div>{content}</div></div>'
