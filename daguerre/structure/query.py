"""One question of independence to one graph, by numbers: what is known, what is open, who is met.

What the given variables determine counts as given too; then paths decide as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from daguerre.graph import Adjacency, Graph
from daguerre.structure.names import Names, check_apart, read_names

__all__ = ["Query", "State", "closure", "reached"]

State = tuple[int, bool]  # a variable, and whether it was reached from a parent


class Query:
    """A question of independence by numbers: which variables are asked, known and open.

    Attributes:
        graph: The graph.
        names: The names of both sides and of what is given, as the graph has them.
        xs: Numbers of the first side, without what is known.
        ys: Numbers of the second side, without what is known.
        found: What is known, each after what it is known by; see `closure`.
        above: What is known or above it, each after what it is above, and the child on the way.
        known: Per variable, whether it is given or determined by what is given.
        opened: Per variable, whether it or something below it is known: an open collider.
        where: The time slices of a chain that the graph shows, in words.
    """

    __slots__ = ("above", "found", "graph", "known", "names", "opened", "where", "xs", "ys")

    def __init__(
        self,
        graph: Graph,
        sides: tuple[Names, Names],
        given: Names,
        *,
        deterministic: bool,
        where: str = "",
    ) -> None:
        xs, ys = (read_names(graph, s, r) for s, r in zip(sides, ("xs", "ys"), strict=True))
        zs = read_names(graph, given, "given")
        check_apart(xs=xs, ys=ys, given=zs)
        adjacency = graph.adjacency
        number = adjacency.number
        asked = {*xs, *ys}
        fixed = [number[n] for n in (*zs, *(i for i in graph.inputs if i not in asked))]
        self.graph, self.names, self.where = graph, (xs, ys, zs), where
        self.found = closure(adjacency, fixed) if deterministic else dict.fromkeys(fixed)
        self.above = _above(adjacency, self.found)
        self.known = _flags(len(number), self.found)
        self.opened = _flags(len(number), self.above)
        self.xs = [number[n] for n in xs if not self.known[number[n]]]
        self.ys = [number[n] for n in ys if not self.known[number[n]]]

    @property
    def independent(self) -> bool:
        """Whether no open path joins the two sides; known variables depend on nothing."""
        return not (self.xs and self.ys and self._reaches())

    def _reaches(self) -> bool:
        """Walk all open paths from xs at once, until a variable of ys is met."""
        _, parents, children, *_ = self.graph.adjacency
        known, opened, wanted = self.known, self.opened, _flags(len(self.known), self.ys)
        risen, fallen = bytearray(known), bytearray(len(known))
        rising, falling = list(self.xs), list[int]()
        while rising or falling:
            if rising:  # reached from a child, or where it starts: on to parents and children
                i, passes, climbs = rising.pop(), True, True
            else:  # reached from a parent: down unless known, up again if the collider is open
                i = falling.pop()
                passes, climbs = not known[i], opened[i]
            if passes:
                if wanted[i]:
                    return True
                for child in children[i]:
                    if not fallen[child]:
                        fallen[child] = 1
                        falling.append(child)
            if climbs:
                for parent in parents[i]:
                    if not risen[parent]:
                        risen[parent] = 1
                        rising.append(parent)
        return False


def reached(query: Query) -> dict[State, State | None]:
    """Walk all open paths from xs breadth first.

    Returns:
        Where they get to, nearest first, each with the place before it.
    """
    came: dict[State, State | None] = dict.fromkeys((x, False) for x in query.xs)
    frontier = [*came]
    for state in frontier:
        for further in _onward(query, state):
            if further not in came:
                came[further] = state
                frontier.append(further)
    return came


def _onward(query: Query, state: State) -> Iterator[State]:
    i, from_parent = state
    adjacency, known = query.graph.adjacency, query.known
    if not known[i]:
        yield from ((child, True) for child in adjacency.children[i])
    if query.opened[i] or not from_parent:
        for parent in adjacency.parents[i]:
            if not known[parent]:
                yield parent, False


def closure(adjacency: Adjacency, fixed: Iterable[int]) -> dict[int, int | None]:
    """Return what the fixed variables determine, and constants, each after what determines it.

    Returns:
        Numbers of variables, and how each is known: None for what is fixed or constant, its own
        number where it follows from its parents, else that of the bijection it is read off.
    """
    _, parents, children, maps, inverts, constants, _ = adjacency
    known: dict[int, int | None] = {}
    waiting: dict[int, int] = {}  # how many parents of a child are not known yet
    frontier: list[tuple[int, int | None]] = [(i, None) for i in (*fixed, *constants)]
    for i, by in frontier:
        if i in known:
            continue
        known[i] = by
        source = inverts.get(i)
        if source is not None and waiting.get(i, len(parents[i])) == 1 and source not in known:
            frontier.append((source, i))
        for child in children[i]:
            left = waiting[child] = waiting.get(child, len(parents[child])) - 1
            if left == 0 and maps[child]:
                frontier.append((child, child))
            elif left == 1 and child in inverts and child in known:
                frontier.append((inverts[child], child))
    return known


def _above(adjacency: Adjacency, known: Mapping[int, object]) -> dict[int, int | None]:
    marks: dict[int, int | None] = dict.fromkeys(known)
    frontier = [*marks]
    for i in frontier:
        for parent in adjacency.parents[i]:
            if parent not in marks:
                marks[parent] = i
                frontier.append(parent)
    return marks


def _flags(n: int, numbers: Iterable[int]) -> bytearray:
    marks = bytearray(n)
    for i in numbers:
        marks[i] = 1
    return marks
