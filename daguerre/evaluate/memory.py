"""Has a model learned its training data by heart? Samples nearer to it than held-out data is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.evaluate.features import Features, apply, featured
from daguerre.evaluate.manifold import nearest
from daguerre.evaluate.scores import Score
from daguerre.evaluate.subject import Subject

__all__ = ["Memorisation", "Ranks", "rank_test"]


class Ranks(NamedTuple):
    """How two samples of numbers compare.

    Attributes:
        share: Of pairs in which the first is the smaller; ties count half. 1/2 if equal.
        stderr: Standard error of the share.
        p_value: That the first are so small by chance (Mann and Whitney, one-sided, normal).
    """

    share: float
    stderr: float
    p_value: float


def rank_test(first: Tensor, second: Tensor) -> Ranks:
    """Test whether the numbers of one sample are smaller than those of another.

    Args:
        first: `[N]`.
        second: `[M]`.

    References:
        Mann and Whitney (1947); DeLong, DeLong and Clarke-Pearson (1988) for the standard error.

    Example:
        >>> found = rank_test(torch.arange(50.0), torch.arange(50.0) + 20)
        >>> round(found.share, 2), found.p_value < 0.001
        (0.82, True)
    """
    n, m = len(first), len(second)
    above = _share_above(first, second)
    below = 1 - _share_above(second, first)
    share = above.mean().item()
    spread = math.sqrt(above.var().item() / n + below.var().item() / m)
    ties = torch.cat([first, second]).unique(return_counts=True)[1].double()
    total = n + m
    correction = (ties**3 - ties).sum().item() / (total * (total - 1))
    null = math.sqrt((total + 1 - correction) / (12 * n * m))
    return Ranks(share, spread, 0.5 * math.erfc((share - 0.5) / max(null, 1e-12) / math.sqrt(2)))


@dataclass(frozen=True)
class Memorisation:
    """How often a sample is nearer to the training data than a held-out row is.

    One half where the model has learned the law of the data, near 1 where it copies rows. The data
    of `dg.evaluate` must be held out.

    Attributes:
        train: What the model was fitted to, the one observed variable `[N, *event]`.
        features: What distances are between, by default the values of a row.

    References:
        Meehan, Chaudhuri and Dasgupta (2020), *A non-parametric test to detect data-copying in
        generative models*, arXiv 2004.05675, section 3.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> x, held_out = torch.randn(2, 300, 2).unbind()
        >>> p = dg.model(x=dg.rv(lambda i: Normal(x[i], 0.01)), i=dg.rv(
        ...     lambda: torch.distributions.Categorical(torch.ones(300))))
        >>> scores = dg.evaluate(p, data=held_out, measures=[Memorisation(x)])
        >>> scores["memorisation"].value > 0.9
        True
    """

    train: Tensor
    features: Features | None = None

    def __call__(self, of: Subject) -> Score:
        """Compare as many draws as there are rows of held-out data."""
        real, fake = featured(of, self.features)
        train = apply(self.features, self.train)
        if train.shape[1] != real.shape[1]:
            raise ValueError(
                f"rows of train have {train.shape[1]} values, and those of the data"
                f" {real.shape[1]}; give what the model was fitted to, in the same shape"
            )
        found = rank_test(nearest(fake, train, 1), nearest(real, train, 1))
        note = f"1/2 if new, 1 if copied; p = {found.p_value:.2g} that it does not copy"
        return Score("memorisation", found.share, found.stderr, note)


def _share_above(numbers: Tensor, others: Tensor) -> Tensor:
    """Return for each number the share of others that are larger, ties by half, `[N]`."""
    ordered = others.sort().values
    below = torch.searchsorted(ordered, numbers, right=False)
    within = torch.searchsorted(ordered, numbers, right=True)
    return 1 - (below + within).double() / (2 * len(others))
