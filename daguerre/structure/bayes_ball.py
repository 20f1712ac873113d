"""Which CPDs and which observations the answer to a question needs: the Bayes ball.

A ball starts at the targets and passes, bounces or stops by the kind of what it meets; what it
never touches has no say in the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from itertools import compress
from typing import NamedTuple

from daguerre.graph import Graph, HasGraph, graph_of
from daguerre.structure.names import Names, check_apart, check_static, read_names

__all__ = ["Requisite", "requisite"]


@dataclass(frozen=True)
class Requisite:
    """What the distribution of the targets given the rest hangs on, in order of declaration.

    Attributes:
        cpds: Variables whose CPD (or map) is needed.
        observations: Given variables and inputs whose value matters.
        irrelevant: Variables, neither given nor inputs, that are independent of the targets given
            the given ones.
    """

    cpds: tuple[str, ...]
    observations: tuple[str, ...]
    irrelevant: tuple[str, ...]

    def __str__(self) -> str:
        def listed(names: tuple[str, ...]) -> str:
            return ", ".join(names) or "none"

        return (
            f"CPDs: {listed(self.cpds)}\n"
            f"observations: {listed(self.observations)}\n"
            f"irrelevant: {listed(self.irrelevant)}"
        )


def requisite(g: Graph | HasGraph, targets: Names, *, given: Names = ()) -> Requisite:
    r"""Find what $p(\text{targets} \mid \text{given})$ needs, in time linear in the graph.

    Deterministic variables pass the ball on to their parents, and what declared bijections recover
    from the given variables counts as observed. Unnamed inputs are always given.

    Args:
        g: The graph, or a model.
        targets: The variables asked for, one or several.
        given: The variables whose values are known, perhaps none.

    Raises:
        GraphError: An unknown name, no target, or a target that is given.
        InadmissibleError: A variable that depends on an earlier time slice.

    References:
        Shachter (1998), *Bayes-ball: The rational pastime*, arXiv 1301.7412.

    Example:
        >>> g = Graph.from_edges(
        ...     [("z", "h"), ("h", "x1"), ("h", "x2"), ("x2", "y")], deterministic=["h"]
        ... )
        >>> print(requisite(g, "x1", given=["z", "y"]))
        CPDs: h, x1
        observations: z
        irrelevant: h, x2
    """
    graph = check_static(graph_of(g))
    asked, known = read_names(graph, targets, "targets"), read_names(graph, given, "given")
    check_apart(targets=asked, given=known)
    fixed = {*known, *graph.inputs} - {*asked}
    number = graph.adjacency.number
    marks = _roll(graph, [number[n] for n in asked], {number[n] for n in fixed})
    apart = {*asked, *fixed}
    independent = compress(graph.names, (not mark for mark in marks.bottom))
    return Requisite(
        cpds=tuple(compress(graph.names, marks.top)),
        observations=tuple(n for n in compress(graph.names, marks.visited) if n in fixed),
        irrelevant=tuple(n for n in independent if n not in apart),
    )


class _Marks(NamedTuple):
    """One flag per variable: its CPD matters, it is dependent on the targets, the ball met it."""

    top: bytearray
    bottom: bytearray
    visited: bytearray


def _roll(graph: Graph, targets: Iterable[int], given: Set[int]) -> _Marks:
    """Roll the ball until no mark is left to make.

    From a child it goes on to the parents and, unless a map stands there, bounces to the children;
    from a parent it passes to the children. What is observed stops a ball from a child and bounces
    one from a parent. What a bijection recovers is read off the bijection, hence needs it as well.
    """
    _, parents, children, is_map, *_ = graph.adjacency
    source = _recovered(graph, given)
    top, bottom, visited = marks = _Marks(*(bytearray(len(is_map)) for _ in range(3)))
    balls = [(j, True) for j in targets]
    while balls:
        j, from_child = balls.pop()
        if j in source and not visited[j]:
            balls.append((source[j], False))
        visited[j] = 1
        is_observed = j in given or j in source
        if from_child != is_observed and not top[j]:
            top[j] = 1
            balls += [(p, True) for p in parents[j]]
        if not is_observed and not (from_child and is_map[j]) and not bottom[j]:
            bottom[j] = 1
            balls += [(c, False) for c in children[j]]
    return marks


def _recovered(graph: Graph, given: Iterable[int]) -> Mapping[int, int]:
    """Map what bijections recover from the given variables to the bijections it is read off.

    What follows from its parents is no such case, so bijections are read last.
    """
    _, parents, children, is_map, inverts, constants, _ = graph.adjacency
    unknown = [len(above) for above in parents]
    known: set[int] = set()
    source: dict[int, int] = {}
    forward = [*given, *constants]
    backward: list[int] = []  # what is known but for one parent, perhaps bijections of it
    while forward or backward:
        bijection = None if forward else backward.pop()
        j = forward.pop() if bijection is None else inverts.get(bijection)
        if j is None or j in known:
            continue
        known.add(j)
        if bijection is not None:
            source[j] = bijection
        for c in children[j]:
            unknown[c] -= 1
        forward += [c for c in children[j] if is_map[c] and not unknown[c]]
        backward += [b for b in (j, *children[j]) if b in known and unknown[b] == 1]
    return source
