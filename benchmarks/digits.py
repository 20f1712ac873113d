"""Train one model per kind of cost on scikit-learn's digits, and say how good it is.

    python benchmarks/digits.py                        # every model: ten minutes of one core
    python benchmarks/digits.py m2 infogan --seed 0 1 --sheets runs

Classifiers are judged by accuracy and densities by nats per held-out digit, each beside something
simpler. Generators are judged by the squared MMD (kernel: the median kernel of the training
digits; unbiased, so around zero for equal laws) between 360 samples and the 360 held-out digits.
The criterion was fixed before any was trained:

    MMD²(360 samples, held out) <= 2 MMD²(360 training digits, held out) + noise

where the MMD² on the right is the mean over 100 random draws of training digits, and the noise is
twice the standard deviation over those draws: the standard error of one such value, not of their
mean. The first draw of samples decides; the mean over 20 draws stands beside it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.distributions import Bernoulli, Binomial, Categorical, Normal, OneHotCategorical
from torch.nn.functional import one_hot

import daguerre as dg
from daguerre.data import digits
from daguerre.evaluate.bounds import evidence_bound
from daguerre.evaluate.images import grid, write_png
from daguerre.evaluate.two_sample import mmd2_unbiased
from daguerre.gallery.twins import Encoder, Generator
from daguerre.kernels import energy, median_kernel
from daguerre.modes import mode
from report import circumstances, table

SPLIT = digits()
TRAIN, TEST = SPLIT.train["x"], SPLIT.test["x"]
LABELS, ANSWERS = SPLIT.train["y"], SPLIT.test["y"]
BLACK, BLACK_TEST = (TRAIN > 0.5).float(), (TEST > 0.5).float()  # black and white
KERNEL = median_kernel(TRAIN)
X = dg.data("x")
SLOPE = dg.penalties.gradient(10)
CRITIC_FIRST = {"steps": 1000, "lr": 5e-4, "betas": (0.5, 0.9), "updates": {"critic": 5}}


# Nets and CPDs that several models share


def leaky(inputs: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(inputs, hidden), nn.LeakyReLU(0.2)),
        *(nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)),
        nn.Linear(hidden, 1),
    )


class Critic(nn.Module):
    """A critic of one variable, seen through noise while it learns."""

    def __init__(self, inputs: int, *, noise: float, hidden: int = 256) -> None:
        super().__init__()
        self.noise, self.net = noise, leaky(inputs, hidden)

    def forward(self, v: Tensor) -> Tensor:
        return self.net(v + self.noise * torch.randn_like(v) if self.training else v)


class JointCritic(nn.Module):
    """A critic of z and x that sees x through noise, and z at less than its size."""

    def __init__(self, inputs: int, *, noise: float, hidden: int = 256) -> None:
        super().__init__()
        self.noise, self.net = noise, leaky(inputs, hidden)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        seen = x + self.noise * torch.randn_like(x) if self.training else x
        return self.net(torch.cat([0.3 * z, seen], 1))


def label_of_x():
    return dg.rv(lambda x, net: Categorical(logits=net(x)), net=dg.nn.mlp(64, 128, 10))


def with_class(values: Tensor, y: Tensor) -> Tensor:
    return torch.cat([values, one_hot(y, 10).float()], 1)


def bits_of_z(net: nn.Module):
    return dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=net)


def bits_of_x(net: nn.Module):
    return dg.rv(lambda x, net: Bernoulli(logits=net(x)), net=net)


def gaussian(parameters: Tensor) -> Normal:
    mean, log_scale = parameters.chunk(2, 1)
    return Normal(mean, log_scale.exp())


class Figures(NamedTuple):
    """What a model reaches by a measure of its own, beside something simpler."""

    measure: str
    value: float
    other: float


class Drawer(NamedTuple):
    """A generator: what draws n digits, and what else is known of it."""

    draw: Callable[[int], Tensor]
    also: str = ""


# Models with a measure of their own


def m2(seed: int) -> Figures:
    """M2 with ten labels per class, beside its classifier trained on these labels alone."""
    alone = dg.model(x=dg.Input(64), y=label_of_x())
    p = dg.model(
        y=Categorical(logits=torch.zeros(10)),
        z=dg.StandardNormal(3),
        x=dg.rv(lambda y, z, net: Normal(net(with_class(z, y)), 0.25), net=dg.nn.mlp(13, 128, 64)),
    )
    q = dg.model(
        x=dg.Input(64),
        y=label_of_x(),
        z=dg.rv(lambda x, y, net: gaussian(net(with_class(x, y))), net=dg.nn.mlp(74, 128, 6)),
    )
    held = ten_of_each(seed)
    few, part = {"x": TRAIN[held], "y": LABELS[held]}, torch.where(held, LABELS, -1)
    predict = dg.cross_entropy(dg.data("x", "y"), alone, of="y")
    dg.fit(predict, few, steps=1000, batch_size=100, seed=seed, progress=False)
    cost = dg.recipes.semi_supervised(p, q, labels="y", weight=5.0)
    dg.fit(cost, {"x": TRAIN, "y": part}, epochs=100, seed=seed, progress=False)
    return Figures("accuracy, %, beside the 100 labels alone", accuracy(q), accuracy(alone))


def six_bits(seed: int) -> Figures:
    """A VAE of six bits, summed over; so its likelihood, too, is exact."""
    p = dg.model(z=Bernoulli(logits=torch.zeros(6)), x=bits_of_z(dg.nn.mlp(6, 64, 64)))
    q = dg.model(x=dg.Input(64), z=bits_of_x(dg.nn.mlp(64, 64, 6)))
    cost = dg.elbo(p, q, gradients=dg.estimators.ENUMERATE)
    dg.fit(cost, BLACK, epochs=150, lr=3e-3, seed=seed, progress=False)
    n, states = len(BLACK_TEST), torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
    with torch.no_grad():
        joint = [p.log_prob({"z": z.expand(n, 6), "x": BLACK_TEST}) for z in states]
    exact = torch.stack(joint).logsumexp(0).mean().item()
    bound = evidence_bound(p, q, BLACK_TEST, seed=seed).value
    return Figures(f"nats, exact (the bound: {bound:.2f})", exact, independent_pixels())


def belief_net(seed: int) -> Figures:
    """A sigmoid belief net of two layers of 20 units, by VIMCO with ten particles."""
    p = dg.model(
        top=Bernoulli(logits=torch.zeros(20)),
        z=dg.rv(lambda top, net: Bernoulli(logits=net(top)), net=nn.Linear(20, 20)),
        x=bits_of_z(nn.Linear(20, 64)),
    )
    q = dg.model(
        x=dg.Input(64),
        z=bits_of_x(nn.Linear(64, 20)),
        top=dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=nn.Linear(20, 20)),
    )
    cost = dg.iwae(p, q, particles=10, gradients=dg.estimators.score_function())
    dg.fit(cost, BLACK, epochs=300, lr=3e-3, seed=seed, progress=False)
    bound = evidence_bound(p, q, BLACK_TEST, particles=5000, seed=seed).value
    return Figures("nats, the bound of 5,000 draws", bound, independent_pixels())


# Generators


def infogan(seed: int) -> Drawer:
    """A GAN with a code of ten states, which q tells from the picture."""
    p = dg.model(
        z=dg.StandardNormal(16),
        c=OneHotCategorical(logits=torch.zeros(10)),
        x=dg.deterministic(
            lambda z, c, net: net(torch.cat([z, c], 1)), net=Generator(64, 26, 256).net
        ),
    )
    q = dg.model(
        x=dg.Input(64),
        c=dg.rv(lambda x, net: OneHotCategorical(logits=net(x)), net=dg.nn.mlp(64, 128, 10)),
    )
    cost = dg.recipes.infogan(p, q, dg.nn.mlp(64, 256, 256, 1), penalty=SLOPE)
    anneal(cost, seed=seed, **CRITIC_FIRST)
    with torch.no_grad():
        hits = one_hot(q.c(TEST).probs.argmax(1), 10).T @ one_hot(ANSWERS, 10)
    matched = hits[linear_sum_assignment(hits, maximize=True)].sum().item() / len(TEST)
    return Drawer(sampler(p), f"the code, matched to classes, is right for {matched:.1%}")


def aae(seed: int) -> Drawer:
    """An adversarial autoencoder of the ink, 0 to 16 a pixel, whose prior is a net of noise.

    Where p(z) is fixed, regions of it that hold no codes give broken digits; one that is learned
    in the game leaves few. Samples are draws of p(x | z).
    """
    p = dg.model(
        e=dg.StandardNormal(8),
        z=dg.deterministic(lambda e, net: net(e), net=dg.nn.mlp(8, 128, 128, 8)),
        x=dg.rv(lambda z, net: Binomial(16, logits=net(z)), net=dg.nn.mlp(8, 256, 256, 64)),
    )
    q = dg.model(
        x=dg.Input(64),
        z=dg.deterministic(lambda x, net: net(x / 16), net=dg.nn.mlp(64, 256, 256, 8)),
    )
    cost = dg.recipes.aae(p, q, Critic(8, noise=0.1), weight=15)
    anneal(cost, 16 * TRAIN, steps=4000, lr=5e-4, critic_updates=2, seed=seed)
    draw = sampler(p)
    return Drawer(lambda n: draw(n) / 16, rebuilt(p, q, ink=16))


def ali(seed: int) -> Drawer:
    """Adversarially learned inference, by a relativistic game over x and z."""
    p, q = Generator(64, 16, 256), Encoder(64, 16, 256)
    flat = [dg.penalties.r1(0.1), dg.penalties.r2(0.1)]
    critic = JointCritic(80, noise=0.1)
    cost = dg.recipes.ali(p, q, critic, loss=dg.games.RELATIVISTIC, penalty=flat)
    plan = {"steps": 1200, "lr": 5e-4, "betas": (0.5, 0.99), "updates": {"critic": 2}}
    anneal(cost, seed=seed, **plan)
    return Drawer(sampler(p), rebuilt(p, q))


def wgan_gp(seed: int) -> Drawer:
    """A Wasserstein GAN with gradient penalty, five moves of the critic to one."""
    p, critic = Generator(64, 16, 256), Critic(64, noise=0.05)
    cost = dg.Wasserstein(X, p["x"], critic=critic, penalty=SLOPE)
    anneal(cost, seed=seed, **{**CRITIC_FIRST, "steps": 1200}, compile=True)
    return Drawer(sampler(p))


def mmd(seed: int) -> Drawer:
    """A generator that minimises the squared MMD with the kernel that also judges."""
    p = Generator(64, 32, 256)
    anneal(dg.MMD(X, p["x"], kernel=KERNEL), steps=1000, lr=2e-3, seed=seed, batch_size=512)
    return Drawer(sampler(p))


def energy_distance(seed: int) -> Drawer:
    """A generator that minimises the energy distance."""
    p = Generator(64, 32, 256)
    anneal(dg.MMD(X, p["x"], kernel=energy), steps=1000, lr=2e-3, seed=seed, batch_size=512)
    return Drawer(sampler(p))


OWN = {"m2": m2, "six-bits": six_bits, "belief-net": belief_net}
DRAWERS = {
    "infogan": infogan,
    "aae": aae,
    "ali": ali,
    "wgan-gp": wgan_gp,
    "mmd": mmd,
    "energy": energy_distance,
}


# How they are trained and judged


def anneal(  # noqa: PLR0913 - how one game is played, each choice by keyword
    cost: dg.Objective,
    data: Tensor = TRAIN,
    *,
    steps: int,
    lr: float,
    seed: int,
    betas: tuple[float, float] = (0.5, 0.999),
    batch_size: int = 128,
    critic_updates: int = 1,
) -> None:
    """Fit at a rate, then for half as long at a fifth of it, and again at a twentieth."""
    for length, rate in ((steps, lr), (steps // 2, lr / 5), (steps // 2, lr / 20)):
        rule = dg.Adam(rate, betas=betas)
        often = {p.name: critic_updates if p.name == "critic" else 1 for p in cost.players}
        turns = {name: dg.train.Turn(rule, updates=updates) for name, updates in often.items()}
        plan = {"steps": length, "batch_size": batch_size, "seed": seed}
        dg.fit(cost, data, progress=False, optimizer=turns, **plan)


def ten_of_each(seed: int) -> Tensor:
    """Return which training digits keep their label: ten of each class."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(LABELS), generator=generator)
    rank = one_hot(LABELS[order], 10).cumsum(0).gather(1, LABELS[order, None])[:, 0]
    return torch.zeros(len(LABELS), dtype=torch.bool).index_put((order,), rank <= 10)


def accuracy(q: dg.Model) -> float:
    with torch.no_grad():
        return 100 * (q.y(TEST).probs.argmax(1) == ANSWERS).float().mean().item()


def independent_pixels() -> float:
    """Return the nats of independent pixels, each black as often as in training (Laplace)."""
    rate = (BLACK.sum(0) + 1) / (len(BLACK) + 2)
    return Bernoulli(rate).log_prob(BLACK_TEST).sum(1).mean().item()


def sampler(p: dg.Model) -> Callable[[int], Tensor]:
    def draw(n: int) -> Tensor:
        with mode([p], training=False), torch.no_grad():
            return p.sample(n)["x"]

    return draw


def rebuilt(p: dg.Model, q: dg.Model, *, ink: float = 1.0) -> str:
    """Say the mean of |x - x̂|² over held-out digits, x̂ the centre of p(x | z), z from q."""
    with mode([p, q], training=False), torch.no_grad():
        outcome = p.x(q.sample(len(TEST), {"x": ink * TEST})["z"])
        centre = outcome if isinstance(outcome, Tensor) else outcome.mean
        error = (centre / ink - TEST).square().sum(1).mean()
        mean_alone = (TRAIN.mean(0) - TEST).square().sum(1).mean()
    return f"squared error of reconstructions {error:.2f}, of the mean digit {mean_alone:.2f}"


def distance(x: Tensor) -> float:
    return mmd2_unbiased(TEST, x, KERNEL).item()


def floor() -> tuple[float, float]:
    """Return mean and twice the standard deviation of MMD² of training digits, 100 draws."""
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randperm(len(TRAIN), generator=generator)[: len(TEST)] for _ in range(100))
    values = [distance(TRAIN[chosen]) for chosen in rows]
    return mean(values), 2 * stdev(values)


class Clock:
    """Seconds since it was made, by the wall and by the processor (with child processes)."""

    def __init__(self) -> None:
        self.wall, self.cpu = perf_counter(), sum(os.times()[:4])

    def __str__(self) -> str:
        return f"{sum(os.times()[:4]) - self.cpu:.0f} | {perf_counter() - self.wall:.0f}"


def own_row(name: str, seed: int) -> list[str]:
    torch.manual_seed(seed)
    clock = Clock()
    found = OWN[name](seed)
    return [name, str(seed), found.measure, f"{found.value:.2f}", f"{found.other:.2f}", str(clock)]


def drawer_row(name: str, seed: int, bound: float, sheets: Path | None) -> list[str]:
    torch.manual_seed(seed)
    clock = Clock()
    found = DRAWERS[name](seed)
    spent = str(clock)
    torch.manual_seed(seed)
    values = [distance(found.draw(len(TEST))) for _ in range(20)]
    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
        sheet = grid(found.draw(100), columns=20, scale=4)
        write_png(sheets / f"{name}-{seed}.png", sheet)
    verdict = "passes" if values[0] <= bound else f"fails by {1e4 * (values[0] - bound):.1f}"
    numbers = [f"{1e4 * v:.1f}" for v in (values[0], mean(values))]
    return [name, str(seed), *numbers, verdict, spent, found.also]


def main() -> None:
    """Print a table of densities and classifiers, and one of generators."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=[], help=", ".join([*OWN, *DRAWERS]))
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--sheets", type=Path, help="a folder for pictures of samples")
    args = parser.parse_args()
    unknown = {*args.names} - {*OWN, *DRAWERS}
    if unknown:
        parser.error(
            f"no such model: {', '.join(unknown)}; there are {', '.join([*OWN, *DRAWERS])}"
        )
    torch.set_num_threads(1)
    print(circumstances(["daguerre", "torch", "scikit-learn"]), end="\n\n")
    own, drawers = ([n for n in kind if n in (args.names or kind)] for kind in (OWN, DRAWERS))
    if own:
        head = ["model", "seed", "measure", "value", "simpler", "s, CPU", "s, wall"]
        say(head, (own_row(n, s) for n in own for s in args.seed))
    if drawers:
        real, noise = floor()
        bound = 2 * real + noise
        numbers = f"{1e4 * real:.2f}, noise {1e4 * noise:.2f}, so the bound is {1e4 * bound:.2f}"
        print(f"MMD² x 10⁴ of training digits: {numbers}\n")
        head = ["generator", "seed", "MMD² x 10⁴", "mean of 20", "verdict"]
        head += ["s, CPU", "s, wall", "also"]
        say(head, (drawer_row(n, s, bound, args.sheets) for n in drawers for s in args.seed))


def say(head: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table, each row when it is there."""
    print(table(head, []))
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


if __name__ == "__main__":
    main()
