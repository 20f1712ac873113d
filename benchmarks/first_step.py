"""Measure the seconds until a compiled step has run, with an empty compile cache and a full one.

    python benchmarks/first_step.py

Each start is a fresh process, on all cores, beyond `import torch`: the contestant is loaded, and
makes its model, objective and step, whose first run loads torch's compiler, traces and compiles.
Contestants take turns; the file cache is warm.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser
from importlib import import_module
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from problem import PROBLEMS
from race import ONE_THREAD
from report import circumstances, table

__all__ = ["main"]

MODULES = {"Daguerre": "daguerre_vae", "hand-written, torch.compile": "handwritten"}


def main() -> None:
    """Print the seconds of each contestant with an empty cache, and the median with a full one."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=7, help="with a full cache")
    parser.add_argument("--contestant", help="only start this one, here")
    asked = parser.parse_args()
    if asked.contestant:
        return _start(MODULES[asked.contestant])
    turns = range(1 + asked.starts)
    with TemporaryDirectory() as folder:
        rounds = [{name: _seconds(name, folder) for name in MODULES} for _ in turns]
    print(circumstances(["torch", "daguerre"]), end="\n\n")
    head = ["first step of", "cold, s", "warm, median", "least", "most", "of which imports"]
    return print(table(head, [_row(name, [one[name] for one in rounds]) for name in MODULES]))


def _row(name: str, starts: list[tuple[float, float]]) -> list[str]:
    (cold, _), *warm = starts
    whole, loads = zip(*warm, strict=True)
    figures = (cold, median(whole), min(whole), max(whole), median(loads))
    return [name, *(f"{figure:.2f}" for figure in figures)]


def _seconds(name: str, folder: str) -> tuple[float, float]:
    """Start a contestant in a process of its own; return its seconds, and those of its imports."""
    own = ONE_THREAD | {"TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, MODULES[name])}
    own["PYTHONDONTWRITEBYTECODE"] = ""  # what is installed has its bytecode
    child = subprocess.run(
        [sys.executable, __file__, "--contestant", name],
        env=os.environ | own,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    whole, loads = map(float, child.stdout.split()[-2:])
    return whole, loads


def _start(module: str) -> None:
    import torch  # noqa: F401 - what all contestants load is not counted

    begin = perf_counter()
    contestant = import_module(f"contestants.{module}")
    loaded = perf_counter()
    contestant.compiled(PROBLEMS["small"])()
    print(perf_counter() - begin, loaded - begin)


if __name__ == "__main__":
    main()
