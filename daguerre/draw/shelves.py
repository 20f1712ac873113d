"""What is joined to nothing beside it, on shelves: as wide as high instead of one long row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

from daguerre.draw.notation import Figure

__all__ = ["shelved"]

_WIDEST = 12  # nodes that may stand in a row
_ASPECT = 1.5  # of the height of a row to the width of a column


def shelved(
    figure: Figure, rank: Mapping[str, int], plates: Iterable[Collection[str]]
) -> list[tuple[str, str]]:
    """Return pairs (upper, lower) of nodes that break long rows.

    In a plate, and on the page, nodes that arrows join are a block. Blocks that no arrow leaves
    and that reach into no inner plate or scope fill shelves, tall ones first.

    Args:
        figure: What to draw.
        rank: The row of each node before.
        plates: The members of each plate whose rows may be broken.

    Example:
        >>> from daguerre.draw.notation import figure
        >>> from daguerre.graph import Graph
        >>> names = [f"v_{i}" for i in range(20)]
        >>> shelved(figure(Graph.from_edges([], nodes=names)), dict.fromkeys(names, 0), [])[0]
        ('v_0', 'v_5')
    """
    pairs = [(a.source, a.target) for a in figure.arrows]
    boxes = [[n for n in frame.members if n in rank] for frame in figure.frames]
    page = [node.name for node in figure.nodes if node.name in rank]
    result: list[tuple[str, str]] = []
    for held in dict.fromkeys(frozenset(rank).intersection(box) for box in (page, *plates)):
        inner = {
            n for names in boxes if held.issuperset(names) and held != {*names} for n in names
        }
        fixed = inner | {end for pair in pairs for end in pair if not held.issuperset(pair)}
        blocks = _blocks([name for name in page if name in held], pairs)
        loose = [_Block.of(names, rank) for names in blocks if fixed.isdisjoint(names)]
        result += _below(_shelves(sorted(loose, key=lambda b: -b.height)))
    return result


class _Block(NamedTuple):
    """Nodes that hang together: the first and last in height, and how many rows and columns."""

    tops: Sequence[str]
    lowest: str
    width: int
    height: int

    @classmethod
    def of(cls, names: Sequence[str], rank: Mapping[str, int]) -> _Block:
        rows = Counter(rank[name] for name in names)
        tops = [name for name in names if rank[name] == min(rows)]
        lowest = max(names, key=rank.__getitem__)
        return cls(tops, lowest, max(rows.values()), max(rows) - min(rows) + 1)


def _blocks(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Split names into those that hang together, each in its order."""
    block = {name: [name] for name in names}
    for a, b in pairs:
        if a in block and b in block and block[a] is not block[b]:
            small, large = sorted((block[a], block[b]), key=len)
            large += small
            block.update(dict.fromkeys(small, large))
    place = {name: i for i, name in enumerate(names)}
    found = {id(b): b for b in (block[name] for name in names)}
    return [sorted(b, key=place.__getitem__) for b in found.values()]


def _shelves(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """Fill shelves of one width; none where all blocks fit into a row."""
    if sum(block.width for block in blocks) <= _WIDEST:
        return []
    area = sum(block.width * block.height for block in blocks)
    most = max(sqrt(_ASPECT * area), *(block.width for block in blocks))
    shelves: list[list[_Block]] = [[]]
    for block in blocks:
        if sum(b.width for b in (*shelves[-1], block)) > most and shelves[-1]:
            shelves.append([])
        shelves[-1].append(block)
    return shelves


def _below(shelves: Sequence[Sequence[_Block]]) -> Iterator[tuple[str, str]]:
    for upper, lower in pairwise(shelves):
        tallest = max(upper, key=lambda block: block.height)
        yield from ((tallest.lowest, name) for block in lower for name in block.tops)
