r"""Distances between features of samples and of data: FID and KID.

$$\mathrm{FID} = \lVert \mu_1 - \mu_2 \rVert^2
  + \mathrm{tr}\big(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\big)$$

of Gaussians fitted to the features (Heusel et al. 2017); KID is the unbiased squared MMD of the
kernel $(a \cdot b / d + 1)^3$ (Binkowski et al. 2018). FID grows as N falls, so compare it at one
N only; KID does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from daguerre.evaluate.features import Features, featured, prefix
from daguerre.evaluate.jackknife import jackknife
from daguerre.evaluate.scores import Score
from daguerre.evaluate.subject import Subject
from daguerre.evaluate.two_sample import mmd2_unbiased

__all__ = ["FID", "KID", "fid", "kid"]


def fid(real: Tensor, fake: Tensor) -> Tensor:
    """Return the Frechet distance of two samples of features, as torchmetrics computes it.

    Args:
        real: `[N, d]`, N >= 2.
        fake: `[M, d]`, M >= 2.

    Returns:
        A float64 scalar; biased upwards, the more so the smaller N and M are.

    Raises:
        ModuleNotFoundError: torchmetrics is not installed.

    References:
        Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter (2017, arXiv 1706.08500); Dowson and
        Landau (1982), *The Frechet distance between multivariate normal distributions*.

    Example:
        >>> import torch
        >>> x = torch.tensor([[-1.0], [1.0]])
        >>> fid(x, 2 * x + 3)  # 3^2 + (2 s - s)^2, s^2 = 2
        tensor(11., dtype=torch.float64)
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"FID needs the package {error.name}: pip install 'daguerre[metrics]'"
        ) from None
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1])).cpu()
    metric.update(real.cpu().double(), real=True)
    metric.update(fake.cpu().double(), real=False)
    return metric.compute()


def kid(real: Tensor, fake: Tensor) -> Tensor:
    """Return the squared MMD of two samples of features by the cubic kernel, without bias.

    Args:
        real: `[N, d]`, N >= 2.
        fake: `[M, d]`, M >= 2.

    Returns:
        A float64 scalar; below zero about half the time where the samples are alike.

    References:
        Binkowski, Sutherland, Arbel and Gretton (2018), *Demystifying MMD GANs*, arXiv 1801.01401.

    Example:
        >>> import torch
        >>> kid(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]]))
        tensor(-13., dtype=torch.float64)
    """
    return mmd2_unbiased(real, fake, lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3)


@dataclass(frozen=True)
class FID:
    """The Frechet distance between features of the data and of as many samples.

    With the features of a `train_classifier(..., name="MNIST")` it is called "MNIST-FID", and is
    not comparable with the one of the Inception net. Its error bar is the jackknife's, and does
    not count the bias.

    Attributes:
        features: By default the values of a row.

    References:
        Heusel et al. (2017, arXiv 1706.08500).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(x=Normal(torch.zeros(2), 1.0))
        >>> x = torch.randn(1000, 2) + torch.tensor([3.0, 0.0])
        >>> scores = dg.evaluate(p, data=x, measures=[FID()])
        >>> abs(scores["FID"].value - 9) < 4 * scores["FID"].spread
        True
    """

    features: Features | None = None

    def __call__(self, of: Subject) -> Score:
        """Compare the data with as many draws."""
        note = "0 if equal, but biased upwards: compare at N = {} only"
        return _score(of, self.features, "FID", fid, note)


@dataclass(frozen=True)
class KID:
    """The kernel distance between features of the data and of as many samples.

    Attributes:
        features: By default the values of a row.

    References:
        Binkowski et al. (2018, arXiv 1801.01401).

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> _ = torch.manual_seed(0)
        >>> p = dg.model(x=Normal(torch.zeros(2), 1.0))
        >>> scores = dg.evaluate(p, data=torch.randn(500, 2) + 2, measures=[KID()])
        >>> scores["KID"].value > 10 * scores["KID"].spread
        True
    """

    features: Features | None = None

    def __call__(self, of: Subject) -> Score:
        """Compare the data with as many draws."""
        return _score(of, self.features, "KID", kid, "unbiased, 0 if equal; N = {}")


def _score(
    of: Subject,
    features: Features | None,
    name: str,
    statistic: Callable[[Tensor, Tensor], Tensor],
    note: str,
) -> Score:
    """Take a statistic of features of the data and of as many draws; the note tells how many."""
    real, fake = featured(of, features)
    found = jackknife(statistic, real, fake)
    value, stderr = found.value.item(), found.stderr.item()
    return Score(f"{prefix(features)}{name}", value, stderr, note.format(len(real)))


class _Given(nn.Module):
    """Features that have been computed."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features  # what torchmetrics asks for

    def forward(self, features: Tensor) -> Tensor:
        return features
