"""Which units of a variable depend on which units of the variables above it.

In closed form where a single operation does the work: a dense layer connects everything, an
elementwise one like to like, a view what it moves, a convolution what its weights reach. Elsewhere
by perturbation: all parameters are drawn anew, one unit takes the value it has on another input,
and what moves depends on it. Units that no input changes, such as masked ones, connect nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from operator import getitem
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from daguerre.graph import GraphError
from daguerre.nets.imported import Imported, Run
from daguerre.nets.plan import Block
from daguerre.nets.recording import Held, HeldBy, Op, Result, used
from daguerre.program import Step, Values

__all__ = [
    "ClosedForm",
    "closed_form",
    "is_elementwise",
    "perturbed",
    "redraw",
    "stirred",
    "worker",
]

Shape = tuple[int, ...]
_CHUNK = 2**22  # numbers computed at a time
_ALIKE = {"batch_norm", "_native_batch_norm_legit_no_training", "dropout", "to", "_to_copy"}
_MOVES = {"cat", "stack", "flip", "roll"}
_REACHES = {f"{conv}{d}d" for conv in ("conv", "conv_transpose") for d in (1, 2, 3)}


def redraw(net: nn.Module) -> None:
    """Draw all parameters anew and leave buffers as they are.

    Weights have the variance 2 / fan_in (He et al. 2015, arXiv 1502.01852), which carries a signal
    through deep nets; others have variance 1.
    """
    with torch.no_grad():
        for parameter in net.parameters():
            fan_in = prod(parameter.shape[1:]) if parameter.dim() > 1 else 2
            parameter.normal_(0.0, (2.0 / fan_in) ** 0.5)


class ClosedForm(NamedTuple):
    """The connections of a variable with one above it, as far as its operation tells.

    Attributes:
        connected: Booleans `[units above, units]`, in row-major order.
        certain: Whether all of them are there: a number may cut some off, as in `x * 0`.
    """

    connected: Tensor
    certain: bool = True


def closed_form(model: Imported, block: Block, source: int, above: Shape) -> ClosedForm | None:
    """Return the connections of a variable with one above it, or None where no rule knows them.

    Args:
        model: The net.
        block: What computes the variable.
        source: The operation that the variable above is the result of.
        above: The event shape of the variable above.
    """
    op, layout = worker(model.recording.ops, block), model.recording.ops[block.result].layout
    if op is None or layout is None:
        return None
    below, held = layout.event, [u.name for u in used(op.arguments) if isinstance(u, Held)]
    learned = {*held} <= {name for name, _ in model.net.named_parameters(remove_duplicate=False)}
    if op.label == "linear" and learned and len(above) == len(below) == 1:
        return ClosedForm(torch.ones(prod(above), prod(below), dtype=torch.bool))
    if is_elementwise(op) and len(above) == len(below):
        has_numbers = any(isinstance(a, int | float) for a in op.arguments)
        return ClosedForm(_alike(above, below), op.label in _ALIKE or not has_numbers)
    if not held and (op.label in _MOVES or _is_view(op)):
        return ClosedForm(_moved(model, block, source, above))
    if op.label in _REACHES and learned:
        return ClosedForm(_reached(model, block, source, above))
    return None


def worker(ops: Sequence[Op], block: Block) -> Op | None:
    """Return the only operation of a block that works on values; None if there are several."""
    working = [ops[i] for i in block.inner if _results(ops[i])]
    if len(working) == 2 and working[1].function is getitem:
        working.pop()  # the first of what batch_norm returns
    if len(working) != 1 or working[0].role != "map":
        return None
    computed = set(_results(working[0])) - set(block.sources)  # constants, such as masked weights
    return None if computed else working[0]


def is_elementwise(op: Op) -> bool:
    """Whether every unit of the result depends on its like alone."""
    masked = any(isinstance(u, Held) for u in used(op.arguments))
    pointwise = torch.Tag.pointwise in getattr(op.function, "tags", ())
    return op.label in _ALIKE or (pointwise and not masked)


def _results(op: Op) -> list[int]:
    return [u.number for u in used((op.arguments, op.options)) if isinstance(u, Result)]


def _is_view(op: Op) -> bool:
    returns = getattr(getattr(op.function, "_schema", None), "returns", ())
    return any(r.alias_info is not None for r in returns)


def _alike(above: Shape, below: Shape) -> Tensor:
    """Connect like to like, where one may be broadcast to the other."""
    units = torch.arange(prod(above)).reshape(above).expand(below).flatten()
    return units == torch.arange(prod(above))[:, None]


def _moved(model: Imported, block: Block, source: int, above: Shape) -> Tensor:
    """Follow the numbers of the units through an operation that only moves values."""
    m, ops = prod(above), model.recording.ops
    rows = {s: torch.full((1, *ops[s].layout.event), -1) for s in block.sources}  # type: ignore[union-attr]
    rows[source] = torch.arange(m).reshape(1, *above)
    units = _evaluate(model, block, rows, model.held())[0].flatten()
    return units == torch.arange(m)[:, None]


class _Ones(HeldBy):
    """Parameters and buffers that are one everywhere, so that nothing cancels."""

    def __getitem__(self, name: str) -> Tensor:
        return torch.ones_like(super().__getitem__(name), dtype=torch.float64)


def _reached(model: Imported, block: Block, source: int, above: Shape) -> Tensor:
    """See where one unit after the other arrives through weights of one."""
    m, held = prod(above), _Ones(model.net, {})
    still = _evaluate(model, block, {source: torch.zeros(1, *above, dtype=torch.float64)}, held)
    found = []
    for units in torch.arange(m).split(_rows_at_a_time(still)):
        hot = torch.zeros(len(units), m, dtype=torch.float64)
        hot[torch.arange(len(units)), units] = 1.0
        rows = {source: hot.reshape(-1, *above)}
        reached = _evaluate(model, block, rows, held) > still
        found.append(reached.reshape(len(units), -1))
    return torch.cat(found)


def _evaluate(
    model: Imported, block: Block, rows: Mapping[int, Tensor], held: Mapping[str, Tensor]
) -> Tensor:
    value = Run(model.recording, block).outcome(model, held, [rows[s] for s in block.sources])
    assert isinstance(value, Tensor)  # only maps are evaluated
    return value


def perturbed(step: Step, parent: str, values: Values) -> Tensor:
    """Return what moves when one unit after the other of a parent takes another value.

    Args:
        step: The variable and its CPD.
        parent: The variable above whose units are changed.
        values: `[2, *event]` of all variables above: as they are, and on another input.

    Returns:
        Booleans `[units above, units]`.

    Raises:
        GraphError: The rows of a batch depend on each other.
    """
    here, there = values[parent][:1], values[parent][1:]
    alone = _signals(step.outcome({p: values[p][:1] for p in step.arguments}))
    found = []
    for units in torch.arange(here.numel()).split(_rows_at_a_time(alone)):
        rows = here.reshape(1, -1).repeat(len(units) + 2, 1)  # the first and last stay
        each = torch.arange(len(units))
        rows[each + 1, units] = there.flatten()[units]
        batch = {p: values[p][:1].expand(len(rows), *values[p].shape[1:]) for p in step.arguments}
        batch[parent] = rows.reshape(-1, *here.shape[1:])
        signals = _signals(step.outcome(batch))
        if _differ(signals[[0, -1]], alone).any():
            raise GraphError(
                f"{step}: the rows of a batch depend on each other, so {step.name} has no units"
                " of one row; is the first dimension of the example the batch?"
            )
        found.append(_differ(signals[1:-1], signals[:1]))
    return torch.cat(found).any(-1)


def stirred(step: Step, parent: str, values: Values) -> Tensor:
    """Return which units move when all units of a parent take other values, `[units]`."""
    before = {p: values[p][:1] for p in step.arguments}
    after = {**before, parent: values[parent][1:]}
    return _differ(_signals(step.outcome(after)), _signals(step.outcome(before)))[0].any(-1)


def _rows_at_a_time(signals: Tensor) -> int:
    return max(1, _CHUNK // max(1, signals.numel()))


def _signals(outcome: Any) -> Tensor:
    """Return what a CPD says of each unit, `[n, units, signals]`: values, or parameters."""
    if isinstance(outcome, Tensor):
        return outcome.reshape(outcome.shape[0], -1, 1)
    assert isinstance(outcome, Distribution)
    shape, parameters = outcome.batch_shape, outcome.arg_constraints
    found = (vars(outcome)[name] for name in parameters if name in vars(outcome))
    parts = [p.reshape(shape[0], prod(shape[1:]), -1) for p in found if isinstance(p, Tensor)]
    return torch.cat(parts, -1)


def _differ(a: Tensor, b: Tensor) -> Tensor:
    """Say where two signals differ by more than rounding."""
    if not a.is_floating_point():
        return a != b
    size = torch.maximum(a.abs(), b.abs()).nan_to_num(0.0, 0.0, 0.0).amax(0, keepdim=True)
    tolerance = 1e-9 if a.dtype == torch.float64 else 1e-4
    same = (a == b) | (a.isnan() & b.isnan()) | ((a - b).abs() <= tolerance * size)
    return ~same
