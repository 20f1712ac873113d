"""Do two samples come from one distribution? Measures that need no density of either.

They judge implicit models and prescribed ones by the same yardstick. Both run on the CPU and
leave the global generator alone. A number means little by itself: quote it beside the same
measure between two halves of the real data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from daguerre.kernels import Kernel, as_rows, median_kernel

__all__ = [
    "Accuracy",
    "Mmd",
    "classifier_accuracy",
    "mmd2",
    "mmd2_unbiased",
]

_BLOCK = 1 << 22  # entries of the kernel matrix in memory at a time
_HIDDEN, _STEPS, _BATCH, _RATE = 64, 300, 256, 5e-3


@dataclass(frozen=True, slots=True)
class Mmd:
    """An estimate of the squared MMD and how it spreads when the samples are alike.

    Attributes:
        value: The unbiased estimate; below zero about half the time when the samples are alike.
        null_std: Standard deviation of the estimate over permutations of the pooled sample;
            their mean is zero by construction.
        p_value: Share of permutations, the given one included, whose estimate is no smaller.
    """

    value: float
    null_std: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A cross-validated accuracy: 0.5 where nothing tells the samples apart, 1 where all does.

    Attributes:
        value: Share of the held-out rows that the classifier assigns to their own sample.
        stderr: Standard error of `value`, allowing for what the folds have in common.
        n: How many held-out rows were judged, half of them from each sample.
    """

    value: float
    stderr: float
    n: int


def mmd2_unbiased(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    r"""Estimate the squared maximum mean discrepancy without bias.

    $\frac{\sum_{i \ne j} k(x_i, x_j)}{N(N-1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{M(M-1)}
    - \frac{2}{NM} \sum_{i,j} k(x_i, y_j)$. Both diagonals are dropped and nothing is clipped,
    so the estimate may be negative. It is differentiable in both samples.

    Args:
        x: A sample, [N, ...], N >= 2.
        y: A sample, [M, ...], M >= 2, as wide as `x`.
        kernel: Maps [n, D] and [m, D] to [n, m], such as `rbf(1.0)`.

    Returns:
        A float64 scalar.

    Raises:
        TypeError: A sample is no tensor of a floating type.
        ValueError: A sample has fewer than two rows or a value that is not finite, the two
            differ in width, or the kernel returns another shape or is not finite.

    References:
        Gretton et al. (2012), A kernel two-sample test, JMLR 13, equation 3.

    Example:
        >>> x, y = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0])
        >>> from daguerre.kernels import rbf
        >>> mmd2_unbiased(x, y, rbf(1.0))
        tensor(-0.4323, dtype=torch.float64)
    """
    x, y = _pair(x, y)
    return _estimates(torch.cat([x, y]), _membership(len(x), len(y))[:, None], kernel)[0]


@torch.no_grad()
def mmd2(
    x: Tensor, y: Tensor, *, kernel: Kernel | None = None, permutations: int = 500, seed: int = 0
) -> Mmd:
    """Measure the squared MMD between two samples, with its spread when they are alike.

    The null spread comes from permuting which rows belong to which sample. The kernel matrix is
    evaluated once, block by block, so memory grows with N + M and time with its square.

    Args:
        x: The real sample, [N, ...], N >= 2.
        y: The sample to judge, [M, ...], M >= 2, as wide as `x`.
        kernel: By default `median_kernel(x)`, the same for every `y`. For a test of exact level
            fit it to other real data.
        permutations: How many to draw.
        seed: Of the permutations.

    Raises:
        TypeError: A sample is no tensor of a floating type.
        ValueError: As for `mmd2_unbiased` and `median_kernel`, or fewer than two permutations.

    References:
        Gretton et al. (2012), A kernel two-sample test, JMLR 13.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(200, 2, generator=g), torch.randn(200, 2, generator=g)
        >>> alike, apart = mmd2(x, y), mmd2(x, y + 1)
        >>> alike.p_value > 0.05, apart.p_value < 0.005
        (True, True)
    """
    x, y = _pair(x, y)
    if permutations < 2:
        raise ValueError(f"permutations={permutations}; expected at least 2, better hundreds")
    generator = torch.Generator().manual_seed(seed)
    given = _membership(len(x), len(y))
    shuffled = [given[_permutation(len(given), generator)] for _ in range(permutations)]
    members = torch.stack([given, *shuffled], 1)
    estimates = _estimates(torch.cat([x, y]), members, kernel or median_kernel(x))
    value, null = estimates[0], estimates[1:]
    no_smaller = int((null >= value - 1e-9 * value.abs()).sum())  # rounding undoes no tie
    return Mmd(value.item(), null.std().item(), (1 + no_smaller) / (1 + permutations))


def classifier_accuracy(x: Tensor, y: Tensor, *, folds: int = 5, seed: int = 0) -> Accuracy:
    r"""Train a small classifier to tell two samples apart and report its held-out accuracy.

    The larger sample is first cut to the size of the smaller by a random draw. Each fold holds out
    as many rows of one sample as of the other; the standardisation and a fresh net (64 ReLU,
    300 steps of AdamW on 256 rows) see the other folds alone. The expected accuracy is at most
    that of the Bayes rule, $\frac12 + \frac12 \mathrm{TV}(p, q)$.

    The nets of two folds share training rows, and each sees the rows that the other is judged by,
    so held-out hits are not independent: between alike samples their mean spreads up to 1.4 times
    as wide as a binomial one. With accuracy $a$, $n$ held-out rows and $K$ folds,
    $\mathrm{stderr}^2 = \frac{a(1-a)}n \left(1 + \frac K{K-1}\right)$, which rather errs on the
    large side.

    Args:
        x: A sample, [N, ...].
        y: A sample, [M, ...], as wide as `x`.
        folds: In how many parts the rows are held out, 2 to min(N, M).
        seed: Of the draw, the folds and the nets.

    Raises:
        TypeError: A sample is no tensor of a floating type.
        ValueError: A sample has fewer than two rows or a value that is not finite, the two
            differ in width, or `folds` is out of range.

    References:
        Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests, arXiv 1610.06545.
        Nadeau and Bengio (2003), Inference for the generalization error, Machine Learning 52.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(100, 2, generator=g), torch.randn(100, 2, generator=g)
        >>> classifier_accuracy(x, y + 10)
        Accuracy(value=1.0, stderr=0.0, n=200)
    """
    x, y = (sample.detach() for sample in _pair(x, y))
    size = min(len(x), len(y))
    if not 2 <= folds <= size:
        raise ValueError(f"folds={folds}; expected 2 to {size}, the rows of the smaller sample")
    generator = torch.Generator().manual_seed(seed)
    x, y = (sample[_permutation(len(sample), generator)[:size]] for sample in (x, y))
    labels = _membership(size, size)
    fold = torch.arange(size, device="cpu").repeat(2) % folds
    rows = torch.cat([x, y])
    hits = sum(_hits(rows, labels, fold == k, generator) for k in range(folds))
    value = hits / (2 * size)
    variance = value * (1 - value) / (2 * size) * (1 + folds / (folds - 1))
    return Accuracy(value, math.sqrt(variance), 2 * size)


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = as_rows(x, "x"), as_rows(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x has {x.shape[1]} numbers a row but y has {y.shape[1]}; expected the same"
        )
    return x, y


def _membership(n: int, m: int) -> Tensor:
    """Return which rows of the pooled sample belong to x: the first n of n + m."""
    return torch.arange(n + m, device="cpu") < n


def _permutation(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator, device="cpu")


def _estimates(rows: Tensor, members: Tensor, kernel: Kernel) -> Tensor:
    """Return the unbiased estimate for every column of `members` [N + M, P], in one pass."""
    to_x = members.to(rows.dtype)
    n, m = to_x[:, 0].sum(), (1 - to_x[:, 0]).sum()
    index = torch.arange(len(rows), device="cpu")
    xx = xy = yy = rows.new_zeros(members.shape[1])
    for block in index.split(max(1, _BLOCK // len(rows))):
        similar = _evaluate(kernel, rows[block], rows).masked_fill(block[:, None] == index, 0)
        near_x = similar @ to_x  # [block, P]: summed similarity to the rows of x
        near_y = similar.sum(1, keepdim=True) - near_x
        xx = xx + (to_x[block] * near_x).sum(0)
        xy = xy + (to_x[block] * near_y).sum(0)
        yy = yy + ((1 - to_x[block]) * near_y).sum(0)
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def _evaluate(kernel: Kernel, a: Tensor, b: Tensor) -> Tensor:
    similar = kernel(a, b)
    if similar.shape != (len(a), len(b)):
        raise ValueError(
            f"the kernel maps {list(a.shape)} and {list(b.shape)} to {list(similar.shape)}; "
            f"expected {[len(a), len(b)]}"
        )
    if not similar.isfinite().all():
        raise ValueError("the kernel returns NaN or infinity for finite rows")
    return similar


def _hits(rows: Tensor, labels: Tensor, held: Tensor, generator: torch.Generator) -> int:
    """Train on the rows that are not held out and count the held-out ones it gets right."""
    train, test = _standardise(rows[~held], rows[held])
    with torch.inference_mode(mode=False), torch.enable_grad():  # callers evaluate without either
        weights = _fit(train.clone(), labels[~held].float(), generator)
    guesses = _logits(test, weights) > 0
    return int((guesses == labels[held]).sum())


def _standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and scale both by the mean and deviation of the first, in float32."""
    centre, scale = train.mean(0), train.std(0)
    scale = torch.where(scale > 1e-12 * centre.abs(), scale, 1.0)  # a constant column stays
    return ((train - centre) / scale).float(), ((test - centre) / scale).float()


def _fit(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> list[Tensor]:
    weights = _initial(inputs.shape[1], generator)
    optimiser = torch.optim.AdamW(weights, lr=_RATE, weight_decay=1.0, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, total_iters=_STEPS)
    for _ in range(_STEPS):
        batch = torch.randint(len(inputs), (_BATCH,), generator=generator, device="cpu")
        loss = binary_cross_entropy_with_logits(_logits(inputs[batch], weights), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return weights


def _initial(width: int, generator: torch.Generator) -> list[Tensor]:
    """Draw the hidden layer; the output layer starts at zero, where the net has no opinion."""
    hidden = torch.empty(width, _HIDDEN, device="cpu", dtype=torch.float32)
    hidden.normal_(0, math.sqrt(2 / width), generator=generator)
    bias, output, threshold = (hidden.new_zeros(shape) for shape in (_HIDDEN, _HIDDEN, ()))
    return [weight.requires_grad_() for weight in (hidden, bias, output, threshold)]


def _logits(inputs: Tensor, weights: list[Tensor]) -> Tensor:
    hidden, bias, output, threshold = weights
    return torch.relu(inputs @ hidden + bias) @ output + threshold
