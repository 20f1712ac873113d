"""Kernels on the rows of samples: what a maximum mean discrepancy compares them by."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Kernel", "as_rows", "energy", "imq", "median_kernel", "rbf"]

Kernel = Callable[[Tensor, Tensor], Tensor]
"""A symmetric similarity k(a, b) of rows: [n, D] and [m, D] to [n, m]."""

_MEDIAN_ROWS = 2000
_HUGE = 1e150  # a larger number has no finite square


def energy(a: Tensor, b: Tensor) -> Tensor:
    r"""Return $-\lVert a_i - b_j \rVert$, the kernel of the energy distance, `[n, m]`.

    Example:
        >>> energy(torch.tensor([[0.0]]), torch.tensor([[0.0], [2.0]]))
        tensor([[-0., -2.]])
    """
    return -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def rbf(*lengthscales: float) -> Kernel:
    r"""Build the Gaussian kernel, or the equal mixture of several.

    $k(a, b) = \frac1S \sum_s \exp(-\lVert a - b \rVert^2 / 2 \ell_s^2)$, so $k(a, a) = 1$.

    Args:
        *lengthscales: One or more $\ell_s > 0$, in the unit of the data.

    Raises:
        ValueError: No lengthscale, or one that is not positive and finite.

    Example:
        >>> rbf(1.0)(torch.tensor([[0.0]]), torch.tensor([[0.0], [2.0]]))
        tensor([[1.0000, 0.1353]])
    """
    parts = _positive(lengthscales, "lengthscales")
    return _mixture(lambda squares, scale: torch.exp(squares / (-2 * scale**2)), parts)


def imq(*scales: float) -> Kernel:
    r"""Build the inverse multiquadric kernel, or the equal mixture of several.

    $k(a, b) = \frac1S \sum_s C_s / (C_s + \lVert a - b \rVert^2)$, so $k(a, a) = 1$. Its tails are
    heavy: rows far apart still attract each other, where a Gaussian kernel is flat. For latents of
    d dimensions under N(0, s²I), $C = 2 d s^2$ is the mean squared distance of two draws.

    Args:
        *scales: One or more $C_s > 0$, in the squared unit of the data.

    Raises:
        ValueError: No scale, or one that is not positive and finite.

    References:
        Tolstikhin, Bousquet, Gelly and Schoelkopf (2018, arXiv 1711.01558), section 4.

    Example:
        >>> imq(4.0)(torch.tensor([[0.0]]), torch.tensor([[0.0], [2.0]]))
        tensor([[1.0000, 0.5000]])
    """
    parts = _positive(scales, "scales")
    return _mixture(lambda squares, scale: scale / (scale + squares), parts)


def median_kernel(x: Tensor) -> Kernel:
    r"""Build the mixture of Gaussian kernels at {1/2, 1, 2, 5, 10} times the median distance.

    The median is over all pairs of rows, of 2,000 evenly spaced rows where there are more.

    Args:
        x: The reference sample, usually real data, [N, ...].

    Raises:
        TypeError: `x` is no tensor of a floating type.
        ValueError: `x` has fewer than two rows, a value that is not finite, or so many equal
            rows that their median distance is zero.

    References:
        Gretton, Borgwardt, Rasch, Schoelkopf and Smola (2012), A kernel two-sample test, JMLR 13,
        section 8.

    Example:
        >>> kernel = median_kernel(torch.tensor([0.0, 1.0, 3.0]))  # distances 1, 2 and 3
        >>> torch.equal(kernel(torch.zeros(1, 1), torch.ones(1, 1)),
        ...             rbf(1, 2, 4, 10, 20)(torch.zeros(1, 1), torch.ones(1, 1)))
        True
    """
    rows = as_rows(x, "x").detach()
    kept = min(len(rows), _MEDIAN_ROWS)
    rows = rows[[i * len(rows) // kept for i in range(kept)]]
    median = torch.pdist(rows).median().item()
    if median == 0:
        raise ValueError(
            "x: more than half the pairs of rows are equal, so their median distance is 0; "
            "choose the lengthscale yourself: kernel=rbf(lengthscale)"
        )
    return rbf(*(factor * median for factor in (0.5, 1, 2, 5, 10)))


def as_rows(x: Tensor, name: str) -> Tensor:
    """Flatten a sample [N, ...] to float64 rows [N, D] on the CPU, or say what is wrong with it.

    Args:
        x: The sample.
        name: What messages call it.

    Raises:
        TypeError: `x` is no tensor of a floating type.
        ValueError: `x` has fewer than two rows, nothing in a row, or a value that is not finite.

    Example:
        >>> as_rows(torch.zeros(3, 8, 8), "x").shape
        torch.Size([3, 64])
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is a {type(x).__name__}; expected a tensor [N, ...]")
    if not x.is_floating_point():
        raise TypeError(f"{name} has the type {x.dtype}; expected floats: {name}.float()")
    if x.ndim == 0 or len(x) < 2 or x.numel() == 0:
        shape = list(x.shape)
        raise ValueError(f"{name} has the shape {shape}; expected [N, ...] with at least two rows")
    values = x.to("cpu", torch.float64)
    finite = values.abs() < _HUGE
    if not finite.all():
        place = (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"{name}{place} is {values[tuple(place)]:g}; expected finite values below {_HUGE:g}"
        )
    return values.reshape(len(x), -1)


def _positive(numbers: tuple[float, ...], what: str) -> tuple[float, ...]:
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"{what} are {numbers}; expected positive finite numbers")
    return numbers


def _mixture(part: Callable[[Tensor, float], Tensor], scales: tuple[float, ...]) -> Kernel:
    """Average a function of squared distance over some scales."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squares = _squared_distances(a, b)
        total = torch.zeros_like(squares)
        for scale in scales:
            total = total + part(squares, scale)
        return total / len(scales)

    return kernel


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return |a_i - b_j|^2 by one matrix product, which rounds least around the middle of b."""
    some = b[:: len(b) // 100 + 1].detach().sort(0).values
    centre = some[(len(some) - 1) // 2]  # the median: a mean would follow one outlier
    a, b = a - centre, b - centre
    norms = (a * a).sum(1)[:, None] + (b * b).sum(1)
    return (norms - 2 * a @ b.T).clamp_min(0)
