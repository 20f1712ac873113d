"""Several nodes drawn as one: what becomes of arrows and frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from daguerre.draw.notation import Arrow, Figure, Frame, Node

__all__ = ["merged"]


def merged(
    figure: Figure, home: Mapping[str, str], made: Mapping[str, Node], frames: Iterable[Frame]
) -> Figure:
    """Draw nodes as the ones that they are part of.

    The arrows between two nodes become one for each process, and none is left within a node. An
    arrow into what was made is a map where that is a module. Nothing is asked of such a figure,
    so that it has no graph.

    Args:
        figure: The picture.
        home: Per node that is merged, the name of the node it is part of.
        made: These nodes, by name.
        frames: The frames that stay, with the members that they had.

    Example:
        >>> chain = Figure((Node("x", "x"), Node("a", "a"), Node("b", "b")), (Arrow("x", "a"),))
        >>> both = merged(chain, {"a": "m", "b": "m"}, {"m": Node("m", "m", "module")}, ())
        >>> [node.name for node in both.nodes], both.arrows[0].deterministic
        (['x', 'm'], True)
    """
    by_name = {node.name: node for node in figure.nodes} | dict(made)
    names = dict.fromkeys(home.get(node.name, node.name) for node in figure.nodes)
    return replace(
        figure,
        nodes=tuple(by_name[name] for name in names),
        arrows=tuple(_joined(figure.arrows, home, made)),
        frames=tuple(
            replace(f, members=tuple(dict.fromkeys(home.get(m, m) for m in f.members)))
            for f in frames
        ),
        graph=None,
    )


def _joined(
    arrows: Iterable[Arrow], home: Mapping[str, str], made: Mapping[str, Node]
) -> Iterable[Arrow]:
    found: dict[Arrow, Arrow] = {}
    for arrow in arrows:
        source, target = home.get(arrow.source, arrow.source), home.get(arrow.target, arrow.target)
        if source == target and source in made:
            continue
        is_map = made[target].shape == "module" if target in made else arrow.deterministic
        moved = replace(arrow, source=source, target=target, deterministic=is_map)
        key = replace(moved, label="")
        known = found.setdefault(key, moved)
        if known.label != moved.label:
            found[key] = key
    return found.values()
