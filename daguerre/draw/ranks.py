"""Which row each node stands in: generative arrows point down, everything else follows.

Inference and adversarial arrows never decide a row where generative ones do: fed to a layered
engine together they would turn the picture over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from daguerre.draw.notation import Arrow, Figure
from daguerre.draw.simplex import Gap, Pull, arrange
from daguerre.graph import GraphError

__all__ = ["downward", "ranks", "satellites"]

_DOWN, _BESIDE = 4, 5  # how much an arrow wants its ends close


def ranks(
    figure: Figure, down: Sequence[Arrow], *, above: Sequence[tuple[str, str]] = ()
) -> dict[str, int]:
    """Return the row of each node, the top one 0; critics are left out.

    The rows make the downward arrows as short as possible in all, which is an L1 problem too.
    Two roots between which inference goes would rather stand side by side.

    Args:
        figure: What to place.
        down: The arrows that point down.
        above: Further pairs (upper, lower) of nodes.

    Raises:
        GraphError: A node would have to stand above itself.
    """
    beside = satellites(figure)
    names = [node.name for node in figure.nodes if node.name not in beside]
    number = {name: i for i, name in enumerate(names)}
    pairs = [(number[a.source], number[a.target]) for a in down]
    if above and _is_cyclic([*down, *(Arrow(*pair) for pair in above)]):
        raise GraphError("these rows cannot be: a node would have to stand above itself")
    lifted = [(number[a], number[b]) for a, b in above]
    gaps = [Gap(a, b, 1) for a, b in dict.fromkeys([*pairs, *lifted])]
    pulls = [Pull(a, b, _DOWN) for a, b in pairs]
    pulls += [Pull(number[a], number[b], _BESIDE) for a, b in _beside(figure, down)]
    rows = arrange(len(names), gaps, pulls).first
    used = {row: i for i, row in enumerate(sorted(set(rows)))}
    return {name: used[row] for name, row in zip(names, rows, strict=True)}


def _beside(figure: Figure, down: Sequence[Arrow]) -> list[tuple[str, str]]:
    """Return the pairs of roots between which inference goes."""
    roots = {a.source for a in down} - {a.target for a in down}
    pairs = ((a.source, a.target) for a in figure.arrows if a.inference and a.source != a.target)
    return [pair for pair in dict.fromkeys(pairs) if roots.issuperset(pair)]


def satellites(figure: Figure) -> frozenset[str]:
    """Return the critics that stand beside the nodes they look at instead of in a row."""
    critics = {node.name for node in figure.nodes if node.shape == "critic"}
    return frozenset(
        name
        for name in critics
        if any(
            name in (a.source, a.target) and not {a.source, a.target} <= critics
            for a in figure.arrows
        )
    )


def downward(figure: Figure) -> list[Arrow]:
    """Return the arrows that decide rows; together they have no cycle.

    Generative arrows come first, in the order of the figure (so a lagged arrow that would close
    a cycle is left out). Nodes that only inference reaches hang on its arrows, read upwards:
    an auxiliary of the encoder stands between x and z, below z. What is still apart is joined by
    any other arrow, solid before dashed and hollow before filled.
    """
    beside = satellites(figure)
    arrows = [a for a in figure.arrows if not (a.level or beside & {a.source, a.target})]
    generative = [a for a in arrows if not a.inference]
    tree = _Acyclic()
    tree.add_all(generative)
    settled = {end for a in generative for end in (a.source, a.target)}
    dashed = [a for a in arrows if a.inference and not a.adversarial]
    for arrow in dashed if settled else ():
        if not settled >= {arrow.source, arrow.target}:
            tree.add(Arrow(arrow.target, arrow.source))
    rest = (a for a in arrows if a.inference)
    for arrow in sorted(rest, key=lambda a: (a.inference, not a.deterministic)):
        if not tree.joins(arrow.source, arrow.target):
            tree.add(arrow)
    return tree.arrows


class _Acyclic:
    """Arrows that grow one by one and never close a cycle."""

    def __init__(self) -> None:
        self.arrows: list[Arrow] = []
        self._below: dict[str, list[str]] = {}
        self._beside: dict[str, list[str]] = {}

    def add_all(self, arrows: Sequence[Arrow]) -> None:
        """Take the first arrows, each unless it would close a cycle with those before."""
        take = self.add if _is_cyclic(arrows) else self._take
        for arrow in arrows:
            take(arrow)

    def add(self, arrow: Arrow) -> None:
        """Take an arrow unless it would close a cycle."""
        if arrow.source not in _reached(self._below, [arrow.target]):
            self._take(arrow)

    def joins(self, one: str, other: str) -> bool:
        """Say whether two nodes hang together already, whatever the directions."""
        return other in _reached(self._beside, [one])

    def _take(self, arrow: Arrow) -> None:
        self.arrows.append(arrow)
        self._below.setdefault(arrow.source, []).append(arrow.target)
        self._beside.setdefault(arrow.source, []).append(arrow.target)
        self._beside.setdefault(arrow.target, []).append(arrow.source)


def _is_cyclic(arrows: Sequence[Arrow]) -> bool:
    below: dict[str, list[str]] = {}
    for arrow in arrows:
        below.setdefault(arrow.source, []).append(arrow.target)
        below.setdefault(arrow.target, [])
    above = Counter(arrow.target for arrow in arrows)
    tops = [name for name in below if not above[name]]
    for name in tops:  # grows while it is read
        for child in below[name]:
            above[child] -= 1
            if not above[child]:
                tops.append(child)
    return len(tops) < len(below)


def _reached(steps: Mapping[str, Iterable[str]], start: Iterable[str]) -> set[str]:
    seen, frontier = set(start), list(start)
    while frontier:
        for name in steps.get(frontier.pop(), ()):
            if name not in seen:
                seen.add(name)
                frontier.append(name)
    return seen
