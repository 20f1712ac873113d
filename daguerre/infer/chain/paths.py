"""Whole paths of hidden states: the most probable one, and draws from the posterior.

Both follow pointers backward: for each step and each next state, the state that comes before. Maps
compose, so pointers are followed in blocks like everything else.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.infer.chain.hmm import HMM, Passes, prepare
from daguerre.infer.chain.layout import Layout, keep
from daguerre.infer.chain.plan import Plan
from daguerre.infer.chain.recursion import Recursion
from daguerre.infer.chain.semiring import Maxima

__all__ = ["Path", "draw_paths", "viterbi"]

CELLS = 2**22  # pairs of states held at once


class Path(NamedTuple):
    r"""The most probable path.

    Attributes:
        states: $\arg\max_z p(z, x)$, int64 `[B, T]`; beyond the end of a sequence its last state.
        log_prob: $\max_z \log p(z, x)$ in nats, `[B]`; -inf where no path is possible.
    """

    states: Tensor
    log_prob: Tensor


def viterbi(hmm: HMM, *, plan: Plan | None = None) -> Path:
    """Return the most probable path of hidden states and its joint log-probability.

    Args:
        hmm: The model and its observations.
        plan: How to scan; the fastest by prediction where it is left out.

    References:
        Viterbi (1967), Error bounds for convolutional codes.

    Example:
        >>> stay = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()
        >>> likelihood = torch.tensor([[[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]]]).log()
        >>> viterbi(HMM(torch.full((2,), 0.5).log(), stay, likelihood)).states
        tensor([[0, 0, 0]])
    """
    with torch.no_grad():
        recursion, offset = prepare(hmm, plan, Maxima())
        ahead = recursion.layout.unpack(recursion.forward.states, after=recursion.start)
        matrices = _matrices(recursion)
        pointers = [
            (before.unsqueeze(-1) + _part(matrices, part)).argmax(-2)
            for part, before in _parts(ahead[:, :-1])
        ]
        found = torch.cat(pointers, 1) if pointers else ahead[:, 1:].long()
        states = _follow(recursion.layout, found, ahead[:, -1].argmax(-1))
        best = recursion.forward.log_total + offset
    return Path(states, best.to(hmm.log_likelihood.dtype))


def draw_paths(hmm: HMM, n: int, *, plan: Plan | None = None) -> Tensor:
    """Draw paths from the posterior of all hidden states, int64 `[n, B, T]`.

    Args:
        hmm: The model and its observations.
        n: The number of draws.
        plan: How to scan; the fastest by prediction where it is left out.

    References:
        Scott (2002), Bayesian methods for hidden Markov models.

    Example:
        >>> stay = torch.eye(2).log()
        >>> hmm = HMM(torch.full((2,), 0.5).log(), stay, torch.zeros(1, 3, 2))
        >>> _ = torch.manual_seed(0)
        >>> draw_paths(hmm, 4)[:, 0].sum(-1)
        tensor([3, 3, 0, 3])
    """
    with torch.no_grad():
        passes = Passes.of(hmm, plan)
        recursion, ring = passes.recursion, passes.recursion.semiring
        ahead, matrices = passes.ahead, _matrices(recursion)
        last = ring.normalised(ahead[:, -1], -1).cumsum(-1)
        chosen = [_choose(last.unsqueeze(-1), n)]  # [n, B, 1]
        for part, before in _parts(ahead[:, :-1]):
            pairs = ring.weigh(_part(matrices, part).expand(*before.shape, -1), before[..., None])
            chosen.append(_choose(ring.normalised(pairs, -2).cumsum(-2), n))
        ends = chosen[0].squeeze(-1)
        pointers = torch.cat(chosen[1:], 2) if len(chosen) > 1 else None
        paths = [
            _follow(recursion.layout, ahead.long()[:, :-1] if pointers is None else pointers[i], e)
            for i, e in enumerate(ends)
        ]
        return torch.stack(paths) if paths else ahead.new_zeros(0, *ahead.shape[:2]).long()


def _choose(cumulative: Tensor, n: int) -> Tensor:
    """Draw n states along the last but one dimension, `[..., K, m]` to `[n, ..., m]`."""
    inner = cumulative[..., -1, :]
    draws = [
        (cumulative <= (torch.rand_like(inner) * inner).unsqueeze(-2)).sum(-2) for _ in range(n)
    ]
    none = inner.new_zeros(0, *inner.shape).long()
    return torch.stack(draws).clamp(max=cumulative.shape[-2] - 1) if draws else none


def _matrices(recursion: Recursion) -> Tensor:
    """Return the transitions, `[K, K]` or `[B, T - 1, K, K]`."""
    m = recursion.matrices
    return m if m.dim() == 2 else recursion.layout.unpack(m)


def _part(matrices: Tensor, part: slice) -> Tensor:
    return matrices if matrices.dim() == 2 else matrices[:, part]


def _parts(values: Tensor) -> list[tuple[slice, Tensor]]:
    """Split `[B, S, K]` over time, so that pairs of states fit into memory."""
    batch, steps, k = values.shape
    size = max(1, CELLS // (batch * k * k))
    slices = [slice(i, i + size) for i in range(0, steps, size)]
    return [(part, values[:, part]) for part in slices]


def _follow(layout: Layout, pointers: Tensor, last: Tensor) -> Tensor:
    """Follow pointers `[B, S, K]` back from the last states `[B]`; return paths `[B, S + 1]`."""
    if not layout.plan.steps:
        return last.unsqueeze(1)
    k, packed = pointers.shape[-1], layout.pack(pointers)
    state = torch.arange(k, device=last.device).unsqueeze(-1).expand(-1, layout.rows)
    maps = []  # the state before each step, for every state at the end of the block
    for s, count in reversed(list(enumerate(layout.counts))):
        state = keep(packed[s, :, :count].gather(0, state[:, :count]), state)
        maps.append(state)
    ends = [last]
    for block in reversed(layout.to_grid(state)[1:].unbind(0)):  # [B, K]
        ends.append(block.gather(-1, ends[-1].unsqueeze(-1)).squeeze(-1))
    at_end = layout.to_rows(torch.stack(ends[::-1]))
    path = torch.stack(maps[::-1]).gather(1, at_end.expand(len(maps), 1, -1)).squeeze(1)
    path = layout.unpack(path)
    if layout.ragged is not None:
        path = torch.where(layout.ragged.inside, path, last.unsqueeze(1))
    return torch.cat([path, last.unsqueeze(1)], 1)
