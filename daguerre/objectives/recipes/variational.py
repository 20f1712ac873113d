r"""Costs of models with an inference model: a bound, with a term more or another divergence.

Most are sums, written out in each docstring, of `dg.elbo`, `dg.cross_entropy` and a divergence of
the aggregate posterior $q(z) = \mathbb{E}_{\mathrm{data}}[q(z \mid x)]$ from the prior.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from daguerre.graph import GraphError
from daguerre.joint import Empirical, Joint
from daguerre.kernels import Kernel, energy
from daguerre.model import Model
from daguerre.objectives.adversarial import JS
from daguerre.objectives.aggregate import total_correlation
from daguerre.objectives.density import KullbackLeibler, cross_entropy
from daguerre.objectives.estimators import Estimator
from daguerre.objectives.expectation import covariance_penalty, expectation
from daguerre.objectives.filtering import Filtering
from daguerre.objectives.games import LOG_RATIO
from daguerre.objectives.importance import ImportanceWeighted, Particles
from daguerre.objectives.kl_plan import KLPlan, choose
from daguerre.objectives.moments import MMD
from daguerre.objectives.objective import Objective, Player
from daguerre.objectives.permuted import permuted
from daguerre.objectives.priors import prior
from daguerre.objectives.recipes.basic import (
    bound,
    check_models,
    check_names,
    elbo,
    observed_names,
)
from daguerre.objectives.recipes.parts import drawn_by, encoded
from daguerre.objectives.schedules import Number

__all__ = [
    "avb",
    "beta_tc_vae",
    "dip_vae",
    "factor_vae",
    "fivo",
    "info_vae",
    "reweighted_wake_sleep",
    "semi_supervised",
    "vq_vae",
    "wae",
    "wake_sleep",
]


def wake_sleep(p: Model, q: Model, *, observed: Iterable[str] | None = None) -> Objective:
    r"""Return the two phases of wake-sleep, each with a player of its own.

    Awake, `"model"` minimises $\mathrm{KL}(\mathrm{data}\, q \Vert p)$ with q held fixed; asleep,
    `"inference"` minimises $\mathbb{E}_p[-\log q(z \mid x)]$ with p held fixed. No draw carries a
    gradient, so that latents may be of any kind.

    Args:
        p: The model.
        q: The inference model.
        observed: As for `dg.elbo`.

    Raises:
        InadmissibleError: A density that is needed does not exist.
        GraphError: q does not fit p.

    References:
        Hinton, Dayan, Frey and Neal (1995), The wake-sleep algorithm, Science 268.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> [player.name for player in wake_sleep(p, q).players]
        ['inference', 'model']
    """
    plan = bound(p, q, observed, choose(None, learns=False))
    wake = KullbackLeibler(plan, players=(Player("model", (p,)),))
    return Objective(((1.0, wake),)) + _sleep(p, q, plan)


def fivo(
    p: Model,
    q: Model,
    *,
    particles: int = 16,
    threshold: float = 0.5,
    observed: Iterable[str] | None = None,
    partial: Iterable[str] = (),
) -> Objective:
    r"""Return minus the bound of a particle filter over a chain (FIVO).

    $$-\mathbb{E} \log \prod_t \frac1K \sum_k w_t^k, \qquad w_t^k = \frac{p(z_t^k \mid z_{t-1}^k)\,
      p(x_t \mid z_t^k)}{q(z_t^k \mid z_{t-1}^k, x)}$$

    with particles that are chosen anew by their weights on the way, which counts the mean weights
    since the last time. It stays close to the log-evidence of long chains, where `dg.iwae` does
    not; its loss is in nats per sequence. q may read what is observed in either direction, but
    draws forwards.

    Args:
        p: The model, a chain.
        q: The inference model of its latents.
        particles: K, for each sequence.
        threshold: Particles are chosen anew where their effective size falls below this share of
            them: 0 never, which is `dg.iwae`, 1 at each step.
        observed: As for `dg.elbo`.
        partial: As for `dg.elbo`, of what is only observed; sequences end with the last step that
            holds something.

    Raises:
        ValueError: No number of particles, no share.
        InadmissibleError: p is no chain; plates within time, bijections; latents without pathwise
            draws; a q that draws backwards.
        GraphError: q does not fit p.

    References:
        Maddison et al. (2017, arXiv 1705.09279); Naesseth et al. (2018, arXiv 1705.11140); Le et
        al. (2018, arXiv 1705.10306).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> _ = torch.manual_seed(0)
        >>> start = Normal(0.0, 1.0)
        >>> p = dg.model(
        ...     z=lambda last=dg.lag("z", init=start): Normal(last, 1.0),
        ...     x=lambda z: Normal(z, 1.0),
        ... )
        >>> q = dg.model(
        ...     x=dg.Input(), z=lambda x, last=dg.lag("z", init=0.0): Normal((last + x) / 2, 0.7)
        ... )
        >>> x = torch.tensor([[0.3, -0.7]])
        >>> loss = fivo(p, q, particles=1000).losses(x)["model"]
        >>> bool((loss + dg.log_evidence(p, {"x": x})).abs() < 0.05)
        True
    """
    plan = bound(p, q, observed, choose(None, partial))
    return Objective(((1.0, Filtering(plan, particles, threshold)),))


def reweighted_wake_sleep(
    p: Model,
    q: Model,
    *,
    particles: int = 10,
    sleep: float = 0.0,
    observed: Iterable[str] | None = None,
) -> Objective:
    r"""Return the phases of reweighted wake-sleep: draws of q, weighed by p / q.

    `"model"` minimises minus the importance-weighted bound; `"inference"` minimises
    $-\mathbb{E} \sum_k \tilde w_k \log q(z_k \mid x)$ at the same kind of draws, weights
    normalised and held fixed, and `sleep` times the sleep phase. No draw carries a gradient.

    Args:
        p: The model.
        q: The inference model.
        particles: K, the draws of the latents for each example.
        sleep: The weight of the sleep phase of q.
        observed: As for `dg.elbo`.

    Raises:
        InadmissibleError: A density that is needed does not exist.
        GraphError: q does not fit p.
        ValueError: Fewer than one particle.

    References:
        Bornschein and Bengio (2015, arXiv 1406.2751); Le et al. (2019, arXiv 1805.10469).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> reweighted_wake_sleep(p, q, particles=5)
        Objective(IWAE-5 over z, x; players: inference, model)
    """
    plan = bound(p, q, observed, choose(None, learns=False))
    players = (Player("model", (p,)), Player("inference", (q,)))
    wake = Objective(((1.0, ImportanceWeighted(plan, Particles(particles), players)),))
    return wake + sleep * _sleep(p, q, plan) if sleep else wake


def _sleep(p: Model, q: Model, plan: KLPlan) -> Objective:
    return cross_entropy(p, q, of=plan.terms_a, players={"inference": q})


def semi_supervised(
    p: Model,
    q: Model,
    *,
    labels: str = "y",
    weight: float = 1.0,
    rate: Number | None = None,
    gradients: Estimator | Mapping[str, Estimator] | None = None,
) -> Objective:
    r"""Return the cost of the model M2: a bound for rows with and without a label.

    It is `elbo(p, q, partial=[labels]) + weight * cross_entropy(data, q, of=labels)`, the second
    term over the rows that have a label, without which nothing would train the classifier
    q(y | x) on them. A row without a label has a negative one, or NaN where labels are floats.

    Args:
        p: The model, (y, z) to x.
        q: The inference model, x to y and (x, y) to z.
        labels: The variable that is observed for some rows.
        weight: Of the classifier's loss, the mean over the rows with a label in a batch.
        rate: As for `dg.elbo`.
        gradients: As for `dg.elbo`; few labels are summed over.

    Raises:
        InadmissibleError: As for `dg.elbo`.
        GraphError: q does not fit p, or `labels` is no latent.

    References:
        Kingma, Rezende, Mohamed and Welling (2014, arXiv 1406.5298).
    """
    cost = elbo(p, q, partial=[labels], rate=rate, gradients=gradients)
    labelled = Empirical((*q.graph.inputs, labels))
    return cost + weight * cross_entropy(labelled, q, of=labels, partial=[labels])


def wae(
    p: Model,
    q: Model,
    *,
    weight: float = 10.0,
    kernel: Kernel = energy,
    observed: Iterable[str] | None = None,
) -> Objective:
    r"""Return the cost of a Wasserstein autoencoder with an MMD penalty.

    It is `cross_entropy(data * q, p, of=x) + weight * MMD(p[z], (data * q)[z])`: q as a whole, not
    for each x, is to look like the prior. q may be deterministic.

    Args:
        p: The model; Normal(G(z), s) with s fixed gives the squared cost of the paper, halved
            and divided by $s^2$.
        q: The inference model, random or deterministic.
        weight: Of the MMD.
        kernel: As for `dg.MMD`.
        observed: As for `dg.elbo`.

    Raises:
        InadmissibleError: x has no density, or a draw no gradient.
        GraphError: q does not fit p.

    References:
        Tolstikhin, Bousquet, Gelly and Schoelkopf (2018, arXiv 1711.01558).
    """
    data, latents, seen = _sides(p, q, observed)
    rebuilt = cross_entropy(data, p, of=seen)
    return rebuilt + weight * MMD(p[latents], data[latents], kernel=kernel)


def info_vae(
    p: Model,
    q: Model,
    *,
    alpha: float = 0.0,
    weight: float = 10.0,
    kernel: Kernel = energy,
    observed: Iterable[str] | None = None,
) -> Objective:
    r"""Return the cost of an InfoVAE: `elbo(rate=1 - alpha) + (alpha + weight - 1) * MMD`.

    With alpha = 1 it is a WAE with random q, an MMD-VAE.

    Args:
        p: The model.
        q: The inference model.
        alpha: How much of the mutual information of x and z is given back, up to 1.
        weight: $\lambda$; `alpha + weight` is 1 or more.
        kernel: As for `dg.MMD`.
        observed: As for `dg.elbo`.

    Raises:
        InadmissibleError: As for `dg.elbo`.
        GraphError: q does not fit p.
        ValueError: Weights that come out negative.

    References:
        Zhao, Song and Ermon (2019, arXiv 1706.02262).
    """
    data, latents, _ = _sides(p, q, observed)
    cost = elbo(p, q, observed=observed, rate=1 - alpha)
    return cost + (alpha + weight - 1) * MMD(p[latents], data[latents], kernel=kernel)


def beta_tc_vae(
    p: Model, q: Model, *, rows: int, beta: float = 6.0, observed: Iterable[str] | None = None
) -> Objective:
    r"""Return the cost of a beta-TC-VAE: `elbo + (beta - 1) * total_correlation`.

    Args:
        p: The model.
        q: The inference model of one latent, whose dimensions are independent given x.
        rows: How many rows the data has.
        beta: The weight of the total correlation, 1 or more.
        observed: As for `dg.elbo`.

    Raises:
        InadmissibleError: As for `dg.elbo` and `total_correlation`.
        GraphError: q does not fit p, or has several latents.
        ValueError: Weights that come out negative.

    References:
        Chen, Li, Grosse and Duvenaud (2018, arXiv 1802.04942).
    """
    data, (latent,), _ = _sides(p, q, observed)
    cost = elbo(p, q, observed=observed)
    return cost + (beta - 1) * total_correlation(data, of=latent, rows=rows)


def factor_vae(
    p: Model,
    q: Model,
    critic: nn.Module,
    *,
    weight: float = 10.0,
    observed: Iterable[str] | None = None,
) -> Objective:
    r"""Return the cost of a FactorVAE: an ELBO and a total correlation that a critic estimates.

    The critic tells draws of q(z) from draws with every dimension shuffled over the batch; its
    log-ratio at draws of q(z) is what q pays for.

    Args:
        p: The model.
        q: The inference model of one latent.
        critic: From z to logits `[n]` or `[n, 1]`.
        weight: $\gamma$.
        observed: As for `dg.elbo`.

    Raises:
        InadmissibleError: As for `dg.elbo`.
        GraphError: q or the critic does not fit p.

    References:
        Kim and Mnih (2018, arXiv 1802.05983).
    """
    data, (latent,), _ = _sides(p, q, observed)
    shuffled = permuted(data, of=latent)
    ratio = JS(data[latent], shuffled, critic=critic, loss=_OF_THE_FIRST)
    return elbo(p, q, observed=observed) + weight * ratio


def dip_vae(
    p: Model,
    q: Model,
    *,
    off_diagonal: float = 10.0,
    diagonal: float = 10.0,
    observed: Iterable[str] | None = None,
) -> Objective:
    r"""Return the cost of a DIP-VAE-II: an ELBO, and how far cov q(z) is from the identity.

    Args:
        p: The model.
        q: The inference model of one latent.
        off_diagonal: The weight of covariances.
        diagonal: The weight of variances that are not 1.
        observed: As for `dg.elbo`.

    Raises:
        InadmissibleError: As for `dg.elbo`.
        GraphError: q does not fit p.

    References:
        Kumar, Sattigeri and Balakrishnan (2018, arXiv 1711.00848).
    """
    data, _, _ = _sides(p, q, observed)

    def penalty(z: Tensor) -> Tensor:
        return covariance_penalty(z, off_diagonal=off_diagonal, diagonal=diagonal)

    return elbo(p, q, observed=observed) + expectation(data, penalty, name="covariance penalty")


def avb(
    p: Model, q: Model, critic: nn.Module, *, observed: Iterable[str] | None = None
) -> Objective:
    r"""Return the cost of adversarial variational Bayes: an implicit q, its KL by a critic.

    $\mathbb{E}_{\mathrm{data}\, q}[T(x, z) - \log p(x \mid z)]$, where the critic T learns
    $\log q(z \mid x) - \log p(z)$ by telling data * q from data * p(z). With a critic that is not
    the best one this is no bound.

    Args:
        p: The model; x must have a density given z.
        q: The inference model; its latents may be deterministic functions of noise and x.
        critic: From the latents, then what is observed, in the order of p, to `[n]` or `[n, 1]`.
        observed: As for `dg.elbo`.

    Raises:
        InadmissibleError: x has no density, or a draw no gradient.
        GraphError: q or the critic does not fit p.

    References:
        Mescheder, Nowozin and Geiger (2017, arXiv 1701.04722).
    """
    data, latents, seen = _sides(p, q, observed)
    given = tuple(n for n in data.data if n in (*seen, *q.graph.inputs))
    apart = Empirical(given) * prior(p, latents)
    order = tuple(n for n in p.graph.names if n in (*latents, *given))
    ratio = JS(data[order], apart[order], critic=critic, loss=LOG_RATIO)
    return cross_entropy(data, p, of=seen) + ratio


def vq_vae(p: Model, q: Model, *, commitment: float = 0.25) -> Objective:
    r"""Return the cost of a vector-quantised autoencoder.

    $-\log p(x \mid z) + \lVert \mathrm{sg}(h) - e \rVert^2 + \beta\,\lVert h - \mathrm{sg}(e)
    \rVert^2$, of the features h of q, the code e nearest to them, and z, which is e with the
    gradient of h (see `dg.nn.Codebook`).

    Args:
        p: The model of x given z.
        q: The inference model, x to `h` to `e`, and both to z, all deterministic.
        commitment: $\beta$.

    Raises:
        InadmissibleError: x has no density.
        GraphError: q lacks `h` or `e`, or does not fit p.

    References:
        Van den Oord, Vinyals and Kavukcuoglu (2017, arXiv 1711.00937).
    """
    check_models(p=p, q=q)
    if missing := [name for name in ("h", "e") if name not in q.graph]:
        raise GraphError(
            f"q declares no {' and no '.join(missing)}: a vector-quantised q maps x to features h,"
            " h to the nearest code e, and both to z; see dg.nn.Codebook"
        )
    drawn = {n for n in q.graph.names if n not in q.graph.inputs}
    seen = tuple(n for n in p.graph.leaves if n not in drawn)
    data = Empirical(seen) * q

    def distances(h: Tensor, e: Tensor) -> Tensor:
        pull = (h.detach() - e).square().flatten(1).sum(1)
        return pull + commitment * (h - e.detach()).square().flatten(1).sum(1)

    return cross_entropy(data, p, of=seen) + expectation(data, distances, name="codes")


_OF_THE_FIRST = replace(
    LOG_RATIO,
    model=torch.zeros_like,
    formulas=(*LOG_RATIO.formulas[:2], "", LOG_RATIO.formulas[3]),
)  # the draws of the second side are held fixed


class _Sides(NamedTuple):
    """What a recipe is written with: data * q, the latents, and what is observed."""

    data: Joint
    latents: tuple[str, ...]
    seen: tuple[str, ...]


def _sides(p: Model, q: Model, observed: Iterable[str] | None) -> _Sides:
    check_models(p=p, q=q)
    seen = observed_names(p.graph, observed, latent=q.graph)
    check_names(p, q, seen, implicit=True)
    return _Sides(encoded(p, q, seen), drawn_by(p, q), seen)
