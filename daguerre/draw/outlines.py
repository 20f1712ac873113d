"""Outlines as absolute lines and cubics, for writers that know nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from daguerre.draw.curves import Point

__all__ = ["Segment", "read_path", "rounded_box"]

_TOKEN = re.compile(r"([A-Za-z])|([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|[\s,]+|(.)")
_COUNTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "Q": 4, "Z": 0}
_ROUND = 0.5522847498  # control points of a quarter circle, from its ends


class Segment(NamedTuple):
    """One step of an outline.

    Attributes:
        command: `"M"` moves, `"L"` draws a line, `"C"` a cubic, `"Z"` closes.
        points: One, one, three (two controls and the end), none.
    """

    command: str
    points: tuple[Point, ...] = ()


def read_path(data: str) -> Iterator[Segment]:
    """Read the path data of SVG: M, L, H, V, C, Q and Z, absolute or relative.

    Args:
        data: The `d` of a path.

    Raises:
        ValueError: Another command, or a wrong number of coordinates.

    Example:
        >>> [*read_path("m1 2h3")]
        [Segment(command='M', points=(Point(x=1.0, y=2.0),)), \
Segment(command='L', points=(Point(x=4.0, y=2.0),))]
    """
    here = start = Point(0.0, 0.0)
    for letter, numbers in _commands(data):
        command, points = _absolute(letter, numbers, here)
        if command == "Q":
            control, end = points
            bend = 2 / 3  # a quadratic piece, raised to a cubic
            first = here.plus(here.to(control), bend)
            command, points = "C", (first, end.plus(end.to(control), bend), end)
        yield Segment(command, points)
        here = points[-1] if points else start
        start = here if command == "M" else start


def rounded_box(corner: Point, width: float, height: float, radius: float = 0.0) -> list[Segment]:
    """Return a rectangle with rounded corners; with radius half of both sides, a circle.

    Args:
        corner: The upper left corner, in pixels.
        width: In pixels.
        height: In pixels.
        radius: Of the corners, in pixels.

    Example:
        >>> [len(rounded_box(Point(0, 0), 4, 4, radius)) for radius in (0, 1)]
        [5, 10]
    """
    radius = min(radius, width / 2, height / 2)
    x, y, right, bottom = corner.x, corner.y, corner.x + width, corner.y + height
    corners = [Point(x, y), Point(right, y), Point(right, bottom), Point(x, bottom)]
    if not radius:
        lines = [Segment("L", (point,)) for point in corners[1:]]
        return [Segment("M", (corners[0],)), *lines, Segment("Z")]
    steps = [Point(1, 0), Point(0, 1), Point(-1, 0), Point(0, -1)]
    path = [Segment("M", (corners[0].plus(steps[0], radius),))]
    for i, step in enumerate(steps):
        after, turn = corners[(i + 1) % 4], steps[(i + 1) % 4]
        enter, leave = after.plus(step, -radius), after.plus(turn, radius)
        bend = (enter.plus(step, _ROUND * radius), leave.plus(turn, -_ROUND * radius))
        path += [Segment("L", (enter,)), Segment("C", (*bend, leave))]
    return [*path, Segment("Z")]


def _commands(data: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Split path data into single commands, those that are repeated without their letter too."""
    runs: list[tuple[str, list[float]]] = []
    for match in _TOKEN.finditer(data):
        letter, value, stray = match.groups()
        if letter:
            runs.append((letter, []))
        elif value and runs:
            runs[-1][1].append(float(value))
        elif value or stray:
            raise ValueError(f"path data cannot hold {match.group()!r} at {match.start()}")
    for letter, numbers in runs:
        count = _COUNTS.get(letter.upper())
        if (
            count is None
            or (len(numbers) % count if count else numbers)
            or (count and not numbers)
        ):
            raise ValueError(f"path data cannot hold {letter} with {len(numbers)} coordinates")
        if not count:
            yield letter, ()
        for i in range(0, len(numbers), count or 1):
            again = {"M": "L", "m": "l"}.get(letter, letter) if i else letter
            yield again, tuple(numbers[i : i + count])


def _absolute(
    letter: str, numbers: tuple[float, ...], here: Point
) -> tuple[str, tuple[Point, ...]]:
    """Return the absolute form of one command; lines across and along become lines."""
    command = letter.upper()
    origin = here if letter.islower() else Point(0.0, 0.0)
    if command == "H":
        return "L", (Point(origin.x + numbers[0], here.y),)
    if command == "V":
        return "L", (Point(here.x, origin.y + numbers[0]),)
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return command, tuple(origin.plus(Point(x, y)) for x, y in pairs)
