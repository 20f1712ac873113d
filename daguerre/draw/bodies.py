"""The outlines of nodes: a disc or a diamond, widened by sweeping it along a horizontal line.

A circle that must hold a long label becomes a pill, a diamond a hexagon with pointed sides, so
clipping an arrow and keeping a distance have one formula each.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, sqrt

from daguerre.draw.formula import Outline
from daguerre.draw.notation import Shape

__all__ = ["Body", "body_for"]

_RADII: dict[Shape, float] = {"random": 24, "deterministic": 31, "constant": 15, "critic": 15}
_ROOM = 5.0  # pixels between a label and the outline


@dataclass(frozen=True, slots=True)
class Body:
    """An outline around the origin.

    Attributes:
        radius: Of the disc, or half the diagonal of the diamond, in pixels.
        stretch: Half the length of the horizontal line that it is swept along.
        pointed: Whether it is a diamond.
    """

    radius: float
    stretch: float = 0.0
    pointed: bool = False

    @property
    def width(self) -> float:
        """Half the width."""
        return self.radius + self.stretch

    @property
    def height(self) -> float:
        """Half the height."""
        return self.radius

    def distance(self, dx: float, dy: float) -> float:
        """Return the distance of a point from the outline: negative inside.

        Outside the corners of a diamond it is a lower bound.
        """
        across = max(abs(dx) - self.stretch, 0.0)
        if self.pointed:
            return (across + abs(dy) - self.radius) / sqrt(2)
        return hypot(across, dy) - self.radius

    def reach(self, dx: float, dy: float) -> float:
        """Return the distance from the centre to the outline in the direction (dx, dy).

        Example:
            >>> Body(24).reach(3, 4), Body(30, pointed=True).reach(1, 0)
            (24.0, 30.0)
        """
        length = hypot(dx, dy)
        dx, dy = abs(dx) / length, abs(dy) / length
        if dx * self.radius <= self.stretch * dy:  # through the flat top
            return self.radius / dy
        if self.pointed:
            return (self.radius + self.stretch) / (dx + dy)
        return dx * self.stretch + sqrt(self.radius**2 - (dy * self.stretch) ** 2)


def body_for(shape: Shape, label: Outline) -> Body:
    """Choose the outline of a node so that its label fits.

    Example:
        >>> body_for("random", Outline("", 12, 10, 2))
        Body(radius=24, stretch=0.0, pointed=False)
    """
    half_width, half_height = label.width / 2, label.height / 2
    radius = max(_RADII[shape], half_height + 2 * _ROOM)
    if shape == "deterministic":
        stretch = half_width + half_height + _ROOM - radius
        return Body(radius, max(stretch, 0.0), pointed=True)
    room = sqrt((radius - (1 if shape == "constant" else _ROOM)) ** 2 - half_height**2)
    return Body(radius, max(half_width - room, 0.0))
