r"""The unified view: costs of GAN, VAE and their kin as two processes over one augmented graph.

Every cost draws from one process and scores another: a GAN draws $x$ given $y$, real or fake, and
scores the discriminator $q_\phi(y \mid x)$; a VAE draws $z$ given $x$ and scores $p(x \mid z)$.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import final

from daguerre.draw.augmented import Augmented, Conditional, swap
from daguerre.graph import Graph, InadmissibleError, Plate
from daguerre.joint import Empirical, Factor, Joint
from daguerre.objectives.activated import AdversaryActivated
from daguerre.objectives.adversarial import Adversarial
from daguerre.objectives.density import KullbackLeibler
from daguerre.objectives.importance import ImportanceWeighted
from daguerre.objectives.kl_plan import KLPlan
from daguerre.objectives.objective import Divergence, Objective, as_objective
from daguerre.structure.recurrence import temporal, upstream

__all__ = ["Augmented", "Conditional", "augmented", "swap"]

MODEL, INFERENCE, CRITIC, PERFECT = r"p_\theta", r"q_\eta", r"q_\phi", "q_*"


def augmented(objective: Objective) -> Augmented:
    r"""Return the augmented graph of a cost, derived from its parts.

    Whatever a part draws from is inference, whatever it scores is generation:

    * a critic scores y given what it compares, which is drawn given y;
    * a divergence of joints with data scores the model; y is inferred by the perfect
      discriminator $q_*(y \mid x)$, which knows where x comes from;
    * a cross entropy scores one conditional, at draws of which a critic tells y;
    * a part that only the critic plays, such as a penalty, changes nothing.

    Args:
        objective: A cost of densities, of critics, or of both.

    Raises:
        InadmissibleError: A part with neither, such as an MMD.
        TypeError: Not an objective.

    References:
        Hu, Yang, Salakhutdinov and Xing (2018, arXiv 1706.00550).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> gan = augmented(dg.gan(p, dg.nn.mlp(2, 8, 1)))
        >>> gan
        Augmented(inference: y -> x <= z | generation: x -> y (adversarial))
        >>> sorted(c.latex() for c in gan.conditionals)
        ['p_\\theta(x \\mid y)', 'q_\\phi^{(r)}(y \\mid x)']
    """
    parts = [part for _, part in as_objective(objective).parts if not _is_of_critic_alone(part)]
    reading = _Reading(_indicators(parts), [p for p in parts if isinstance(p, Adversarial)])
    found = frozenset(c for part in parts for c in reading.conditionals(part))
    used = {n for c in found for n in (c.child, *c.parents)}
    graphs = [side.graph for part in parts for side in (part.a, part.b)]
    times = frozenset(n for g in graphs if g.adjacency.lagged for n in temporal(g))
    indicators = frozenset(reading.indicators.values()) & used
    return Augmented(found, indicators, times & used, _plates(graphs))


@final
@dataclass(frozen=True)
class _Reading:
    """What is known of an objective while its parts are read.

    Attributes:
        indicators: The name of y for each set of variables that may be real or fake.
        games: The parts with a critic.
    """

    indicators: dict[frozenset[str], str]
    games: list[Adversarial] = field(default_factory=list)

    def conditionals(self, part: Divergence) -> Iterator[Conditional]:
        """Yield the distributions that a part draws from or scores."""
        match part:
            case Adversarial():
                yield from self._game(part)
            case AdversaryActivated():
                yield from self._divergence(part.bound.plan, CRITIC)
            case KullbackLeibler() | ImportanceWeighted() if _scores_all(part.plan):
                yield from self._divergence(part.plan, PERFECT)
            case KullbackLeibler():
                yield from self._cross_entropy(part.plan)
            case _:
                raise InadmissibleError(
                    f"{part.title} has neither a critic nor a density, so that nothing infers or"
                    " scores where its draws come from; augmented graphs are of dg.elbo, dg.gan,"
                    " dg.JS, dg.KL and their sums"
                )

    def _game(self, part: Adversarial) -> Iterator[Conditional]:
        """A critic scores y; what it compares is drawn given y."""
        names = _compared(part)
        y = self.indicators[frozenset(names)]
        yield Conditional(y, frozenset(part.names), CRITIC, adversarial=True)
        told = set[str]()
        for side, other in ((part.a, part.b), (part.b, part.a)):
            for one in _drawn(side, names, _symbol(side, other), dict.fromkeys(names, y)):
                told.add(one.child)
                yield one
        for name in (n for n in names if n not in told):  # a root on either side
            yield Conditional(name, frozenset({y}), MODEL, inference=True)

    def _divergence(self, plan: KLPlan, discriminator: str) -> Iterator[Conditional]:
        """Latents are drawn and so is y; the model is scored."""
        data = _data(plan)
        y = self.indicators.get(frozenset(data), "")
        if y:
            parents = frozenset((*data, *_conditions(plan)))
            yield Conditional(y, parents, discriminator, inference=True, adversarial=True)
        yield from _drawn(plan.a, plan.a.names, INFERENCE, dict.fromkeys(plan.names, y))
        yield from _scored(plan, plan.modelled, MODEL, y, roots=data)

    def _cross_entropy(self, plan: KLPlan) -> Iterator[Conditional]:
        """Some conditionals are scored, at draws that a critic may call fake."""
        game = next((g for g in self.games if _same(g.b, plan.a)), None)
        if game is not None:  # the game says how they are drawn
            y = self.indicators[frozenset(_compared(game))]
            drawn_by_p = _symbol(game.b, game.a) == MODEL
            yield from _scored(plan, plan.modelled, INFERENCE if drawn_by_p else MODEL, y)
            return
        of_a, of_b = (INFERENCE, MODEL) if plan.a.data else (MODEL, INFERENCE)
        yield from _drawn(plan.a, plan.a.names, of_a, {})
        yield from _scored(plan, plan.modelled, of_b, "")


def _plates(graphs: Iterable[Graph]) -> tuple[tuple[Plate, frozenset[str]], ...]:
    """Return the plates of some graphs, one for each name, with all that they hold."""
    plates: dict[str, Plate] = {}
    held: dict[str, set[str]] = {}
    for graph in graphs:
        plates |= {p.name: p for p in graph.plates if p.size or p.name not in plates}
        for v in graph.variables:
            for plate in v.plates:
                held.setdefault(plate, set()).add(v.name)
    return tuple((plates[name], frozenset(own)) for name, own in held.items())


def _is_of_critic_alone(part: Divergence) -> bool:
    return all(player.name == "critic" for player in part.players)


def _indicators(parts: Iterable[Divergence]) -> dict[frozenset[str], str]:
    """Name one indicator for each set of variables that is real or fake, y where there is one."""
    sets = dict[frozenset[str], tuple[str, ...]]()
    taken = set[str]()
    for part in parts:
        taken |= {*part.a.graph.names, *part.b.graph.names}
        names = ()
        match part:
            case Adversarial():
                names = _compared(part)
            case AdversaryActivated():
                names = _data(part.bound.plan)
            case KullbackLeibler() | ImportanceWeighted() if _scores_all(part.plan):
                names = _data(part.plan)
        if names:
            sets.setdefault(frozenset(names), names)
    short = len(sets) == 1 and "y" not in taken
    return {key: "y" if short else f"y_{'_'.join(names)}" for key, names in sets.items()}


def _compared(part: Adversarial) -> tuple[str, ...]:
    """Return what is real or fake: what a critic compares, without what both sides are given."""
    given = {n for n in part.a.data if n in part.b.data} | {*part.b.graph.inputs}
    return tuple(n for n in part.names if n not in given)


def _data(plan: KLPlan) -> tuple[str, ...]:
    return tuple(n for n in plan.names if n in plan.a.data)


def _conditions(plan: KLPlan) -> tuple[str, ...]:
    return tuple(n for n in plan.b.graph.inputs if n in plan.a.data)


def _scores_all(plan: KLPlan) -> bool:
    """Whether a divergence of joints is meant, not the score of one conditional."""
    drawn = {*plan.a.graph.names} - {*plan.a.given}
    random = (n for n in plan.b.graph.names if plan.b.graph[n].map == "stochastic")
    given_draws = drawn & {*plan.b.graph.inputs}
    return bool(plan.a.data) and {*random} <= {*plan.modelled} and not given_draws


def _symbol(side: Joint, other: Joint) -> str:
    """Name what draws a side: an inference model is what the data is multiplied with."""
    return INFERENCE if side.data and not other.data else MODEL


def _drawn(
    side: Joint, names: Iterable[str], symbol: str, indicators: dict[str, str]
) -> Iterator[Conditional]:
    """Yield the conditionals by which a side draws some variables, roots left out."""
    graph: Graph = side.graph
    names = tuple(names)
    kept = {*names, *upstream(graph, names)}
    for v in graph.variables:
        if v.name in kept and (v.parents or v.lags) and v.name not in side.data:
            y = indicators.get(v.name, "")
            yield _conditional(graph, v.name, symbol, y, inference=True)


def _scored(
    plan: KLPlan, terms: Iterable[str], symbol: str, y: str, *, roots: Iterable[str] = ()
) -> Iterator[Conditional]:
    """Yield the conditionals that are scored, and the maps that lead to them."""
    graph, terms, roots = plan.b.graph, {*terms}, {*roots}
    maps = {n for n in upstream(graph, terms) - terms if graph[n].map == "deterministic"}
    for v in graph.variables:
        is_child = bool(v.parents or v.lags)
        if is_child and v.name in maps:
            yield _conditional(graph, v.name, symbol, "", inference=False)
        elif v.name in terms and (is_child or v.name in roots):
            real = y if v.parents or v.name in roots else ""  # a prior knows no y
            yield _conditional(graph, v.name, symbol, real, inference=False)


def _conditional(graph: Graph, name: str, symbol: str, y: str, *, inference: bool) -> Conditional:
    parents = graph.parents(name)
    lags, is_map = frozenset(graph[name].lags), graph[name].map == "deterministic"
    through = frozenset((*parents, *(lag.variable for lag in lags)) if is_map else ())
    every = (*parents, y) if y else parents
    return Conditional(name, frozenset(every), symbol, inference, through, lags=lags)


def _same(one: Joint, other: Joint) -> bool:
    """Whether two joints are draws of the same factors, whatever they keep."""
    return _key(one) == _key(other)


def _key(side: Joint) -> list[object]:
    def key(factor: Factor) -> object:
        return factor.names if isinstance(factor, Empirical) else id(factor)

    return [key(factor) for factor in side.factors]
