r"""Print a sheet as TikZ: named nodes at the places of the layout, labels as real LaTeX.

The styles are named as in tikz-bayesnet (`latent`, `obs`, `det`, `const`, `plate`, `caption`,
`plate caption`), with `gen`, `infer`, `hollow` and `adv` for arrows, so that a drawing can be
edited and restyled by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from daguerre.draw.curves import Curve, Point
from daguerre.draw.markup import number
from daguerre.draw.notation import Arrow
from daguerre.draw.picture import Picture, PlacedFrame, PlacedNode, PlacedPath, PlacedType
from daguerre.draw.sheet import Panel, Sheet
from daguerre.draw.tex import UNICHAR, math, words

__all__ = ["tikz"]

Style = Literal["own", "bayesnet"]

_UNIT = 0.5  # big points in a pixel: type of 21 pixels is then about as large as the text around
_MARKS = ("dot", "factor")  # small nodes, with their names beside them
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_PACKAGES = r"\usepackage{tikz, amsmath, amssymb, textcomp}"
_COLOURS = r"""
\definecolor{ink}{HTML}{1B1B22}
\definecolor{shade}{HTML}{D9DDE3}
\definecolor{adversary}{HTML}{1D4ED8}
\definecolor{border}{HTML}{767A85}
\definecolor{tint}{HTML}{B98A4A}
\definecolor{tinted}{HTML}{7A5A2B}
""".strip()
_SHARED = r"""
  pill/.style={shape=rectangle, rounded corners=12bp},
  module/.style={draw=ink, fill=white, line width=.8bp, double, double distance=.8bp,
    rounded corners=3.5bp, inner sep=0pt, font=\small},
  critic/.style={circle, draw=adversary, fill=white, line width=.65bp, inner sep=0pt,
    minimum size=15bp, font=\footnotesize},
  shaded/.style={fill=shade},
  half shaded/.style={path picture={\fill[shade] (path picture bounding box.south west)
    rectangle (path picture bounding box.east);}},
  twice/.style={double, double distance=.8bp},
  dot/.style={circle, fill=ink, inner sep=0pt, minimum size=4bp},
  factor/.style={rectangle, fill=ink, inner sep=0pt, minimum size=6bp},
  line/.style={-},
  net/.style={draw=tint, draw opacity=.5, fill=tint, fill opacity=.07, rounded corners=1.5bp},
  net caption/.style={text=tinted, inner sep=0pt, font=\scriptsize},
  beside/.style={inner sep=0pt, font=\footnotesize},
  title/.style={inner sep=0pt, font=\normalsize},
  cost/.style={inner sep=0pt, font=\small},
""".strip("\n")
_OWN = r"""
  latent/.style={circle, draw=ink, fill=white, line width=.8bp, inner sep=0pt, minimum size=24bp},
  obs/.style={latent, fill=shade},
  det/.style={latent, diamond, minimum size=31bp},
  const/.style={inner sep=0pt, minimum size=15bp},
  plate/.style={draw=border, line width=.65bp, rounded corners=5bp},
  caption/.style={font=\footnotesize},
  plate caption/.style={caption, inner sep=0pt},
  gen/.style={draw=ink, line width=.8bp, -{Triangle[length=5.5bp, width=4.7bp]}},
  infer/.style={gen, dash pattern=on 3.25bp off 2.25bp},
  hollow/.style={-{Triangle[open, length=5.5bp, width=4.9bp]}},
  adv/.style={draw=adversary, line width=1.1bp},
""".strip("\n")
_BAYESNET = r"""
  latent/.append style={inner sep=0pt, minimum size=24bp},
  det/.append style={minimum size=31bp},
  const/.append style={minimum size=15bp},
  plate box/.style={draw, rounded corners},
  >={triangle 45},
  gen/.style={->},
  infer/.style={->, dash pattern=on 3.25bp off 2.25bp},
  hollow/.style={>={open triangle 45}},
  adv/.style={draw=adversary, line width=1.1bp},
""".strip("\n")


def tikz(sheet: Sheet, *, style: Style = "own", document: bool = True) -> str:
    r"""Write a sheet as TikZ.

    Args:
        sheet: The placed panels.
        style: `"own"` needs TikZ alone and looks like the other formats; `"bayesnet"` uses the
            library tikz-bayesnet, its styles and its `\edge` and `\plate` wherever an arrow is
            straight and plates do not cross.
        document: Write a document that compiles, not the picture and its styles alone.

    Raises:
        ValueError: Another style.

    Example:
        >>> from daguerre.draw.notation import Arrow, Figure, Node
        >>> from daguerre.draw.sheet import sheet
        >>> pair = Figure((Node("z", "z"), Node("x", "x")), (Arrow("z", "x", inference=True),))
        >>> [line.strip() for line in tikz(sheet([pair])).splitlines() if "draw[" in line]
        ['\\draw[infer] (z) -- (x);']
    """
    if style not in ("own", "bayesnet"):
        raise ValueError(f"the style of TikZ is 'own' or 'bayesnet', not {style!r}")
    bayesnet, several = style == "bayesnet", len(sheet.panels) > 1
    libraries = "bayesnet" if bayesnet else "arrows.meta, shapes.geometric"
    library = f"\\usetikzlibrary{{{libraries}}}"
    styles = _BAYESNET if bayesnet else _OWN
    body = [
        *_COLOURS.splitlines(),
        UNICHAR,
        f"\\tikzset{{\n{styles}\n{_SHARED}\n}}",
        f"\\begin{{tikzpicture}}[x={_UNIT}bp, y=-{_UNIT}bp]",
        *(
            line
            for i, panel in enumerate(sheet.panels, 1)
            for line in _panel(panel, f"{i}-" * several, bayesnet=bayesnet)
        ),
        "\\end{tikzpicture}",
    ]
    if not document:
        return "\n".join([f"% needs {_PACKAGES}", library, *body]) + "\n"
    head = ["\\documentclass[border=6bp]{standalone}", _PACKAGES, library, "\\begin{document}"]
    return "\n".join([*head, *body, "\\end{document}"]) + "\n"


def _panel(panel: Panel, prefix: str, *, bayesnet: bool) -> Iterator[str]:
    picture = panel.picture
    if panel.title:
        yield _label(panel.title, "title", words(panel.title.source))
    options = [f"shift={{({_pair(panel.offset)})}}", *([f"name prefix={prefix}"] * bool(prefix))]
    yield f"\\begin{{scope}}[{', '.join(options)}]"
    drawn = _Drawn(picture, bayesnet=bayesnet)
    yield from (f"  {line}" for line in drawn.lines())
    yield "\\end{scope}"
    if panel.caption:
        yield _label(panel.caption, "cost", _math(panel.caption.source))


@dataclass(frozen=True)
class _Drawn:
    picture: Picture
    bayesnet: bool

    def lines(self) -> Iterator[str]:
        """Write frames, nodes and arrows; plates of the library come after their members."""
        names = self.names
        by_name = {p.node.name: p for p in self.picture.nodes}
        fitted = [f for f in self.picture.frames if self.bayesnet and self._is_nested(f)]
        for frame in self.picture.frames:
            if frame not in fitted:
                yield from _frame(frame, "plate box" if self.bayesnet else "plate")
        for placed in self.picture.nodes:
            yield _node(placed, names[placed.node.name])
        for path in self.picture.paths:
            ends = (by_name[path.arrow.source], by_name[path.arrow.target])
            yield self._arrow(path, ends)
            if path.label:
                style = "beside, text=adversary" if path.arrow.adversarial else "beside"
                yield _label(path.label, style, _math(path.label.source))
        yield from self._plates(fitted[::-1])
        for note in self.picture.notes:
            yield _label(note, "beside", _math(note.source))

    def _plates(self, frames: Sequence[PlacedFrame]) -> Iterator[str]:
        """Fit plates around their members and the plates inside, inner ones first."""
        names, inner = self.names, dict[str, set[str]]()
        for i, frame in enumerate(frames, 1):
            own = frame.frame.members
            held = [*(names[name] for name in own), *(p for p, m in inner.items() if m <= {*own})]
            fit = "".join(f"({name})" for name in held)
            yield f"\\plate {{plate {i}}} {{{fit}}} {{{_math(frame.frame.label)}}};"
            inner[f"plate {i}"] = {*own}

    @property
    def names(self) -> dict[str, str]:
        """TikZ names of the nodes: their own where TikZ can have them, else numbers."""
        nodes = (placed.node.name for placed in self.picture.nodes)
        return {n: n if _PLAIN.fullmatch(n) else f"node {i}" for i, n in enumerate(nodes, 1)}

    def _arrow(self, path: PlacedPath, ends: tuple[PlacedNode, PlacedNode]) -> str:
        flags, (start, end) = ", ".join(_flags(path.arrow)), ends
        a, b = self.names[start.node.name], self.names[end.node.name]
        if not _joins(path, start.centre, end.centre):
            return f"\\draw[{flags}] {_curve(path.curve, path.tip)};"
        if self.bayesnet:
            return f"\\edge[{flags}] {{{a}}} {{{b}}};"
        return f"\\draw[{flags}] ({a}) -- ({b});"

    def _is_nested(self, placed: PlacedFrame) -> bool:
        own = set(placed.frame.members)
        plates = [set(f.frame.members) for f in self.picture.frames if not f.frame.scope]
        apart = all(own <= other or other <= own or not own & other for other in plates)
        return apart and not placed.frame.scope


def _node(placed: PlacedNode, name: str) -> str:
    node, body = placed.node, placed.body
    width, height = 2 * body.width * _UNIT, 2 * body.height * _UNIT
    size = f"minimum width={number(width)}bp, minimum height={number(height)}bp"
    kind = _kind(placed)
    options = [kind, *(["pill"] if body.stretch and not body.rise else [])]
    options += [size] if body.stretch else []
    options += ["shaded"] if node.observed and kind not in ("obs", *_MARKS) else []
    if node.partial and not node.observed and kind != "const":
        options += ["half shaded"]
    options += ["twice"] if node.shape == "double" else []
    place = f"({name}) at ({_pair(placed.centre)})"
    if kind not in _MARKS:
        return f"\\node[{', '.join(options)}] {place} {{{_math(node.label)}}};"
    mark = f"\\node[{kind}] {place} {{}};"
    return f"{mark} {_label(placed.label, 'beside', _math(node.label))}" if node.label else mark


def _kind(placed: PlacedNode) -> str:
    node, body = placed.node, placed.body
    if node.shape in ("critic", *_MARKS):
        return node.shape
    if body.rise or body.pointed:
        return "module" if body.rise else "det"
    if node.observed:
        return "obs"
    return "const" if node.shape == "constant" else "latent"


def _frame(placed: PlacedFrame, style: str) -> Iterator[str]:
    corner, opposite = placed.box.corners
    style = "net" if placed.frame.scope else style
    yield f"\\draw[{style}] ({_pair(corner)}) rectangle ({_pair(opposite)});"
    kind = "net caption" if placed.frame.scope else "caption, inner sep=0pt"
    yield _label(placed.label, kind, _math(placed.frame.label))


def _flags(arrow: Arrow) -> Iterator[str]:
    yield "infer" if arrow.inference else "gen"
    if arrow.undirected:
        yield "line"
    elif arrow.deterministic:
        yield "hollow"
    if arrow.adversarial:
        yield "adv"


def _joins(path: PlacedPath, start: Point, end: Point) -> bool:
    """Say whether an arrow is the straight line between two centres."""
    chord = start.to(end)
    ends = (path.curve.points[0], path.tip)
    off = (abs(chord.x * start.to(p).y - chord.y * start.to(p).x) for p in ends)
    return path.curve.is_straight and chord.length > 0 and max(off) < chord.length / 2


def _curve(curve: Curve, tip: Point) -> str:
    steps = [f"({_pair(curve.points[0])})"]
    for a, b, c, d in curve.pieces:
        straight = Curve((a, b, c, d)).is_straight
        steps.append(
            f"-- ({_pair(d)})"
            if straight
            else f".. controls ({_pair(b)}) and ({_pair(c)}) .. ({_pair(d)})"
        )
    return " ".join([*steps, f"-- ({_pair(tip)})"])


def _label(placed: PlacedType, style: str, latex: str) -> str:
    box = placed.box
    middle = Point((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    return f"\\node[{style}] at ({_pair(middle)}) {{{latex}}};"


def _math(latex: str) -> str:
    return f"${math(latex)}$"


def _pair(point: Point) -> str:
    return f"{number(point.x)},{number(point.y)}"
