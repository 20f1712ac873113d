"""Which approximate method takes a question, and the answer by it."""

from __future__ import annotations

from torch import Tensor

from daguerre.graph import InadmissibleError
from daguerre.infer.answer import Answer
from daguerre.infer.approximate.answers import (
    answer_by_kernel,
    answer_by_weights,
    estimate_log_evidence,
)
from daguerre.infer.approximate.methods import (
    ABC,
    NUTS,
    SMC,
    How,
    Importance,
    LikelihoodWeighting,
)
from daguerre.infer.approximate.nuts import answer_by_nuts
from daguerre.infer.approximate.weighting import Weighting, plan_weighting
from daguerre.infer.plan import Part
from daguerre.infer.question import Question

__all__ = ["approximate", "approximate_log_evidence", "approximate_part", "choose_method"]

Static = Importance | LikelihoodWeighting | ABC | NUTS
"""The methods for models without lags."""


def choose_method(question: Question, how: How) -> Static:
    """Choose by what is there: q, else whether an implicit variable is known, else weighting.

    Raises:
        GraphError: q does not fit the model.
        InadmissibleError: Nothing can be drawn, or the method is for chains.
    """
    if (method := how.get("method")) is not None:
        if isinstance(method, SMC):
            raise InadmissibleError(
                "SMC moves particles along a chain, and no variable has a parent of an earlier"
                " step (dg.lag); use method=dg.infer.LikelihoodWeighting()"
            )
        return method
    if how.get("q") is not None:
        return Importance()
    return ABC() if _implicit(question, plan_weighting(question)) else LikelihoodWeighting()


def _implicit(question: Question, plan: Weighting) -> list[str]:
    """Return the known variables that draws cannot hit: random maps with values of floats."""
    values = question.evidence.values
    return [n for n in plan.simulated if n not in values or values[n].is_floating_point()]


def approximate(question: Question, how: How) -> Answer:
    """Answer a question approximately, by the method that is asked for or fits.

    Raises:
        GraphError: No draw has a weight; q does not fit.
        InadmissibleError: The method cannot take the model.
    """
    match choose_method(question, how):
        case ABC() as method:
            return answer_by_kernel(question, method)
        case NUTS() as method:
            return answer_by_nuts(question, method)
        case method:
            return answer_by_weights(question, method, how.get("q"))


def approximate_log_evidence(question: Question, how: How) -> Tensor:
    """Estimate the log-evidence, `[rows]`, by a method that can.

    Raises:
        InadmissibleError: The method gives draws of the posterior alone.
    """
    method = choose_method(question, how)
    if not isinstance(method, Importance | LikelihoodWeighting):
        raise InadmissibleError(
            f"{type(method).__name__} draws from the posterior, but does not estimate the"
            " evidence; use q=... or method=dg.infer.LikelihoodWeighting()"
        )
    return estimate_log_evidence(question, method, how.get("q"))


def approximate_part(question: Question, how: How, why: str) -> Part:
    """Say which method would answer, what it would draw, and why it is the one."""
    method = choose_method(question, how)
    plan = plan_weighting(question, how.get("q"))
    match method:
        case ABC():
            seen = ", ".join(_implicit(question, plan)) or "nothing implicit"
            return Part(
                "kernel conditioning",
                plan.latents,
                f"{method.draws:,} draws, the {method.keep:.1%} nearest to {seen} kept: {why}",
            )
        case NUTS():
            what = f"{method.chains} chains of {method.draws:,} draws: {why}"
            return Part("NUTS", plan.latents, what)
        case Importance():
            return Part(
                "importance sampling with q", plan.latents, f"{method.draws:,} draws: {why}"
            )
        case _:
            return Part("likelihood weighting", plan.latents, f"{method.draws:,} draws: {why}")
