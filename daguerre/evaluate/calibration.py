r"""Simulation-based calibration: is a posterior as wide as it ought to be?

Draw $z^*$ from the prior and x given it, then L draws of z from the posterior given x. If that is
right, the rank of each component of $z^*$ among the L is uniform on 0, ..., L. A posterior that is
too narrow piles ranks up at both ends, one that is too wide in the middle, a shifted one at one
end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.evaluate.scores import Score
from daguerre.evaluate.subject import Subject
from daguerre.graph import InadmissibleError
from daguerre.joint import as_joint
from daguerre.model import Model
from daguerre.rows import as_copies, tile
from daguerre.running import draw

__all__ = ["Calibration", "Posterior", "Uniformity", "calibration", "drawn_by", "uniformity"]

Posterior = Callable[[Mapping[str, Tensor], int], Mapping[str, Tensor]]
"""Draws latents for each row of `{name: [n, *event]}`, so many: `{name: [draws, n, *event]}`."""


class Uniformity(NamedTuple):
    """A test of ranks against the uniform distribution, for each component.

    Attributes:
        histogram: How many ranks fall in each bin, `[bins, components]`.
        statistic: Pearson's, over its degrees of freedom, `[components]`; 1 if calibrated.
        p_value: `[components]`.
    """

    histogram: Tensor
    statistic: Tensor
    p_value: Tensor


def calibration(
    p: Model, posterior: Posterior, *, held: tuple[str, ...], rows: int, draws: int
) -> dict[str, Tensor]:
    """Return the rank of each latent component among draws of a posterior.

    Ties, as those of discrete variables, are broken at random.

    Args:
        p: The model, without inputs.
        posterior: What draws the latents, such as `drawn_by(q)`.
        held: The variables that are observed.
        rows: How many rows are simulated.
        draws: L, for each of them.

    Returns:
        `{name: [rows, components]}`, ranks from 0 to L.

    Raises:
        ValueError: A posterior that draws no latent of p, or returns other shapes.

    References:
        Talts, Betancourt, Simpson, Vehtari and Gelman (2018), *Validating Bayesian inference
        algorithms with simulation-based calibration*, arXiv 1804.06788.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.5**0.5))
        >>> ranks = calibration(p, drawn_by(q), held=("x",), rows=1000, draws=99)["z"]
        >>> uniformity(ranks, draws=99).p_value.item() > 0.01
        True
    """
    with torch.no_grad():
        values = p.sample(rows)
        found = posterior({name: values[name] for name in held}, draws)
        ranks = {}
        for name in (name for name in found if name in values and name not in held):
            truth, drawn = values[name], found[name]
            if drawn.shape != (draws, *truth.shape):
                raise ValueError(
                    f"the posterior must draw {name} [draws, rows, *event] ="
                    f" {[draws, *truth.shape]}, not {list(drawn.shape)}"
                )
            ranks[name] = _ranks(truth.reshape(rows, -1), drawn.reshape(draws, rows, -1)).cpu()
    if not ranks:
        latent = ", ".join(name for name in values if name not in held) or "none"
        raise ValueError(f"the posterior draws {', '.join(found)}, none of the latents: {latent}")
    return ranks


def uniformity(ranks: Tensor, *, draws: int, bins: int = 20) -> Uniformity:
    """Test ranks against the uniform distribution on 0 to L.

    Args:
        ranks: `[rows, components]`.
        draws: L.
        bins: Of the histogram; L + 1 must be a multiple, and rows five times as many.

    Raises:
        ValueError: Bins that ranks do not fall into evenly, or too few rows.

    Example:
        >>> uniformity(torch.arange(100)[:, None], draws=99, bins=4).p_value
        tensor([1.], dtype=torch.float64)
    """
    rows = len(ranks)
    if bins < 2 or (draws + 1) % bins or rows < 5 * bins:
        raise ValueError(
            f"bins={bins} must divide the {draws + 1} ranks evenly and hold 5 of {rows} rows each"
            " on average; take draws=99, bins=20, rows=500"
        )
    bin_of = torch.div(ranks * bins, draws + 1, rounding_mode="floor").long()
    counts = torch.zeros(bins, ranks.shape[1], dtype=torch.float64, device=ranks.device)
    counts.scatter_add_(0, bin_of, torch.ones_like(bin_of, dtype=torch.float64))
    expected = rows / bins
    pearson = ((counts - expected) ** 2 / expected).sum(0)
    free = counts.new_tensor(bins - 1)
    return Uniformity(counts, pearson / free, torch.special.gammaincc(free / 2, pearson / 2))


def drawn_by(q: Model) -> Posterior:
    """Return the posterior that an inference model draws from."""

    def posterior(given: Mapping[str, Tensor], draws: int) -> dict[str, Tensor]:
        n = len(next(iter(given.values())))
        rows = {k: tile(v, n * draws) for k, v in given.items() if k in q.graph.inputs}
        drawn = draw(as_joint(q).program, n * draws, rows, pathwise=False).values
        return {name: as_copies(drawn[name], n) for name in drawn if name not in rows}

    return posterior


@dataclass(frozen=True)
class Calibration:
    """Simulation-based calibration of q, or of any posterior, on data that the model draws.

    The score is Pearson's statistic of the worst component over its degrees of freedom: 1 if
    calibrated, with the spread that it then has. The p-value counts the components (Bonferroni).

    Attributes:
        posterior: What draws the latents; by default q.
        rows: How many rows are simulated.
        draws: L, for each of them.
        bins: Of the histogram of ranks.

    References:
        Talts, Betancourt, Simpson, Vehtari and Gelman (2018, arXiv 1804.06788).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(), z=lambda x: Normal(x / 2, 0.4))  # too narrow
        >>> scores = dg.evaluate(p, q, measures=[Calibration()])
        >>> scores["calibration"].value > 3
        True
    """

    posterior: Posterior | None = None
    rows: int = 1000
    draws: int = 99
    bins: int = 20

    def __call__(self, of: Subject) -> Score:
        """Simulate data and rank."""
        posterior = self.posterior
        if posterior is None:
            held = of.cost.given
            assert of.q is not None, "there is a cost, and so a q"
            posterior = drawn_by(of.q)
        else:
            held = of.held
        _refuse(of.p)
        ranks = calibration(of.p, posterior, held=held, rows=self.rows, draws=self.draws)
        columns = torch.cat([*ranks.values()], 1)
        names = [f"{n}[{i}]" for n, each in ranks.items() for i in range(each.shape[1])]
        found = uniformity(columns, draws=self.draws, bins=self.bins)
        worst = int(found.statistic.argmax())
        p_value = min(1.0, found.p_value[worst].item() * len(names))
        note = f"1 if right; worst at {names[worst]}, p = {p_value:.2g}"
        said = _shape(columns[:, worst], self.draws) if p_value < 0.01 else ""
        spread = (2 / (self.bins - 1)) ** 0.5
        return Score("calibration", found.statistic[worst].item(), spread, note + said)


def _refuse(p: Model) -> None:
    """Refuse models that draw no data by themselves, or whose latents repeat."""
    if p.graph.inputs:
        raise InadmissibleError(
            f"calibration draws data from the model, which needs {', '.join(p.graph.inputs)};"
            " replace them by variables with a law, dg.replace(p, c=...)"
        )
    if plates := as_joint(p).program.plates:
        raise InadmissibleError(
            f"calibration ranks the latents of one row of data, but {', '.join(plates)} repeat in"
            " plates or time; declare the members as one variable"
        )


def _ranks(truth: Tensor, drawn: Tensor) -> Tensor:
    """Return how many draws lie below, `[rows, components]`, ties broken at random."""
    less, equal = (drawn < truth).sum(0), (drawn == truth).sum(0)
    return less + (torch.rand(equal.shape, device=equal.device) * (equal + 1)).long()


def _shape(ranks: Tensor, draws: int) -> str:
    """Say what is wrong with a posterior from the ranks of one component."""
    level = (ranks.double() + 0.5) / (draws + 1)
    shift = (level.mean().item() - 0.5) * (12 * len(ranks)) ** 0.5
    if abs(shift) > 4:
        return f", too {'low' if shift > 0 else 'high'}"
    return f", too {'narrow' if level.var().item() > 1 / 12 else 'wide'}"
