"""One contestant in a process of its own: it takes blocks of steps when it is told to.

Started by [race][race.Worker] with the names of a contestant and a problem. Each line on standard
input is a number of steps to take; each answer on standard output is one line of JSON. The first
line of all is about the set-up. It ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from time import perf_counter
from typing import TextIO

from contestants import Step, of
from problem import PROBLEMS

__all__ = ["main"]


def main() -> None:
    """Set up, say so, and serve."""
    name, problem = sys.argv[1:]
    answers = _own_stdout()
    contestant = of(problem)[name]
    make = contestant.load()
    start = perf_counter()
    step = make(PROBLEMS[problem])
    loss = float(step())
    seconds = perf_counter() - start
    _say(answers, setup=seconds, loss=loss, version=version(contestant.package))
    for line in sys.stdin:
        _say(answers, **_block(step, int(line)))


def _block(step: Step, steps: int) -> dict[str, float]:
    """Take steps; the last loss is read inside the timing, so that nothing is left to be done."""
    start = perf_counter()
    for _ in range(steps - 1):
        step()
    loss = float(step())
    return {"seconds": perf_counter() - start, "loss": loss}


def _own_stdout() -> TextIO:
    """Keep standard output for answers; what libraries print there goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _say(answers: TextIO, **what: float | str) -> None:
    print(json.dumps(what), file=answers, flush=True)


if __name__ == "__main__":
    main()
