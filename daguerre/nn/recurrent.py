"""Torch's recurrent cells for all time steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["over_time"]

by_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
by_tanh = torch.ops.aten.tanh_backward.grad_input
by_relu = torch.ops.aten.threshold_backward.grad_input
Cell = nn.RNNCell | nn.GRUCell | nn.LSTMCell


def over_time(cell: Cell, inputs: Tensor, before: Tensor) -> Tensor:
    r"""Run a recurrent cell over all steps of its inputs: the `over_time` form of a recursion.

    $h_t = \mathrm{cell}(x_t, h_{t-1})$. A GRU runs as torch's fused net. RNN and LSTM, of which
    torch adds up gradients step by step or hides the memory cells, run here, with one product for
    the gradient of each weight.

    Args:
        cell: An `nn.RNNCell`, `nn.GRUCell` or `nn.LSTMCell`.
        inputs: What it reads, `[n, T, d]`.
        before: Its state before the first step, `[n, hidden]`; of an LSTM the outputs and then
            the memory cells, `[n, 2 hidden]`.

    Returns:
        The states after each step, `[n, T, hidden]`, of an LSTM `[n, T, 2 hidden]`.

    Raises:
        TypeError: Another kind of cell.
        ValueError: Shapes that do not fit the cell.

    References:
        Hochreiter and Schmidhuber (1997), *Long short-term memory*; Cho et al. (2014,
        arXiv 1406.1078).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> cell, x, before = nn.GRUCell(3, 4), torch.randn(2, 5, 3), torch.zeros(2, 4)
        >>> states = over_time(cell, x, before)
        >>> torch.allclose(states[:, 0], cell(x[:, 0], before), atol=1e-6)
        True
    """
    _check(cell, inputs, before)
    inputs = inputs.transpose(0, 1).contiguous()
    if isinstance(cell, nn.GRUCell):
        return _gru(cell, inputs, before).transpose(0, 1)
    weight = torch.cat((cell.weight_ih, cell.weight_hh), 1)
    bias = cell.bias_ih + cell.bias_hh if cell.bias else weight.new_zeros(len(weight))
    if isinstance(cell, nn.RNNCell):
        states = _RNN.apply(inputs, before, weight, bias, cell.nonlinearity == "relu")
    else:
        states = _LSTM.apply(inputs, before, weight, bias, torch.is_grad_enabled())
    return states.transpose(0, 1)  # type: ignore[union-attr]


def _check(cell: Cell, inputs: Tensor, before: Tensor) -> None:
    if not isinstance(cell, Cell):
        raise TypeError(
            "over_time takes an nn.RNNCell, nn.GRUCell or nn.LSTMCell, not"
            f" {type(cell).__name__}; a net of your own says itself how it runs over all steps"
        )
    size = cell.hidden_size * (2 if isinstance(cell, nn.LSTMCell) else 1)
    if inputs.dim() != 3 or inputs.shape[2] != cell.input_size or inputs.shape[1] == 0:
        raise ValueError(
            f"{cell} reads inputs [n, T, {cell.input_size}] of a step or more, but the shape"
            f" came as {list(inputs.shape)}"
        )
    if before.shape != (len(inputs), size):
        raise ValueError(
            f"{cell} starts with a state [{len(inputs)}, {size}], but the shape came as"
            f" {list(before.shape)}"
        )


def _gru(cell: nn.GRUCell, inputs: Tensor, before: Tensor) -> Tensor:
    """Return the units after each step, `[T, n, hidden]`."""
    weights = [cell.weight_ih, cell.weight_hh]
    weights += [cell.bias_ih, cell.bias_hh] if cell.bias else []
    flags = (cell.bias, 1, 0.0, False, False, False)  # one layer, no dropout, forwards
    return torch.gru(inputs, before[None].contiguous(), weights, *flags)[0]


def _apart(weight: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns of the weights `[units, d + hidden]` that meet inputs, and states."""
    return weight[:, : inputs.shape[2]], weight[:, inputs.shape[2] :]


def _gradients(
    ctx: Any, by: Tensor, inputs: Tensor, outputs: tuple[Tensor, Tensor], weight: Tensor
) -> tuple[Any, ...]:
    """Return the gradients by the inputs, by the states before, by the weights and the bias.

    Args:
        ctx: Of a function whose first argument is the inputs.
        by: The gradient by what inputs and states add to, `[T, n, units]`.
        inputs: The inputs `[T, n, d]`.
        outputs: Those before the first step, `[n, hidden]`, and after each, `[T, n, hidden]`.
        weight: The weights `[units, d + hidden]`.
    """
    into, back = _apart(weight, inputs)
    rows = by.flatten(0, 1)
    to_inputs = (rows @ into).view_as(inputs) if ctx.needs_input_grad[0] else None
    met = torch.empty_like(weight)
    into_met, back_met = _apart(met, inputs)
    torch.mm(rows.t(), inputs.flatten(0, 1), out=into_met)
    first, later = outputs
    torch.mm(by[0].t(), first, out=back_met)
    back_met.addmm_(rows[len(first) :].t(), later[:-1].flatten(0, 1))
    return to_inputs, by[0] @ back, met, rows.sum(0)


class _RNN(torch.autograd.Function):
    """The recursion of a plain net over its inputs `[T, n, d]`, to units `[T, n, hidden]`."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        h: Tensor,
        weight: Tensor,
        bias: Tensor,
        rectified: bool,  # noqa: FBT001 - autograd passes by position
    ) -> Any:
        into, back = (part.t().contiguous() for part in _apart(weight, inputs))
        outputs = torch.addmm(bias, inputs.flatten(0, 1), into).unflatten(0, inputs.shape[:2])
        ctx.save_for_backward(inputs, outputs, h, weight)
        ctx.rectified = rectified
        for out in outputs.unbind(0):
            out.addmm_(h, back)
            h = out.relu_() if rectified else out.tanh_()
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by: Tensor) -> Any:  # type: ignore[override]
        (by_output,), (inputs, outputs, h, weight) = by, ctx.saved_tensors
        _, back = _apart(weight, inputs)
        back, by_units = back.contiguous(), torch.empty_like(outputs)
        steps = [*zip(*(part.unbind(0) for part in (by_output, outputs, by_units)), strict=True)]
        to_h = by_output[-1]
        for t in reversed(range(len(steps))):
            _, out, by_unit = steps[t]
            if ctx.rectified:
                by_relu(to_h, out, 0, grad_input=by_unit)
            else:
                by_tanh(to_h, out, grad_input=by_unit)
            if t:
                to_h = torch.addmm(steps[t - 1][0], by_unit, back)
        return *_gradients(ctx, by_units, inputs, (h, outputs), weight), None


class _Gates(NamedTuple):
    """The gates of one step, `[n, 4 hidden]`, in torch's order, and parts of them."""

    all: Tensor
    ways: Tensor
    taken: Tensor
    kept: Tensor
    candidate: Tensor
    shown: Tensor

    @classmethod
    def by_step(cls, gates: Tensor) -> list[_Gates]:
        """View those of all steps, `[T, n, 4 hidden]`, step by step."""
        parts = (gates, gates[..., : gates.shape[-1] // 2], *gates.chunk(4, -1))
        return [cls(*step) for step in zip(*(part.unbind(0) for part in parts), strict=True)]


class _LSTM(torch.autograd.Function):
    """The recursion of an LSTM over its inputs `[T, n, d]`, to states `[T, n, 2 hidden]`.

    All is done step by step, so that each function finds its numbers in the cache, not in main
    memory; without a gradient the gates of all steps are in one place.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        before: Tensor,
        weight: Tensor,
        bias: Tensor,
        learns: bool,  # noqa: FBT001 - autograd passes by position
    ) -> Any:
        steps, n = inputs.shape[:2]
        gates = inputs.new_empty(steps if learns else 1, n, len(weight)).expand(steps, -1, -1)
        states = inputs.new_empty(steps + 1, *before.shape)
        states[0] = before
        ctx.save_for_backward(inputs, gates, states, weight)
        (h, *outputs), (c, *cells) = (part.unbind(0) for part in states.chunk(2, 2))
        into, back = (part.t().contiguous() for part in _apart(weight, inputs))
        by_step = zip(inputs.unbind(0), _Gates.by_step(gates), outputs, cells, strict=True)
        for x, gate, out, cell in by_step:
            torch.addmm(bias, x, into, out=gate.all)
            gate.all.addmm_(h, back)
            gate.ways.sigmoid_()
            gate.candidate.tanh_()
            gate.shown.sigmoid_()
            torch.mul(gate.taken, gate.candidate, out=cell)
            c = cell.addcmul_(gate.kept, c)
            torch.tanh(cell, out=out)
            h = out.mul_(gate.shown)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by: Tensor) -> Any:  # type: ignore[override]
        (by_states,), (inputs, gates, states, weight) = by, ctx.saved_tensors
        _, back = _apart(weight, inputs)
        hidden = back.shape[1]
        by_gates = torch.empty_like(gates)
        cells = states[:, :, hidden:].unbind(0)
        by_outputs, by_cells = (part.unbind(0) for part in by_states.chunk(2, 2))
        steps = [*zip(_Gates.by_step(gates), _Gates.by_step(by_gates), strict=True)]
        to_h, to_c = by_outputs[-1], by_cells[-1]
        for t in reversed(range(len(gates))):
            gate, own = steps[t]
            to_c = _slopes(gate, own, to_h, to_c, cells[t : t + 2])
            if t:
                to_h = torch.addmm(by_outputs[t - 1], own.all, back)
            to_c = torch.addcmul(by_cells[t - 1], to_c, gate.kept) if t else to_c * gate.kept
        outputs = (states[0, :, :hidden], states[1:, :, :hidden])
        found = _gradients(ctx, by_gates, inputs, outputs, weight)
        to_inputs, by_output, by_weight, by_bias = found
        return to_inputs, torch.cat((by_output, to_c), 1), by_weight, by_bias, None


def _slopes(
    gate: _Gates, by: _Gates, to_h: Tensor, to_c: Tensor, cells: Sequence[Tensor]
) -> Tensor:
    """Write the gradient by the gates of one step; return that by its memory cell.

    Args:
        gate: The gates.
        by: The gradients, to be written.
        to_h: The gradient by the output.
        to_c: That by the memory cell, but for what comes through the output.
        cells: The memory cell before, and that of the step.
    """
    squashed = cells[1].tanh()
    torch.mul(to_h, squashed, out=by.shown)
    through = to_h * gate.shown
    to_c = to_c + by_tanh(through, squashed, grad_input=through)
    torch.mul(to_c, gate.candidate, out=by.taken)
    torch.mul(to_c, cells[0], out=by.kept)
    torch.mul(to_c, gate.taken, out=by.candidate)
    by_sigmoid(by.ways, gate.ways, grad_input=by.ways)
    by_sigmoid(by.shown, gate.shown, grad_input=by.shown)
    by_tanh(by.candidate, gate.candidate, grad_input=by.candidate)
    return to_c
