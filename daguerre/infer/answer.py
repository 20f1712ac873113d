"""What a question returns: a posterior for each target, and how it was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.distributions import Finite

__all__ = ["Answer", "Most", "PerTarget", "check_names", "check_possible"]

PerTarget = Any  # a Tensor, or a dict of them by target: so that a single one needs no cast


@dataclass(frozen=True, repr=False)
class Answer:
    """The posterior of some variables, for each row of the evidence.

    Where a question names one target by a string, `mean`, `probs`, ... are tensors; where it
    lists targets, they are dicts by name.

    Attributes:
        targets: The variables asked for.
        marginals: Per target, its posterior marginal; the batch shape is `[rows]` (for chains
            `[rows, T]`).
        log_evidence: The log-probability or -density of the evidence in nats, `[rows]`; an
            estimate where `exact` is false; None where it is unknown, as when some evidence that
            says nothing of the targets has no density that can be computed.
        method: What computed the answer, in words.
        exact: Whether the answer is exact up to rounding.
        draw: Draws n joint values of the targets, `{name: [n, rows, *event]}`.
        diagnostics: What tells how far to trust an approximation (`ess`, `pareto_k`, `r_hat`...).
        density: The joint log-density of values `{name: [rows, *event]}` of all targets, `[rows]`.
        is_single: Whether one target was named by a string.
    """

    targets: tuple[str, ...]
    marginals: Mapping[str, Distribution]
    log_evidence: Any
    method: str
    exact: bool
    draw: Callable[[int], dict[str, Tensor]]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    density: Callable[[Mapping[str, Tensor]], Tensor] | None = None
    is_single: bool = False

    def __repr__(self) -> str:
        families = ", ".join(f"{name}: {type(m).__name__}" for name, m in self.marginals.items())
        how = f"{'exact' if self.exact else 'approximate'}, by {self.method}"
        reliable = self.diagnostics.get("reliable")
        if reliable is not None and not reliable.all():
            how += f"; {int((~reliable).sum())} of {reliable.numel()} rows unreliable"
        return f"Answer({families}; {how})"

    def __getitem__(self, name: str) -> Any:
        """Return the posterior marginal of one target."""
        if name not in self.marginals:
            raise GraphError(f"{name} is no target; the targets are {', '.join(self.targets)}")
        return self.marginals[name]

    @property
    def mean(self) -> PerTarget:
        """Posterior means, `[rows, *event]`; of state numbers where the states are numbers."""
        return self._each(lambda marginal: marginal.mean)

    @property
    def variance(self) -> PerTarget:
        """Posterior variances of each component, `[rows, *event]`."""
        return self._each(lambda marginal: marginal.variance)

    @property
    def probs(self) -> PerTarget:
        """Posterior probabilities of the states, `[rows, states]`, of finite targets.

        Raises:
            InadmissibleError: A target is not finite.
        """
        for name, marginal in self.marginals.items():
            if not isinstance(marginal, Finite):
                raise InadmissibleError(
                    f"{name} is not finite, and its {type(marginal).__name__} posterior has no"
                    f" table of probabilities; ask for .mean, .variance or .sample(n), and for the"
                    " .probs of one target by answer[name].probs"
                )
        return self._each(lambda marginal: cast(Finite, marginal).probs)

    def sample(self, n: int) -> PerTarget:
        """Draw n times from the joint posterior of the targets, `[n, rows, *event]` each."""
        if not isinstance(n, int) or n < 0:
            raise GraphError(f"n is the number of draws, 0 or more, not {n!r}")
        draws = self.draw(n)
        return draws[self.targets[0]] if self.is_single else draws

    def log_prob(self, values: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return the joint posterior log-density of values of all targets, `[rows]`.

        Raises:
            InadmissibleError: The answer is made of draws, which have no density.
        """
        if self.density is None:
            raise InadmissibleError(f"an answer by {self.method} has no density, only draws")
        return self.density({self.targets[0]: values} if isinstance(values, Tensor) else values)

    def _each(self, of: Callable[[Distribution], Tensor]) -> PerTarget:
        found = {name: of(marginal) for name, marginal in self.marginals.items()}
        return found[self.targets[0]] if self.is_single else found


class Most(NamedTuple):
    """Most probable values.

    Attributes:
        values: Per variable, `[rows, *event]`.
        log_prob: The log-probability of these values together with the evidence, `[rows]`.
    """

    values: dict[str, Tensor]
    log_prob: Tensor


def check_possible(
    log_total: Tensor, said: Callable[[int], str] | None = None, *, unit: str = "row"
) -> None:
    """Refuse posteriors given what cannot be.

    Args:
        log_total: Log-probabilities of the evidence, `[rows]`.
        said: What a row says, in words.
        unit: What a row is called.

    Raises:
        GraphError: A row has probability zero, or NaN.
    """
    wrong = (log_total == -torch.inf) | log_total.isnan()
    if not bool(wrong.any()):
        return
    row = int(wrong.nonzero()[0])
    what = f"{unit} {row} of the evidence has"
    words = f": {said(row)}" if said is not None else ""
    if log_total[row].isnan():
        raise GraphError(
            f"{what} a probability that is NaN{words}; some parameter of a CPD is NaN"
        )
    raise GraphError(f"{what} probability zero, so nothing follows from it{words}")


def check_names(values: Mapping[str, Tensor], targets: tuple[str, ...]) -> None:
    """Refuse a density of other variables than the targets.

    Raises:
        GraphError: Says which.
    """
    if {*values} != {*targets}:
        raise GraphError(
            f"the density is that of {', '.join(targets)}, not of {', '.join(values) or 'nothing'}"
        )
