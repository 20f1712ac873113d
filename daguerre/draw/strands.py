"""Chains over time that would share a row: each has a row of its own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, product

from daguerre.draw.notation import Figure

__all__ = ["parted"]


def parted(figure: Figure, rank: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return pairs (upper, lower) of nodes that part the chains of one row.

    Args:
        figure: What to draw; its level arrows make the chains.
        rank: The row of each node before.

    Example:
        >>> from daguerre.draw.notation import Arrow, Node
        >>> nodes = tuple(Node(name, name) for name in ("a", "b", "c", "d"))
        >>> chains = (Arrow("a", "b", level=True), Arrow("d", "c", level=True))
        >>> parted(Figure(nodes, chains), dict.fromkeys("abcd", 0))
        [('a', 'c'), ('b', 'd'), ('a', 'd')]
    """
    chain: dict[str, list[str]] = {}
    for arrow in figure.arrows:
        if arrow.level and rank.get(arrow.source, -1) == rank.get(arrow.target):
            one, other = (chain.setdefault(n, [n]) for n in (arrow.source, arrow.target))
            if one is not other:
                one += other
                chain.update(dict.fromkeys(other, one))
    rows: dict[int, dict[int, list[str]]] = {}
    for name in (node.name for node in figure.nodes if node.name in chain):
        rows.setdefault(rank[name], {}).setdefault(id(chain[name]), []).append(name)
    found = (
        pair
        for row in rows.values()
        for upper, lower in pairwise(row.values())
        for pair in (*zip(upper, lower, strict=False), *product(upper[:1], lower))
    )
    return list(dict.fromkeys(found))
