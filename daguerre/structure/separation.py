"""Independence that the graph alone implies: D-separation, which knows deterministic variables.

What the given variables determine counts as given too; then paths decide as ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from daguerre.graph import Adjacency, Graph, HasGraph, graph_of
from daguerre.structure.names import Names, check_apart, check_static, read_names

__all__ = ["Query", "determined", "independent", "read_query"]


class Query:
    """A question of independence by numbers: which variables are asked, known and open.

    Attributes:
        graph: The graph.
        xs: Numbers of the first side, without what is known.
        ys: Numbers of the second side, without what is known.
        known: Per variable, whether it is given or determined by what is given.
        opened: Per variable, whether it or something below it is known: an open collider.
    """

    __slots__ = ("graph", "known", "opened", "xs", "ys")

    def __init__(
        self, graph: Graph, sides: tuple[Names, Names], given: Names, *, deterministic: bool
    ) -> None:
        xs, ys = (read_names(graph, s, r) for s, r in zip(sides, ("xs", "ys"), strict=True))
        zs = read_names(graph, given, "given")
        check_apart(xs=xs, ys=ys, given=zs)
        adjacency = graph.adjacency
        number = adjacency.number
        fixed = [number[n] for n in (*zs, *(i for i in graph.inputs if i not in (*xs, *ys)))]
        known = _closure(adjacency, fixed) if deterministic else fixed
        self.graph = graph
        self.known, self.opened = _flags(len(number), known), _ancestral(adjacency, known)
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


def read_query(
    g: Graph | HasGraph, xs: Names, ys: Names, given: Names = (), *, deterministic: bool = True
) -> Query:
    """Read a question of independence; see `independent`."""
    return Query(check_static(graph_of(g)), (xs, ys), given, deterministic=deterministic)


def independent(
    g: Graph | HasGraph,
    xs: Names,
    ys: Names,
    *,
    given: Names = (),
    deterministic: bool = True,
) -> bool:
    r"""Whether xs and ys are independent given others in every model with this graph.

    D-separation (Geiger, Verma and Pearl): what the given variables determine, through
    deterministic variables, constants and declared bijections read both ways, counts as given;
    then d-separation decides, in time linear in the graph. It is sound for every model, and
    complete: each dependence it leaves open exists in some model with this graph. A particular
    function can imply more (the exclusive or lets a parent be read off the child), so `False` is
    no proof of dependence.

    An input is always given, unless it is named in xs or ys: then the question is whether the
    other side depends on it.

    Args:
        g: The graph, or a model.
        xs: One variable or several.
        ys: One variable or several.
        given: Variables that are observed, perhaps none.
        deterministic: False for plain d-separation, which takes every map for random.

    Raises:
        GraphError: An unknown name, an empty side, a variable in two of the sets.
        InadmissibleError: A variable that depends on an earlier time slice.

    References:
        Geiger, Verma and Pearl (1990), *Networks* 20; Koller and Friedman (2009), chapter 5;
        Constantinou and Dawid (2017) for inputs.

    Example:
        >>> g = Graph.from_edges([("z", "h"), ("h", "x1"), ("h", "x2")], deterministic=["h"])
        >>> independent(g, "x1", "x2", given="z")
        True
        >>> independent(g, "x1", "x2", given="z", deterministic=False)
        False
    """
    return read_query(g, xs, ys, given, deterministic=deterministic).independent


def determined(g: Graph | HasGraph, given: Names = ()) -> tuple[str, ...]:
    """Return what the given variables determine, themselves, inputs and constants included.

    A deterministic variable is determined when all its parents are. A declared bijection that is
    determined determines the variable it inverts, once its other parents are determined.

    Args:
        g: The graph, or a model.
        given: Variables that are observed, perhaps none.

    Returns:
        Names in order of declaration.

    Example:
        >>> determined(Graph.from_edges([], bijective=[("z", "y"), ("y", "x")]), "x")
        ('z', 'y', 'x')
    """
    graph = check_static(graph_of(g))
    number = graph.adjacency.number
    fixed = [number[n] for n in (*read_names(graph, given, "given"), *graph.inputs)]
    return tuple(graph.names[i] for i in sorted(_closure(graph.adjacency, fixed)))


def _closure(adjacency: Adjacency, fixed: Iterable[int]) -> list[int]:
    """Return the numbers of what is determined by the fixed variables, and of constants."""
    _, parents, children, maps, inverts, constants, _ = adjacency
    known: dict[int, None] = {}
    waiting: dict[int, int] = {}  # how many parents of a child are not known yet
    frontier = [*fixed, *constants]
    while frontier:
        i = frontier.pop()
        if i in known:
            continue
        known[i] = None
        source = inverts.get(i)
        if source is not None and waiting.get(i, len(parents[i])) == 1 and source not in known:
            frontier.append(source)
        for child in children[i]:
            left = waiting[child] = waiting.get(child, len(parents[child])) - 1
            if left == 0 and maps[child]:
                frontier.append(child)
            elif left == 1 and child in inverts and child in known:
                frontier.append(inverts[child])
    return list(known)


def _ancestral(adjacency: Adjacency, known: list[int]) -> bytearray:
    """Mark the known variables and everything above them."""
    parents = adjacency.parents
    marks, frontier = _flags(len(parents), known), list(known)
    while frontier:
        for parent in parents[frontier.pop()]:
            if not marks[parent]:
                marks[parent] = 1
                frontier.append(parent)
    return marks


def _flags(n: int, numbers: Iterable[int]) -> bytearray:
    marks = bytearray(n)
    for i in numbers:
        marks[i] = 1
    return marks
