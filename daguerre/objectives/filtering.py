r"""The bound of a particle filter over a chain: draws are weighed and chosen anew on the way.

$$\mathcal{L} = \mathbb{E} \log \hat p(x_{1:T}) \le \log p(x_{1:T}), \qquad
  w_t = \frac{p(z_t \mid z_{t-1})\, p(x_t \mid z_t)}{q(z_t \mid z_{t-1}, x)}$$

where $\hat p$ is the product of the mean weights between resamplings, an unbiased estimate of the
evidence, and $z_{t-1}$ the state that a particle comes from. Where none is chosen anew it is the
importance-weighted bound, which falls behind as chains grow long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.draw.labels import label
from daguerre.families import surprisal
from daguerre.graph import InadmissibleError
from daguerre.infer.approximate.psis import effective_size
from daguerre.infer.approximate.smc import systematic
from daguerre.objectives.density import in_rows
from daguerre.objectives.estimators import Pathwise
from daguerre.objectives.kl_plan import KLPlan
from daguerre.objectives.kl_words import drawn_how
from daguerre.objectives.latents import filled
from daguerre.objectives.objective import Divergence, Player, Round, Term
from daguerre.objectives.sides import modules_of, repeating
from daguerre.objectives.slices import is_chain
from daguerre.parts import Part, Turn
from daguerre.program import Outcome, Program, Step, Values, misfit, realise, sample
from daguerre.repeats import Sizes
from daguerre.rows import as_copies, is_missing, tile
from daguerre.running import draw
from daguerre.scoring import sum_event
from daguerre.structure.recurrence import TIME, upstream

__all__ = ["Filtering"]


@final
class Filtering(Divergence):
    """Minus the bound of a particle filter whose proposals are q.

    Args:
        plan: KL(data q, p) over a chain.
        particles: K, for each sequence.
        threshold: Particles are chosen anew where their effective size falls below this share of
            them.

    Raises:
        InadmissibleError: No chain; a posterior that runs backwards; latents without pathwise
            draws; bijections, or variables known here and there.
    """

    eager = "time slices are run one by one, as many as a batch has"

    def __init__(self, plan: KLPlan, particles: int, threshold: float) -> None:
        if plan.sum is not None:
            raise InadmissibleError(
                f"a particle filter draws all latents, but q lacks {', '.join(plan.sum.hidden)};"
                " give q a CPD for it, or take dg.elbo or dg.iwae, which sum it out"
            )
        _check(plan, particles, threshold)
        self.plan, self.particles, self.threshold = plan, particles, threshold
        self.a, self.b, self.names, self.shapes = plan.a, plan.b, plan.names, plan.shapes
        self.partial = plan.choices.partial
        self.plates = repeating(plan.a, plan.b)
        self.players = (Player("model", modules_of(plan.b, plan.a)),)
        inputs = (n for n in self.b.given if n not in self.a.names)
        self._given = tuple(dict.fromkeys((*self.a.given, *inputs)))
        graph, latents = plan.a.graph, {*plan.how}
        random = {n for n in graph.names if latents & {n, *upstream(graph, [n])}}
        _check_direction(random, plan)
        program = plan.a.program  # what reads the data alone is run before, all slices at once
        still = tuple(step for step in program.steps if step.name not in random)
        self._reading = Program(graph, still, program.by_name)

    @property
    def title(self) -> str:
        """The bound, and the variables."""
        return f"FIVO-{self.particles} over {', '.join(self.names)}"

    @property
    def given(self) -> tuple[str, ...]:
        """The variables that a batch must hold."""
        return self._given

    def loss(self, player: str, at: Round) -> Tensor:
        """Return minus the batch mean of the bound, in nats."""
        return -self.log_evidence(at).mean()

    def log_evidence(self, at: Round) -> Tensor:
        """Return an estimate of the log-evidence of each row, whose exponential is unbiased."""
        at = in_rows(at, self.plates, self.partial, ragged=False)
        assert at.sizes is not None, "a chain has slices"
        missing = {n: is_missing(at.given[n]) for n in self.partial}
        known = {n: filled(v, missing[n]) if n in missing else v for n, v in at.given.items()}
        held = {n: ~lacks for n, lacks in missing.items()}
        own = {n: known[n] for n in self.a.given}
        read = draw(self._reading, at.n, own, pathwise=True, sizes=at.sizes).values
        sides = (
            _Side.of(self.a.program, read, at.sizes, held),
            _Side.of(self.b.program, known, at.sizes, held),
        )
        return _Filter(sides, at.sizes, self.particles, self.threshold).run()

    def ledger(self) -> tuple[Term, ...]:
        """Say how it is estimated."""
        how = drawn_how(self.plan, self.particles)
        chosen = f"chosen anew where their effective size is below {self.threshold:g} of them"
        why = "the gradient leaves out the choice, which would add much noise and little else"
        term = f"-log p^(x), the product over t of mean w[t] over {', '.join(self.names)}"
        return (Term("model", term, f"{how}, {chosen}", why),)

    def latex(self) -> Mapping[str, str]:
        """Return the expectation that is minimised."""
        k = self.particles
        seen = ", ".join(label(n, ["1:T"]) for n in self.names if n in self.a.data)
        mean = rf"\frac{{1}}{{{k}}} \sum_{{k=1}}^{{{k}}} w_t^{{(k)}}"
        line = rf"\mathbb{{E}}_{{p_{{\mathrm{{data}}}}({seen})}}\left[-\log \prod_{{t=1}}^{{T}} "
        return {"model": rf"{line}{mean}\right]"}


@dataclass(frozen=True, eq=False)
class _Side:
    """One side of the weights, slice by slice.

    Attributes:
        parts: What is drawn, mapped or scored in each slice, parents first.
        known: Per part, the slices of what its CPD takes that is known.
        data: The slices of variables that are observed, to be scored.
        held: Which rows of a slice hold something of such a variable, if some lack it.
    """

    parts: tuple[Part, ...]
    known: tuple[Sequence[Sequence[Tensor]], ...]
    data: Mapping[str, Sequence[Tensor]]
    held: Mapping[str, Sequence[Tensor]]

    @classmethod
    def of(
        cls, program: Program, values: Values, sizes: Sizes, held: Mapping[str, Tensor]
    ) -> _Side:
        """Cut what is known into slices."""
        turn = Turn(sizes)
        made = frozenset(n for n in program.graph.names if n not in values)
        steps = [step for step in program.steps if _counts(step, made)]
        parts = tuple(Part.of(step, values, made, turn) for step in steps)
        known = tuple([one.unbind(0) for one in part.known] for part in parts)
        data = {
            s.name: values[s.name].unflatten(0, (-1, sizes.n)) for s in steps if s.name in values
        }
        there = {name: held[name].unflatten(0, (-1, sizes.n)) for name in data if name in held}
        return cls(
            parts,
            known,
            {name: rows.unbind(0) for name, rows in data.items()},
            {name: rows.unbind(0) for name, rows in there.items()},
        )


def _counts(step: Step, made: frozenset[str]) -> bool:
    return step.cpd is not None and (step.name in made or step.variable.map == "stochastic")


class _Filter:
    """Particles on their way, `[K, n]` of them.

    Args:
        sides: q, which draws, and p.
        sizes: How many there are of what repeats.
        count: K.
        threshold: The share of them below which they are chosen anew.
    """

    def __init__(
        self, sides: tuple[_Side, _Side], sizes: Sizes, count: int, threshold: float
    ) -> None:
        self.sides, self.sizes, self.count, self.threshold = sides, sizes, count, threshold
        drawn: dict[str, list[Tensor]] = {part.name: [] for part in sides[0].parts}
        own: dict[str, list[Tensor]] = {
            part.name: [] for part in sides[1].parts if part.step.variable.map != "stochastic"
        }
        self.lists = [*drawn.values(), *own.values()]
        self.made = (drawn, {**drawn, **own})
        self.memory = max((part.reach for side in sides for part in side.parts), default=0)

    def run(self) -> Tensor:
        """Return the estimate of the log-evidence of each row, `[n]`."""
        total, log_weights = 0.0, -math.log(self.count)
        for t in range(self.sizes.of[TIME]):
            gains = self._slice(t)
            if self.sizes.active is not None:
                gains = torch.where(self.sizes.active[t], gains, 0.0)
            joint = log_weights + gains
            gain = joint.logsumexp(0)
            total = total + gain
            log_weights = self._chosen(joint - gain)
        assert isinstance(total, Tensor), "a sequence has a step"
        return total

    def _slice(self, t: int) -> Tensor:
        """Draw and score a slice: log p - log q, `[K, n]`."""
        terms: list[Tensor] = []
        for side, made, sign in zip(self.sides, self.made, (1.0, -1.0), strict=True):
            for part, known in zip(side.parts, side.known, strict=True):
                there = side.data.get(part.name, made.get(part.name, ()))
                value_of = partial(self._value, there=there, t=t)
                value, outcome = part.value(t, [one[t] for one in known], made, value_of)
                if len(there) == t:
                    made[part.name].append(value)
                if part.step.variable.map == "stochastic":
                    assert isinstance(outcome, Distribution), "a drawn one has been checked"
                    terms.append(sign * self._cost(side, part, t, outcome, value))
        return torch.stack(terms).sum(0)

    def _value(
        self,
        step: Step,
        outcome: Outcome,
        values: Values,
        rows: int,
        _: Sizes,
        *,
        there: Sequence[Tensor],
        t: int,
    ) -> Tensor:
        """Make rows for all particles, or take those that are there."""
        if step.variable.map == "stochastic" and not isinstance(outcome, Distribution):
            raise TypeError(f"{step}: {misfit(step, outcome)}")
        if len(there) > t:
            return there[t]
        every = self.count * self.sizes.n
        if isinstance(outcome, Distribution):
            return _drawn(step, outcome, every)
        return tile(realise(step, outcome, values, rows, pathwise=True), every)

    def _cost(self, side: _Side, part: Part, t: int, law: Distribution, value: Tensor) -> Tensor:
        """Return -log density of one variable in a slice, `[K, n]`."""
        every = self.count * self.sizes.n
        value = tile(value, every)
        if not part.step.is_root:
            value = as_copies(value, law.batch_shape[0])
        cost = sum_event(surprisal(law, value).reshape(every, -1))
        if part.name in side.held:
            cost = torch.where(tile(side.held[part.name][t], every), cost, 0.0)
        return as_copies(cost, self.sizes.n)

    def _chosen(self, log_weights: Tensor) -> Tensor:
        """Choose particles anew for the rows whose effective size is small."""
        count, n = log_weights.shape
        with torch.no_grad():
            poor = effective_size(log_weights) < self.threshold * count
            if not poor.any():
                return log_weights
            numbers = torch.arange(count, device=poor.device).unsqueeze(1)
            chosen = torch.where(poor, systematic(log_weights.exp()), numbers)
            rows = (chosen * n + torch.arange(n, device=poor.device)).flatten()
        for slices in self.lists:
            for i in range(max(0, len(slices) - self.memory), len(slices)):
                slices[i] = slices[i][rows]
        return torch.where(poor, -math.log(count), log_weights)


def _drawn(step: Step, law: Distribution, rows: int) -> Tensor:
    """Draw so many rows, all of each copy together."""
    if step.is_root:
        return sample(step, law.expand(torch.Size((rows, *law.batch_shape))), pathwise=True)
    if (copies := rows // law.batch_shape[0]) == 1:
        return sample(step, law, pathwise=True)
    wide = law.expand(torch.Size((copies, *law.batch_shape)))
    return sample(step, wide, pathwise=True).flatten(0, 1)


def _check(plan: KLPlan, particles: int, threshold: float) -> None:
    """Refuse what is no filter over a chain.

    Raises:
        InadmissibleError: Says why.
        ValueError: No number of particles, no share.
    """
    if isinstance(particles, bool) or not isinstance(particles, int) or particles < 1:
        raise ValueError(f"particles is a number of draws, 1 or more, not {particles!r}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a share of the particles, 0 to 1, not {threshold!r}")
    if not is_chain(plan.b):
        raise InadmissibleError(
            "a filter runs over time, but no variable of p has a parent in an earlier time slice;"
            " use dg.iwae, or dg.lag"
        )
    _check_draws(plan)
    both = {v.name: v for v in (*plan.a.graph.variables, *plan.b.graph.variables)}
    for v in both.values():
        if inner := [plate for plate in v.plates if plate != TIME]:
            raise InadmissibleError(
                f"{v.name} is in the plate {inner[0]}, which a filter does not take; use dg.iwae,"
                " or make its members a dimension of the event"
            )
        if v.inverts is not None:
            raise InadmissibleError(f"{v.name} is a bijection, which a filter does not take")


def _check_draws(plan: KLPlan) -> None:
    """Refuse draws without a pathwise gradient, and latents that are known here and there.

    Raises:
        InadmissibleError: Says which variable.
    """
    for name, estimator in plan.how.items():
        if not isinstance(estimator, Pathwise) or estimator.stop_score:
            raise InadmissibleError(
                f"{name} is drawn by {estimator}, but a filter takes draws with a pathwise"
                " gradient; sum discrete states out exactly (dg.nll), or use dg.iwae"
            )
    for name in plan.choices.partial:
        if name not in plan.a.data or name in plan.how:
            raise InadmissibleError(
                f"{name} is partial, but a filter takes gaps in what is only observed"
            )


def _check_direction(random: set[str], plan: KLPlan) -> None:
    """Refuse what looks ahead at latents.

    Raises:
        InadmissibleError: Says which variable.
    """
    for side, names in ((plan.a, random), (plan.b, {*plan.b.graph.names} - {*plan.a.data})):
        for name in names:
            if ahead := [lag for lag in side.graph[name].lags if lag.steps < 0]:
                raise InadmissibleError(
                    f"{name} follows {ahead[0].variable} of a later time slice, but a filter runs"
                    " forwards; let q read what is observed backwards, not its own draws"
                )
