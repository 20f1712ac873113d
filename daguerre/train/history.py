"""What happened in training: a table of losses that is read as tensors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from daguerre.graph import did_you_mean

__all__ = ["History"]


@dataclass(frozen=True, eq=False)
class History:
    """The losses of every step of a fit.

    Attributes:
        losses: Per player, the loss before each step `[steps]`, on the CPU. A player that moves
            several times a step reports its last loss.
        steps: The number of steps taken: passes through all players.
        epochs: The number of passes through the data, in part or whole.
        seconds: Wall time, compilation included.
        compiled: Whether the steps were compiled.
        interrupted: Whether the fit was stopped from the keyboard; what was trained is kept.
    """

    losses: dict[str, Tensor]
    steps: int
    epochs: float
    seconds: float
    compiled: bool
    interrupted: bool = False

    def __getitem__(self, player: str) -> Tensor:
        """Return the losses of one player."""
        if player not in self.losses:
            raise KeyError(f"no player {player!r}{did_you_mean(player, self.losses)}")
        return self.losses[player]

    def __len__(self) -> int:
        return self.steps

    def last(self, steps: int = 100) -> dict[str, float]:
        """Return each player's mean loss over the last steps."""
        return {name: values[-steps:].mean().item() for name, values in self.losses.items()}

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {value:.4g}" for name, value in self.last().items())
        end = ", interrupted" if self.interrupted else ""
        how = "compiled" if self.compiled else "eager"
        return f"History({self.steps} steps, {self.seconds:.1f} s, {how}{end}; {means})"
