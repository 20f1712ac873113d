r"""The f-divergences, each a convex f, as a critic of the log-ratio estimates them.

$$D_f(a \Vert b) = \mathbb{E}_b[f(r)] \ge \mathbb{E}_a[f'(e^s)] - \mathbb{E}_b[f^*(f'(e^s))],
  \qquad r = a / b$$

with equality at $s = \log r$. As $f^*(f'(u)) = u f'(u) - f(u)$, no conjugate has to be inverted,
no output can leave its domain, and one critic, of the log-ratio, serves them all.

References:
    Nguyen, Wainwright and Jordan (2010, arXiv 0809.0853); Nowozin, Cseke and Tomioka (2016, arXiv
    1606.00709); Mohamed and Lakshminarayanan (2016, arXiv 1610.03483), equations 9 to 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.adversarial import Adversarial, check_no_critic
from daguerre.objectives.density import KL as KULLBACK_LEIBLER
from daguerre.objectives.games import GameLoss
from daguerre.objectives.objective import Objective
from daguerre.objectives.penalties import Penalised, as_penalties
from daguerre.objectives.prescribed import LOG2, Prescribed, jensen_shannon

__all__ = [
    "GAN",
    "HELLINGER",
    "JEFFREYS",
    "JENSEN_SHANNON",
    "KL",
    "NEYMAN",
    "PEARSON",
    "REVERSE_KL",
    "ROWS",
    "TOTAL_VARIATION",
    "FDivergence",
    "alpha",
    "f_divergence",
    "weighted_js",
]


@dataclass(frozen=True)
class FDivergence:
    """One f-divergence, as functions of the ratio u, or of its logarithm s.

    Attributes:
        name: As people call it.
        f: The convex generator, of u > 0.
        weighed: $f(e^s) / (1 + e^s)$, what is averaged over both sides where both have densities.
        slope: $f'(e^s)$, what is averaged over the first side.
        conjugate: $f^*(f'(e^s))$, what is averaged over the second.
        formulas: The last two in LaTeX, with # for s.
        is_ratio: Whether the best critic is the log-ratio; if not, it is only in the limit of
            ever steeper ones.
    """

    name: str
    f: Callable[[Tensor], Tensor]
    weighed: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    formulas: tuple[str, str]
    is_ratio: bool = True

    def game(self) -> GameLoss:
        """Return what critic and model minimise: minus the bound, and the bound."""
        slope, conjugate = self.formulas
        return GameLoss(
            self.name,
            lambda s: -self.slope(s),
            self.conjugate,
            lambda s: -self.conjugate(s),
            self.slope,
            (f"-({slope})", conjugate, f"-({conjugate})", slope),
            divergence=self.name,
            output=r"s_\psi",
            is_ratio=self.is_ratio,
            best="the log-ratio log a / b" if self.is_ratio else "the sign of a - b, ever steeper",
        )


KL = FDivergence(
    "KL",
    lambda u: torch.xlogy(u, u),
    lambda s: torch.sigmoid(s) * s,
    lambda s: 1 + s,
    torch.exp,
    (r"1 + #", r"e^{#}"),
)
REVERSE_KL = FDivergence(
    "reverse KL",
    lambda u: -u.log(),
    lambda s: -torch.sigmoid(-s) * s,
    lambda s: -torch.exp(-s),
    lambda s: s - 1,
    (r"-e^{-#}", r"# - 1"),
)
JEFFREYS = FDivergence(
    "Jeffreys",
    lambda u: (u - 1) * u.log(),
    lambda s: torch.tanh(s / 2) * s,
    lambda s: s - torch.expm1(-s),
    lambda s: s + torch.expm1(s),
    (r"# + 1 - e^{-#}", r"# + e^{#} - 1"),
)
PEARSON = FDivergence(
    "Pearson chi-square",
    lambda u: (u - 1) ** 2,
    lambda s: torch.tanh(s / 2) * torch.expm1(s),
    lambda s: 2 * torch.expm1(s),
    lambda s: torch.expm1(2 * s),
    (r"2 e^{#} - 2", r"e^{2 #} - 1"),
)
NEYMAN = FDivergence(
    "Neyman chi-square",
    lambda u: (1 - u) ** 2 / u,
    lambda s: -torch.tanh(s / 2) * torch.expm1(-s),
    lambda s: -torch.expm1(-2 * s),
    lambda s: -2 * torch.expm1(-s),
    (r"1 - e^{-2 #}", r"2 - 2 e^{-#}"),
)
HELLINGER = FDivergence(
    "squared Hellinger",
    lambda u: (u.sqrt() - 1) ** 2,
    lambda s: 1 - 2 * torch.exp(s / 2 - softplus(s)),
    lambda s: -torch.expm1(-s / 2),
    lambda s: torch.expm1(s / 2),
    (r"1 - e^{-# / 2}", r"e^{# / 2} - 1"),
)
JENSEN_SHANNON = FDivergence(
    "twice Jensen-Shannon",  # what this generator integrates to
    lambda u: torch.xlogy(u, u) - (1 + u) * ((1 + u) / 2).log(),
    lambda s: 2 * jensen_shannon(s),
    lambda s: LOG2 - softplus(-s),
    lambda s: softplus(s) - LOG2,
    (r"\log 2 - \log(1 + e^{-#})", r"\log(1 + e^{#}) - \log 2"),
)
GAN = FDivergence(
    "GAN",  # twice Jensen-Shannon - log 4
    lambda u: torch.xlogy(u, u) - (1 + u) * torch.log1p(u),
    lambda s: torch.sigmoid(s) * s - softplus(s),
    lambda s: -softplus(-s),
    softplus,
    (r"-\log(1 + e^{-#})", r"\log(1 + e^{#})"),
)
TOTAL_VARIATION = FDivergence(
    "total variation",
    lambda u: (u - 1).abs() / 2,
    lambda s: torch.tanh(s / 2).abs() / 2,
    lambda s: torch.tanh(s) / 2,
    lambda s: torch.tanh(s) / 2,
    (r"\tfrac12 \tanh #", r"\tfrac12 \tanh #"),
    is_ratio=False,
)


def weighted_js(weight: float) -> FDivergence:
    r"""Return the Jensen-Shannon divergence with weight $\pi$ on the first side.

    $\pi\,\mathrm{KL}(a \Vert m) + (1 - \pi)\,\mathrm{KL}(b \Vert m)$, $m = \pi a + (1 - \pi) b$.

    Args:
        weight: $\pi$, between 0 and 1.

    Raises:
        ValueError: A weight that is not.

    Example:
        >>> row = weighted_js(0.5)  # half of what the unweighted generator integrates to
        >>> torch.allclose(2 * row.f(torch.tensor(3.0)), JENSEN_SHANNON.f(torch.tensor(3.0)))
        True
    """
    if not 0 < weight < 1:
        raise ValueError(f"the weight lies between 0 and 1, not at {weight}")
    rest = 1 - weight

    def mixed(s: Tensor) -> Tensor:
        return torch.logaddexp(s + math.log(weight), torch.full_like(s, math.log(rest)))

    inside = f"{rest:g} + {weight:g} e^{{#}}"
    return FDivergence(
        f"Jensen-Shannon weighted {weight:g}",
        lambda u: weight * torch.xlogy(u, u) - (rest + weight * u) * (rest + weight * u).log(),
        lambda s: (
            weight * torch.sigmoid(s) * s - (rest + (weight - rest) * torch.sigmoid(s)) * mixed(s)
        ),
        lambda s: weight * (s - mixed(s)),
        lambda s: rest * mixed(s),
        (rf"{weight:g} (# - \log({inside}))", rf"{rest:g} \log({inside})"),
    )


def alpha(order: float) -> FDivergence:
    r"""Return an alpha-divergence.

    $f(u) = (u^\alpha - 1 - \alpha (u - 1)) / \alpha (\alpha - 1)$. It tends to KL as
    $\alpha \to 1$ and to the reverse KL as $\alpha \to 0$; at 2 it is half of Pearson's, at -1
    half of Neyman's and at 1/2 twice the squared Hellinger.

    Args:
        order: $\alpha$, any finite number but 0 and 1.

    Raises:
        ValueError: 0, 1, or a number that is not finite.

    Example:
        >>> u = torch.tensor(3.0)
        >>> torch.allclose(2 * alpha(2.0).f(u), PEARSON.f(u))
        True
    """
    if order in (0, 1) or not math.isfinite(order):
        raise ValueError(
            f"alpha is a finite number other than 0 (REVERSE_KL) and 1 (KL), not {order}"
        )
    a, b = order, order - 1
    return FDivergence(
        f"alpha {order:g}",
        lambda u: (u**a - 1 - a * (u - 1)) / (a * b),
        lambda s: (
            (torch.exp(a * s - softplus(s)) - torch.sigmoid(-s) - a * torch.tanh(s / 2)) / (a * b)
        ),
        lambda s: torch.expm1(b * s) / b,
        lambda s: torch.expm1(a * s) / a,
        (rf"(e^{{{b:g} #}} - 1) / {b:g}", rf"(e^{{{a:g} #}} - 1) / {a:g}"),
    )


ROWS = (
    KL,
    REVERSE_KL,
    JEFFREYS,
    JENSEN_SHANNON,
    GAN,
    PEARSON,
    NEYMAN,
    HELLINGER,
    TOTAL_VARIATION,
)
"""The divergences without a parameter."""


def f_divergence(
    a: Factor | Joint,
    b: Factor | Joint,
    *,
    f: FDivergence,
    critic: nn.Module | None = None,
    penalty: Penalised = (),
) -> Objective:
    r"""Return an f-divergence of two joints, by a critic of their log-ratio or by densities.

    A critic raises the bound of $D_f(a \Vert b)$ and the model lowers it: samples of both sides
    are enough. Without a critic both sides need a density, and the estimate has no bias; KL and
    its relatives are then integrated in closed form where they can be, as in `dg.KL`.

    Args:
        a: The first side, such as `dg.data("x")` or `dg.data("x") * q`.
        b: The second side, such as `p["x"]` or `p`.
        f: Which one: `dg.f.KL`, `REVERSE_KL`, `JEFFREYS`, `JENSEN_SHANNON`, `GAN`, `PEARSON`,
            `NEYMAN`, `HELLINGER`, `TOTAL_VARIATION`, `dg.f.alpha(0.5)`, `dg.f.weighted_js(0.3)`.
        critic: A module that takes the shared variables, as for `dg.JS`, and returns the
            log-ratio `[n]` or `[n, 1]`.
        penalty: One of `dg.penalties`, or a tuple of them, which are added to the critic's loss.

    Raises:
        InadmissibleError: A draw that needs a gradient has none; without a critic, a density that
            does not exist; a penalty on a critic with batch normalisation.
        GraphError: The sides differ in variables or shapes, or the critic does not fit them.
        TypeError: `f` is no f-divergence.

    References:
        Nowozin, Cseke and Tomioka (2016, arXiv 1606.00709).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> critic = dg.nn.mlp(2, 8, 1)
        >>> f_divergence(dg.data("x"), p["x"], f=PEARSON, critic=critic)
        Objective(Pearson chi-square over x; players: critic, model)
        >>> a, b = dg.model(x=Normal(0.0, 1.0)), dg.model(x=Normal(1.0, 1.0))
        >>> torch.manual_seed(0); f_divergence(a, b, f=HELLINGER).losses(100_000)
        <torch._C.Generator object at ...>
        {'model': tensor(0.23...)}
    """
    if not isinstance(f, FDivergence):
        raise TypeError(f"f is an f-divergence such as dg.f.KL or dg.f.alpha(0.5), not {f!r}")
    if critic is not None:
        sides = as_joint(a), as_joint(b)
        return Objective(((1.0, Adversarial(*sides, critic, f.game(), as_penalties(penalty))),))
    check_no_critic(penalty)
    if f is KL:
        return KULLBACK_LEIBLER(a, b)
    if f is REVERSE_KL:
        return KULLBACK_LEIBLER(b, a)
    if f is JEFFREYS:
        return KULLBACK_LEIBLER(a, b) + KULLBACK_LEIBLER(b, a)
    return Objective(((1.0, Prescribed(as_joint(a), as_joint(b), f.name, f.weighed)),))
