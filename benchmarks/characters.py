"""Characters by an LSTM: the speed of its density beside torch's fused net, and what it learns.

    python benchmarks/characters.py
    DAGUERRE_DATA=folder python benchmarks/characters.py --train [--hidden 256] [--minutes 10]

The first races `dg.nll(p).losses` with the same written by hand: embedding, nn.LSTM, linear and
cross_entropy, on one thread, by CPU time; contestants take turns, and must agree. The second reads
`tiny_shakespeare/input.txt`, trains on its first nine tenths for so many minutes of two cores,
which are twice as many of CPU time, and prints nats per character of the tenth that is held out.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import daguerre as dg
from daguerre.data import text
from daguerre.gallery.rnn import LSTM
from report import circumstances, table

__all__ = ["main"]

LETTERS, WINDOWS, LENGTH, TURNS = 65, 64, 64, 9


def main() -> None:
    """Race, or train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(circumstances(["torch"]), end="\n\n")
    if options.train:
        return _train(options.hidden, budget=120 * options.minutes)
    rows = [row for hidden in (128, 256, 512) for row in _race(hidden)]
    print(table(["hidden", "what", "ours, ms", "by hand, ms", "ratio, median"], rows))
    return None


def _race(hidden: int) -> list[list[str]]:
    p, x = LSTM(LETTERS, hidden), torch.randint(LETTERS, (WINDOWS, LENGTH))
    fused = nn.LSTM(hidden, hidden, batch_first=True)
    fused.load_state_dict({f"{name}_l0": value for name, value in p.cell.state_dict().items()})
    cost = dg.nll(p)

    def ours() -> Tensor:
        return cost.losses({"x": x})["model"]

    def by_hand() -> Tensor:
        before = torch.cat([torch.full([WINDOWS, 1], LETTERS), x[:, :-1]], 1)
        logits = p.out(fused(p.embed(before))[0])
        return cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="sum") / WINDOWS

    torch.testing.assert_close(ours(), by_hand(), rtol=1e-5, atol=1e-5)
    net = [*fused.parameters(), *p.embed.parameters(), *p.out.parameters()]
    return [
        [str(hidden), "forward", *_turns(torch.no_grad()(ours), torch.no_grad()(by_hand))],
        [
            str(hidden),
            "with gradient",
            *_turns(
                lambda: torch.autograd.grad(ours(), [*p.parameters()]),
                lambda: torch.autograd.grad(by_hand(), net),
            ),
        ],
    ]


def _turns(ours: Callable[[], object], by_hand: Callable[[], object]) -> list[str]:
    times: list[tuple[float, float]] = []
    for turn in range(TURNS + 1):
        pair = (_seconds(ours), _seconds(by_hand))
        times += [pair] * (turn > 0)  # the first warms up
    one, other = zip(*times, strict=True)
    ratio = median(a / b for a, b in times)
    return [f"{1e3 * median(one):.1f}", f"{1e3 * median(other):.1f}", f"{ratio:.2f}"]


def _seconds(run: Callable[[], object]) -> float:
    begin = process_time()
    run()
    return process_time() - begin


def _train(hidden: int, budget: float, batch: int = 32, length: int = 128) -> None:
    """Train until so many seconds of CPU time are spent; the rate falls as a half cosine."""
    path = Path(os.environ["DAGUERRE_DATA"]) / "tiny_shakespeare" / "input.txt"
    data = text(path, length=length)
    held = text(path, length=1024).test["x"]  # the first characters of a window have little past
    p = LSTM(len(data.vocabulary), hidden)
    cost, optimizer = dg.nll(p), torch.optim.Adam(p.parameters(), lr=4e-3)
    tokens = data.train["x"].flatten()
    begin, since, step, epoch = process_time(), perf_counter(), 0, 0
    while (spent := (process_time() - begin) / budget) < 1:
        x = tokens[int(torch.randint(length, ())) :]  # other windows in each epoch
        x = x[: len(x) // length * length].reshape(-1, length)
        for one in x[torch.randperm(len(x))].split(batch):
            spent = min(1.0, (process_time() - begin) / budget)
            optimizer.param_groups[0]["lr"] = 4e-3 * 0.5 * (1 + math.cos(math.pi * spent)) + 1e-5
            loss = cost.losses({"x": one})["model"]
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(p.parameters(), 50.0)  # of a sum over the steps
            optimizer.step()
            step += 1
            if spent >= 1:
                break
        epoch += 1
        seconds = f"{process_time() - begin:.0f} s of CPU, {perf_counter() - since:.0f} s in all"
        print(
            f"epoch {epoch}, step {step}: valid {_per_character(cost, held):.3f}"
            f" nats per character; {seconds}",
            flush=True,
        )


@torch.no_grad()
def _per_character(cost: dg.Objective, x: Tensor) -> float:
    sums = [cost.losses({"x": part})["model"].item() * len(part) for part in x.split(64)]
    return sum(sums) / x.numel()


if __name__ == "__main__":
    main()
