"""A placed figure: numbers only, computed once, printed by every writer.

Pixels, x to the right and y downwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from daguerre.draw.bodies import Body
from daguerre.draw.curves import Curve, Point
from daguerre.draw.formula import Outline
from daguerre.draw.notation import Arrow, Frame, Node

__all__ = ["Box", "Picture", "PlacedFrame", "PlacedNode", "PlacedPath", "PlacedType"]


class Box(NamedTuple):
    """An upright rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, points: Iterable[Point], *, margin: float = 0.0) -> Box:
        """Return the smallest box around some points, widened by a margin."""
        points = list(points)
        xs, ys = [p.x for p in points], [p.y for p in points]
        return cls(min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin)

    @property
    def corners(self) -> tuple[Point, Point]:
        """The top left and the bottom right corner."""
        return Point(self.left, self.top), Point(self.right, self.bottom)

    def holds(self, point: Point) -> bool:
        """Say whether a point lies inside."""
        return self.left < point.x < self.right and self.top < point.y < self.bottom

    def meets(self, other: Box, *, margin: float = 0.0) -> bool:
        """Say whether two boxes come nearer than a margin."""
        across = self.left < other.right + margin and other.left < self.right + margin
        return across and self.top < other.bottom + margin and other.top < self.bottom + margin


@dataclass(frozen=True, slots=True)
class PlacedType:
    """A line of type whose baseline starts at `origin`."""

    source: str
    outline: Outline
    origin: Point

    @property
    def box(self) -> Box:
        """The rectangle that the type fills."""
        x, y = self.origin
        o = self.outline
        return Box(x, y - o.ascent, x + o.width, y + o.descent)


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """A node: the outline around its centre, and its label."""

    node: Node
    centre: Point
    body: Body
    label: PlacedType

    @property
    def box(self) -> Box:
        """The rectangle around the outline."""
        (x, y), body = self.centre, self.body
        return Box(x - body.width, y - body.height, x + body.width, y + body.height)


@dataclass(frozen=True, slots=True)
class PlacedPath:
    """An arrow: its line, cut at the base of the head, and the tip of the head."""

    arrow: Arrow
    curve: Curve
    tip: Point
    label: PlacedType | None = None


@dataclass(frozen=True, slots=True)
class PlacedFrame:
    """A plate: its border and its label."""

    frame: Frame
    box: Box
    label: PlacedType


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that a writer prints.

    Attributes:
        box: The rectangle that holds it all.
        nodes: In the order of the figure.
        paths: In the order of the figure.
        frames: Outer plates first.
        axis: The x around which the nodes are centred.
        baseline: The y of the lowest row of nodes.
        notes: Lines under it, on plates that have no rectangle.
    """

    box: Box
    nodes: tuple[PlacedNode, ...]
    paths: tuple[PlacedPath, ...]
    frames: tuple[PlacedFrame, ...]
    axis: float
    baseline: float
    notes: tuple[PlacedType, ...] = ()
