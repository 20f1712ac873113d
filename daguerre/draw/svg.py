"""Print a sheet as SVG: plain shapes and outlines, no scripts, no references.

Text stands only for letters that the font of formulas lacks.

Colours and widths are presentation attributes, so a page may restyle everything through the
classes `plate`, `scope`, `arrow` (`inference`, `deterministic`, `adversarial`), `node`
(`observed`, and the name of the shape), `title`, `caption`, and find everything through `data-*`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from daguerre.draw.bodies import Body
from daguerre.draw.curves import Curve, Point
from daguerre.draw.letters import written
from daguerre.draw.markup import element, number
from daguerre.draw.notation import Figure
from daguerre.draw.picture import Box, PlacedFrame, PlacedNode, PlacedPath, PlacedType
from daguerre.draw.sheet import Panel, Sheet

__all__ = ["svg"]

INK, PAPER, SHADE, BLUE, BORDER = "#1b1b22", "#ffffff", "#d9dde3", "#1d4ed8", "#767a85"
TINT, TINTED = "#b98a4a", "#7a5a2b"  # scopes, and their names
_LINE, _BOLD, _THIN = "1.6", "2.2", "1.3"
_HALF_HEAD = 4.7
_DASHES = "6.5 4.5"
_DOUBLE = 3.2  # between the two outlines of a box
_QUARTER = 0.5523  # how far the controls of a quarter of a circle lie from its ends, in radii


def svg(sheet: Sheet) -> str:
    """Write a sheet as one SVG document.

    Args:
        sheet: The placed panels.
    """
    size = {"width": number(sheet.width), "height": number(sheet.height)}
    root = {
        "xmlns": "http://www.w3.org/2000/svg",
        "class": "daguerre",
        "role": "img",
        **size,
        "viewBox": f"0 0 {size['width']} {size['height']}",
    }
    title = "; ".join(_described(panel.figure) for panel in sheet.panels)
    page = element("rect", {"class": "page", **size, "fill": PAPER})
    panels = "".join(map(_panel, sheet.panels))
    return element("svg", root, element("title", {}, text=title), page, panels) + "\n"


def _described(figure: Figure) -> str:
    names = ", ".join(node.name[:60] for node in figure.nodes if node.shape != "critic")
    return f"{figure.title or 'Graphical model'}: {names}"


def _panel(panel: Panel) -> str:
    picture = panel.picture
    shift = {"transform": f"translate({_pair(panel.offset)})"}
    content = (
        element("g", {"class": "plates"}, *map(_frame, picture.frames)),
        element("g", {"class": "arrows"}, *map(_arrow, picture.paths)),
        element("g", {"class": "nodes"}, *map(_node, picture.nodes)),
        *(_type(note, "note") for note in picture.notes),
    )
    return element(
        "g",
        {"class": "panel"},
        _type(panel.title, "title"),
        element("g", shift, *content),
        _type(panel.caption, "caption"),
    )


def _frame(placed: PlacedFrame) -> str:
    scope = placed.frame.scope
    paint = {"fill": "none", "stroke": BORDER, "stroke-width": _THIN}
    if scope:  # tints add up, so inner scopes are darker
        paint = {"fill": TINT, "fill-opacity": "0.07", "stroke": TINT, "stroke-opacity": "0.5"}
    border = {**_sides(placed.box), "rx": "3" if scope else "10", **paint}
    group = {"class": "scope" if scope else "plate", "data-name": placed.frame.name}
    label = _type(placed.label, "label", TINTED if scope else INK)
    return element("g", group, element("rect", border), label)


def _arrow(placed: PlacedPath) -> str:
    arrow = placed.arrow
    flags = ("inference", "deterministic", "adversarial", "undirected")
    colour = BLUE if arrow.adversarial else INK
    line = {
        "d": _curve(placed.curve),
        "fill": "none",
        "stroke": colour,
        "stroke-width": _BOLD if arrow.adversarial else _LINE,
    }
    if arrow.inference:
        line["stroke-dasharray"] = _DASHES
    if arrow.undirected:
        line["d"] = _curve(placed.curve, placed.tip)
    head = {"d": _head(placed), "fill": colour}
    if arrow.deterministic:
        head |= {
            "fill": PAPER,
            "stroke": colour,
            "stroke-width": _LINE,
            "stroke-linejoin": "miter",
        }
    group = {
        "class": " ".join(["arrow", *(flag for flag in flags if getattr(arrow, flag))]),
        "data-source": arrow.source,
        "data-target": arrow.target,
    }
    tip = "" if arrow.undirected else element("path", head)
    label = _type(placed.label, "label", colour)
    return element("g", group, element("path", line), tip, label)


def _head(placed: PlacedPath) -> str:
    base, tip = placed.curve.points[-1], placed.tip
    along = base.to(tip)
    unit = Point(along.x / along.length, along.y / along.length)
    across = Point(-unit.y, unit.x)
    half = _HALF_HEAD
    if placed.arrow.deterministic:  # its outline must end where a filled head ends
        tip, half = tip.plus(unit, -1.7), half + 0.2
    left, right = base.plus(across, half), base.plus(across, -half)
    return f"M{_pair(left)}L{_pair(tip)}L{_pair(right)}Z"


def _node(placed: PlacedNode) -> str:
    node, marks = placed.node, ("observed", "partial")
    group = {
        "class": " ".join(["node", node.shape, *(m for m in marks if getattr(node, m))]),
        "data-name": node.name,
    }
    title = element("title", {}, text=node.name)
    return element("g", group, title, *_outline(placed), _type(placed.label, "label"))


def _outline(placed: PlacedNode) -> Iterator[str]:
    shape, body = placed.node.shape, placed.body
    if shape == "constant" and not placed.node.observed:
        return
    small, full = shape == "critic", shape in ("dot", "factor")
    paint = {
        "fill": INK if full else SHADE if placed.node.observed else PAPER,
        "stroke": BLUE if small else INK,
        "stroke-width": _THIN if small else _LINE,
    }
    if placed.node.partial and not full:
        yield element("path", {"d": _lower_half(placed.centre, body), "fill": SHADE})
        paint["fill"] = "none"
    if body.pointed:
        yield element("path", {"d": _diamond(placed.centre, body), **paint})
    else:
        yield _round(placed, paint)
    if shape == "double" or (body.rise and not full):
        yield _round(placed, paint, inset=_DOUBLE)


def _round(placed: PlacedNode, paint: Mapping[str, str], *, inset: float = 0.0) -> str:
    body, radius = placed.body, number(placed.body.radius - inset)
    if body.stretch:
        box = Box.around(placed.box.corners, margin=-inset)
        return element("rect", {**_sides(box), "rx": radius, **paint})
    x, y = map(number, placed.centre)
    return element("circle", {"cx": x, "cy": y, "r": radius, **paint})


def _lower_half(centre: Point, body: Body) -> str:
    """The lower half of a diamond, or of a disc swept over a rectangle."""
    left, right = (centre.plus(Point(w, 0)) for w in (-body.width, body.width))
    if body.pointed:
        return f"M{_pair(left)}L{_pair(centre.plus(Point(0, body.radius)))}L{_pair(right)}Z"
    width, height, s, h = body.width, body.height, body.stretch, body.rise
    pull = _QUARTER * body.radius
    down = [(-width, h), (-width, h + pull), (-s - pull, height), (-s, height)]
    a, b, c, d = (_pair(centre.plus(Point(x, y))) for x, y in down)
    e, f, g, i = (_pair(centre.plus(Point(-x, y))) for x, y in reversed(down))
    return f"M{_pair(left)}L{a}C{b} {c} {d}L{e}C{f} {g} {i}L{_pair(right)}Z"


def _diamond(centre: Point, body: Body) -> str:
    r = body.radius
    corners = (Point(-r, 0), Point(0, -r), Point(r, 0), Point(0, r))
    return f"M{'L'.join(_pair(centre.plus(corner)) for corner in corners)}Z"


def _sides(box: Box) -> dict[str, str]:
    return {
        "x": number(box.left),
        "y": number(box.top),
        "width": number(box.right - box.left),
        "height": number(box.bottom - box.top),
    }


def _type(placed: PlacedType | None, kind: str, colour: str = INK) -> str:
    if placed is None:
        return ""
    outline, place = placed.outline, f"translate({_pair(placed.origin)})"
    line = {"class": kind, "transform": place, "fill": colour, "d": outline.path}
    pieces = (written(w, kind=kind, transform=place, fill=colour) for w in outline.words)
    return (element("path", line) if outline.path else "") + "".join(pieces)


def _curve(curve: Curve, tip: Point | None = None) -> str:
    points = curve.points
    last = f"L{_pair(tip)}" if tip else ""
    if curve.is_straight:
        return f"M{_pair(points[0])}L{_pair(tip or points[-1])}"
    steps = (f"C{_pair(b)} {_pair(c)} {_pair(d)}" for _, b, c, d in curve.pieces)
    return f"M{_pair(points[0])}{''.join(steps)}{last}"


def _pair(point: Point) -> str:
    return f"{number(point.x)} {number(point.y)}"
