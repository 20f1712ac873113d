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

from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.closed_forms import Rule
from daguerre.objectives.kl_plan import kl_latex, kl_ledger, kl_plan
from daguerre.objectives.objective import Divergence, Objective, Player, Round, Term
from daguerre.objectives.sides import modules_of
from daguerre.program import Trace, draw
from daguerre.scoring import complete, negative_log_density, sum_event

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
    """KL(a || b), computed as its plan says."""

    def __init__(self, a: Joint, b: Joint) -> None:
        plan = self.plan = kl_plan(a, b)
        self.a, self.b, self.names, self.shapes = a, b, plan.names, plan.shapes
        self.players = (Player("model", modules_of(b, a)),)
        self._drawn, self._scored = a.program, b.program
        self._given_a, self._given_b = a.given, b.given
        self._all_a = [a.program.by_name[n] for n in plan.terms_a]
        self._all_b = [b.program.by_name[n] for n in plan.terms_b]
        self._some_a = [a.program.by_name[n] for n in plan.sampled_a]
        self._some_b = [b.program.by_name[n] for n in plan.sampled_b]

    @property
    def title(self) -> str:
        """KL, and the variables."""
        return f"KL over {', '.join(self.names)}"

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the batch mean of the divergence, in nats."""
        return self.per_example(at.n, at.given).mean()

    def per_example(self, n: int, given: Mapping[str, Tensor]) -> Tensor:
        """Return one unbiased estimate per row of the batch, in nats, shape `[n]`."""
        drawn, scored = self._traces(n, given)
        terms = [self._exact(name, rule, drawn, scored) for name, rule in self.plan.closed.items()]
        terms += [negative_log_density(step, scored) for step in self._some_b]
        total = sum(terms[1:], start=terms[0])
        for step in self._some_a:
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
        return drawn, complete(self._scored, self.plan.density, known, {})

    def _exact(self, name: str, rule: Rule, drawn: Trace, scored: Trace) -> Tensor:
        value = rule(drawn.outcomes[name], scored.outcomes[name])
        roots = self._drawn.by_name[name].is_root and self._scored.by_name[name].is_root
        return value.sum() if roots else sum_event(value)

    def ledger(self) -> tuple[Term, ...]:
        """Say of each term whether it is exact, averaged, or a constant left out."""
        return tuple(Term("model", *row) for row in kl_ledger(self.plan))

    def latex(self) -> dict[str, str]:
        """Return the expectation that is minimised, closed terms first."""
        return {"model": kl_latex(self.plan)}
