"""A sheet as one HTML file to explore: no request, no library, nothing to install.

The picture is the one that `svg` writes; what a reader asks of it (blankets, independence, trails)
is answered in the browser by the algorithm of `daguerre.structure`.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

from daguerre.draw.closing import closed, deepest
from daguerre.draw.curves import Point
from daguerre.draw.equation_row import cost_row, model_row
from daguerre.draw.glyphs import Glyphs
from daguerre.draw.layout import layout
from daguerre.draw.legend import legend
from daguerre.draw.markup import clean
from daguerre.draw.notation import Figure
from daguerre.draw.picture import Picture
from daguerre.draw.sheet import Panel, Sheet
from daguerre.draw.svg import svg
from daguerre.graph import Graph, GraphError

__all__ = ["asked", "numbered", "page"]

_MOST_BYTES = 1_500_000  # of pictures that show a net less deeply
_MARGIN = 12.0
_SCRIPTS = ("separation.js", "words.js", "window.js", "page.js")


def page(sheet: Sheet) -> str:
    """Write a sheet as one interactive HTML document.

    Each panel zooms and pans, hides kinds of arrows, lights the Markov blanket and the factor of
    a variable, and tells which variables are independent given those that the reader observes. A
    net with scopes has one picture for each depth.

    Args:
        sheet: The placed panels.

    Raises:
        ValueError: A factor that cannot be set.

    Example:
        >>> from daguerre.draw import draw
        >>> html = page(draw(Graph.from_edges([("z", "x")])).sheet)
        >>> html.count("<section"), "Content-Security-Policy" in html, len(html) < 60_000
        (1, True, True)
    """
    glyphs = Glyphs()
    panels = [_Panel(panel, i, glyphs) for i, panel in enumerate(sheet.panels)]
    titles = [panel.figure.title for panel in sheet.panels if panel.figure.title]
    script, style = "".join(map(_asset, _SCRIPTS)), _asset("page.css")
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return _filled(
        "page.html",
        policy=policy,
        title=_text("; ".join(titles) or "Graphical model"),
        style=style,
        script=script,
        panels="".join(panel.html for panel in panels),
        glyphs=glyphs.outlines,
        data=_json([panel.data for panel in panels]),
    )


def asked(figure: Figure) -> Graph | None:
    """Return the graph of which independence is asked; None where a figure is none.

    A figure that was not made from a graph is read: solid arrows that are not blue are the
    edges; a diamond, a box, and what only hollow heads point at are maps; bare type is an input.

    Args:
        figure: The picture.
    """
    if figure.graph is not None:
        return figure.graph
    arrows = [a for a in figure.arrows if not (a.inference or a.adversarial)]
    hollow: dict[str, bool] = {}
    for arrow in arrows:
        hollow[arrow.target] = hollow.get(arrow.target, True) and arrow.deterministic
    shapes = {node.name: node.shape for node in figure.nodes if node.shape != "critic"}
    drawn = ("deterministic", "module")
    maps = [n for n, shape in shapes.items() if shape in drawn or hollow.get(n)]
    inputs = [n for n, shape in shapes.items() if shape == "constant"]
    edges = [(a.source, a.target) for a in arrows if {a.source, a.target} <= {*shapes}]
    try:
        return Graph.from_edges(edges, nodes=shapes, deterministic=maps, inputs=inputs)
    except GraphError:
        return None


class _View(NamedTuple):
    """One depth of a net: its picture, and what each closed scope holds."""

    depth: int
    drawing: str
    holds: Mapping[str, Sequence[str]]


class _Panel:
    """One panel: its markup, and what the script is told."""

    def __init__(self, panel: Panel, place: int, glyphs: Glyphs) -> None:
        self._figure, self._graph, self._place = panel.figure, asked(panel.figure), place
        self._views, self._glyphs = _views(panel, glyphs), glyphs

    @property
    def data(self) -> Mapping[str, Any]:
        """The graph by numbers, what is observed, and what each closed scope holds."""
        return {
            "title": self._figure.title,
            "observed": [node.name for node in self._figure.nodes if node.observed],
            "holds": [[*view.holds.items()] for view in self._views],
            "graph": None if self._graph is None else numbered(self._graph),
        }

    @property
    def html(self) -> str:
        """The section: what is seen without a script, and the controls."""
        figure, last = self._figure, self._views[-1]
        views = (
            f'<div class="view"{"" if view is last else " hidden"}>{view.drawing}</div>'
            for view in self._views
        )
        return _filled(
            "panel.html",
            name=_text(figure.title or f"Figure {self._place + 1}"),
            title=f"<h2>{_text(figure.title)}</h2>" if figure.title else "",
            depths=_depths([view.depth for view in self._views]),
            views="".join(views),
            model=self._glyphs.shared(model_row(self._graph)) if self._graph else "",
            cost=self._glyphs.shared(cost_row(figure.caption)) if figure.caption else "",
            legend=legend(figure),
        )


def _views(panel: Panel, glyphs: Glyphs) -> list[_View]:
    """Draw a net at each depth, the whole of it last."""
    views: list[_View] = []
    most, room = deepest(panel.figure), _MOST_BYTES
    for depth in range(most):
        shown, holds = closed(panel.figure, depth)
        drawing = glyphs.shared(_drawing(shown, layout(shown)))
        room -= len(drawing)
        if room < 0:
            break
        views.append(_View(depth, drawing, holds))
    whole = glyphs.shared(_drawing(panel.figure, panel.picture))
    return [*views, _View(most, whole, {})]


def _drawing(figure: Figure, picture: Picture) -> str:
    """Print one picture without title and cost, which the page sets in type of its own."""
    left, top, right, bottom = picture.box
    offset = Point(_MARGIN - left, _MARGIN - top)
    width, height = round(right - left + 2 * _MARGIN), round(bottom - top + 2 * _MARGIN)
    return svg(Sheet(width, height, (Panel(figure, picture, offset, None, None),)))


def numbered(graph: Graph) -> Mapping[str, Any]:
    """Return a graph as the script reads it: variables by number, as in `Graph.adjacency`.

    Args:
        graph: The graph.
    """
    adjacency = graph.adjacency
    return {
        "names": graph.names,
        "parents": adjacency.parents,
        "maps": [int(is_map) for is_map in adjacency.maps],
        "inputs": [adjacency.number[name] for name in graph.inputs],
        "inverts": adjacency.inverts,
        "lagged": next((graph.names[i] for i in adjacency.lagged), ""),
    }


def _depths(depths: Sequence[int]) -> str:
    if len(depths) < 2:
        return ""
    buttons = (
        f'<button type="button" data-view="{i}" aria-pressed="{str(d == depths[-1]).lower()}">'
        f"{'all' if d == depths[-1] else d}</button>"
        for i, d in enumerate(depths)
    )
    return (
        '<div class="choice" role="group" aria-label="Depth of modules shown">'
        f'<span class="word">Depth</span>{"".join(buttons)}</div>'
    )


def _json(value: object) -> str:
    """Write JSON that no HTML parser reads as markup."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _text(words: str) -> str:
    return escape(clean(words))


@cache
def _asset(name: str) -> str:
    return (files("daguerre.draw") / "assets" / name).read_text(encoding="utf-8")


def _filled(template: str, **values: str) -> str:
    """Fill a template in one pass, so that no value is searched for places."""
    return re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], _asset(template))


def _digest(source: str) -> str:
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"
