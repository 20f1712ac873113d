"""Torch's recurrent cells for all time steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

__all__ = ["over_time"]

by_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
by_tanh = torch.ops.aten.tanh_backward.grad_input
Cell = nn.RNNCell | nn.GRUCell | nn.LSTMCell


def over_time(cell: Cell, inputs: Tensor, before: Tensor) -> Tensor:
    r"""Run a recurrent cell over all steps of its inputs: the `over_time` form of a recursion.

    $h_t = \mathrm{cell}(x_t, h_{t-1})$. A GRU runs as torch's fused net. For RNN and LSTM, of
    which torch multiplies and adds up gradients step by step or hides the memory cells, one
    product takes all inputs to the units, and one gives the gradient of each weight, so that only
    what must is done step by step.

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
    inputs = inputs.transpose(0, 1)
    if isinstance(cell, nn.GRUCell):
        return _gru(cell, inputs, before).transpose(0, 1)
    bias = cell.bias_ih + cell.bias_hh if cell.bias else None
    added = linear(inputs.flatten(0, 1), cell.weight_ih, bias)
    if isinstance(cell, nn.RNNCell):
        added = added.unflatten(0, inputs.shape[:2])
        states = _RNN.apply(added, before, cell.weight_hh, cell.nonlinearity == "relu")
    else:
        states, _ = _LSTM.apply(added, before, cell.weight_hh)  # type: ignore[misc] - it is untyped
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


class _RNN(torch.autograd.Function):
    """The recursion of a plain net, given what its inputs add to the units `[T, n, hidden]`."""

    @staticmethod
    def forward(ctx: Any, added: Tensor, h: Tensor, weight: Tensor, rectified: bool) -> Any:  # noqa: FBT001 - autograd passes by position
        outputs, back = torch.empty_like(added), weight.t().contiguous()
        ctx.save_for_backward(outputs, h, weight)
        ctx.rectified = rectified
        for new, out in zip(added.unbind(0), outputs.unbind(0), strict=True):
            torch.addmm(new, h, back, out=out)
            h = out.relu_() if rectified else out.tanh_()
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by: Tensor) -> Any:  # type: ignore[override]
        (by_output,), (outputs, h, weight) = by, ctx.saved_tensors
        slopes = (outputs > 0).to(outputs.dtype) if ctx.rectified else 1 - outputs * outputs
        by_units = torch.empty_like(outputs)
        to_h = by_output[-1]
        for t in reversed(range(len(outputs))):
            torch.mul(to_h, slopes[t], out=by_units[t])
            if t:
                to_h = torch.addmm(by_output[t - 1], by_units[t], weight)
        earlier = torch.cat((h[None], outputs[:-1])).flatten(0, 1)
        by_weight = by_units.flatten(0, 1).t() @ earlier
        return by_units, by_units[0] @ weight, by_weight, None


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
    """The recursion of an LSTM, given what its inputs add to the gates `[T n, 4 hidden]`.

    The gates overwrite what the inputs add: fresh memory for all steps would cost as much time as
    the arithmetic. Functions of one step find its numbers in the cache, not in main memory.
    """

    @staticmethod
    def forward(ctx: Any, added: Tensor, before: Tensor, weight: Tensor) -> Any:
        gates = added.unflatten(0, (-1, len(before)))
        states = added.new_empty(len(gates) + 1, *before.shape)
        states[0] = before
        ctx.mark_dirty(added)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(added, states, weight)
        (h, *outputs), (c, *cells) = (part.unbind(0) for part in states.chunk(2, 2))
        back = weight.t().contiguous()
        for gate, out, cell in zip(_Gates.by_step(gates), outputs, cells, strict=True):
            gate.all.addmm_(h, back)
            gate.ways.sigmoid_()
            gate.candidate.tanh_()
            gate.shown.sigmoid_()
            torch.mul(gate.taken, gate.candidate, out=cell)
            c = cell.addcmul_(gate.kept, c)
            torch.tanh(cell, out=out)
            h = out.mul_(gate.shown)
        return states[1:], added

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_states: Tensor, _: None) -> Any:  # type: ignore[override]
        added, states, weight = ctx.saved_tensors
        gates = added.unflatten(0, (-1, states.shape[1]))
        by_gates = torch.empty_like(gates)
        cells = states[:, :, weight.shape[1] :].unbind(0)
        by_outputs, by_cells = (part.unbind(0) for part in by_states.chunk(2, 2))
        steps = [*zip(_Gates.by_step(gates), _Gates.by_step(by_gates), strict=True)]
        to_h, to_c = by_outputs[-1], by_cells[-1]
        for t in reversed(range(len(gates))):
            gate, by = steps[t]
            to_c = _slopes(gate, by, to_h, to_c, cells[t : t + 2])
            to_h = torch.addmm(by_outputs[t - 1], by.all, weight) if t else by.all @ weight
            to_c = torch.addcmul(by_cells[t - 1], to_c, gate.kept) if t else to_c * gate.kept
        by_gates = by_gates.flatten(0, 1)
        earlier = states[:-1, :, : weight.shape[1]]
        by_weight = (earlier.flatten(0, 1).t() @ by_gates).t()
        return by_gates, torch.cat((to_h, to_c), 1), by_weight


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
