"""Trace one slice of a recursion, keep watch of what was traced, and run all slices by it.

Torch's tracer says at each step whether a CPD, or what it reads, is still what was traced; where
it is not, the slice is traced again. What cannot be traced or parted is run slice by slice by
whoever asked, as is what gives other numbers on its first slices than they.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from types import FunctionType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.fx import GraphModule

from daguerre.program import Realise
from daguerre.recorded.check import check_slices
from daguerre.recorded.in_place import Unfit
from daguerre.recorded.parted import Parted
from daguerre.recorded.slices import Order, run_slices
from daguerre.recorded.tape import Slots, Tape, slice_of

__all__ = ["Recorder", "recorder_for", "recording"]

ROWS = 97  # of specimens, for any number of them
FEWEST = 16  # slices that are worth to be traced

Key = TypeVar("Key")

_active: list[Recorder | None] = []  # of the innermost context last


@contextmanager
def recording(by: Recorder | None) -> Iterator[None]:
    """Let recursions with a gradient be recorded for a while."""
    _active.append(by)
    try:
        yield
    finally:
        _active.pop()


def recorder_for(names: tuple[str, ...], slices: int) -> Recorder | None:
    """Return what records so many slices of some variables; None where nothing does."""
    found = _active[-1] if _active and torch.is_grad_enabled() else None
    return found if found is not None and found.takes(names, slices) else None


class Recorder:
    """What a training step has recorded.

    Attributes:
        refused: Why a recursion is run slice by slice, by the names of its variables.
    """

    def __init__(self) -> None:
        self.refused: dict[tuple[str, ...], str] = {}
        self._slices: dict[tuple[str, ...], _Slice] = {}

    @property
    def recorded(self) -> list[tuple[str, ...]]:
        """The names of the variables of each recursion that is recorded."""
        return [names for names in self._slices if names not in self.refused]

    def takes(self, names: tuple[str, ...], slices: int) -> bool:
        """Whether so many slices of some variables may be recorded."""
        return slices >= FEWEST and names not in self.refused

    def run(self, tape: Tape, value_of: Realise) -> Sequence[Tensor] | None:
        """Run the slices of a recursion.

        Returns:
            The rows of all slices after each other, of each variable, then of each parameter
            that is kept; None where they cannot be recorded.
        """
        if tape.counts[0] < max(2 * tape.copies, 2):
            return None  # what is traced for one row need not hold for more
        names = tuple(line.step.name for line in tape.lines)
        try:
            if names not in self._slices:
                self._slices[names] = _Slice()
            return self._slices[names].run(tape, value_of)
        except (Unfit, *_untraceable()) as why:
            self.refused[names] = str(why)
            return None


def _untraceable() -> tuple[type[Exception], ...]:
    from torch._dynamo import exc  # which torch loads when it first traces

    return exc.TorchDynamoException, exc.FailOnRecompileLimitHit


class _Traced(NamedTuple):
    """What was traced.

    Attributes:
        module: The slice as operations.
        inputs: What it takes at present.
        outputs: What it gives: tensors that stand for these.
    """

    module: GraphModule
    inputs: Sequence[Any]
    outputs: Sequence[Tensor]


class _Call(NamedTuple):
    """What the code of a slice takes of a recursion, and gives.

    Attributes:
        slots: The numbers of the inputs that are slices before, by variable and how long ago.
        reads: Those of the inputs that are known, by their place in a tape.
        outputs: Which output each variable and parameter is.
        held: The inputs that are the same for all rows.
        depth: How many slices before a tape has.
    """

    slots: Mapping[tuple[int, int], int]
    reads: Mapping[int, int]
    outputs: Sequence[int]
    held: Sequence[Tensor]
    depth: int

    @classmethod
    def of(cls, traced: _Traced, before: Slots, known: Slots, found: Sequence[Tensor]) -> _Call:
        """Find what was put in, and what came out.

        Raises:
            Unfit: Not all that came out was computed.
        """
        taken = {(k, ago): one for k, line in enumerate(before) for ago, one in enumerate(line, 1)}
        slots = _numbers(taken, traced.inputs)
        reads = _numbers(dict(enumerate(chain(*known))), traced.inputs)
        outputs = _numbers(dict(enumerate(found)), traced.outputs)
        if len(outputs) < len(found):
            raise Unfit("a variable is the same as one that it is made of")
        rows = {*slots.values(), *reads.values()}
        held = [v for i, v in enumerate(traced.inputs) if i not in rows and isinstance(v, Tensor)]
        return cls(slots, reads, [*outputs.values()], held, len(before[0]))

    def part(self, module: GraphModule) -> Parted:
        """Trace the gradient of what was traced, and part both."""
        return Parted.of(module, [*self.slots.values()], [*self.reads.values()])

    def run(self, parted: Parted, tape: Tape) -> Sequence[Tensor]:
        """Run the slices of a recursion."""
        values = self.outputs[: len(tape.lines)]
        order = Order(tape.counts, tape.chosen, [*self.slots], values, self.depth)
        known = [*chain(*tape.known)]
        given = [*chain(*tape.before)], [known[i] for i in self.reads], self.held
        outputs = run_slices(parted, order, *given)
        return [outputs[i] for i in self.outputs]


class _Slice:
    """The code of one slice, for as long as what it was traced from is the same.

    Raises:
        Unfit: Torch does not trace in this Python.
    """

    def __init__(self) -> None:
        code = slice_of.__code__.replace()  # torch keeps what it traced with the code object
        own = FunctionType(code, slice_of.__globals__, "slice_of")
        try:
            self._trace = torch.compile(own, backend=self._note, fullgraph=True, dynamic=False)
        except RuntimeError as error:
            raise Unfit(f"torch cannot trace: {error}") from error
        self._parted: dict[GraphModule, Parted] = {}
        self._latest: _Traced | None = None
        self._count = 0

    def run(self, tape: Tape, value_of: Realise) -> Sequence[Tensor]:
        """Run the slices of a recursion.

        Raises:
            Unfit: They cannot be run so; says why.
        """
        before, known = _specimens(tape)
        self._count = sum(1 + len(line.parameters) for line in tape.lines)
        found = self._trace(tape.lines, before, known, tape.within, tape.copies, value_of)
        traced, self._latest = self._latest, None
        if traced is None:
            raise Unfit("torch traces nothing at present")
        call = _Call.of(traced, before, known, found)
        if traced.module not in self._parted:
            parted = call.part(traced.module)
            run = partial(call.run, parted)
            check_slices(run, tape.head(2), value_of, call.held, is_short=parted.is_short)
            self._parted[traced.module] = parted
        parted = self._parted[traced.module]
        for count in {*tape.counts}:
            parted.check(count)
        return call.run(parted, tape)

    def _note(
        self, module: GraphModule, examples: Sequence[Any]
    ) -> Callable[..., Sequence[Tensor]]:
        """Note what was traced, and what it is called with: torch's hook for compilers.

        Raises:
            Unfit: It gives more than a slice, for someone to remember.
        """
        del examples
        (end,) = module.graph.find_nodes(op="output")
        if len(end.args[0]) > self._count:
            raise Unfit("a CPD keeps something for itself")
        outputs = [torch.empty(0) for _ in end.args[0]]

        def noted(*inputs: Any) -> Sequence[Tensor]:
            self._latest = _Traced(module, inputs, outputs)
            return outputs

        return noted


def _specimens(tape: Tape) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Return tensors without contents for what a slice takes, with any number of rows."""

    def one(like: Tensor, *, learns: bool) -> Tensor:
        made = like.new_empty(ROWS * tape.copies, *like.shape[1:])
        torch._dynamo.mark_dynamic(made, 0)
        return made.requires_grad_(learns)

    learns = [any(one.requires_grad for one in line) for line in tape.before]
    before = zip(tape.before, learns, strict=True)
    return (
        [[one(like, learns=flows) for like in line] for line, flows in before],
        [[one(like, learns=like.requires_grad) for like in line] for line in tape.known],
    )


def _numbers(values: Mapping[Key, Tensor], among: Sequence[Any]) -> dict[Key, int]:
    """Return which of several things each value is, as far as it is one of them."""
    numbers = {id(one): number for number, one in enumerate(among)}
    return {key: numbers[id(one)] for key, one in values.items() if id(one) in numbers}
