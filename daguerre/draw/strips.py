"""Crossing plates side by side: an order of their parts in which every plate is an interval.

The nodes of plates that cross are split into parts, one for each combination of plates. Parts
stand in strips from left to right. A part that is not in a plate, but reaches its rows, must stand
left or right of it: where each plate has rows of its own, that asks less than the consecutive ones
of Booth and Lueker (1976). The order with the shortest arrows is found by a best-first search over
prefixes, as in the dynamic programme of Held and Karp (1962).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice, permutations
from typing import Literal, NamedTuple

__all__ = ["Border", "Crossing", "crossing", "levels", "parts"]

_PREFIXES = 5000  # that are looked at before an order counts as not to be found
_FEET = 200  # orders of the feet that are tried

Span = tuple[int, int]


class Border(NamedTuple):
    """What one meets walking along all strips: the border of a plate, or a strip."""

    kind: Literal["open", "strip", "close"]
    which: int

    @property
    def turned(self) -> Border:
        """What it is when the strips are read from right to left."""
        kinds: dict[str, Literal["open", "strip", "close"]] = {"open": "close", "close": "open"}
        return Border(kinds.get(self.kind, self.kind), self.which)


@dataclass(frozen=True, slots=True)
class Crossing:
    """Plates that cross, each an interval of strips and of rows.

    Attributes:
        strips: Names of the nodes of each strip, from left to right.
        reach: First and last strip of each plate.
        spans: First and last row of each plate.
        heads: For each plate, how far out its upper border lies among those that open beside it.
        feet: The same of its lower border.
        slots: For each plate the borders between which, at its foot, it is alone.
    """

    strips: tuple[tuple[str, ...], ...]
    reach: Mapping[int, Span]
    spans: Mapping[int, Span]
    heads: Mapping[int, int]
    feet: Mapping[int, int]
    slots: Mapping[int, tuple[Border, Border]]

    def along(self) -> list[Border]:
        """List strips and borders from left to right; each row shows some of them."""
        return list(_along(len(self.strips), self.reach))


def parts(members: Mapping[int, Sequence[str]]) -> dict[tuple[int, ...], tuple[str, ...]]:
    """Split nodes by the plates that hold them.

    Example:
        >>> parts({0: ["a", "ab"], 1: ["b", "ab"]})
        {(0,): ('a',), (0, 1): ('ab',), (1,): ('b',)}
    """
    around: dict[str, list[int]] = {}
    for plate, names in members.items():
        for name in names:
            around.setdefault(name, []).append(plate)
    found: dict[tuple[int, ...], list[str]] = {}
    for name, plates in around.items():
        found.setdefault(tuple(plates), []).append(name)
    return {plates: tuple(names) for plates, names in found.items()}


def crossing(
    members: Mapping[int, Sequence[str]],
    rank: Mapping[str, int],
    arrows: Sequence[tuple[str, str]],
) -> Crossing | None:
    """Arrange plates that cross, or return nothing where no such rectangles were found.

    Args:
        members: Names of the nodes in each plate; the plates hang together.
        rank: Row of each node.
        arrows: Pairs of nodes that want to stand close.

    Example:
        >>> found = crossing({0: ["a", "y"], 1: ["b", "y"]}, {"a": 0, "b": 0, "y": 1}, [])
        >>> found.strips if found else None
        (('a',), ('y',), ('b',))
    """
    spans = {p: (min(r), max(r)) for p, m in members.items() for r in [[rank[n] for n in m]]}
    split = parts(members)
    names, inside = list(split.values()), [set(plates) for plates in split]
    holds = {p: _mask(p in plates for plates in inside) for p in members}
    walls = [
        [holds[p] for p in members if _blocks(p, plates, [rank[n] for n in part], members, spans)]
        for part, plates in zip(names, inside, strict=True)
    ]
    order = _shortest(_weights(names, arrows), walls)
    if order is None:
        return None
    places = {p: [i for i, part in enumerate(order) if p in inside[part]] for p in members}
    reach = {p: (min(at), max(at)) for p, at in places.items()}
    strips = tuple(names[part] for part in order)
    by_size = sorted(members, key=lambda p: (len(members[p]), -p))
    for lower in islice(permutations(by_size), _FEET):
        if not _nested(lower, members):
            continue
        feet = levels(lower, reach, {p: spans[p][1] for p in members})
        slots = {p: _slot(p, members, reach, spans, feet) for p in members}
        if all(slots.values()):
            heads = levels(by_size, reach, {p: spans[p][0] for p in members})
            known = {p: slot for p, slot in slots.items() if slot}
            return Crossing(strips, reach, spans, heads, feet, known)
    return None


def levels(
    order: Sequence[int], reach: Mapping[int, Span], row: Mapping[int, int]
) -> dict[int, int]:
    """Count for each border how many lie within it: of plates in the same row and strips.

    Example:
        >>> levels([0, 1, 2], {0: (0, 1), 1: (1, 2), 2: (2, 3)}, {0: 0, 1: 0, 2: 5})
        {0: 1, 1: 2, 2: 1}
    """
    result: dict[int, int] = {}
    for p in order:
        below = (result[q] for q in result if row[p] == row[q] and _overlap(reach[p], reach[q]))
        result[p] = 1 + max(below, default=0)
    return result


def _along(count: int, reach: Mapping[int, Span]) -> Iterator[Border]:
    def outward(plate: int) -> tuple[int, int]:
        return reach[plate][0] - reach[plate][1], plate

    for strip in range(count):
        first = sorted((p for p in reach if reach[p][0] == strip), key=outward)
        last = sorted((p for p in reach if reach[p][1] == strip), key=outward, reverse=True)
        yield from (Border("open", p) for p in first)
        yield Border("strip", strip)
        yield from (Border("close", p) for p in last)


def _blocks(
    plate: int,
    around: set[int],
    rows: Sequence[int],
    members: Mapping[int, Sequence[str]],
    spans: Mapping[int, Span],
) -> bool:
    """Say whether a part must stand beside a plate: it, or a plate around it that is apart."""
    if plate in around:
        return False
    first, last = spans[plate]
    apart = any(
        _overlap(spans[plate], spans[other]) and not {*members[plate]} & {*members[other]}
        for other in around
    )
    return apart or any(first <= row <= last for row in rows)


def _weights(names: Sequence[Sequence[str]], arrows: Sequence[tuple[str, str]]) -> list[list[int]]:
    part = {name: i for i, part in enumerate(names) for name in part}
    result = [[0] * len(names) for _ in names]
    for a, b in arrows:
        if a in part and b in part:
            result[part[a]][part[b]] += 1
            result[part[b]][part[a]] += 1
    return result


def _shortest(
    weights: Sequence[Sequence[int]], walls: Sequence[Sequence[int]]
) -> list[int] | None:
    """Order items so that each set that an item is kept out of lies on one side of it.

    Args:
        weights: How much each two items want to be close.
        walls: For each item, sets of others as masks.
    """
    count = len(weights)
    queue: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    done: set[int] = set()
    while queue and len(done) < _PREFIXES:
        cost, order = heappop(queue)
        placed = sum(1 << item for item in order)
        if len(order) == count:
            return list(order)
        if placed in done:
            continue
        done.add(placed)
        rest = [item for item in range(count) if not placed >> item & 1]
        for item in rest:
            if all(placed & held in (0, held) for held in walls[item]):
                cut = sum(weights[a][b] for a in (*order, item) for b in rest if b != item)
                heappush(queue, (cost + cut, (*order, item)))
    return None


def _nested(order: Sequence[int], members: Mapping[int, Sequence[str]]) -> bool:
    """Say whether of two plates, one in the other, the inner one comes first."""
    return not any(
        _holds(earlier, later, members)
        for i, earlier in enumerate(order)
        for later in order[i + 1 :]
    )


def _holds(outer: int, inner: int, members: Mapping[int, Sequence[str]]) -> bool:
    one, other = {*members[outer]}, {*members[inner]}
    return outer != inner and one >= other and (one > other or outer < inner)


def _slot(
    plate: int,
    members: Mapping[int, Sequence[str]],
    reach: Mapping[int, Span],
    spans: Mapping[int, Span],
    feet: Mapping[int, int],
) -> tuple[Border, Border] | None:
    """Return the rightmost stretch of a plate's foot, with nodes if one has, in no other plate."""
    row = spans[plate][1]
    rivals = {
        q
        for q in members
        if q != plate and spans[q][0] <= row and not _holds(q, plate, members)
        if (spans[q][1], feet[q]) >= (row, feet[plate])
    }
    found: list[tuple[int, Border, Border]] = []
    start, strips, over = Border("open", plate), 0, set[int]()
    is_in = False
    for border in _along(1 + max(last for _, last in reach.values()), reach):
        ends = border.which == plate and border.kind != "strip"
        is_in = is_in or ends
        if border.kind == "strip":
            strips += 1
        elif ends or border.which in rivals:
            if is_in and not over and border != Border("open", plate):
                found.append((strips, start, border))
            over ^= {border.which} - {plate}
            start, strips = border, 0
            if border == Border("close", plate):
                break
    if not found:
        return None
    _, left, right = max(reversed(found), key=lambda slot: slot[0] > 0)
    return left, right


def _mask(flags: Iterator[bool]) -> int:
    return sum(flag << i for i, flag in enumerate(flags))


def _overlap(one: Span, other: Span) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
