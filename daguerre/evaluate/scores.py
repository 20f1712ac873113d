"""What measures find: a value with its spread and how to read it, and many of them as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from daguerre.graph import did_you_mean
from daguerre.table import Table

__all__ = ["Estimate", "Score", "Scores"]


@dataclass(frozen=True)
class Estimate:
    """A mean over examples with its standard error.

    Attributes:
        value: The mean.
        stderr: Standard deviation of the examples over the root of their number.
        n: The number of examples.
    """

    value: float
    stderr: float
    n: int

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """Average values `[n]`, in float64.

        Raises:
            ValueError: Fewer than two values, which have no spread.

        Example:
            >>> import torch
            >>> print(Estimate.of(torch.tensor([1.0, 2.0, 3.0])))
            2.00 ± 0.58
        """
        if (n := len(values)) < 2:
            raise ValueError(f"a standard error takes 2 examples at least, not {n}")
        values = values.double()
        return cls(values.mean().item(), values.std().item() / math.sqrt(n), n)

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.stderr:.2f}"


@dataclass(frozen=True)
class Score:
    """One number that a measure found.

    Attributes:
        name: What is measured.
        value: Its value.
        spread: Its standard error, or, where the note says so, how it spreads where there is no
            difference to be found.
        note: How to read it.
    """

    name: str
    value: float
    spread: float
    note: str

    @classmethod
    def mean(cls, name: str, values: Tensor, note: str) -> Score:
        """Average values `[n]` of independent examples."""
        found = Estimate.of(values)
        return cls(name, found.value, found.stderr, note)


@dataclass(frozen=True)
class Scores:
    """The scores of a model on data, by name; printed, a table.

    Attributes:
        scores: What was found.
        refused: Of the measures that are taken by default, those that do not apply, and why.
    """

    scores: tuple[Score, ...]
    refused: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, name: str) -> Score:
        """Return one score."""
        found = {score.name: score for score in self.scores}
        if name not in found:
            raise KeyError(f"no measure {name!r}{did_you_mean(name, found)}")
        return found[name]

    def __contains__(self, name: object) -> bool:
        return any(score.name == name for score in self.scores)

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __repr__(self) -> str:
        rows = ((s.name, f"{s.value:.4g}", f"± {s.spread:.2g}", s.note) for s in self.scores)
        table = str(Table(("measure", "value", "spread", "reading"), tuple(rows)))
        return "\n".join([table, *(f"no {name}: {why}" for name, why in self.refused)])

    def json(self) -> dict[str, Any]:
        """Return what is written to a file: lists and dicts of text and numbers.

        Example:
            >>> Scores((Score("elbo", -99.5, 0.25, "nats"),)).json()["elbo"]["value"]
            -99.5
        """
        scores = {score.name: asdict(score) for score in self.scores}
        for row in scores.values():
            del row["name"]
        return {**scores, **({"refused": dict(self.refused)} if self.refused else {})}
