"""Answers made of weighted draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.graph import GraphError
from daguerre.infer.answer import Answer
from daguerre.infer.approximate.methods import ABC, Importance, LikelihoodWeighting
from daguerre.infer.approximate.psis import effective_size, pareto_smooth, threshold
from daguerre.infer.approximate.weighting import MOST, Weighted, weighted_draws
from daguerre.infer.distributions import Finite, Particles
from daguerre.infer.joined import reshaped
from daguerre.infer.question import Question
from daguerre.joint import Factor, Joint

__all__ = [
    "answer_by_kernel",
    "answer_by_weights",
    "estimate_log_evidence",
    "marginal",
    "marginals_of",
    "redraw",
]


def answer_by_weights(
    question: Question, method: Importance | LikelihoodWeighting, q: Factor | Joint | None = None
) -> Answer:
    """Answer by draws from q, or from the model, weighed by the evidence.

    The diagnostics are `ess`, `pareto_k`, `reliable` and `log_evidence_stderr`, `[rows]` each.
    """
    found = weighted_draws(question, method.draws, q=q)
    total = _log_mean(found.log_weights)
    _check_weight(total, method.draws)
    smoothed = pareto_smooth(found.log_weights)
    size = effective_size(smoothed.log_weights)
    raw = effective_size(found.log_weights)
    way = "likelihood weighting" if q is None else "importance sampling with q"
    return _answer(
        question,
        found,
        smoothed.log_weights,
        method=f"{way}, {method.draws:,} draws",
        log_evidence=total,
        diagnostics={
            "ess": size,
            "pareto_k": smoothed.pareto_k,
            "reliable": smoothed.pareto_k < threshold(method.draws),
            "log_evidence_stderr": ((method.draws / raw - 1).clamp(min=0) / method.draws).sqrt(),
        },
    )


def estimate_log_evidence(
    question: Question, method: Importance | LikelihoodWeighting, q: Factor | Joint | None = None
) -> Tensor:
    """Return the log of an unbiased estimate of the evidence, `[rows]`."""
    return _log_mean(weighted_draws(question, method.draws, q=q).log_weights)


def answer_by_kernel(question: Question, method: ABC) -> Answer:
    """Answer by draws whose simulations come near what is known.

    The diagnostics are `bandwidth`, `acceptance` (the share of draws with a weight), `ess` and
    `nearest` (the smallest distance), `[rows]` each.
    """
    found = weighted_draws(question, method.draws, q=None, distance=Ruler())
    apart = found.distances
    assert apart is not None
    kept = max(1, math.ceil(method.keep * method.draws))
    if method.bandwidth is None:
        width = apart.kthvalue(min(kept + 1, len(apart)), 0).values
        width = width.clamp(min=1e-12)  # of more distances of zero than are asked for, all
    else:
        width = torch.full_like(apart[0], method.bandwidth)
    logs = found.log_weights + (1 - (apart / width).square()).clamp(min=0).log()
    _check_weight(logs.logsumexp(0), method.draws)
    wide = ", ".join(f"{w:.3g}" for w in width[:3].tolist()) + ", ..." * (len(width) > 3)
    return _answer(
        question,
        found,
        logs.log_softmax(0),
        method=f"kernel conditioning, bandwidth {wide}, {method.draws:,} draws",
        log_evidence=None,
        diagnostics={
            "bandwidth": width,
            "acceptance": (logs > -torch.inf).double().mean(0),
            "ess": effective_size(logs),
            "nearest": apart.amin(0),
        },
    )


class Ruler:
    """Measures root-mean-square differences in standard deviations of the simulations.

    The deviation of each component is that of the first draws, but no less than a hundredth of
    the root mean square over all components, so that one that never varies does not decide.
    """

    def __init__(self) -> None:
        self.scales: dict[str, Tensor] = {}

    def __call__(self, simulated: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> Tensor:
        """Return distances `[draws, rows]` of values `[draws, rows, *event]`."""
        squares, count = torch.zeros((), dtype=torch.float64), 0
        for name, value in simulated.items():
            flat = value.double().unsqueeze(-1).flatten(2)
            if name not in self.scales:
                deviation = flat.flatten(0, 1).std(0, correction=0)
                least = deviation.square().mean().sqrt() / 100
                deviation = deviation.clamp(min=least)
                self.scales[name] = torch.where(deviation > 0, deviation, 1.0)
            gap = (flat - seen[name].double().unsqueeze(-1).flatten(2)) / self.scales[name]
            squares = squares + gap.square().sum(2)
            count += flat.shape[2]
        return (squares / max(count, 1)).sqrt()


def _log_mean(log_weights: Tensor) -> Tensor:
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def _check_weight(log_total: Tensor, draws: int) -> None:
    if bool((lost := log_total == -torch.inf).any()):
        row = int(lost.nonzero()[0])
        raise GraphError(
            f"none of {draws:,} draws has a weight for row {row} of the evidence, which is"
            " impossible or very unlikely; take more draws, or a q that proposes what fits"
        )


def _answer(
    question: Question,
    found: Weighted,
    log_weights: Tensor,
    *,
    method: str,
    log_evidence: Tensor | None,
    diagnostics: Mapping[str, Any],
) -> Answer:
    return Answer(
        question.targets,
        marginals_of(question, found.values, log_weights, found.states),
        log_evidence,
        method,
        exact=False,
        draw=redraw(found.values, log_weights),
        diagnostics=diagnostics,
    )


def marginals_of(
    question: Question,
    values: Mapping[str, Tensor],
    log_weights: Tensor,
    states: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return weighted draws of each target as a distribution, of batch shape `[rows, *plates]`.

    Args:
        question: What is asked.
        values: Per target, `[draws, rows, *plates, *event]`.
        log_weights: `[draws, rows]`, normalised.
        states: The states of targets that are finite.
    """
    plates = question.subject.program.plates if isinstance(question.subject, Joint) else {}
    found: dict[str, Distribution] = {}
    for name, value in values.items():
        batch, listed = value.shape[1 : 2 + len(plates.get(name, ()))], (states or {}).get(name)
        logs = log_weights[(..., *[None] * (len(batch) - 1))].expand(-1, *batch).flatten(1)
        one = marginal(value.flatten(1, len(batch)), logs, listed)
        found[name] = reshaped(one, batch) if batch[1:] else one
    return found


def marginal(values: Tensor, log_weights: Tensor, listed: Tensor | None = None) -> Distribution:
    """Return weighted draws as a distribution: over states where they are finite.

    Args:
        values: `[draws, rows, *event]`.
        log_weights: `[draws, rows]`, normalised.
        listed: The states `[k, *event]`; those that were drawn, if None and they are integers.

    Example:
        >>> values, logs = torch.tensor([[2], [0], [2]]), torch.tensor([[0.2], [0.3], [0.5]]).log()
        >>> marginal(values, logs).probs
        tensor([[0.3000, 0.7000]])
    """
    if listed is None and not values.is_floating_point():
        drawn = values.flatten(0, 1).unique(dim=0)
        listed = drawn if len(drawn) <= MOST else None
    dtype = values.dtype if values.is_floating_point() else torch.get_default_dtype()
    if listed is None:
        return Particles(values, log_weights.to(dtype))
    weights = log_weights.exp()
    flat, rows = values.unsqueeze(-1).flatten(2), listed.unsqueeze(-1).flatten(1)
    shares = [(weights * (flat == state).all(2)).sum(0) for state in rows]
    return Finite(torch.stack(shares, 1).to(dtype), listed)


def redraw(
    values: Mapping[str, Tensor], log_weights: Tensor
) -> Callable[[int], dict[str, Tensor]]:
    """Return what draws n joint values of all targets, by resampling whole draws."""

    def draw(n: int) -> dict[str, Tensor]:
        rows = log_weights.shape[1]
        if not n:
            return {name: value[:0] for name, value in values.items()}
        chosen = torch.multinomial(log_weights.exp().T, n, replacement=True).T  # [n, rows]
        each = torch.arange(rows, device=chosen.device)
        return {name: value[chosen, each] for name, value in values.items()}

    return draw
