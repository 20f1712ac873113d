"""Torch's gated cells as their formulas: torch's own code reads off how many rows there are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.nn.functional import linear

__all__ = ["written_out"]


def written_out(module: GraphModule) -> GraphModule:
    """Write out the cells that a module calls."""
    for node in module.graph.nodes:
        node.target = _CELLS.get(node.target, node.target)
    module.recompile()
    return module


def _gru(
    x: Tensor,
    h: Tensor,
    of_x: Tensor,
    of_h: Tensor,
    shift_x: Tensor | None = None,
    shift_h: Tensor | None = None,
) -> Tensor:
    size = h.shape[1]
    reset_x, update_x, new_x = linear(x, of_x, shift_x).split(size, 1)
    reset_h, update_h, new_h = linear(h, of_h, shift_h).split(size, 1)
    reset, update = torch.sigmoid(reset_h + reset_x), torch.sigmoid(update_h + update_x)
    new = torch.tanh(new_x + new_h * reset)
    return (h - new) * update + new


def _lstm(
    x: Tensor,
    before: tuple[Tensor, Tensor],
    of_x: Tensor,
    of_h: Tensor,
    shift_x: Tensor | None = None,
    shift_h: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    h, c = before
    gates = linear(x, of_x, shift_x) + linear(h, of_h, shift_h)
    taken, kept, candidate, shown = gates.split(h.shape[1], 1)
    c = kept.sigmoid() * c + taken.sigmoid() * candidate.tanh()
    return shown.sigmoid() * c.tanh(), c


_CELLS = {torch.gru_cell: _gru, torch.lstm_cell: _lstm}
