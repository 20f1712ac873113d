"""The costs people name, each a few lines on top of the algebra of divergences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import nn

from daguerre.families import Shared, SharedNormal
from daguerre.graph import Graph, GraphError, InadmissibleError, did_you_mean
from daguerre.joint import Empirical, as_joint
from daguerre.model import Model
from daguerre.objectives.adversarial import JS
from daguerre.objectives.density import KL, KullbackLeibler
from daguerre.objectives.estimators import Estimator
from daguerre.objectives.evidence import MarginalLikelihood
from daguerre.objectives.games import NON_SATURATING, GameLoss
from daguerre.objectives.importance import ImportanceWeighted, Particles
from daguerre.objectives.kl_plan import Choices, KLPlan, check_rates, choose, kl_plan
from daguerre.objectives.objective import Objective
from daguerre.objectives.penalties import Penalised
from daguerre.objectives.rates import Rate, Rates, by_name
from daguerre.objectives.schedules import Number
from daguerre.objectives.sides import shapes_alone

__all__ = ["bound", "check_models", "check_names", "elbo", "gan", "iwae", "nll", "observed_names"]


def elbo(
    p: Model,
    q: Model,
    *,
    observed: Iterable[str] | None = None,
    partial: Iterable[str] = (),
    rate: Number | Rate | Rates | None = None,
    gradients: Estimator | Mapping[str, Estimator] | None = None,
) -> Objective:
    r"""Return the negative evidence lower bound, the cost of a variational autoencoder.

    $$-\mathrm{ELBO} = \mathbb{E}_{q(z \mid x)}[\log q(z \mid x) - \log p(x, z)]$$

    It is `KL(data * q, p)` up to the entropy of the data; its loss is in nats per example. Finite
    latents that q does not draw, such as the regimes of a switching model, are summed out exactly
    at its draws of the others.

    Args:
        p: The model; every variable that is observed must have a density.
        q: The inference model of the latents, given what is observed.
        observed: Variables that the data holds: those of p, and inputs that q alone looks at. By
            default q's inputs and p's leaves that q does not draw.
        partial: Variables that the data holds for some rows: NaN, or a negative integer, marks a
            row where it does not. The bound of such a row is that of what is known of it; where q
            is given such a variable, it sees 0.
        rate: What the KL terms of the latents count: a number (beta-VAE), a schedule (annealing),
            or a rule of `dg.rates` such as `free_bits(0.5)`; for all latents or by name.
        gradients: How gradients get past the draws, for all latents or by name; see
            `dg.estimators`. By default pathwise where draws carry a gradient, else a sum over few
            states, else the score function with a leave-one-out baseline.

    Raises:
        InadmissibleError: An observed variable is implicit, or a gradient that is asked for does
            not exist.
        GraphError: q lacks a latent of p that is not finite, invents one, or does not fit its
            shapes.

    References:
        Kingma and Welling (2014, arXiv 1312.6114); Rezende et al. (2014, arXiv 1401.4082).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> torch.manual_seed(0); loss = elbo(p, q).losses(torch.full([100_000], 2.0))
        <torch._C.Generator object at ...>
        >>> round(loss["model"].item(), 2)  # the bound is tight: -log N(2; 0, 2)
        2.27
    """
    check_models(p=p, q=q)
    plan = bound(p, q, observed, choose(gradients, partial))
    rates = by_name(rate, tuple(n for n in plan.terms_a if n in plan.names))
    check_rates(plan, rates)
    return Objective(((1.0, KullbackLeibler(plan, rates=rates)),))


def bound(p: Model, q: Model, observed: Iterable[str] | None, choices: Choices) -> KLPlan:
    """Plan KL(data * q, p)."""
    check_models(p=p, q=q)
    names = observed_names(p.graph, observed, latent=q.graph)
    summed = _finite(p, _uncovered(p, q, names))
    check_names(p, q, names, summed=summed)
    given = [n for n in q.graph.inputs if n in p.graph.inputs]
    inputs = [n for n in p.graph.inputs if n not in given]
    model = p[(n for n in p.graph.names if n not in summed)] if summed else as_joint(p)
    return kl_plan(Empirical((*names, *given, *inputs)) * q, model, choices)


def _uncovered(p: Model, q: Model, observed: tuple[str, ...]) -> list[str]:
    """Return the latents of p that q does not draw."""
    recovered = {v.inverts for g in (p.graph, q.graph) for v in g.variables if v.inverts}
    latent = (n for n in p.graph.names if p.graph[n].map == "stochastic")
    return [n for n in latent if n not in (*observed, *recovered) and n not in q.graph]


def _finite(p: Model, names: list[str]) -> tuple[str, ...]:
    """Return the variables whose values can be listed, as far as that is known without data."""
    if not names:
        return ()
    shapes = shapes_alone(as_joint(p))
    return tuple(n for n in names if n in shapes and shapes[n].states)


def iwae(  # noqa: PLR0913 - one bound, each choice by keyword
    p: Model,
    q: Model,
    *,
    particles: int = 50,
    groups: int = 1,
    order: float = 0.0,
    observed: Iterable[str] | None = None,
    partial: Iterable[str] = (),
    gradients: Estimator | Mapping[str, Estimator] | None = None,
) -> Objective:
    r"""Return minus the importance-weighted bound, the cost of an IWAE.

    $$-\mathcal{L}_K = -\mathbb{E} \log \tfrac1K \sum_{k=1}^K
      \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad z_k \sim q(z \mid x)$$

    It lies between the ELBO (K = 1) and the log-evidence, and falls to it as K grows; its loss is
    in nats per example.

    Args:
        p: The model.
        q: The inference model.
        particles: K, the draws of the latents for each example.
        groups: M, how many such bounds are averaged for each example (MIWAE).
        order: Of the Renyi bound $\tfrac{1}{1 - \alpha} \log \tfrac1K \sum_k w_k^{1 - \alpha}$;
            0 is the bound above, and 1 would be the ELBO.
        observed: As for `elbo`.
        partial: As for `elbo`.
        gradients: As for `elbo`. The score function compares each draw with the bound in which
            the others stand in for it (VIMCO); `dg.estimators.DREG` is the doubly reparametrised
            gradient.

    Raises:
        ValueError: Fewer than one particle or group, an order of 1 or more.
        InadmissibleError: As for `elbo`; also a variable that all rows share, such as a weight,
            and an estimator that would be biased.

    References:
        Burda, Grosse and Salakhutdinov (2016, arXiv 1509.00519); Rainforth et al. (2018, arXiv
        1802.04537) for groups; Li and Turner (2016, arXiv 1602.02311) for orders; Mnih and Rezende
        (2016, arXiv 1602.06725) for VIMCO.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> loss = iwae(p, q, particles=5).losses(torch.full([10], 2.0))
        >>> round(loss["model"].item(), 4)  # exact, as q is the posterior: -log N(2; 0, 2)
        2.2655
    """
    drawn = Particles(particles, groups, order)
    plan = bound(p, q, observed, choose(gradients, partial))
    for name, shape in plan.shapes.b.items():
        if shape.cpd in (Shared, SharedNormal):
            raise InadmissibleError(
                f"{name} is shared by all rows of the data, so weights of single rows bound no"
                " evidence; use dg.elbo"
            )
    return Objective(((1.0, ImportanceWeighted(plan, drawn)),))


def nll(
    p: Model, *, observed: Iterable[str] | None = None, partial: str | Iterable[str] = ()
) -> Objective:
    r"""Return the negative log-likelihood, `KL(data, p)` up to the entropy of the data.

    Random variables that are not observed are summed and integrated out by exact inference: so
    it trains mixtures, factor analysers and Bayesian networks with hidden variables, and with
    `dg.lag` hidden Markov models and linear state spaces. Steps on such a cost run eagerly;
    `dg.em` has closed-form steps for tables and linear Gaussians.

    $$-\log p(x) = -\log \sum_k \int p(x, k, z)\, \mathrm{d}z$$

    With lags a row of data is a sequence, `[N, T, *event]`, and the loss is in nats per sequence.

    Args:
        p: A model whose variables are observed, recovered from what is observed by declared
            bijections, or hidden and taken by an exact engine: finite ones, and linear Gaussian
            ones below finite ones.
        observed: Variables that the data holds; by default all that nothing else determines.
        partial: Those of them that the data holds for some rows: NaN, or a negative integer,
            marks a row, or a component, where it does not; with lags, a step. Sequences that are
            shorter than others lack their last steps.

    Raises:
        InadmissibleError: A variable is implicit, or hidden and no exact engine takes it.
        GraphError: A name in `partial` that is not observed.

    References:
        Dempster, Laird and Rubin (1977) for what is maximised; Darwiche (2003), *A differential
        approach to inference in Bayesian networks*, for its gradient.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Categorical, Normal
        >>> p = dg.model(k=Categorical(torch.ones(2)), x=lambda k: Normal(4.0 * k, 1.0))
        >>> nll(p, observed=["x"]).losses(torch.tensor([0.0, 2.0]))["model"]
        tensor(2.2653)
        >>> walk = dg.model(
        ...     z=lambda z_prev=dg.lag("z", init=Normal(0.0, 1.0)): Normal(0.5 * z_prev, 1.0),
        ...     x=lambda z: Normal(z, 1.0),
        ... )
        >>> nll(walk, observed=["x"]).losses(torch.zeros(10, 2))["model"]  # sequences of 2 steps
        tensor(2.5613)
    """
    check_models(p=p)
    graph = p.graph
    recovered = {v.inverts for v in graph.variables if v.inverts}
    default = [n for n in graph.names if n not in recovered and _is_output(graph, n)]
    names = tuple(graph[n].name for n in (default if observed is None else observed))
    data, model = Empirical((*names, *graph.inputs)), p[(*names, *graph.inputs)]
    if some := (partial,) if isinstance(partial, str) else tuple(partial):
        return Objective(((1.0, MarginalLikelihood(as_joint(data), model, some)),))
    return KL(data, model)


def gan(
    p: Model,
    critic: nn.Module,
    *,
    observed: Iterable[str] | None = None,
    loss: GameLoss = NON_SATURATING,
    penalty: Penalised = (),
) -> Objective:
    """Return the game of a generative adversarial network, `JS(data, p[observed])`.

    Args:
        p: The model; only samples of what is observed are needed.
        critic: A module from the observed variables (then p's inputs) to logits `[n]` or `[n, 1]`.
        observed: Variables that the data holds; by default the leaves of p.
        loss: A row of `dg.games`, such as `HINGE`, `LSGAN` or `RELATIVISTIC`; `MINIMAX` saturates
            and is for teaching.
        penalty: One of `dg.penalties`, or a tuple of them, which are added to the critic's loss.

    Raises:
        InadmissibleError: An observed variable is drawn without a pathwise gradient.

    References:
        Goodfellow et al. (2014, arXiv 1406.2661).
    """
    check_models(p=p)
    names = observed_names(p.graph, observed, latent=None)
    both = (*names, *p.graph.inputs)
    return JS(Empirical(both), p[both], critic=critic, loss=loss, penalty=penalty)


def check_models(**models: object) -> None:
    """Check that what is called p or q is a model.

    Raises:
        TypeError: It is something else, or the class instead of an instance.
    """
    for role, model in models.items():
        if not isinstance(model, Model):
            came = model.__name__ if isinstance(model, type) else type(model).__name__
            kind = "the class" if isinstance(model, type) else "a"
            raise TypeError(f"{role} must be a dg.Model, an instance of it, not {kind} {came}")


def _is_output(graph: Graph, name: str) -> bool:
    leads_on = any(name == lag.variable for v in graph.variables for lag in v.lags)
    return graph[name].map == "stochastic" or (name in graph.leaves and not leads_on)


def observed_names(
    graph: Graph, observed: Iterable[str] | None, latent: Graph | None
) -> tuple[str, ...]:
    """Return the observed variables of a model, by default its leaves."""
    if observed is not None:
        read = latent.inputs if latent is not None else ()
        return tuple(n if n in read else graph[n].name for n in observed)
    drawn = {n for n in latent.names if n not in latent.inputs} if latent is not None else set()
    given = latent.inputs if latent is not None else ()
    names = [n for n in graph.names if n in (*graph.leaves, *given) and n not in graph.inputs]
    return tuple(n for n in names if n not in drawn)


def check_names(
    model: Model,
    other: Model,
    observed: tuple[str, ...],
    *,
    implicit: bool = False,
    summed: Collection[str] = (),
) -> None:
    """Check that q draws every latent of p from what is observed, and nothing else.

    Args:
        model: The model p.
        other: The inference model q.
        observed: What the data holds.
        implicit: Whether q may draw noise of its own, because no density of it is needed.
        summed: Latents that q need not draw, because they are summed out.

    Raises:
        GraphError: Says what is missing or unknown, and where it is declared.
    """
    p, q = model.graph, other.graph
    for name in q.inputs:
        if name not in p and name not in observed:
            hint = did_you_mean(name, p.names)
            also = ", ".join(map(repr, (*observed, name)))
            raise GraphError(
                f"q, {type(other).__name__}, is given {name!r}, which p lacks{hint}; data that q"
                f" alone looks at is named in observed=[{also}]"
            )
    recovered = {v.inverts for g in (p, q) for v in g.variables if v.inverts}
    missing = [n for n in _uncovered(model, other, observed) if n not in summed]
    for name in q.names:
        own = name not in (*p.names, *recovered) and q[name].map == "stochastic"
        if own and not implicit:
            hint = did_you_mean(name, missing or p.names)
            raise GraphError(
                f"q draws {name!r}, which is no variable of p{hint}\n  {_declared(other, name)}"
            )
    if missing:
        places = "".join(f"\n  {_declared(model, name)}" for name in missing)
        raise GraphError(
            f"q lacks {', '.join(missing)}, latent in p; give q a CPD for it, or, if the data"
            f" holds it, name it in observed=(...){places}"
        )


def _declared(model: Model, name: str) -> str:
    step = next(s for s in model.steps() if s.name == name)
    return f"in {type(model).__name__}: {step}"
