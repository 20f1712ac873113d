"""A Gaussian-latent GAN on a mixture in one dimension, by every f-divergence and every game.

Prints the Wasserstein-1 distance of 20 000 draws to the data, beside that of two samples of the
data, which is what no model can do better than. Every row has the same nets, optimiser, penalty
and number of steps; none is tuned. The model starts wider than the data, since the Pearson
chi-square of the data from a narrower one is infinite, and its slopes there say little.

    python benchmarks/mixture.py [steps]
"""

import sys
import time

import torch
from torch import nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.objectives import games, penalties
from daguerre.objectives.games import GameLoss

DRAWS = 20_000
STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
DIVERGENCES = (*dg.f.ROWS, dg.f.alpha(0.5), dg.f.weighted_js(0.3))
OTHERS = [row for row in games.ROWS if row.trains]


def data(n: int, seed: int) -> torch.Tensor:
    """Draw from (N(-2, 0.36) + N(2, 1)) / 2."""
    generator = torch.Generator().manual_seed(seed)
    right = torch.rand(n, 1, generator=generator) < 0.5
    noise = torch.randn(n, 1, generator=generator)
    return torch.where(right, 2 + noise, -2 + 0.6 * noise)


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return W1 of two samples of one size."""
    return (x.sort(0).values - y.sort(0).values).abs().mean().item()


def trained(row: GameLoss) -> torch.Tensor:
    torch.manual_seed(0)
    net = dg.nn.mlp(2, 32, 32, 1)
    p = dg.model(
        z=Normal(torch.zeros(2), 1.0),
        x=dg.deterministic(lambda z, net: 3 * z[:, :1] + net(z), net=net),  # wide at first
    )
    critic = dg.nn.mlp(1, 32, 32, 1, activation=nn.SiLU)
    penalty = penalties.lipschitz(10.0) if row is games.WASSERSTEIN else penalties.r1(0.1)
    game = dg.JS(dg.data("x"), p["x"], critic=critic, loss=row, penalty=penalty)
    rule = dg.Adam(lr=1e-3, betas=(0.0, 0.9))
    dg.fit(
        game,
        data(50_000, 1),
        steps=STEPS,
        batch_size=256,
        optimizer={"critic": dg.train.Turn(rule, updates=2), "model": rule},
        compile=False,
        progress=False,
    )
    torch.manual_seed(1)
    return p.sample(DRAWS)["x"]


def main() -> None:
    target = data(DRAWS, 2)
    print(f"{'game':40} {'W1 to the data':>14} {'mean':>7} {'sd':>6} {'seconds':>8}")
    floor = data(DRAWS, 3)
    rows = [("(a second sample of the data)", lambda: floor)]
    rows += [(f"f: {f.name}", lambda f=f: trained(f.game())) for f in DIVERGENCES]
    rows += [(row.name, lambda row=row: trained(row)) for row in OTHERS]
    for name, draw in rows:
        start = time.perf_counter()
        x = draw()
        seconds = time.perf_counter() - start
        numbers = f"{distance(x, target):14.3f} {x.mean():7.2f} {x.std():6.2f} {seconds:8.1f}"
        print(f"{name:40} {numbers}", flush=True)


if __name__ == "__main__":
    main()
