"""Where the heads at one node stand: spread on its outline until none overlaps another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import atan2, cos, pi, sin

from daguerre.draw.curves import Point
from daguerre.draw.notation import Arrow
from daguerre.draw.ways import End

__all__ = ["ports", "spread"]

_HEADS = 13.0  # pixels between neighbouring tips
_VERTICAL = 30.0  # a vertical arrow stays where it is and the others give way


def ports(arrows: Iterable[tuple[Arrow, End, Point]]) -> dict[Arrow, Point]:
    """Return, for each arrow whose head must give way, the direction of its tip from the target.

    Args:
        arrows: Arrows, each with its target and the point that it comes from.
    """
    arriving: dict[str, list[tuple[Arrow, End, Point]]] = {}
    for arrow, target, origin in dict.fromkeys(arrows):
        arriving.setdefault(target.name, []).append((arrow, target, origin))
    aims: dict[Arrow, Point] = {}
    for group in arriving.values():
        target = group[0][1]
        wanted = [_angle(target.centre, origin) for _, _, origin in group]
        rim = target.body.radius * (0.88 if target.body.pointed else 1)
        least = min(_HEADS / rim, 1.6 * pi / len(group))
        inert = [_VERTICAL if abs(angle) < 0.02 else 1.0 for angle in wanted]
        placed = spread(wanted, least, inert)
        for (arrow, _, _), old, new in zip(group, wanted, placed, strict=True):
            if abs(new - old) > 1e-9:
                aims[arrow] = Point(sin(new), -cos(new))
    return aims


def spread(places: Sequence[float], least: float, inert: Sequence[float]) -> list[float]:
    """Move numbers as little as possible (least squares) until neighbours are `least` apart.

    Pool adjacent violators (Barlow and others 1972) on the places less their share of room.

    Args:
        places: The numbers, in any order.
        least: The distance.
        inert: The weight of moving each.

    Example:
        >>> spread([0.0, 0.1, 5.0], 0.5, [1.0, 1.0, 1.0])
        [-0.2, 0.3, 5.0]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    pools: list[tuple[float, float, int]] = []  # mean, weight, count
    for rank, i in enumerate(order):
        mean, weight, count = places[i] - rank * least, inert[i], 1
        while pools and pools[-1][0] > mean:
            other, w, n = pools.pop()
            mean, weight, count = (other * w + mean * weight) / (w + weight), w + weight, n + count
        pools.append((mean, weight, count))
    flat = [mean for mean, _, count in pools for _ in range(count)]
    result = [0.0] * len(places)
    for rank, i in enumerate(order):
        result[i] = round(flat[rank] + rank * least, 9)
    return result


def _angle(target: Point, origin: Point) -> float:
    """Return the direction of the origin as an angle, 0 upwards and growing clockwise."""
    way = target.to(origin)
    return atan2(way.x, -way.y)
