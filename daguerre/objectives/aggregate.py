r"""The aggregate posterior: what the latents of all the data look like together.

$$q(z) = \tfrac1N \sum_{k=1}^{N} q(z \mid x_k)$$

The mean KL divergence of q(z | x) from a prior that factorises is a sum of three terms,

$$\mathbb{E}\,\mathrm{KL}(q(z \mid x) \Vert p(z)) = I_q(x; z)
  + \mathrm{KL}\Big(q(z) \Big\Vert \prod_j q(z_j)\Big) + \sum_j \mathrm{KL}(q(z_j) \Vert p(z_j))$$

the mutual information, the total correlation and the dimension-wise KL; each can have a weight of
its own (Chen et al. 2018, arXiv 1802.04942). The density q(z) is estimated from a batch, by a
table of the log-density of each row's draw under the posterior of every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.draw.labels import label
from daguerre.graph import GraphError, InadmissibleError
from daguerre.joint import Factor, Joint, as_joint
from daguerre.objectives.objective import Divergence, Objective, Player, Round, Term
from daguerre.objectives.sides import expectation, modules_of, needed, pair_shapes
from daguerre.peers import ALONE, Peers
from daguerre.program import Step, Trace, misfit
from daguerre.running import draw

__all__ = [
    "STRATIFIED",
    "WEIGHTED",
    "Aggregate",
    "Estimate",
    "Population",
    "RowWeights",
    "Split",
    "dimension_wise_kl",
    "mutual_information",
    "total_correlation",
]


@dataclass(frozen=True)
class RowWeights:
    """How much each row of a batch counts in an estimate of q(z).

    Attributes:
        name: As people call it.
        log: From the rows of the batch and of the data, the log-weight of the row that z was
            drawn from and that of each other row.
        why: What it is good for.
    """

    name: str
    log: Callable[[int, int], tuple[float, float]]
    why: str


def _weighted(n: int, rows: int) -> tuple[float, float]:
    return -math.log(n * rows), -math.log(n * rows)


def _stratified(n: int, rows: int) -> tuple[float, float]:
    return -math.log(rows), math.log((rows - 1) / (rows * (n - 1)))


WEIGHTED = RowWeights(
    "minibatch-weighted",
    _weighted,
    "a bound on E log q(z), low by up to log N: of use for its gradient",
)
"""The weight 1 / (N n) for every row (Chen et al. 2018, appendix C.1)."""

STRATIFIED = RowWeights(
    "minibatch-stratified",
    _stratified,
    "unbiased in q(z), and exact where the batch is all the data",
)
"""The weight 1 / N for the row itself; the others share the rest (Chen et al. 2018, C.2)."""


def total_correlation(
    joint: Factor | Joint, *, of: str, rows: int, weights: RowWeights = WEIGHTED
) -> Objective:
    r"""Return $\mathrm{KL}(q(z) \Vert \prod_j q(z_j))$ of an aggregate posterior.

    A β-TC-VAE, `dg.recipes.beta_tc_vae`, is an ELBO and (beta - 1) times this.

    Args:
        joint: The data and the inference model, `dg.data("x") * q`.
        of: The variable; given the others its dimensions must be independent, as those of
            `Normal(mean, scale)` are.
        rows: N, how many rows the data has.
        weights: How rows count: `WEIGHTED`, as is usual, or `STRATIFIED`, which has less bias.

    Raises:
        GraphError: An unknown variable; in a loss, a batch of one row or of more than N.
        InadmissibleError: The variable has no density given its parents or none of its own, its
            dimensions are dependent, or a draw has no gradient.
        ValueError: `rows` is not a whole number, 2 or more.

    References:
        Chen, Li, Grosse and Duvenaud (2018, arXiv 1802.04942). Watanabe (1960) for the name.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> q = dg.model(x=dg.Input(1), z=lambda x: Normal(x.expand(-1, 2), 0.1))
        >>> _ = torch.manual_seed(0)
        >>> signs = torch.tensor([[1.0], [-1.0]])  # z_1 and z_2 share one bit
        >>> tc = total_correlation(dg.data("x") * q, of="z", rows=2, weights=STRATIFIED)
        >>> round(tc.losses(signs)["model"].item(), 4) == round(math.log(2), 4)
        True
    """
    estimate = Estimate("total correlation", lambda s: s.joint - s.product, _TC)
    return _objective(joint, None, of, estimate, Population(rows, weights))


def mutual_information(
    joint: Factor | Joint, *, of: str, rows: int, weights: RowWeights = WEIGHTED
) -> Objective:
    r"""Return $I_q(x; z) = \mathbb{E} \log q(z \mid x) - \log q(z)$, of z and a row of the data.

    Args:
        joint: The data and the inference model, `dg.data("x") * q`.
        of: The variable z, as for `total_correlation`.
        rows: N, how many rows the data has; the information is at most log N.
        weights: As for `total_correlation`.

    Raises:
        GraphError: As for `total_correlation`, and so for the rest.

    References:
        Hoffman and Johnson (2016), ELBO surgery; Chen et al. (2018, arXiv 1802.04942).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> q = dg.model(x=dg.Input(1), z=lambda x: Normal(x, 0.1))
        >>> mutual_information(dg.data("x") * q, of="z", rows=100)
        Objective(mutual information of z; players: model)
    """
    estimate = Estimate("mutual information", lambda s: s.given - s.joint, _MI)
    return _objective(joint, None, of, estimate, Population(rows, weights))


def dimension_wise_kl(
    joint: Factor | Joint,
    p: Factor | Joint,
    *,
    of: str,
    rows: int,
    weights: RowWeights = WEIGHTED,
) -> Objective:
    r"""Return $\sum_j \mathrm{KL}(q(z_j) \Vert p(z_j))$ of an aggregate posterior and a prior.

    With `mutual_information` and `total_correlation` of the same draws it adds up to the KL
    divergence of q(z | x) from p(z), whatever the weights.

    Args:
        joint: The data and the inference model, `dg.data("x") * q`.
        p: The model; its prior of the variable must factorise, as `StandardNormal` does.
        of: The variable z, as for `total_correlation`.
        rows: N, how many rows the data has.
        weights: As for `total_correlation`.

    Raises:
        GraphError: As for `total_correlation`, and so for the rest; also different shapes.
        InadmissibleError: Also a prior with parents, or with dependent dimensions.

    References:
        Chen, Li, Grosse and Duvenaud (2018, arXiv 1802.04942).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=dg.StandardNormal(2), x=lambda z: Normal(z, 1.0))
        >>> q = dg.model(x=dg.Input(2), z=lambda x: Normal(x, 0.1))
        >>> dimension_wise_kl(dg.data("x") * q, p, of="z", rows=100)
        Objective(dimension-wise KL of z; players: model)
    """
    estimate = Estimate("dimension-wise KL", lambda s: s.product - s.prior, _DWKL)
    return _objective(joint, as_joint(p), of, estimate, Population(rows, weights))


class Split(NamedTuple):
    """Log-densities of the draws of a batch, each `[n]`, in nats.

    Attributes:
        given: log q(z | x), of the row that z was drawn from.
        joint: log q(z).
        product: The sum of log q(z_j).
        prior: log p(z); zeros where there is no prior.
    """

    given: Tensor
    joint: Tensor
    product: Tensor
    prior: Tensor


@dataclass(frozen=True)
class Estimate:
    """One of the three terms.

    Attributes:
        name: As people call it.
        value: From the log-densities to one value per row.
        formula: Its LaTeX, with # for the variable.
    """

    name: str
    value: Callable[[Split], Tensor]
    formula: str


_MI = r"\log \frac{q_\phi(# \mid \cdot)}{q_\phi(#)}"
_TC = r"\log \frac{q_\phi(#)}{\prod_j q_\phi({#}_j)}"
_DWKL = r"\sum_j \log \frac{q_\phi({#}_j)}{p({#}_j)}"


@dataclass(frozen=True)
class Population:
    """The data that a batch is drawn from: how many rows, and how those of a batch count.

    Raises:
        ValueError: `rows` is not a whole number, 2 or more.
    """

    rows: int
    weights: RowWeights

    def __post_init__(self) -> None:
        if isinstance(self.rows, bool) or not isinstance(self.rows, int) or self.rows < 2:
            raise ValueError(f"rows is how many rows the data has, 2 or more, not {self.rows!r}")


def _objective(
    joint: Factor | Joint, prior: Joint | None, of: str, estimate: Estimate, data: Population
) -> Objective:
    return Objective(((1.0, Aggregate(as_joint(joint), prior, of, estimate, data)),))


@final
class Aggregate(Divergence):
    """A term of the KL divergence that needs the aggregate posterior of one variable."""

    def __init__(
        self, joint: Joint, prior: Joint | None, of: str, estimate: Estimate, data: Population
    ) -> None:
        self.a = joint[of]
        self.b = self.a if prior is None else prior[of]
        (self.of,) = self.names = self.a.names
        self.estimate, self.rows, self.weights = estimate, data.rows, data.weights
        self.players = (Player("model", modules_of(self.b, self.a)),)
        learns = (self.a,) if self.players[0].parameters() else ()
        self.shapes = pair_shapes(self.a, self.b, pathwise=learns, run=needed)
        self._program, self._given = needed(self.a), self.a.given
        self._step = self.a.program.by_name[self.of]
        self._prior = None if prior is None else self.b.program.by_name[self.of]
        self._check()

    def _check(self) -> None:
        """Refuse what has no table of log-densities, as far as it is known without data."""
        name, graph = self.of, self.a.graph
        if graph[name].map != "stochastic" or name in self.a.given:
            what = "given" if name in self.a.given else "a deterministic function"
            raise InadmissibleError(
                f"{self.title} needs the density of {name} given its parents, but {name} is"
                f" {what}; let a CPD return a distribution such as Normal, declared with @dg.rv"
            )
        if not graph.ancestors([name]) & {*self.a.given}:
            raise InadmissibleError(
                f"{self.title} is over the rows of the data, but {name} depends on no data; give"
                " the joint, such as dg.data('x') * q"
            )
        hidden = [s.name for s in self._program.steps if s.variable.map == "stochastic"]
        if above := [n for n in hidden if n != name and n not in self.a.given]:
            raise InadmissibleError(
                f"{self.title} needs q({name} | data), which is an integral over"
                f" {', '.join(above)}; give {name} a CPD whose parents are data"
            )
        if self._prior is not None and not self._prior.is_root:
            raise InadmissibleError(
                f"{self._prior}: the prior of {name} must factorise, but it has parents; take a"
                " root such as dg.StandardNormal"
            )
        sides = ((self._step, self.shapes.a), (self._prior, self.shapes.b))
        for step, shapes in sides:
            shape = shapes.get(name)
            if step is not None and shape is not None and shape.support is not None:
                _check_independent(step, shape.support.event_dim)

    @property
    def title(self) -> str:
        """The term, and the variable."""
        return f"{self.estimate.name} of {self.of}"

    def loss(self, player: str, at: Round) -> Tensor:
        """Return the batch mean of the term, in nats."""
        assert player == "model"
        return self.estimate.value(self.split(at.n, at.given, at.peers)).mean()

    def split(self, n: int, given: Mapping[str, Tensor], peers: Peers = ALONE) -> Split:
        """Draw a batch and return the log-densities of its draws, those of all processes.

        Raises:
            GraphError: A batch of one row, or of more rows than the data.
        """
        every = n * peers.world
        if not 2 <= every <= self.rows:
            raise GraphError(
                f"{self.title} compares rows of {self.rows} (rows=), so a batch has from 2 to"
                f" {self.rows}, not {every}"
            )
        trace = draw(self._program, n, {k: given[k] for k in self._given}, pathwise=True)
        z = peers.rows(trace.values[self.of])
        outcome = _distribution(self._step, trace)
        # the draw of row i under the posterior of row k: [i, k, dimensions]
        table = outcome.log_prob(z.unsqueeze(1)).reshape(every, n, -1).to(_at_least_float32(z))
        table = peers.rows(table.transpose(0, 1)).transpose(0, 1)
        itself = torch.eye(every, dtype=torch.bool, device=z.device)
        own, other = self.weights.log(every, self.rows)
        weights = torch.full_like(table[..., 0], other).masked_fill(itself, own)
        return Split(
            table.sum(2).masked_fill(~itself, 0.0).sum(1),
            (weights + table.sum(2)).logsumexp(1),
            (weights.unsqueeze(2) + table).logsumexp(1).sum(1),
            self._log_prior(z),
        )

    def _log_prior(self, z: Tensor) -> Tensor:
        if self._prior is None:
            return torch.zeros_like(z.flatten(1)[:, 0] if z.dim() > 1 else z)
        trace = Trace({}, {self.of: self._prior.outcome({})})
        return _distribution(self._prior, trace).log_prob(z).reshape(len(z), -1).sum(1)

    def ledger(self) -> tuple[Term, ...]:
        """Say how it is estimated."""
        drawn = [s.name for s in self._program.steps if s.name not in self._given]
        how = (
            f"n rows against each other, {self.weights.name} for {self.rows} rows of data;"
            f" pathwise through {', '.join(drawn)}"
        )
        return (Term("model", self.title, how, self.weights.why),)

    def latex(self) -> dict[str, str]:
        """Return the term as an expectation."""
        over = expectation(self.a, self.shapes.a, "q")
        inside = self.estimate.formula.replace(r"\cdot", self._parents()).replace(
            "#", label(self.of)
        )
        return {"model": rf"\mathbb{{E}}_{{{over}}}\left[{inside}\right]"}

    def _parents(self) -> str:
        return ", ".join(label(name) for name in self.a.graph.parents(self.of))


def _distribution(step: Step, trace: Trace) -> Distribution:
    outcome = trace.outcomes[step.name]
    if not isinstance(outcome, Distribution):
        raise TypeError(f"{step}: {misfit(step, outcome)}")
    _check_independent(step, len(outcome.event_shape))
    return outcome


def _check_independent(step: Step, event_dimensions: int) -> None:
    if event_dimensions:
        raise InadmissibleError(
            f"{step}: the dimensions of {step.name} must be independent given its parents, but its"
            " distribution is over whole events; return one such as Normal(mean, scale), without"
            " Independent around it"
        )


def _at_least_float32(z: Tensor) -> torch.dtype:
    return torch.promote_types(z.dtype, torch.float32)
