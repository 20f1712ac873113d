"""Time whole compiled training steps of other costs than the ELBO against hand-written ones.

    python benchmarks/objectives.py                       # all of them, as RESULTS.md
    python benchmarks/objectives.py --cost m2 --rounds 5

Both are one compiled graph of loss, gradients and Adam; they take turns on one core, in one
process, whose own time is counted, not that of its neighbours. Each starts from the same weights,
batches and random numbers, and nothing is printed of a cost when the losses show that the work was
not the same.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from statistics import fmean, median, quantiles
from time import process_time

import torch

from objective_steps import COSTS, Cost, Step
from report import circumstances, table

__all__ = ["main"]

LESSONS = 60  # steps before the timing, whose mean losses are compared
OURS = "Daguerre"


def main() -> None:
    """Race, check, print."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cost", nargs="+", choices=COSTS, default=[*COSTS])
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(circumstances(["torch"]))
    print(f"* one thread on one core, {arguments.rounds} rounds", flush=True)
    for name in arguments.cost:
        print(f"\n{COSTS[name].title}:\n\n{_race(COSTS[name], arguments.rounds)}", flush=True)


def _race(cost: Cost, rounds: int) -> str:
    """Teach and time the contestants, and return a table."""
    ways = {OURS: cost.ours} | cost.by_hand
    steps: dict[str, Step] = {}
    losses: dict[str, float] = {}
    for name, way in ways.items():
        steps[name] = way()
        torch.manual_seed(1)
        losses[name] = fmean(steps[name]().item() for _ in range(LESSONS))
        print(f"{cost.title}: {name} is ready", file=sys.stderr, flush=True)
    _check(cost, losses)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds):
        names = [*steps][turn % len(steps) :] + [*steps][: turn % len(steps)]
        for name in names:
            times[name].append(_timed(steps[name], cost.turn))
    return _table(times, losses)


def _timed(step: Step, steps: int) -> float:
    """Return microseconds a step; the last loss is read, so that nothing is left to be done."""
    start = process_time()
    for _ in range(steps - 1):
        step()
    step().item()
    return (process_time() - start) / steps * 1e6


def _check(cost: Cost, losses: Mapping[str, float], tolerance: float = 0.01) -> None:
    low, high = min(losses.values()), max(losses.values())
    if not high - low <= tolerance * max(abs(low), abs(high)):
        shown = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        raise SystemExit(f"{cost.title}: the mean losses differ by more than 1 %: {shown}")


def _table(times: Mapping[str, list[float]], losses: Mapping[str, float]) -> str:
    head = ["step of", "µs", "Daguerre's time over it", "quartiles", f"mean of {LESSONS} losses"]
    rows = []
    for name, found in times.items():
        ratios = [a / b for a, b in zip(times[OURS], found, strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        spread = f"{low:.3f} to {high:.3f}"
        rows.append([name, f"{median(found):.0f}", f"{middle:.3f}", spread, f"{losses[name]:.5f}"])
    return table(head, rows)


if __name__ == "__main__":
    main()
