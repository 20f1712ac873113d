r"""The evidence bound of data and of the model's own draws, each weighed by a critic.

$$\mathbb{E}_{x \sim \frac12(\mathrm{data} + p)}[\mathrm{sg}(D(x))\,\mathrm{ELBO}(x)]$$
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from daguerre.draw.labels import label
from daguerre.graph import InadmissibleError
from daguerre.joint import Empirical, Joint
from daguerre.objectives.adversarial import Adversarial
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.estimators import Pathwise
from daguerre.objectives.kl_plan import KLPlan
from daguerre.objectives.kl_words import kl_latex
from daguerre.objectives.objective import Divergence, Player, Round, Term
from daguerre.precision import called
from daguerre.running import draw

__all__ = ["AdversaryActivated"]


@final
class AdversaryActivated(Divergence):
    """A bound whose examples, real and fake, count by what a critic says of them.

    Args:
        bound: KL(data * q, p).
        game: The critic of data against draws of p.

    Raises:
        InadmissibleError: A latent whose gradient is not that of each example's own estimate.
    """

    def __init__(self, bound: KullbackLeibler, game: Adversarial) -> None:
        _check(bound)
        assert game.critic is not None
        self.bound, self.game = bound, game
        self.a, self.b, self.shapes = bound.a, bound.b, bound.shapes
        self.names, self.critic = game.names, game.critic
        self.players = (Player("critic", (game.critic,)), *bound.players)
        self.auxiliaries = (*game.auxiliaries, *bound.auxiliaries)
        self._given = bound.given  # looked up here, since a compiled loss cannot

    @property
    def title(self) -> str:
        """The bound, and what weighs it."""
        return f"D * {self.bound.title}"

    @property
    def given(self) -> tuple[str, ...]:
        """The variables that a batch must hold."""
        return self._given

    def settle(self, player: str) -> None:
        """Put a player's parameters back where they must be, after an update."""
        self.game.settle(player)

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the critic's loss, or minus the mean of D times ELBO over both halves."""
        if player == "critic":
            return self.game.loss("critic", at)
        both = self._with_fakes(at)
        with torch.no_grad():
            assert self.critic is not None
            logits = called(self.critic, *(both.given[name] for name in self.names))
        trust = logits.reshape(both.n).sigmoid()
        return (trust * self.bound.per_example(both)).mean()

    def _with_fakes(self, at: Round) -> Round:
        """Append one draw of p to each example; what is known in part is unknown for it."""
        program, inputs = self.game.b.program, self.game.b.given
        with torch.no_grad():
            fakes = draw(program, at.n, {k: at.given[k] for k in inputs}, pathwise=False).values
        given = {
            name: torch.cat([real, _missing(real) if name in self.bound.partial else fakes[name]])
            for name, real in at.given.items()
            if name in self._given
        }
        return Round(2 * at.n, given, at.step, peers=at.peers)

    def ledger(self) -> tuple[Term, ...]:
        """Say what the critic estimates and how the bound is."""
        why = "one fake for each example, held fixed; a perfect D gives half the bound"
        weight = Term("model", "D(x), the weight of each row", "the critic, no gradient", why)
        terms = (t._replace(term=f"D * {t.term}") for t in self.bound.ledger())
        return (self.game.ledger()[0], weight, *terms)

    def latex(self) -> Mapping[str, str]:
        """Return what critic and model minimise."""
        seen = ", ".join(label(name) for name in self.names)
        mixture = rf"\frac{{1}}{{2}}(p_{{\mathrm{{data}}}} + p_\theta)({seen})"
        inner = kl_latex(_given_data(self.bound.plan), {})
        weight = rf"{self.game.game.output}({seen})"
        model = rf"\mathbb{{E}}_{{{mixture}}}\left[{weight} \left({inner}\right)\right]"
        return {"critic": self.game.latex()["critic"], "model": model}


def _given_data(plan: KLPlan) -> KLPlan:
    """Return the plan for one example, without the average over the data."""
    factors = tuple(f for f in plan.a.factors if not isinstance(f, Empirical))
    return replace(plan, a=Joint(factors, plan.a.names))


def _missing(value: Tensor) -> Tensor:
    return torch.full_like(value, torch.nan if value.is_floating_point() else -1)


def _check(bound: KullbackLeibler) -> None:
    refused = dict.fromkeys(bound.plan.scored, "the score function")
    stops = (n for n, e in bound.plan.how.items() if isinstance(e, Pathwise) and e.stop_score)
    refused |= dict.fromkeys(stops, "a gradient without the score of q")
    for name, how in refused.items():
        raise InadmissibleError(
            f"each row of this cost is weighed by a critic, and {name} is drawn for {how}, which"
            " is right for the mean of a batch only; draw it pathwise or enumerate it"
            " (gradients=dg.estimators.ENUMERATE, or gumbel_softmax)"
        )
