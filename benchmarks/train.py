"""Time whole fits, with everything on, against loops written and compiled by hand.

    python benchmarks/train.py                             # all tasks, one thread, as RESULTS.md
    python benchmarks/train.py --task dcgan --threads 2
    python benchmarks/train.py --device cuda --precision bf16

Ours is one call of `dg.fit` with progress bar, history, checks of every step, a running average
of the weights, and the losses looked at every 50 steps. The other is a loop over shuffled batches
that does nothing but train: `torch.compile` of each player's loss, backward, fused Adam. They
take turns in one process; on a CPU its own time is counted.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from statistics import median, quantiles

import torch
from torch import Tensor

import daguerre as dg
from fit_tasks import TASKS, Task, made
from report import circumstances, table

__all__ = ["main"]

ROWS = 12_800
HEAD = [
    "fit of",
    "Daguerre, µs a step",
    "by hand",
    "ours over it",
    "quartiles",
    "last losses",
    "by hand",
]


def main() -> None:
    """Race, check, print."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.device == "cpu":
        cores = sorted(os.sched_getaffinity(0), reverse=True)
        os.sched_setaffinity(0, cores[: arguments.threads])
    print(circumstances(["torch"]))
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    threads = f"{arguments.threads} thread{'s' * (arguments.threads > 1)}"
    print(f"* {where}, {threads}, {arguments.precision}, {arguments.rounds} rounds\n")
    rows = []
    for name in arguments.task:
        rows.append(_race(TASKS[name], arguments))
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(HEAD, rows))


def _race(task: Task, options: Namespace) -> list[str]:
    """Fit, and let the other loop take a turn after each of ours."""
    precision = torch.bfloat16 if options.precision == "bf16" else None
    race = _Race(task, options.device, precision)
    with redirect_stderr(_Terminal()):
        dg.fit(
            task.game(**made(task, options.device)),
            race.data,
            steps=(options.rounds + 1) * task.turn,
            batch_size=task.rows,
            optimizer=dg.train.Turn(task.rule, average=0.999),
            callbacks=[dg.train.every(50, _look), dg.train.every(task.turn, race)],
            compile=True,
            precision=precision,
        )
    return race.row()


def _look(now: dg.train.Moment) -> dict[str, float]:
    return {f"logged {name}": loss for name, loss in now.losses.items()}


class _Race:
    """Turns of both loops, one after the other: what is called after each turn of ours."""

    def __init__(self, task: Task, device: str, precision: torch.dtype | None) -> None:
        self.task, self.is_cuda = task, device == "cuda"
        random = torch.Generator().manual_seed(0)
        rates = torch.rand(task.shape, generator=random)
        self.data = (torch.rand(ROWS, *task.shape, generator=random) < rates).float().to(device)
        self.batches = _shuffled(self.data, task.rows)
        self.hand = task.hand(device, precision)
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.losses: list[dict[str, float]] = []
        self.start: float | None = None

    def __call__(self, now: dg.train.Moment) -> None:
        """Take a turn; the first turn of each is not counted, since it compiles."""
        end = self._clock()
        losses = dict(now.losses)
        before = self._clock()
        for _ in range(self.task.turn):
            found = self.hand(next(self.batches))
        after = self._clock()
        if self.start is not None:
            self.ours.append((end - self.start) / self.task.turn * 1e6)
            self.theirs.append((after - before) / self.task.turn * 1e6)
        self.losses = [losses, {name: loss.item() for name, loss in found.items()}]
        self.start = self._clock()

    def _clock(self) -> float:
        if self.is_cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def row(self) -> list[str]:
        """Return the row of a table."""
        ratios = [a / b for a, b in zip(self.ours, self.theirs, strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        shown = [", ".join(f"{loss:.4g}" for loss in one.values()) for one in self.losses]
        return [
            self.task.title,
            f"{median(self.ours):.0f}",
            f"{median(self.theirs):.0f}",
            f"{middle:.2f}",
            f"{low:.2f} to {high:.2f}",
            *shown,
        ]


def _shuffled(data: Tensor, rows: int) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(len(data), device=data.device)
        for chosen in order.split(rows)[: len(data) // rows]:
            yield data[chosen]


class _Terminal(StringIO):
    """What a progress bar takes for a terminal."""

    def isatty(self) -> bool:
        return True


def _arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=[*TASKS])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
