"""From a figure to a picture: rows, order, columns, ways, type. No randomness, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from daguerre.draw.annotate import (
    NAME,
    Captions,
    centred,
    label_room,
    labelled,
    legend,
    tagged,
)
from daguerre.draw.bodies import Body, body_for
from daguerre.draw.curves import Point
from daguerre.draw.detours import Plan
from daguerre.draw.families import Family, family
from daguerre.draw.faults import faults
from daguerre.draw.formula import Outline, formula
from daguerre.draw.growth import grown
from daguerre.draw.layers import Layers, layers
from daguerre.draw.notation import Arrow, Figure, Frame, Node, Shape
from daguerre.draw.obstacles import Wall
from daguerre.draw.order import Token, ordered_rows
from daguerre.draw.picture import Box, Picture, PlacedFrame, PlacedNode, PlacedPath
from daguerre.draw.place import Places, place
from daguerre.draw.ranks import downward, satellites
from daguerre.draw.routes import routes
from daguerre.draw.staircase import staircase
from daguerre.draw.terrain import Terrain
from daguerre.draw.ways import End

__all__ = ["layout"]

_SIZES: dict[Shape, float] = {"critic": 16.0, "module": 17.0}
_COUNT, _SCOPE = 16.0, 15.0  # of the type at plates and scopes
_BESIDE, _APART = 64.0, 40.0  # from a critic to what stands left of it, and from its outline
_LEVEL = 30.0  # from it to what stands above and below
_MARGIN = 3.0
# Pixels between neighbours more than usual, and how often arrows in the way of others are led
# anew, until nothing is at fault.
_TRIES = ((0, 0), (0, 3), (18, 3), (40, 3), (72, 3), (120, 3))
_TRIED, _HOPELESS = 2, 3  # the try after which that many faults will not go away
_MANY = 40  # arrows, with which one try is enough
_NODES = 12  # that may stand on a diagonal; more say more in rows, even with a fault
_PARALLEL = 12  # arrows between two nodes, for which no usual layout has room


def layout(figure: Figure) -> Picture:
    """Lay out a figure.

    Generative arrows point down and decide the rows; inference and adversarial arrows are then
    led around what stands there; critics stand to the right of what they look at. Where arrows
    still strike labels, strange plates or one another, nodes stand further apart; where no room
    is enough, up to a dozen stand on a diagonal, each with a row and a column for its arrows.

    Args:
        figure: What to draw.

    Returns:
        Numbers alone: equal figures give equal pictures.

    Raises:
        ValueError: A label that cannot be set.

    References:
        Sugiyama, Tagawa and Toda (1981); Gansner, Koutsofios, North and Vo (1993).

    Example:
        >>> from daguerre.draw.notation import figure
        >>> from daguerre.graph import Graph
        >>> z, x = layout(figure(Graph.from_edges([("z", "x")]))).nodes
        >>> z.centre.x == x.centre.x and z.centre.y < x.centre.y
        True
    """
    stage = _staged(figure)
    arrows, is_small = set(figure.arrows), len(figure.nodes) <= _NODES
    if _most_parallel(arrows) > _PARALLEL:
        return _stepped(figure, stage)
    if len(arrows) > _MANY and not is_small:
        return _laid_out(stage, *_TRIES[0])
    best, fewest = None, inf
    for tried, (room, rounds) in enumerate(_TRIES[:1] if len(arrows) > _MANY else _TRIES):
        picture = _laid_out(stage, room, rounds)
        found = faults(picture)
        if found < fewest:
            best, fewest = picture, found
        if not found or (tried == _TRIED and fewest >= _HOPELESS):
            break
    return best if best and not (fewest and is_small) else _stepped(figure, stage)


def _most_parallel(arrows: Iterable[Arrow]) -> int:
    """Count the arrows between the two nodes that have most of them, whatever their direction."""
    return max(Counter(frozenset((a.source, a.target)) for a in arrows).values(), default=0)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What needs no coordinates."""

    drawn: Family
    skeleton: Layers
    rows: Sequence[Sequence[Token]]
    types: Mapping[str, Outline]
    bodies: Mapping[str, Body]
    plate_types: Sequence[Outline]


def _staged(figure: Figure) -> _Stage:
    down = downward(figure)
    drawn = family(figure, down)
    figure, skeleton = drawn.figure, layers(drawn, down)
    types = {n.name: _type(n) for n in figure.nodes}
    heads = Counter(arrow.target for arrow in figure.arrows)
    bodies = {n.name: body_for(n.shape, types[n.name], heads=heads[n.name]) for n in figure.nodes}
    plate_types = [_count(frame) for frame in figure.frames]
    return _Stage(drawn, skeleton, ordered_rows(skeleton), types, bodies, plate_types)


def _laid_out(stage: _Stage, room: int, rounds: int) -> Picture:
    figure, skeleton = stage.drawn.figure, stage.skeleton
    wider = label_room(figure)
    bodies = [
        replace(body, stretch=body.stretch + wider.get(name, 0.0))
        for name, body in ((name, stage.bodies[name]) for name in skeleton.names)
    ]
    places = place(skeleton, stage.rows, bodies, stage.plate_types, room)
    centre_of = dict(zip(skeleton.names, places.points, strict=False))
    ends = {name: End(name, centre_of[name], stage.bodies[name]) for name in skeleton.names}
    axis = Box.around(centre_of.values())
    beside = satellites(figure)
    for node in figure.nodes:
        if node.name in beside:
            body = stage.bodies[node.name]
            ends[node.name] = End(node.name, _aside(figure, node, body, ends, places.boxes), body)
    members = [frozenset(frame.members) for frame in figure.frames]
    walls = [Wall(box, names) for box, names in zip(places.boxes, members, strict=True)]
    nodes = [_placed(n, ends[n.name], stage.types[n.name]) for n in figure.nodes]
    plan = _plan(skeleton, places, ends)
    terrain = Terrain({n: e.centre for n, e in ends.items()}, stage.bodies, walls)
    ways = routes(figure.arrows, plan, terrain, rounds=rounds)
    paths = [PlacedPath(a, way.curve, way.tip) for a, way in zip(figure.arrows, ways, strict=True)]
    paths = labelled(paths, nodes, walls)
    nodes = tagged(nodes, paths, walls)
    captions = Captions(figure.frames, stage.plate_types, paths)
    walls = grown(walls, skeleton.nesting, nodes, paths, captions)
    frames = captions.framed([wall.box for wall in walls])
    return _pictured(nodes, paths, frames, stage.drawn.left_out, axis)


def _stepped(figure: Figure, stage: _Stage) -> Picture:
    """Lay out a figure for which there was no room: plainly, yet without a fault."""
    counts = {f: _count(f) for f in figure.frames}
    found = staircase(figure, stage.drawn.rank, stage.bodies, stage.types, counts)
    axis = Box.around(node.centre for node in found.nodes)
    return _pictured(*found, axis)


def _pictured(
    nodes: Sequence[PlacedNode],
    paths: Sequence[PlacedPath],
    frames: Sequence[PlacedFrame],
    left_out: Sequence[Frame],
    axis: Box,
) -> Picture:
    outer_first = sorted(frames, key=lambda frame: -len(frame.frame.members))
    box = _bounds(nodes, paths, frames)
    notes = legend(left_out, [node.node for node in nodes], box)
    return Picture(
        Box.around([*box.corners, *(c for note in notes for c in note.box.corners)]),
        tuple(nodes),
        tuple(paths),
        tuple(outer_first),
        (axis.left + axis.right) / 2,
        axis.bottom,
        tuple(notes),
    )


def _count(frame: Frame) -> Outline:
    return _set(frame.label, _SCOPE if frame.scope else _COUNT)


def _type(node: Node) -> Outline:
    return _set(node.label, _SIZES.get(node.shape, NAME))


def _set(latex: str, size: float) -> Outline:
    return formula(latex, size=size) if latex else Outline("", 0.0, 0.0, 0.0)


def _placed(node: Node, end: End, outline: Outline) -> PlacedNode:
    return PlacedNode(node, end.centre, end.body, centred(node.label, outline, end.centre))


def _aside(
    figure: Figure, critic: Node, body: Body, ends: Mapping[str, End], boxes: Sequence[Box]
) -> Point:
    """Return a place to the right of all that stands at the height of the critic's inputs."""
    pairs = [{a.source, a.target} for a in figure.arrows if critic.name in (a.source, a.target)]
    seen = [ends[name].centre.y for pair in pairs for name in sorted(pair) if name in ends]
    y = (min(seen) + max(seen)) / 2
    top, bottom = min(seen) - _LEVEL, max(seen) + _LEVEL
    near = (e for e in ends.values() if top - e.body.height < e.centre.y < bottom + e.body.height)
    rights = [e.centre.x + e.body.width for e in near]
    rights += [box.right for box in boxes if box.top < bottom and top < box.bottom]
    room = label_room(figure).values() if len(pairs) > 1 else ()
    beside = max(_BESIDE, body.width + _APART) + 2 * max(room, default=0.0)
    return Point(max(rights) + beside, y)


def _plan(skeleton: Layers, places: Places, ends: Mapping[str, End]) -> Plan:
    row = dict(zip(skeleton.names, skeleton.row, strict=False))
    blocks: list[list[tuple[float, float]]] = [[] for _ in places.bands]
    for name, end in ends.items():
        if name in row:
            x, half = end.centre.x, end.body.width
            blocks[row[name]].append((x - half, x + half))
    bends = {p: tuple(places.points[v] for v in c[1:-1]) for p, c in skeleton.chains.items()}
    return Plan(ends, bends, places.bands, row, blocks)


def _bounds(
    nodes: Sequence[PlacedNode], paths: Sequence[PlacedPath], frames: Sequence[PlacedFrame]
) -> Box:
    boxes = [node.box for node in nodes] + [node.label.box for node in nodes]
    boxes += [frame.box for frame in frames]
    boxes += [path.label.box for path in paths if path.label]
    points = [corner for box in boxes for corner in box.corners]
    points += [corner for path in paths for corner in path.curve.corners]
    return Box.around(points, margin=_MARGIN)
