r"""The Kullback-Leibler divergence between joints that have densities, term by term.

$$\mathrm{KL}(a \Vert b) = \mathbb{E}_a[\sum_v \log a(v \mid .) - \sum_v \log b(v \mid .)]$$

The draws come from a. Where both sides score a variable and the pair of distributions has a
closed form, that term is integrated exactly; every other term is averaged over the draws.
The entropy of an empirical side is a constant and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from torch import Tensor
from torch.distributions import Distribution

from daguerre.graph import InadmissibleError
from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.closed_forms import Rule, closed_form, is_infinite
from daguerre.objectives.objective import Divergence, Objective, Player, Term
from daguerre.objectives.sides import (
    conditional,
    expectation,
    integrates_out,
    modules_of,
    pair_shapes,
    shared_names,
)
from daguerre.program import Trace, complete, draw, negative_log_density, sum_event

__all__ = ["KL", "KullbackLeibler"]


def KL(a: Factor | Joint, b: Factor | Joint) -> Objective:  # noqa: N802 - the field's name
    r"""Return $\mathrm{KL}(a \Vert b)$ as an objective: draws of a, densities of both.

    With data on the left, `KL(data, p)` is maximum likelihood and `KL(data * q, p)` the negative
    ELBO, both up to the entropy of the data.

    Args:
        a: The side that is drawn from.
        b: The side whose density is fitted; must cover the same variables.

    Raises:
        InadmissibleError: A density or a pathwise gradient that is needed does not exist.
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
    return Objective(((1.0, KullbackLeibler(as_joint(a), as_joint(b))),))


@final
class KullbackLeibler(Divergence):
    """KL(a || b) with its plan: which terms are closed, which are averaged over draws."""

    def __init__(self, a: Joint, b: Joint) -> None:
        if b.data:
            raise InadmissibleError(
                f"KL needs a density of its second side, but {', '.join(b.data)} is empirical"
                " data, which can only be sampled; put the data first: KL(data, p)"
            )
        self.a, self.b = a, b
        self.players = (Player("model", modules_of(b, a)),)
        self.names = shared_names(a, b, "KL")
        self._plan = integrates_out(b, self.names, "KL")
        conditioned = (n for n in b.graph.inputs if n in a.data)
        plan_a = integrates_out(a, (*self.names, *conditioned), "KL")
        self.shapes = pair_shapes(a, b, pathwise=(a,))
        self._drawn, self._scored = a.program, b.program
        self._given_a, self._given_b = a.given, b.given
        terms_a = [n for n in plan_a.terms if n not in a.data]
        self._all_a = [self._drawn.by_name[n] for n in terms_a]
        self._all_b = [self._scored.by_name[n] for n in self._plan.terms]
        self._closed = {n: rule for n in terms_a if (rule := self._closed_form(n)) is not None}
        self._steps_a = [step for step in self._all_a if step.name not in self._closed]
        self._steps_b = [step for step in self._all_b if step.name not in self._closed]

    def _closed_form(self, name: str) -> Rule | None:
        """Return the rule that replaces the draw of one variable, where that is valid.

        KL(a(v | pa_a) || b(v | pa_b)) may stand for the average over v only if, under a, v is
        independent of pa_b given pa_a: true where no parent in b is computed from a descendant in
        a (the local Markov property).
        """
        if name not in self._plan.terms or name not in self.names or self._late_parents(name):
            return None
        one, other = self.shapes.a.get(name), self.shapes.b.get(name)
        pair = [s.cpd for s in (one, other) if s is not None and s.cpd is not None]
        if len(pair) < 2 or not all(issubclass(cpd, Distribution) for cpd in pair):
            return None
        rule = closed_form(*pair)
        if rule is not None and is_infinite(rule):
            raise InadmissibleError(
                f"{self._drawn.by_name[name]}: draws of {pair[0].__name__} leave the support of"
                f" {pair[1].__name__}, which {name} has on the second side, so KL is infinite;"
                " return distributions with the same support on both sides"
            )
        return rule

    def _late_parents(self, name: str) -> set[str]:
        """Return what the CPD in b depends on, perhaps through maps, that a draws after `name`."""
        graph, moves = self.b.graph, dict(self._plan.moves)
        found, frontier = set[str](), [*graph.parents(name)]
        while frontier:
            one = frontier.pop()
            if one not in found and one in moves:  # a map of its parents, or the inverse of a flow
                source = moves[one]
                frontier += [*graph.parents(source or one), *([source] if source else [])]
            found.add(one)
        return found & self.a.graph.descendants([name])

    def loss(self, player: str, n: int, given: Mapping[str, Tensor]) -> Tensor:
        """Return the batch mean of the divergence, in nats."""
        return self.per_example(n, given).mean()

    def per_example(self, n: int, given: Mapping[str, Tensor]) -> Tensor:
        """Return one unbiased estimate per row of the batch, in nats, shape `[n]`."""
        drawn, scored = self._traces(n, given)
        terms = [self._exact(name, rule, drawn, scored) for name, rule in self._closed.items()]
        terms += [negative_log_density(step, scored) for step in self._steps_b]
        total = sum(terms[1:], start=terms[0])
        for step in self._steps_a:
            total = total - negative_log_density(step, drawn)
        return total

    def log_weights(self, n: int, given: Mapping[str, Tensor]) -> Tensor:
        """Return log b - log a at one draw from a per row, shape `[n]`, nothing in closed form.

        These are the importance weights whose log-mean bounds the evidence (Burda et al. 2016,
        arXiv 1509.00519); the entropy of the data is left out.
        """
        drawn, scored = self._traces(n, given)
        terms = [negative_log_density(step, drawn) for step in self._all_a]
        terms += [-negative_log_density(step, scored) for step in self._all_b]
        return sum(terms[1:], start=terms[0])

    def _traces(self, n: int, given: Mapping[str, Tensor]) -> tuple[Trace, Trace]:
        """Draw from a, and evaluate b on what was drawn."""
        drawn = draw(self._drawn, n, {k: given[k] for k in self._given_a}, pathwise=True)
        known = {k: drawn.values[k] for k in self.names}
        known |= {k: given[k] for k in self._given_b}
        return drawn, complete(self._scored, self._plan, known, {})

    def _exact(self, name: str, rule: Rule, drawn: Trace, scored: Trace) -> Tensor:
        value = rule(drawn.outcomes[name], scored.outcomes[name])
        roots = self._drawn.by_name[name].is_root and self._scored.by_name[name].is_root
        return value.sum() if roots else sum_event(value)

    def ledger(self) -> tuple[Term, ...]:
        """Say of each variable whether its term is exact, averaged, or a constant left out."""
        closed = [
            Term(
                "model",
                f"KL({self._density('a', n)} || {self._density('b', n)})",
                "closed form",
                f"{self._family('a', n)} against {self._family('b', n)}, given their parents",
            )
            for n in self._closed
        ]
        drawn = ", ".join(n for n in self.a.graph.order if n not in self.a.given)
        how = f"Monte Carlo, pathwise in {drawn}" if drawn else "exact, given the data"
        a = [
            Term("model", f"log {self._density('a', s.name)}", how, self._why_drawn(s.name))
            for s in self._steps_a
        ]
        b = [
            Term("model", f"-log {self._density('b', s.name)}", how, self._why_drawn(s.name))
            for s in self._steps_b
        ]
        data = ", ".join(self.a.data)
        constant = Term("model", f"log data({data})", "left out", "a constant: no parameters")
        return (*closed, *a, *b, *([constant] if data else []))

    def _why_drawn(self, name: str) -> str:
        if name in self.a.data:
            return "observed"
        if name in self.names and (late := self._late_parents(name)):
            return f"its parents {', '.join(sorted(late))} are drawn after it"
        return f"no closed form for {self._family('a', name)} against {self._family('b', name)}"

    def _family(self, side: str, name: str) -> str:
        shape = getattr(self.shapes, side).get(name)
        return shape.cpd.__name__ if shape is not None and shape.cpd is not None else "none"

    def _density(self, side: str, name: str) -> str:
        graph = (self.a if side == "a" else self.b).graph
        bar = f" | {', '.join(graph.parents(name))}" if graph.parents(name) else ""
        return f"{'q' if side == 'a' else 'p'}({name}{bar})"

    def latex(self) -> dict[str, str]:
        """Return the expectation that is minimised, closed terms first."""
        q = {n: conditional(self.a, n, self.shapes.a, "q") for n in self.a.graph.names}
        p = {n: conditional(self.b, n, self.shapes.b, "p") for n in self.b.graph.names}
        terms = [rf"\mathrm{{KL}}\left({q[n]} \,\Vert\, {p[n]}\right)" for n in self._closed]
        terms += [rf"\log {q[s.name]}" for s in self._steps_a]
        terms += [rf"-\log {p[s.name]}" for s in self._steps_b]
        body = " + ".join(terms).replace("+ -", "- ")
        average = expectation(self.a, self.shapes.a, "q")
        return {"model": rf"\mathbb{{E}}_{{{average}}}\left[{body}\right]"}
