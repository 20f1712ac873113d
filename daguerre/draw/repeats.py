"""Repeated blocks of a net: equal modules in a row are drawn once, with a count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from daguerre.draw.labels import path, word
from daguerre.draw.notation import Arrow, Figure, Frame, Node, named
from daguerre.draw.scopes import short

__all__ = ["folded"]

Flags = tuple[bool, bool, bool, str]
Wire = tuple[str, str, Flags]  # from, to, marks


def folded(figure: Figure) -> Figure:
    r"""Draw runs of equal blocks once: `layers.0`, ..., `layers.5` become a scope with $\times 6$.

    Blocks are numbered modules in the same module. They are equal if what is in them is, name by
    name and kind by kind, and is joined in the same way; they are in a row if each feeds the next
    by the same arrows, the first is fed so from outside, and nothing else leaves any but the
    last. What all of them are given from outside, such as the memory of a decoder, is marked
    "each". Whatever differs in any of this is drawn in full.

    Args:
        figure: The picture in full.

    Example:
        >>> from daguerre.draw.notation import figure
        >>> from daguerre.graph import Graph
        >>> names = ["x", *(f"net.{i}.{what}" for i in range(3) for what in ("fc", "act")), "y"]
        >>> net = Graph.from_edges(list(zip(names, names[1:])), deterministic=names[1:])
        >>> short = folded(figure(net))
        >>> [node.name for node in short.nodes], short.frames[0].repeats
        (['x', 'net.0.fc', 'net.0.act', 'y'], 3)
    """
    while run := next(_runs(figure), None):
        figure = _replaced(figure, run)
    return figure


@dataclass(frozen=True)
class _Block:
    """A numbered module in a figure.

    Attributes:
        name: Its path.
        figure: The whole.
        members: The names of its nodes.
    """

    name: str
    figure: Figure
    members: frozenset[str]

    def inner(self, name: str) -> str:
        """Return what the path of a node says inside the block."""
        return name[len(self.name) :]

    @cached_property
    def content(self) -> object:
        """What equal blocks have in common; None if the names do not say what it does."""
        nodes = [n for n in self.figure.nodes if n.name in self.members]
        if any(not n.kind and path(n.name)[-1].isdigit() for n in nodes):
            return None
        own = (replace(n, name=self.inner(n.name), label="") for n in nodes)
        arrows = (
            (self.inner(a.source), self.inner(a.target), _flags(a))
            for a in self.figure.arrows
            if {a.source, a.target} <= self.members
        )
        frames = (
            tuple(map(self.inner, f.members))
            for f in self.figure.frames
            if {*f.members} <= self.members
        )
        return frozenset(own), frozenset(arrows), frozenset(frames)

    @cached_property
    def entries(self) -> frozenset[Wire]:
        """The arrows from outside; inside names are relative."""
        return frozenset(
            (a.source, self.inner(a.target), _flags(a))
            for a in self.figure.arrows
            if a.target in self.members and a.source not in self.members
        )

    @cached_property
    def exits(self) -> frozenset[Wire]:
        """The arrows to outside; inside names are relative."""
        return frozenset(
            (self.inner(a.source), a.target, _flags(a))
            for a in self.figure.arrows
            if a.source in self.members and a.target not in self.members
        )


def _flags(arrow: Arrow) -> Flags:
    return arrow.inference, arrow.deterministic, arrow.adversarial, arrow.label


def _runs(figure: Figure) -> Iterator[list[_Block]]:
    """Yield the runs that can be folded, outer modules first."""
    for blocks in _siblings(figure):
        first = 0
        while first < len(blocks) - 1:
            last = first
            while last + 1 < len(blocks) and _equal(blocks[last], blocks[last + 1]):
                last += 1
            for end in range(last, first, -1):
                run = blocks[first : end + 1]
                if _is_chain(run) and _is_whole(figure, run):
                    yield run
            first += 1


def _equal(one: _Block, other: _Block) -> bool:
    return one.content is not None and one.content == other.content


def _siblings(figure: Figure) -> list[list[_Block]]:
    """List the numbered modules of each module, in order of number."""
    held: dict[tuple[str, ...], dict[str, set[str]]] = {}
    for node in figure.nodes:
        parts = path(node.name)
        for k, part in enumerate(parts):
            if part.isdigit():
                held.setdefault(parts[:k], {}).setdefault(part, set()).add(node.name)
    return [
        [
            _Block(".".join([*above, number]), figure, frozenset(blocks[number]))
            for number in sorted(blocks, key=int)
        ]
        for above, blocks in sorted(held.items(), key=lambda item: len(item[0]))
    ]


def _is_chain(run: Sequence[_Block]) -> bool:
    """Say whether each block feeds the next, all by the same arrows, and is fed alike."""
    first, second, *_ = run
    wires, shared = _fed(first, second)
    if not wires or any(_fed(a, b) != (wires, shared) for a, b in pairwise(run)):
        return False
    within = frozenset().union(*(block.members for block in run))
    if any(source in within for source, _, _ in shared) or not shared <= first.entries:
        return False
    if any({t for _, t, _ in a.exits} - b.members for a, b in pairwise(run)):
        return False
    ports = {port for port, _, _ in wires}
    ends = _by_source(wires)
    starts = _by_source(first.entries - shared)
    return (
        {port for port, _, _ in run[-1].exits} <= ports
        and len(ends) == len(set(ends))
        and sorted(map(sorted, ends)) == sorted(map(sorted, starts))
    )


def _fed(above: _Block, block: _Block) -> tuple[frozenset[Wire], frozenset[Wire]]:
    """Return what a block is given by the one above it, and by anything else."""
    wires = frozenset(w for w in block.entries if w[0] in above.members)
    inner = frozenset((above.inner(source), target, flags) for source, target, flags in wires)
    return inner, block.entries - wires


def _by_source(wires: frozenset[Wire]) -> list[frozenset[tuple[str, Flags]]]:
    found: dict[str, set[tuple[str, Flags]]] = {}
    for source, target, flags in wires:
        found.setdefault(source, set()).add((target, flags))
    return [frozenset(targets) for targets in found.values()]


def _is_whole(figure: Figure, run: Sequence[_Block]) -> bool:
    """Say whether every frame lies in one block, or holds the run or nothing of it."""
    every = frozenset().union(*(block.members for block in run))
    held = (frozenset(frame.members) for frame in figure.frames)
    return all(
        every <= frame or not every & frame or any(frame <= block.members for block in run)
        for frame in held
    )


def _replaced(figure: Figure, run: Sequence[_Block]) -> Figure:
    """Keep the first block of a run, fed as it is, and let it feed what the last one feeds."""
    first, last = run[0], run[-1]
    gone = frozenset().union(*(block.members for block in run[1:]))
    _, shared = _fed(first, run[1])
    each = {(source, first.name + target) for source, target, _ in shared}
    arrows = []
    for a in figure.arrows:
        if (a.source, a.target) in each:
            arrows.append(replace(a, label=a.label or r"\text{each}"))
        elif a.source in last.members and a.target not in last.members:
            arrows.append(replace(a, source=first.name + last.inner(a.source)))
        elif not {a.source, a.target} & gone:
            arrows.append(a)
    nodes = [node for node in figure.nodes if node.name not in gone]
    kept = (
        replace(f, members=tuple(m for m in f.members if m not in gone)) for f in figure.frames
    )
    frames = [f for f in kept if f.members and not _is_superfluous(f, first)]
    scopes = {f.name for f in frames if f.scope}
    if first.members == {first.name}:
        nodes = [_counted(n, run, scopes) if n.name == first.name else n for n in nodes]
    else:
        own = tuple(n.name for n in nodes if n.name in first.members)
        title = f"{_range(run, scopes)} {_times(run)}"
        kind = next((f.kind for f in figure.frames if f.name == first.name), "")
        frames.append(Frame(first.name, title, own, scope=True, repeats=len(run), kind=kind))
        paths = {n.name for n in nodes} | {f.name for f in frames if f.scope}
        nodes = [_renamed(n, paths) if n.name in own else n for n in nodes]
    return replace(
        figure, nodes=tuple(nodes), arrows=tuple(arrows), frames=tuple(frames), graph=None
    )


def _is_superfluous(frame: Frame, block: _Block) -> bool:
    """Say whether a scope holds nothing but the block that is left."""
    return frame.scope and frame.repeats == 1 and {*frame.members} == block.members


def _counted(node: Node, run: Sequence[_Block], scopes: set[str]) -> Node:
    kind = word(node.kind.partition("(")[0])
    return replace(node, label=rf"{_range(run, scopes)}\ {kind} {_times(run)}")


def _renamed(node: Node, paths: set[str]) -> Node:
    return replace(node, label=named(short(node.name, paths), node.kind))


def _range(run: Sequence[_Block], scopes: set[str]) -> str:
    first, last = word(short(run[0].name, scopes)), word(path(run[-1].name)[-1])
    return rf"{first}\text{{–}}{last}"


def _times(run: Sequence[_Block]) -> str:
    return rf"\;\times {len(run)}"
