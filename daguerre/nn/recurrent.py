"""Torch's recurrent cells for all time steps at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

__all__ = ["over_time"]

by_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
by_tanh = torch.ops.aten.tanh_backward.grad_input
by_relu = torch.ops.aten.threshold_backward.grad_input
by_letters = torch.ops.aten.embedding_dense_backward
Cell = nn.RNNCell | nn.GRUCell | nn.LSTMCell


def over_time(
    cell: Cell, inputs: Tensor, before: Tensor, *, embedding: nn.Embedding | None = None
) -> Tensor:
    r"""Run a recurrent cell over all steps of its inputs: the `over_time` form of a recursion.

    $h_t = \mathrm{cell}(x_t, h_{t-1})$. A GRU runs as torch's fused net. RNN and LSTM, of which
    torch adds up gradients step by step or hides the memory cells, run here, with one product for
    the gradient of each weight. What they read of embedded letters is computed once for each
    letter, where those are fewer than the steps of all rows.

    Args:
        cell: An `nn.RNNCell`, `nn.GRUCell` or `nn.LSTMCell`.
        inputs: What it reads, `[n, T, d]`; with an embedding the letters, numbers `[n, T]`.
        before: Its state before the first step, `[n, hidden]`; of an LSTM the outputs and then
            the memory cells, `[n, 2 hidden]`.
        embedding: What makes vectors of size d of letters.

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
    _check(cell, inputs, before, embedding)
    inputs = inputs.transpose(0, 1).contiguous()
    if isinstance(cell, nn.GRUCell):
        return _gru(cell, embedding(inputs.long()) if embedding else inputs, before).transpose(
            0, 1
        )
    read = _read(cell, inputs, embedding)
    if isinstance(cell, nn.RNNCell):
        states = _RNN.apply(*read, before, cell.weight_hh, cell.nonlinearity == "relu")
    else:
        states = _LSTM.apply(*read, before, cell.weight_hh, torch.is_grad_enabled())
    return states.transpose(0, 1)  # type: ignore[union-attr]


def _check(cell: Cell, inputs: Tensor, before: Tensor, embedding: nn.Embedding | None) -> None:
    if not isinstance(cell, Cell):
        raise TypeError(
            "over_time takes an nn.RNNCell, nn.GRUCell or nn.LSTMCell, not"
            f" {type(cell).__name__}; a net of your own says itself how it runs over all steps"
        )
    size = cell.hidden_size * (2 if isinstance(cell, nn.LSTMCell) else 1)
    if embedding is not None and embedding.embedding_dim != cell.input_size:
        raise ValueError(
            f"{cell} reads vectors of size {cell.input_size}, but {embedding} makes some of size"
            f" {embedding.embedding_dim}"
        )
    wanted = [] if embedding is not None else [cell.input_size]
    if inputs.dim() != 2 + len(wanted) or [*inputs.shape[2:]] != wanted or inputs.shape[1] == 0:
        raise ValueError(
            f"{cell} reads inputs [{', '.join(['n', 'T', *map(str, wanted)])}] of a step or more,"
            f" but the shape came as {list(inputs.shape)}"
        )
    if before.shape != (len(inputs), size):
        raise ValueError(
            f"{cell} starts with a state [{len(inputs)}, {size}], but the shape came as"
            f" {list(before.shape)}"
        )


class _Read(NamedTuple):
    """What the units of a cell read, beside the states before.

    Attributes:
        inputs: Vectors `[T, n, d]`, or letters `[T, n]`.
        into: Weights `[units, d]` that meet vectors, or what each letter adds, `[letters, units]`.
        bias: What is added to vectors that have met their weights, `[units]`.
    """

    inputs: Tensor
    into: Tensor
    bias: Tensor | None


def _read(cell: nn.RNNCell | nn.LSTMCell, inputs: Tensor, embedding: nn.Embedding | None) -> _Read:
    weight = cell.weight_ih
    bias = cell.bias_ih + cell.bias_hh if cell.bias else weight.new_zeros(len(weight))
    if embedding is None:
        return _Read(inputs, weight, bias)
    inputs, letters = inputs.long(), embedding.num_embeddings
    if letters > inputs.numel() or embedding.scale_grad_by_freq:
        return _Read(embedding(inputs), weight, bias)
    vectors = embedding(torch.arange(letters, device=inputs.device))
    return _Read(inputs, linear(vectors, weight, bias).to(weight.dtype), None)


def _gru(cell: nn.GRUCell, inputs: Tensor, before: Tensor) -> Tensor:
    """Return the units after each step, `[T, n, hidden]`."""
    weights = [cell.weight_ih, cell.weight_hh]
    weights += [cell.bias_ih, cell.bias_hh] if cell.bias else []
    flags = (cell.bias, 1, 0.0, False, False, False)  # one layer, no dropout, forwards
    return torch.gru(inputs, before[None].contiguous(), weights, *flags)[0]


def _writer(into: Tensor, bias: Tensor | None) -> Callable[[Tensor, Tensor], object]:
    """Return what writes to units `[m, units]` what they read of `[m, d]` or of letters `[m]`."""
    if bias is None:
        return lambda read, units: torch.index_select(into, 0, read, out=units)
    into = into.t().contiguous()
    return lambda read, units: torch.addmm(bias, read, into, out=units)


def _gradients(
    ctx: Any, by: Tensor, read: tuple[Tensor, Tensor], states: tuple[Tensor, Tensor], back: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients by inputs, `into`, bias, states before and the weights of states.

    Args:
        ctx: Of a function whose first arguments are those of `_Read`.
        by: The gradient by what is squashed, `[T, n, units]`.
        read: The inputs, and `into`.
        states: Those before the first step, `[n, hidden]`, and after each, `[T, n, hidden]`.
        back: The weights that meet states, `[units, hidden]`.
    """
    (inputs, into), (first, later), rows = read, states, by.flatten(0, 1)
    to_inputs = by_bias = None
    if inputs.is_floating_point():
        to_inputs = (rows @ into).view_as(inputs) if ctx.needs_input_grad[0] else None
        by_into, by_bias = rows.t() @ inputs.flatten(0, 1), rows.sum(0)
    else:
        by_into = by_letters(
            rows, inputs.flatten(), len(into), padding_idx=-1, scale_grad_by_freq=False
        )
    by_back = by[0].t() @ first
    by_back.addmm_(rows[len(first) :].t(), later[:-1].flatten(0, 1))
    return to_inputs, by_into, by_bias, by[0] @ back, by_back


class _RNN(torch.autograd.Function):
    """The recursion of a plain net over what it reads, to units `[T, n, hidden]`."""

    @staticmethod
    def forward(  # noqa: PLR0913 - what autograd is to know of
        ctx: Any,
        inputs: Tensor,
        into: Tensor,
        bias: Tensor | None,
        h: Tensor,
        back: Tensor,
        rectified: bool,  # noqa: FBT001 - autograd passes by position
    ) -> Any:
        outputs = h.new_empty(*inputs.shape[:2], len(back))
        _writer(into, bias)(inputs.flatten(0, 1), outputs.flatten(0, 1))
        ctx.save_for_backward(inputs, into, outputs, h, back)
        ctx.rectified = rectified
        back = back.t().contiguous()
        for out in outputs.unbind(0):
            out.addmm_(h, back)
            h = out.relu_() if rectified else out.tanh_()
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by: Tensor) -> Any:  # type: ignore[override]
        (by_output,), (inputs, into, outputs, h, back) = by, ctx.saved_tensors
        by_units = torch.empty_like(outputs)
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
        return *_gradients(ctx, by_units, (inputs, into), (h, outputs), back), None


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
    """The recursion of an LSTM over what it reads, to states `[T, n, 2 hidden]`.

    All is done step by step, so that each function finds its numbers in the cache, not in main
    memory; without a gradient the gates of all steps are in one place.
    """

    @staticmethod
    def forward(  # noqa: PLR0913 - what autograd is to know of
        ctx: Any,
        inputs: Tensor,
        into: Tensor,
        bias: Tensor | None,
        before: Tensor,
        back: Tensor,
        learns: bool,  # noqa: FBT001 - autograd passes by position
    ) -> Any:
        steps, n = inputs.shape[:2]
        gates = before.new_empty(steps if learns else 1, n, len(back))
        states = before.new_empty(steps + 1, *before.shape)
        states[0] = before
        ctx.save_for_backward(inputs, into, gates, states, back)
        (h, *outputs), (c, *cells) = (part.unbind(0) for part in states.chunk(2, 2))
        write, back = _writer(into, bias), back.t().contiguous()
        by_step = _Gates.by_step(gates) * (1 if learns else steps)
        for read, gate, out, cell in zip(inputs.unbind(0), by_step, outputs, cells, strict=True):
            write(read, gate.all)
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
        (by_states,), (inputs, into, gates, states, back) = by, ctx.saved_tensors
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
        *read, to_h, by_back = _gradients(ctx, by_gates, (inputs, into), outputs, back)
        assert to_h is not None
        return *read, torch.cat((to_h, to_c), 1), by_back, None


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
