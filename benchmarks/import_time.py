"""Measure the seconds of `import daguerre` beyond those of `import torch`.

    python benchmarks/import_time.py

Each import is the first of a fresh process, torch before daguerre; the file cache is warm.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from report import circumstances, table

__all__ = ["main"]

TURNS = 9
TIMER = """
from time import perf_counter
start = perf_counter()
import torch
middle = perf_counter()
import daguerre
print(middle - start, perf_counter() - middle)
"""


def main() -> None:
    """Print the medians over fresh processes."""
    _measure()  # fills the file cache
    torch, beyond = zip(*(_measure() for _ in range(TURNS)), strict=True)
    print(circumstances(["torch", "daguerre"]), end="\n\n")
    head = ["import", "median, s", "least", "most"]
    rows = [_row("torch", torch), _row("daguerre beyond torch", beyond)]
    print(table(head, rows))


def _measure() -> tuple[float, float]:
    child = subprocess.run(
        [sys.executable, "-c", TIMER], stdout=subprocess.PIPE, text=True, check=True
    )
    first, second = child.stdout.split()
    return float(first), float(second)


def _row(name: str, times: tuple[float, ...]) -> list[str]:
    return [name, *(f"{f(times):.3f}" for f in (median, min, max))]


if __name__ == "__main__":
    main()
