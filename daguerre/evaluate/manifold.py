"""Are samples where the data is, and is the data where samples are? Balls around neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.evaluate.features import Features, featured
from daguerre.evaluate.jackknife import jackknife
from daguerre.evaluate.scores import Score
from daguerre.evaluate.subject import Subject

__all__ = ["Manifold", "Overlap", "nearest", "overlap"]

CELLS = 1 << 24  # distances in memory at a time


class Overlap(NamedTuple):
    """How two samples cover each other, each a scalar.

    Attributes:
        precision: Share of fakes that lie in the ball of some real row.
        recall: Share of real rows that lie in the ball of some fake.
        density: Mean number of real balls that a fake lies in, over k; may exceed 1.
        coverage: Share of real balls in which there is a fake.
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def overlap(real: Tensor, fake: Tensor, *, k: int = 5) -> Overlap:
    """Compare samples by balls that reach from each row to its k-th neighbour.

    Distances are taken block by block, so memory grows with N + M.

    Args:
        real: `[N, d]`, N > k.
        fake: `[M, d]`, M > k.
        k: Which neighbour of its own sample the ball of a row reaches to.

    Raises:
        ValueError: k is not between 1 and the rows less one.

    References:
        Kynkaanniemi, Karras, Laine, Lehtinen and Aila (2019, arXiv 1904.06991) for precision and
        recall; Naeem, Oh, Uh, Choi and Yoo (2020, arXiv 2002.09797) for density and coverage.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [9.0]])
        >>> found = overlap(real, torch.tensor([[0.5], [0.6], [0.7], [30.0]]), k=1)
        >>> [round(float(share), 3) for share in found]
        [0.75, 0.667, 1.5, 0.667]
    """
    if not 1 <= k < min(len(real), len(fake)):
        rows = min(len(real), len(fake))
        raise ValueError(f"k={k}; expected 1 to {rows - 1}, as the smaller sample has {rows} rows")
    real_radius, fake_radius = nearest(real, real, k + 1), nearest(fake, fake, k + 1)
    inside, reached = torch.zeros(len(fake), dtype=torch.long, device=fake.device), []
    found = []
    for block, radius in zip(_blocks(real, fake), _blocks(real_radius, fake), strict=True):
        distance = torch.cdist(block, fake)
        hits = distance <= radius[:, None]
        inside += hits.sum(0)
        reached.append(hits.any(1))
        found.append((distance <= fake_radius).any(1))
    count = inside.double()
    return Overlap(
        (count > 0).double().mean(),
        torch.cat(found).double().mean(),
        count.mean() / k,
        torch.cat(reached).double().mean(),
    )


def nearest(rows: Tensor, among: Tensor, k: int) -> Tensor:
    """Return the distance of each row `[N, d]` to its k-th nearest of others `[M, d]`, `[N]`.

    Example:
        >>> nearest(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [7.0]]), 1)
        tensor([1., 2.])
    """
    blocks = (torch.cdist(block, among) for block in _blocks(rows, among))
    return torch.cat([distance.kthvalue(k, dim=1).values for distance in blocks])


@dataclass(frozen=True)
class Manifold:
    """Precision, recall, density and coverage of as many samples as rows; see `overlap`.

    Attributes:
        k: Which neighbour balls reach to.
        features: By default the values of a row.

    References:
        Kynkaanniemi et al. (2019, arXiv 1904.06991); Naeem et al. (2020, arXiv 2002.09797).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(x=Normal(torch.zeros(2), 0.2))
        >>> scores = dg.evaluate(p, data=torch.randn(400, 2), measures=[Manifold()])
        >>> scores["precision"].value > 0.9, scores["coverage"].value < 0.5  # safe, but narrow
        (True, True)
    """

    k: int = 5
    features: Features | None = None

    def __call__(self, of: Subject) -> tuple[Score, ...]:
        """Compare the data with as many draws."""
        real, fake = featured(of, self.features)
        found = jackknife(lambda a, b: torch.stack(overlap(a, b, k=self.k)), real, fake)
        notes = {
            "precision": "share of samples near data",
            "recall": "share of data near samples",
            "density": "data around a sample, 1 if equal",
            "coverage": f"share of data with a sample near, {_expected(self.k, len(real)):.2f} if"
            " equal",
        }
        rows = zip(notes.items(), found.value.tolist(), found.stderr.tolist(), strict=True)
        return tuple(Score(name, value, spread, note) for (name, note), value, spread in rows)


def _expected(k: int, n: int) -> float:
    """Return the coverage of equal laws: no k of 2n - 1 rows around one are all real."""
    missed = 1.0
    for i in range(k):
        missed *= (n - 1 - i) / (2 * n - 1 - i)
    return 1 - missed


def _blocks(rows: Tensor, among: Tensor) -> tuple[Tensor, ...]:
    return rows.split(max(1, CELLS // len(among)))
