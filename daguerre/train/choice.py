"""Whether a fit compiles its steps: by the work that it predicts, and it says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch.utils._python_dispatch import TorchDispatchMode

from daguerre.devices import on_device_of
from daguerre.modes import mode
from daguerre.objectives.objective import Objective, Round
from daguerre.program import validation
from daguerre.train.batches import Batches
from daguerre.train.chance import Chance, seeded
from daguerre.train.turns import Turn

__all__ = ["Choice", "choose"]

# Measured with torch 2.13 on two CPUs: one graph with gradient and update saves some 10
# microseconds for each operation of its loss, and takes the compiler 14 seconds at the least.
SAVED, LEAST, EACH = 1e-5, 14.0, 0.05
FEWEST = 1000  # losses, below which nothing is counted

_RECORDED = (
    "eager, with one slice traced for all where things run slice by slice, which takes long to"
    " compile; compile=True for small nets"
)


class Choice(NamedTuple):
    """How steps are run, and why.

    Attributes:
        why: The words for it.
        compiled: Whether they are compiled; None where they are not, but record recursions.
    """

    why: str
    compiled: bool | None


def choose(
    objective: Objective,
    turns: Mapping[str, Turn],
    batches: Batches,
    *,
    steps: int,
    asked: bool | None,
    shard: bool = False,
) -> Choice:
    """Decide whether the steps of a fit are compiled.

    The operations of every player's loss are counted on one batch. The decision depends on the
    call alone, and on no clock, so that a fit that is resumed decides as it did.

    Args:
        objective: What is minimised.
        turns: How the players move.
        batches: The stream of the data, which is left where it is.
        steps: Passes through the players.
        asked: What the user said.
        shard: Whether processes move shares of parameters.

    Raises:
        ValueError: Both were asked for, to compile and to shard.
    """
    if shard:
        if asked:
            raise ValueError("steps on shares of parameters run eagerly; leave out compile=True")
        return Choice("eager: shares of parameters move between processes", compiled=False)
    if asked is not None:
        return Choice("as asked", compiled=asked)
    if objective.eager:
        compiled = None if objective.recurs else False
        return Choice(f"eager, for {objective.eager}", compiled)
    if objective.recurs:
        return Choice(_RECORDED, compiled=None)
    losses = steps * sum(turn.batches for turn in turns.values())
    if losses < FEWEST:
        return Choice(f"eager: {losses:,} losses are too few to repay compiling", compiled=False)
    counts = _operations(objective, turns, batches)
    saves = SAVED * steps * sum(turns[name].batches * count for name, count in counts.items())
    takes = sum(LEAST + EACH * count for count in counts.values())
    known = f"it would save some {_time(saves)}, and take {_time(takes)}"
    if saves < takes:
        return Choice(f"eager: to compile does not pay; {known}", compiled=False)
    return Choice(f"compiled, which pays; {known.replace('would save', 'saves')}", compiled=True)


class _Counted(TorchDispatchMode):
    """Count operations on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        self.count += 1
        return func(*args, **(kwargs or {}))


def _operations(
    objective: Objective, turns: Mapping[str, Turn], batches: Batches
) -> dict[str, int]:
    """Return how many operations each player's loss takes; nothing is changed by it."""
    modules = [module for player in objective.players for module in player.modules]
    n, given = objective.read(batches.peek())
    chance = Chance.on(batches.device)
    found = {}
    with mode(modules, training=False), seeded(chance, 0), validation(enabled=False):
        for name in turns:
            with on_device_of(modules), _Counted() as counted:
                objective.loss(name, Round(n, given))
            found[name] = counted.count
    return found


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 300 else f"{seconds / 60:.0f} min"
