"""Columns: an exact L1 problem in which the borders of plates are unknowns too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from daguerre.draw.bodies import Body
from daguerre.draw.formula import Outline
from daguerre.draw.layers import Layers
from daguerre.draw.order import Token
from daguerre.draw.simplex import Gap, Pull, arrange, straightened
from daguerre.draw.strips import Border

__all__ = ["PAD", "Columns", "Door", "columns", "doors"]

PAD = 16  # from a plate's border to what it holds
_NODES = 34  # between the outlines of neighbours
_BENDS = 22  # around the bend of a long arrow
_OUTSIDE = 26  # from a plate's border to a stranger
_NAME = 20  # from the end of a scope's name to what enters beside it
_PULLS = (6, 12, 48)  # of an arrow by the number of its ends that are bends
_CHAIN, _ASIDE = 24, 4  # in a net: of what runs on from module to module, of noise beside it


class Door(NamedTuple):
    """A step of an arrow into a scope through its top, beside the scope's name."""

    scope: int
    above: int
    below: int


class Columns(NamedTuple):
    """The x of each vertex, and of the left and right border of each plate."""

    vertices: tuple[float, ...]
    borders: tuple[tuple[float, float], ...]


def columns(
    layers: Layers,
    rows: Sequence[Sequence[Token]],
    bodies: Sequence[Body],
    labels: Sequence[Outline],
    leans: Sequence[tuple[Door, float]],
    room: int = 0,
) -> Columns:
    """Place vertices and borders from left to right.

    Args:
        layers: The skeleton.
        rows: The order in each row.
        bodies: Outlines of the nodes, which are the first vertices.
        labels: The type of each plate.
        leans: The doors, each with how far left of its end the arrow comes by the name.
        room: Pixels between neighbours more than usual.
    """
    count = len(layers.row)

    def variable(token: Token | Border) -> int:
        if token.kind == "vertex":
            return token.which
        return count + 2 * token.which + (token.kind == "close")

    gaps = [
        Gap(variable(a), variable(b), _distance(a, b, bodies) + room)
        for row in rows
        for a, b in pairwise(row)
    ]
    pulls = list(_pulls(layers, bodies))
    for door, lean in leans:
        name = ceil(labels[door.scope].width + lean) + _NAME
        gaps.append(Gap(count + 2 * door.scope, door.below, name))
    for plate, label in enumerate(labels):
        left = count + 2 * plate
        pulls.append(Pull(left, left + 1, 2))
        if plate in layers.nesting.group_of:
            a, b = map(variable, _slot(layers, plate, rows))
            gaps.append(Gap(a, b, ceil(label.width) + 2 * PAD))
        else:
            gaps.append(Gap(left, left + 1, _least_width(layers, plate, label)))
    gaps = _widest(gaps)
    xs = straightened(arrange(count + 2 * len(labels), gaps, pulls).middle, gaps, pulls)
    return Columns(xs[:count], tuple(zip(xs[count::2], xs[count + 1 :: 2], strict=True)))


def doors(layers: Layers) -> list[Door]:
    """List where arrows enter scopes through the top."""
    return [
        Door(scope, a, b)
        for a, b in layers.links
        for scope in layers.nesting.around(layers.home[b])
        if layers.scopes[scope] and layers.spans[scope][0] == layers.row[b]
    ]


def _slot(layers: Layers, plate: int, rows: Sequence[Sequence[Token]]) -> tuple[Border, Border]:
    """Return the borders between which the label of a plate that crosses others stands."""
    crossing, row = layers.nesting.groups[layers.nesting.group_of[plate]], layers.spans[plate][1]
    foot = [t for t in rows[row] if t.kind != "vertex" and t.which in crossing.reach]
    along = [b for b in crossing.along() if b in foot or b.turned in foot]
    left, right = crossing.slots[plate]
    if foot != [b for b in along if b.kind != "strip"]:
        left, right = right.turned, left.turned
    return left, right


def _widest(gaps: Sequence[Gap]) -> list[Gap]:
    """Keep the widest of the gaps that each pair must have; rows repeat most of them."""
    most: dict[tuple[int, int], int] = {}
    for before, after, distance in gaps:
        most[before, after] = max(distance, most.get((before, after), 0))
    return [Gap(*pair, distance) for pair, distance in most.items()]


def _least_width(layers: Layers, plate: int, label: Outline) -> int:
    """Leave room for the label of a plate beside an arrow that leaves it in the middle."""
    last = layers.spans[plate][1]
    leaves = not layers.scopes[plate] and any(
        layers.row[a] == last
        and plate in layers.nesting.around(layers.home[a])
        and plate not in layers.nesting.around(layers.home[b])
        for a, b in layers.links
    )
    return ceil(label.width + PAD) * (2 if leaves else 1) + PAD


def _distance(a: Token, b: Token, bodies: Sequence[Body]) -> int:
    halves = [
        bodies[t.which].width if t.kind == "vertex" and t.which < len(bodies) else 0
        for t in (a, b)
    ]
    if a.kind == b.kind == "vertex":
        gap = _NODES if all(halves) else _BENDS
    else:
        leaves = a.kind == "close" and b.kind != "close"
        enters = b.kind == "open" and a.kind != "open"
        gap = _OUTSIDE if leaves or enters else PAD
    return ceil(sum(halves)) + gap


def _pulls(layers: Layers, bodies: Sequence[Body]) -> Iterator[Pull]:
    """Pull at long arrows most, at their bends above all, and then at chains of modules."""
    below, above = Counter(a for a, _ in layers.links), Counter(b for _, b in layers.links)
    for a, b in layers.links:
        bends = layers.is_bend(a) + layers.is_bend(b)
        of_net = all(bodies[v].rise for v in (a, b) if not layers.is_bend(v))
        runs_on = bends == 1 or below[a] == above[b] == 1
        is_aside = not (bends or above[a] or bodies[a].rise) and bodies[b].rise and above[b] > 1
        weight = _CHAIN if of_net and runs_on and bends < 2 else _PULLS[bends]
        yield Pull(a, b, _ASIDE if is_aside else weight)
