r"""Print figures in the language of Graphviz: structure and flags, laid out by `dot` itself.

Only the arrows that decide rows in the other formats rank nodes here. Clusters are a tree, so a
plate that crosses another comes in parts, each with the true members in its `comment`.

References:
    Gansner, Koutsofios and North (2015), Drawing graphs with dot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from xml.sax.saxutils import escape

from daguerre.draw.clusters import Cluster, cluster_tree, lost_crossings
from daguerre.draw.markup import clean
from daguerre.draw.notation import Arrow, Figure, Frame, Node
from daguerre.draw.plain import plain, shown
from daguerre.draw.ranks import downward

__all__ = ["dot"]

_SHAPES = {
    "random": {"shape": "circle", "width": "0.55"},
    "deterministic": {"shape": "diamond", "width": "0.7", "height": "0.7"},
    "module": {"shape": "box", "peripheries": "2", "width": "0.6", "height": "0.35"},
    "double": {"shape": "circle", "peripheries": "2", "width": "0.5"},
    "constant": {"shape": "plain"},
    "dot": {"shape": "point", "width": "0.08"},
    "factor": {"shape": "square", "style": "filled", "fillcolor": "#1b1b22", "width": "0.14"},
    "critic": {"shape": "circle", "width": "0.35", "color": "#1d4ed8"},
}
_BOXES = {
    "plate": {"labelloc": "b", "labeljust": "r", "style": "rounded", "color": "#767a85"},
    "scope": {
        "labelloc": "t",
        "labeljust": "l",
        "style": "rounded,filled",
        "color": "#b98a4a80",
        "fillcolor": "#b98a4a12",
    },
}
_LONGEST = 4000  # characters of a list of members
_TAGS = {"_": "SUB", "^": "SUP"}


def dot(figures: Sequence[Figure]) -> str:
    """Write figures as one DOT graph, each in a cluster of its own if there are several.

    Args:
        figures: What to draw.

    Raises:
        ValueError: A label that cannot be set.

    Example:
        >>> pair = Figure((Node("z", "z"), Node("x", "x")), (Arrow("z", "x", inference=True),))
        >>> dot([pair]).splitlines()[-2].strip()
        '"z" -> "x" [style="dashed"];'
    """
    lines = [line for figure in figures for line in _losses(figure)]
    lines += [
        "digraph daguerre {",
        '  graph [newrank="true", fontname="serif", fontsize="12", nodesep="0.35"];',
        '  node [fontname="serif", fontsize="14", margin="0.05", fixedsize="false"];',
        '  edge [fontname="serif", fontsize="11", arrowsize="0.8"];',
    ]
    for i, figure in enumerate(figures, 1):
        several = len(figures) > 1
        ids = {n.name: f"{i}/{shown(n.name)}" if several else shown(n.name) for n in figure.nodes}
        if len(set(ids.values())) < len(ids):  # names that differ where they were cut
            ids = {n.name: f"{i}/{k}" for k, n in enumerate(figure.nodes)}
        lines += _figure(figure, ids, f"{i}_" if several else "")
    return "\n".join([*lines, "}"]) + "\n"


def _losses(figure: Figure) -> Iterator[str]:
    for frame in lost_crossings(figure):
        yield (
            f"// {shown(frame.name)} crosses another plate: clusters only nest, so it is drawn in"
            " parts; comment= names its members"
        )
    if figure.caption:
        yield f"// cost: {' '.join(clean(figure.caption).split())}"


def _figure(figure: Figure, ids: Mapping[str, str], prefix: str) -> Iterator[str]:
    title = {"label": shown(figure.title), "labelloc": "t"}
    if prefix:
        title |= {"style": "solid", "color": "transparent"}
        yield f'  subgraph "cluster_{prefix}" {{'
    yield f"  graph [{_attributes(title)}];"
    yield from _cluster(cluster_tree(figure), ids, (f"{prefix}{i}" for i in count(1)))
    critics = {node.name for node in figure.nodes if node.shape == "critic"}
    ranking = dict.fromkeys(downward(figure))
    for arrow in figure.arrows:
        ranks = arrow in ranking or arrow.target in critics
        yield f"  {_arrow(arrow, ids, ranks=ranks)}"
    if prefix:
        yield "  }"


def _cluster(cluster: Cluster, ids: Mapping[str, str], numbers: Iterator[str]) -> Iterator[str]:
    frame = cluster.frame
    if frame:
        yield f'  subgraph "cluster_{next(numbers)}" {{'
        yield f"  graph [{_attributes(_box(frame))}];"
    yield from (f"  {_node(node, ids[node.name])}" for node in cluster.nodes)
    for inner in cluster.inner:
        yield from _cluster(inner, ids, numbers)
    if frame:
        yield "  }"


def _box(frame: Frame) -> dict[str, str]:
    kind = "scope" if frame.scope else "plate"
    members = ", ".join(map(shown, frame.members))[:_LONGEST]
    look = {"label": _formula(frame.label), "comment": f"{kind} {shown(frame.name)}: {members}"}
    return look | _BOXES[kind]


def _node(node: Node, name: str) -> str:
    look = dict(_SHAPES[node.shape])
    if node.observed:
        look |= {"style": "filled", "fillcolor": "#d9dde3"}
        if node.shape == "constant":
            look |= _SHAPES["random"]
    elif node.partial and node.shape not in ("constant", "dot", "factor"):
        look |= {"style": "filled", "fillcolor": "#ffffff;0.5:#d9dde3", "gradientangle": "270"}
    beside = node.shape in ("dot", "factor")
    look |= {"label": ""} if beside else {}
    look |= {
        "xlabel" if beside else "label": _formula(node.label),
        "texlbl": f"${clean(node.label)}$",
    }
    return f"{_quoted(name)} [{_attributes(look)}];"


def _arrow(arrow: Arrow, ids: Mapping[str, str], *, ranks: bool) -> str:
    look: dict[str, str] = {}
    if arrow.inference:
        look["style"] = "dashed"
    if arrow.undirected:
        look["dir"] = "none"
    elif arrow.deterministic:
        look["arrowhead"] = "empty"
    if arrow.adversarial:
        look |= {"color": "#1d4ed8", "penwidth": "1.8"}
    if not ranks or arrow.level:
        look["constraint"] = "false"
    if arrow.label:
        look |= {"label": _formula(arrow.label), "texlbl": f"${clean(arrow.label)}$"}
    line = f"{_quoted(ids[arrow.source])} -> {_quoted(ids[arrow.target])}"
    return f"{line} [{_attributes(look)}];" if look else f"{line};"


class _Markup(str):
    """An HTML-like label, which stands without quotes."""

    __slots__ = ()


def _formula(latex: str) -> _Markup:
    """Write a formula as an HTML-like label, in which scripts stay scripts."""
    return _Markup(f"<{plain(latex, escape=escape, mark=_script) or ' '}>")


def _script(sign: str, script: str) -> str:
    tag = _TAGS[sign]
    return f"<{tag}>{script}</{tag}>" if script else ""


def _attributes(look: Mapping[str, str]) -> str:
    return ", ".join(
        f"{key}={value if isinstance(value, _Markup) else _quoted(value)}"
        for key, value in look.items()
    )


def _quoted(text: str) -> str:
    r"""Quote a string: a backslash or an ampersand would begin an escape of Graphviz."""
    safe = text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{safe}"'
