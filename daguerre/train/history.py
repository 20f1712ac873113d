"""What happened in training: a table of losses and measures, read as tensors, text or a plot."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from daguerre.graph import did_you_mean
from daguerre.plot import curves_svg, smooth
from daguerre.table import Table

__all__ = ["History", "Series", "read_history"]


class Series(NamedTuple):
    """A measure that was taken now and then.

    Attributes:
        steps: Steps done when it was taken `[m]`.
        values: Its values `[m]`.
    """

    steps: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class History:
    """The losses of every step of a fit, and what its callbacks measured.

    Attributes:
        losses: Per player, the loss before each step `[steps]`, on the CPU. A player that moves
            several times a step reports its last loss.
        steps: The number of steps taken: passes through all players.
        epochs: The number of passes through the data, in part or whole.
        seconds: Wall time, compilation included, of all sessions of a resumed fit.
        compiled: Whether the steps were compiled.
        how: Why they were, or were not.
        interrupted: Whether the fit was stopped from the keyboard; what was trained is kept.
        metrics: Per measure, when it was taken and its values.
        stopped: Why the fit ended before its time, where a callback said so.
    """

    losses: dict[str, Tensor]
    steps: int
    epochs: float = 0.0
    seconds: float = 0.0
    compiled: bool = False
    interrupted: bool = False
    metrics: Mapping[str, Series] = field(default_factory=dict)
    stopped: str = ""
    how: str = ""

    def __getitem__(self, name: str) -> Tensor:
        """Return the losses of a player, or the values of a measure."""
        if name in self.metrics:
            return self.metrics[name].values
        if name not in self.losses:
            known = (*self.losses, *self.metrics)
            raise KeyError(f"no player {name!r}{did_you_mean(name, known)}")
        return self.losses[name]

    def __len__(self) -> int:
        return self.steps

    def last(self, steps: int = 100) -> dict[str, float]:
        """Return each player's mean loss over the last steps."""
        return {name: values[-steps:].mean().item() for name, values in self.losses.items()}

    def table(self, rows: int = 20) -> Table:
        """Return the mean losses of equal spans of steps, and the last of each measure by then.

        Args:
            rows: How many spans, at most.

        Example:
            >>> History({"model": torch.tensor([4.0, 2.0, 1.0, 1.0])}, steps=4).table(rows=2)
            step  model
            2     3
            4     1
        """
        span = max(1, -(-self.steps // rows))
        ends = [min(end, self.steps) for end in range(span, self.steps + span, span)]
        lines = []
        for end in ends:
            means = (v[(end - 1) // span * span : end].mean() for v in self.losses.values())
            cells = [f"{mean.item():.4g}" for mean in means]
            cells += [_latest(series, end) for series in self.metrics.values()]
            lines.append((str(end), *cells))
        return Table(("step", *self.losses, *self.metrics), tuple(lines))

    @property
    def svg(self) -> str:
        """The losses and measures over the steps, as a picture."""
        curves = {name: smooth(values.tolist()) for name, values in self.losses.items()}
        measured = {name: series.values.tolist() for name, series in self.metrics.items()}
        return curves_svg({**curves, **measured}, steps=self.steps, unit="loss")

    def _repr_svg_(self) -> str | None:
        """Draw itself in a notebook."""
        return self.svg if self.steps else None

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {value:.4g}" for name, value in self.last().items())
        end = ", interrupted" if self.interrupted else f", {self.stopped}" * bool(self.stopped)
        how = "compiled" if self.compiled else "eager"
        return f"History({self.steps} steps, {self.seconds:.1f} s, {how}{end}; {means})"


def _latest(series: Series, end: int) -> str:
    taken = series.values[series.steps <= end]
    return f"{taken[-1].item():.4g}" if len(taken) else ""


def read_history(path: str | os.PathLike[str]) -> History:
    """Read what a fit writes as it goes, a JSON object per step and line, also while it runs.

    Args:
        path: `history.jsonl` of a run.

    Returns:
        Losses and measures; how long it took is not in the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is damaged; the last may be incomplete, as a killed process leaves it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = [_row(line, i, path) for i, line in enumerate(lines[:-1], 1)]
    losses = {name: [row["losses"][name] for row in rows] for name in _names(rows, "losses")}
    metrics = {
        name: [(row["step"], row[_METRICS][name]) for row in rows if name in row.get(_METRICS, {})]
        for name in _names(rows, _METRICS)
    }
    return History(
        {name: _tensor(values) for name, values in losses.items()},
        steps=len(rows),
        metrics={n: Series(torch.tensor([*s]), _tensor([*v])) for n, (s, v) in _split(metrics)},
    )


_METRICS = "metrics"


def _split(metrics: Mapping[str, list[tuple[int, float]]]) -> list[tuple[str, Any]]:
    return [(name, [*zip(*taken, strict=True)]) for name, taken in metrics.items()]


def _names(rows: list[dict[str, Any]], kind: str) -> list[str]:
    return [*dict.fromkeys(name for row in rows for name in row.get(kind, {}))]


def _tensor(values: list[float | None]) -> Tensor:
    return torch.tensor([torch.nan if value is None else value for value in values])


def _row(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
        assert {"step", "losses"} <= row.keys()
    except (AssertionError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged in line {number}: {line[:60]!r}") from error
    return row
