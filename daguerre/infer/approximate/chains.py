"""Questions to chains: exact where the chain is finite or linear Gaussian, by particles else."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from daguerre.graph import InadmissibleError
from daguerre.infer.answer import Answer
from daguerre.infer.approximate.methods import SMC, How
from daguerre.infer.approximate.smc import filter_chain
from daguerre.infer.chain.answer import ChainQuestion
from daguerre.infer.plan import Part, Plan
from daguerre.infer.question import OpaqueError

__all__ = ["answer_chain", "chain_log_evidence", "chain_plan"]


def answer_chain(chain: ChainQuestion, how: How) -> Answer:
    """Answer a question to a chain.

    Args:
        chain: The question.
        how: `exact` and `method`, as for `posterior`.

    Returns:
        An answer of which the marginals have the batch shape `[B, T]`.

    Raises:
        GraphError: Evidence of probability zero.
        InadmissibleError: A method that takes no chains, or no exact answer with `exact=True`.
    """
    method = _particles(how)
    if method is None:
        try:
            return chain.posterior()
        except OpaqueError as error:
            if how.get("exact"):
                raise InadmissibleError(_instead(error)) from None
    found = filter_chain(chain.joint, chain.over_time, chain.values, method or SMC())
    return replace(chain.whole(found), is_single=chain.is_single)


def chain_log_evidence(chain: ChainQuestion, how: How) -> Tensor:
    """Return the log-evidence of each sequence, `[B]`: exact, or by particles if they are named.

    Raises:
        InadmissibleError: A method that takes no chains, or no exact value and no method.
    """
    method = _particles(how)
    if method is None:
        return chain.log_evidence()
    found = filter_chain(chain.joint, (), chain.values, method).log_evidence
    assert found is not None
    return chain.total(found)


def chain_plan(chain: ChainQuestion, how: How) -> Plan:
    """Say how a question to a chain would be answered.

    Raises:
        InadmissibleError: A method that takes no chains, or no exact answer with `exact=True`.
    """
    method, why = _particles(how), "as asked"
    if method is None:
        try:
            return chain.explain()
        except OpaqueError as error:
            if how.get("exact"):
                raise InadmissibleError(_instead(error)) from None
            method, why = SMC(), str(error)
    part = Part(f"{method.particles} particles, filtered", chain.over_time, why)
    return chain.whole_plan(Plan(chain.targets, tuple(chain.values), (), (part,)))


def _instead(error: OpaqueError) -> str:
    return f"{error}. Without exact=True the question is answered by dg.infer.SMC()"


def _particles(how: How) -> SMC | None:
    """Return the method, which is one for chains."""
    method = how.get("method")
    if how.get("q") is not None or not isinstance(method, SMC | None):
        raise InadmissibleError(
            f"{'q' if method is None else method} is for models without lags; leave it out, or"
            " use method=dg.infer.SMC()"
        )
    return method
