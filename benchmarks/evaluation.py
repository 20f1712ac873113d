"""Time the bound with 5,000 particles on images of MNIST's size: 784 Bernoulli pixels, 50 latents.

    python benchmarks/evaluation.py                            # ten images, and what 10,000 take
    python benchmarks/evaluation.py --rows 10000 --device cuda

Beside it stands the same bound written by hand as people do, an image after another with all its
particles at once. Both are given as CPU seconds, or seconds of the GPU, for 10,000 images.
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
from time import perf_counter, process_time

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from report import circumstances

IMAGES, LATENT, HIDDEN, PIXELS = 10_000, 50, 200, 784


def mlp(*sizes: int) -> nn.Sequential:
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.Tanh())][:-1])


class Decoder(dg.Model):
    def __init__(self):
        super().__init__()
        self.net = mlp(LATENT, HIDDEN, HIDDEN, PIXELS)

    @dg.rv
    def z(self):
        return dg.StandardNormal(LATENT)

    @dg.rv
    def x(self, z):
        return Bernoulli(logits=self.net(z))


class Encoder(dg.Model):
    x = dg.Input(PIXELS)

    def __init__(self):
        super().__init__()
        self.net = mlp(PIXELS, HIDDEN, HIDDEN, 2 * LATENT)

    @dg.rv
    def z(self, x):
        mean, log_scale = self.net(x).chunk(2, 1)
        return Normal(mean, log_scale.exp())


@torch.no_grad()
def by_hand(p: Decoder, q: Encoder, x: Tensor, particles: int) -> float:
    """Return the mean bound, one image at a time."""
    bounds = []
    for row in x.to(next(p.parameters()).device):
        proposal = q.z(row[None])
        z = proposal.sample((particles,)).squeeze(1)
        joint = Bernoulli(logits=p.net(z)).log_prob(row).sum(1)
        joint += Normal(torch.zeros_like(z), 1.0).log_prob(z).sum(1)
        weights = joint - proposal.log_prob(z).sum(1)
        bounds.append(weights.logsumexp(0).item() - math.log(particles))
    return sum(bounds) / len(bounds)


def ours(p: Decoder, q: Encoder, x: Tensor, particles: int) -> float:
    return dg.evaluate(p, q, x, measures=[dg.measures.IWAE(particles)])["iwae"].value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--particles", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    p, q = Decoder().to(options.device), Encoder().to(options.device)
    x = (torch.rand(options.rows, PIXELS) < 0.2).float()
    clock = process_time if options.device == "cpu" else perf_counter
    for run in (ours, by_hand):
        run(p, q, x[:2], options.particles)
    print(circumstances(["torch"]))
    for _ in range(options.repeats):
        for run in (ours, by_hand):
            start = clock()
            value = run(p, q, x, options.particles)
            seconds = (clock() - start) * IMAGES / options.rows
            print(f"{run.__name__:8} {seconds:8.1f} s for {IMAGES} images, bound {value:.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    device = "" if options.device == "cpu" else (
        f", {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB on {torch.cuda.get_device_name()}"
    )  # fmt: skip
    print(f"peak memory {peak:.0f} MiB{device}")


if __name__ == "__main__":
    main()
