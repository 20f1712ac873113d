r"""How a latent variable is drawn, and how gradients get past the draw: chosen in the open.

$$\nabla_\phi\,\mathbb{E}_{q_\phi(z)}[f(z)]$$

is the mean of a gradient along the draw (pathwise), a sum over all states (enumeration), or the
mean of $f(z)\,\nabla \log q(z)$ less a baseline (score function).

References:
    Mohamed, Rosca, Figurnov and Mnih (2020, arXiv 1906.10652), a review.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from torch import nn
from torch.distributions import Bernoulli, OneHotCategorical

from daguerre.objectives.schedules import Number, check_weight, show
from daguerre.shapes import Shape

__all__ = [
    "DREG",
    "ENUMERATE",
    "PATHWISE",
    "SCORE_FUNCTION",
    "STICK_THE_LANDING",
    "Enumerate",
    "Estimator",
    "Pathwise",
    "Relaxed",
    "ScoreFunction",
    "automatic",
    "gumbel_softmax",
    "pathwise",
    "score_function",
    "straight_through",
]

FEW = 64  # states that are listed without being asked for


class Estimator(ABC):
    """How one latent variable is drawn.

    Attributes:
        draws: Draws for each example.
    """

    draws: int

    @abstractmethod
    def refuse(self, shape: Shape) -> str | None:
        """Say why draws of a variable cannot be treated so, and what to do; None if they can."""

    @abstractmethod
    def describe(self) -> str:
        """Say in the ledger how gradients get past the draw, and with which variance control."""


@final
@dataclass(frozen=True)
class Pathwise(Estimator):
    """Gradients flow along the draw, `rsample`."""

    draws: int = 1
    stop_score: bool = False
    doubly: bool = False

    def refuse(self, shape: Shape) -> str | None:
        """Draws that carry no gradient cannot be followed."""
        if shape.pathwise or not shape.learned:
            return None
        return (
            "carry no pathwise gradient; choose another estimator: dg.estimators.ENUMERATE,"
            " score_function(draws=4), or gumbel_softmax(temperature)"
        )

    def describe(self) -> str:
        """Say what is done."""
        landing = ", without the score of q" if self.stop_score else ""
        return "pathwise, doubly reparametrised" if self.doubly else f"pathwise{landing}"


@final
@dataclass(frozen=True)
class Enumerate(Estimator):
    """Every state counts with its probability: no draw, no noise."""

    draws: ClassVar[int] = 1  # type: ignore[misc] - the same for all

    def refuse(self, shape: Shape) -> str | None:
        """A continuous variable has no list of states."""
        if shape.states is not None:
            return None
        return "have no list of states to sum over; use dg.estimators.score_function(draws=4)"

    def describe(self) -> str:
        """Say what is done."""
        return "exact, summed over its states"


@final
@dataclass(frozen=True, eq=False)
class ScoreFunction(Estimator):
    """The cost downstream of the draw, less a baseline, times the score of q."""

    draws: int = 4
    baseline: nn.Module | None = None

    def refuse(self, shape: Shape) -> str | None:
        """Everything that has a density can be treated so."""
        return None

    def describe(self) -> str:
        """Say what is done."""
        how = "leave-one-out" if self.baseline is None else "learned"
        return f"score function, {how} baseline"


@final
@dataclass(frozen=True)
class Relaxed(Estimator):
    """A discrete draw relaxed to a point of the simplex, or rounded with a passing gradient."""

    temperature: Number
    hard: bool
    draws: int = 1

    def refuse(self, shape: Shape) -> str | None:
        """Only Bernoulli and one-hot variables can be relaxed."""
        if shape.cpd is not None and issubclass(shape.cpd, Bernoulli | OneHotCategorical):
            return None
        return "cannot be relaxed; return Bernoulli or OneHotCategorical from its CPD"

    def describe(self) -> str:
        """Say what is done, and that it is biased."""
        how = "straight-through" if self.hard else "Gumbel-softmax"
        return f"{how} at temperature {show(self.temperature)}, biased"


def pathwise(*, draws: int = 1) -> Pathwise:
    """Follow the gradient along the draw; the default where draws carry one.

    Args:
        draws: For each example.

    Raises:
        ValueError: Fewer than one draw.
    """
    return Pathwise(_positive(draws))


def score_function(*, draws: int = 4, baseline: nn.Module | None = None) -> ScoreFunction:
    r"""Weigh the score of q with the cost downstream of the draw, less a baseline.

    Costs that the draw cannot reach in the graph are left out, which changes nothing but the
    variance (Rao-Blackwell). With several draws the baseline of each is the mean of the others
    (RLOO); in `dg.iwae` each draw is compared with the bound in which the others stand in for it
    (VIMCO).

    Args:
        draws: For each example, two or more unless a baseline is given.
        baseline: A net of what is observed, in the order of the data, that learns the mean cost
            of an example, `[n]` or `[n, 1]`, as a player of its own (NVIL); then one draw.

    Raises:
        ValueError: Fewer than two draws without a baseline.

    References:
        Williams (1992); Mnih and Gregor (2014, arXiv 1402.0030); Schulman et al. (2015, arXiv
        1506.05254); Kool, van Hoof and Welling (2019); Mnih and Rezende (2016, arXiv 1602.06725).
    """
    if baseline is None and _positive(draws) < 2:
        raise ValueError(
            f"draws={draws}: a leave-one-out baseline compares draws with each other, so it takes"
            " two or more; or give a net as the baseline"
        )
    return ScoreFunction(1 if baseline is not None else draws, baseline)


def gumbel_softmax(temperature: Number, *, draws: int = 1) -> Relaxed:
    """Relax a discrete draw to a point of the simplex: low variance, biased.

    Args:
        temperature: Above 0; a schedule cools it down.
        draws: For each example.

    References:
        Jang, Gu and Poole (2017, arXiv 1611.01144); Maddison, Mnih and Teh (2017, arXiv
        1611.00712). The KL term stays that of the discrete variables.
    """
    return Relaxed(_temperature(temperature), hard=False, draws=_positive(draws))


def straight_through(temperature: Number = 1.0, *, draws: int = 1) -> Relaxed:
    """Round a relaxed draw to a state and pass the gradient of the relaxed one: biased.

    Args:
        temperature: Above 0; a schedule cools it down.
        draws: For each example.

    References:
        Bengio, Leonard and Courville (2013, arXiv 1308.3432); Jang et al. (2017).
    """
    return Relaxed(_temperature(temperature), hard=True, draws=_positive(draws))


PATHWISE = Pathwise()
STICK_THE_LANDING = Pathwise(stop_score=True)
"""Pathwise without the score of q: no variance where q is the posterior (Roeder, Wu and Duvenaud
2017, arXiv 1703.09194). Unbiased for one draw, biased in bounds of several."""
DREG = Pathwise(stop_score=True, doubly=True)
"""Doubly reparametrised: what sticks the landing in a bound of several draws, without bias
(Tucker, Lawson, Gu and Maddison 2019, arXiv 1810.04152)."""
ENUMERATE = Enumerate()
SCORE_FUNCTION = ScoreFunction()


def automatic(shape: Shape | None, states: int) -> Estimator:
    """Choose: pathwise, else enumeration of few states, else the score function.

    Args:
        shape: What is known of the variable without data.
        states: How many combinations are listed already.
    """
    if shape is None or shape.pathwise or not shape.learned:
        return PATHWISE
    if shape.states is not None and shape.states * states <= FEW:
        return ENUMERATE
    return SCORE_FUNCTION


def _positive(draws: int) -> int:
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws is a number, 1 or more, not {draws!r}")
    return draws


def _temperature(temperature: Number) -> Number:
    if check_weight(temperature, "the temperature") == 0:
        raise ValueError("the temperature is above 0; at 0 no gradient passes")
    return temperature
