"""Torch's recurrent cells for all time steps at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

__all__ = ["over_time"]

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
    added = linear(inputs, cell.weight_ih, bias)
    if isinstance(cell, nn.RNNCell):
        states = _RNN.apply(added, before, cell.weight_hh, cell.nonlinearity == "relu")
    else:
        states = torch.cat(_LSTM.apply(added, *before.chunk(2, 1), cell.weight_hh), 2)  # type: ignore[arg-type]
    return states.transpose(0, 1)  # type: ignore[union-attr]


def _check(cell: Cell, inputs: Tensor, before: Tensor) -> None:
    if not isinstance(cell, Cell):
        raise TypeError(
            "over_time takes an nn.RNNCell, nn.GRUCell or nn.LSTMCell, not"
            f" {type(cell).__name__}; a net of your own says itself how it runs over all steps"
        )
    size = cell.hidden_size * (2 if isinstance(cell, nn.LSTMCell) else 1)
    if inputs.dim() != 3 or inputs.shape[2] != cell.input_size:
        raise ValueError(
            f"{cell} reads inputs [n, T, {cell.input_size}], but the shape came as"
            f" {list(inputs.shape)}"
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
        by_weight = by_units.flatten(0, 1).t() @ _earlier(h, outputs)
        return by_units, by_units[0] @ weight, by_weight, None


class _LSTM(torch.autograd.Function):
    """The recursion of an LSTM, given what its inputs add to the gates `[T, n, 4 hidden]`.

    The gates come as in torch: input, forget, candidate, output.
    """

    @staticmethod
    def forward(ctx: Any, added: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> Any:
        size, back = h.shape[1], weight.t().contiguous()
        gates = torch.empty_like(added)
        outputs, cells = (added.new_empty(len(added), *h.shape) for _ in range(2))
        ctx.save_for_backward(gates, outputs, cells, h, c, weight)
        parts = (added, gates, gates[:, :, : 2 * size], *gates.chunk(4, 2), outputs, cells)
        for new, all_, ways, taken, kept, candidate, shown, out, cell in zip(
            *(part.unbind(0) for part in parts), strict=True
        ):
            torch.addmm(new, h, back, out=all_)
            ways.sigmoid_()
            candidate.tanh_()
            shown.sigmoid_()
            torch.mul(taken, candidate, out=cell)
            c = cell.addcmul_(kept, c)
            torch.tanh(cell, out=out)
            h = out.mul_(shown)
        return outputs, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by: Tensor) -> Any:  # type: ignore[override]
        by_output, by_cell = by
        gates, outputs, cells, h, c, weight = ctx.saved_tensors
        before = torch.cat((c[None], cells[:-1]))
        taken, kept, candidate, shown = gates.chunk(4, 2)
        squashed = cells.tanh()
        seen = shown * (1 - squashed * squashed)  # how the output follows the memory cell
        slopes = gates * (1 - gates)  # of the sigmoids
        of_taken, of_kept, _, of_shown = slopes.chunk(4, 2)
        of_cell = torch.stack(
            (candidate * of_taken, before * of_kept, taken * (1 - candidate * candidate)), 2
        )
        of_output = squashed * of_shown
        by_gates = torch.empty_like(gates)
        size, to_h, to_c = h.shape[1], by_output[-1], by_cell[-1]
        for t in reversed(range(len(gates))):
            to_c = torch.addcmul(to_c, to_h, seen[t])
            by_gate = by_gates[t].unflatten(1, (4, size))
            torch.mul(of_cell[t], to_c[:, None], out=by_gate[:, :3])
            torch.mul(of_output[t], to_h, out=by_gate[:, 3])
            if t:
                to_c = torch.addcmul(by_cell[t - 1], to_c, kept[t])
                to_h = torch.addmm(by_output[t - 1], by_gates[t], weight)
        by_weight = by_gates.flatten(0, 1).t() @ _earlier(h, outputs)
        return by_gates, by_gates[0] @ weight, to_c * kept[0], by_weight


def _earlier(first: Tensor, states: Tensor) -> Tensor:
    """Return the rows of the states before each step, `[T * n, hidden]`."""
    return torch.cat((first[None], states[:-1])).flatten(0, 1)
