"""Where the heads at one node stand: spread on its outline until none overlaps another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import atan2, cos, pi, sin

from daguerre.draw.bodies import Body
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
        ways = [target.centre.to(origin) for _, _, origin in group]
        spread_out = _along_the_top if target.body.rise else _around
        for (arrow, _, _), way, aim in zip(
            group, ways, spread_out(target.body, ways), strict=True
        ):
            if aim is not way:
                aims[arrow] = aim
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


def _around(body: Body, ways: Sequence[Point]) -> list[Point]:
    """Spread tips on a circle or diamond, by angle."""
    wanted = [atan2(way.x, -way.y) for way in ways]  # 0 upwards, growing clockwise
    rim = body.radius * (0.88 if body.pointed else 1)
    placed = _spread(wanted, min(_HEADS / rim, 1.6 * pi / len(ways)), 0.02)
    return [
        way if abs(new - old) <= 1e-9 else Point(sin(new), -cos(new))
        for way, old, new in zip(ways, wanted, placed, strict=True)
    ]


def _along_the_top(body: Body, ways: Sequence[Point]) -> list[Point]:
    """Spread tips along the upper side of a box, by distance from its middle."""
    natural = [way.x * body.height / max(-way.y, body.height) for way in ways]
    wanted = [min(max(x, -body.stretch), body.stretch) for x in natural]
    least = min(_HEADS, 2 * body.stretch / max(len(ways) - 1, 1))
    placed = _spread(wanted, least, 0.5)
    for rank, i in enumerate(sorted(range(len(ways)), key=placed.__getitem__)):
        first, last = rank * least - body.stretch, body.stretch - (len(ways) - 1 - rank) * least
        placed[i] = min(max(placed[i], first), last)
    return [
        way if abs(new - old) <= 1e-9 else Point(new, -body.height)
        for way, old, new in zip(ways, natural, placed, strict=True)
    ]


def _spread(places: Sequence[float], least: float, middle: float) -> list[float]:
    """Spread places; one nearer than `middle` to 0, a vertical arrow, hardly moves."""
    return spread(places, least, [_VERTICAL if abs(p) < middle else 1.0 for p in places])
