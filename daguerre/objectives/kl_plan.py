"""The plan of a divergence between densities: its terms, and how each is computed.

A plan is a value that can be read without running anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from torch.distributions import Distribution

from daguerre.graph import GraphError, InadmissibleError, did_you_mean
from daguerre.joint import Joint
from daguerre.objectives.closed_forms import Rule, closed_form, is_infinite
from daguerre.objectives.estimators import (
    PATHWISE,
    Enumerate,
    Estimator,
    Pathwise,
    Relaxed,
    ScoreFunction,
    automatic,
)
from daguerre.objectives.evidence import hidden_names
from daguerre.objectives.rates import Rate, Rates
from daguerre.objectives.sides import (
    PairShapes,
    in_step,
    integrates_out,
    pair_shapes,
    shapes_alone,
    shared_names,
)
from daguerre.objectives.summed import Sum, sum_out
from daguerre.scoring import DensityPlan, density_plan
from daguerre.structure.recurrence import upstream

__all__ = [
    "Choices",
    "Entry",
    "KLPlan",
    "check_rates",
    "choose",
    "cross_entropy_plan",
    "kl_plan",
    "late_parents",
]


class Choices(NamedTuple):
    """What users choose about an estimate.

    Attributes:
        gradients: The estimator of all latents, or of each by name.
        partial: Variables that the data holds for some examples only.
        learns: Whether the parameters of the first side move.
    """

    gradients: Estimator | Mapping[str, Estimator] | None = None
    partial: tuple[str, ...] = ()
    learns: bool = True


def choose(
    gradients: Estimator | Mapping[str, Estimator] | None,
    partial: str | Iterable[str] = (),
    *,
    learns: bool = True,
) -> Choices:
    """Check what a user has chosen.

    Raises:
        TypeError: Something that is no estimator.
    """
    for one in gradients.values() if isinstance(gradients, Mapping) else [gradients]:
        if one is not None and not isinstance(one, Estimator):
            raise TypeError(
                "gradients takes estimators such as dg.estimators.ENUMERATE or"
                f" score_function(draws=4), for all latents or by name, not {one!r}"
            )
    return Choices(gradients, (partial,) if isinstance(partial, str) else tuple(partial), learns)


class Entry(NamedTuple):
    """One term of the sum.

    Attributes:
        kind: log a, -log b, both integrated by a rule, or -log b of all, summed over the rest.
        name: The variable; of a sum, all that it is the density of.
        reach: Latents whose draws can change the term.
        follows: Those of them that are drawn for the score function.
    """

    kind: Literal["a", "b", "closed", "sum"]
    name: str
    reach: frozenset[str] = frozenset()
    follows: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class KLPlan:
    """How E_a[log a - log b], or a part of it, is computed.

    Attributes:
        a: The side that is drawn from.
        b: The side whose density is fitted.
        names: The variables that both are over.
        shapes: What is known of the variables without data.
        density: How the density of b follows from values of `names`.
        own: How that of a follows.
        terms_a: Variables of a that contribute, without those of data.
        terms_b: Variables of b that contribute.
        closed: Variables whose two terms a rule integrates exactly.
        how: The estimator of each latent.
        choices: What was chosen.
        title: What is computed.
        joint: Whether it is of joints: what a row lacks then costs it nothing. Otherwise the mean
            is over the rows that hold what is predicted.
        symbols: The letters of the two sides in formulas.
        sum: How the density of b sums over finite variables that a does not draw, if it does.
    """

    a: Joint
    b: Joint
    names: tuple[str, ...]
    shapes: PairShapes
    density: DensityPlan
    own: DensityPlan
    terms_a: tuple[str, ...]
    terms_b: tuple[str, ...]
    closed: Mapping[str, Rule] = field(default_factory=dict)
    how: Mapping[str, Estimator] = field(default_factory=dict)
    choices: Choices = field(default_factory=Choices)
    title: str = "KL"
    joint: bool = True
    symbols: tuple[str, str] = ("q", "p")
    sum: Sum | None = None

    @property
    def sampled_a(self) -> tuple[str, ...]:
        """Variables whose term of a is averaged over draws."""
        return tuple(n for n in self.terms_a if n not in self.closed)

    @property
    def sampled_b(self) -> tuple[str, ...]:
        """Variables whose term of b is averaged over draws."""
        return tuple(n for n in self.terms_b if n not in self.closed)

    @property
    def modelled(self) -> tuple[str, ...]:
        """Variables of b whose CPDs count, for they are scored or summed out."""
        return self.terms_b if self.sum is None else self.sum.modelled

    @property
    def scored(self) -> tuple[str, ...]:
        """Latents whose gradient is that of the score function."""
        found = (n for n in self.a.graph.order if isinstance(self.how.get(n), ScoreFunction))
        return tuple(found) if self.choices.learns else ()

    @property
    def copies(self) -> int:
        """Draws for each example."""
        return max((estimator.draws for estimator in self.how.values()), default=1)

    def entries(self) -> tuple[Entry, ...]:
        """Return the terms: closed ones, then those of b and of a."""
        named = [Entry("closed", n) for n in self.closed]
        named += [Entry("b", n) for n in self.sampled_b] + [Entry("a", n) for n in self.sampled_a]
        named += [Entry("sum", ", ".join(self.sum.names))] if self.sum is not None else []
        scored, found = {*self.scored}, ((e, self._upstream(e)) for e in named)
        return tuple(e._replace(reach=reach, follows=reach & scored) for e, reach in found)

    def _upstream(self, entry: Entry) -> frozenset[str]:
        """Find the latents whose draws can change a term.

        Leaving the others out of what a draw is blamed for keeps the gradient's mean and takes
        noise away: the Rao-Blackwell step that the graph justifies (Mnih and Gregor 2014).
        """
        drawn, name = self.a.graph, entry.name
        if entry.kind == "sum":
            return frozenset(self.how)
        reached = {name} if name in drawn and entry.kind != "closed" else set[str]()
        if entry.kind != "b":
            reached |= {*drawn.parents(name)}
        if entry.kind != "a":
            moved = dict(self.density.moves).get(name) or name
            reached |= {n for n in (*_influences(self, name), moved) if n in drawn}
            reached -= {name} if entry.kind == "closed" else set()
        reached |= {*upstream(drawn, reached)}
        return frozenset(n for n in self.how if n in reached)


def kl_plan(a: Joint, b: Joint, choices: Choices = Choices()) -> KLPlan:  # noqa: B008 - a tuple
    """Plan KL(a || b): closed forms where there is one, draws elsewhere.

    Raises:
        InadmissibleError: A density or a gradient that is needed does not exist.
        GraphError: The sides differ in variables or shapes.
    """
    if b.data:
        raise InadmissibleError(
            f"KL needs a density of its second side, but {', '.join(b.data)} is empirical data,"
            " which can only be sampled; put the data first: KL(data, p)"
        )
    a, b = in_step(a, b)
    names = _scored_names(a, b)
    total = _sum(a, b, names, choices)
    density = DensityPlan(names, (), ()) if total else integrates_out(b, names, "KL")
    read = {p for v in a.graph.variables for p in (*v.parents, *(lag.variable for lag in v.lags))}
    conditioned = (n for n in a.data if n in b.graph.inputs or n in read - {*names})
    of_a = integrates_out(a, (*names, *conditioned), "KL")
    of_a = replace(of_a, terms=tuple(n for n in of_a.terms if n not in a.data))
    shapes = pair_shapes(a, b, pathwise=())
    plan = KLPlan(
        a, b, names, shapes, density, of_a, of_a.terms, density.terms, choices=choices, sum=total
    )
    plan = replace(plan, how=_estimators(plan))
    return replace(plan, closed=_rules(plan))


def _sum(a: Joint, b: Joint, names: tuple[str, ...], choices: Choices) -> Sum | None:
    """Plan the sum over finite variables of b that a lacks, where b is restricted to others."""
    hidden = hidden_names(b[names])
    if not hidden or {*hidden} & {*b.names}:
        return None
    shapes = shapes_alone(b)
    if not all(n in shapes and shapes[n].states for n in hidden):
        return None
    return sum_out(b, names, hidden, tuple(n for n in choices.partial if n in a.data))


def _scored_names(a: Joint, b: Joint) -> tuple[str, ...]:
    """Return what both sides are over, without maps that each side computes for itself."""
    names = shared_names(a, b, "KL")
    inverted = {v.inverts for g in (a.graph, b.graph) for v in g.variables if v.inverts}

    def is_own(name: str) -> bool:
        sides = (a.graph[name], b.graph[name])
        maps = all(v.map == "deterministic" and not v.inverts for v in sides)
        return maps and name not in inverted

    return tuple(n for n in names if not is_own(n)) or names


def cross_entropy_plan(
    a: Joint,
    b: Joint,
    of: Iterable[str],
    choices: Choices = Choices(),  # noqa: B008 - a tuple
) -> KLPlan:
    """Plan E_a[-log b(of | the rest)]: the terms of some variables of b, at draws of a.

    Raises:
        InadmissibleError: A density or a gradient that is needed does not exist.
        GraphError: An unknown variable, or one of b that a does not draw.
    """
    a, b = in_step(a, b)
    of = tuple(b.graph[n].name for n in of)
    drawn = {n for n in a.graph.names if a.graph[n].map != "input" or n in b.graph.inputs}
    if missing := [n for n in of if n not in drawn]:
        hint = did_you_mean(missing[0], drawn)
        raise GraphError(f"the first side does not draw {', '.join(missing)}{hint}")
    density = _conditional(b, of, drawn)
    names = tuple(n for n in density.names if n not in b.graph.inputs)
    own = DensityPlan((), (), ())
    infers = not a.data and bool(b.graph.inputs)  # such as q(z | x), at draws of p
    symbols = ("p", "q") if infers or {*a.graph.names} == {*a.data} else ("q", "p")
    shapes = pair_shapes(a, b, pathwise=())
    plan = KLPlan(
        a, b, names, shapes, density, own, (), density.terms, choices=choices,
        title=f"cross entropy of {', '.join(of)},", joint=False, symbols=symbols,
    )  # fmt: skip
    return replace(plan, how=_estimators(plan))


def _conditional(side: Joint, of: tuple[str, ...], drawn: set[str]) -> DensityPlan:
    """Plan the density of some variables given the drawn ones that their CPDs depend on."""
    graph = side.graph
    if any(graph[n].map != "stochastic" for n in of):  # by change of variables
        relevant = {*of, *graph.ancestors(of)} & drawn
        plan = density_plan(graph, (n for n in graph.names if n in relevant))
        moved = {source for name, source in plan.moves if source}
        bases = {graph[n].inverts for n in of if n in moved}
        return DensityPlan(
            plan.names, plan.moves, tuple(n for n in plan.terms if n in bases | {*of})
        )
    found, frontier = {*of}, [p for n in of for p in graph.parents(n)]
    while frontier:
        name = frontier.pop()
        if name in found:
            continue
        found.add(name)
        if name not in drawn and graph[name].map == "stochastic":
            raise InadmissibleError(
                f"{', '.join(of)} depends on {name}, which the first side does not draw: its"
                f" density needs an integral over {name}; give the first side a CPD for {name}"
            )
        frontier += () if name in drawn else graph.parents(name)
    ordered = tuple(n for n in graph.order if n in found)
    moves = tuple((n, None) for n in ordered if n not in drawn and graph[n].map == "deterministic")
    terms = tuple(n for n in ordered if n in of)
    return DensityPlan(tuple(n for n in ordered if n in drawn), moves, terms)


def _estimators(plan: KLPlan) -> dict[str, Estimator]:
    """Choose the estimator of each latent of a, in the order in which they are drawn."""
    chosen, graph = plan.choices.gradients, plan.a.graph
    latents = [n for n in graph.order if graph[n].map == "stochastic" and n not in plan.a.data]
    for name in (*(chosen if isinstance(chosen, Mapping) else ()), *plan.choices.partial):
        scored = plan.terms_b if plan.sum is None else plan.sum.names
        if name not in (*latents, *(scored if name in plan.a.data else ())):
            hint = did_you_mean(name, latents)
            raise GraphError(f"{name!r} is no latent variable of the first side{hint}")
    how, states = dict[str, Estimator](), 1
    for name in latents:
        shape = plan.shapes.a.get(name)
        estimator = chosen.get(name) if isinstance(chosen, Mapping) else chosen
        if not plan.choices.learns:
            estimator = PATHWISE
        elif plan.a.program.plates.get(name):
            estimator = _repeated(plan, name, estimator)
        elif estimator is None:
            estimator = automatic(shape, states)
        elif shape is not None and (reason := estimator.refuse(shape)) is not None:
            step, family = plan.a.program.by_name[name], shape.cpd.__name__ if shape.cpd else "?"
            raise InadmissibleError(f"{step}: draws of {name} ~ {family} {reason}")
        if isinstance(estimator, Enumerate) and shape is not None:
            states *= shape.states or 1
        how[name] = estimator
    return how


def _repeated(plan: KLPlan, name: str, chosen: Estimator | None) -> Estimator:
    """Return the estimator of a latent that repeats: the draws of all that repeats are one."""
    if name in plan.choices.partial:
        raise InadmissibleError(
            f"{name} repeats and is latent, so it cannot be partial; rows lack what is observed"
        )
    shape = plan.shapes.a.get(name)
    is_pathwise = shape is None or shape.pathwise
    if (chosen is None and is_pathwise) or isinstance(chosen, Pathwise):
        return PATHWISE if chosen is None else chosen
    step = plan.a.program.by_name[name]
    asked = "" if chosen is None else f", so {type(chosen).__name__} cannot be had"
    raise InadmissibleError(
        f"{step}: {name} repeats in {', '.join(step.plates)}, where gradients go along draws"
        f" alone{asked}; give {name} a family with rsample, or let dg.nll sum it out exactly"
    )


def _rules(plan: KLPlan) -> dict[str, Rule]:
    rules = {n: _closed_form(plan, n) for n in plan.terms_a if _may_close(plan, n)}
    closed = {n: rule for n, rule in rules.items() if rule is not None}
    for name in plan.terms_a:
        estimator = plan.how.get(name)
        if isinstance(estimator, Relaxed) and not estimator.hard and name not in closed:
            raise InadmissibleError(
                f"{plan.a.program.by_name[name]}: a relaxed draw of {name} is no state, and its KL"
                " term has no closed form here, so its density would be asked for at that draw;"
                " use dg.estimators.straight_through, ENUMERATE or score_function(draws=4)"
            )
    return closed


def _may_close(plan: KLPlan, name: str) -> bool:
    """Whether nobody asked for the draws of a variable to be compared."""
    estimator = plan.how.get(name)
    stops = isinstance(estimator, Pathwise) and estimator.stop_score
    return name not in plan.choices.partial and not stops


def _closed_form(plan: KLPlan, name: str) -> Rule | None:
    """Return the rule that replaces the draw of one variable, where that is valid.

    KL(a(v | pa_a) || b(v | pa_b)) may stand for the average over v only if, under a, v is
    independent of pa_b given pa_a: true where no parent in b is computed from a descendant in a
    (the local Markov property).
    """
    if name not in plan.terms_b or name not in plan.names or late_parents(plan, name):
        return None
    one, other = plan.shapes.a.get(name), plan.shapes.b.get(name)
    pair = [s.cpd for s in (one, other) if s is not None and s.cpd is not None]
    if len(pair) < 2 or not all(issubclass(cpd, Distribution) for cpd in pair):
        return None
    rule = closed_form(*pair)
    if rule is not None and is_infinite(rule):
        raise InadmissibleError(
            f"{plan.a.program.by_name[name]}: draws of {pair[0].__name__} leave the support of"
            f" {pair[1].__name__}, which {name} has on the second side, so KL is infinite;"
            " return distributions with the same support on both sides"
        )
    return rule


def late_parents(plan: KLPlan, name: str) -> set[str]:
    """Return what the CPD in b depends on, perhaps through maps, that a draws after `name`."""
    return _influences(plan, name) & plan.a.graph.descendants([name])


def _influences(plan: KLPlan, name: str) -> set[str]:
    """Return what the CPD of a variable in b depends on, directly or through maps."""
    graph, moves = plan.b.graph, dict(plan.density.moves)
    found, frontier = set[str](), [*graph.parents(name)]
    while frontier:
        one = frontier.pop()
        if one not in found and one in moves:  # a map of its parents, or the inverse of a flow
            source = moves[one]
            frontier += [*graph.parents(source or one), *([source] if source else [])]
        found.add(one)
    return found - {*moves}  # what a computes by the same name is another variable


def check_rates(plan: KLPlan, rates: Rates) -> None:
    """Check that a rule of a rate can look at it.

    Raises:
        InadmissibleError: The gradient of the rate is that of the score function, which is right
            for sums of costs only; or the prior of the latent is within a sum over others.
    """
    for name, rate in rates.items():
        if plan.sum is not None:
            raise InadmissibleError(
                f"the rate of {name} weighs its KL term, but p({name}) is within the sum over"
                f" {', '.join(plan.sum.hidden)}; give q a CPD for {', '.join(plan.sum.hidden)},"
                " or leave rate out"
            )
        if isinstance(rate, Rate) and plan.scored:
            raise InadmissibleError(
                f"the rate of {name} counts as {rate.name.replace('#', 'the rate')}, which is no"
                f" sum of costs, so the score function of {', '.join(plan.scored)} does not apply;"
                " use a number, a schedule, or dg.estimators.ENUMERATE"
            )
