"""The recipes that play model, inference model and critic together, by the algebra alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from daguerre.graph import GraphError
from daguerre.joint import Empirical, as_joint
from daguerre.model import Model
from daguerre.objectives.activated import AdversaryActivated
from daguerre.objectives.adversarial import JS, Adversarial
from daguerre.objectives.density import KullbackLeibler, cross_entropy
from daguerre.objectives.estimators import Estimator
from daguerre.objectives.games import IWGAN, NON_SATURATING, GameLoss
from daguerre.objectives.kl_plan import choose
from daguerre.objectives.objective import Objective
from daguerre.objectives.penalties import Penalised
from daguerre.objectives.rates import Rate, Rates
from daguerre.objectives.recipes.basic import bound, check_models, elbo, gan, observed_names
from daguerre.objectives.recipes.parts import (
    drawn_by,
    encoded,
    ends_of,
    held_fixed,
    with_density,
)
from daguerre.objectives.schedules import Number

__all__ = ["aae", "aavae", "ali", "cyclegan", "infogan", "iwgan", "vae_gan"]


def infogan(  # noqa: PLR0913 - one game, each choice by keyword
    p: Model,
    q: Model,
    critic: nn.Module,
    *,
    codes: str | Iterable[str] | None = None,
    weight: Number = 1.0,
    loss: GameLoss = NON_SATURATING,
    penalty: Penalised = (),
) -> Objective:
    r"""Return the game of an InfoGAN: a GAN whose codes can be told from what it draws.

    $$\mathrm{JS}(\mathrm{data}, p(x)) + \lambda\, \mathbb{E}_{p}[-\log q(c \mid x)]$$

    The second term is, up to the entropy of the codes, an upper bound of minus their mutual
    information with x; it is tight where q is the posterior.

    Args:
        p: The model, such as (z, c) => x; x is drawn pathwise.
        q: The inference model of the codes given x; it moves with p.
        critic: A module from x (then p's inputs) to logits `[n]` or `[n, 1]`.
        codes: Variables that q tells; by default all that it draws.
        weight: $\lambda$.
        loss: Of the game.
        penalty: As for `gan`.

    Raises:
        InadmissibleError: A draw that needs a gradient has none.
        GraphError: q tells a variable that p lacks.

    References:
        Chen et al. (2016, arXiv 1606.03657).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Bernoulli, Normal
        >>> p = dg.model(
        ...     z=Normal(torch.zeros(1), 1.0),
        ...     c=Bernoulli(torch.full([1], 0.5)),
        ...     x=dg.deterministic(lambda z, c: z + 4 * c),
        ... )
        >>> q = dg.model(x=dg.Input(1), c=lambda x: Bernoulli(logits=4 * x - 8))
        >>> infogan(p, q, dg.nn.mlp(1, 8, 1))
        Objective(JS over x + cross entropy of c, over c; players: critic, model)
    """
    check_models(p=p, q=q)
    names = drawn_by(p, q) if codes is None else codes
    told = cross_entropy(p, q, of=names)
    return gan(p, critic, loss=loss, penalty=penalty) + weight * told


def aae(  # noqa: PLR0913 - one game, each choice by keyword
    p: Model,
    q: Model,
    critic: nn.Module,
    *,
    observed: Iterable[str] | None = None,
    weight: Number = 1.0,
    loss: GameLoss = NON_SATURATING,
    penalty: Penalised = (),
) -> Objective:
    r"""Return the game of an adversarial autoencoder: reconstruction, and codes like the prior.

    $$\mathbb{E}_{\mathrm{data} \cdot q}[-\log p(x \mid z)]
      + \lambda\, \mathrm{JS}(p(z), (\mathrm{data} \cdot q)(z))$$

    Only samples of q are needed, so it may be deterministic. All latents are matched at once,
    those of a semi-supervised model too: a class that q gives as a point of the simplex is
    compared with the one-hot draws of the prior. A prior without parameters is held fixed.

    Args:
        p: The model; x has a density given the latents.
        q: The inference model of the latents, drawn pathwise.
        critic: A module from the latents, in the order of p (then p's inputs), to logits `[n]` or
            `[n, 1]` that are high on the prior.
        observed: As for `elbo`.
        weight: $\lambda$, of the game, for what the game moves; the critic's loss has none.
        loss: Of the game.
        penalty: As for `gan`.

    Raises:
        InadmissibleError: x is implicit, or a draw that needs a gradient has none.

    References:
        Makhzani et al. (2016, arXiv 1511.05644).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(1), 1.0), x=lambda z: Normal(2 * z, 1.0))
        >>> q = dg.model(
        ...     x=dg.Input(1), z=dg.deterministic(lambda x, net: net(x), net=nn.Linear(1, 1))
        ... )
        >>> aae(p, q, dg.nn.mlp(1, 8, 1))
        Objective(cross entropy of x, over z, x + JS over z; players: critic, model)
    """
    check_models(p=p, q=q)
    names = observed_names(p.graph, observed, latent=q.graph)
    codes = encoded(p, q, names)
    matched = (*drawn_by(p, q), *p.graph.inputs)
    prior = Empirical(p.graph.inputs) * p if p.graph.inputs else as_joint(p)
    match = JS(prior[matched], codes[matched], critic=critic, loss=loss, penalty=penalty)
    return cross_entropy(codes, p, of=names) + weight * match


def ali(
    p: Model,
    q: Model,
    critic: nn.Module,
    *,
    observed: Iterable[str] | None = None,
    loss: GameLoss = NON_SATURATING,
    penalty: Penalised = (),
) -> Objective:
    r"""Return the game of ALI, or BiGAN: `JS(data * q, p)` on the joint of x and z.

    Args:
        p: The model, drawn pathwise.
        q: The inference model, drawn pathwise; it may be deterministic.
        critic: A module from latents and x, in the order of p (then p's inputs), to logits `[n]`
            or `[n, 1]` that are high on the data.
        observed: As for `elbo`.
        loss: Of the game.
        penalty: As for `gan`.

    Raises:
        InadmissibleError: A draw that needs a gradient has none.

    References:
        Dumoulin et al. (2017, arXiv 1606.00704); Donahue, Krähenbühl and Darrell (2017, arXiv
        1605.09782).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(1), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> q = dg.model(x=dg.Input(1), z=dg.deterministic(lambda x: x / 2))
        >>> ali(p, q, nn.Bilinear(1, 1, 1))
        Objective(JS over z, x; players: critic, model)
    """
    check_models(p=p, q=q)
    names = observed_names(p.graph, observed, latent=q.graph)
    both = tuple(n for n in p.graph.names if n in (*drawn_by(p, q), *names))
    return JS(
        encoded(p, q, names)[both],
        p[(*both, *p.graph.inputs)],
        critic=critic,
        loss=loss,
        penalty=penalty,
    )


def vae_gan(  # noqa: PLR0913 - one game, each choice by keyword
    p: Model,
    q: Model,
    critic: nn.Module,
    *,
    observed: Iterable[str] | None = None,
    rate: Number | Rate | Rates | None = None,
    weight: Number = 1.0,
    loss: GameLoss = NON_SATURATING,
    penalty: Penalised = (),
) -> Objective:
    r"""Return minus the ELBO plus $\lambda\,\mathrm{JS}(\mathrm{data}, p(x))$: KL both ways.

    Larsen et al. differ in two points: they reconstruct in the features of a hidden layer of the
    critic, and call reconstructions fake too. Here q minimises the ELBO, p both terms, and the
    fakes are draws of p.

    Args:
        p: The model; x has a density and is drawn pathwise.
        q: The inference model.
        critic: A module from x (then p's inputs) to logits `[n]` or `[n, 1]`.
        observed: As for `elbo`.
        rate: As for `elbo`.
        weight: $\lambda$, of the game, for what the game moves; the critic's loss has none.
        loss: Of the game.
        penalty: As for `gan`.

    Raises:
        InadmissibleError: x is implicit, or a draw that needs a gradient has none.

    References:
        Larsen et al. (2016, arXiv 1512.09300).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(1), 1.0), x=lambda z: Normal(2 * z, 1.0))
        >>> q = dg.model(x=dg.Input(1), z=lambda x: Normal(x / 2, 0.5))
        >>> vae_gan(p, q, nn.Linear(1, 1), weight=0.1)
        Objective(KL over z, x + 0.1 * JS over x; players: critic, model)
    """
    check_models(p=p, q=q)
    names = observed_names(p.graph, observed, latent=q.graph)
    game = gan(p, critic, observed=names, loss=loss, penalty=penalty)
    return elbo(p, q, observed=names, rate=rate) + weight * game


def cyclegan(
    forward: Model,
    backward: Model,
    critics: Mapping[str, nn.Module],
    *,
    weight: Number = 10.0,
    loss: GameLoss = NON_SATURATING,
) -> Objective:
    r"""Return the game of a CycleGAN: two translators that undo each other, from unpaired data.

    $$\mathrm{JS}(\mathrm{data}(b), F(a)) + \mathrm{JS}(\mathrm{data}(a), G(b))
      + \lambda\,(\mathbb{E}[-\log p(a \mid b = F(a))] + \mathbb{E}[-\log p(b \mid a = G(b))])$$

    A deterministic translator gets a Laplace density of scale 1 around its output for the cycle
    terms, so that they are $\lVert G(F(a)) - a \rVert_1$, summed over the event, plus log 2 for
    each of its numbers. A translator that has a density keeps its own.

    Args:
        forward: F, a model with one input, a, that draws b.
        backward: G, a model with one input, b, that draws a.
        critics: By name, a critic of a and one of b, each from its variable to logits.
        weight: $\lambda$; for means over the event, divide it by the size of that.
        loss: Of both games.

    Raises:
        GraphError: The models do not lead to and fro, or a critic is missing.
        InadmissibleError: A draw that needs a gradient has none.

    References:
        Zhu, Park, Isola and Efros (2017, arXiv 1703.10593).

    Example:
        >>> import daguerre as dg
        >>> F = dg.model(a=dg.Input(2), b=dg.deterministic(lambda a, f: f(a), f=nn.Linear(2, 3)))
        >>> G = dg.model(b=dg.Input(3), a=dg.deterministic(lambda b, g: g(b), g=nn.Linear(3, 2)))
        >>> cyclegan(F, G, {"a": nn.Linear(2, 1), "b": nn.Linear(3, 1)}).given
        ('b', 'a')
    """
    check_models(forward=forward, backward=backward)
    a, b = ends_of(forward, backward)
    for name in (a, b):
        if name not in critics:
            came = ", ".join(critics) or "none"
            raise GraphError(f"critics holds one for {a} and one for {b}; it has {came}")
    there, back = Empirical((a,)) * forward, Empirical((b,)) * backward
    games = JS(Empirical((b,)), there[b], critic=critics[b], loss=loss)
    games += JS(Empirical((a,)), back[a], critic=critics[a], loss=loss)
    cycles = cross_entropy(there, with_density(backward, a), of=a)
    cycles += cross_entropy(back, with_density(forward, b), of=b)
    return games + weight * cycles


def iwgan(p: Model, critic: nn.Module, *, observed: Iterable[str] | None = None) -> Objective:
    r"""Return the game of an importance weighted GAN: draws count by how real they look.

    $$\min_\theta\; -\sum_i \mathrm{sg}(\tilde w_i) \log D(x_i), \qquad
      \tilde w = \mathrm{softmax}(\text{logits})$$

    over the batch, since $D / (1 - D)$ estimates data over model. One draw, or equal logits, give
    the non-saturating loss.

    Args:
        p: The model.
        critic: As for `gan`.
        observed: As for `gan`.

    Raises:
        InadmissibleError: As for `gan`.

    References:
        Hu et al. (2018, arXiv 1706.00550), section 4.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> sorted(iwgan(p, nn.Linear(2, 1)).losses(torch.zeros(5, 2)))
        ['critic', 'model']
    """
    return gan(p, critic, observed=observed, loss=IWGAN)


def aavae(  # noqa: PLR0913 - one game, each choice by keyword
    p: Model,
    q: Model,
    critic: nn.Module,
    *,
    observed: Iterable[str] | None = None,
    partial: Iterable[str] = (),
    gradients: Estimator | Mapping[str, Estimator] | None = None,
    loss: GameLoss = NON_SATURATING,
) -> Objective:
    r"""Return the game of an adversary activated VAE: it learns from its own good draws too.

    $$\max_{\theta, \eta}\; \mathbb{E}_{x \sim \frac12 (\mathrm{data} + p)}
      [\mathrm{sg}(D(x))\, \mathrm{ELBO}(x)]$$

    with one fake for each example, held fixed. A critic that is always right gives half the VAE.
    The critic is trained as in a GAN.

    Args:
        p: The model; x has a density. Its draws need no gradient.
        q: The inference model.
        critic: A module from x (then p's inputs) to logits `[n]` or `[n, 1]`.
        observed: As for `elbo`.
        partial: As for `elbo`; what is known in part is unknown for the fakes.
        gradients: As for `elbo`, but pathwise or enumerated.
        loss: Of the critic.

    Raises:
        InadmissibleError: x is implicit, or a latent needs the score function.

    References:
        Hu et al. (2018, arXiv 1706.00550), section 4.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(1), 1.0), x=lambda z: Normal(2 * z, 1.0))
        >>> q = dg.model(x=dg.Input(1), z=lambda x: Normal(x / 2, 0.5))
        >>> aavae(p, q, nn.Linear(1, 1))
        Objective(D * KL over z, x; players: critic, model)
    """
    check_models(p=p, q=q)
    plan = bound(p, q, observed, choose(gradients, partial))
    names = observed_names(p.graph, observed, latent=q.graph)
    both = (*names, *p.graph.inputs)
    game = Adversarial(as_joint(Empirical(both)), held_fixed(p)[both], critic, loss)
    return Objective(((1.0, AdversaryActivated(KullbackLeibler(plan), game)),))
