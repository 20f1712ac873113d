r"""What critic and model minimise: every row is one game, of the logit s that the critic puts out.

The first side a is called real, the second b fake, and $D = \sigma(s)$. Where the best critic is
the log-ratio, $s = \log a / b$, it can be read off with `dg.log_ratio`.

The model's loss is coupled to the critic's (all terms, with the sign turned) where that pulls the
draws towards the data, which the tests check for every row. Two losses that are in print do not,
and are not here: $\mathbb{E}_b[s]$, whose negative is meant, and $\mathbb{E}_b[r f'(r)]$.

Ratio matching under a Bregman divergence is the variational bound of an f-divergence:
`dg.f.KL.game()` and its like are those rows.

References:
    Goodfellow et al. (2014, arXiv 1406.2661); Mohamed and Lakshminarayanan (2016, arXiv
    1610.03483), equations 3 to 25, for scoring rules and ratio matching; Gneiting and Raftery
    (2007), JASA 102, for what makes a scoring rule proper.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from daguerre.graph import InadmissibleError

__all__ = [
    "BERNOULLI",
    "BRIER",
    "EXPONENTIAL",
    "HINGE",
    "IWGAN",
    "KLIEP",
    "LOG_RATIO",
    "LSGAN",
    "LSIF",
    "MINIMAX",
    "MISCLASSIFICATION",
    "NON_SATURATING",
    "RELATIVISTIC",
    "RELATIVISTIC_AVERAGE",
    "ROWS",
    "SPHERICAL",
    "WASSERSTEIN",
    "GameLoss",
    "least_squares",
    "prior",
]


@dataclass(frozen=True)
class GameLoss:
    """What critic and model minimise, per example, as functions of the critic's logits.

    Attributes:
        name: As people call it.
        real: The critic's loss on draws of the first side, of the logit s.
        fake: The critic's loss on draws of the second side, of the logit s.
        model: The model's loss on draws of the second side, of the logit s.
        first: Its loss on draws of the first side, where that has parameters too.
        formulas: The four in LaTeX, with # for the critic's output, and ~ for its output on the
            other side; an empty one is no term.
        divergence: What the game estimates.
        output: The critic's output in LaTeX.
        is_ratio: Whether the best critic is the log-ratio of the two sides.
        best: The best critic in words.
        why: What is to be known of the model's loss.
        relate: From the logits of both sides to what the four losses are functions of, where they
            depend on both at once; the model then minimises both of its terms.
        prior: The probability of the first side in the critic's loss; see `prior`.
        compares: Whether the loss of a row depends on the other rows of the batch.
        trains: Whether the losses have gradients at all.
    """

    name: str
    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    model: Callable[[Tensor], Tensor]
    first: Callable[[Tensor], Tensor]
    formulas: tuple[str, str, str, str]
    divergence: str = "JS"
    output: str = r"D_\psi"
    is_ratio: bool = True
    best: str = "the log-ratio log a / b"
    why: str = "samples only: no density is asked for"
    relate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    prior: float = 0.5
    compares: bool = False
    trains: bool = True

    @property
    def offset(self) -> float:
        r"""By how much the best critic exceeds the log-ratio: $\log \pi / (1 - \pi)$."""
        return math.log(self.prior) - math.log1p(-self.prior)


def _nothing(s: Tensor) -> Tensor:
    return torch.zeros_like(s)


def _raise(s: Tensor) -> Tensor:
    return -s


def _lower(s: Tensor) -> Tensor:
    return s


_LOGISTIC = (r"-\log #", r"-\log(1 - #)")
_LOGIT = r"s_\psi"


# The logistic loss of the critic: its best output is the log-ratio

NON_SATURATING = GameLoss(
    "non-saturating",
    lambda s: softplus(-s),
    softplus,
    lambda s: softplus(-s),
    softplus,
    (*_LOGISTIC, r"-\log #", r"-\log (1 - #)"),
)
"""Goodfellow et al. (2014): the model minimises -log D; the default."""

MINIMAX = GameLoss(
    "minimax",
    lambda s: softplus(-s),
    softplus,
    lambda s: -softplus(s),
    lambda s: -softplus(-s),
    (*_LOGISTIC, r"\log(1 - #)", r"\log #"),
    why="its gradient vanishes where the critic is sure: for teaching",
)
"""Goodfellow et al. (2014): the model minimises log(1 - D), minus the critic's loss."""


def _weighted(s: Tensor, loss: Tensor) -> Tensor:
    """Weigh losses by the softmax of s over the batch, which is held fixed; n times that."""
    return len(s) * torch.softmax(s, 0).detach() * loss


IWGAN = GameLoss(
    "importance-weighted",
    lambda s: softplus(-s),
    softplus,
    lambda s: _weighted(s, softplus(-s)),
    lambda s: _weighted(-s, softplus(s)),
    (*_LOGISTIC, r"-\tilde{w} \log #", r"-\tilde{w} \log (1 - #)"),
    why="w = D / (1 - D) over its mean in the batch, held fixed; 1 / w on the first side",
    compares=True,
)
r"""Hu et al. (2018, arXiv 1706.00550), equation 16: $-\sum_i \tilde w_i \log D(x_i)$, where
$\tilde w = \mathrm{softmax}(s)$ over the batch, a constant for gradients."""

LOG_RATIO = GameLoss(
    "log-ratio",
    lambda s: softplus(-s),
    softplus,
    _raise,
    _lower,
    (r"-\log \sigma(#)", r"-\log \sigma(-#)", "-#", "#"),
    divergence="KL of the learned side",
    output=_LOGIT,
    why="minimises KL(b || a) in b, and KL(a || b) in a: an estimate, no bound",
)
r"""The logit stands for $\log a / b$ in a KL divergence. Parameters of the second side minimise
$-\mathbb{E}_b[s] \approx \mathrm{KL}(b \Vert a)$; those of the first, $\mathbb{E}_a[s] \approx
\mathrm{KL}(a \Vert b)$, as an inference model does that comes first (adversarial variational
Bayes, Mescheder et al. 2017, arXiv 1701.04722; FactorVAE, Kim and Mnih 2018, arXiv 1802.05983)."""


# Other proper scoring rules: the same best critic

BERNOULLI = MINIMAX
"""The logarithmic score; the coupled model loss is that of `MINIMAX`."""

BRIER = GameLoss(
    "Brier",
    lambda s: torch.sigmoid(-s) ** 2,
    lambda s: torch.sigmoid(s) ** 2,
    lambda s: -(torch.sigmoid(s) ** 2),
    lambda s: -(torch.sigmoid(-s) ** 2),
    ("(1 - #)^2", "#^2", "-#^2", "-(1 - #)^2"),
    divergence="Le Cam",
)
"""The quadratic score (Brier 1950)."""

EXPONENTIAL = GameLoss(
    "exponential",
    lambda s: torch.exp(-s / 2),
    lambda s: torch.exp(s / 2),
    lambda s: -torch.exp(s / 2),
    lambda s: -torch.exp(-s / 2),
    ("e^{-# / 2}", "e^{# / 2}", "-e^{# / 2}", "-e^{-# / 2}"),
    divergence="squared Hellinger",
    output=_LOGIT,
)
r"""$((1 - D) / D)^{1/2}$; with any other exponent the best critic is not the log-ratio."""

SPHERICAL = GameLoss(
    "spherical",
    lambda s: -torch.exp(-softplus(-2 * s) / 2),
    lambda s: -torch.exp(-softplus(2 * s) / 2),
    lambda s: torch.exp(-softplus(2 * s) / 2),
    lambda s: torch.exp(-softplus(-2 * s) / 2),
    (
        r"-(1 + e^{-2 #})^{-1/2}",
        r"-(1 + e^{2 #})^{-1/2}",
        r"(1 + e^{2 #})^{-1/2}",
        r"(1 + e^{-2 #})^{-1/2}",
    ),
    divergence="spherical",
    output=_LOGIT,
)
r"""$-D / (D^2 + (1 - D)^2)^{1/2}$, written so that no logit overflows."""


# Ratio matching, r = e^s: the same best critic

LSIF = GameLoss(
    "least-squares importance fitting",
    lambda s: -torch.exp(s),
    lambda s: torch.exp(2 * s) / 2,
    lambda s: -torch.exp(2 * s) / 2,
    torch.exp,
    ("-e^{#}", r"\tfrac12 e^{2 #}", r"-\tfrac12 e^{2 #}", "e^{#}"),
    divergence="Pearson chi-square",
    output=_LOGIT,
)
"""Kanamori, Hido and Sugiyama (2009), JMLR 10."""

KLIEP = GameLoss(
    "KL importance estimation",
    _raise,
    torch.expm1,
    _raise,
    _lower,
    ("-#", "e^{#} - 1", "-#", "#"),
    divergence="KL",
    output=_LOGIT,
    why="no model loss comes with it: KL(b || a) by the logit instead",
)
"""Sugiyama et al. (2008). The model minimises the reverse KL, as with `LOG_RATIO`."""


# Games whose best critic is not the log-ratio

HINGE = GameLoss(
    "hinge",
    lambda s: relu(1 - s),
    lambda s: relu(1 + s),
    _raise,
    _lower,
    (r"\max(0, 1 - #)", r"\max(0, 1 + #)", "-#", "#"),
    divergence="total variation",
    output=_LOGIT,
    is_ratio=False,
    best="the sign of a - b",
    why="samples only; a critic with spectral norm is usual",
)
"""Lim and Ye (2017, arXiv 1705.02894); Miyato et al. (2018, arXiv 1802.05957)."""

MISCLASSIFICATION = GameLoss(
    "misclassification",
    lambda s: (s <= 0).to(s.dtype),
    lambda s: (s > 0).to(s.dtype),
    lambda s: -(s > 0).to(s.dtype),
    lambda s: -(s <= 0).to(s.dtype),
    (r"[# \le 0]", "[# > 0]", "-[# > 0]", r"-[# \le 0]"),
    divergence="total variation",
    output=_LOGIT,
    is_ratio=False,
    best="the sign of a - b",
    why="its gradient is zero: to report, not to train",
    trains=False,
)
"""The error rate. Its gradient is zero, so nothing is trained on it; report it of a critic that
was trained on another row."""

WASSERSTEIN = GameLoss(
    "Wasserstein-1",
    _raise,
    _lower,
    _raise,
    _lower,
    ("-#", "#", "-#", "#"),
    divergence="Wasserstein-1",
    output=r"f_\psi",
    is_ratio=False,
    best="a function of slope 1 at most",
    why="the size of the loss is the distance, where the critic is near its best",
)
"""Arjovsky, Chintala and Bottou (2017, arXiv 1701.07875). The critic must be kept Lipschitz, or
its loss has no minimum: `dg.Wasserstein` sees to that."""


def least_squares(fake: float, real: float, model: float) -> GameLoss:
    r"""Return a least-squares game: the critic regresses labels, the model aims at its own.

    Critic: $\tfrac12 (s - b)^2$ on the first side and $\tfrac12 (s - a)^2$ on the second; model:
    $\tfrac12 (s - c)^2$. With $b - c = 1$ and $b - a = 2$ the model minimises the Pearson
    chi-square between $a + b$ and $2 b$.

    Args:
        fake: The label a of the second side.
        real: The label b of the first side.
        model: The label c that the model wants for its draws.

    Raises:
        ValueError: The same label for both sides, or one that is not finite.

    References:
        Mao et al. (2017, arXiv 1611.04076).

    Example:
        >>> game = least_squares(-1.0, 1.0, 0.0)
        >>> game.fake(torch.tensor([1.0])), game.model(torch.tensor([1.0]))
        (tensor([2.]), tensor([0.5000]))
    """
    if fake == real or not all(map(math.isfinite, (fake, real, model))):
        raise ValueError(
            f"the labels are finite, and differ between the sides; not fake {fake:g},"
            f" real {real:g}, model {model:g}"
        )
    mirrored = fake + real - model  # what the first side wants, seen from the other end

    def half_square(label: float) -> Callable[[Tensor], Tensor]:
        return lambda s: (s - label) ** 2 / 2

    def formula(label: float) -> str:
        inside = f"(# {'-' if label >= 0 else '+'} {abs(label):g})" if label else "#"
        return rf"\tfrac12 {inside}^2"

    return GameLoss(
        "least squares",
        half_square(real),
        half_square(fake),
        half_square(model),
        half_square(mirrored),
        (formula(real), formula(fake), formula(model), formula(mirrored)),
        divergence="least squares",
        output=_LOGIT,
        is_ratio=False,
        best=f"the mean label, between {fake:g} and {real:g}",
    )


LSGAN = least_squares(0.0, 1.0, 1.0)
"""Mao et al. (2017, arXiv 1611.04076), with the labels 0, 1, 1."""


# Games of both logits at once

RELATIVISTIC = GameLoss(
    "relativistic",
    lambda d: softplus(-d),
    _nothing,
    lambda d: softplus(-d),
    _nothing,
    (r"-\log \sigma(# - ~)", "", r"-\log \sigma(# - ~)", ""),
    divergence="relativistic",
    output=_LOGIT,
    is_ratio=False,
    best="a score that is higher on a than on b",
    why="rows of the two sides are paired; with R1 and R2 penalties it is R3GAN",
    relate=lambda real, fake: (real - fake, fake - real),
)
"""RpGAN (Jolicoeur-Martineau 2018, arXiv 1807.00734): which of two is real. With `r1` and `r2` it
is R3GAN (Huang et al. 2024, arXiv 2501.05441)."""

RELATIVISTIC_AVERAGE = GameLoss(
    "relativistic average",
    lambda d: softplus(-d),
    softplus,
    lambda d: softplus(-d),
    softplus,
    (
        r"-\log \sigma(# - \mathbb{E}\, ~)",
        r"-\log \sigma(\mathbb{E}\, ~ - #)",
        r"-\log \sigma(# - \mathbb{E}\, ~)",
        r"-\log \sigma(\mathbb{E}\, ~ - #)",
    ),
    divergence="relativistic",
    output=_LOGIT,
    is_ratio=False,
    best="a score that is higher on a than on b",
    why="each row against the mean score of the other side, over the batch",
    relate=lambda real, fake: (real - fake.mean(), fake - real.mean()),
    compares=True,
)
"""RaGAN (Jolicoeur-Martineau 2018, arXiv 1807.00734): more real than the others on average."""


ROWS = (
    NON_SATURATING,
    MINIMAX,
    IWGAN,
    LOG_RATIO,
    BRIER,
    EXPONENTIAL,
    SPHERICAL,
    LSIF,
    KLIEP,
    HINGE,
    MISCLASSIFICATION,
    WASSERSTEIN,
    LSGAN,
    RELATIVISTIC,
    RELATIVISTIC_AVERAGE,
)
"""The games without a parameter, each once."""


def prior(loss: GameLoss, weight: float) -> GameLoss:
    r"""Return a game whose critic weighs its losses by $\pi$ and $1 - \pi$.

    As if the first side were drawn with probability $\pi$: the best critic is
    $\log a / b + \log \pi / (1 - \pi)$, and `dg.log_ratio` takes the second term off again. The
    losses of the model are what they were, as functions of the critic's output: `LOG_RATIO` then
    estimates a KL divergence but for that constant.

    Args:
        loss: A game whose best critic is the log-ratio.
        weight: $\pi$, between 0 and 1.

    Raises:
        ValueError: A weight that is not.
        InadmissibleError: Another game.

    References:
        Mohamed and Lakshminarayanan (2016, arXiv 1610.03483), equation 3.

    Example:
        >>> game = prior(NON_SATURATING, 0.8)
        >>> round(game.offset, 6)
        1.386294
    """
    if not 0 < weight < 1:
        raise ValueError(f"the prior of the first side lies between 0 and 1, not at {weight}")
    if not loss.is_ratio:
        raise InadmissibleError(
            f"a prior shifts the log-ratio, and the best critic of a {loss.name} game is"
            f" {loss.best}; weigh a game such as dg.games.NON_SATURATING"
        )
    real, fake, *rest = loss.formulas
    return replace(
        loss,
        name=f"{loss.name}, prior {weight:g}",
        real=lambda s: weight * loss.real(s),
        fake=lambda s: (1 - weight) * loss.fake(s),
        formulas=(_times(weight, real), _times(1 - weight, fake), *rest),
        best=f"{loss.best}, plus log {weight:g} / {1 - weight:g}",
        prior=weight,
    )


def _times(weight: float, formula: str) -> str:
    return rf"{weight:g} \left({formula}\right)"
