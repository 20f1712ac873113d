r"""The Kullback-Leibler divergence between joints that have densities, term by term.

$$\mathrm{KL}(a \Vert b) = \mathbb{E}_a[\sum_v \log a(v \mid .) - \sum_v \log b(v \mid .)]$$

The draws come from a. Where both sides score a variable and the pair of distributions has a
closed form, that term is integrated exactly; every other term is averaged over the draws.
The entropy of an empirical side is a constant and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import final

import torch
from torch import Tensor, nn

from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.estimators import Estimator, Pathwise
from daguerre.objectives.evidence import MarginalLikelihood, is_marginal
from daguerre.objectives.kl_plan import Entry, KLPlan, choose, cross_entropy_plan, kl_plan
from daguerre.objectives.kl_words import kl_latex, kl_ledger
from daguerre.objectives.latents import Drawn, Latents, shared_keys
from daguerre.objectives.objective import Divergence, Objective, Player, Round, Term
from daguerre.objectives.rates import Rate, Rates
from daguerre.objectives.schedules import at_step
from daguerre.objectives.score import ScoreFunctions
from daguerre.objectives.sides import modules_of, repeating
from daguerre.program import Trace
from daguerre.queries import entered
from daguerre.repeats import Sizes
from daguerre.rows import align, is_missing, tile
from daguerre.scoring import complete, negative_log_density, sum_event
from daguerre.structure.recurrence import TIME, blocks, upstream

__all__ = ["KL", "KullbackLeibler", "cross_entropy", "in_rows"]


def KL(  # noqa: N802 - the field's name
    a: Factor | Joint,
    b: Factor | Joint,
    *,
    gradients: Estimator | Mapping[str, Estimator] | None = None,
) -> Objective:
    r"""Return $\mathrm{KL}(a \Vert b)$ as an objective: draws of a, densities of both.

    With data on the left, `KL(data, p)` is maximum likelihood and `KL(data * q, p)` the negative
    ELBO, both up to the entropy of the data. Where p has variables that the data lacks,
    `KL(data, p["x"])`, exact inference integrates them out if it can.

    Args:
        a: The side that is drawn from.
        b: The side whose density is fitted; must cover the same variables.
        gradients: How gradients get past the draws of a, for all its latents or by name; see
            `dg.estimators`. By default pathwise where draws carry a gradient, else a sum over few
            states, else the score function with a leave-one-out baseline.

    Raises:
        InadmissibleError: A density or a gradient that is needed does not exist.
        GraphError: The sides differ in variables or shapes.

    References:
        Kullback and Leibler (1951). Kingma and Welling (2014, arXiv 1312.6114) for the ELBO.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> a, b = dg.model(x=Normal(0.0, 1.0)), dg.model(x=Normal(1.0, 1.2))
        >>> round(KL(a, b).losses(1)["model"].item(), 6)
        0.376766
    """
    one, other, choices = as_joint(a), as_joint(b), choose(gradients)
    if is_marginal(one, other):
        return Objective(((1.0, MarginalLikelihood(one, other)),))
    return Objective(((1.0, KullbackLeibler(kl_plan(one, other, choices))),))


def cross_entropy(
    a: Factor | Joint,
    b: Factor | Joint,
    *,
    of: str | Iterable[str],
    partial: Iterable[str] = (),
    gradients: Estimator | Mapping[str, Estimator] | None = None,
    players: Mapping[str, nn.Module] | None = None,
) -> Objective:
    r"""Return $\mathbb{E}_a[-\log b(v \mid \cdot)]$: how well b predicts some variables of a.

    It is the reconstruction of an autoencoder, `cross_entropy(data * q, p, of="x")`; the bound of
    InfoGAN, `cross_entropy(p, q, of="c")`; the loss of a classifier, `cross_entropy(data, q,
    of="y")`; and the sleep phase of wake-sleep.

    Args:
        a: The side that is drawn from.
        b: The side that predicts; what its CPDs depend on must be drawn by a.
        of: The variables that are predicted.
        partial: Those that the data holds for some rows only: NaN, or a negative integer, marks a
            row where it does not. The mean is over the rows that hold them.
        gradients: As for `KL`.
        players: Who plays, and with which module; by default one player, `"model"`, with all.
            Draws of a model that no player moves are held fixed.

    Raises:
        InadmissibleError: A density or a gradient that is needed does not exist.
        GraphError: An unknown variable, or one that a does not draw.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> torch.manual_seed(0); loss = cross_entropy(p, q, of="z").losses(400_000)["model"]
        <torch._C.Generator object at ...>
        >>> round(loss.item(), 2)  # the entropy of z given x, as q is the posterior
        1.07
    """
    one, other = as_joint(a), as_joint(b)
    movers = None if players is None else tuple(Player(k, (m,)) for k, m in players.items())
    moved = {m for p in movers for m in p.modules} if movers is not None else {*one.modules}
    choices = choose(gradients, partial, learns=bool(moved & {*one.modules}))
    names = (of,) if isinstance(of, str) else tuple(of)
    plan = cross_entropy_plan(one, other, names, choices)
    return Objective(((1.0, KullbackLeibler(plan, players=movers)),))


@final
class KullbackLeibler(Divergence):
    """E_a[log a - log b], or some of its terms, computed as its plan says."""

    def __init__(
        self,
        plan: KLPlan,
        *,
        rates: Rates | None = None,
        players: tuple[Player, ...] | None = None,
    ) -> None:
        self.plan, self.rates = plan, dict(rates or {})
        self.a, self.b, self.names, self.shapes = plan.a, plan.b, plan.names, plan.shapes
        self.plates = repeating(plan.a, plan.b)
        self.partial, self.entries = plan.choices.partial, plan.entries()
        graph = plan.a.graph
        drawn = {n for n in graph.names if n not in plan.a.given}
        held = {*plan.a.given, *plan.b.given} - drawn - {*self.partial}
        self.latents = Latents(
            plan.a.program,
            plan.a.given,
            plan.how,
            partial=self.partial,
            learns=plan.choices.learns,
            copies=plan.copies,
            keys=shared_keys(plan.a, held),
            blocks=blocks(graph, frozenset(plan.a.given)) if self.plates else (),
        )
        looping = any(block.direction for block in self.latents.blocks)
        self.recurs = looping or bool(plan.density.loops)
        keys = shared_keys(plan.b, held)
        self._keys = {n: key for n, key in keys.items() if n in plan.density.terms}
        latents = {*plan.how}
        self._moving = tuple(n for n in plan.own.names if latents & {n, *upstream(graph, [n])})
        inputs = (n for n in self.b.given if n not in self.a.names)
        self._given = tuple(dict.fromkeys((*self.a.given, *inputs, *self.partial)))
        self._still = tuple(
            v.name
            for v in graph.variables
            if not latents & {*upstream(graph, [v.name])} and not v.inverts
        )
        self._lacking = {n for n in self.partial if n in plan.a.data}
        self._scores = ScoreFunctions(plan)
        self._is_plain = not (self.rates or plan.scored or any(map(_stops, plan.how.values())))
        baselines = tuple(self._scores.baselines.values())
        movers = (Player("model", modules_of(plan.b, plan.a)),) if players is None else players
        self.players = (Player("baseline", baselines), *movers) if baselines else movers
        self.auxiliaries = ("baseline",) if baselines else ()
        self.eager = "" if plan.sum is None else plan.sum.eager

    @property
    def title(self) -> str:
        """KL, and the variables."""
        return f"{self.plan.title} over {', '.join(self.names)}"

    @property
    def given(self) -> tuple[str, ...]:
        """The variables that a batch must hold."""
        return self._given

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the batch mean of the divergence, in nats."""
        at = self.in_rows(at)
        drawn = self.latents.draw(at)
        terms = self.terms(drawn, self.scored(drawn, at))
        if self._is_plain:
            return self._mean(drawn, terms, at)
        terms = self._weighted(terms, at)
        if player == "baseline":
            return self._scores.regression(drawn, terms, at)
        mean = self._mean(drawn, {e: self._live(e, t, drawn) for e, t in terms.items()}, at)
        if not self._scores.names:
            return mean
        densities = {n: self.density(n, drawn, drawn.trace) for n in self._scores.names}
        return mean + self._scores.surrogate(drawn, terms, densities, at)

    def per_example(self, at: Round) -> Tensor:
        """Return one estimate per row of the batch, in nats, shape `[n]`."""
        at = self.in_rows(at)
        drawn = self.latents.draw(at)
        terms = self.terms(drawn, self.scored(drawn, at)).values()
        return drawn.per_example(reduce(add, align([sum_event(term) for term in terms])))

    def in_rows(self, at: Round) -> Round:
        """Arrange what is given as rows; a sum over hidden states takes those of all steps."""
        return in_rows(at, self.plates, self.partial, ragged=self.plan.sum is None)

    def scored(self, drawn: Drawn, at: Round, values: Mapping[str, Tensor] | None = None) -> Trace:
        """Evaluate b on what was drawn, or on other values of it."""
        found = drawn.trace.values if values is None else values
        known = {k: found[k] if k in found else at.given[k] for k in (*self.names, *self.b.given)}
        held = {name: drawn.seen[name] for name in self._lacking}
        if not self._keys:
            trace = complete(self.b.program, self.plan.density, known, {}, at.n, at.sizes)
            return trace._replace(held=held)
        kept = {n: at.memo[key] for n, key in self._keys.items() if key in at.memo}
        trace = complete(self.b.program, self.plan.density, known, kept, at.n, at.sizes)
        at.memo.update({key: trace.outcomes[n] for n, key in self._keys.items()})
        return trace._replace(held=held)

    def terms(self, drawn: Drawn, scored: Trace) -> dict[Entry, Tensor]:
        """Return every term of the sum, `[rows]`; `[rows, *event]` where a rule looks at parts."""
        return {entry: self.term(entry, drawn, scored) for entry in self.entries}

    def term(self, entry: Entry, drawn: Drawn, scored: Trace) -> Tensor:
        """Return one term of the sum."""
        name = entry.name
        if entry.kind == "sum":
            assert self.plan.sum is not None, "it has planned one"
            return self.plan.sum.surprisal(drawn, scored)
        if entry.kind == "b":
            return self.surprisal(name, drawn, scored)
        if entry.kind == "closed":
            value = self._exact(name, drawn, scored)
            if scored.sizes is not None:
                value = scored.sizes.fold(value, self.b.program.by_name[name].plates)
            return value if isinstance(self.rates.get(name), Rate) else sum_event(value)
        return self.density(name, drawn, drawn.trace)

    def surprisal(self, name: str, drawn: Drawn, scored: Trace) -> Tensor:
        """Return -log b of one variable, `[rows]`; 0 where the data lacks it."""
        term = negative_log_density(self.b.program.by_name[name], scored)
        if name not in self._lacking or self.plan.joint or self.plates.get(name):
            return term
        held = drawn.peers.mean(drawn.seen[name].to(term.dtype).mean())
        return term / held.clamp_min(1 / (drawn.n * drawn.peers.world))

    def density(self, name: str, drawn: Drawn, trace: Trace) -> Tensor:
        """Return the log-density of one variable of a, `[rows]`; 0 where the data holds it."""
        if name in drawn.listed and trace is drawn.trace:
            density = drawn.listed[name]
        else:
            density = -negative_log_density(self.a.program.by_name[name], trace)
        if name not in drawn.seen:
            return density
        return density.masked_fill(tile(drawn.seen[name], len(density)), 0.0)

    def _live(self, entry: Entry, term: Tensor, drawn: Drawn) -> Tensor:
        """Take out of a term of a the gradient that its estimator leaves out."""
        if entry.kind != "a":
            return term
        if entry.name in self.plan.scored:  # its own gradient has mean zero
            return term.detach()
        if _stops(self.plan.how.get(entry.name)):
            return term - self.score(entry.name, drawn)
        return term

    def score(self, name: str, drawn: Drawn) -> Tensor:
        """Return zeros `[rows]` whose gradient is that of log a at the draws, these held fixed."""
        density = self.density(name, drawn, self.rescored(drawn, self.fixed(drawn.trace.values)))
        return density - density.detach()

    def fixed(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the values of what a draws, without their gradients."""
        return {n: values[n].detach() for n in self._moving}

    def rescored(self, drawn: Drawn, values: Mapping[str, Tensor]) -> Trace:
        """Evaluate a at values of its own; what depends on no draw is not computed again."""
        kept = {n: drawn.trace.outcomes[n] for n in self._still if n in drawn.trace.outcomes}
        known = {n: drawn.trace.values[n] for n in (*self.a.given, *self.plan.own.names)}
        sizes = drawn.trace.sizes
        return complete(self.a.program, self.plan.own, known | dict(values), kept, drawn.n, sizes)

    def _exact(self, name: str, drawn: Drawn, scored: Trace) -> Tensor:
        """Integrate both terms of a variable by its rule, `[rows, *event]`."""
        sides = (self.a.program.by_name[name], drawn.trace), (self.b.program.by_name[name], scored)
        outcomes = [trace.outcomes[name] for _, trace in sides]
        repeats = scored.sizes
        if all(step.is_root for step, _ in sides):
            value = self.plan.closed[name](*outcomes)[None]
            rows = 1 if repeats is None else repeats.rows(sides[0][0].plates)
            return value.expand(rows, *value.shape[1:])
        sizes = [
            0 if step.is_root else step.rows(trace.values, 0, repeats) for step, trace in sides
        ]
        if 0 < min(sizes) < max(sizes):  # one side depends on more draws than the other
            outcomes = [step.outcome(trace.values, max(sizes), repeats) for step, trace in sides]
        return self.plan.closed[name](*outcomes)

    def _mean(self, drawn: Drawn, terms: Mapping[Entry, Tensor], at: Round) -> Tensor:
        """Add up the terms, those of the same rows first, and average each sum."""
        sums: dict[int, Tensor] = {}
        shaped: dict[str, Tensor] = {}
        for entry, term in terms.items():
            if isinstance(self.rates.get(entry.name), Rate):
                value = drawn.per_example(term)
                shaped[entry.name] = shaped[entry.name] + value if entry.name in shaped else value
            else:
                sums[len(term)] = sums[len(term)] + term if len(term) in sums else term
        means = [drawn.average(value) for value in sums.values()]
        for name, value in shaped.items():
            rule = self.rates[name]
            assert isinstance(rule, Rate)
            means.append(rule.value(at.peers.rows(value), at.step))
        return reduce(add, means)

    def _weighted(self, terms: dict[Entry, Tensor], at: Round) -> dict[Entry, Tensor]:
        """Multiply the terms of a latent with what its rate counts, where that is a number."""
        weights = {
            name: at_step(rate, at.step)
            for name, rate in self.rates.items()
            if not isinstance(rate, Rate)
        }
        return {e: weights[e.name] * t if e.name in weights else t for e, t in terms.items()}

    def ledger(self) -> tuple[Term, ...]:
        """Say of each term whether it is exact, averaged, or a constant left out."""
        player = next(p.name for p in self.players if p.name != "baseline")
        rows = [Term(player, *row) for row in kl_ledger(self.plan, self.rates)]
        for name in self._scores.baselines:
            row = (f"baseline of {name}", "least squares", "lowers the variance, changes no mean")
            rows.append(Term("baseline", *row))
        return tuple(rows)

    def latex(self) -> dict[str, str]:
        """Return the expectation that is minimised, closed terms first."""
        return {
            p.name: kl_latex(self.plan, self.rates) for p in self.players if p.name != "baseline"
        }


def in_rows(
    at: Round,
    plates: Mapping[str, Sequence[str]],
    partial: Iterable[str] = (),
    *,
    ragged: bool = True,
) -> Round:
    """Arrange what is given `[n, *plates, *event]` as rows; as it is where nothing repeats.

    A sequence ends with the last step that holds something of what may be lacking. Steps beyond
    get no rows, unless all sequences are to have as many, as they must in compiled code.
    """
    if not plates or at.sizes is not None:
        return at
    sizes = Sizes.met(at.given, plates, at.n)._replace(whole=at.whole)
    rows = entered(at.given, plates, sizes)
    if those := [name for name in partial if TIME in plates[name]]:
        held = [~is_missing(rows[name]) for name in those]
        sizes = sizes.until_the_end(held, [plates[name] for name in those])
    if ragged and not torch.compiler.is_compiling():
        sizes = sizes.without_ends()
        rows = {name: sizes.there(value, plates.get(name, ())) for name, value in rows.items()}
    memo = at.memo if sizes.ragged is None else {}  # what others keep there is of all steps
    return replace(at, given=rows, sizes=sizes, memo=memo)


def _stops(estimator: Estimator | None) -> bool:
    return isinstance(estimator, Pathwise) and estimator.stop_score
