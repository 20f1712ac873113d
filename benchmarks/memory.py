"""Measure the peak memory of a fit against that of a hand-written loop, eager and compiled.

    python benchmarks/memory.py

Each fit is a process of its own: 200 steps of the large VAE on random binary data of MNIST's size,
60,000 x 784 float32. Peak memory is the resident set that the system reports, PyTorch included.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from importlib import import_module
from tempfile import TemporaryDirectory

from problem import PROBLEMS
from race import ONE_THREAD
from report import circumstances, table

__all__ = ["main"]

ROWS, STEPS = 60_000, 200
MODULES = {"hand-written": "handwritten", "Daguerre": "daguerre_vae"}


def main() -> None:
    """Print a table of peaks in MiB and of ratios to the hand-written loop."""
    print(circumstances(["torch", "daguerre"]), end="\n\n")
    rows = []
    for way in ("eager", "compiled"):
        peaks = {name: _peak_of(module, way) for name, module in MODULES.items()}
        ratio = peaks["Daguerre"] / peaks["hand-written"]
        rows.append([way, *(f"{peak:.0f}" for peak in peaks.values()), f"{ratio:.3f}"])
    print(table(["fit", *(f"{name}, MiB" for name in MODULES), "ratio"], rows))


def _peak_of(module: str, way: str) -> float:
    """Run one fit in a fresh process with an empty compiler cache, and return its peak in MiB."""
    with TemporaryDirectory() as cache:
        child = subprocess.run(
            [sys.executable, __file__, module, way],
            env=os.environ | ONE_THREAD | {"TORCHINDUCTOR_CACHE_DIR": cache},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return float(child.stdout.split()[-1])


def _fit(module: str, way: str) -> None:
    import torch

    fit = import_module(f"contestants.{module}").fit
    problem = PROBLEMS["large"]
    data = torch.empty(ROWS, problem.pixels).bernoulli_(0.3)  # in place: no peak of its own
    fit(problem, data, steps=STEPS, compiled=way == "compiled")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    if sys.argv[1:]:
        _fit(*sys.argv[1:])
    else:
        main()
