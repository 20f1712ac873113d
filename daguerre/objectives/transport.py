r"""Distances by transport: what it costs to move the one sample onto the other, without a critic.

$$W_r^r(a, b) = \min_{\pi} \mathbb{E}_{\pi} \lVert x - y \rVert^r$$

over the couplings of a and b. In one dimension sorting solves it, and slices of more dimensions
are one-dimensional; an entropy makes it smooth and quick to solve in any dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.objective import Objective
from daguerre.objectives.samples import Distance, SampleDistance

__all__ = ["sinkhorn", "sliced_wasserstein"]


def sliced_wasserstein(
    a: Factor | Joint, b: Factor | Joint, *, projections: int = 100, order: float = 2
) -> Objective:
    r"""Return the sliced Wasserstein distance of two joints, to the power of its order.

    $$\mathrm{SW}_r^r = \mathbb{E}_{\omega} \int_0^1 \lvert F^{-1}_{\omega^\top x}(t) -
      F^{-1}_{\omega^\top y}(t) \rvert^r dt$$

    with directions $\omega$ uniform on the sphere, drawn anew for each loss. For a shift by a
    vector v in D dimensions its square is $\lVert v \rVert^2 / D$. Of two samples of one law it
    is above zero, as for every transport between samples.

    Args:
        a: The first side, such as `dg.data("x")`.
        b: The second side, such as `p["x"]`; draws of both carry pathwise gradients.
        projections: How many directions.
        order: The power r of the distance, 1 or more.

    Raises:
        InadmissibleError: A draw that needs a gradient has none, or the data comes second.
        GraphError: The sides differ in variables or shapes.
        ValueError: An order below 1, or no projection.

    References:
        Rabin, Peyre, Delon and Bernot (2012); Deshpande, Zhang and Schwing (2018, arXiv
        1803.11188) for generators; Kolouri et al. (2019, arXiv 1804.01947) for latents.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> sliced_wasserstein(dg.data("x"), p["x"])
        Objective(SW_2^2 over x; players: model)
    """
    _check_order(order)
    _check_count("projections", projections)
    name = f"SW_{order:g}^{order:g}"
    distance = Distance(
        "sliced_wasserstein",
        name,
        _sliced(projections, order),
        f"n rows of each side, {projections} fresh directions; biased upwards, by samples",
        lambda one, other: rf"\mathrm{{SW}}_{{{order:g}}}^{{{order:g}}}({one.law}, {other.law})",
    )
    return Objective(((1.0, SampleDistance(as_joint(a), as_joint(b), distance)),))


def sinkhorn(
    a: Factor | Joint,
    b: Factor | Joint,
    *,
    epsilon: float = 0.05,
    order: float = 2,
    iterations: int = 100,
) -> Objective:
    r"""Return the Sinkhorn divergence of two joints: transport with an entropy, debiased.

    $$S_\varepsilon(a, b) = \mathrm{OT}_\varepsilon(a, b) - \tfrac12 \mathrm{OT}_\varepsilon(a, a)
      - \tfrac12 \mathrm{OT}_\varepsilon(b, b), \qquad
      \mathrm{OT}_\varepsilon(a, b) = \min_\pi \mathbb{E}_\pi \lVert x - y \rVert^r
      + \varepsilon\, \mathrm{KL}(\pi \Vert a \otimes b)$$

    It goes to $W_r^r$ as epsilon goes to 0, and to a maximum mean discrepancy as it grows; it is
    0 for equal samples. Potentials are found on the logarithmic scale, with an epsilon that falls
    from the largest cost to its value over the first half of the iterations. The gradient is that
    of the optimum (envelope theorem), so nothing is kept of the iterations; of the gradient
    itself there is none. Memory grows with the square of the batch.

    Args:
        a: The first side, such as `dg.data("x")`.
        b: The second side, such as `p["x"]`; draws of both carry pathwise gradients.
        epsilon: The weight of the entropy, in the unit of the cost: that of the data to the power
            of the order.
        order: The power r of the distance, 1 or more.
        iterations: How many updates of the potentials. The smaller epsilon is beside the largest
            cost, the more are needed.

    Raises:
        InadmissibleError: A draw that needs a gradient has none, or the data comes second.
        GraphError: The sides differ in variables or shapes.
        ValueError: An epsilon that is not positive, an order below 1, or no iteration.

    References:
        Cuturi (2013, arXiv 1306.0895); Genevay, Peyre and Cuturi (2018, arXiv 1706.00292) for
        generators; Feydy et al. (2019, arXiv 1810.08278) for symmetric updates and the gradient.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
        >>> sinkhorn(dg.data("x"), p["x"], epsilon=0.1)
        Objective(S_0.1 over x; players: model)
    """
    _check_order(order)
    _check_count("iterations", iterations)
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon}; expected a positive finite number")
    distance = Distance(
        "sinkhorn",
        f"S_{epsilon:g}",
        _sinkhorn(epsilon, order, iterations),
        f"n rows of each side, {iterations} iterations, gradient of the optimum; debiased in"
        " epsilon, biased upwards by samples",
        lambda one, other: rf"S_{{{epsilon:g}}}({one.law}, {other.law})",
    )
    return Objective(((1.0, SampleDistance(as_joint(a), as_joint(b), distance)),))


def _sliced(projections: int, order: float) -> Callable[[Tensor, Tensor], Tensor]:
    def between(x: Tensor, y: Tensor) -> Tensor:
        directions = torch.randn(x.shape[1], projections, dtype=x.dtype, device=x.device)
        directions = directions / directions.norm(dim=0)
        x, y = (rows @ directions for rows in (x, y))
        return (x.sort(0).values - y.sort(0).values).abs().pow(order).mean()

    return between


def _sinkhorn(epsilon: float, order: float, iterations: int) -> Callable[[Tensor, Tensor], Tensor]:
    def between(x: Tensor, y: Tensor) -> Tensor:
        pairs = ((x, y), (y, x), (x, x), (y, y))
        costs = torch.stack([_costs(one, other.detach(), order) for one, other in pairs])
        potentials = _potentials(costs.detach(), epsilon, iterations)
        # at the optimum the gradient comes from the costs alone, and each of the four potentials
        # carries that of its own rows
        of_x, of_y, of_xx, of_yy = _soft_minimum(costs, potentials, epsilon).mean(1)
        return of_x + of_y - of_xx - of_yy

    return between


def _costs(x: Tensor, y: Tensor, order: float) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").pow(order)


def _soft_minimum(costs: Tensor, potentials: Tensor, epsilon: float | Tensor) -> Tensor:
    """Return the best potentials `[4, n]`, each given that of its other side."""
    others = potentials[[1, 0, 2, 3]].unsqueeze(1)
    logs = ((others - costs) / epsilon).logsumexp(2)
    return epsilon * (math.log(costs.shape[2]) - logs)


@torch.no_grad()
def _potentials(costs: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Solve for x to y, y to x, x to itself and y to itself, `[4, n]`.

    All four alike, each half a step at a time: the distance of equal samples is 0 at any k.
    """
    ratio = costs.amax().clamp_min(epsilon) / epsilon

    def update(k: Tensor, potentials: Tensor) -> tuple[Tensor, Tensor]:
        now = epsilon * ratio ** (1 - 2 * k / iterations).clamp_min(0)
        return k + 1, (potentials + _soft_minimum(costs, potentials, now)) / 2

    k, potentials = torch.zeros(()), torch.zeros_like(costs[:, 0])
    if torch.compiler.is_compiling():  # a loop is one node of the graph, not a hundred
        return torch.while_loop(lambda k, _: k < iterations, update, (k, potentials))[1]
    for _ in range(iterations):
        k, potentials = update(k, potentials)
    return potentials


def _check_order(order: float) -> None:
    if not 1 <= order < math.inf:
        raise ValueError(f"order is {order}; expected a finite number, 1 or more")


def _check_count(what: str, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{what} is a whole number, 1 or more, not {count!r}")
