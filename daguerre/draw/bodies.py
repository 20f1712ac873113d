"""The outlines of nodes: a diamond, or a disc swept over a rectangle.

A disc swept along a line is the pill that a circle becomes around a long label; swept over a
rectangle it is the rounded box of a module. So clipping an arrow and keeping a distance have one
formula each.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, sqrt

from daguerre.draw.formula import Outline
from daguerre.draw.notation import Shape

__all__ = ["Body", "body_for"]

_RADII: dict[Shape, float] = {
    "random": 24,
    "deterministic": 31,
    "double": 26,
    "constant": 15,
    "critic": 15,
}
_ROOM = 5.0  # pixels between a label and the outline
_WIDEST = 38.0  # half the diagonal of the largest diamond
_SQUARE, _DOT = 7.0, 4.0  # half the side of a factor, the radius of a constant
_CORNER = 7.0  # radius of the corners of a box
_HEAD = 13.0  # room for one head on a box
_NARROWEST, _LOWEST = 30.0, 17.0  # half the sides of the smallest box


@dataclass(frozen=True, slots=True)
class Body:
    """An outline around the origin.

    Attributes:
        radius: Of the disc, or half the diagonal of the diamond, in pixels.
        stretch: Half the width of the rectangle that the disc is swept over.
        rise: Half the height of that rectangle.
        pointed: Whether it is a diamond, which is not swept.
    """

    radius: float
    stretch: float = 0.0
    rise: float = 0.0
    pointed: bool = False

    @property
    def width(self) -> float:
        """Half the width."""
        return self.radius + self.stretch

    @property
    def height(self) -> float:
        """Half the height."""
        return self.radius + self.rise

    def distance(self, dx: float, dy: float) -> float:
        """Return the distance of a point from the outline: negative inside.

        Outside the corners of a diamond it is a lower bound.

        Example:
            >>> box = Body(7, stretch=20, rise=10)
            >>> box.distance(0, 27), box.distance(0, 0), box.distance(23, 14)
            (10.0, -17.0, -2.0)
        """
        if self.pointed:
            return (abs(dx) + abs(dy) - self.radius) / sqrt(2)
        across, along = abs(dx) - self.stretch, abs(dy) - self.rise
        return (
            hypot(max(across, 0.0), max(along, 0.0)) + min(max(across, along), 0.0) - self.radius
        )

    def reach(self, dx: float, dy: float) -> float:
        """Return the distance from the centre to the outline in the direction (dx, dy).

        Example:
            >>> Body(24).reach(3, 4), Body(30, pointed=True).reach(1, 0)
            (24.0, 30.0)
            >>> Body(7, stretch=20, rise=10).reach(0, -1)
            17.0
        """
        length = hypot(dx, dy)
        dx, dy = abs(dx) / length, abs(dy) / length
        if self.pointed:
            return self.radius / (dx + dy)
        if dx * self.height <= self.stretch * dy:  # through the flat top
            return self.height / dy
        if dy * self.width <= self.rise * dx:  # through the flat side
            return self.width / dx
        across = dx * self.rise - dy * self.stretch
        return dx * self.stretch + dy * self.rise + sqrt(self.radius**2 - across**2)


def body_for(shape: Shape, label: Outline, *, heads: int = 0) -> Body:
    """Choose the outline of a node so that its label fits; words do not fit a diamond.

    Args:
        shape: What the node is.
        label: Its type.
        heads: How many arrows end here; a box has room for all on its upper side.

    Example:
        >>> body_for("random", Outline("", 12, 10, 2))
        Body(radius=24, stretch=0.0, rise=0.0, pointed=False)
    """
    if shape == "factor":
        return Body(1.0, _SQUARE - 1, _SQUARE - 1)
    if shape == "dot":
        return Body(_DOT)
    half_width, half_height = label.width / 2, label.height / 2
    needed = half_width + half_height + _ROOM
    if shape == "deterministic" and needed <= _WIDEST:
        return Body(max(_RADII[shape], needed), pointed=True)
    if shape in ("deterministic", "module"):
        width = max(half_width + 2 * _ROOM, _NARROWEST, heads * _HEAD / 2 + _CORNER)
        height = max(half_height + _ROOM + 2, _LOWEST)
        return Body(_CORNER, width - _CORNER, height - _CORNER)
    radius = max(_RADII[shape], half_height + 2 * _ROOM)
    room = sqrt((radius - (1 if shape == "constant" else _ROOM)) ** 2 - half_height**2)
    return Body(radius, max(half_width - room, 0.0))
