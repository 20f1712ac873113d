r"""What an inference model makes of the data: rate, distortion, and the latents that it uses.

$$-\mathrm{ELBO} = \underbrace{\mathbb{E}_q[-\log p(x \mid z)]}_{\text{distortion}}
  + \underbrace{\mathrm{KL}(q(z \mid x) \Vert p(z))}_{\text{rate}}, \qquad
\text{rate} = I_q(x; z) + \mathrm{KL}(q(z) \Vert p(z))$$
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.evaluate.bounds import passes
from daguerre.evaluate.scores import Score
from daguerre.evaluate.subject import Subject, divergence_of
from daguerre.families import surprisal
from daguerre.graph import InadmissibleError
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.latents import Drawn
from daguerre.objectives.objective import Round
from daguerre.program import Trace
from daguerre.scoring import sum_event

__all__ = ["ActiveUnits", "AggregateSplit", "RateDistortion", "UnitRates"]

CELLS = 1 << 22  # of the table of draws against rows, in memory at a time
RESAMPLES = 200


@dataclass(frozen=True)
class RateDistortion:
    """The two parts of the ELBO: what the code costs, and what it does not tell. In nats.

    References:
        Alemi, Poole, Fischer, Dillon, Saurous and Murphy (2018), *Fixing a broken ELBO*, arXiv
        1711.00464.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> scores = dg.evaluate(p, q, torch.full([10], 2.0), measures=[RateDistortion()])
        >>> round(scores["rate"].value, 4)  # KL(N(1, 1/2), N(0, 1))
        0.5966
    """

    def __call__(self, of: Subject) -> tuple[Score, Score]:
        """Return the mean of both over the data."""
        kl = divergence_of(of.cost)
        _refuse_sum(kl)
        latent = {*kl.latents.how}
        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        for at, drawn, scored in _draws(of, kl):
            sums = [torch.zeros(at.n, dtype=torch.float64) for _ in parts]
            for entry, term in kl.terms(drawn, scored).items():
                sums[entry.name not in latent] += drawn.per_example(sum_event(term))
            for part, value in zip(parts, sums, strict=True):
                part.append(value)
        rate, distortion = (torch.cat(part).cpu() for part in parts)
        return (
            Score.mean("rate", rate, "nats, KL of q from the prior"),
            Score.mean("distortion", distortion, "nats, -log p(x | z); minus ELBO less the rate"),
        )


@dataclass(frozen=True)
class UnitRates:
    """The rate of each dimension of each latent, in nats, largest first.

    References:
        Burda, Grosse and Salakhutdinov (2016, arXiv 1509.00519), appendix C, on units that the
        inference model leaves at the prior.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=dg.StandardNormal(2), x=lambda z: Normal(z[:, 0], 1.0))
        >>> mean = lambda x: torch.stack([x / 2, 0 * x], 1)
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(mean(x), torch.tensor([0.5**0.5, 1])))
        >>> scores = dg.evaluate(p, q, torch.full([10], 2.0), measures=[UnitRates()])
        >>> [(s.name, round(s.value, 4)) for s in scores]
        [('rate z[0]', 0.5966), ('rate z[1]', 0.0)]
    """

    def __call__(self, of: Subject) -> tuple[Score, ...]:
        """Return one score per dimension."""
        kl = _plain(of, "the rate of each dimension")
        found: dict[str, list[Tensor]] = {}
        for at, drawn, scored in _draws(of, kl):
            for name in kl.latents.how:
                value = _by_dimension(kl, name, drawn, scored)
                found.setdefault(name, []).append(value.expand(at.n, *value.shape[1:]).cpu())
        scores = [
            Score.mean(f"rate {name}{index}", column, "nats")
            for name, parts in found.items()
            for index, column in _columns(torch.cat(parts))
        ]
        return tuple(sorted(scores, key=lambda score: -score.value))


@dataclass(frozen=True)
class ActiveUnits:
    r"""How many dimensions of the latents move with the data.

    A unit is active where $A_u = \mathrm{Var}_x(\mathbb{E}_q[z_u \mid x])$ exceeds a threshold.
    Where q draws z from other latents, the variance is the covariance of the means of two
    independent draws of these, which has the same value.

    Attributes:
        threshold: Of the variance.

    References:
        Burda, Grosse and Salakhutdinov (2016, arXiv 1509.00519), appendix C.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=dg.StandardNormal(2), x=lambda z: Normal(z[:, 0], 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(torch.stack([x / 2, 0 * x], 1), 0.7))
        >>> dg.evaluate(p, q, torch.randn(100), measures=[ActiveUnits()])["active units"].value
        1.0
    """

    threshold: float = 0.01

    def __call__(self, of: Subject) -> Score:
        """Return the count, its spread by the bootstrap over rows."""
        kl = _plain(of, "the count of active units")
        one, other = (self._means(of, kl) for _ in range(2))
        n, units = one.shape
        rows = one.new_ones(1, n)
        drawn = torch.multinomial(rows.expand(RESAMPLES, n), n, replacement=True)
        counts = one.new_zeros(RESAMPLES, n)
        counts.scatter_add_(1, drawn, torch.ones_like(counts))
        value = self._active(one, other, rows)
        spread = self._active(one, other, counts).std().item()
        note = f"of {units}, those whose mean varies by more than {self.threshold:g}"
        return Score("active units", value.item(), spread, note)

    def _means(self, of: Subject, kl: KullbackLeibler) -> Tensor:
        """Return the mean of q for each row and unit, `[N, units]`."""
        rows = []
        for _, drawn, _ in _draws(of, kl, score=False):
            means = [_mean(name, drawn) for name in kl.latents.how]
            rows.append(
                torch.cat([mean.reshape(len(mean), -1) for mean in means], 1).double().cpu()
            )
        return torch.cat(rows)

    def _active(self, one: Tensor, other: Tensor, counts: Tensor) -> Tensor:
        """Count units, each row as often as `counts` `[B, N]` says, `[B]`."""
        share = counts / counts.sum(1, keepdim=True)
        one, other = one - one.mean(0), other - other.mean(0)
        covariance = share @ (one * other) - (share @ one) * (share @ other)
        n = counts.shape[1]
        return (covariance * n / (n - 1) > self.threshold).sum(1).double()


@dataclass(frozen=True)
class AggregateSplit:
    r"""The two parts of the rate: what z tells of the row, and how far q(z) is from the prior.

    $\mathbb{E}\,\mathrm{KL}(q(z \mid x) \Vert p(z)) = I_q(x; z) + \mathrm{KL}(q(z) \Vert p(z))$
    with the aggregate posterior $q(z) = \frac1N \sum_k q(z \mid x_k)$ of the rows that are given.
    The information is at most log N. The time grows with the square of N.

    Attributes:
        rows: Of more rows, the first so many are taken.

    References:
        Hoffman and Johnson (2016), *ELBO surgery*.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x, 0.01))
        >>> x = torch.tensor([-1.0, 1.0]).repeat(500)
        >>> scores = dg.evaluate(p, q, x, measures=[AggregateSplit()])
        >>> round(scores["information"].value, 4) == round(math.log(2), 4)  # the sign of x
        True
    """

    rows: int = 5000

    def __call__(self, of: Subject) -> tuple[Score, Score]:
        """Return the mean of both over the data."""
        kl = _plain(of, "the aggregate posterior")
        _refuse_hidden(kl)
        device = torch.get_default_device()
        given = {name: value[: self.rows].to(device) for name, value in of.given.items()}
        n = len(next(iter(given.values())))
        at = Round(n, given)
        drawn = kl.latents.draw(at)
        scored = kl.scored(drawn, at)
        prior = -reduce(add, (kl.surprisal(name, drawn, scored) for name in kl.latents.how))
        own = reduce(add, (kl.density(name, drawn, drawn.trace) for name in kl.latents.how))
        aggregate = _aggregate(kl, drawn)
        most = f"nats, of z and the row; at most log N = {math.log(n):.2f}"
        return (
            Score.mean("information", (own - aggregate).cpu(), most),
            Score.mean("marginal kl", (aggregate - prior).cpu(), "nats, of q(z) from the prior"),
        )


def _draws(
    of: Subject, kl: KullbackLeibler, *, score: bool = True
) -> Iterator[tuple[Round, Drawn, Trace]]:
    """Yield batches with one draw of the latents for each row, scored by the model."""
    for at, _ in passes(of.given, 1):
        drawn = kl.latents.draw(at)
        yield at, drawn, kl.scored(drawn, at) if score else drawn.trace


def _by_dimension(kl: KullbackLeibler, name: str, drawn: Drawn, scored: Trace) -> Tensor:
    """Return log q - log p of each dimension, integrated where a rule does it, `[n, *event]`."""
    q, p = drawn.trace.outcomes[name], scored.outcomes[name]
    assert isinstance(q, Distribution), "a latent is drawn"
    assert isinstance(p, Distribution), "and scored"
    if name in kl.plan.closed:
        value = kl.plan.closed[name](q, p)
        roots = kl.a.program.by_name[name].is_root and kl.b.program.by_name[name].is_root
        return value[None] if roots else value
    if q.event_shape or p.event_shape:
        raise InadmissibleError(
            f"{name}: the density of its dimensions does not factorise, so they have no rates of"
            " their own; take RateDistortion()"
        )
    value = drawn.trace.values[name]
    return surprisal(p, value) - surprisal(q, value)


def _columns(values: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the index of each dimension of `[N, *event]` with its column."""
    shape = values.shape[1:]
    for i, column in enumerate(values.flatten(1).T if shape else values[None]):
        yield str(_place(i, shape)) if shape else "", column


def _place(i: int, shape: torch.Size) -> list[int]:
    """Return the indices of the i-th number of a tensor."""
    place = []
    for size in reversed(shape):
        i, rest = divmod(i, size)
        place.append(rest)
    return place[::-1]


def _mean(name: str, drawn: Drawn) -> Tensor:
    """Return the mean of a latent given what it was drawn from, `[n, *event]`."""
    outcome, shape = drawn.trace.outcomes[name], drawn.trace.values[name].shape
    assert isinstance(outcome, Distribution), "a latent is drawn"
    try:
        mean = outcome.mean
    except NotImplementedError:
        mean = None
    if mean is None or mean.isnan().any():
        raise InadmissibleError(
            f"{name} ~ {type(outcome).__name__} has no mean that torch knows, so whether its units"
            " move with the data is not seen in it; take UnitRates(), or return a family with a"
            " mean"
        )
    return mean.expand(shape)  # a root has the mean of one event


def _aggregate(kl: KullbackLeibler, drawn: Drawn) -> Tensor:
    """Return log q(z) of each draw, the rows against each other, `[n]`."""
    n = drawn.n
    names = [*kl.latents.how]
    width = sum(drawn.trace.values[name][0].numel() for name in names)
    size = max(1, CELLS // (n * width))
    parts = []
    for first in range(0, n, size):
        z = {name: drawn.trace.values[name][first : first + size] for name in names}
        table = reduce(add, (_table(drawn.trace.outcomes[name], z[name], n) for name in names))
        parts.append(table.logsumexp(1) - math.log(n))
    return torch.cat(parts)


def _table(outcome: object, z: Tensor, n: int) -> Tensor:
    """Return the log-density of each draw `[m, *event]` under the law of each row, `[m, n]`."""
    assert isinstance(outcome, Distribution), "a latent is drawn"
    table = outcome.log_prob(z.unsqueeze(1).expand(len(z), n, *z.shape[1:]))
    return table.reshape(len(z), n, -1).sum(2)


def _plain(of: Subject, what: str) -> KullbackLeibler:
    """Return minus the ELBO, with one draw of each latent for each row.

    Raises:
        InadmissibleError: Latents repeat.
    """
    if plates := divergence_of(of.cost).plates:
        raise InadmissibleError(
            f"{what} is that of latents of one row of data, but {', '.join(plates)} repeat in"
            " plates or time; take ELBO() and RateDistortion()"
        )
    _refuse_sum(divergence_of(of.cost))
    return divergence_of(of.sampled)


def _refuse_sum(kl: KullbackLeibler) -> None:
    """Refuse to tell rate from distortion where one sum has both."""
    if kl.plan.sum is not None:
        hidden = ", ".join(kl.plan.sum.hidden)
        raise InadmissibleError(
            f"rate and distortion are within the sum over {hidden}, which q does not draw, and"
            f" cannot be told apart; take ELBO(), or give q a CPD for {hidden}"
        )


def _refuse_hidden(kl: KullbackLeibler) -> None:
    """Refuse an inference model whose density given the data is an integral."""
    graph = kl.a.graph
    for name in kl.latents.how:
        if above := [m for m in kl.latents.how if m in graph.ancestors([name])]:
            raise InadmissibleError(
                f"q({name} | data) is an integral over {', '.join(above)}, so the aggregate"
                " posterior is not known; take RateDistortion(), or give each latent of q parents"
                " that are data"
            )
