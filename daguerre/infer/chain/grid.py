"""A chain of finite hidden variables as a hidden Markov model: CPDs evaluated on a grid.

Any CPD will do, for it is called on all states at once. Several hidden variables make one with
the product of their states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.discrete import split_numbers, state_count, states
from daguerre.families import support
from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.chain.evidence import check_marks
from daguerre.infer.chain.finite import FiniteChain
from daguerre.infer.chain.hmm import HMM
from daguerre.infer.chain.reading import Reading
from daguerre.lags import Past, spread_over

__all__ = ["MOST_STATES", "Grid", "finite_chain", "joined", "supports"]

MOST_STATES = 1024  # of the product of all hidden variables


def supports(reading: Reading) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the values `[k, *event]` of finite hidden variables, and the names of others.

    Deterministic variables are functions of the others, where some of those are finite.
    """
    finite: dict[str, Tensor] = {}
    known: dict[str, Tensor] = {}
    other = []
    for name in reading.hidden:
        law = reading.law(name)
        if law is not None:
            listed = states(law, is_root=True) if state_count(law, is_root=True) else None
        elif any(p not in known and p not in reading.data for p in reading.steps[name].arguments):
            listed = None  # below a variable that is not finite
        else:
            found = reading.example(name, known)
            if isinstance(found, Tensor):
                known[name] = found
                continue
            is_finite = isinstance(found, Distribution) and state_count(found, is_root=False)
            listed = states(found, is_root=False) if is_finite else None  # type: ignore[arg-type]
        if listed is None:
            other.append(name)
        else:
            finite[name], known[name] = listed, listed[:1]
    return finite, tuple(other)


def finite_chain(
    reading: Reading, values: dict[str, Tensor], lengths: Tensor | None
) -> FiniteChain:
    """Evaluate all CPDs on the states of the hidden variables.

    Raises:
        InadmissibleError: Too many states, a hidden variable with a lag above 1.
    """
    count = prod(len(s) for s in values.values())
    if count > MOST_STATES:
        each = " x ".join(f"{len(s)} of {name}" for name, s in values.items())
        raise InadmissibleError(
            f"the hidden variables have {count} states together ({each}), above {MOST_STATES};"
            " observe some of them, or ask for draws by SMC"
        )
    grid = Grid(reading, values)
    later = [grid.score(n, first=False) for n in grid.scored] if reading.size[1] > 1 else []
    hmm = joined(grid, [grid.score(n, first=True) for n in grid.scored], later, lengths)
    return FiniteChain(hmm, values, grid.functions())


def joined(
    grid: Grid, first: Sequence[Tensor], later: Sequence[Tensor], lengths: Tensor | None
) -> HMM:
    """Add up the scores of all variables.

    Args:
        grid: Where they were scored.
        first: Log-probabilities at t = 0, `[B or 1, 1, states]` each.
        later: Those after it, `[B (T - 1) or 1, states before or 1, states now]` each.
        lengths: The number of steps of each sequence, `[B]`.
    """
    (batch, steps), count = grid.reading.size, grid.count
    start = sum(first, grid.reading.like.new_zeros(1, 1, 1))
    start = start[:, 0].expand(batch, count)
    pins = grid.pins()
    moves = start.new_zeros(1, count, count)
    sights = start.new_zeros(1, 1, count)
    for scores in later:
        moves, sights = (
            (moves + scores, sights) if scores.shape[1] > 1 else (moves, sights + scores)
        )
    moves = moves[0] if len(moves) == 1 else moves.unflatten(0, (batch, steps - 1))
    seen = sights[:, 0].expand(batch * (steps - 1), count).unflatten(0, (batch, steps - 1))
    likelihood = pins + torch.cat([torch.zeros_like(start).unsqueeze(1), seen], 1)
    return HMM(start, moves, likelihood, lengths)


@dataclass(frozen=True, eq=False)
class Grid:
    """Values and scores with the dimensions [rows, states before, states now, *event].

    Attributes:
        reading: The chain with its observations.
        values: The values of each hidden variable, `[k, *event]`.
    """

    reading: Reading
    values: dict[str, Tensor]

    @property
    def scored(self) -> tuple[str, ...]:
        """All that has a density: hidden and observed variables."""
        maps = {n: s.variable.map for n, s in self.reading.steps.items()}
        return tuple(n for n, m in maps.items() if m == "stochastic")

    @property
    def count(self) -> int:
        """The number of states of all hidden variables together."""
        return prod(len(s) for s in self.values.values())

    @cached_property
    def states(self) -> dict[str, Tensor]:
        """The value of each hidden variable in each state, `[count, *event]`."""
        sizes = [len(s) for s in self.values.values()]
        index = split_numbers(torch.arange(prod(sizes)), sizes)
        pairs = zip(self.values.items(), index, strict=True)
        return {name: values[i.to(values.device)] for (name, values), i in pairs}

    def pins(self) -> Tensor:
        """Return 0 where a state agrees with what is known of hidden variables, and else -inf."""
        total = self.reading.like.new_zeros(1, 1, 1)
        for name, known in self.reading.pinned.items():
            value, known = self.states[name], known.unsqueeze(2)  # [B, T, 1, *event]
            lacks = known.isnan() if known.is_floating_point() else known < 0
            agrees = (known == value) | lacks
            agrees = agrees.flatten(3).all(3) if agrees.dim() > 3 else agrees
            total = total + torch.zeros_like(agrees, dtype=total.dtype).masked_fill(
                ~agrees, -torch.inf
            )
        return total

    def functions(self) -> dict[str, Tensor]:
        """Return the values of deterministic variables of the states alone, `[count, *event]`."""
        found = {}
        for name, step in self.reading.steps.items():
            known = {*found, *self.states}
            if step.variable.map == "stochastic" or self.reading.lags(name):
                continue
            if known.issuperset(step.arguments):
                value = self.now(name, first=True)[0, 0]
                found[name] = value.expand(self.count, *value.shape[1:])
        return found

    def score(self, name: str, *, first: bool) -> Tensor:
        """Return the log-probabilities of a variable, `[rows, before, now]`."""
        law = self.reading.law(name) if first else None
        if law is not None:
            law = law.expand(torch.Size((1, *law.batch_shape)))
            sizes = (1, 1, 1)
        else:
            law, sizes = self._outcome(name, first=first)
            assert isinstance(law, Distribution)
        return _log_prob(self.reading, name, law, sizes, self.now(name, first=first))

    def _outcome(
        self, name: str, *, first: bool
    ) -> tuple[Distribution | Tensor, tuple[int, int, int]]:
        arguments, sizes = self.arguments(name, first=first)
        return self.reading.call(name, arguments), sizes  # type: ignore[return-value]

    def arguments(self, name: str, *, first: bool) -> tuple[list[Tensor], tuple[int, int, int]]:
        """Return what a CPD is called with, `[rows * before * now, *event]`, and these sizes."""
        step = self.reading.steps[name]
        arguments = [self.now(parent, first=first) for parent in step.arguments]
        arguments += [self._before(name, lag, first=first) for lag in self.reading.lags(name)]
        sizes = torch.broadcast_shapes(*(a.shape[:3] for a in arguments), (1, 1, 1))
        flat = [a.expand(*sizes, *a.shape[3:]).flatten(0, 2) for a in arguments]
        rows, before, now = sizes
        return flat, (rows, before, now)

    def now(self, name: str, *, first: bool) -> Tensor:
        """Return the values of a variable, `[rows, 1, states or 1, *event]`."""
        if name in self.reading.data:
            return self.reading.now(name, first=first)[:, None, None]
        if name in self.states:
            return self.states[name][None, None]
        found, sizes = self._outcome(name, first=first)
        assert isinstance(found, Tensor)
        return found.unflatten(0, sizes)

    def _before(self, name: str, lagged: Past, *, first: bool) -> Tensor:
        parent = lagged.variable
        if parent in self.reading.data:
            return self.reading.before(name, lagged, first=first)[:, None, None]
        if lagged.steps > 1:
            raise InadmissibleError(
                f"{name} depends on the hidden {parent} of {lagged.steps} steps ago; a hidden"
                " chain has lags of 1 (add a variable that carries the value from step to step)"
            )
        if first:
            start = self.reading.start(name, lagged)
            assert isinstance(start, Tensor)
            if parent in self.states:
                start = spread_over(start, self.states[parent].shape[1:])
            return start[None, None, None]
        has_past = parent not in self.states and bool(self.reading.lags(parent))
        value = None if has_past else self.now(parent, first=False)
        if value is None or value.shape[0] > 1:
            raise InadmissibleError(
                f"{name} depends on the earlier {parent}, which is computed from more than the"
                " hidden states of its slice; let it depend on what that is computed from"
            )
        return value.transpose(1, 2)


def _log_prob(
    reading: Reading, name: str, law: Distribution, sizes: tuple[int, int, int], value: Tensor
) -> Tensor:
    """Score values `[rows, 1, now, *event]` by a law of prod(sizes) rows.

    What the law does not depend on is put in front of its rows, so that it is not repeated.
    """
    whole = torch.broadcast_shapes(sizes, value.shape[:3])
    front = [i for i in range(3) if whole[i] > sizes[i]]
    order = [*front, *(i for i in range(3) if i not in front)]
    event = value.shape[3:]
    ahead = [whole[i] for i in front]
    spread = value.expand(*whole, *event).permute(*order, *range(3, value.dim()))
    spread = spread.reshape(prod(ahead), prod(sizes), *event)
    shape = (*law.batch_shape, *law.event_shape)
    if shape != (prod(sizes), *event):
        raise GraphError(
            f"{reading.steps[name]}: the values are [B, T, *event] with the event {list(event)},"
            f" but the CPD is a {type(law).__name__} with the event {list(shape[1:])}"
        )
    allowed = support(law)
    if allowed is not None and not allowed.is_discrete:
        check_marks(name, spread)
    gone = spread.isnan() if spread.is_floating_point() else spread < 0
    if gone.any():
        there = spread[~gone]
        spread = torch.where(gone, there[0] if len(there) else torch.ones_like(spread), spread)
    scores = law.log_prob(spread)
    inner = len(law.event_shape)
    gone = _whole(name, gone, inner) if inner else gone
    scores = torch.where(gone, 0.0, scores) if gone.any() else scores
    scores = scores.flatten(2).sum(2) if scores.dim() > 2 else scores
    return scores.reshape([whole[i] for i in order]).permute(*(order.index(i) for i in range(3)))


def _whole(name: str, gone: Tensor, inner: int) -> Tensor:
    """Return which events are missing as a whole."""
    flat = gone.flatten(gone.dim() - inner)
    if (flat.any(-1) != flat.all(-1)).any():
        raise InadmissibleError(
            f"{name} is missing in part, but its components are not independent given its"
            " parents; mark all of an event NaN, or use a distribution of independent components"
        )
    return flat.all(-1)
