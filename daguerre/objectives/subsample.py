r"""Batches of the members of a plate: each stands for several, so that the mean is that of all.

$$\sum_{i=1}^{N} f_i = \mathbb{E}_S\Big[\tfrac{N}{m} \sum_{i \in S} f_i\Big], \qquad |S| = m$$

for a subset S drawn uniformly. What lies outside the plate, such as weights that all members
share, counts once. Value and gradient of a cost that is a sum over members are unbiased then.

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference, JMLR 14, arXiv
    1206.7051.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import final

from torch import Tensor

from daguerre.graph import GraphError, InadmissibleError, did_you_mean
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.evidence import MarginalLikelihood
from daguerre.objectives.importance import ImportanceWeighted
from daguerre.objectives.objective import Divergence, Objective, Round, Term
from daguerre.objectives.rates import Rate
from daguerre.structure.recurrence import TIME

__all__ = ["Subsampled", "subsampled"]


def subsampled(objective: Objective, **sizes: int) -> Objective:
    r"""Return an objective for batches of some members of plates, in place of all.

    `dg.fit(objective, data, subsample={"n": 64})` does this; by hand, the result takes batches
    `[n, m, *event]` of any m, and its losses and gradients are unbiased for those of all N members
    where each batch is a uniform subset.

    Args:
        objective: A cost over plates.
        sizes: Per plate N, how many members there are in all.

    Returns:
        The objective; `explain()` says what counts how often.

    Raises:
        GraphError: A plate that holds no variable, or none that is observed; a size below 1.
        InadmissibleError: A part of the cost is no sum over the members, or the plate is time.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> n, coin = dg.Plate("n"), dg.rv(lambda mean: Normal(mean, 1.0))
        >>> p = dg.model(mean=Normal(0.0, 1.0), x=n(coin))
        >>> q = dg.model(mean=Normal(0.5, 1e-6))
        >>> x, whole = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), dg.elbo(p, q)
        >>> part, _ = subsampled(whole, n=4), torch.manual_seed(0)
        >>> halves = [part.losses({"x": x[:, some]})["model"] for some in ([0, 3], [1, 2])]
        >>> round(whole.losses({"x": x})["model"].item(), 2), round(sum(halves).item() / 2, 2)
        (27.62, 27.62)
    """
    plates = {plate for _, part in objective.parts for plate in _plates(part)}
    for plate, size in sizes.items():
        if plate not in plates:
            hint = did_you_mean(plate, plates)
            raise GraphError(f"the plate {plate!r} holds no variable of {objective}{hint}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise GraphError(f"the size of the plate {plate} is 1 or more, not {size!r}")
    return Objective(tuple((weight, _subsampled(part, sizes)) for weight, part in objective.parts))


def _plates(part: Divergence) -> set[str]:
    return {plate for plates in part.plates.values() for plate in plates}


def _subsampled(part: Divergence, sizes: Mapping[str, int]) -> Divergence:
    own = {plate: size for plate, size in sizes.items() if plate in _plates(part)}
    inner = part.inner if isinstance(part, Subsampled) else part
    for plate in own:
        if not any(plate in part.plates.get(name, ()) for name in part.given):
            raise GraphError(
                f"no observed variable is in the plate {plate}, so a batch cannot hold some of its"
                " members; leave it out"
            )
        if reason := _obstacle(inner, plate):
            raise InadmissibleError(f"{inner.title} cannot take batches of {plate}: {reason}")
    return Subsampled(inner, {**part.whole, **own}) if own else part


def _obstacle(part: Divergence, plate: str) -> str:
    """Say why some members do not stand for all, and what to do; empty where they do."""
    if plate == TIME and any(v.lags for side in (part.a, part.b) for v in side.graph.variables):
        return "steps of a sequence hang on one another; give whole sequences as rows of a batch"
    match part:
        case KullbackLeibler() if part.plan.sum is not None:
            return (
                f"the sum over {', '.join(part.plan.sum.hidden)} is that of all members; give q a"
                " CPD for it"
            )
        case KullbackLeibler():
            if ruled := [n for n in _members(part, part.rates, plate) if _is_ruled(part, n)]:
                return (
                    f"the rate of {ruled[0]} counts by a rule of the rate of all members; use a"
                    " number or a schedule"
                )
            return ""
        case ImportanceWeighted():
            if part.particles.count == 1:
                return ""
            return (
                "the logarithm of a mean over draws is no sum over members, and its estimate would"
                " lie above the bound; use dg.elbo, or particles=1"
            )
        case MarginalLikelihood():
            held = (*part.names, *part.hidden)
            outside = [n for n in held if plate not in part.b.program.plates.get(n, ())]
            if not outside:
                return ""
            return (
                f"{outside[0]} is outside the plate, and with it integrated or scored the members"
                f" are no sum; use dg.elbo(p, q) with a q for it"
            )
    return "it is no sum over members"


def _members(part: Divergence, names: Iterable[str], plate: str) -> list[str]:
    return [name for name in names if plate in part.plates.get(name, ())]


def _is_ruled(part: KullbackLeibler, name: str) -> bool:
    return isinstance(part.rates.get(name), Rate)


@final
class Subsampled(Divergence):
    """A divergence whose batches hold some members of plates.

    Args:
        inner: The divergence.
        whole: Per plate, how many members there are in all.
    """

    def __init__(self, inner: Divergence, whole: Mapping[str, int]) -> None:
        self.inner, self.whole = inner, dict(whole)
        self.a, self.b, self.names, self.shapes = inner.a, inner.b, inner.names, inner.shapes
        self.players, self.critic, self.plates = inner.players, inner.critic, inner.plates
        self.auxiliaries = inner.auxiliaries
        self.partial, self.piecewise, self.eager = inner.partial, inner.piecewise, inner.eager

    @property
    def title(self) -> str:
        """That of the divergence."""
        return self.inner.title

    @property
    def given(self) -> tuple[str, ...]:
        """The variables that a batch must hold."""
        return self.inner.given

    def loss(self, player: str, at: Round) -> Tensor:
        """Return an unbiased estimate of the loss on all members."""
        return self.inner.loss(player, replace(at, whole=self.whole))

    def settle(self, player: str) -> None:
        """Put a player's parameters back where they must be, after an update."""
        self.inner.settle(player)

    def ledger(self) -> tuple[Term, ...]:
        """Say how each term is estimated, then how often what counts."""
        return (*self.inner.ledger(), *map(self._scale, self.whole))

    def _scale(self, plate: str) -> Term:
        a, b = self.inner.a, self.inner.b
        random = [n for n in b.graph.names if b.graph[n].map == "stochastic"]
        random += [n for n in a.graph.names if a.graph[n].map == "stochastic" and n not in a.data]
        scored = list(dict.fromkeys(random))
        inside = _members(self, scored, plate)
        outside = ", ".join(n for n in scored if n not in inside)
        once = f"; {outside} once" if outside else ""
        how = f"{', '.join(inside)} count {self.whole[plate]}/m times in a batch of m{once}"
        term = f"sum over {self.whole[plate]} members of {plate}"
        return Term(self.players[-1].name, term, how, "unbiased: batches are uniform subsets")

    def latex(self) -> Mapping[str, str]:
        """Return what each player minimises, over all members."""
        return self.inner.latex()
