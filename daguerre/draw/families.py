"""Which plates can be drawn together, and in which rows: all that nest, and crossing ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice

from daguerre.draw.notation import Arrow, Figure, Frame
from daguerre.draw.ranks import ranks
from daguerre.draw.shelves import shelved
from daguerre.draw.strands import parted
from daguerre.draw.strips import Crossing, crossing, parts
from daguerre.graph import GraphError

__all__ = ["Family", "abreast", "family"]

_LIFTS = 24  # ways to move a part above or below a plate that are tried for each plate

Members = Mapping[int, Sequence[str]]
Lifts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """A figure whose plates can all be drawn.

    Attributes:
        figure: Without the frames left out.
        rank: The row of each node.
        crossings: The plates that cross, those that hang together in one; numbered as in `figure`.
        left_out: Plates for which no rectangle was found.
    """

    figure: Figure
    rank: Mapping[str, int]
    crossings: tuple[Crossing, ...] = ()
    left_out: tuple[Frame, ...] = ()


def family(figure: Figure, down: Sequence[Arrow]) -> Family:
    """Choose rows and plates; whatever can be drawn is.

    Plates that cross come after all that nest, large ones first. Where the rows leave no room for
    one, a part of the plates that it crosses moves above or below another.

    Args:
        figure: What to draw.
        down: The arrows that point down.
    """
    rank = ranks(figure, down)
    members = {i: [n for n in f.members if n in rank] for i, f in enumerate(figure.frames)}
    members = {i: names for i, names in members.items() if names}
    crossed = {i for pair in _crossing_pairs(members) for i in pair}
    kept = [i for i in members if i not in crossed]
    lifts: Lifts = tuple(parted(figure, rank))
    rank = ranks(figure, down, above=lifts) if lifts else rank
    if shelves := shelved(figure, rank, _plates(figure, kept)):
        lifts = (*lifts, *shelves)
        rank = ranks(figure, down, above=lifts)
    arrows = [(a.source, a.target) for a in figure.arrows]
    for plate in sorted(crossed, key=lambda i: -len(members[i])):
        wider = {i: members[i] for i in sorted([*kept, plate])}
        for more in _tries(wider, plate, lifts):
            try:
                rows = ranks(figure, down, above=more)
            except GraphError:
                continue  # the part would stand above itself
            if _crossings(wider, rows, arrows) is not None:
                kept, rank, lifts = list(wider), rows, more
                break
    return _kept(figure, sorted(kept), members, rank)


def abreast(figure: Figure) -> Family:
    """Choose the plates that can be drawn where all nodes, critics too, stand in one row.

    Args:
        figure: What to draw.
    """
    rank = dict.fromkeys((node.name for node in figure.nodes), 0)
    members = {i: list(dict.fromkeys(f.members)) for i, f in enumerate(figure.frames)}
    crossed = {i for pair in _crossing_pairs(members) for i in pair}
    kept = [i for i in members if i not in crossed]
    for plate in sorted(crossed, key=lambda i: -len(members[i])):
        wider = sorted([*kept, plate])
        if _crossings({i: members[i] for i in wider}, rank, []) is not None:
            kept = wider
    return _kept(figure, kept, members, rank)


def _kept(
    figure: Figure, kept: Sequence[int], members: Members, rank: Mapping[str, int]
) -> Family:
    drawn = replace(figure, frames=tuple(figure.frames[i] for i in kept))
    left_out = tuple(f for i, f in enumerate(figure.frames) if i not in kept)
    arrows = [(a.source, a.target) for a in figure.arrows]
    found = _crossings({n: members[i] for n, i in enumerate(kept)}, rank, arrows)
    return Family(drawn, rank, tuple(found or ()), left_out)


def _plates(figure: Figure, kept: Sequence[int]) -> list[tuple[str, ...]]:
    frames = (figure.frames[i] for i in kept)
    return [frame.members for frame in frames if not frame.scope]


def _tries(members: Members, plate: int, lifts: Lifts) -> Iterator[Lifts]:
    """Propose pairs (upper, lower) of nodes: those known, and then one part moved."""
    yield lifts
    (group,) = [group for group in _groups(members) if plate in group]
    inner = {i: members[i] for i in group}
    moves = (
        [(a, b) for a in upper for b in lower]
        for plates, part in parts(inner).items()
        for i in group
        if i not in plates
        for upper, lower in ((part, inner[i]), (inner[i], part))
    )
    for move in islice(moves, _LIFTS):
        yield (*lifts, *move)


def _crossings(
    members: Members, rank: Mapping[str, int], arrows: Sequence[tuple[str, str]]
) -> list[Crossing] | None:
    result = []
    for group in _groups(members):
        if len(group) > 1:
            found = crossing({i: members[i] for i in group}, rank, arrows)
            if found is None:
                return None
            result.append(found)
    return result


def _groups(members: Members) -> list[list[int]]:
    """Return the plates that hang together by crossing one another."""
    group = {i: [i] for i in members}
    for a, b in _crossing_pairs(members):
        if group[a] is not group[b]:
            group[a] += group[b]
            for i in group[b]:
                group[i] = group[a]
    return [sorted(g) for i, g in group.items() if i == min(g)]


def _crossing_pairs(members: Members) -> Iterator[tuple[int, int]]:
    sets = {i: set(names) for i, names in members.items()}
    for a, b in combinations(members, 2):
        one, other = sets[a], sets[b]
        if not one.isdisjoint(other) and not one <= other and not other <= one:
            yield a, b
