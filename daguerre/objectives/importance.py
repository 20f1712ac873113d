r"""The importance-weighted bound: K draws of the latents for each example.

$$\mathcal{L}_K = \mathbb{E} \log \tfrac1K \sum_k w_k \le \log p(x),
  \qquad w_k = p(x, z_k) / q(z_k \mid x)$$
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import final

import torch
from torch import Tensor

from daguerre.draw.labels import label
from daguerre.graph import InadmissibleError
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.estimators import Enumerate, Pathwise, Relaxed, ScoreFunction
from daguerre.objectives.kl_plan import KLPlan
from daguerre.objectives.kl_words import drawn_how, kl_ratio_latex
from daguerre.objectives.latents import Drawn
from daguerre.objectives.objective import Divergence, Player, Round, Term
from daguerre.program import Trace
from daguerre.rows import align, tile

__all__ = ["ImportanceWeighted", "Particles", "log_weights", "weigher"]


@dataclass(frozen=True)
class Particles:
    """How many draws there are, and what is made of their weights.

    Attributes:
        count: K, the draws that make one bound.
        groups: M, the bounds that are averaged for each example.
        order: Of the Renyi bound; 0 is that of importance weighting.

    Raises:
        ValueError: Fewer than one draw or bound, an order of 1 or more.
    """

    count: int
    groups: int = 1
    order: float = 0.0

    def __post_init__(self) -> None:
        for name, number in (("particles", self.count), ("groups", self.groups)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"{name} is a number of draws, 1 or more, not {number!r}")
        if not 0 <= self.order < 1:
            raise ValueError(
                f"the order lies from 0 up to, but not at, 1 (dg.elbo), not at {self.order!r}"
            )

    def bound(self, weights: Tensor) -> Tensor:
        """Return the bounds `[M, n]` of log-weights `[K M, n]`."""
        power = 1 - self.order
        total = (power * self.grouped(weights)).logsumexp(0)
        return (total - math.log(self.count)) / power

    def grouped(self, weights: Tensor) -> Tensor:
        """View log-weights `[K M, n]` as `[K, M, n]`."""
        return weights.unflatten(0, (self.count, self.groups))

    def normalised(self, weights: Tensor) -> Tensor:
        """Return the weights of each bound, which sum to one, `[K M, n]`."""
        return ((1 - self.order) * self.grouped(weights)).softmax(0).flatten(0, 1)

    def without(self, weights: Tensor) -> Tensor:
        """Return the bounds `[K M, n]` in which the other draws stand in for each one."""
        grouped = self.grouped(weights)
        others = (grouped.sum(0) - grouped) / (self.count - 1)
        itself = torch.eye(self.count, dtype=torch.bool, device=weights.device)
        every = torch.where(itself[:, :, None, None], others[:, None], grouped[None])
        power = 1 - self.order
        return ((power * every).logsumexp(1) - math.log(self.count)).flatten(0, 1) / power


def log_weights(divergence: KullbackLeibler, at: Round, *, particles: int) -> Tensor:
    """Return the log-weights of several draws for each row of a batch, `[n, particles]`."""
    return weigher(divergence, particles)(at)


def weigher(divergence: KullbackLeibler, particles: int) -> Callable[[Round], Tensor]:
    """Plan once what returns the log-weights `[n, particles]` of batch after batch."""
    weighing = _Weighing(divergence.plan, Particles(particles))
    inner = weighing.inner

    def weights(at: Round) -> Tensor:
        at = inner.in_rows(at)
        drawn = inner.latents.draw(at)
        return weighing.log_weights(drawn, inner.scored(drawn, at), drawn.trace).T

    return weights


@final
class _Weighing:
    """What turns draws into weights: no term is integrated, all draws are of one kind."""

    def __init__(self, plan: KLPlan, particles: Particles) -> None:
        self.particles = particles
        self.inner = KullbackLeibler(replace(plan, closed={}))
        copies = particles.count * particles.groups
        self.inner.latents = replace(self.inner.latents, copies=copies)
        how = plan.how
        self._listed = {n for n in how if isinstance(how[n], Enumerate)}
        self.entries = [
            e for e in self.inner.entries if not (e.kind == "a" and e.name in self._listed)
        ]

    def log_weights(self, drawn: Drawn, scored: Trace, own: Trace) -> Tensor:
        """Return log b - log a, states summed out, `[K M, n]`."""
        terms = [
            self.inner.density(e.name, drawn, own)
            if e.kind == "a"
            else self.inner.term(e, drawn, scored)
            for e in self.entries
        ]
        cost = reduce(add, align(terms))
        copies = drawn.copies
        if drawn.log_weight is None:
            return -tile(cost, drawn.n * copies).unflatten(0, (copies, drawn.n))
        possible = drawn.log_weight > -torch.inf
        weight = torch.where(possible, -tile(cost, drawn.rows), -torch.inf)
        return weight.unflatten(0, (-1, copies, drawn.n)).logsumexp(0)


@final
class ImportanceWeighted(Divergence):
    """Minus the importance-weighted bound; for one player, or for model and inference apart."""

    def __init__(
        self, plan: KLPlan, particles: Particles, players: tuple[Player, ...] | None = None
    ) -> None:
        _check(plan, particles)
        self.particles, self._weighing = particles, _Weighing(plan, particles)
        self.plan, self._inner = plan, self._weighing.inner
        self.a, self.b, self.names, self.shapes = plan.a, plan.b, plan.names, plan.shapes
        self.partial, self._given = plan.choices.partial, self._inner.given
        self.plates, self.eager = self._inner.plates, self._inner.eager
        self.players = self._inner.players if players is None else players
        self._doubly = any(isinstance(e, Pathwise) and e.doubly for e in plan.how.values())

    @property
    def title(self) -> str:
        """The bound, and the variables."""
        k, m = self.particles.count, self.particles.groups
        kind = "MIWAE" if m > 1 else "Renyi" if self.particles.order else "IWAE"
        return f"{kind}-{k} over {', '.join(self.names)}"

    @property
    def given(self) -> tuple[str, ...]:
        """The variables that a batch must hold."""
        return self._given

    def loss(self, player: str, at: Round) -> Tensor:
        """Return minus the batch mean of the bound, in nats."""
        at = self._inner.in_rows(at)
        drawn = self._inner.latents.draw(at)
        scored = self._inner.scored(drawn, at)
        if player == "inference":
            return self._wake(drawn, scored)
        if self._doubly:
            return self._doubled(drawn, scored, at)
        weights = self._weighing.log_weights(drawn, scored, drawn.trace)
        bound = self.particles.bound(weights)
        loss = -bound.mean()
        return loss - self._surrogate(drawn, weights, bound) if self.plan.scored else loss

    def _surrogate(self, drawn: Drawn, weights: Tensor, bound: Tensor) -> Tensor:
        """Return zero, with the gradient of the score function: VIMCO."""
        share = (bound[None] - self.particles.grouped(self.particles.without(weights))).detach()
        scores = [self._inner.density(n, drawn, drawn.trace) for n in self.plan.scored]
        score = reduce(add, (tile(s, drawn.n * drawn.copies) for s in scores))
        score = self.particles.grouped(score.unflatten(0, (drawn.copies, drawn.n)))
        total = (share * score).sum() / bound.numel()
        return total - total.detach()

    def _wake(self, drawn: Drawn, scored: Trace) -> Tensor:
        """Return the cross entropy of q at the weighted draws: the wake phase of q."""
        own = self._inner.rescored(drawn, self._inner.fixed(drawn.trace.values))
        with torch.no_grad():
            weights = self._weighing.log_weights(drawn, scored, drawn.trace)
            share = self.particles.normalised(weights)
        return -(share * self._score(drawn, own)).sum() / (drawn.n * self.particles.groups)

    def _doubled(self, drawn: Drawn, scored: Trace, at: Round) -> Tensor:
        """Return the loss with the doubly reparametrised gradient.

        The path through each draw is scaled by its share, on top of the share that the bound
        gives it; log q counts at the draws alone. For a bound of order a the factor is
        a + (1 - a) share, from the derivative (1 - a) (share - share^2) of a share.
        """
        with torch.no_grad():
            weights = self._weighing.log_weights(drawn, scored, drawn.trace)
            share, bound = self.particles.normalised(weights), self.particles.bound(weights)
        values = drawn.trace.values
        fixed = self._inner.fixed(values)
        order = self.particles.order
        factor = (order + (1 - order) * share).flatten()
        sizes = drawn.trace.sizes

        def path(name: str) -> Tensor:
            own = self.plates.get(name, ())
            return _scaled(
                values[name], factor if sizes is None else sizes.aligned(factor, (), own)
            )

        paths = {n: path(n) for n in fixed}
        own = self._inner.rescored(drawn, paths)
        scored = self._inner.scored(drawn, at, values | paths)
        weights = self._weighing.log_weights(drawn, scored, own)
        still = self._inner.rescored(drawn, fixed)
        total = (share * (weights + self._score(drawn, still))).sum() / bound.numel()
        return total.detach() - total - bound.mean()

    def _score(self, drawn: Drawn, own: Trace) -> Tensor:
        """Return log q of all latents, `[K M, n]`."""
        scores = (self._inner.density(n, drawn, own) for n in self.plan.terms_a)
        score = reduce(add, align([*scores]))
        return tile(score, drawn.n * drawn.copies).unflatten(0, (drawn.copies, drawn.n))

    def ledger(self) -> tuple[Term, ...]:
        """Say how it is estimated."""
        kept = [Term(*row) for row in self._inner.ledger() if row.estimator == "left out"]
        groups = f", {self.particles.groups} bounds of them" if self.particles.groups > 1 else ""
        how = drawn_how(self.plan, self.particles.count) + groups
        how += f"; {self.plan.sum.how}" if self.plan.sum is not None else ""
        if self.plan.scored:  # the same idea, for a bound: VIMCO
            how = how.replace("leave-one-out baseline", "leave-one-out bounds")
        why = "a closed form of one term would not be a weight"
        term = f"-log mean w, w = p / q over {', '.join(self.names)}"
        rows = [Term(p.name, term, how, why) for p in self.players if p.name != "inference"]
        if len(rows) < len(self.players):
            rows.append(
                Term("inference", "-sum w log q, w normalised", how, "the wake phase of q")
            )
        return (*rows, *kept)

    def latex(self) -> Mapping[str, str]:
        """Return the expectation that is minimised."""
        over, ratio = kl_ratio_latex(self.plan)
        drawn = [n for n in self.a.graph.order if n not in self.a.given]
        draws = ", ".join(f"{{{label(n)}}}^{{(k)}}" for n in drawn)
        weight = rf"\left.{ratio}\right|_{{{draws}}}"
        k, power = self.particles.count, 1 - self.particles.order
        if power != 1:
            weight = rf"\left({weight}\right)^{{{power:g}}}"
        mean = rf"\frac{{1}}{{{k}}} \sum_{{k=1}}^{{{k}}} {weight}"
        scale = "" if power == 1 else rf"\tfrac{{1}}{{{power:g}}}"
        line = rf"\mathbb{{E}}_{{{over}}}\left[-{scale}\log {mean}\right]"
        return {p.name: line for p in self.players}


def _scaled(value: Tensor, factor: Tensor) -> Tensor:
    """Return a value as it is, with its gradient multiplied row by row."""
    fixed = value.detach()
    return fixed + factor.reshape(-1, *[1] * (value.dim() - 1)) * (value - fixed)


def _check(plan: KLPlan, particles: Particles) -> None:
    """Refuse what would be biased, or is no bound.

    Raises:
        InadmissibleError: Says why.
    """
    doubly = {n: isinstance(e, Pathwise) and e.doubly for n, e in plan.how.items()}
    for name, estimator in plan.how.items():
        stops = isinstance(estimator, Pathwise) and estimator.stop_score and not estimator.doubly
        if stops and particles.count > 1:
            raise InadmissibleError(
                f"sticking the landing is biased for {particles.count} draws of {name} in one"
                " bound (Tucker et al. 2019); use dg.estimators.DREG"
            )
    if any(doubly.values()) and not all(doubly.values()):
        others = ", ".join(n for n in doubly if not doubly[n])
        raise InadmissibleError(
            f"the doubly reparametrised gradient is that of all latents together, but {others}"
            " is drawn otherwise; use dg.estimators.DREG for all or for none"
        )
    listed = [n for n, e in plan.how.items() if isinstance(e, Enumerate)]
    if plan.scored and listed:
        raise InadmissibleError(
            f"a bound of several draws takes {', '.join(listed)} summed over states or"
            f" {', '.join(plan.scored)} by the score function, not both; say which in gradients"
        )
    for name, estimator in plan.how.items():
        if isinstance(estimator, ScoreFunction) and estimator.baseline is not None:
            raise InadmissibleError(
                f"a learned baseline of {name} is for single draws, as in dg.elbo; in a bound of"
                " several each draw is compared with the others: score_function() without one"
            )
        if isinstance(estimator, Relaxed) and not estimator.hard:
            raise InadmissibleError(
                f"a relaxed draw of {name} is no state, so p / q of it is no weight; use"
                " dg.estimators.straight_through, ENUMERATE or score_function()"
            )
    if plan.scored and particles.count < 2:
        raise InadmissibleError(
            f"a leave-one-out baseline for {', '.join(plan.scored)} compares draws, so it takes"
            f" two particles or more, not {particles.count}"
        )
