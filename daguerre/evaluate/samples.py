"""Two-sample measures of a model: its draws beside as many rows of data."""

from __future__ import annotations

from dataclasses import dataclass

from daguerre.evaluate.scores import Score
from daguerre.evaluate.subject import Subject
from daguerre.evaluate.two_sample import classifier_accuracy, mmd2
from daguerre.kernels import Kernel

__all__ = ["C2ST", "MMD2"]


@dataclass(frozen=True)
class MMD2:
    """The squared maximum mean discrepancy, unbiased; see `mmd2`.

    Its spread is the standard deviation where the model is right.

    Attributes:
        kernel: By default a mixture of Gaussians around the median distance of the data.
        permutations: How many make the spread and the p-value.

    References:
        Gretton et al. (2012, JMLR 13).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(x=Normal(torch.zeros(2), 1.0))
        >>> scores = dg.evaluate(p, data=torch.randn(200, 2) + 3, measures=[MMD2()])
        >>> scores["mmd2"].value > 20 * scores["mmd2"].spread
        True
    """

    kernel: Kernel | None = None
    permutations: int = 500

    def __call__(self, of: Subject) -> Score:
        """Compare the data with as many draws."""
        found = mmd2(
            of.real, of.fake, kernel=self.kernel, permutations=self.permutations, seed=of.seed
        )
        note = f"unbiased, 0 if equal; p = {found.p_value:.2g} that samples and data agree"
        return Score("mmd2", found.value, found.null_std, note)


@dataclass(frozen=True)
class C2ST:
    """The accuracy of a small net that tells draws from data; see `classifier_accuracy`.

    Attributes:
        folds: In how many parts rows are held out.

    References:
        Lopez-Paz and Oquab (2017, arXiv 1610.06545).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(x=Normal(torch.zeros(2), 1.0))
        >>> scores = dg.evaluate(p, data=torch.randn(100, 2) + 9, measures=[C2ST()])
        >>> scores["c2st"].value
        1.0
    """

    folds: int = 5

    def __call__(self, of: Subject) -> Score:
        """Compare the data with as many draws."""
        found = classifier_accuracy(of.real, of.fake, folds=self.folds, seed=of.seed)
        return Score("c2st", found.value, found.stderr, "classifier accuracy, 0.5 if equal")
