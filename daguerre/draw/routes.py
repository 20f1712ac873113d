"""The way of every arrow: generative ones first, the rest around what is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from math import inf, radians, tan

from daguerre.draw.curves import Point, turned
from daguerre.draw.detours import Plan, detours
from daguerre.draw.mazes import Maze
from daguerre.draw.notation import Arrow
from daguerre.draw.ports import ports
from daguerre.draw.terrain import Terrain
from daguerre.draw.ways import End, Way, bowed, loop, straight, threaded

__all__ = ["routes"]

_ANGLES = (34, 26, 44, 18, 56, 12, 62, 68, 75, 82)
_WIDE = (92, 104)  # unless the arrow points down and was given room
_SIDES = (  # of a node, in the order in which loops take them
    *(Point(1, 0), Point(-1, 0), Point(0, 1), Point(0, -1)),
    *(Point(1, 1), Point(-1, 1), Point(1, -1), Point(-1, -1)),
)
_TURN = 0.5  # radians by which a straight way may miss the middle of its target
_FLAT = 4.0  # width over height of an arrow that must go along the rows
_GOOD = 12.0  # a way this cheap is taken without looking further
_MANY = 120  # arrows, among which crossings are no reason to look further
_ASIDE = 60.0  # pixels that a bow in a net may go aside
_COARSE = 11.0  # pixels between points of a way, among many arrows
_ENOUGH = 4  # ways that are tried there once one strikes nothing but arrows
_FURTHEST = 240.0  # and beyond that, which no bow does
_POOR = 60.0  # an arrow that costs more may be led anew
_UPRIGHT = 150.0  # what a loop costs more above, below or at a corner
_FACED = 40.0  # for each arrow that a node has where a loop would stand
_BESIDE = 0.7  # the cosine of the angle from the middle of a loop within which it does
_FAIR = 90.0  # the kept way of an arrow of a net, if it only crosses a few others


def routes(arrows: Sequence[Arrow], plan: Plan, terrain: Terrain, *, rounds: int = 0) -> list[Way]:
    """Choose a way for each arrow.

    Args:
        arrows: All arrows of the figure.
        plan: The places of the nodes, and the room kept for long arrows.
        terrain: Obstacles; each chosen way is laid on it.
        rounds: How often arrows in the way of others are led anew.
    """
    down = [a for a in arrows if not a.inference and (a.source, a.target) in plan.bends]
    aims = ports((a, plan.ends[a.target], _origin(a, plan)) for a in down)
    chosen: dict[Arrow, Way] = {}  # equal arrows say the same thing and are one
    numbers: dict[Arrow, int] = {}
    good = _GOOD
    if len(arrows) > _MANY:
        good, terrain.step = _FAIR, _COARSE
    for arrow in sorted(dict.fromkeys(arrows), key=lambda a: _turn(a, plan)):
        chosen[arrow] = way = _cheapest(arrow, plan, terrain, aims.get(arrow), good)
        numbers[arrow] = terrain.lay(way, arrow.source, arrow.target)
    maze = Maze([*plan.ends.values()], terrain)
    for _ in range(rounds):
        before = dict(chosen)
        for arrow, way in before.items():
            terrain.lift(numbers[arrow])
            cost = terrain.judged(way, arrow.source, arrow.target)
            if cost is not None and sum(cost) > _POOR:
                chosen[arrow] = _led_anew(arrow, plan, terrain, aims.get(arrow), maze)
            numbers[arrow] = terrain.lay(chosen[arrow], arrow.source, arrow.target)
        if chosen == before:
            break
    return [chosen[arrow] for arrow in arrows]


def _falls(arrow: Arrow, plan: Plan) -> bool:
    return plan.bends.get((arrow.source, arrow.target)) == () and not arrow.inference


def _origin(arrow: Arrow, plan: Plan) -> Point:
    """Return the last point that the layout kept for an arrow, or the middle of its source."""
    bends = plan.bends[arrow.source, arrow.target]
    return bends[-1] if bends else plan.ends[arrow.source].centre


def _turn(arrow: Arrow, plan: Plan) -> tuple[bool, bool, bool, float]:
    """Sort arrows: loops last, generative before inference, short before long."""
    length = plan.ends[arrow.source].centre.to(plan.ends[arrow.target].centre).length
    is_aside = (arrow.source, arrow.target) not in plan.bends
    return arrow.source == arrow.target, arrow.inference, is_aside, length


def _cheapest(arrow: Arrow, plan: Plan, terrain: Terrain, port: Point | None, good: float) -> Way:
    source, target = plan.ends[arrow.source], plan.ends[arrow.target]
    if way := _plain(arrow, plan, terrain, port):
        return way
    for way in _kept(source, target, port, plan) if good > _GOOD else ():
        if terrain.is_clear(way, arrow.source, arrow.target):
            return way
    best, least, is_clear = None, inf, False
    for tried, way in enumerate(_candidates(source, target, port, plan, terrain)):
        verdict = terrain.judged(way, arrow.source, arrow.target, limit=least - way.bend)
        if verdict:
            best, least = way, way.bend + sum(verdict)
            is_clear = good > _GOOD and verdict.is_clear
        if (is_clear and tried >= _ENOUGH) or (least < good and best and best.bend <= way.bend):
            break
    assert best is not None
    return best


def _led_anew(arrow: Arrow, plan: Plan, terrain: Terrain, port: Point | None, maze: Maze) -> Way:
    source, target = plan.ends[arrow.source], plan.ends[arrow.target]
    ways = [_cheapest(arrow, plan, terrain, port, 0.0)]
    ways += maze.ways(source, target) if source is not target else ()
    return min(ways, key=lambda w: w.bend + sum(terrain.judged(w, source.name, target.name) or ()))


def _plain(arrow: Arrow, plan: Plan, terrain: Terrain, port: Point | None) -> Way | None:
    """Return the way that suits best, whatever others cost, if it is free."""
    source, target = plan.ends[arrow.source], plan.ends[arrow.target]
    if _falls(arrow, plan) and not terrain.joins(arrow.source, arrow.target):
        # a fan looks best straight, however narrow
        for way in (straight(source, target, port=port), straight(source, target)):
            if terrain.is_clear(way, arrow.source, arrow.target):
                return way
    if target.body.rise and (arrow.source, arrow.target) in plan.bends:
        # long arrows of a net look best side by side, where the layout kept room
        for way in (straight(source, target, port=port), *_lanes(source, target, port, plan)):
            if terrain.judged(way, arrow.source, arrow.target, limit=_FAIR):
                return way
    return None


def _candidates(
    source: End, target: End, port: Point | None, plan: Plan, terrain: Terrain
) -> Iterator[Way]:
    if source.name == target.name:
        for i, side in enumerate(_SIDES, 1):
            faced = sum(_is_beside(source, side, rim) for rim, _ in terrain.heads(source.name))
            liked = 2.0 * i + (_UPRIGHT if side.y else 0.0)
            yield replace(loop(source, side), bend=liked + _FACED * faced)
        return
    yield straight(source, target, port=port)
    falls = (source.name, target.name) in plan.bends
    if falls:
        for aim in _aims(port or target.centre.to(source.centre)):
            yield replace(straight(source, target, port=aim), bend=2.0)
    yield from _lanes(source, target, port, plan) if target.body.rise else ()
    yield from _kept(source, target, port, plan)
    around = detours(source, target, plan, terrain.walls)
    run = source.centre.to(target.centre)
    if abs(run.x) > _FLAT * abs(run.y):  # no bow misses a whole row
        yield from around
    sign = 1 if source.centre.y < target.centre.y else -1
    for angle in _ANGLES if falls else (*_ANGLES, *_WIDE):
        stray = _stray(source, target, angle)
        if stray > _FURTHEST:
            continue
        stray = stray if target.body.rise else 60.0 * (angle in _WIDE)
        for side in (sign, -sign):
            way = bowed(source, target, side * angle)
            yield replace(way, bend=way.bend + stray)
    yield from around


def _is_beside(end: End, side: Point, rim: Point) -> bool:
    out = end.centre.to(rim)
    return side.x * out.x + side.y * out.y > _BESIDE * side.length * out.length


def _stray(source: End, target: End, angle: float) -> float:
    """Return how far a bow goes too far aside, in pixels."""
    half = source.centre.to(target.centre).length / 2
    return max(half * tan(radians(angle) / 2) - _ASIDE, 0.0)


def _kept(source: End, target: End, port: Point | None, plan: Plan) -> Iterator[Way]:
    """Go through the points that the layout kept free, downwards or upwards."""
    points = plan.bends.get((source.name, target.name), ())
    points = points or plan.bends.get((target.name, source.name), ())[::-1]
    if not points:
        return
    aim = port or target.centre.to(points[-1])
    for radius in (400.0, 24.0):
        yield threaded(source, target, points, radius=radius, port=aim)
    for aside in _aims(aim):
        way = threaded(source, target, points, radius=400.0, port=aside)
        yield replace(way, bend=way.bend + 15.0)


def _lanes(source: End, target: End, port: Point | None, plan: Plan) -> Iterator[Way]:
    """Go straight down past each row, boxes included, and aside only between rows."""
    bends = plan.bends.get((source.name, target.name), ())
    lanes = [list(run) for _, run in groupby(bends, key=lambda bend: bend.x)]
    row, points = plan.row.get(source.name, 0), list[Point]()
    for lane in lanes:
        first, row = row + 1, row + len(lane)
        points += [Point(lane[0].x, plan.bands[first][0]), Point(lane[0].x, plan.bands[row][1])]
    for radius in (60.0, 24.0) if points else ():
        aim = port or target.centre.to(points[-1])
        yield threaded(source, target, points, radius=radius, port=aim)


def _aims(aim: Point) -> tuple[Point, Point]:
    """Miss the middle of the target on either side, where its head would lie on another."""
    return turned(aim, _TURN), turned(aim, -_TURN)
