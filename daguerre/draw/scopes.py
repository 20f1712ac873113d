"""The modules of an imported net, read from the dots in its names.

`layer1.0.conv1` is a variable in the scope `layer1.0`, which lies in `layer1`. Only scopes that
make the picture clearer are kept; what the others would say stays in the names of the variables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from daguerre.draw.labels import path
from daguerre.graph import Graph

__all__ = ["Scope", "scopes", "short"]

_DEEPEST = 12  # boxes in boxes; what lies deeper keeps a longer name


@dataclass(frozen=True, slots=True)
class Scope:
    """A module, as the variables that its call makes.

    Attributes:
        path: Its dotted name.
        title: What of that name the scope around it does not say.
        members: The variables in it, in the order of declaration.
    """

    path: str
    title: str
    members: tuple[str, ...]


def scopes(graph: Graph) -> tuple[Scope, ...]:
    """Read the scopes that are worth a box, outer ones first.

    Left out are a scope of one variable; one that holds no more than a scope in it (`layer1` and
    `layer1.0` become one box `layer1.0`); one that crosses a plate; and one that the data leaves
    and enters again, such as a list of convolutions with another list of norms between them: its
    box would be as long as the net and stand beside it.

    Args:
        graph: The net.

    Example:
        >>> g = Graph.from_edges([("x", "net.0"), ("net.0", "net.1"), ("net.1", "head.0")])
        >>> scopes(g)
        (Scope(path='net', title='net', members=('net.0', 'net.1')),)
        >>> short("net.0", ["net"]), short("head.0", ["net"])
        ('0', 'head.0')
    """
    held: dict[str, list[str]] = {}
    for name in graph.names:
        for prefix in _prefixes(name):
            held.setdefault(prefix, []).append(name)
    walk, plates = _Walk(graph), _plates(graph)
    kept = {
        prefix: tuple(members)
        for prefix, members in sorted(held.items(), key=lambda item: item[0].count("."))
        if len(members) > 1 and _nests(members, plates) and not walk.comes_back(members)
    }
    for prefix in reversed(list(kept)):  # inner ones first
        around = _around(prefix, kept)
        while around and kept.get(prefix) == kept[around]:
            del kept[around]
            around = _around(prefix, kept)
    return tuple(Scope(prefix, short(prefix, kept), members) for prefix, members in kept.items())


def short(name: str, paths: Collection[str]) -> str:
    """Return what of a dotted name is left inside the innermost of some scopes around it."""
    around = _around(name, paths)
    return name[len(around) + 1 :] if around else name


def _around(name: str, paths: Collection[str]) -> str:
    return next((p for p in reversed(list(_prefixes(name))) if p in paths), "")


def _prefixes(name: str) -> Iterator[str]:
    return accumulate(path(name)[:-1][:_DEEPEST], "{}.{}".format)


def _plates(graph: Graph) -> list[set[str]]:
    members: dict[str, set[str]] = {plate.name: set() for plate in graph.plates}
    for variable in graph.variables:
        for plate in variable.plates:
            members[plate].add(variable.name)
    return list(members.values())


def _nests(members: Sequence[str], plates: Sequence[set[str]]) -> bool:
    """Say whether a scope lies in, around or apart from every plate."""
    names = set(members)
    return all(names <= p or p <= names or not names & p for p in plates)


class _Walk:
    """The graph by numbers, with the place of each variable in a topological order."""

    def __init__(self, graph: Graph) -> None:
        self.number, self.below = graph.adjacency.number, graph.adjacency.children
        self.place = [0] * len(graph.names)
        for i, name in enumerate(graph.order):
            self.place[self.number[name]] = i

    def comes_back(self, names: Sequence[str]) -> bool:
        """Say whether a path leaves some variables and ends in one of them."""
        members = {self.number[name] for name in names}
        last = max(self.place[m] for m in members)
        frontier = [c for m in members for c in self.below[m] if c not in members]
        seen = set(frontier)
        while frontier:
            for child in self.below[frontier.pop()]:
                if child in members:
                    return True
                if child not in seen and self.place[child] < last:
                    seen.add(child)
                    frontier.append(child)
        return False
