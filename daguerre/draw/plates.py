"""Which plate or scope lies in which: the boxes that the layout keeps together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from daguerre.draw.families import Family
from daguerre.draw.strips import Crossing

__all__ = ["PAGE", "Nesting", "nesting"]

PAGE = -1  # the box that holds everything


@dataclass(frozen=True, slots=True)
class Nesting:
    """A tree of boxes: plates and scopes, in the order of the figure, then groups and strips.

    Plates that cross are no boxes of the tree: they are borders around strips of a group, and the
    tree holds the group and its strips instead. Strips follow their group.

    Attributes:
        parent: The box around each box, or `PAGE`.
        home: The innermost box around each node, or `PAGE`.
        groups: What crosses in each group.
        group_of: The group of each plate that crosses.
    """

    parent: tuple[int, ...]
    home: Mapping[str, int]
    groups: Mapping[int, Crossing]
    group_of: Mapping[int, int]

    def around(self, box: int) -> list[int]:
        """Return a box and all boxes around it, innermost first, without the page."""
        chain = []
        while box != PAGE:
            chain.append(box)
            box = self.parent[box]
        return chain

    def shared(self, one: int, other: int) -> int:
        """Return the innermost box around both of two boxes."""
        outer = self.around(one)
        return next((p for p in self.around(other) if p in outer), PAGE)

    def depth(self, box: int) -> int:
        """Return how many boxes lie around and at this one."""
        return len(self.around(box))

    def strips(self, group: int) -> range:
        """Return the strips of a group, from left to right."""
        return range(group + 1, group + 1 + len(self.groups[group].strips))


def nesting(family: Family) -> Nesting:
    """Read the tree of boxes of a figure."""
    members = [[n for n in f.members if n in family.rank] for f in family.figure.frames]
    groups: dict[int, Crossing] = {}
    frames, strips = len(members), set[int]()
    for found in family.crossings:
        groups[len(members)] = found
        strips |= {len(members) + 1 + i for i in range(len(found.strips))}
        members += [[name for strip in found.strips for name in strip], *map(list, found.strips)]
    group_of = {plate: group for group, found in groups.items() for plate in found.reach}
    parent = [PAGE] * len(members)
    home = dict.fromkeys((node.name for node in family.figure.nodes), PAGE)

    def outwards(i: int) -> tuple[int, bool, bool]:
        """Outer boxes have more members; of equal frames the first named lies outside."""
        return -len(members[i]), i not in strips, i >= frames

    for i in sorted(range(len(members)), key=outwards):
        if i not in group_of:
            (parent[i],) = {home[name] for name in members[i]}
            home.update(dict.fromkeys(members[i], i))
    for plate, group in group_of.items():
        parent[plate] = parent[group]
    return Nesting(tuple(parent), home, groups, group_of)
