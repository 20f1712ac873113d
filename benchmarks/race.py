"""Run contestants side by side: each in its own process, all on one core, taking turns.

Turns are short, go round, and are the same training steps for all; what else the machine does hits
all alike, and a ratio is taken between turns of one round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from problem import PROBLEMS

__all__ = ["Entry", "Plan", "Worker", "run"]

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Plan:
    """How long to run.

    Attributes:
        rounds: Turns of each contestant.
        lessons: Training steps before the timing, after which all losses must agree.
    """

    rounds: int = 15
    lessons: int = 200


@dataclass
class Entry:
    """What one contestant did.

    Attributes:
        version: Of its package.
        cold: Seconds to the first loss, with an empty compiler cache.
        warm: The same in a second process with the cache of the first.
        first: The first loss, nats per observation.
        last: Mean of the last 20 losses of the lessons.
        times: Microseconds a step, one number a round.
    """

    version: str
    cold: float
    warm: float
    first: float
    last: float = 0.0
    times: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.times)

    @property
    def quartiles(self) -> tuple[float, float]:
        low, _, high = quantiles(self.times, n=4)
        return low, high

    def ratio(self, other: Entry) -> float:
        """Return the median over rounds of this one's time over the other's."""
        return median(a / b for a, b in zip(self.times, other.times, strict=True))


class Worker:
    """A contestant's process: `take(n)` makes it take n steps and waits for the answer."""

    def __init__(self, contestant: str, problem: str, cache: Path) -> None:
        self.name = contestant
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), contestant, problem],
            env=os.environ | ONE_THREAD | {"TORCHINDUCTOR_CACHE_DIR": str(cache)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate()  # closes its input, which ends it

    def take(self, steps: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise SystemExit(f"{self.name} ended with exit code {code}; its error is above")
        return json.loads(line)


def run(problem: str, contestants: Iterable[str], plan: Plan) -> dict[str, Entry]:
    """Set up, teach and time the contestants on one problem."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the workers inherit it
    with ExitStack() as stack:
        workers: list[Worker] = []
        entries: dict[str, Entry] = {}
        for name in contestants:
            cache = Path(stack.enter_context(TemporaryDirectory()))
            with Worker(name, problem, cache) as first:
                cold = first.ready["setup"]
            worker = stack.enter_context(Worker(name, problem, cache))
            ready = worker.ready
            entries[name] = Entry(ready["version"], cold, ready["setup"], ready["loss"])
            workers.append(worker)
            print(f"{name}: ready", file=sys.stderr)
        for worker in workers:
            entries[worker.name].last = _teach(worker, plan.lessons)
        for turn in range(plan.rounds):
            _round(_rotated(workers, turn), entries, PROBLEMS[problem].turn)
    return entries


def _teach(worker: Worker, lessons: int) -> float:
    """Take the lessons, of which the set-up took the first; return the mean of the last losses."""
    worker.take(lessons - 21)
    return fmean(worker.take(1)["loss"] for _ in range(20))


def _round(workers: list[Worker], entries: Mapping[str, Entry], steps: int) -> None:
    for worker in workers:
        entries[worker.name].times.append(worker.take(steps)["seconds"] / steps * 1e6)


def _rotated(workers: list[Worker], turn: int) -> list[Worker]:
    """Let each round begin with another contestant."""
    start = turn % len(workers)
    return workers[start:] + workers[:start]
