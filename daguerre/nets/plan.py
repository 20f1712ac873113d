"""Which values of a recording become variables, how they are called, and what computes them.

A variable stands for a module call or for an operation outside of one. What computes it is a
block: the operations between its value and the variables above. Everything else (sizes, tuples,
what depends on no input) lives inside the blocks that use it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch.utils._pytree as pytree

from daguerre.graph import Graph, Variable
from daguerre.nets.recording import Held, Op, Recording, Result, used

__all__ = ["Block", "Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Block:
    """What computes a variable.

    Attributes:
        result: The operation whose result the variable is.
        sources: The variables above, as the operations whose results they are.
        inner: The operations to run, in order; the result is among them.
    """

    result: int
    sources: tuple[int, ...]
    inner: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A recording as a graph.

    Attributes:
        graph: The graph.
        blocks: What computes each variable; inputs have none.
        names: The variable of each operation that has one.
    """

    graph: Graph
    blocks: dict[str, Block]
    names: dict[int, str]

    def held(self, recording: Recording, name: str) -> tuple[str, ...]:
        """Return the parameters and buffers that the block of a variable uses."""
        inner = self.blocks[name].inner if name in self.blocks else ()
        found = (u for i in inner for u in _references(recording.ops[i]))
        return tuple(dict.fromkeys(u.name for u in found if isinstance(u, Held)))


def plan(recording: Recording, depth: int | None, *, is_layer: bool) -> Plan:
    """Choose the variables of a recording.

    Args:
        recording: What the net did.
        depth: How many levels of modules to look into; None for all.
        is_layer: Whether the net is a layer, such as an LSTM, that is not looked into.
    """
    return _Planner(recording, depth, is_layer=is_layer).plan()


def _references(op: Op) -> Iterable[Any]:
    yield from used(op.arguments)
    yield from used(op.options)


class _Planner:
    def __init__(self, recording: Recording, depth: int | None, *, is_layer: bool) -> None:
        self.ops = recording.ops
        self.outputs = [
            r.number for r in pytree.tree_leaves(recording.outputs) if isinstance(r, Result)
        ]
        self.above = [
            sorted({r.number for r in _references(op) if isinstance(r, Result)}) for op in self.ops
        ]
        self.depends = self._depends()
        self.checks = [i for i, op in enumerate(self.ops) if self._is_check(i, op)]
        self.live = self._live()
        self.calls = self._calls(depth, is_layer=is_layer)

    def plan(self) -> Plan:
        """Return the plan."""
        carried = self._carried()
        names = self._names(carried)
        watch = self._watch(carried)
        blocks, variables = {}, []
        for number in carried:
            op, name = self.ops[number], names[number]
            if op.role == "input":
                variables.append(Variable(name, map="input"))
                continue
            block = blocks[name] = self._block(number, watch.get(number, []), names)
            parents = tuple(names[s] for s in block.sources)
            map_ = "stochastic" if op.role == "noise" else "deterministic"
            variables.append(Variable(name, parents, map_))
        return Plan(Graph(variables), blocks, names)

    def _depends(self) -> list[bool]:
        """Say of each operation whether it depends on an input or on noise."""
        depends: list[bool] = []
        for op, above in zip(self.ops, self.above, strict=True):
            depends.append(op.role in ("input", "noise") or any(depends[i] for i in above))
        return depends

    def _is_check(self, number: int, op: Op) -> bool:
        return op.role == "check" and self.depends[number]

    def _live(self) -> set[int]:
        live, frontier = set[int](), [*self.outputs, *self.checks]
        while frontier:
            number = frontier.pop()
            if number not in live:
                live.add(number)
                frontier += self.above[number]
        return live

    def _calls(self, depth: int | None, *, is_layer: bool) -> list[tuple[str, ...] | None]:
        """Return the module call that each operation is part of, or None if it stands alone."""
        paths = {op.path for op in self.ops}
        containers = {path[:k] for path in paths for k in range(len(path))}
        containers |= set() if is_layer else {()}

        def call(op: Op) -> tuple[str, ...] | None:
            if op.role in ("input", "noise"):
                return None
            if depth is not None and len(op.path) >= depth:
                return op.path[:depth]
            return op.path if op.path not in containers else None

        return [call(op) for op in self.ops]

    def _carried(self) -> list[int]:
        """Return the operations whose results are variables, in order."""
        outside = set(self.outputs)
        for number in self.live:
            call = self.calls[number]
            outside.update(i for i in self.above[number] if call is None or self.calls[i] != call)
        inputs = {i for i, op in enumerate(self.ops) if op.role == "input"}
        shown = {i for i in outside & self.live if self._is_shown(i)}
        return sorted(inputs | shown | {i for i in self.outputs if self.ops[i].layout})

    def _is_shown(self, number: int) -> bool:
        layout = self.ops[number].layout
        if layout is None:
            return False
        return self.depends[number] or (self.calls[number] is not None and layout.dim is None)

    def _watch(self, carried: list[int]) -> dict[int, list[int]]:
        """Give each check to the first variable that is computed after it."""
        maps = [i for i in carried if self.ops[i].role == "map" and self.depends[i]]
        watch: dict[int, list[int]] = {}
        for check in self.checks:
            watch.setdefault(next((i for i in maps if i > check), maps[-1]), []).append(check)
        return watch

    def _block(self, result: int, checks: list[int], names: dict[int, str]) -> Block:
        sources, inner, frontier = set[int](), set[int](), [result, *checks]
        while frontier:
            number = frontier.pop()
            if number in names and number != result:
                sources.add(number)
            elif number not in inner:
                inner.add(number)
                frontier += self.above[number]
        return Block(result, tuple(sorted(sources)), tuple(sorted(inner)))

    def _names(self, carried: list[int]) -> dict[int, str]:
        """Name each variable by its module call, or by its operation and the scope around it."""
        last = {self.calls[i]: i for i in carried if self.calls[i] is not None}
        taken = Counter(c[-1] for c in last if c)
        taken.update(self.ops[i].label for i in carried if self.ops[i].role == "input")
        names = {}
        for number in carried:
            op, call = self.ops[number], self.calls[number]
            if op.role == "input":
                names[number] = op.label
            elif call and last[call] == number:
                names[number] = call[-1]
            else:
                names[number] = _unused(call or op.path, op.label, taken)
        return names


def _unused(path: tuple[str, ...], label: str, taken: Counter[str]) -> str:
    """Return scope and label with a number if they are taken: `block.add_1@1`."""
    scope, at, call = path[-1].partition("@") if path else ("", "", "")
    name = f"{scope}.{label}" if scope else label
    full = f"{name}{at}{call}"
    count = 0
    while full in taken:
        count += 1
        full = f"{name}_{count}{at}{call}"
    taken[full] += 1
    return full
