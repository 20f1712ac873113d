"""Train a model of the JSB chorales and print nats per time step.

    DAGUERRE_DATA=folder python benchmarks/chorales.py [--model keys] [--states 32] [--epochs 60]
        [--starts 1]
    DAGUERRE_DATA=folder python benchmarks/chorales.py --model dmm --epochs 1800

The folder holds `polyphonic_music/jsb-chorales-quarter.json`, 229 / 76 / 77 pieces. `keys` is a
hidden Markov model whose keys are independent given the state; those of `neural` depend on the
chord before, too, by a net. Their states are summed out exactly, and the learning rate falls by
ten for the last fifth. `dmm` is the deep Markov model of the gallery, scored by its ELBO, with the
weights that were best on the valid part. The start that is best there is the one that counts.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from time import process_time

import torch
from torch import Tensor, nn

import daguerre as dg
from daguerre.data import Split, chorales
from daguerre.gallery.dmm import DeepMarkov, Smoother
from daguerre.gallery.hmm import Keys, NeuralKeys
from daguerre.objectives.schedules import linear
from daguerre.train import Step

__all__ = ["main"]

KNOWN = {
    "keys": "independent keys 11.06; by EM 8 states 8.92, 16 8.16, 32 7.53, 64 6.97, 128 6.69",
    "neural": "",
    "dmm": "6.87 after thousands of epochs (Pyro's tutorial), 6.93 in the paper",
}
"""Test figures of the same model and the same files."""

BATCH, EVERY = 20, 5  # pieces a step, epochs between looks at the valid part


def main() -> None:
    """Train, and print a line per start and one for the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=KNOWN, default="keys")
    for name, default in (("states", 32), ("epochs", 60), ("starts", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    split = chorales(Path(os.environ["DAGUERRE_DATA"]) / "polyphonic_music")
    train = _deep if options.model == "dmm" else _exact
    found = [_started(split, train, options, seed) for seed in range(options.starts)]
    best = min(found, key=lambda one: one["valid"])
    known = KNOWN[options.model]
    print(f"best by valid: test {best['test']:.3f} nats per step; known: {known}")


def _started(
    split: Split, train: object, options: argparse.Namespace, seed: int
) -> dict[str, float]:
    assert callable(train)
    torch.manual_seed(seed)
    start = process_time()
    cost = train(split, options, seed)
    seconds = process_time() - start
    parts = {"train": split.train["x"], "valid": split.valid["x"], "test": split.test["x"]}
    scores = {name: _per_step(cost, x) for name, x in parts.items()}
    shown = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    print(f"start {seed}: {shown} nats per step; {seconds:.0f} s of CPU", flush=True)
    return scores


def _exact(split: Split, options: argparse.Namespace, seed: int) -> dg.Objective:
    """Train a hidden Markov model by the gradient of its likelihood."""
    neural = options.model == "neural"
    rate, lr = split.train["x"].nanmean((0, 1)), 0.005 if neural else 0.05
    p = NeuralKeys(88, options.states) if neural else Keys(rate, options.states)
    cost = dg.nll(p, observed=["x"], partial=["x"])
    last = max(1, options.epochs // 5)
    for epochs, pace in ((options.epochs - last, lr), (last, lr / 10)):
        dg.fit(cost, split.train, epochs=epochs, batch_size=32, lr=pace, seed=seed, progress=False)
    return cost


def _deep(split: Split, options: argparse.Namespace, seed: int) -> dg.Objective:
    """Train a deep Markov model; its KL counts 0.2 at first, and in full after two fifths."""
    p, q = DeepMarkov(), Smoother()
    x, updates = split.train["x"], options.epochs * -(-len(split.train["x"]) // BATCH)
    rate = linear(0.2, 1.0, steps=2 * updates // 5)
    rule = dg.Adam(8e-4, betas=(0.96, 0.999), weight_decay=0.1)
    step = Step(dg.elbo(p, q, rate=rate, partial=["x"]), optimizer=rule)
    cost, best, kept = dg.elbo(p, q, partial=["x"]), float("inf"), (p.state_dict(), q.state_dict())
    for epoch in range(1, options.epochs + 1):
        losses = [step({"x": batch}).item() for batch in _batches(x)]
        if epoch % EVERY == 0:
            valid = _per_step(cost, split.valid["x"])
            print(f"epoch {epoch}: loss {sum(losses) / len(losses):.1f}, valid {valid:.3f}")
            if valid < best:
                best, kept = valid, (deepcopy(p.state_dict()), deepcopy(q.state_dict()))
    for model, weights in zip((p, q), kept, strict=True):
        nn.Module.load_state_dict(model, weights)
    return cost


def _batches(x: Tensor) -> Iterator[Tensor]:
    """Yield pieces in random order, each batch as long as its longest."""
    for rows in torch.randperm(len(x)).split(BATCH):
        batch = x[rows]
        steps = int((~batch[..., 0].isnan()).sum(1).max())
        yield batch[:, :steps].contiguous()


@torch.no_grad()
def _per_step(cost: dg.Objective, x: Tensor) -> float:
    """Return nats per time step, 16 pieces at a time."""
    steps = (~x[..., 0].isnan()).sum().item()
    sums = [cost.losses({"x": part})["model"] * len(part) for part in x.split(16)]
    return sum(sums).item() / steps


if __name__ == "__main__":
    main()
