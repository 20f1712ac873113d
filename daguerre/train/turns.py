"""How each player of a game moves: a schedule is one turn per player, and a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from daguerre.graph import did_you_mean
from daguerre.objectives.schedules import Number, Schedule
from daguerre.train.optimizers import Adam, Optimizer

__all__ = ["Turn", "as_turn", "check_positive", "turns_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class Turn:
    """A player's turn in a pass through the players.

    Attributes:
        optimizer: The rule of its updates, with their learning rate.
        updates: How often it moves in a pass.
        accumulate: Batches whose mean gradient makes one update.
        clip: The largest norm of the gradient by all its parameters; a longer one is shortened.
        average: Decay of a running average of its weights, such as 0.999. The average is what is
            validated, sampled and kept after the fit. It warms up: its decay is no more than
            (1 + t) / (10 + t) at update t.

    Raises:
        ValueError: A number out of range.

    Example:
        >>> Turn(Adam(1e-4), updates=5, clip=1.0).updates
        5
    """

    optimizer: Optimizer = field(default_factory=Adam)
    updates: int = 1
    accumulate: int = 1
    clip: float | None = None
    average: float | None = None

    def __post_init__(self) -> None:
        check_positive(updates=self.updates, accumulate=self.accumulate, clip=self.clip)
        if self.average is not None and not 0 < self.average < 1:
            raise ValueError(f"average is a decay between 0 and 1, not {self.average!r}")

    @property
    def batches(self) -> int:
        """How many batches a pass takes for it."""
        return self.updates * self.accumulate


Moves = Optimizer | Turn


def as_turn(moves: Moves | None) -> Turn:
    """Read how a player moves: a turn, or an optimiser alone."""
    return moves if isinstance(moves, Turn) else Turn(moves or Adam())


def turns_of(
    players: Sequence[str],
    moves: Moves | Mapping[str, Moves] | None,
    lr: Number | Mapping[str, Number] | None,
) -> dict[str, Turn]:
    """Spread how players move, and their learning rates, over the players of a game.

    Raises:
        ValueError: An unknown player, a rate out of range.
    """
    turns = {name: as_turn(one) for name, one in _by_player(players, moves, "optimizer").items()}
    for name, rate in _by_player(players, lr, "lr").items():
        if rate is not None:
            if not isinstance(rate, Schedule):
                check_positive(lr=rate)
            rule = replace(turns[name].optimizer, lr=rate)  # type: ignore[type-var]
            turns[name] = replace(turns[name], optimizer=rule)
    return turns


def _by_player(
    players: Sequence[str], value: T | Mapping[str, T] | None, what: str
) -> dict[str, T | None]:
    """Spread an option over the players: one value for all, or one by name."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(players, value)
    for name in value:
        if name not in players:
            raise ValueError(f"{what} names {name!r}, no player here{did_you_mean(name, players)}")
    return {name: value.get(name) for name in players}


def check_positive(**options: float | None) -> None:
    """Check that numbers are positive and finite, and whole where they count.

    Raises:
        ValueError: One is not; names it.
    """
    for name, value in options.items():
        kind = float if name in ("epochs", "lr", "clip", "seconds") else int
        counts = isinstance(value, int | kind) and not isinstance(value, bool)
        if value is not None and not (counts and 0 < value < math.inf):
            what = "positive" if kind is float else "a whole number, 1 or more"
            raise ValueError(f"{name} must be {what}, not {value!r}")
