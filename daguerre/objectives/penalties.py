r"""Penalties on a critic: part of its loss, at points near the draws of the two sides.

The slope $\nabla s$ is the gradient of a row's logit by that row: by all compared variables that
are real-valued, together, and by no condition. It is taken with `torch.func.grad`, which can be
differentiated again in a compiled step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.modules.batchnorm import _BatchNorm

from daguerre.graph import InadmissibleError
from daguerre.objectives.schedules import Number, Schedule, check_weight, show

__all__ = [
    "Penalised",
    "Penalty",
    "approximate_r1",
    "approximate_r2",
    "as_penalties",
    "check_critic",
    "dragan",
    "gradient",
    "lipschitz",
    "r1",
    "r2",
]

Critic = Callable[..., Tensor]
Rows = Sequence[Tensor]


@dataclass(frozen=True)
class Penalty:
    r"""What is added to the loss of a critic.

    Attributes:
        name: As the ledger writes it.
        weight: What it is multiplied by, a number or a schedule.
        per_example: From the critic, and paired rows of the two sides (one tensor `[n, *event]`
            per compared variable), to the penalties `[n]`.
        formula: Their mean in LaTeX; `<A>` and `<B>` stand for the distributions of the sides,
            `<a>` and `<b>` for draws of them, `<(a)>` and `<(b)>` for the same in brackets where
            they are several, and `<s>` for the critic.
        where: The points that it is taken at, in words.
        why: What it does to the critic.
    """

    name: str
    weight: Number
    per_example: Callable[[Critic, Rows, Rows], Tensor]
    formula: str
    where: str
    why: str

    def __post_init__(self) -> None:
        check_weight(self.weight, f"the weight of the {self.name}")

    def loss(self, critic: Critic, real: Rows, fake: Rows) -> Tensor:
        """Return the batch mean without the weight, in single precision at least."""
        device = real[0].device.type
        if not torch.is_autocast_enabled(device):
            return self.per_example(critic, real, fake).mean()
        with torch.autocast(device, enabled=False):  # a half has no digits for squared slopes
            real, fake = ([_single(rows) for rows in side] for side in (real, fake))
            return self.per_example(critic, real, fake).mean()

    @property
    def title(self) -> str:
        """Its weight and its name."""
        return self.name if self.weight == 1 else f"{show(self.weight)} * {self.name}"

    def latex(self) -> str:
        """Return the term of the critic's loss, with its weight."""
        if self.weight == 1:
            return self.formula
        weight = r"\lambda_t" if isinstance(self.weight, Schedule) else show(self.weight)
        return rf"{weight}\,{self.formula}"


Penalised = Penalty | Iterable[Penalty]
"""One penalty, or several that add up."""


def _single(rows: Tensor) -> Tensor:
    return rows.float() if rows.is_floating_point() and rows.element_size() < 4 else rows


def slopes(critic: Critic, rows: Rows) -> Tensor:
    """Return the gradient of each row's logit by its real-valued variables, `[n, D]`."""
    moving = [i for i, values in enumerate(rows) if values.is_floating_point()]

    def total(*points: Tensor) -> Tensor:
        at = list(rows)
        for i, point in zip(moving, points, strict=True):
            at[i] = point
        return critic(*at).sum()

    found = torch.func.grad(total, tuple(range(len(moving))))(*(rows[i] for i in moving))
    return torch.cat([one.reshape(len(one), -1) for one in found], 1)


def _norm(critic: Critic, rows: Rows) -> Tensor:
    return torch.linalg.vector_norm(slopes(critic, rows), dim=1)  # its own gradient at 0 is 0


def _half_square(critic: Critic, rows: Rows) -> Tensor:
    return (slopes(critic, rows) ** 2).sum(1) / 2


def _per_row(like: Tensor, draws: Tensor) -> Tensor:
    """Shape one number per row so that it spreads over the event."""
    return draws.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))


def _between(real: Rows, fake: Rows) -> list[Tensor]:
    """Return one point on the line between each pair of rows."""
    share = torch.rand(len(real[0]), device=real[0].device)
    return [
        f + _per_row(r, share) * (r - f) if r.is_floating_point() else r
        for r, f in zip(real, fake, strict=True)
    ]


def _jittered(rows: Rows, scale: float, *, relative: bool) -> list[Tensor]:
    """Add Gaussian noise, its scale given outright or relative to the spread of the batch."""
    return [
        v + scale * (v.std(correction=0) if relative else 1.0) * torch.randn_like(v)
        if v.is_floating_point()
        else v
        for v in rows
    ]


_LINE = r"\epsilon <(a)> + (1 - \epsilon) <(b)>"
_AROUND = r"<(a)> + \delta"
_EVERY = r"\mathbb{E}_{<A>}\,\mathbb{E}_{<B>}\,\mathbb{E}_{\epsilon}"


def _slope(point: str) -> str:
    return rf"\lVert \nabla <s>({point}) \rVert"


def gradient(weight: Number = 10.0, target: float = 1.0) -> Penalty:
    r"""Return the gradient penalty of WGAN-GP, $\lambda\,\mathbb{E}(\lVert\nabla s\rVert - 1)^2$.

    It is taken at one point on the line between each pair of rows, which is drawn for each pair.
    The penalty also charges slopes below the target, so that a critic in one dimension that
    starts with the wrong sign stays there; `lipschitz` lets it turn.

    Args:
        weight: $\lambda$, a number or a schedule.
        target: The slope that the critic is held at, 1.

    Raises:
        ValueError: A weight that is negative or not finite.

    References:
        Gulrajani et al. (2017, arXiv 1704.00028).

    Example:
        >>> rows = [torch.zeros(64, 3)]
        >>> gradient().loss(lambda x: 2 * x[:, 0], rows, rows)  # per row, whatever the batch
        tensor(1.)
    """
    return Penalty(
        "gradient penalty",
        weight,
        lambda critic, real, fake: (_norm(critic, _between(real, fake)) - target) ** 2,
        rf"{_EVERY}\left[({_slope(_LINE)} - {target:g})^2\right]",
        "one point between each pair of rows",
        f"holds the critic's slope at {target:g}",
    )


def lipschitz(weight: Number = 10.0, target: float = 1.0) -> Penalty:
    r"""Return the one-sided gradient penalty: slopes below one are free.

    $\lambda\,\mathbb{E}\max(0, \lVert\nabla s\rVert - 1)^2$, at the points of `gradient`.

    Args:
        weight: $\lambda$, a number or a schedule.
        target: The slope up to which nothing is charged.

    Raises:
        ValueError: A weight that is negative or not finite.

    References:
        Petzka, Fischer and Lukovnicov (2018, arXiv 1709.08894).

    Example:
        >>> rows = [torch.zeros(64, 3)]
        >>> lipschitz().loss(lambda x: x[:, 0] / 2, rows, rows)
        tensor(0.)
    """
    return Penalty(
        "one-sided gradient penalty",
        weight,
        lambda critic, real, fake: relu(_norm(critic, _between(real, fake)) - target) ** 2,
        rf"{_EVERY}\left[\max(0, {_slope(_LINE)} - {target:g})^2\right]",
        "one point between each pair of rows",
        f"holds the critic's slope at {target:g} or below",
    )


def dragan(weight: Number = 10.0, target: float = 1.0, *, scale: float = 0.5) -> Penalty:
    r"""Return the penalty of DRAGAN: the slope around the data is held at one.

    $\lambda\,\mathbb{E}(\lVert\nabla s(x + \delta)\rVert - 1)^2$, where $\delta$ is Gaussian.

    Args:
        weight: $\lambda$, a number or a schedule.
        target: The slope that the critic is held at, 1.
        scale: Of the noise, in standard deviations of each variable over the batch.

    Raises:
        ValueError: A weight that is negative or not finite.

    References:
        Kodali et al. (2017, arXiv 1705.07215).

    Example:
        >>> rows = [torch.zeros(64, 3)]
        >>> dragan().loss(lambda x: 2 * x[:, 0], rows, rows)
        tensor(1.)
    """
    return Penalty(
        "DRAGAN penalty",
        weight,
        lambda critic, real, _: (
            (_norm(critic, _jittered(real, scale, relative=True)) - target) ** 2
        ),
        r"\mathbb{E}_{<A>}\,\mathbb{E}_{\delta}"
        rf"\left[({_slope(_AROUND)} - {target:g})^2\right]",
        f"draws of the first side, moved by {scale:g} of their spread",
        f"holds the critic's slope near the data at {target:g}",
    )


def r1(gamma: Number = 1.0) -> Penalty:
    r"""Return the R1 penalty, $\tfrac\gamma2\,\mathbb{E}_a\lVert\nabla s\rVert^2$ on the data.

    Args:
        gamma: $\gamma$, 0.1 to 10 with the resolution of images; a number or a schedule.

    Raises:
        ValueError: A weight that is negative or not finite.

    References:
        Mescheder, Geiger and Nowozin (2018, arXiv 1801.04406).

    Example:
        >>> rows = [torch.zeros(64, 3)]
        >>> r1().loss(lambda x: x[:, 0], rows, rows)
        tensor(0.5000)
    """
    return Penalty(
        "R1 penalty",
        gamma,
        lambda critic, real, _: _half_square(critic, real),
        rf"\tfrac12\,\mathbb{{E}}_{{<A>}}\left[{_slope('<a>')}^2\right]",
        "draws of the first side",
        "flattens the critic on the data",
    )


def r2(gamma: Number = 1.0) -> Penalty:
    r"""Return the R2 penalty, $\tfrac\gamma2\,\mathbb{E}_b\lVert\nabla s\rVert^2$ on the model.

    Args:
        gamma: $\gamma$, a number or a schedule.

    Raises:
        ValueError: A weight that is negative or not finite.

    References:
        Mescheder, Geiger and Nowozin (2018, arXiv 1801.04406); with `r1` and
        `dg.games.RELATIVISTIC`, R3GAN (Huang et al. 2024, arXiv 2501.05441).

    Example:
        >>> rows = [torch.zeros(64, 3)]
        >>> r2().loss(lambda x: 2 * x[:, 0], rows, rows)
        tensor(2.)
    """
    return Penalty(
        "R2 penalty",
        gamma,
        lambda critic, _, fake: _half_square(critic, fake),
        rf"\tfrac12\,\mathbb{{E}}_{{<B>}}\left[{_slope('<b>')}^2\right]",
        "draws of the second side",
        "flattens the critic on the model's draws",
    )


def approximate_r1(gamma: Number = 1.0, *, sigma: float = 0.01) -> Penalty:
    r"""Return the R1 penalty by finite differences.

    $\tfrac\gamma2\,\mathbb{E}(s(x) - s(x + \sigma e))^2 / \sigma^2$, where $e$ is standard normal.
    First order only, so several times cheaper than `r1`; unbiased as $\sigma \to 0$, and noisier.

    Args:
        gamma: $\gamma$, a number or a schedule.
        sigma: The scale of the Gaussian step.

    Raises:
        ValueError: A weight that is negative or not finite, or no positive scale.

    References:
        Lin et al. (2025, arXiv 2501.08316).

    Example:
        >>> rows = [torch.zeros(100_000, 3)]
        >>> torch.manual_seed(0); approximate_r1().loss(lambda x: x[:, 0], rows, rows)
        <torch._C.Generator object at ...>
        tensor(0.50...)
    """
    return Penalty(
        "approximate R1 penalty",
        gamma,
        lambda critic, real, _: _difference(critic, real, sigma),
        _finite(sigma, "A", "a"),
        f"draws of the first side, and moved by {sigma:g}",
        "flattens the critic on the data; first order only",
    )


def approximate_r2(gamma: Number = 1.0, *, sigma: float = 0.01) -> Penalty:
    """Return R2 by finite differences; see `approximate_r1`.

    Args:
        gamma: Its weight, a number or a schedule.
        sigma: The scale of the Gaussian step.

    Raises:
        ValueError: A weight that is negative or not finite, or no positive scale.
    """
    return Penalty(
        "approximate R2 penalty",
        gamma,
        lambda critic, _, fake: _difference(critic, fake, sigma),
        _finite(sigma, "B", "b"),
        f"draws of the second side, and moved by {sigma:g}",
        "flattens the critic on the model's draws; first order only",
    )


def _difference(critic: Critic, rows: Rows, sigma: float) -> Tensor:
    moved = critic(*_jittered(rows, sigma, relative=False))
    return ((critic(*rows) - moved) / sigma) ** 2 / 2


def _finite(sigma: float, over: str, at: str) -> str:
    if not sigma > 0:
        raise ValueError(f"sigma is the scale of a step, above 0, not {sigma}")
    inside = rf"(<s>(<{at}>) - <s>(<({at})> + \sigma e))^2 / \sigma^2"
    return rf"\tfrac12\,\mathbb{{E}}_{{<{over}>}}\,\mathbb{{E}}_{{e}}\left[{inside}\right]"


def as_penalties(penalty: Penalised) -> tuple[Penalty, ...]:
    """Read one penalty or several.

    Raises:
        TypeError: Something else, such as a number.
    """
    if isinstance(penalty, Penalty):
        return (penalty,)
    found = tuple(penalty) if isinstance(penalty, Iterable) else (penalty,)
    for one in found:
        if not isinstance(one, Penalty):
            raise TypeError(
                f"a penalty is one such as dg.penalties.gradient(10) or dg.penalties.r1(1.0), or a"
                f" tuple of them, not {one!r}"
            )
    return found


def check_critic(critic: nn.Module, penalties: tuple[Penalty, ...]) -> None:
    """Check that rows do not share statistics in a critic whose rows are charged one by one.

    Raises:
        InadmissibleError: There is batch normalisation in it; says where, and what to use.
    """
    for name, module in critic.named_modules():
        if penalties and isinstance(module, _BatchNorm):
            where = f"layer {name!r} of the critic" if name else "the critic"
            raise InadmissibleError(
                f"{where} is {type(module).__name__}, whose output for one row depends on the"
                f" others, so the {penalties[0].name} of a row is not defined; use LayerNorm,"
                " GroupNorm or torch.nn.utils.parametrizations.spectral_norm instead"
            )
