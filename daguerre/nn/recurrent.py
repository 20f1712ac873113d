"""Torch's recurrent cells for all time steps at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

__all__ = ["over_time"]

Cell = nn.RNNCell | nn.GRUCell | nn.LSTMCell


def over_time(cell: Cell, inputs: Tensor, before: Tensor) -> Tensor:
    r"""Run a recurrent cell over all steps of its inputs: the `over_time` form of a recursion.

    $h_t = \mathrm{cell}(x_t, h_{t-1})$. RNN and GRU run as torch's fused nets. For the LSTM,
    whose fused net keeps its memory cells to itself, one product takes all inputs to the gates,
    and one gives the gradient of each weight, so that only what must is done step by step.

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
    if isinstance(cell, nn.LSTMCell):
        return torch.cat(_lstm(cell, inputs, *before.chunk(2, 1)), 2).transpose(0, 1)
    weights = [cell.weight_ih, cell.weight_hh]
    weights += [cell.bias_ih, cell.bias_hh] if cell.bias else []
    first, flags = before[None].contiguous(), (cell.bias, 1, 0.0, False, False, False)
    states, _ = _fused(cell)(inputs, first, weights, *flags)  # one layer, no dropout, forwards
    return states.transpose(0, 1)


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


def _fused(cell: Cell) -> Callable[..., tuple[Tensor, Tensor]]:
    if isinstance(cell, nn.GRUCell):
        return torch.gru
    assert isinstance(cell, nn.RNNCell), "an LSTM is run by itself"
    return torch.rnn_relu if cell.nonlinearity == "relu" else torch.rnn_tanh


def _lstm(cell: nn.LSTMCell, inputs: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and memory cells after each step, `[T, n, hidden]` each."""
    bias = cell.bias_ih + cell.bias_hh if cell.bias else None
    return _LSTM.apply(linear(inputs, cell.weight_ih, bias), h, c, cell.weight_hh)  # type: ignore[return-value]


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
        earlier = torch.cat((h[None], outputs[:-1])).flatten(0, 1)
        by_weight = by_gates.flatten(0, 1).t() @ earlier
        return by_gates, by_gates[0] @ weight, to_c * kept[0], by_weight
