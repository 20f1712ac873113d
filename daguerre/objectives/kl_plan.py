"""The plan of a KL divergence: which terms are closed, which are averaged, and how to say so.

A plan is a value that can be read without running anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch.distributions import Distribution

from daguerre.draw.labels import label
from daguerre.graph import InadmissibleError
from daguerre.joint import Joint
from daguerre.objectives.closed_forms import Rule, closed_form, is_infinite
from daguerre.objectives.sides import (
    PairShapes,
    conditional,
    expectation,
    integrates_out,
    pair_shapes,
    shared_names,
)
from daguerre.scoring import DensityPlan

__all__ = ["KLPlan", "cross_entropy_plan", "kl_latex", "kl_ledger", "kl_plan", "kl_ratio_latex"]


@dataclass(frozen=True, eq=False)
class KLPlan:
    """How KL(a || b) is computed.

    Attributes:
        a: The side that is drawn from.
        b: The side whose density is fitted.
        names: The variables that both are over.
        shapes: What is known of the variables without data.
        density: How the density of b follows from values of `names`.
        terms_a: Variables of a that contribute, without those of data.
        terms_b: Variables of b that contribute.
        closed: Variables whose two terms a rule integrates exactly.
        title: What is computed.
        symbols: The letters of the two sides in formulas.
    """

    a: Joint
    b: Joint
    names: tuple[str, ...]
    shapes: PairShapes
    density: DensityPlan
    terms_a: tuple[str, ...]
    terms_b: tuple[str, ...]
    closed: Mapping[str, Rule] = field(default_factory=dict)
    title: str = "KL"
    symbols: tuple[str, str] = ("q", "p")

    @property
    def sampled_a(self) -> tuple[str, ...]:
        """Variables whose term of a is averaged over draws."""
        return tuple(n for n in self.terms_a if n not in self.closed)

    @property
    def sampled_b(self) -> tuple[str, ...]:
        """Variables whose term of b is averaged over draws."""
        return tuple(n for n in self.terms_b if n not in self.closed)


def kl_plan(a: Joint, b: Joint) -> KLPlan:
    """Plan KL(a || b): closed forms where there is one, draws elsewhere.

    Raises:
        InadmissibleError: A density or a pathwise gradient that is needed does not exist.
        GraphError: The sides differ in variables or shapes.
    """
    if b.data:
        raise InadmissibleError(
            f"KL needs a density of its second side, but {', '.join(b.data)} is empirical data,"
            " which can only be sampled; put the data first: KL(data, p)"
        )
    names = shared_names(a, b, "KL")
    density = integrates_out(b, names, "KL")
    conditioned = (n for n in b.graph.inputs if n in a.data)
    of_a = integrates_out(a, (*names, *conditioned), "KL")
    terms_a = tuple(n for n in of_a.terms if n not in a.data)
    shapes = pair_shapes(a, b, pathwise=(a,))
    plan = KLPlan(a, b, names, shapes, density, terms_a, density.terms)
    rules = {n: rule for n in terms_a if (rule := _closed_form(plan, n)) is not None}
    return replace(plan, closed=rules)


def _closed_form(plan: KLPlan, name: str) -> Rule | None:
    """Return the rule that replaces the draw of one variable, where that is valid.

    KL(a(v | pa_a) || b(v | pa_b)) may stand for the average over v only if, under a, v is
    independent of pa_b given pa_a: true where no parent in b is computed from a descendant in a
    (the local Markov property).
    """
    if name not in plan.terms_b or name not in plan.names or _late_parents(plan, name):
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


def _late_parents(plan: KLPlan, name: str) -> set[str]:
    """Return what the CPD in b depends on, perhaps through maps, that a draws after `name`."""
    graph, moves = plan.b.graph, dict(plan.density.moves)
    found, frontier = set[str](), [*graph.parents(name)]
    while frontier:
        one = frontier.pop()
        if one not in found and one in moves:  # a map of its parents, or the inverse of a flow
            source = moves[one]
            frontier += [*graph.parents(source or one), *([source] if source else [])]
        found.add(one)
    return found & plan.a.graph.descendants([name])


def kl_ledger(plan: KLPlan) -> Iterator[tuple[str, str, str]]:
    """Yield term, estimator and reason of each term, and of the constant that is left out."""
    for name in plan.closed:
        families = f"{_family(plan, 'a', name)} against {_family(plan, 'b', name)}"
        term = f"KL({_density(plan.a, 'q', name)} || {_density(plan.b, 'p', name)})"
        yield term, "closed form", f"{families}, given their parents"
    drawn = ", ".join(n for n in plan.a.graph.order if n not in plan.a.given)
    how = f"Monte Carlo, pathwise in {drawn}" if drawn else "exact, given the data"
    for name in plan.sampled_a:
        yield _term(plan.a, "q", name), how, _why_drawn(plan, plan.a, name)
    for name in plan.sampled_b:
        yield _term(plan.b, "p", name), how, _why_drawn(plan, plan.b, name)
    if plan.a.data:
        yield f"log data({', '.join(plan.a.data)})", "left out", "a constant: no parameters"


def _term(side: Joint, symbol: str, name: str) -> str:
    """Write a term: log q and -log p, or the Jacobian that stands for them after a bijection."""
    argument = side.graph[name].inverts
    if argument is not None:
        return f"{'-' if symbol == 'q' else ''}log |det d{name}/d{argument}|"
    return f"{'' if symbol == 'q' else '-'}log {_density(side, symbol, name)}"


def _why_drawn(plan: KLPlan, side: Joint, name: str) -> str:
    if side.graph[name].inverts is not None:
        return "change of variables"
    if side is plan.b and (source := dict(plan.density.moves).get(name)):
        return f"recovered from {source}"
    if name in plan.a.data:
        return "observed"
    if name in plan.names and (late := _late_parents(plan, name)):
        return f"its parents {', '.join(sorted(late))} are drawn after it"
    families = f"{_family(plan, 'a', name)} against {_family(plan, 'b', name)}"
    return f"no closed form for {families}"


def _family(plan: KLPlan, side: str, name: str) -> str:
    shape = {"a": plan.shapes.a, "b": plan.shapes.b}[side].get(name)
    return shape.cpd.__name__ if shape is not None and shape.cpd is not None else "none"


def _density(side: Joint, symbol: str, name: str) -> str:
    parents = side.graph.parents(name)
    bar = f" | {', '.join(parents)}" if parents else ""
    return f"{symbol}({name}{bar})"


def kl_latex(plan: KLPlan) -> str:
    """Write the expectation that is minimised, closed terms first."""
    q = {n: conditional(plan.a, n, plan.shapes.a, "q") for n in plan.a.graph.names}
    p = {n: conditional(plan.b, n, plan.shapes.b, "p") for n in plan.b.graph.names}
    terms = [rf"\mathrm{{KL}}\left({q[n]} \,\Vert\, {p[n]}\right)" for n in plan.closed]
    terms += [_latex(plan.a, q[n], n, sign="") for n in plan.sampled_a]
    terms += [_latex(plan.b, p[n], n, sign="-") for n in plan.sampled_b]
    body = " + ".join(terms).replace("+ -", "- ")
    return rf"\mathbb{{E}}_{{{expectation(plan.a, plan.shapes.a, 'q')}}}\left[{body}\right]"


def kl_ratio_latex(plan: KLPlan) -> tuple[str, str]:
    """Write what is averaged over, and the ratio of the densities b / a without that of data."""
    sides = []
    for side, terms, shapes, symbol in (
        (plan.b, plan.terms_b, plan.shapes.b, "p"),
        (plan.a, plan.terms_a, plan.shapes.a, "q"),
    ):
        factors = [conditional(side, n, shapes, symbol) for n in terms]
        sides.append(r"\, ".join(factors) or "1")
    return expectation(plan.a, plan.shapes.a, "q"), rf"\frac{{{sides[0]}}}{{{sides[1]}}}"


def _latex(side: Joint, density: str, name: str, *, sign: str) -> str:
    argument = side.graph[name].inverts
    if argument is None:
        return rf"{sign}\log {density}"
    jacobian = rf"\frac{{\partial {label(name)}}}{{\partial {label(argument)}}}"
    return rf"{'' if sign else '-'}\log\left|\det {jacobian}\right|"
