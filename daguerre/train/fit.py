"""One loop for all games."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from daguerre.graph import did_you_mean
from daguerre.modes import mode
from daguerre.objectives.objective import Objective
from daguerre.objectives.observations import Data, read_data
from daguerre.objectives.subsample import subsampled
from daguerre.train.batches import Batches, read_members
from daguerre.train.history import History
from daguerre.train.optimizers import Adam, Optimizer
from daguerre.train.progress import Progress
from daguerre.train.step import Step

__all__ = ["fit"]

T = TypeVar("T")

WORTH_COMPILING = 50_000  # updates; below that, compiling costs more time than it saves


@dataclass(frozen=True)
class Turn:
    """A player's turn in a pass: the step it takes, and how often."""

    step: Step
    updates: int


def fit(  # noqa: PLR0913 - options of one loop, all optional and by keyword
    objective: Objective,
    data: Data,
    *,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    subsample: Mapping[str, int] | None = None,
    lr: float | Mapping[str, float] | None = None,
    optimizer: Optimizer | Mapping[str, Optimizer] | None = None,
    updates: Mapping[str, int] | None = None,
    compile: bool | None = None,  # noqa: A002 - torch's word for it
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Play a game on data until the given number of epochs or steps; parameters move in place.

    In each step every player that has something to learn moves, in the order of
    `objective.players` (critics first), on the same batch; where a player moves several times a
    step, its further moves take further batches. Batches are drawn without replacement,
    reshuffled every epoch, and all of one size. So are members of plates, where `subsample` asks
    for some of them.

    Args:
        objective: What is minimised, such as `dg.elbo(p, q)`.
        data: `{name: Tensor[N, *event]}`, or a Tensor where one variable is observed.
        epochs: Passes through the data; 1 by default.
        steps: Passes through the players, instead of epochs.
        batch_size: Rows in a batch; at most N.
        subsample: Per plate, how many of its members a batch holds, instead of all: a Bayesian
            net of which a row is the whole data set, `{"y": y[None], "x": x[None]}`, learns from
            `subsample={"n": 64}`. What is in the plate then counts N / 64 times, so that losses
            and gradients are unbiased; see `dg.objectives.subsampled`.
        lr: Learning rate, for all players or by player; that of the optimiser by default.
        optimizer: How players move, for all or by player: `dg.Adam()` by default.
        updates: How often a player moves in a step, by player; once by default.
        compile: Whether each player's step is compiled into one graph; by default where the
            number of updates makes it worth while and the objective allows it.
        seed: Of the order of the data and of all draws; the global generator is left alone.
        progress: Whether to show a bar with the losses, where there is a terminal.

    Returns:
        The losses of every step. After Ctrl-C, those until then; what was trained is kept.

    Raises:
        GraphError: Data that lacks a variable or has a wrong shape; a plate in `subsample` that
            holds nothing of the data.
        InadmissibleError: The objective is no sum over the members of a plate in `subsample`.
        ValueError: Data with NaN or outside the support of a CPD; an option out of range.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> class Mean(dg.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mean = torch.nn.Parameter(torch.zeros(()))
        ...     @dg.rv
        ...     def x(self):
        ...         return Normal(self.mean, 1.0)
        >>> p = Mean()
        >>> history = fit(dg.nll(p), torch.full([64], 2.0), steps=200, lr=0.1, progress=False)
        >>> round(p.mean.item(), 2), len(history)
        (2.0, 200)
    """
    given = read_data(objective, data)
    _check_positive(epochs=epochs, steps=steps, batch_size=batch_size)
    if epochs is not None and steps is not None:
        raise ValueError("say how long in epochs or in steps, not in both")
    plates = {n: own for _, part in objective.parts for n, own in part.plates.items()}
    members = read_members(plates, given, subsample or {})
    objective = subsampled(objective, **{plate: one.whole for plate, one in members.items()})
    batches = Batches(given, batch_size, seed, members)
    total = steps or max(1, round((epochs or 1) * batches.per_epoch))
    names = [p.name for p in objective.players if p.parameters()]
    if not names:
        raise ValueError("nothing can be trained: no player has parameters that require gradients")
    moves = _by_player(names, updates, "updates", 1)
    for count in moves.values():
        _check_positive(updates=count)
    rules = {n: _rule(n, names, optimizer, lr) for n in names}
    long = total * sum(moves.values()) >= WORTH_COMPILING and not objective.eager
    wanted = long if compile is None else compile
    turns = [Turn(Step(objective, n, optimizer=rules[n], compile=wanted), moves[n]) for n in names]
    modules = [m for p in objective.players for m in p.modules]
    with mode(modules, training=True), torch.random.fork_rng(devices=_cuda(given)):
        torch.manual_seed(seed)
        return _play(turns, batches, total, show=progress)


def _play(turns: Sequence[Turn], batches: Batches, total: int, *, show: bool) -> History:
    """Run the passes; every loss stays a tensor until somebody looks at it."""
    losses: dict[str, list[Tensor]] = {turn.step.player.name: [] for turn in turns}
    start, interrupted = time.perf_counter(), False
    with Progress(total, show=show) as bar:
        try:
            for _ in range(total):
                batch = next(batches)
                for turn in turns:
                    loss = turn.step(batch)
                    for _ in range(turn.updates - 1):
                        loss = turn.step(next(batches))
                    losses[turn.step.player.name].append(loss)
                bar.advance(losses)
        except KeyboardInterrupt:
            interrupted = True
    done = min(len(values) for values in losses.values())
    used = done * (1 + sum(turn.updates - 1 for turn in turns))  # a step's first batch is shared
    return History(
        {n: _column(v[:done]) for n, v in losses.items()},
        steps=done,
        epochs=used / batches.per_epoch,
        seconds=time.perf_counter() - start,
        compiled=all(turn.step.compiled for turn in turns),
        interrupted=interrupted,
    )


def _column(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).float().cpu() if losses else torch.zeros(0)


def _rule(
    player: str,
    players: Sequence[str],
    optimizer: Optimizer | Mapping[str, Optimizer] | None,
    lr: float | Mapping[str, float] | None,
) -> Optimizer:
    rule = _by_player(players, optimizer, "optimizer", Adam())[player]
    rate = _by_player(players, lr, "lr", None)[player]
    if rate is None:
        return rule
    _check_positive(lr=rate)
    return replace(rule, lr=rate)  # type: ignore[type-var]


def _by_player(
    players: Sequence[str], value: T | Mapping[str, T] | None, what: str, default: T
) -> dict[str, T]:
    """Spread an option over the players: one value for all, or one by name."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(players, default if value is None else value)
    for name in value:
        if name not in players:
            raise ValueError(f"{what} names {name!r}, no player here{did_you_mean(name, players)}")
    return {name: value.get(name, default) for name in players}


def _check_positive(**options: float | None) -> None:
    for name, value in options.items():
        kind = float if name in ("epochs", "lr") else int
        if value is not None and not (isinstance(value, int | kind) and 0 < value < math.inf):
            what = "positive" if kind is float else "a whole number, 1 or more"
            raise ValueError(f"{name} must be {what}, not {value!r}")


def _cuda(given: Mapping[str, Tensor]) -> list[torch.device]:
    return list({v.device for v in given.values() if v.device.type == "cuda"})
