"""Exact answers for chains: posteriors, evidence and most probable values over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, constraints

from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.answer import Answer
from daguerre.infer.chain.affine import GaussianChain, gaussian_chain
from daguerre.infer.chain.grid import FiniteChain, finite_chain, supports
from daguerre.infer.chain.hmm import log_evidence as finite_evidence
from daguerre.infer.chain.hmm import smoothed
from daguerre.infer.chain.paths import draw_paths, viterbi
from daguerre.infer.chain.reading import read
from daguerre.infer.chain.states import draw_states, smoothed_states, state_evidence
from daguerre.infer.distributions import Finite
from daguerre.joint import Factor, Joint
from daguerre.program import validation

__all__ = [
    "GaussianMarginal",
    "MostProbable",
    "answer",
    "log_evidence",
    "most_probable",
    "recognise",
]


@final
class GaussianMarginal(Distribution):
    """Gaussians given by means and covariances, which may be singular.

    Args:
        mean: `[*batch, *event]`.
        covariance: `[*batch, e, e]` with e the size of the event.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}  # type: ignore[override]

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.loc, self.covariance = mean, covariance
        batch = covariance.shape[:-2]
        super().__init__(batch, mean.shape[len(batch) :], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means, `[*batch, *event]`."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Variances of each component, `[*batch, *event]`."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0).reshape(self.loc.shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:  # type: ignore[override]
        """Draw."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
        shape = torch.Size(sample_shape)
        noise = torch.randn(*shape, *root.shape[:-1], dtype=root.dtype, device=root.device)
        return self.loc + (root @ noise.unsqueeze(-1)).reshape(*shape, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, `[*batch]`; it needs covariances that are not singular."""
        inner = len(self.event_shape)
        flat = self.loc.reshape(self.covariance.shape[:-1])
        at = value.flatten(value.dim() - inner) if inner else value.unsqueeze(-1)
        return MultivariateNormal(flat, self.covariance, validate_args=False).log_prob(at)


class MostProbable(NamedTuple):
    """The most probable values of all hidden variables together.

    Attributes:
        values: Per hidden variable, `[B, T, *event]`.
        log_prob: The log-probability or -density of the evidence with them in nats, `[B]`; None
            for Gaussians, whose hidden variables may be functions of one another.
    """

    values: dict[str, Tensor]
    log_prob: Tensor | None


def recognise(
    joint: Joint | Factor,
    targets: Sequence[str],
    observed: Mapping[str, Tensor],
    *,
    lengths: Tensor | None = None,
) -> FiniteChain | GaussianChain:
    """Find the chain that a joint with lags is, given what is observed.

    Args:
        joint: A model with lags, or a product of some.
        targets: The variables asked for; what bears neither on them nor on evidence is left out.
        observed: Values `[B, T, *event]` of observed variables and inputs; NaN where missing.
        lengths: The number of steps of each sequence, `[B]`.

    Returns:
        A hidden Markov model where all hidden variables are finite (several make a product), a
        linear state space where all are Gaussian and affine in one another.

    Raises:
        InadmissibleError: It is neither; the message says what would make it exact.
        GraphError: Unknown names, or values of the wrong shape.
    """
    with validation(enabled=False):
        reading = read(joint, targets, observed)
        finite, other = supports(reading)
        if not other and (finite or not reading.hidden):
            return finite_chain(reading, finite, lengths)
        if finite:
            raise InadmissibleError(
                f"the hidden {', '.join(finite)} are finite and {', '.join(other)} are not: a"
                " chain that switches has no exact posterior; observe one kind, or ask for draws"
                " by SMC"
            )
        return gaussian_chain(reading, lengths)


def answer(
    joint: Joint | Factor,
    targets: str | Sequence[str],
    observed: Mapping[str, Tensor],
    *,
    lengths: Tensor | None = None,
) -> Answer:
    """Return the exact posterior of hidden variables of a chain at each step.

    Args:
        joint: A model with lags, or a product of some.
        targets: Hidden variables; one by its name, several as a list.
        observed: Values `[B, T, *event]` of observed variables and inputs; NaN where missing.
        lengths: The number of steps of each sequence, `[B]`.

    Returns:
        An answer of which the marginals have the batch shape `[B, T]`.

    Raises:
        InadmissibleError: The chain is neither finite nor linear-Gaussian.
        GraphError: Unknown names, or values of the wrong shape.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> walk = dg.model(
        ...     z=lambda last=dg.lag("z", init=Normal(0.0, 1.0)): Normal(last, 1.0),
        ...     x=lambda z: Normal(z, 1.0),
        ... )
        >>> answer(walk, "z", {"x": torch.ones(1, 2)}).mean
        tensor([[0.6000, 0.8000]])
    """
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    chain = recognise(joint, names, observed, lengths=lengths)
    known = chain.states if isinstance(chain, FiniteChain) else chain.events
    for name in names:
        if name not in known:
            raise GraphError(
                f"{name} is no hidden variable of the chain; those are {', '.join(known)}"
            )
    single = isinstance(targets, str)
    if isinstance(chain, FiniteChain):
        return _finite_answer(chain, names, is_single=single)
    return _gaussian_answer(chain, names, is_single=single)


def log_evidence(
    joint: Joint | Factor, observed: Mapping[str, Tensor], *, lengths: Tensor | None = None
) -> Tensor:
    """Return the log-probability or -density of the observed in nats, `[B]`, with gradients.

    Args:
        joint: A model with lags, or a product of some.
        observed: Values `[B, T, *event]` of observed variables and inputs; NaN where missing.
        lengths: The number of steps of each sequence, `[B]`.

    Raises:
        InadmissibleError: The chain is neither finite nor linear-Gaussian.
    """
    chain = recognise(joint, (), observed, lengths=lengths)
    return (
        finite_evidence(chain.hmm)
        if isinstance(chain, FiniteChain)
        else state_evidence(chain.model)
    )


def most_probable(
    joint: Joint | Factor, observed: Mapping[str, Tensor], *, lengths: Tensor | None = None
) -> MostProbable:
    """Return the most probable values of all hidden variables together.

    For a finite chain that is the Viterbi path, for a Gaussian one the smoothed means.

    Args:
        joint: A model with lags, or a product of some.
        observed: Values `[B, T, *event]` of observed variables and inputs; NaN where missing.
        lengths: The number of steps of each sequence, `[B]`.

    Raises:
        InadmissibleError: The chain is neither finite nor linear-Gaussian.
    """
    chain = recognise(joint, (), observed, lengths=lengths)
    if isinstance(chain, FiniteChain):
        path = viterbi(chain.hmm)
        return MostProbable(_named(chain, path.states), path.log_prob)
    mean = smoothed_states(chain.model).mean
    return MostProbable(_parts(chain, mean), None)


def _finite_answer(chain: FiniteChain, names: tuple[str, ...], *, is_single: bool) -> Answer:
    found = smoothed(chain.hmm)
    table = found.probs.unflatten(-1, chain.counts)
    marginals = {}
    for name in names:
        others = [i + 2 for i, n in enumerate(chain.states) if n != name]
        probs = table.sum(others) if others else table
        marginals[name] = Finite(probs, chain.states[name])

    def draw(n: int) -> dict[str, Tensor]:
        drawn = _named(chain, draw_paths(chain.hmm, n, plan=found.plan))
        return {name: drawn[name] for name in names}

    return Answer(
        names,
        marginals,
        found.log_evidence,
        method=str(found.plan),
        exact=True,
        draw=draw,
        is_single=is_single,
    )


def _gaussian_answer(chain: GaussianChain, names: tuple[str, ...], *, is_single: bool) -> Answer:
    found = smoothed_states(chain.model)
    means = _parts(chain, found.mean)
    marginals = {
        name: GaussianMarginal(means[name], found.covariance[..., part, part])
        for name in names
        for part in (chain.part(name),)
    }

    def draw(n: int) -> dict[str, Tensor]:
        drawn = _parts(chain, draw_states(chain.model, n, plan=found.plan))
        return {name: drawn[name] for name in names}

    return Answer(
        names,
        marginals,
        found.log_evidence,
        method=str(found.plan),
        exact=True,
        draw=draw,
        is_single=is_single,
    )


def _named(chain: FiniteChain, states: Tensor) -> dict[str, Tensor]:
    """Return the values of each variable for numbers of product states."""
    indices = torch.unravel_index(states, chain.counts)
    pairs = zip(chain.states.items(), indices, strict=True)
    return {name: values[index] for (name, values), index in pairs}


def _parts(chain: GaussianChain, states: Tensor) -> dict[str, Tensor]:
    """Return the part of each variable of state vectors `[..., d]`."""
    return {
        name: states[..., chain.part(name)].reshape(*states.shape[:-1], *event)
        for name, event in chain.events.items()
    }
