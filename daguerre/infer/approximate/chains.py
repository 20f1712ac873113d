"""Questions to chains: exact where the chain is finite or linear Gaussian, by particles else."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.answer import Answer
from daguerre.infer.approximate.methods import SMC, How
from daguerre.infer.approximate.smc import filter_chain
from daguerre.infer.chain.answer import answer, log_evidence
from daguerre.joint import Factor, Joint, as_joint
from daguerre.structure.names import Names

__all__ = ["answer_chain", "chain_log_evidence", "is_chain"]


def is_chain(p: object) -> bool:
    """Whether a model, or a product of some, has a variable with a lagged parent.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> is_chain(dg.model(z=Normal(0.0, 1.0)))
        False
        >>> is_chain(dg.model(z=lambda last=dg.lag("z", init=0.0): Normal(last, 1.0)))
        True
    """
    if not isinstance(p, Factor | Joint) or isinstance(p, type):
        return False
    return any(variable.lags for variable in p.graph.variables)


def answer_chain(
    p: Factor | Joint, targets: Names, given: Mapping[str, object], how: How
) -> Answer:
    """Answer a question to a chain.

    Args:
        p: A model with lags, or a product of some.
        targets: Variables of the chain that are not given.
        given: Values `[B, T, *event]` of evidence and inputs; NaN where missing, so also after
            the end of a sequence.
        how: `exact` and `method`, as for `posterior`.

    Returns:
        An answer of which the marginals have the batch shape `[B, T]`.

    Raises:
        GraphError: Unknown names, values of the wrong shape.
        InadmissibleError: A method that takes no chains, or no exact answer with `exact=True`.
    """
    joint, seen, method = as_joint(p), _values(given), _particles(how)
    names = targets if isinstance(targets, str) else tuple(targets)
    if method is not None:
        return filter_chain(joint, names, seen, method)
    try:
        return answer(joint, names, seen)
    except InadmissibleError:
        if how.get("exact"):
            raise
    return filter_chain(joint, names, seen, SMC())


def chain_log_evidence(p: Factor | Joint, given: Mapping[str, object], how: How) -> Tensor:
    """Return the log-evidence of each sequence, `[B]`: exact, or by particles if they are named.

    Raises:
        InadmissibleError: A method that takes no chains, or no exact value and no method.
    """
    joint, seen, method = as_joint(p), _values(given), _particles(how)
    if method is None:
        return log_evidence(joint, seen)
    found = filter_chain(joint, (), seen, method).log_evidence
    assert found is not None
    return found


def _values(given: Mapping[str, object]) -> dict[str, Tensor]:
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise GraphError(f"{name} belongs to a chain: give a Tensor [B, T, *event]")
    return {name: value for name, value in given.items() if isinstance(value, Tensor)}


def _particles(how: How) -> SMC | None:
    """Return the method, which is one for chains."""
    method = how.get("method")
    if how.get("q") is not None or not isinstance(method, SMC | None):
        raise InadmissibleError(
            f"{'q' if method is None else method} is for models without lags; leave it out, or"
            " use method=dg.infer.SMC()"
        )
    return method
