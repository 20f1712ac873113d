"""Approximate methods by name, with their numbers; a question takes one as `method`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, final

from daguerre.graph import GraphError, InadmissibleError, did_you_mean
from daguerre.joint import Factor, Joint

__all__ = ["ABC", "NUTS", "SMC", "How", "Importance", "LikelihoodWeighting", "Method", "check_how"]


@final
@dataclass(frozen=True)
class Importance:
    r"""Importance sampling: latent variables are drawn from q, and weighed by p / q.

    $\log \hat p(x) = \log \frac1S \sum_s w_s$, $w_s = p(x, z_s) / q(z_s \mid x)$; the mean of the
    weights is unbiased. Moments use Pareto-smoothed weights.

    Args:
        draws: S, for each row of evidence.

    References:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), arXiv 1507.02646.
    """

    draws: int = 1000

    def __post_init__(self) -> None:
        _check_count("draws", self.draws)


@final
@dataclass(frozen=True)
class LikelihoodWeighting:
    r"""Likelihood weighting: latent variables are drawn from the model, parents first.

    A draw weighs $\prod_i p(e_i \mid \mathrm{pa}_i)$ over the evidence; importance sampling with
    the CPDs as the proposal.

    Args:
        draws: How many, for each row of evidence.

    References:
        Fung and Chang (1989), *Weighing and integrating evidence for stochastic simulation in
        Bayesian networks*; Koller and Friedman (2009), section 12.3.
    """

    draws: int = 10_000

    def __post_init__(self) -> None:
        _check_count("draws", self.draws)


@final
@dataclass(frozen=True)
class ABC:
    r"""Kernel conditioning (approximate Bayesian computation): for implicit variables.

    Draws whose simulation s comes near the observation x are kept, with the Epanechnikov weight
    $1 - d(s, x)^2 / h^2$; d is the root mean square of differences over components, in standard
    deviations of the simulations. The answer is exact for an observation with noise of that
    shape. Other evidence weighs by its likelihood.

    Args:
        draws: How many, for each row of evidence.
        keep: The share of draws that is kept; it sets the bandwidth h of each row.
        bandwidth: The bandwidth h, instead.

    References:
        Beaumont, Zhang and Balding (2002), *Approximate Bayesian computation in population
        genetics*; Wilkinson (2013), *Approximate Bayesian computation gives exact results under
        the assumption of model error*, arXiv 0811.3355.
    """

    draws: int = 20_000
    keep: float = 0.01
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        _check_count("draws", self.draws)
        if not 0 < self.keep <= 1:
            raise GraphError(f"keep is a share of the draws, above 0 up to 1, not {self.keep!r}")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise GraphError(f"bandwidth is a distance above 0, not {self.bandwidth!r}")


@final
@dataclass(frozen=True)
class NUTS:
    """The no-U-turn sampler of the package nutpie (`pip install 'daguerre[mcmc]'`).

    Continuous latent variables are mapped to the whole space by bijections; rows of evidence are
    answered one after the other.

    Args:
        draws: Kept draws of each chain.
        tune: Draws of each chain for adaptation, which are thrown away.
        chains: How many chains.
        seed: Of the chains; drawn from torch's generator if None.
        compiled: Compile the log-density for each row of evidence: about 20 seconds at first,
            then several times faster.

    References:
        Hoffman and Gelman (2014), *The No-U-Turn sampler*, JMLR 15, arXiv 1111.4246.
    """

    draws: int = 1000
    tune: int = 500
    chains: int = 4
    seed: int | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        for name in ("draws", "tune", "chains"):
            _check_count(name, getattr(self, name))


@final
@dataclass(frozen=True)
class SMC:
    r"""Sequential Monte Carlo over a chain: a bootstrap particle filter.

    Args:
        particles: How many, for each sequence.

    References:
        Gordon, Salmond and Smith (1993), *Novel approach to nonlinear/non-Gaussian Bayesian state
        estimation*.
    """

    particles: int = 1000

    def __post_init__(self) -> None:
        _check_count("particles", self.particles)


Method = Importance | LikelihoodWeighting | ABC | NUTS | SMC


class How(TypedDict, total=False):
    """How a question is to be answered; what is left out is chosen.

    Attributes:
        max_memory: Bytes above which the question is refused, 4 GiB if None.
        exact: Refuse rather than approximate.
        q: An inference model, such as the encoder of an autoencoder: importance sampling with
            draws from it.
        method: An approximate method, even where an exact answer is at hand.
    """

    max_memory: float | None
    exact: bool
    q: Factor | Joint | None
    method: Method | None


def check_how(how: How) -> None:
    """Refuse unknown words, and exact answers by approximate methods.

    Raises:
        TypeError: An unknown word, a method that is none.
        GraphError: A q without its method, or the other way round.
        InadmissibleError: `exact` together with q or a method.
    """
    for name in how:
        if name not in How.__annotations__:
            hint = did_you_mean(name, How.__annotations__)
            raise TypeError(f"a question takes {', '.join(How.__annotations__)}, not {name}{hint}")
    method, q, limit = how.get("method"), how.get("q"), how.get("max_memory")
    if not isinstance(limit, int | float | None):
        raise TypeError(f"max_memory is a number of bytes, not {limit!r}")
    if method is not None and not isinstance(method, Method):
        raise TypeError(
            f"method is one of dg.infer.Importance(), .LikelihoodWeighting(), .ABC() and .NUTS(),"
            f" not {method!r}"
        )
    if how.get("exact") and (q is not None or method is not None):
        what = "q proposes draws, which give" if method is None else f"{method} gives"
        raise InadmissibleError(
            f"exact=True, but {what} an approximate answer; leave out one of them"
        )
    if q is None and isinstance(method, Importance):
        raise GraphError("importance sampling draws from an inference model: give it as q=")
    if q is not None and not isinstance(method, Importance | None):
        raise GraphError(f"q is for importance sampling, not for {method}; leave out one of them")


def _check_count(name: str, number: object) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise GraphError(f"{name} is a number of draws or chains, 1 or more, not {number!r}")
