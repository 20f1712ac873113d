"""The cell of a node on a staircase: a lane for each arrow, and a private place for each label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import pi, sqrt

from daguerre.draw.annotate import small
from daguerre.draw.bodies import Body
from daguerre.draw.formula import Outline
from daguerre.draw.notation import Arrow

__all__ = ["LANE", "SPACE", "Cell", "cell"]

LANE = 14.0  # pixels between arrows side by side
SPACE = 8.0  # around a label, and around a cell
_FAN = 22.0  # in which arrows spread from a node to their lanes
_HEAD = 9.0  # pixels between neighbouring heads
_QUARTER = pi / 2  # of the outline, for the heads on one side


@dataclass(frozen=True, slots=True)
class Cell:
    """What one node has for itself, measured from its centre.

    Attributes:
        body: Its outline, so large that its heads have room.
        rows: The y of the lane of each arrow that leaves, on the left or on the right.
        columns: The x of the lane of each that arrives, from above or from below.
        heads: Its angle from the vertical, clockwise above and anticlockwise below.
        loops: Its arrows to itself, inner ones first; each has a lane around the upper right.
        half: Half the width and height of the square in which arrows reach their lanes.
        beside: Width of the labels on the left, and on the right.
        tag: The y of the middle of its name on the right, if it cannot hold it.
    """

    body: Body
    rows: Mapping[Arrow, float]
    columns: Mapping[Arrow, float]
    heads: Mapping[Arrow, float]
    loops: Sequence[Arrow]
    half: tuple[float, float]
    beside: tuple[float, float]
    tag: float

    @property
    def left(self) -> float:
        """Reach to the left."""
        return self.half[0] + self.beside[0] + SPACE

    @property
    def right(self) -> float:
        """Reach to the right."""
        return self.half[0] + self.beside[1] + LANE * len(self.loops) + SPACE

    @property
    def above(self) -> float:
        """Reach upwards."""
        return self.half[1] + LANE * len(self.loops) + SPACE

    @property
    def below(self) -> float:
        """Reach downwards."""
        return self.half[1] + SPACE


def cell(
    name: str, place: Mapping[str, int], arrows: Iterable[Arrow], body: Body, tag: Outline | None
) -> Cell:
    """Give each arrow at a node its lane, in an order in which none crosses without need.

    Args:
        name: The node.
        place: Where each node stands along the staircase.
        arrows: All arrows, each once.
        body: The outline of the node, which grows where it has many heads.
        tag: The name of a node that cannot hold it.
    """
    out = [a for a in arrows if a.source == name]
    into = [a for a in arrows if a.target == name][::-1]
    loops = [a for a in out if a.target == name]
    here = place[name]
    out.sort(key=lambda a: -place[a.target])
    into.sort(key=lambda a: -place[a.source])
    right = loops + [a for a in out if place[a.target] > here]
    left = [a for a in out if place[a.target] < here]
    top = [a for a in into if place[a.source] < here] + loops[::-1]
    bottom = [a for a in into if place[a.source] > here]
    body = _grown(body, max(len(top), len(bottom), len(right) // 2, len(left) // 2))
    first = tag.height + LANE if tag else 0.0
    rows = _lanes(right, first) | _lanes(left)
    widest, tallest = max(len(top), len(bottom)) * LANE / 2, max([first, *map(abs, rows.values())])
    labels = [*(small(a.label) for a in right if a.label), *([tag] if tag else [])]
    return Cell(
        body,
        rows,
        _spread(top, LANE) | _spread(bottom, LANE),
        _spread(top, _angle(body, len(top))) | _spread(bottom, _angle(body, len(bottom))),
        loops,
        (max(body.width, widest, tallest) + _FAN, max(body.height, tallest + LANE) + _FAN),
        (_width(small(a.label) for a in left if a.label), _width(labels)),
        (first - sum(map(_pitch, right)) - LANE) / 2 - first / 2,
    )


def _lanes(arrows: Sequence[Arrow], first: float = 0.0) -> dict[Arrow, float]:
    """Stack the lanes on one side, each under its label, and all under what comes first."""
    pitches = list(map(_pitch, arrows))
    middle = (first + sum(pitches) - LANE) / 2
    ends = accumulate(pitches, initial=first - LANE - middle)
    return dict(zip(arrows, list(ends)[1:], strict=True))


def _pitch(arrow: Arrow) -> float:
    return LANE + (small(arrow.label).height if arrow.label else 0.0)


def _spread(arrows: Sequence[Arrow], step: float) -> dict[Arrow, float]:
    middle = (len(arrows) - 1) / 2
    return {arrow: (i - middle) * step for i, arrow in enumerate(arrows)}


def _angle(body: Body, heads: int) -> float:
    """Return the angle between neighbouring heads on one side."""
    return min(_QUARTER / max(heads, 1), 1.4 * _HEAD / _least(body))


def _grown(body: Body, heads: int) -> Body:
    """Enlarge an outline until a quarter of it has room for some heads."""
    more = max(heads * _HEAD / _QUARTER - _least(body), 0.0) if heads > 1 else 0.0
    if body.rise:
        return replace(body, stretch=body.stretch + more, rise=body.rise + more)
    return replace(body, radius=body.radius + more * (sqrt(2) if body.pointed else 1))


def _least(body: Body) -> float:
    """Return the least distance from the centre to the outline."""
    return body.radius / sqrt(2) if body.pointed else min(body.width, body.height)


def _width(outlines: Iterable[Outline]) -> float:
    return max((outline.width + 2 * SPACE for outline in outlines), default=0.0)
