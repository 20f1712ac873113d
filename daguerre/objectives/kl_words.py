"""A plan of a divergence between densities in words and in LaTeX."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from daguerre.draw.labels import label
from daguerre.joint import Joint
from daguerre.objectives.estimators import ENUMERATE, PATHWISE, STICK_THE_LANDING
from daguerre.objectives.kl_plan import KLPlan, late_parents
from daguerre.objectives.rates import Rate, Rates
from daguerre.objectives.schedules import Number, Schedule, show
from daguerre.objectives.sides import conditional, expectation, repeated
from daguerre.structure.feedback import feedback
from daguerre.structure.recurrence import temporal

__all__ = ["drawn_how", "kl_latex", "kl_ledger", "kl_ratio_latex"]


def kl_ledger(plan: KLPlan, rates: Rates) -> Iterator[tuple[str, str, str]]:
    """Yield term, estimator and reason of each term, and of the constant that is left out."""
    of_a, of_b = plan.symbols
    for name in plan.closed:
        families = f"{_family(plan, 'a', name)} against {_family(plan, 'b', name)}"
        term = f"KL({_density(plan.a, of_a, name)} || {_density(plan.b, of_b, name)})"
        yield _counted(term, name, rates), "closed form", f"{families}, given their parents"
    for _, name, reach, _ in (entry for entry in plan.entries() if entry.kind == "a"):
        term = _counted(_term(plan.a, of_a, name), name, rates)
        yield term, drawn_how(plan, plan.copies, reach), _why_drawn(plan, plan.a, name)
    for _, name, reach, _ in (entry for entry in plan.entries() if entry.kind == "b"):
        term = _counted(f"-{_term(plan.b, of_b, name)}".replace("--", ""), name, rates)
        yield term, drawn_how(plan, plan.copies, reach), _why_drawn(plan, plan.b, name)
    if plan.sum is not None:
        how = drawn_how(plan, plan.copies)
        yield f"-{plan.sum.title}", f"{how}; {plan.sum.how}", plan.sum.why
    if plan.a.data:
        yield f"log data({', '.join(plan.a.data)})", "left out", "a constant: no parameters"


def _counted(term: str, name: str, rates: Rates) -> str:
    """Write what the rate of a latent counts."""
    rate = rates.get(name, 1)
    if isinstance(rate, Rate):
        return rate.name.replace("#", term)
    return term if rate == 1 else f"{show(rate)} * {term}"


def drawn_how(plan: KLPlan, draws: int, reach: Collection[str] | None = None) -> str:
    """Say how the draws that reach a term are made, and how gradients get past them.

    Args:
        plan: The plan.
        draws: For each example.
        reach: The latents that a term depends on; all by default.
    """
    latents = [n for n in plan.a.graph.order if n not in plan.a.given]
    if not latents:
        return "exact, given the data"
    count = f", {draws} draws for each example" if draws > 1 else ""
    if not plan.choices.learns:
        return f"Monte Carlo, {', '.join(latents)} held fixed{count}"
    if all(estimator == PATHWISE for estimator in plan.how.values()):
        return f"Monte Carlo, pathwise in {', '.join(latents)}{count}"
    how = {n: e for n, e in plan.how.items() if reach is None or n in reach}
    ways = "; ".join(f"{name}: {estimator.describe()}" for name, estimator in how.items())
    exact = all(estimator == ENUMERATE for estimator in how.values())
    return (ways or "exact") if exact else f"Monte Carlo, {ways}{count}"


def _term(side: Joint, symbol: str, name: str) -> str:
    """Write a log-density, or the Jacobian that stands for it after a bijection."""
    argument = side.graph[name].inverts
    if argument is not None:
        return f"-log |det d{name}/d{argument}|"
    return f"log {_density(side, symbol, name)}"


def _why_drawn(plan: KLPlan, side: Joint, name: str) -> str:
    if name in plan.choices.partial:
        return "observed in some rows"
    if side.graph[name].inverts is not None:
        return "change of variables"
    if side is plan.b and (source := dict(plan.density.moves).get(name)):
        return f"recovered from {source}"
    if name in plan.a.data:
        return _observed(plan, side, name)
    if plan.sum is not None and name in plan.sum.names:
        return f"p({name}) is within the sum over {', '.join(plan.sum.hidden)}"
    if name in plan.names and (late := late_parents(plan, name)):
        return f"its parents {', '.join(sorted(late))} are drawn after it"
    if not plan.joint:
        return "predicted"
    families = f"{_family(plan, 'a', name)} against {_family(plan, 'b', name)}"
    if name in plan.how and plan.how[name] == STICK_THE_LANDING:
        return f"drawn by choice: {families} at the same draw"
    return f"no closed form for {families}"


def _observed(plan: KLPlan, side: Joint, name: str) -> str:
    """Say, where nothing is inferred over time, whether what is observed comes back."""
    if {*plan.a.graph.names} != {*plan.a.data} or name not in temporal(side.graph):
        return "observed"
    return f"observed; {feedback(side.graph, name).removesuffix('.')}"


def _family(plan: KLPlan, side: str, name: str) -> str:
    shape = {"a": plan.shapes.a, "b": plan.shapes.b}[side].get(name)
    return shape.cpd.__name__ if shape is not None and shape.cpd is not None else "none"


def _density(side: Joint, symbol: str, name: str) -> str:
    variable = side.graph[name]
    past = (f"{lag.variable}[t{-lag.steps:+d}]" for lag in variable.lags)
    parents = [*variable.parents, *past]
    bar = f" | {', '.join(parents)}" if parents else ""
    return f"{symbol}({name}{bar})"


def kl_latex(plan: KLPlan, rates: Rates) -> str:
    """Write the expectation that is minimised, closed terms first."""
    of_a, of_b = plan.symbols
    q = {n: conditional(plan.a, n, plan.shapes.a, of_a) for n in plan.a.graph.names}
    p = {n: conditional(plan.b, n, plan.shapes.b, of_b) for n in plan.b.graph.names}
    pairs = [
        (n, rf"{_summed(plan.a, n)}\mathrm{{KL}}\left({q[n]} \,\Vert\, {p[n]}\right)")
        for n in plan.closed
    ]
    pairs += [(n, _latex(plan.a, q[n], n, sign="")) for n in plan.sampled_a]
    pairs += [(n, _latex(plan.b, p[n], n, sign="-")) for n in plan.sampled_b]
    terms = [_symbolic(term, rates.get(n, 1)) for n, term in pairs]
    terms += [] if plan.sum is None else [rf"-\log {plan.sum.latex(plan.shapes.b)}"]
    body = " + ".join(terms).replace("+ -", "- ")
    return rf"\mathbb{{E}}_{{{expectation(plan.a, plan.shapes.a, of_a)}}}\left[{body}\right]"


def _symbolic(term: str, rate: Number | Rate) -> str:
    if isinstance(rate, Rate):
        return rate.formula.replace("#", term)
    factor = r"\beta_t" if isinstance(rate, Schedule) else f"{rate:g}"
    return term if rate == 1 else rf"{factor}\,{term}"


def kl_ratio_latex(plan: KLPlan) -> tuple[str, str]:
    """Write what is averaged over, and the ratio of the densities b / a without that of data."""
    sides = []
    for side, terms, shapes, symbol in (
        (plan.b, plan.terms_b, plan.shapes.b, "p"),
        (plan.a, plan.terms_a, plan.shapes.a, "q"),
    ):
        factors = [
            repeated(side, n, r"\prod") + conditional(side, n, shapes, symbol) for n in terms
        ]
        if symbol == "p" and plan.sum is not None:
            factors = [plan.sum.latex(plan.shapes.b)]
        sides.append(r"\, ".join(factors) or "1")
    return expectation(plan.a, plan.shapes.a, "q"), rf"\frac{{{sides[0]}}}{{{sides[1]}}}"


def _latex(side: Joint, density: str, name: str, *, sign: str) -> str:
    argument = side.graph[name].inverts
    if argument is None:
        return rf"{sign}{_summed(side, name)}\log {density}"
    jacobian = rf"\frac{{\partial {label(name)}}}{{\partial {label(argument)}}}"
    summed = _summed(side, argument)
    return rf"{'' if sign else '-'}{summed}\log\left|\det {jacobian}\right|"


def _summed(side: Joint, name: str) -> str:
    return repeated(side, name, r"\sum")
