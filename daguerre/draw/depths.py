"""Fewer levels of modules: what lies deeper becomes one node for each module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from daguerre.draw.labels import path
from daguerre.draw.merging import merged
from daguerre.draw.notation import Figure, Node, named
from daguerre.draw.scopes import short

__all__ = ["collapsed"]


def collapsed(figure: Figure, depth: int) -> Figure:
    r"""Picture a net to some depth: `layer1.0.conv1` at depth 2 is part of a node `layer1.0`.

    A module that draws random numbers becomes a random variable, any other a map. One that the
    data leaves and enters again stays as it is: as one node it would be its own ancestor.

    Args:
        figure: The picture in full.
        depth: How many levels of modules to look into, from 1.

    Raises:
        ValueError: A depth below 1.

    Example:
        >>> from daguerre.draw.notation import figure
        >>> from daguerre.graph import Graph
        >>> chain = [("x", "net.0.conv"), ("net.0.conv", "net.0.relu"), ("net.0.relu", "fc")]
        >>> [node.name for node in collapsed(figure(Graph.from_edges(chain)), 1).nodes]
        ['x', 'net', 'fc']
    """
    if depth < 1:
        raise ValueError(f"depth counts levels of modules from 1, not {depth}")
    groups: dict[str, list[str]] = {}
    for node in figure.nodes:
        groups.setdefault(".".join(path(node.name)[:depth]), []).append(node.name)
    home = {node.name: node.name for node in figure.nodes}
    for name, members in groups.items():
        tried = {**home, **dict.fromkeys(members, name)}
        if members != [name] and not _comes_back(figure, tried, name):
            home = tried
    if all(name == node for node, name in home.items()):
        return figure
    whole = {*home.values()}
    frames = [f for f in figure.frames if not f.scope or not _within(f.name, whole)]
    return merged(figure, home, _made(figure, home, {f.name for f in frames if f.scope}), frames)


def _comes_back(figure: Figure, home: Mapping[str, str], name: str) -> bool:
    """Say whether a path leaves a merged node and ends in it."""
    below: dict[str, list[str]] = {}
    for a in figure.arrows:
        if not a.inference and home[a.source] != home[a.target]:
            below.setdefault(home[a.source], []).append(home[a.target])
    seen, frontier = {name}, list(below.get(name, ()))
    while frontier:
        one = frontier.pop()
        if one == name:
            return True
        if one not in seen:
            seen.add(one)
            frontier += below.get(one, ())
    return False


def _within(name: str, merged: Iterable[str]) -> bool:
    parts = path(name)
    return any(".".join(parts[:k]) in merged for k in range(1, len(parts) + 1))


def _made(figure: Figure, home: Mapping[str, str], scopes: set[str]) -> dict[str, Node]:
    """Return the node of each module."""
    inner: dict[str, list[Node]] = {}
    for node in figure.nodes:
        inner.setdefault(home[node.name], []).append(node)
    titles = {frame.name: frame.label for frame in figure.frames if frame.repeats > 1}
    kinds = {frame.name: frame.kind for frame in figure.frames}
    made = {}
    for name, members in inner.items():
        if [member.name for member in members] == [name]:
            continue
        is_random = any(member.shape in ("random", "critic") for member in members)
        shape, kind = "random" if is_random else "module", kinds.get(name, "")
        written = titles.get(name) or named(short(name, scopes), kind)
        seen = any(member.observed for member in members)
        made[name] = Node(name, written, shape, seen, kind=kind)
    return made
