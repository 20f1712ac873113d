"""Train a VAE of one stochastic layer on binarised MNIST; print ELBO and IWAE_5000 of test digits.

    DAGUERRE_DATA=folder python benchmarks/mnist.py                  # ten minutes of one core
    DAGUERRE_DATA=folder python benchmarks/mnist.py --device cuda --epochs 3280 --batch-size 100
    DAGUERRE_DATA=folder python benchmarks/mnist.py --fixed --particles 50

Nets and settings are those of Burda, Grosse and Salakhutdinov (2016, arXiv 1509.00519): z of 50
dimensions, two layers of 200 tanh units each way, Glorot weights, the last bias at the logit of
the mean picture, batches of 20, Adam with eps 1e-4, pixels drawn anew from the grey levels in each
pass. Different here: Adam's second moments start at zero, and where there is no time for all 3,280
passes, the rate falls from 1e-3 to 1e-4 along a cosine instead of in the paper's eight stages.
`--fixed` takes the pixels of Larochelle and Murray (2011) from `binarized_mnist/` instead.
"""

from __future__ import annotations

import argparse
import math
import os
from copy import deepcopy
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre.data import binarise, mnist
from daguerre.evaluate.images import grid, write_png
from daguerre.modes import mode
from daguerre.objectives.schedules import Schedule
from daguerre.plot import curves_svg, smooth
from daguerre.train import History
from daguerre.train.callbacks import Callback, Moment, every, validation

__all__ = ["main"]

PASSES, STAGES, LATENT, HIDDEN, PIXELS = 3280, 8, 50, 200, 784
HELD = 400  # training digits that are looked at while it learns
PUBLISHED = {
    False: "published NLL, 3,280 passes, 5,000 draws: VAE 86.76, IWAE of 5 and 50 draws 85.54 and"
    " 84.78 (Burda et al. 2016, table 1)",
    True: "published NLL, fixed pixels: IWAE of 5 and 50 draws 87.63 and 87.10 (Burda et al. 2016,"
    " appendix)",
}


class Decoder(dg.Model):
    """z ~ N(0, I), x | z ~ Bernoulli(net(z))."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.net = tanh_net(LATENT, PIXELS)
        self.net[-1].bias = nn.Parameter(mean.clamp(0.001, 0.999).logit())

    @dg.rv
    def z(self):
        return dg.StandardNormal(LATENT)

    @dg.rv
    def x(self, z: Tensor):
        return Bernoulli(logits=self.net(z))


class Encoder(dg.Model):
    """z | x ~ N(mean(x), scale(x)²)."""

    x = dg.Input(PIXELS)

    def __init__(self) -> None:
        super().__init__()
        self.net = tanh_net(PIXELS, 2 * LATENT)

    @dg.rv
    def z(self, x: Tensor):
        mean, log_scale = self.net(x).chunk(2, 1)
        return Normal(mean, log_scale.exp())


def tanh_net(inputs: int, outputs: int) -> nn.Sequential:
    """Build two hidden layers of tanh units, with Glorot's weights."""
    net = dg.nn.mlp(inputs, HIDDEN, HIDDEN, outputs, activation=nn.Tanh)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return net


class Digits(NamedTuple):
    """Pixels 0 or 1: to learn from, to look at meanwhile, and to test.

    Attributes:
        grey: What `train` is drawn from anew in each pass, if it is.
    """

    train: Tensor
    held: Tensor
    test: Tensor
    grey: Tensor | None = None


def read_digits(root: Path, *, fixed: bool, device: str) -> Digits:
    """Read the pixels that a run asks for onto a device."""
    if fixed:
        packed = np.load(root / "binarized_mnist" / "binarized_mnist_packed.npz")
        parts = (np.unpackbits(packed[name], axis=1) for name in ("train", "valid", "test"))
        train, held, test = (torch.from_numpy(part).float() for part in parts)
        return Digits(train.to(device), held[:HELD].to(device), test.to(device))
    split = mnist(root / "mnist")
    grey, test = split.train["x"].to(device), binarise(split.test["x"], seed=1).to(device)
    pixels = binarise(grey, seed=0)
    return Digits(pixels[:-HELD], pixels[-HELD:], test, grey[:-HELD])


def staged(updates: int) -> Schedule:
    """Return the paper's rate: stage i = 0, 1, ... takes 3^i passes at 10^(-3 - i/7)."""

    def value(made: Tensor) -> Tensor:
        passes = PASSES * made / updates
        stage = ((2 * passes + 1).log() / math.log(3)).floor().clamp(max=STAGES - 1)
        return 10 ** (-3 - stage / (STAGES - 1))

    return Schedule(value, f"1e-3 to 1e-4 in {STAGES} stages over {updates} updates")


class Plan(NamedTuple):
    """What a run is asked for."""

    epochs: float | None
    minutes: float
    batch_size: int
    particles: int
    seed: int
    compiled: bool


def cost_of(p: dg.Model, q: dg.Model, plan: Plan) -> dg.Objective:
    """Return minus the bound of one draw, or of several."""
    return dg.elbo(p, q) if plan.particles == 1 else dg.iwae(p, q, particles=plan.particles)


def steps_within(p: dg.Model, q: dg.Model, digits: Digits, plan: Plan) -> int:
    """Return how many steps the minutes are enough for, by the pace of copies."""
    first, last, seen = 200, 1200, {}

    def clock(now: Moment) -> None:
        if now.step in (first, last):
            now.losses  # noqa: B018 - waits for the device
            seen[now.step] = perf_counter()

    p, q = deepcopy((p, q))
    options = {"batch_size": plan.batch_size, "compile": plan.compiled, "progress": False}
    dg.fit(cost_of(p, q, plan), digits.train, steps=last, callbacks=[clock], **options)
    return max(1, int(60 * plan.minutes / (seen[last] - seen[first]) * (last - first)))


def drawn_anew(digits: Digits) -> Callback:
    """Return a callback that draws the training pixels again."""

    def draw(now: Moment) -> None:
        if digits.grey is not None:
            digits.train.bernoulli_(digits.grey)

    return draw


def train(p: dg.Model, q: dg.Model, digits: Digits, plan: Plan) -> History:
    """Fit for so many passes, or as many as there is time for."""
    per_pass = len(digits.train) // plan.batch_size
    whole = None if plan.epochs is None else max(1, round(plan.epochs * per_pass))
    steps = whole or steps_within(p, q, digits, plan)
    short = dg.train.cosine(1e-3, updates=steps, end=1e-4)
    rate = staged(steps) if steps >= PASSES * per_pass else short
    print(f"{steps:,} steps, {steps / per_pass:.1f} passes, batches of {plan.batch_size}, {rate}")
    looks = [
        every(per_pass, drawn_anew(digits)),
        every(max(1, steps // 100), validation(digits.held)),
    ]
    return dg.fit(
        cost_of(p, q, plan),
        digits.train,
        steps=steps,
        batch_size=plan.batch_size,
        optimizer=dg.Adam(rate, eps=1e-4),
        callbacks=looks,
        compile=plan.compiled,
        seed=plan.seed,
    )


def active_units(q: Encoder, x: Tensor) -> int:
    """Count the units whose mean varies by more than 0.01 over digits (Burda et al. 2016)."""
    with torch.no_grad():
        return int((q.net(x)[:, :LATENT].var(0) > 0.01).sum())


def report(p: dg.Model, q: Encoder, test: Tensor, *, rows: int) -> str:
    """Return the bounds of test digits, evenly chosen."""
    chosen = test[:: max(1, len(test) // rows)][:rows]
    start = process_time()
    scores = dg.evaluate(p, q, chosen, particles=5000)
    lines = [
        f"{name}: {-scores[measure].value:.2f} ± {scores[measure].spread:.2f} nats"
        for name, measure in (("-ELBO", "elbo"), ("NLL, IWAE_5000", "iwae"))
    ]
    lines.append(f"active units: {active_units(q, test)} of {LATENT}")
    lines.append(
        f"{len(chosen):,} of {len(test):,} test digits, {process_time() - start:.0f} s of CPU"
    )
    return "\n".join(lines)


def learning_curve(history: History) -> str:
    """Draw the losses of batches and of held digits, without the first hundredth."""
    losses = smooth(history["model"].tolist(), 400)[4:]
    held = history["validation model"].tolist()[1:]
    curves = {"batches": losses, "held digits": held}
    return curves_svg(curves, steps=history.steps, unit="nats a digit")


def drawn(p: Decoder) -> Tensor:
    """Return 64 pictures of the mean of x given draws of z."""
    with mode([p], training=False), torch.no_grad():
        pictures = p.x(p.sample(64)["z"]).mean
    return grid(pictures.view(-1, 28, 28).cpu(), columns=16, scale=2)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=float, help="passes; by default as many as --minutes")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--particles", type=int, default=1, help="of the bound that is learned by")
    parser.add_argument("--rows", type=int, default=1000, help="test digits for the bounds")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fixed", action="store_true", help="pixels that never change")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    return parser.parse_args()


def main() -> None:
    """Train, evaluate, draw."""
    asked = parsed()
    root = Path(os.environ.get("DAGUERRE_DATA", "data"))
    needed = root / ("binarized_mnist" if asked.fixed else "mnist")
    if not needed.is_dir():
        print(f"skipped: no folder {needed}; set DAGUERRE_DATA to the folder that holds it")
        return
    torch.set_num_threads(1)
    torch.manual_seed(asked.seed)
    digits = read_digits(root, fixed=asked.fixed, device=asked.device)
    mean = (digits.train if digits.grey is None else digits.grey).mean(0)
    p, q = Decoder(mean).to(asked.device), Encoder().to(asked.device)
    compiled = not asked.eager
    plan = Plan(
        asked.epochs, asked.minutes, asked.batch_size, asked.particles, asked.seed, compiled
    )
    start = process_time()
    history = train(p, q, digits, plan)
    spent = f"{process_time() - start:.0f} s of CPU"
    print(f"{history}\n{spent}, torch {torch.__version__}, {_name(asked.device)}", flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "learning.svg").write_text(learning_curve(history), encoding="utf-8")
    write_png(asked.out / "samples.png", drawn(p))
    found = f"{report(p, q, digits.test, rows=asked.rows)}\n{PUBLISHED[asked.fixed]}"
    print(found)
    (asked.out / "bounds.txt").write_text(found + "\n", encoding="utf-8")


def _name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


if __name__ == "__main__":
    main()
