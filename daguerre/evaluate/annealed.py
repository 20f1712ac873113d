r"""Annealed importance sampling: log p(x) without an inference model, and how far off it is.

Chains go from the prior to the posterior through $p(z)\,p(x \mid z)^{\beta_t}$, at each
temperature by a Hamiltonian move. With $0 = \beta_0 < \dots < \beta_T = 1$ their weights

$$w = \prod_{t=1}^{T} p(x \mid z_{t-1})^{\beta_t - \beta_{t-1}}, \qquad \mathbb{E}\,w = p(x)$$

have the evidence as their mean (Neal 2001). The log of it is too low on average; run backwards
from a draw of the posterior, the same chains give a value that is too high (Grosse et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.evaluate.paths import Latent, Point, latent_of
from daguerre.evaluate.scores import Score
from daguerre.evaluate.subject import Subject
from daguerre.rows import tile

__all__ = ["AIS", "BDMC", "Annealing", "annealed"]

TARGET, RATE = 0.65, 0.5  # of step sizes: Wu et al. aim at 0.65 too
WARM_UP, PILOTS, TRIES = 20, 4, 2
SIGMOID = 4.0  # the schedule spans a logistic curve from -4 to 4
NUMBERS = 1 << 23  # in one pass


@dataclass(frozen=True)
class Annealing:
    """How chains are run.

    Attributes:
        chains: For each row of data.
        steps: T, the temperatures.
        leapfrogs: In one move.

    Raises:
        ValueError: A number that is not positive.
    """

    chains: int = 16
    steps: int = 200
    leapfrogs: int = 10

    def __post_init__(self) -> None:
        if min(self.chains, self.steps, self.leapfrogs) < 1:
            raise ValueError(f"an annealing takes a chain, step and leapfrog at least, not {self}")

    @property
    def betas(self) -> Tensor:
        """The inverse temperatures 0 to 1, `[T + 1]`: dense at both ends, as Wu et al. have them.

        Example:
            >>> [round(beta, 3) for beta in Annealing(steps=4).betas.tolist()]
            [0.0, 0.105, 0.5, 0.895, 1.0]
        """
        curve = torch.linspace(-SIGMOID, SIGMOID, self.steps + 1, dtype=torch.float64).sigmoid()
        return (curve - curve[0]) / (curve[-1] - curve[0])


def annealed(latent: Latent, observed: Mapping[str, Tensor], annealing: Annealing) -> Tensor:
    """Return the log of the mean weight of each row, `[N]`; the mean itself is p(x) on average.

    Args:
        latent: What moves, `latent_of(p, observed, "AIS")`.
        observed: `{name: Tensor[N, *event]}`, inputs with them.
        annealing: How chains are run.
    """
    parts = _batches(observed, annealing.chains)
    return torch.cat([_Chains(latent, *part, annealing).forward() for part in parts])


@dataclass(frozen=True)
class AIS:
    """The log-evidence by annealed importance sampling, in nats.

    The mean of the weights is the evidence, without bias: step sizes are tuned, for each row and
    temperature, on chains of their own. Its log is a lower bound on average.

    Attributes:
        rows: The first so many rows of the data; AIS is slow.
        annealing: How chains are run.

    References:
        Neal (2001), *Annealed importance sampling*. Wu, Burda, Salakhutdinov and Grosse (2017),
        *On the quantitative analysis of decoder-based generative models*, arXiv 1611.04273.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=dg.StandardNormal(1), x=lambda z: Normal(z, 1.0))
        >>> ais = AIS(annealing=Annealing(chains=64, steps=50, leapfrogs=3))
        >>> scores = dg.evaluate(p, data=torch.full([20, 1], 2.0), measures=[ais])
        >>> abs(scores["ais"].value + 2.2655) < 0.03  # log N(2; 0, 2)
        True
    """

    rows: int = 100
    annealing: Annealing = Annealing()

    def __call__(self, of: Subject) -> Score:
        """Return the mean over the rows."""
        observed = {
            name: value[: self.rows] for name, value in of.observed.items() if name in of.p.graph
        }
        found = annealed(latent_of(of.p, observed, "AIS"), observed, self.annealing)
        note = "nats, log p(x), too low rather than high"
        return Score.mean("ais", found.cpu(), note)


@dataclass(frozen=True)
class BDMC:
    """How far AIS is off, on data drawn from the model: lower and upper bound of log p(x).

    Attributes:
        rows: How many rows are drawn.
        annealing: How chains are run; of an AIS that is to be checked, its own.

    References:
        Grosse, Ghahramani and Adams (2015), *Sandwiching the marginal likelihood using
        bidirectional Monte Carlo*, arXiv 1511.02543.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=dg.StandardNormal(1), x=lambda z: Normal(z, 1.0))
        >>> bdmc = BDMC(rows=20, annealing=Annealing(chains=64, steps=50, leapfrogs=3))
        >>> scores = dg.evaluate(p, measures=[bdmc])
        >>> [score.name for score in scores], abs(scores["ais gap"].value) < 0.1
        (['ais lower', 'ais upper', 'ais gap'], True)
    """

    rows: int = 100
    annealing: Annealing = Annealing()

    def __call__(self, of: Subject) -> tuple[Score, Score, Score]:
        """Return both means and that of their difference."""
        inputs = {name: of.observed[name][: self.rows] for name in of.p.graph.inputs}
        rows = len(next(iter(inputs.values()))) if inputs else self.rows
        drawn = of.p.sample(rows, inputs)
        observed = {name: drawn[name] if name in drawn else inputs[name] for name in of.held}
        latent = latent_of(of.p, observed, "BDMC")
        exact = latent.free({**drawn, **inputs})
        lower, upper, first = [], [], 0
        for given, n in _batches(observed, self.annealing.chains):
            chains = _Chains(latent, given, n, self.annealing)
            lower.append(chains.forward())
            upper.append(chains.backward(exact[first : first + n]))
            first += n
        below, above = torch.cat(lower).cpu(), torch.cat(upper).cpu()
        return (
            Score.mean("ais lower", below, "nats, log p(x) of rows that the model drew"),
            Score.mean("ais upper", above, "nats, the same from above"),
            Score.mean("ais gap", above - below, "nats, by which AIS is off at most, on average"),
        )


def _batches(
    observed: Mapping[str, Tensor], chains: int
) -> Iterator[tuple[dict[str, Tensor], int]]:
    """Yield rows, so many that all their chains move together."""
    total = len(next(iter(observed.values())))
    width = max(value[0].numel() for value in observed.values())
    size = max(1, NUMBERS // (chains * max(256, width)))
    device = torch.get_default_device()
    for i in range(0, total, size):
        yield {k: v[i : i + size].to(device) for k, v in observed.items()}, min(size, total - i)


class Move(NamedTuple):
    """Where chains are after a move, and how probable it was to be accepted, `[rows]`."""

    point: Point
    accepted: Tensor


class _Chains:
    """The chains of some rows of data, with their step sizes `[T, n]`."""

    def __init__(
        self, latent: Latent, given: Mapping[str, Tensor], n: int, annealing: Annealing
    ) -> None:
        self.latent, self.given, self.n = latent, given, n
        self.annealing, self.betas = annealing, annealing.betas.tolist()
        self.step_sizes = self._tuned()

    def forward(self) -> Tensor:
        """Return the log of the mean weight of each row, `[n]`."""
        chains = self.annealing.chains
        point = self._start(chains)
        weight = self._gain(point, 1)
        for t in range(1, self.annealing.steps):
            point = self._move(point, t, self.step_sizes[t - 1]).point
            weight = weight + self._gain(point, t + 1)
        return weight.unflatten(0, (chains, self.n)).logsumexp(0) - math.log(chains)

    def backward(self, exact: Tensor) -> Tensor:
        """Return minus the log of the mean inverse weight, from draws of the posterior, `[n]`."""
        chains = self.annealing.chains
        point = self.latent.at(tile(exact, chains * self.n), self.given)
        weight = self._gain(point, self.annealing.steps)
        for t in range(self.annealing.steps - 1, 0, -1):
            point = self._move(point, t, self.step_sizes[t - 1]).point
            weight = weight + self._gain(point, t)
        return math.log(chains) - (-weight).unflatten(0, (chains, self.n)).logsumexp(0)

    def _start(self, chains: int) -> Point:
        rows = {k: tile(value, chains * self.n) for k, value in self.given.items()}
        return self.latent.at(self.latent.draw(rows, chains * self.n), self.given)

    def _gain(self, point: Point, t: int) -> Tensor:
        return (self.betas[t] - self.betas[t - 1]) * point.likelihood

    def _tuned(self) -> Tensor:
        """Run chains whose step sizes follow how often each row's moves are accepted."""
        point = self._start(PILOTS)
        log_step = torch.full([self.n], math.log(0.5))
        found = [log_step] * self.annealing.steps
        for t in [1] * WARM_UP + [t for t in range(1, self.annealing.steps) for _ in range(TRIES)]:
            point, accepted = self._move(point, t, log_step.exp())
            rate = accepted.unflatten(0, (PILOTS, self.n)).mean(0)
            found[t - 1] = log_step = log_step + RATE * (rate - TARGET).to(log_step.dtype)
        return torch.stack(found).exp()

    def _move(self, point: Point, t: int, sizes: Tensor) -> Move:
        """Move along Hamiltonian paths at a temperature, with a step size for each row.

        Each chain takes a random part of it, lest paths of one length come back to their start.
        """
        beta = self.betas[t]
        step = tile(sizes, len(point.free)).to(point.free.dtype)[:, None]
        step = step * (0.5 + 0.5 * torch.rand_like(step))
        speed = torch.randn_like(point.free)
        before = _energy(point, beta, speed)
        end, slope = self._slope(point.free, beta)
        for i in range(self.annealing.leapfrogs):
            speed = torch.addcmul(speed, step, slope, value=0.5 if i == 0 else 1.0)
            end, slope = self._slope(torch.addcmul(end.free, step, speed), beta)
        speed = torch.addcmul(speed, step, slope, value=0.5)
        ratio = before - _energy(end, beta, speed)
        accepted = ratio.clamp(max=0).exp().nan_to_num(0.0)
        moved = torch.rand_like(accepted) < accepted
        kept = torch.where(moved[:, None], end.free, point.free)
        scores = (torch.where(moved, a, b) for a, b in zip(end[1:], point[1:], strict=True))
        return Move(Point(kept, *scores), accepted)

    def _slope(self, free: Tensor, beta: float) -> tuple[Point, Tensor]:
        """Score free numbers, with the gradient of the annealed density by them."""
        with torch.enable_grad():
            free = free.detach().requires_grad_()
            point = self.latent.at(free, self.given)
            (slope,) = torch.autograd.grad((point.prior + beta * point.likelihood).sum(), free)
        return Point(*(part.detach() for part in point)), slope


def _energy(point: Point, beta: float, speed: Tensor) -> Tensor:
    kinetic = speed.double().square().sum(1) / 2
    return kinetic - point.prior - beta * point.likelihood
