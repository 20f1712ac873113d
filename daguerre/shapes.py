"""Shapes before data: the whole graph is run once on tensors that have no contents."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from daguerre.devices import device_of
from daguerre.discrete import state_count
from daguerre.families import support
from daguerre.graph import GraphError
from daguerre.lags import Past
from daguerre.loading import collecting
from daguerre.locate import located
from daguerre.program import Outcome, Program, Step, check_batch, is_learned, realise, validation
from daguerre.table import Table

__all__ = ["Shape", "shape_table", "trace_shapes"]

BATCH = 10_007  # a prime that no event has: a CPD that loses the batch cannot go unnoticed


@dataclass(frozen=True)
class Shape:
    """What the CPD of a variable gives, as far as it is known without data.

    Attributes:
        event: The event shape, without the batch.
        dtype: Type of the values.
        cpd: Class of what the CPD returns; None for inputs and data.
        learned: Whether a gradient reaches the parameters of the CPD's distribution.
        support: The values that the distribution allows, where that is known without data.
        pathwise: Whether draws carry gradients.
        states: How many values there are, where they can be listed.
    """

    event: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    cpd: type | None = None
    learned: bool = False
    support: Constraint | None = None
    pathwise: bool = True
    states: int | None = None

    def __str__(self) -> str:
        return f"[{', '.join(['n', *map(str, self.event)])}]"


def trace_shapes(
    program: Program, given: Mapping[str, Shape], *, pathwise: bool = False
) -> dict[str, Shape]:
    """Run the steps on fake tensors and return the shape of every variable that can be known.

    A variable stays unknown below an input of unknown shape, or where the code of its CPD looks
    at the contents of a tensor.

    Args:
        program: The steps to run.
        given: Shapes of inputs and data.
        pathwise: Whether draws must carry gradients, as in training.

    Raises:
        InadmissibleError: A draw that must carry a gradient cannot.
        GraphError: A CPD fails on these shapes or loses the batch dimension: variable, edge,
            layer, file and line.
    """
    with collecting(enabled=False):  # here, for it is slow, and a model can be declared without it
        from torch._subclasses.fake_tensor import FakeTensorMode

        dry, fake = _Dry(program), FakeTensorMode(allow_non_fake_inputs=True)
    copies: dict[str, Tensor] = {k: fake.from_tensor(v) for k, v in dry.tensors().items()}
    try:
        with (
            _quiet(),
            located(),
            validation(enabled=False),
            torch.enable_grad(),
            fake,
            torch.device(dry.device),
            _untouched(dry),
        ):
            # fake parameters and buffers, so that what a layer counts or averages stays as it was;
            # each by one name, since torch leaves the copy behind in a module that it meets twice
            options = {"pathwise": pathwise}
            return functional_call(dry, copies, (given,), options, tie_weights=False)
    except (GraphError, TypeError) as error:
        raise type(error)(str(error).replace(str(BATCH), "n")) from None


@contextmanager
def _untouched(net: nn.Module) -> Iterator[None]:
    """Give layers back the attributes that they replace meanwhile, such as a count of calls."""
    before = [(module, dict(vars(module))) for module in net.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)


def _run(program: Program, given: Mapping[str, Shape], *, pathwise: bool) -> dict[str, Shape]:
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
    )

    shapes = dict(given)
    values = {k: torch.empty(BATCH, *s.event, dtype=s.dtype) for k, s in given.items()}
    waiting = [s for s in program.steps if s.name not in values and s.cpd is not None]
    while ready := [s for s in waiting if _taken(s, values) is not None]:
        for step in ready:
            waiting.remove(step)
            found = _taken(step, values)
            assert found is not None, "values are only added"
            try:
                outcome = step.called(found, values)
                values[step.name] = realise(step, outcome, values, BATCH, pathwise=pathwise)
            except (DataDependentOutputException, DynamicOutputShapeException):
                continue
            shapes[step.name] = _shape(step, outcome, values[step.name])
    return shapes


def _taken(step: Step, values: Mapping[str, Tensor]) -> list[Tensor] | None:
    """Return what a CPD takes in one time slice; None while something is not known.

    A parent of another slice has the shape of its variable, or of what stands in for it before
    there is a past; a number may stand for any event, so that it tells nothing.
    """
    if not {*values} >= {*step.variable.parents}:
        return None
    found = [values[name] for name in step.arguments]
    for past in step.past:
        if (value := values.get(past.variable)) is None:
            if (start := _started(past)) is None:
                return None
            value = start.expand(BATCH, *start.shape)
        found.append(value)
    return found


def _started(past: Past) -> Tensor | None:
    """Return a value of the shape of a lagged parent; None where a number stands in for it."""
    start = past.start()
    if isinstance(start, Distribution):
        return start.sample()
    value = torch.as_tensor(start)
    return value if value.dim() or not value.is_floating_point() else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging an error that is going to be raised with a better message."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _Dry(nn.Module):
    """A program as a module, to be called with other parameters and buffers than its own."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        owners = (getattr(step.cpd, "__self__", step.cpd) for step in program.steps)
        modules = {id(owner): owner for owner in owners if isinstance(owner, nn.Module)}
        self.program, self.owners = program, nn.ModuleList(modules.values())
        self.device = device_of([self]) or torch.get_default_device()

    def tensors(self) -> dict[str, Tensor]:
        """Return all parameters and buffers by name.

        Raises:
            GraphError: A parameter of a lazy module that has not seen data yet.
        """
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        for name, tensor in tensors.items():
            if is_lazy(tensor):
                where = name.split(".", 2)[-1]  # without owners.0
                raise GraphError(f"{where} is lazy and has no shape yet; draw one sample first")
        return tensors

    def forward(self, given: Mapping[str, Shape], *, pathwise: bool) -> dict[str, Shape]:
        """Run the program and return the shapes."""
        return _run(self.program, given, pathwise=pathwise)


def _shape(step: Step, outcome: Outcome, value: Tensor) -> Shape:
    check_batch(step, value.shape, BATCH)
    learned = isinstance(outcome, Distribution) and is_learned(outcome)
    event = tuple(value.shape[1:])
    kind = Tensor if isinstance(outcome, Tensor) else type(outcome)  # not FakeTensor
    if not isinstance(outcome, Distribution):
        return Shape(event, value.dtype, kind)
    count = state_count(outcome, is_root=step.is_root)
    return Shape(event, value.dtype, kind, learned, _support(outcome), outcome.has_rsample, count)


def _support(outcome: Distribution) -> Constraint | None:
    allowed = support(outcome)
    bounds = vars(allowed).values() if allowed is not None else ()
    return None if any(isinstance(b, Tensor) for b in bounds) else allowed


def shape_table(program: Program, shapes: Mapping[str, Shape]) -> Table:
    """Lay out the shapes of a program for people: variable, parents, kind, shape, type, CPD."""

    def row(step: Step) -> tuple[str, ...]:
        shape = shapes.get(step.name)
        shown = (str(shape), str(shape.dtype).removeprefix("torch.")) if shape else ("?", "?")
        cpd = shape.cpd.__name__ if shape and shape.cpd else "given" if step.cpd is None else "?"
        kind = program.graph.kind(step.name)
        return step.name, ", ".join(step.variable.parents) or "-", kind, *shown, cpd, step.place

    columns = ("variable", "parents", "kind", "shape", "dtype", "CPD", "declared at")
    return Table(columns, tuple(row(step) for step in program.steps))
