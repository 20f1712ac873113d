"""Print figures as a Mermaid flowchart: structure, laid out where the page is shown.

Flowcharts have no hollow heads and no arrows that do not rank nodes, and their boxes only nest.
A comment in the file says what was lost, and where.

References:
    Mermaid 11, https://mermaid.js.org/syntax/flowchart.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from daguerre.draw.clusters import Cluster, cluster_tree, lost_crossings
from daguerre.draw.notation import Arrow, Figure, Node
from daguerre.draw.plain import plain, shown

__all__ = ["mermaid"]

_SHAPES = {
    "random": ("((", "))"),
    "deterministic": ("{", "}"),
    "module": ("[[", "]]"),
    "double": ("(((", ")))"),
    "constant": ("[", "]"),
    "dot": ("[", "]"),
    "factor": ("[", "]"),
    "critic": ("((", "))"),
}
_STYLES = (
    "  classDef default fill:#ffffff,stroke:#1b1b22,color:#1b1b22",
    "  classDef observed fill:#d9dde3,stroke:#1b1b22,color:#1b1b22",
    "  classDef constant fill:none,stroke:none,color:#1b1b22",
    "  classDef partial fill:#eceef1,stroke:#1b1b22,color:#1b1b22",
    "  classDef critic fill:#ffffff,stroke:#1d4ed8,color:#1b1b22",
    "  classDef dot fill:none,stroke:none,color:#1b1b22",
    "  classDef factor fill:#1b1b22,stroke:#1b1b22,color:#ffffff",
    "  classDef plate fill:none,stroke:#767a85,color:#1b1b22",
    "  classDef scope fill:#b98a4a12,stroke:#b98a4a80,color:#7a5a2b",
    "  classDef panel fill:none,stroke:none,color:#1b1b22",
)
_MEANINGFUL = re.compile(r"[!-'*+\-./:;<>?@\[\\\]`{-~]")  # punctuation that Mermaid may read


def mermaid(figures: Sequence[Figure]) -> str:
    """Write figures as one flowchart, each in a subgraph of its own if there are several.

    Args:
        figures: What to draw.

    Raises:
        ValueError: A label that cannot be set.

    Example:
        >>> pair = Figure((Node("z", "z"), Node("x", "x")), (Arrow("z", "x", inference=True),))
        >>> print(mermaid([pair]).splitlines()[-1].strip())
        n1 -.-> n2
    """
    nodes = (node for figure in figures for node in figure.nodes)
    numbers = iter(f"n{i}" for i, _ in enumerate(nodes, 1))
    ids = [{node.name: next(numbers) for node in figure.nodes} for figure in figures]
    arrows = [
        (arrow, own[arrow.source], own[arrow.target])
        for figure, own in zip(figures, ids, strict=True)
        for arrow in figure.arrows
    ]
    lines = ["flowchart TB", *(f"%% {loss}" for loss in _losses(figures, arrows)), *_STYLES]
    boxes = count(1)
    for figure, own in zip(figures, ids, strict=True):
        body = _cluster(cluster_tree(figure), own, boxes)
        if len(figures) > 1 or figure.title:
            body = _box(next(boxes), _escape(shown(figure.title) or " "), "panel", body)
        lines += body
    lines += [f"  {_arrow(*entry)}" for entry in arrows]
    lines += [
        f"  linkStyle {i} stroke:#1d4ed8,stroke-width:2.5px"
        for i, (arrow, _, _) in enumerate(arrows)
        if arrow.adversarial
    ]
    return "\n".join(lines) + "\n"


def _losses(figures: Sequence[Figure], arrows: Sequence[tuple[Arrow, str, str]]) -> Iterator[str]:
    hollow = [f"{a} to {b}" for arrow, a, b in arrows if arrow.deterministic]
    if hollow:
        yield f"lost: the hollow heads of deterministic maps, at {', '.join(hollow)}"
    if any(node.partial for figure in figures for node in figure.nodes):
        yield "lost: the half shade of what is observed in part is a lighter one here"
    if any(arrow.inference or arrow.adversarial for arrow, _, _ in arrows):
        yield "lost: dashed arrows rank nodes here like all others"
    for figure in figures:
        for frame in lost_crossings(figure):
            members = ", ".join(_escape(shown(name)) for name in frame.members)
            name = _escape(shown(frame.name))
            yield f"lost: plate {name} crosses another and is in parts; it holds {members}"
        if figure.caption:
            yield f"cost: {_escape(plain(figure.caption))}"


def _cluster(cluster: Cluster, ids: Mapping[str, str], boxes: Iterator[int]) -> list[str]:
    lines = [f"  {_node(node, ids[node.name])}" for node in cluster.nodes]
    for inner in cluster.inner:
        lines += _cluster(inner, ids, boxes)
    if cluster.frame is None:
        return lines
    kind = "scope" if cluster.frame.scope else "plate"
    return _box(next(boxes), _escape(plain(cluster.frame.label)), kind, lines)


def _box(number: int, label: str, kind: str, lines: Sequence[str]) -> list[str]:
    body = (f"  {line}" for line in lines)
    return [
        f'  subgraph b{number}["{label}"]',
        "    direction TB",
        *body,
        "  end",
        f"  class b{number} {kind}",
    ]


def _node(node: Node, name: str) -> str:
    start, end = _SHAPES[node.shape]
    classes = ("constant", "critic", "dot", "factor")
    kinds = {"observed": node.observed, "partial": node.partial}
    kinds[node.shape] = node.shape in classes
    kind = next((f":::{kind}" for kind, holds in kinds.items() if holds), "")
    return f'{name}{start}"{_escape(plain(node.label))}"{end}{kind}'


def _arrow(arrow: Arrow, source: str, target: str) -> str:
    line = "-.->" if arrow.inference else "-->"
    if arrow.undirected:
        line = "-.-" if arrow.inference else "---"
    label = f'|"{_escape(plain(arrow.label))}"|' if arrow.label else ""
    return f"{source} {line}{label} {target}"


def _escape(text: str) -> str:
    """Write characters that could mean something by their number."""
    return _MEANINGFUL.sub(lambda match: f"#{ord(match.group())};", text) or " "
