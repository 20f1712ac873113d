"""Torch's recurrent cells for all time steps at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from daguerre.derivatives import once
from daguerre.ragged import Cells, Ragged

__all__ = ["over_time"]

by_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
by_tanh = torch.ops.aten.tanh_backward.grad_input
by_relu = torch.ops.aten.threshold_backward.grad_input
by_letters = torch.ops.aten.embedding_dense_backward
_once = once("dg.nn.over_time", "call the cell step by step")
Cell = nn.RNNCell | nn.GRUCell | nn.LSTMCell


def over_time(
    cell: Cell,
    inputs: Tensor,
    before: Tensor,
    *,
    embedding: nn.Embedding | None = None,
    lengths: Tensor | None = None,
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
        lengths: How many steps each row has, whole numbers `[n]` from 1 to T, where not all have
            T: nothing is computed beyond.

    Returns:
        The states after each step, `[n, T, hidden]`, of an LSTM `[n, T, 2 hidden]`; zeros beyond
        the last step of a row.

    Raises:
        TypeError: Another kind of cell.
        ValueError: Shapes that do not fit the cell; lengths that do not fit the inputs.

    References:
        Hochreiter and Schmidhuber (1997), *Long short-term memory*; Cho et al. (2014,
        arXiv 1406.1078).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> cell, x, before = nn.GRUCell(3, 4), torch.randn(2, 5, 3), torch.zeros(2, 4)
        >>> states = over_time(cell, x, before)
        >>> torch.allclose(states[:, 0], cell(x[:, 0], before), atol=1e-6)
        True
        >>> over_time(cell, x, before, lengths=torch.tensor([5, 2]))[1, 2:].count_nonzero().item()
        0
    """
    _check(cell, inputs, before, embedding)
    order = _Order.of(inputs, lengths)
    rows, before = order.rows(inputs), order.examples(before)
    if isinstance(cell, nn.GRUCell):
        rows = embedding(rows.long()) if embedding else rows
        return order.whole(_gru(cell, rows, before, order))
    read, back = _read(cell, rows, embedding), cell.weight_hh.t()
    if isinstance(cell, nn.RNNCell):
        states = _RNN.apply(*read, before, back, order, cell.nonlinearity == "relu")
    else:
        states = _LSTM.apply(*read, before, back, order, torch.is_grad_enabled())
    return order.whole(states)  # type: ignore[arg-type]


class _Order(NamedTuple):
    """The order in which steps are run: all first ones, then all second ones, and so on.

    Attributes:
        size: Examples and steps, `(n, T)`.
        counts: How many have each step; those that have it come before others.
        longest: The examples, the longest first; None where all are of one length.
        ragged: Which steps they have in that order, in the same case.
        cells: Where the rows are among the `T n` that there might be, in the same case.
    """

    size: tuple[int, int]
    counts: Sequence[int]
    longest: Tensor | None = None
    ragged: Ragged | None = None
    cells: Cells | None = None

    @classmethod
    def of(cls, inputs: Tensor, lengths: Tensor | None) -> _Order:
        """Sort examples by their lengths.

        Raises:
            ValueError: Lengths that do not fit the inputs.
        """
        n, steps = inputs.shape[:2]
        if lengths is None:
            return cls((n, steps), [n] * steps)
        own = lengths.cpu()
        if own.shape != (n,) or own.is_floating_point() or not ((own >= 1) & (own <= steps)).all():
            raise ValueError(
                f"lengths are whole numbers [{n}] from 1 to {steps}, as there are steps, not"
                f" {own.tolist()}"
            )
        longest = own.argsort(descending=True, stable=True)
        ragged, longest = Ragged.of(own[longest], inputs.device), longest.to(inputs.device)
        held, empty = (
            cells - cells % n + longest[cells % n]
            for cells in (ragged.cells.held, ragged.cells.empty)
        )
        beyond = torch.arange(ragged.active.numel(), n * steps, device=empty.device)
        cells = Cells(held, torch.cat((empty, beyond)))
        return cls((n, steps), ragged.counts, longest, ragged, cells)

    def rows(self, inputs: Tensor) -> Tensor:
        """Arrange `[n, T, ...]` as rows."""
        rows = inputs.transpose(0, 1).flatten(0, 1)
        return rows if self.cells is None else self.cells.read(rows)

    def examples(self, before: Tensor) -> Tensor:
        """Put the longest of examples `[n, ...]` first."""
        return before if self.longest is None else before.index_select(0, self.longest)

    def whole(self, rows: Tensor) -> Tensor:
        """Arrange rows as `[n, T, ...]`, zeros where there are none."""
        n, steps = self.size
        if self.cells is not None:
            rows = self.cells.write(rows)
        return rows.unflatten(0, (steps, n)).transpose(0, 1)

    def earlier(self, rows: Tensor) -> Tensor:
        """Return of each row but those of the first step that of its example a step before."""
        n = self.size[0]
        if self.ragged is None:
            return rows[: len(rows) - n]
        return rows.index_select(0, self.ragged.shifted(1)[n:])


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
        inputs: Vectors `[rows, d]`, or letters `[rows]`.
        into: Weights `[d, units]` that meet vectors, or what each letter adds, `[letters, units]`.
        bias: What is added to vectors that have met their weights, `[units]`.
    """

    inputs: Tensor
    into: Tensor
    bias: Tensor | None


def _read(cell: nn.RNNCell | nn.LSTMCell, inputs: Tensor, embedding: nn.Embedding | None) -> _Read:
    weight = cell.weight_ih
    bias = cell.bias_ih + cell.bias_hh if cell.bias else weight.new_zeros(len(weight))
    if embedding is None:
        return _Read(inputs, weight.t(), bias)
    inputs, letters = inputs.long(), embedding.num_embeddings
    if letters > inputs.numel() or embedding.scale_grad_by_freq:
        return _Read(embedding(inputs), weight.t(), bias)
    vectors = embedding(torch.arange(letters, device=inputs.device))
    return _Read(inputs, linear(vectors, weight, bias).to(weight.dtype), None)


def _gru(cell: nn.GRUCell, inputs: Tensor, before: Tensor, order: _Order) -> Tensor:
    """Return the units after each step, `[rows, hidden]`."""
    weights = [cell.weight_ih, cell.weight_hh]
    weights += [cell.bias_ih, cell.bias_hh] if cell.bias else []
    flags = (cell.bias, 1, 0.0, False, False)  # one layer, no dropout, forwards
    start = before[None].contiguous()
    if order.ragged is not None:
        counts = torch.tensor(order.counts)
        return torch.gru(inputs, counts, start, weights, *flags)[0]
    n, steps = order.size
    sequence = inputs.unflatten(0, (steps, n))
    return torch.gru(sequence, start, weights, *flags, False)[0].flatten(0, 1)  # noqa: FBT003


def _writer(into: Tensor, bias: Tensor | None) -> Callable[[Tensor, Tensor], object]:
    """Return what writes to units `[m, units]` what they read of `[m, d]` or of letters `[m]`."""
    if bias is None:
        return lambda read, units: torch.index_select(into, 0, read, out=units)
    into = into.contiguous()
    return lambda read, units: torch.addmm(bias, read, into, out=units)


def _gradients(
    ctx: Any,
    by: Tensor,
    read: tuple[Tensor, Tensor],
    states: tuple[Tensor, Tensor],
    back: Tensor,
    order: _Order,
) -> tuple[Tensor | None, ...]:
    """Return the gradients by inputs, `into`, bias, states before and the weights of states.

    Those by weights lie in memory as the parameters of the cell do, which are their transposes.

    Args:
        ctx: Of a function whose first arguments are those of `_Read`.
        by: The gradient by what is squashed, `[rows, units]`.
        read: The inputs, and `into`.
        states: Those before the first step, `[n, hidden]`, and after each, `[rows, hidden]`.
        back: The weights that meet states, `[hidden, units]`.
        order: That of the rows.
    """
    (inputs, into), (first, later) = read, states
    to_inputs = by_bias = None
    if inputs.is_floating_point():
        to_inputs = by @ into.t() if ctx.needs_input_grad[0] else None
        by_into, by_bias = (by.t() @ inputs).t(), by.sum(0)
    else:
        by_into = by_letters(by, inputs, len(into), padding_idx=-1, scale_grad_by_freq=False)
    by_first = by[: len(first)]
    by_back = by_first.t() @ first
    by_back.addmm_(by[len(first) :].t(), order.earlier(later))
    return to_inputs, by_into, by_bias, by_first @ back.t(), by_back.t()


def _to_states(by: Tensor, later: Tensor, into: Tensor) -> Tensor:
    """Return the gradient by states, `[n, hidden]`: their own, and by units of the next step.

    Args:
        by: Their own.
        later: That by units of the next step, `[m, units]`, of the first m examples.
        into: The weights that take these to states, `[units, hidden]`.
    """
    if by.shape[0] == later.shape[0]:
        return torch.addmm(by, later, into)
    by = by.clone()
    by[: later.shape[0]].addmm_(later, into)
    return by


class _RNN(torch.autograd.Function):
    """The recursion of a plain net over what it reads, to units `[rows, hidden]`."""

    @staticmethod
    def forward(  # noqa: PLR0913 - what autograd is to know of
        ctx: Any,
        inputs: Tensor,
        into: Tensor,
        bias: Tensor | None,
        h: Tensor,
        back: Tensor,
        order: _Order,
        rectified: bool,  # noqa: FBT001 - autograd passes by position
    ) -> Any:
        outputs = h.new_empty(len(inputs), back.shape[1])
        _writer(into, bias)(inputs, outputs)
        ctx.save_for_backward(inputs, into, outputs, h, back)
        ctx.order, ctx.rectified = order, rectified
        back, n = back.contiguous(), len(h)
        for count, out in zip(order.counts, outputs.split(order.counts), strict=True):
            if count < n:
                h, n = h[:count], count
            out.addmm_(h, back)
            h = out.relu_() if rectified else out.tanh_()
        return outputs

    @staticmethod
    @_once
    def backward(ctx: Any, *by: Tensor) -> Any:  # type: ignore[override]
        (by_output,), (inputs, into, outputs, h, back) = by, ctx.saved_tensors
        by_units = torch.empty_like(outputs)
        parts = (part.split(ctx.order.counts) for part in (by_output, outputs, by_units))
        steps = [*zip(*parts, strict=True)]
        to_h, to_states = steps[-1][0], back.t()
        for t in reversed(range(len(steps))):
            _, out, by_unit = steps[t]
            if ctx.rectified:
                by_relu(to_h, out, 0, grad_input=by_unit)
            else:
                by_tanh(to_h, out, grad_input=by_unit)
            if t:
                to_h = _to_states(steps[t - 1][0], by_unit, to_states)
        found = _gradients(ctx, by_units, (inputs, into), (h, outputs), back, ctx.order)
        return *found, None, None


class _Gates(NamedTuple):
    """The gates of one step, `[n, 4 hidden]`, in torch's order, and parts of them."""

    all: Tensor
    ways: Tensor
    taken: Tensor
    kept: Tensor
    candidate: Tensor
    shown: Tensor

    @classmethod
    def by_step(cls, gates: Tensor, counts: Sequence[int]) -> list[_Gates]:
        """View those of all rows, `[rows, 4 hidden]`, step by step."""
        parts = (gates, gates[:, : gates.shape[1] // 2], *gates.chunk(4, 1))
        return [cls(*step) for step in zip(*(part.split(counts) for part in parts), strict=True)]


class _LSTM(torch.autograd.Function):
    """The recursion of an LSTM over what it reads, to states `[rows, 2 hidden]`.

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
        order: _Order,
        learns: bool,  # noqa: FBT001 - autograd passes by position
    ) -> Any:
        n, counts = len(before), order.counts
        gates = before.new_empty(len(inputs) if learns else n, back.shape[1])
        states = before.new_empty(n + len(inputs), before.shape[1])
        states[:n] = before
        ctx.save_for_backward(inputs, into, gates, states, back)
        ctx.order = order
        (h, *outputs), (c, *cells) = (part.split([n, *counts]) for part in states.chunk(2, 1))
        write, back = _writer(into, bias), back.contiguous()
        if learns:
            by_step = _Gates.by_step(gates, counts)
        else:
            of = {count: _Gates.by_step(gates[:count], [count])[0] for count in {*counts}}
            by_step = [of[count] for count in counts]
        steps = zip(counts, inputs.split(counts), by_step, outputs, cells, strict=True)
        for count, read, gate, out, cell in steps:
            if count < n:
                h, c, n = h[:count], c[:count], count
            write(read, gate.all)
            gate.all.addmm_(h, back)
            gate.ways.sigmoid_()
            gate.candidate.tanh_()
            gate.shown.sigmoid_()
            torch.mul(gate.taken, gate.candidate, out=cell)
            c = cell.addcmul_(gate.kept, c)
            torch.tanh(cell, out=out)
            h = out.mul_(gate.shown)
        return states[len(before) :]

    @staticmethod
    @_once
    def backward(ctx: Any, *by: Tensor) -> Any:  # type: ignore[override]
        (by_states,), (inputs, into, gates, states, back) = by, ctx.saved_tensors
        (hidden, counts), n = (len(back), ctx.order.counts), ctx.order.size[0]
        by_gates = torch.empty_like(gates)
        cells = states[:, hidden:].split([n, *counts])
        by_outputs, by_cells = (part.split(counts) for part in by_states.chunk(2, 1))
        steps = [
            *zip(_Gates.by_step(gates, counts), _Gates.by_step(by_gates, counts), strict=True)
        ]
        to_h, to_c, to_states = by_outputs[-1], by_cells[-1], back.t()
        for t in reversed(range(len(steps))):
            gate, own = steps[t]
            before = cells[t] if len(cells[t]) == counts[t] else cells[t][: counts[t]]
            to_c = _slopes(gate, own, to_h, to_c, (before, cells[t + 1]))
            if t:
                to_h = _to_states(by_outputs[t - 1], own.all, to_states)
            to_c = _to_cells(by_cells[t - 1], to_c, gate.kept) if t else to_c * gate.kept
        outputs = (states[:n, :hidden], states[n:, :hidden])
        *read, to_h, by_back = _gradients(ctx, by_gates, (inputs, into), outputs, back, ctx.order)
        assert to_h is not None
        return *read, torch.cat((to_h, to_c), 1), by_back, None, None


def _to_cells(by: Tensor, later: Tensor, kept: Tensor) -> Tensor:
    """Return the gradient by memory cells, `[n, hidden]`: their own, and by the next ones."""
    if len(by) == len(later):
        return torch.addcmul(by, later, kept)
    by = by.clone()
    by[: len(later)].addcmul_(later, kept)
    return by


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
