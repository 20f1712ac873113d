r"""The maximum mean discrepancy: the distance of two means in a feature space, without a critic.

$$\mathrm{MMD}^2(a, b) = \mathbb{E}\,k(x, x') + \mathbb{E}\,k(y, y') - 2\,\mathbb{E}\,k(x, y),
  \qquad x, x' \sim a,\; y, y' \sim b$$
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daguerre.graph import GraphError
from daguerre.joint import Factor, Joint, as_joint
from daguerre.kernels import Kernel, energy
from daguerre.objectives.objective import Objective
from daguerre.objectives.samples import Distance, SampleDistance, Written

__all__ = ["MMD"]


def MMD(  # noqa: N802 - the field's name
    a: Factor | Joint, b: Factor | Joint, *, kernel: Kernel = energy
) -> Objective:
    r"""Return the squared maximum mean discrepancy of two joints, from samples and one player.

    The estimate is unbiased, so it may be negative. With the energy kernel
    $k(x, y) = -\lVert x - y \rVert$ it is the energy distance, which needs no bandwidth. An
    autoencoder compares its latents with the prior: `MMD((dg.data("x") * q)["z"], p["z"])`.

    Args:
        a: The first side, such as `dg.data("x")`.
        b: The second side, such as `p["x"]`; draws of both carry pathwise gradients.
        kernel: A symmetric function of rows `[n, D]` and `[m, D]` that returns `[n, m]`: `energy`,
            or `rbf(...)`, `imq(...)` and `median_kernel(x)` of `daguerre.kernels`.

    Raises:
        InadmissibleError: A draw that needs a gradient has none, or the data comes second.
        GraphError: The sides differ in variables or shapes.
        TypeError: `kernel` cannot be called.

    References:
        Gretton et al. (2012), A kernel two-sample test, JMLR 13; Szekely and Rizzo (2013) for the
        energy distance; Li, Swersky and Zemel (2015, arXiv 1502.02761) for generators; Tolstikhin
        et al. (2018, arXiv 1711.01558) and Zhao, Song and Ermon (2019, arXiv 1706.02262) for
        latents.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> MMD(dg.data("x"), p["x"])
        Objective(MMD² over x; players: model)
    """
    if not callable(kernel):
        raise TypeError(f"kernel is a function of two sets of rows, not {kernel!r}")
    how = "n rows of each side, unbiased, over pairs of a batch"
    distance = Distance("MMD", "MMD²", _unbiased(kernel), how, _three_averages)
    return Objective(((1.0, SampleDistance(as_joint(a), as_joint(b), distance)),))


def _unbiased(kernel: Kernel) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the unbiased estimate by some kernel, as a function of two sets of rows."""

    def between(x: Tensor, y: Tensor) -> Tensor:
        n = len(x)
        if n < 2:
            raise GraphError(f"MMD compares pairs of rows, so a batch has two or more, not {n}")
        return within(x) + within(y) - 2 * entries(x, y).mean()

    def within(rows: Tensor) -> Tensor:
        n = len(rows)
        itself = torch.eye(n, dtype=torch.bool, device=rows.device)
        return entries(rows, rows).masked_fill(itself, 0.0).sum() / (n * (n - 1))

    def entries(x: Tensor, y: Tensor) -> Tensor:
        found = kernel(x, y)
        if found.shape != (len(x), len(y)):
            raise GraphError(
                f"the kernel of MMD returns [n, m] for rows [n, D] and [m, D]; for {list(x.shape)}"
                f" and {list(y.shape)} it returned {list(found.shape)}"
            )
        return found

    return between


def _three_averages(a: Written, b: Written) -> str:
    terms = (
        rf"{sign}\mathbb{{E}}_{{{one.over}}}\,\mathbb{{E}}_{{{other.over}}}"
        rf"\left[k({one.point}, {other.copy})\right]"
        for sign, one, other in (("", a, a), ("+ ", b, b), ("- 2 ", a, b))
    )
    return " ".join(terms)
