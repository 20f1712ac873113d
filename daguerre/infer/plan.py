"""Plans to read: what a question will cost, and which engine takes which part of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daguerre.table import Table

__all__ = ["Part", "Plan"]


@dataclass(frozen=True)
class Part:
    """What one engine does.

    Attributes:
        engine: Its name.
        variables: The variables that it sums, integrates or draws.
        why: What it does, and why it is the one.
    """

    engine: str
    variables: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Plan:
    """How a question would be answered; printing it shows a table.

    Attributes:
        targets: The variables asked for.
        given: The variables that are known.
        pruned: Variables that the answer does not depend on: barren ones, below all that is
            asked or known, and ones that are separated from the targets.
        parts: What the engines do, in order.
        is_exact: Whether the answer would be exact.
        work: Predicted multiplications, for one row of evidence.
        memory: Predicted bytes, for one row of evidence.
    """

    targets: tuple[str, ...]
    given: tuple[str, ...]
    pruned: tuple[str, ...]
    parts: tuple[Part, ...]
    is_exact: bool = False
    work: float = 0.0
    memory: float = 0.0

    def __str__(self) -> str:
        head = f"p({', '.join(self.targets) or 'evidence'} | {', '.join(self.given) or 'nothing'})"
        rows = [(part.engine, _listed(part.variables), part.why) for part in self.parts]
        table = Table(("engine", "variables", "why"), tuple(rows))
        kind = "approximate"
        if self.is_exact:
            work, memory = f"{self.work:.2g} multiplications", f"{self.memory / 1e6:.2g} MB a row"
            kind = f"exact, about {work} and {memory}"
        return f"{head}: {kind}\n{table}\npruned: {_listed(self.pruned)}"


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most]) or "none"
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
