"""Train a hidden Markov model of the JSB chorales and print nats per time step.

    DAGUERRE_DATA=folder python benchmarks/chorales.py [--states 32] [--epochs 60] [--starts 1]
        [--neural]

The folder holds `polyphonic_music/jsb-chorales-quarter.json`, 229 / 76 / 77 pieces. The emissions
are independent keys given the state; with --neural given the state and the chord before, by a net.
The states are summed out exactly. The start that is best on the valid part is the one that counts.
The learning rate falls by ten for the last fifth.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

import daguerre as dg
from daguerre.data import Split, chorales
from daguerre.gallery.hmm import Keys, NeuralKeys

__all__ = ["main"]

KNOWN = "independent keys 11.06; by EM 8 states 8.92, 16 8.16, 32 7.53, 64 6.97, 128 6.69"
"""Test figures of the same emissions, without a net, and the same files; best of two starts."""


def main() -> None:
    """Train, and print a line per start and one for the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("states", 32), ("epochs", 60), ("starts", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--neural", action="store_true")
    options = parser.parse_args()
    split = chorales(Path(os.environ["DAGUERRE_DATA"]) / "polyphonic_music")
    found = [_trained(split, options, seed) for seed in range(options.starts)]
    best = min(found, key=lambda one: one["valid"])
    print(f"best by valid: test {best['test']:.3f} nats per step; known: {KNOWN}")


def _trained(split: Split, options: argparse.Namespace, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    rate, lr = split.train["x"].nanmean((0, 1)), 0.005 if options.neural else 0.05
    p = NeuralKeys(88, options.states) if options.neural else Keys(rate, options.states)
    cost = dg.nll(p, observed=["x"], partial=["x"])
    start, last = perf_counter(), max(1, options.epochs // 5)
    for epochs, pace in ((options.epochs - last, lr), (last, lr / 10)):
        dg.fit(cost, split.train, epochs=epochs, batch_size=32, lr=pace, seed=seed, progress=False)
    seconds = perf_counter() - start
    parts = {"train": split.train["x"], "valid": split.valid["x"], "test": split.test["x"]}
    scores = {name: _per_step(cost, x) for name, x in parts.items()}
    shown = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    print(f"start {seed}: {shown} nats per step; {seconds:.0f} s", flush=True)
    return scores


@torch.no_grad()
def _per_step(cost: dg.Objective, x: Tensor) -> float:
    """Return nats per time step, 16 pieces at a time."""
    steps = (~x[..., 0].isnan()).sum().item()
    sums = [cost.losses({"x": part})["model"] * len(part) for part in x.split(16)]
    return sum(sums).item() / steps


if __name__ == "__main__":
    main()
