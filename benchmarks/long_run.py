"""Take 200,000 tiny steps, and look on from another process: does memory stay flat?

    python benchmarks/long_run.py            # compiled, then eager
    python benchmarks/long_run.py --steps 50000 --kind eager

A VAE of 8 pixels and 2 latents, with a folder: losses of every step, checkpoints each second,
a progress bar where there is a terminal. The process that looks on reads resident memory and the
whole of `history.jsonl` every few seconds, as `daguerre runs` does, and fails where a line of it
is not valid. Growth is counted from a tenth of the steps on, by medians over a twentieth of them,
so that what the allocator keeps and gives back does not count; where steps are too fast for a look
within a twentieth, by the look that is nearest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal

import daguerre as dg
from daguerre.train import Checkpoints, read_history

__all__ = ["main"]

PIXELS, LATENT, BATCH = 8, 2, 16
PERIOD = 2.0  # seconds between two looks


class Look(NamedTuple):
    """What was seen from outside at one moment.

    Attributes:
        steps: In `history.jsonl`.
        memory: Resident memory, MiB.
    """

    steps: int
    memory: float


def main() -> None:
    """Run and look on, or be the process that runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--kind", nargs="+", choices=["compiled", "eager"], default=[])
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    kinds = asked.kind or ["compiled", "eager"]
    if asked.run is not None:
        return train(asked.run, asked.steps, compiled=kinds == ["compiled"])
    for kind in kinds:
        with TemporaryDirectory() as folder:
            print(summary(kind, asked.steps, watch(Path(folder), asked.steps, kind)), flush=True)
    return None


def train(folder: Path, steps: int, *, compiled: bool) -> None:
    """Take the steps."""
    torch.set_num_threads(1)
    p = dg.model(
        z=dg.StandardNormal(LATENT),
        x=dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=dg.nn.mlp(LATENT, 16, PIXELS)),
    )
    q = dg.model(x=dg.Input(PIXELS), z=dg.rv(encode, net=dg.nn.mlp(PIXELS, 16, 2 * LATENT)))
    x = torch.rand(1024, PIXELS, generator=torch.Generator().manual_seed(0)).round()
    store = Checkpoints(folder, seconds=1.0)
    dg.fit(dg.elbo(p, q), x, steps=steps, batch_size=BATCH, out=store, compile=compiled)


def encode(x: Tensor, net: torch.nn.Module) -> Normal:
    """Return q(z | x)."""
    mean, log_scale = net(x).chunk(2, 1)
    return Normal(mean, log_scale.exp())


def watch(folder: Path, steps: int, kind: str) -> list[Look]:
    """Run in another process and look on until it ends."""
    words = [__file__, "--steps", str(steps), "--kind", kind, "--run", str(folder)]
    child, looks = subprocess.Popen([sys.executable, *words]), []
    while child.poll() is None:
        time.sleep(PERIOD)
        if (folder / "history.jsonl").exists():
            looks.append(Look(len(read_history(folder / "history.jsonl")), resident(child.pid)))
    if child.returncode or len(read_history(folder / "history.jsonl")) != steps:
        raise SystemExit(f"the run ended with {child.returncode}, before its last step")
    return [look for look in looks if look.memory]


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB, 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    found = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(next(found, 0)) / 1024


def summary(kind: str, steps: int, looks: list[Look]) -> str:
    """Say how memory went after the warm-up."""
    span = steps // 20
    after = [look for look in looks if look.steps >= 2 * span]
    warm = [look.memory for look in after if look.steps < 3 * span] or [after[0].memory]
    late = [look.memory for look in after if look.steps >= steps - span] or [after[-1].memory]
    most = max(look.memory for look in after)
    growth = median(late) - median(warm)
    return (
        f"{kind}: {median(warm):.1f} MiB after {2 * span:,} steps, {median(late):.1f} at the end"
        f" of {steps:,}, growth {growth:+.1f}, most {most:.1f}; history.jsonl valid in"
        f" {len(looks)} looks"
    )


if __name__ == "__main__":
    main()
