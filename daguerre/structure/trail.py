"""Witnesses for people: the trail that makes two variables dependent, or where it is blocked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from daguerre.graph import Graph, HasGraph
from daguerre.structure.moments import written
from daguerre.structure.names import Names
from daguerre.structure.query import Query, State, reached
from daguerre.structure.windows import read_query

__all__ = ["Separation", "Trail", "active_trail", "separation"]


@dataclass(frozen=True)
class Trail:
    """A path through a graph, against arrows or along them.

    Attributes:
        names: The variables from one end to the other.
        forwards: Per step, whether it goes along the arrow.
        open_by: Of each collider on the way, the given variable that opens it: itself, or one
            that lies below it.
    """

    names: tuple[str, ...]
    forwards: tuple[bool, ...]
    open_by: dict[str, str]

    def __str__(self) -> str:
        arrows = (" -> " if forward else " <- " for forward in self.forwards)
        steps = zip(arrows, self.names[1:], strict=True)
        return self.names[0] + "".join(arrow + name for arrow, name in steps)

    @property
    def why(self) -> str:
        """Why its colliders are open, in words; nothing where it has none."""
        return "; ".join(
            f"{collider} is a collider and is known"
            if collider == opener
            else f"{collider} is a collider above {opener}, which is known"
            for collider, opener in self.open_by.items()
        )


@dataclass(frozen=True)
class Separation:
    """The answer to a question of independence, with its reason.

    Attributes:
        xs: One side.
        ys: The other side.
        given: What is observed.
        trail: The witness of dependence; None if the sides are independent.
        reasons: Why they are independent, in words.
        where: Of a chain, the time slices in which trail or reasons are shown.
    """

    xs: tuple[str, ...]
    ys: tuple[str, ...]
    given: tuple[str, ...]
    trail: Trail | None
    reasons: tuple[str, ...] = ()
    where: str = ""

    @property
    def independent(self) -> bool:
        """Whether the graph implies independence."""
        return self.trail is None

    def __str__(self) -> str:
        sides = f"{', '.join(self.xs)} and {', '.join(self.ys)}"
        given = f" given {', '.join(self.given)}" if self.given else ""
        if self.trail is None:
            always = f" in every chain; with {self.where}:" if self.where else ""
            return "\n  ".join([f"yes: {sides} are independent{given}{always}", *self.reasons])
        where = f" (with {self.where})" if self.where else ""
        lines = [f"no: {sides} may depend on each other{given}", f"along {self.trail}{where}"]
        return "\n  ".join([*lines, *([self.trail.why] if self.trail.why else [])])


def active_trail(
    g: Graph | HasGraph,
    xs: Names,
    ys: Names,
    *,
    given: Names = (),
    deterministic: bool = True,
) -> Trail | None:
    """Return a shortest trail that makes xs and ys dependent; None where they are independent.

    Args:
        g: The graph, or a model.
        xs: One variable or several.
        ys: One variable or several.
        given: Variables that are observed, perhaps none.
        deterministic: False for plain d-separation.

    Raises:
        GraphError: As for `independent`.

    Example:
        >>> g = Graph.from_edges([("z1", "x"), ("z2", "x"), ("x", "y")])
        >>> trail = active_trail(g, "z1", "z2", given="y")
        >>> print(trail, "|", trail.why)
        z1 -> x <- z2 | x is a collider above y, which is known
    """
    return _witness(read_query(g, xs, ys, given, deterministic=deterministic))


def separation(g: Graph | HasGraph, xs: Names, ys: Names, *, given: Names = ()) -> Separation:
    """Answer a question of independence with the witness or the reasons.

    Args:
        g: The graph, or a model.
        xs: One variable or several.
        ys: One variable or several.
        given: Variables that are observed, perhaps none.

    Raises:
        GraphError: As for `independent`.

    Example:
        >>> g = Graph.from_edges([("z", "h"), ("h", "x1"), ("h", "x2")], deterministic=["h"])
        >>> print(separation(g, "x1", "x2", given="z"))
        yes: x1 and x2 are independent given z
          h is determined by z
          x1 <- h -> x2 is blocked at h
    """
    query = read_query(g, xs, ys, given)
    one, other, known = (written(names) for names in (xs, ys, given))
    trail = _witness(query)
    reasons = () if trail else tuple(_reasons(query, *query.names))
    return Separation(one, other, known, trail, reasons, query.where)


def _witness(query: Query) -> Trail | None:
    """Return an open path with the fewest steps; it visits no variable twice."""
    came, wanted = reached(query), set(query.ys)
    met = next((state for state in came if state[0] in wanted), None)
    if met is None:
        return None
    path: list[State] = []
    while met is not None:
        path.append(met)
        met = came[met]
    return _trail(query, path[::-1])


def _trail(query: Query, path: list[State]) -> Trail:
    names = query.graph.names
    forwards = tuple(from_parent for _, from_parent in path[1:])
    colliders = [
        path[k + 1][0] for k in range(len(forwards) - 1) if forwards[k] and not forwards[k + 1]
    ]
    opened = {names[i]: names[_opener(query, i)] for i in colliders}
    return Trail(tuple(names[i] for i, _ in path), forwards, opened)


def _opener(query: Query, collider: int) -> int:
    """Return the nearest known variable at or below an open collider."""
    frontier, seen = deque([collider]), {collider}
    while not query.known[frontier[0]]:
        fresh = [c for c in query.graph.adjacency.children[frontier.popleft()] if c not in seen]
        seen.update(fresh)
        frontier.extend(fresh)
    return frontier[0]


def _reasons(
    query: Query, xs: tuple[str, ...], ys: tuple[str, ...], given: tuple[str, ...]
) -> Iterator[str]:
    """Say what is determined, and where the shortest path between the sides is blocked."""
    graph, number = query.graph, query.graph.adjacency.number
    path = _path(graph, (number[x] for x in xs), {number[y] for y in ys})
    given = (*given, *(n for n in graph.inputs if n not in (*xs, *ys)))
    for i in sorted({*path, *(number[n] for n in (*xs, *ys))}):
        name = graph.names[i]
        if query.known[i] and name not in given:
            yield f"{name} is " + _known_by(graph, name, given)
    if not path:
        yield "no path joins them"
    elif (blocks := _blocks(query, path)) is not None:
        yield blocks


def _known_by(graph: Graph, name: str, given: tuple[str, ...]) -> str:
    """Say what determines a variable: what is given, or nothing but constants."""
    alone = not any(graph[n].map != "deterministic" for n in (name, *graph.ancestors([name])))
    return "a constant" if alone else f"determined by {', '.join(given)}"


def _path(graph: Graph, sources: Iterable[int], targets: set[int]) -> list[int]:
    """Return a shortest path whatever its arrows; nothing where there is none."""
    _, parents, children, *_ = graph.adjacency
    came: dict[int, int | None] = dict.fromkeys(sources)
    frontier = deque(came)
    while frontier:
        i: int | None = frontier.popleft()
        if i in targets:
            path = []
            while i is not None:
                path.append(i)
                i = came[i]
            return path[::-1]
        for other in (*parents[i], *children[i]):
            if other not in came:
                came[other] = i
                frontier.append(other)
    return []


def _blocks(query: Query, path: list[int]) -> str | None:
    """Say where a path is blocked; None where only its ends are known."""
    graph = query.graph
    children = [set(graph.adjacency.children[i]) for i in path]
    forwards = tuple(b in below for below, b in zip(children, path[1:], strict=False))
    shown = Trail(tuple(graph.names[i] for i in path), forwards, {})
    for k in range(1, len(path) - 1):
        name, collides = graph.names[path[k]], forwards[k - 1] and not forwards[k]
        if collides and not query.opened[path[k]]:
            return f"{shown} is blocked at {name}, a collider with nothing known below it"
        if not collides and query.known[path[k]]:
            return f"{shown} is blocked at {name}"
    return None
