"""A measurement as Markdown: where, when and with what, then a table per problem."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from math import isfinite
from pathlib import Path

from contestants import HAND_WRITTEN, OURS
from race import Entry

__all__ = ["circumstances", "disagreement", "race_table", "table"]


def circumstances(packages: Iterable[str]) -> str:
    """Say on what machine, with which versions, by which command and when this was measured."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    versions = ", ".join(f"{p} {version(p)}" for p in packages)
    return "\n".join(
        [
            f"* {datetime.now(UTC):%Y-%m-%d}, `{command}`",
            f"* {_processor()}, {os.cpu_count()} cores",
            f"* {platform.system()}, Python {platform.python_version()}, {versions}",
        ]
    )


def disagreement(entries: Mapping[str, Entry], tolerance: float = 0.05) -> str | None:
    """Say which losses differ by more than the tolerance: then the work was not the same."""
    for when in ("first", "last"):
        losses = {name: getattr(entry, when) for name, entry in entries.items()}
        low, high = min(losses.values()), max(losses.values())
        if not all(map(isfinite, losses.values())) or high > low * (1 + tolerance):
            shown = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
            return f"the {when} losses are not finite and within {tolerance:.0%}: {shown}"
    return None


def race_table(entries: Mapping[str, Entry]) -> str:
    """Return the table of a race, in the order of the entries."""
    rivals = [name for name in (HAND_WRITTEN, OURS) if name in entries]
    head = ["step of", "µs", "quartiles", *(f"x {name}" for name in rivals)]
    head += ["first step, s: cold", "warm", "loss: first", "after lessons"]
    return table(head, [_row(name, entries, rivals) for name in entries])


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table, numbers to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def _row(name: str, entries: Mapping[str, Entry], rivals: list[str]) -> list[str]:
    entry = entries[name]
    low, high = entry.quartiles
    return [
        f"{name} {entry.version}",
        f"{entry.median:.0f}",
        f"{low:.0f} to {high:.0f}",
        *(f"{entry.ratio(entries[rival]):.2f}" for rival in rivals),
        f"{entry.cold:.2f}",
        f"{entry.warm:.2f}",
        f"{entry.first:.2f}",
        f"{entry.last:.2f}",
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    lines = (line.partition(":") for line in info.splitlines())
    facts = {key.strip(): value.strip() for key, _, value in lines}
    name, family, model = (facts.get(k, "?") for k in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model})"
