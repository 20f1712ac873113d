r"""Print the variance of each estimator of gradients, on models whose gradient is known exactly.

    python benchmarks/gradients.py

A row of a batch is one estimate: parameters are inputs with a row each, so that one pass gives as
many independent estimates as there are rows. Bias is the distance of their mean from the exact
gradient, beside the standard error of that mean; an unbiased estimator that is further off than
five standard errors ends the run.

The last table is about what the graph leaves out. Of d independent blocks h_i -> x_i with costs
c_i = -log p(x_i | h_i) and scores s_i, the estimate for block i with K draws and a leave-one-out
baseline is the sample covariance

$$g_i = \frac{1}{K - 1} \sum_k (C^k - \bar C)\, s_i^k.$$

With the graph C = c_i. Without it C = c_i + N, N the sum of the other blocks' costs, which is
independent of block i. The sample covariance is linear in C, and given block i that of N with s_i
has mean 0 and variance Var(N) sum_k (s_i^k - \bar s_i)^2 / (K - 1)^2, so for equal blocks

$$\frac{\mathrm{Var}\,g_i\ \text{without}}{\mathrm{Var}\,g_i\ \text{with}}
  = 1 + \frac{(d - 1)\,\mathrm{Var}(c)\,\mathrm{Var}(s)}{(K - 1)\,\mathrm{Var}(g_i)},$$

all of whose terms are sums over the states of one block.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, OneHotCategorical

import daguerre as dg
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.estimators import (
    DREG,
    ENUMERATE,
    PATHWISE,
    STICK_THE_LANDING,
    Estimator,
    gumbel_softmax,
    score_function,
    straight_through,
)
from report import circumstances, table

__all__ = ["main"]

ROWS, OF_BLOCKS = 200_000, 40_000
HEAD = ["estimator", "draws", "variance", "bias", "its standard error", "s"]


@dataclass(frozen=True)
class Case:
    """A cost of rows of parameters phi, and its exact gradient by them.

    Attributes:
        cost: From an estimator to the objective.
        point: phi.
        given: What is observed, one row.
        exact: Minus the bound as a function of phi.
    """

    cost: Callable[[Estimator], dg.Objective]
    point: Tensor
    given: dict[str, Tensor]
    exact: Callable[[Tensor], Tensor]

    def row(self, name: str, estimator: Estimator, draws: str, *, biased: bool = False) -> list:
        """Measure one estimator."""
        start = perf_counter()
        found = estimates(self.cost(estimator), self.point, self.given)
        seconds = perf_counter() - start
        phi = self.point.clone().requires_grad_()
        (exact,) = torch.autograd.grad(self.exact(phi), [phi])
        variance = found.var(0).sum().item()
        bias, error = (found.mean(0) - exact).norm().item(), math.sqrt(variance / len(found))
        if not biased and bias > 5 * error + 1e-6:
            raise SystemExit(f"{name} is biased by {bias:.5f}, standard error {error:.5f}")
        shown = f"**{bias:.4f}**" if biased else f"{bias:.4f}"
        return [name, draws, f"{variance:.4g}", shown, f"{error:.4f}", f"{seconds:.2f}"]


def estimates(
    cost: dg.Objective, point: Tensor, given: dict[str, Tensor], rows: int = ROWS
) -> Tensor:
    """Return independent estimates of the gradient by phi, `[rows, len(point)]`."""
    torch.manual_seed(0)
    phi = point.repeat(rows, 1).requires_grad_()
    batch = {name: value.expand(rows, *value.shape) for name, value in given.items()}
    (loss,) = cost.losses(batch | {"phi": phi}, players=["model"]).values()
    return rows * torch.autograd.grad(loss, [phi])[0]  # the loss is a mean over rows


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# z ~ N(0, 1), x ~ N(z, 0.7^2); q(z) = N(phi_0, exp(phi_1)^2), near the posterior and away from it

X, NOISE = 1.3, 0.7
POSTERIOR = f64(X / (1 + NOISE**2), 0.5 * math.log(NOISE**2 / (1 + NOISE**2)))
AWAY = f64(0.2, -0.1)


def gaussian(particles: int = 0, *, closed: bool = True) -> Callable[[Estimator], dg.Objective]:
    """Return the ELBO, its KL in closed form or drawn, or the bound of several draws."""
    zero = torch.zeros((), dtype=torch.float64)
    p = dg.model(
        phi=dg.Input(2), z=Normal(zero, 1.0), x=lambda z, phi: Normal(z + 0 * phi[:, 0], NOISE)
    )
    q = dg.model(
        x=dg.Input(), phi=dg.Input(2), z=lambda x, phi: Normal(phi[:, 0], phi[:, 1].exp())
    )
    if particles:
        return lambda estimator: dg.iwae(p, q, particles=particles, gradients=estimator)
    return lambda estimator: (
        dg.elbo(p, q, gradients=estimator) if closed else _drawn(p, q, estimator)
    )


def _drawn(p: dg.Model, q: dg.Model, estimator: Estimator) -> dg.Objective:
    """Return the ELBO with every term drawn."""
    ((_, part),) = dg.elbo(p, q, gradients=estimator).parts
    assert isinstance(part, KullbackLeibler)
    return dg.Objective(((1.0, KullbackLeibler(replace(part.plan, closed={}))),))


def gaussian_bound(particles: int) -> Callable[[Tensor], Tensor]:
    """Return minus the bound by Gauss-Hermite quadrature over all draws."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(48)
    each, odds = f64(*nodes), f64(*(weights / weights.sum()))
    noise = torch.cartesian_prod(*[each] * particles).view(-1, particles)
    odds = torch.cartesian_prod(*[odds] * particles).view(-1, particles).prod(1)

    def bound(phi: Tensor) -> Tensor:
        z = phi[0] + phi[1].exp() * noise
        log_p = Normal(f64(0), 1.0).log_prob(z) + Normal(z, NOISE).log_prob(f64(X))
        log_w = log_p - Normal(phi[0], phi[1].exp()).log_prob(z)
        return -(odds * (log_w.logsumexp(1) - math.log(particles))).sum()

    return bound


# k one-hot of three and h of two bits -> x; q(k) q(h), all states of which are summed by hand

STATES, BITS = torch.eye(3, dtype=torch.float64), f64(0, 0, 0, 1, 1, 0, 1, 1).view(4, 2)
SLOPES = f64(1.5, -1.0, 0.5, 2.0, -1.5)
CODE = f64(0.4, -0.2, 0.1, -0.4, 0.7)


def discrete(particles: int = 0) -> Callable[[Estimator], dg.Objective]:
    """Return the ELBO, or the bound of several draws."""
    p = dg.model(
        phi=dg.Input(5),
        k=OneHotCategorical(logits=torch.zeros(3, dtype=torch.float64)),
        h=Bernoulli(logits=torch.zeros(2, dtype=torch.float64)),
        x=lambda k, h, phi: Normal(torch.cat([k, h], 1) @ SLOPES + 0 * phi[:, 0], NOISE),
    )
    q = dg.model(
        x=dg.Input(),
        phi=dg.Input(5),
        k=lambda x, phi: OneHotCategorical(logits=phi[:, :3]),
        h=lambda x, phi: Bernoulli(logits=phi[:, 3:]),
    )
    if particles:
        return lambda estimator: dg.iwae(p, q, particles=particles, gradients=estimator)
    return lambda estimator: dg.elbo(p, q, gradients=estimator)


def discrete_bound(particles: int) -> Callable[[Tensor], Tensor]:
    """Return minus the bound, summed over all tuples of states."""
    k, h = STATES.repeat_interleave(4, 0), BITS.repeat(3, 1)
    log_p = Normal(torch.cat([k, h], 1) @ SLOPES, NOISE).log_prob(f64(X)) - math.log(12)
    index = torch.tensor([*product(range(12), repeat=particles)])

    def bound(phi: Tensor) -> Tensor:
        log_q = k @ phi[:3].log_softmax(0) + Bernoulli(logits=phi[3:]).log_prob(h).sum(1)
        log_w = (log_p - log_q)[index].logsumexp(1) - math.log(particles)
        return -(log_q[index].sum(1).exp() * log_w).sum()

    return bound


# d blocks h_i -> x_i

RATE, SLOPE, SHIFT = 0.3, 2.0, -0.5  # logit of q(h_i), and logits of x_i = 1


def blocks(d: int, draws: int) -> tuple[KullbackLeibler, KullbackLeibler]:
    """Return the ELBO of d blocks with the graph, and with each cost blamed on each draw."""
    prior = Bernoulli(logits=torch.zeros((), dtype=torch.float64))
    named = {"Bernoulli": Bernoulli, "slope": SLOPE, "shift": SHIFT}

    def cpd(source: str):  # the parents of a CPD are the names of its parameters
        return eval(source, named)

    p: dict = {"phi": dg.Input(d)}
    q: dict = {f"x{i}": dg.Input() for i in range(d)} | {"phi": dg.Input(d)}
    for i in range(d):
        p[f"h{i}"] = prior
        p[f"x{i}"] = cpd(
            f"lambda h{i}, phi: Bernoulli(logits=slope * h{i} + shift + 0 * phi[:, 0])"
        )
        q[f"h{i}"] = cpd(f"lambda phi: Bernoulli(logits=phi[:, {i}])")
    parts = []
    for _ in range(2):
        cost = dg.elbo(dg.model(**p), dg.model(**q), gradients=score_function(draws=draws))
        parts.append(cost.parts[0][1])
    by_graph, blamed = parts
    everything = frozenset(blamed.plan.scored)
    blamed.entries = tuple(e._replace(follows=everything) for e in blamed.entries)
    return by_graph, blamed


def predicted(d: int, draws: int) -> float:
    """Return the factor of the docstring, by sums over the states of one block."""
    h = f64(0, 1)
    logit = f64(RATE).squeeze()
    odds = Bernoulli(logits=logit).log_prob(h).exp()
    cost = -Bernoulli(logits=SLOPE * h + SHIFT).log_prob(f64(1).expand(2))
    score = h - logit.sigmoid()
    index = torch.tensor([*product(range(2), repeat=draws)])
    weight, c, s = odds[index].prod(1), cost[index], score[index]
    g = ((c - c.mean(1, keepdim=True)) * s).sum(1) / (draws - 1)

    def variance(odds: Tensor, value: Tensor) -> float:
        return ((odds * value**2).sum() - (odds * value).sum() ** 2).item()

    others = (d - 1) * variance(odds, cost)
    return 1 + others * variance(odds, score) / ((draws - 1) * variance(weight, g))


def factor(d: int, draws: int) -> list[str]:
    """Measure the factor by which the graph lowers the variance, and compare."""
    start = perf_counter()
    given = {f"x{i}": f64(1).squeeze() for i in range(d)}
    point = torch.full([d], RATE, dtype=torch.float64)
    groups = []
    for part in blocks(d, draws):
        found = estimates(dg.Objective(((1.0, part),)), point, given, OF_BLOCKS)
        groups.append(found.view(20, -1, d).var(1).sum(1))
    seconds = perf_counter() - start
    ratios = groups[1] / groups[0]
    measured, error = ratios.mean().item(), ratios.std().item() / math.sqrt(len(ratios))
    wanted = predicted(d, draws)
    if abs(measured - wanted) > 5 * error + 1e-9:
        raise SystemExit(f"{d} blocks: {measured:.3f} +- {error:.3f}, predicted {wanted:.3f}")
    shown = [f"{v.mean().item():.4g}" for v in groups]
    return [
        f"{d}", f"{draws}", *shown, f"{measured:.3f} ± {error:.3f}", f"{wanted:.3f}",
        f"{seconds:.2f}",
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    begin = perf_counter()
    print(circumstances(["torch"]))
    print(f"* one thread on one core, float64; {ROWS} estimates each, {OF_BLOCKS} of blocks")
    x = {"x": f64(X).squeeze()}
    for where, point in (("q near the posterior", POSTERIOR + 0.1), ("q further away", AWAY)):
        one, drawn = (Case(gaussian(closed=c), point, x, gaussian_bound(1)) for c in (True, False))
        two = Case(gaussian(2), point, x, gaussian_bound(2))
        rows = [
            one.row("pathwise, KL in closed form", PATHWISE, "1"),
            drawn.row("pathwise, all terms drawn", PATHWISE, "1"),
            drawn.row("sticking the landing", STICK_THE_LANDING, "1"),
            one.row("score function, leave-one-out", score_function(draws=2), "2"),
            one.row("score function, leave-one-out", score_function(draws=4), "4"),
            two.row("IWAE-2, plain", PATHWISE, "2"),
            two.row("IWAE-2, doubly reparametrised", DREG, "2"),
        ]
        print(f"\nz -> x, Gaussian, {where}:\n\n{table(HEAD, rows)}", flush=True)
    one, two = (Case(discrete(k), CODE, x, discrete_bound(max(k, 1))) for k in (0, 2))
    rows = [
        one.row("enumeration", ENUMERATE, "12 states"),
        one.row("score function, leave-one-out", score_function(draws=2), "2"),
        one.row("score function, leave-one-out", score_function(draws=4), "4"),
        one.row("Gumbel-softmax at 1", gumbel_softmax(1.0), "1", biased=True),
        one.row("Gumbel-softmax at 0.3", gumbel_softmax(0.3), "1", biased=True),
        one.row("straight-through at 1", straight_through(1.0), "1", biased=True),
        two.row("IWAE-2, VIMCO", score_function(draws=2), "2"),
    ]
    print(f"\nk, h -> x, one-hot of three and two bits:\n\n{table(HEAD, rows)}", flush=True)
    head = ["blocks", "draws", "with the graph", "without", "factor", "predicted", "s"]
    rows = [factor(d, k) for d, k in ((2, 2), (8, 2), (32, 2), (8, 4))]
    print(f"\nh_i -> x_i, variance of the score function:\n\n{table(head, rows)}")
    print(f"\n{perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
