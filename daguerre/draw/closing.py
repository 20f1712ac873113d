"""Closing the scopes of a net: what lies deeper than asked becomes one box a module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from daguerre.draw.merging import merged
from daguerre.draw.notation import Figure, Frame, Node

__all__ = ["Closed", "closed", "deepest"]


class Closed(NamedTuple):
    """A figure whose deeper scopes are nodes, and what each of these holds."""

    figure: Figure
    holds: Mapping[str, tuple[str, ...]]


def deepest(figure: Figure) -> int:
    """Return how many scopes lie in one another at most; 0 where there are none.

    Example:
        >>> from daguerre.draw.notation import figure
        >>> from daguerre.graph import Graph
        >>> deepest(figure(Graph.from_edges([("x", "net.0"), ("net.0", "net.1")])))
        1
    """
    return max(_levels(figure).values(), default=0)


def closed(figure: Figure, depth: int) -> Closed:
    """Draw each scope that lies deeper than asked as one node, called by the scope's name.

    It is a box where everything in it is a map, and round where something in it is random.

    Args:
        figure: A picture of a net.
        depth: Scopes in one another that stay open.

    Example:
        >>> from daguerre.draw.notation import figure
        >>> from daguerre.graph import Graph
        >>> mlp = figure(Graph.from_edges([("x", "net.0"), ("net.0", "net.1")]))
        >>> shown, holds = closed(mlp, 0)
        >>> [node.name for node in shown.nodes], holds
        (['x', 'net'], {'net': ('net.0', 'net.1')})
    """
    levels = _levels(figure)
    shut = [f for f in figure.frames if f.scope and levels[f.name] == depth + 1]
    if not shut:
        return Closed(figure, {})
    inside = {name for frame in shut for name in frame.members}
    by_name = {node.name: node for node in figure.nodes}
    outside = by_name.keys() - inside  # a variable may be called as the scope
    boxes = {f"{f.name} (module)" if f.name in outside else f.name: f for f in shut}
    seat = {name: box for box, frame in boxes.items() for name in frame.members}
    made = {name: _box(name, frame, by_name) for name, frame in boxes.items()}
    shown = merged(figure, seat, made, (f for f in figure.frames if _stays(f, shut)))
    return Closed(shown, {box: frame.members for box, frame in boxes.items()})


def _levels(figure: Figure) -> dict[str, int]:
    scopes = {frame.name: {*frame.members} for frame in figure.frames if frame.scope}
    return {
        name: sum(members <= others for others in scopes.values())
        for name, members in scopes.items()
    }


def _box(name: str, scope: Frame, nodes: Mapping[str, Node]) -> Node:
    maps = all(nodes[n].shape in ("deterministic", "module") for n in scope.members)
    return Node(name, scope.label, "module" if maps else "random")


def _stays(frame: Frame, shut: Iterable[Frame]) -> bool:
    """Whether a frame neither is closed nor lies in a closed scope."""
    members = {*frame.members}
    for inner in map(set, (scope.members for scope in shut)):
        outside = members > inner or (members == inner and not frame.scope)
        if members & inner and not outside:
            return False
    return True
