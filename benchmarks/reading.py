"""Measure how long it takes to read a net into a model, beside torch.export alone.

    python benchmarks/reading.py

Reading holds an export of the net, a check to the bit on two inputs, and the graph. The first
export of a process loads code and is not timed. Every contestant reads every net in turn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import nn

import daguerre as dg
from report import circumstances, table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "nets"))
from zoo import Deep, ResNet18, UNet, encoder

__all__ = ["main"]

ROUNDS = 5


def main() -> None:
    """Print one row per net."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    print(circumstances(["daguerre"]), end="\n\n")
    torch.manual_seed(0)
    nets: dict[str, tuple[nn.Module, torch.Tensor]] = {
        "1,000 operations": (Deep(1000), torch.randn(2, 4)),
        "ResNet-18": (ResNet18(64).eval(), torch.randn(2, 3, 32, 32)),
        "U-Net": (UNet().eval(), torch.randn(2, 1, 8, 8)),
        "TransformerEncoder": (encoder(first=True).eval(), torch.randn(2, 5, 8)),
    }
    dg.from_module(nn.Linear(2, 2), torch.randn(2, 2))
    rows = []
    for name, (net, x) in nets.items():
        times = _times(
            lambda net=net, x=x: dg.from_module(net, x), lambda net=net, x=x: _export(net, x)
        )
        model = dg.from_module(net, x)
        ours, export = (median(t) for t in times)
        rows.append(
            [
                name,
                str(len(model.graph.names)),
                f"{ours:.2f}",
                f"{max(times[0]):.2f}",
                f"{export:.2f}",
                f"{ours / export:.2f}",
            ]
        )
    print(table(["net", "variables", "Daguerre, s", "most, s", "torch.export, s", "ratio"], rows))
    net = nn.Sequential(
        nn.Linear(50, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 784)
    )
    start = perf_counter()
    graph = dg.units(net, torch.randn(2, 50))
    print(
        f"\nunits of 50-200-200-784: {len(graph.edges):,} edges in {perf_counter() - start:.2f} s"
    )


def _times(*contestants: Callable[[], object]) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in contestants]
    for _ in range(ROUNDS):
        for contestant, seen in zip(contestants, times, strict=True):
            start = perf_counter()
            contestant()
            seen.append(perf_counter() - start)
    return times


def _export(net: nn.Module, x: torch.Tensor) -> object:
    shapes = ({0: torch.export.Dim.AUTO},)
    return torch.export.export(net, (x,), dynamic_shapes=shapes, strict=False)


if __name__ == "__main__":
    main()
