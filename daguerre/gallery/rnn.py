r"""A recurrent net of characters as a directed graph: GRU or LSTM.

$h_t = f(h_{t-1}, x_{t-1})$, and $x_t$ has logits that are linear in $h_t$. The hidden units are
deterministic variables, so nothing has to be inferred, and `dg.nll(p)` is exact; that the net is
fed with the characters before (teacher forcing) is what conditioning on the observed past means.
Where h is substituted away, each character depends on all before it.

References:
    Goodfellow, Bengio and Courville (2016), *Deep Learning*, section 10.2.3; Hochreiter and
    Schmidhuber (1997) for the LSTM; Cho et al. (2014, arXiv 1406.1078) for the GRU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

import daguerre as dg
from daguerre.game import Game

__all__ = ["GRU", "LSTM", "Characters", "character_model"]


class Characters(dg.Model):
    """What both nets share: numbers below `letters` are embedded, and units give the logits."""

    def __init__(self, letters: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.nothing = hidden, letters
        self.embed = nn.Embedding(letters + 1, hidden)  # the last precedes the first character
        self.out = nn.Linear(hidden, letters)

    def zeros(self, size: int) -> Tensor:
        """Return units before the first step, `[size]`."""
        return self.out.weight.new_zeros(size)


class GRU(Characters):
    """Characters x `[n, T]` by gated recurrent units.

    Args:
        letters: The size of the vocabulary.
        hidden: Units.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> GRU(3, 8).sample(2, t=5)["x"].shape
        torch.Size([2, 5])
    """

    def __init__(self, letters: int, hidden: int = 128) -> None:
        super().__init__(letters, hidden)
        self.cell = nn.GRUCell(hidden, hidden)

    def all_h(self, before: Tensor, last: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the units of all steps at once."""
        embed = self.embed
        return dg.nn.over_time(self.cell, last, before, embedding=embed, lengths=lengths)

    @dg.deterministic(over_time=all_h)
    def h(
        self,
        before: Tensor = dg.lag("h", init=lambda self: self.zeros(self.hidden)),
        last: Tensor = dg.lag("x", init=lambda self: self.nothing),
    ):
        return self.cell(self.embed(last.long()), before)

    @dg.rv
    def x(self, h: Tensor):
        return Categorical(logits=self.out(h))


class LSTM(Characters):
    """The same by long short-term memory: `state` `[n, T, 2 hidden]` holds outputs and cells.

    Args:
        letters: The size of the vocabulary.
        hidden: Units.

    Example:
        >>> LSTM(3, 8).graph
        Graph(state[t-1], x[t-1] => state; state -> x)
    """

    def __init__(self, letters: int, hidden: int = 128) -> None:
        super().__init__(letters, hidden)
        self.cell = nn.LSTMCell(hidden, hidden)

    def all_states(self, before: Tensor, last: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the states of all steps at once."""
        embed = self.embed
        return dg.nn.over_time(self.cell, last, before, embedding=embed, lengths=lengths)

    @dg.deterministic(over_time=all_states)
    def state(
        self,
        before: Tensor = dg.lag("state", init=lambda self: self.zeros(2 * self.hidden)),
        last: Tensor = dg.lag("x", init=lambda self: self.nothing),
    ):
        outputs, cells = before.chunk(2, 1)
        return torch.cat(self.cell(self.embed(last.long()), (outputs, cells)), 1)

    @dg.rv
    def x(self, state: Tensor):
        return Categorical(logits=self.out(state[:, : self.hidden]))


def character_model(letters: int, hidden: int = 128) -> Game:
    """Build the LSTM for windows of text `[n, T]`, as `dg.data.text` reads them."""
    p = LSTM(letters, hidden)
    return Game({"p": p}, dg.nll(p), {"epochs": 10, "batch_size": 64, "lr": 3e-3})
