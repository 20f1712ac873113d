"""The questions themselves: read the evidence, choose an engine, answer, and say which it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.answer import Answer, Most, PerTarget, check_names, check_possible
from daguerre.infer.approximate.chains import answer_chain, chain_log_evidence, chain_plan
from daguerre.infer.approximate.engine import (
    approximate,
    approximate_log_evidence,
    approximate_part,
    choose_method,
)
from daguerre.infer.approximate.methods import How, check_how
from daguerre.infer.chain.answer import ChainQuestion
from daguerre.infer.evidence import Given
from daguerre.infer.exact import Result
from daguerre.infer.groups import Groups
from daguerre.infer.joined import join_draws, join_results, join_rows, order_of
from daguerre.infer.plan import Plan
from daguerre.infer.plates import rows_of
from daguerre.infer.product import Factors
from daguerre.infer.question import (
    OpaqueError,
    Question,
    evaluating,
    inputs_of,
    pieces,
    planned,
    plans,
)
from daguerre.infer.routine import recall, remember
from daguerre.joint import Factor, Joint, as_joint
from daguerre.program import validation
from daguerre.queries import declared_sizes, sample
from daguerre.structure.names import Names

__all__ = ["explain", "log_evidence", "most_probable", "posterior", "sample_posterior"]


def posterior(
    p: Factor | Joint | Factors,
    targets: Names,
    *,
    given: Given | None = None,
    soft: Mapping[str, Tensor] | None = None,
    **how: Unpack[How],
) -> Answer:
    r"""Return $p(\text{targets} \mid \text{given})$ for each row of evidence.

    With plates a row is a data set: values are `[rows, *plates, *event]`, and so are answers, of
    the batch shape `[rows, *plates]`. With lags it is a sequence: values are `[B, T, *event]`, and
    the posterior of each step is given what all steps say (smoothing), batch shape `[B, T]`; of
    chains in plates, `[B, *plates, T, *event]` and `[B, *plates, T]`. A finite variable that holds
    for all time is summed over as any other: a chain for each of its states. The
    model is asked in evaluation mode: dropout is off, and batch norm takes its running statistics.

    Args:
        p: The model, a joint or a product of tables; that of `dg.do` is the posterior after the
            intervention.
        targets: A variable, or several.
        given: Evidence per variable: values `[rows, *event]`, or one number or name of a state
            for all rows, or a list of names. Rows that hold NaN, None or, of a finite variable, a
            negative integer lack the value. For a model with lags, values `[rows, T, *event]`.
        soft: Soft evidence per finite variable: likelihoods of its states, `[rows, states]`.
        how: `max_memory`: bytes above which the question is refused, 4 GiB if None; `exact=True`:
            refuse rather than approximate; `q`: an inference model to draw from; `method`: an
            approximate method of `daguerre.infer`. What is left out is chosen: an exact answer
            where there is one, else importance sampling if there is a q, kernel conditioning if
            an implicit variable is given, likelihood weighting otherwise.

    Returns:
        The posterior marginals, joint draws and densities, and the log-evidence; `method` and
        `exact` say how they were found, `diagnostics` how far to trust an approximation.

    Raises:
        GraphError: Unknown names, wrong shapes, evidence of probability zero.
        InadmissibleError: No engine can answer; says why.

    References:
        Koller and Friedman (2009), *Probabilistic Graphical Models*, chapters 9, 10 and 14;
        Darwiche (2003), *A differential approach to inference in Bayesian networks*.

    Example:
        >>> from daguerre.compose import model
        >>> from daguerre.cpds import Tabular
        >>> p = model(rain=Tabular([0.8, 0.2]), wet=Tabular([[0.9, 0.1], [0.2, 0.8]], "rain"))
        >>> posterior(p, "rain", given={"wet": 1}).probs.detach()
        tensor([[0.3333, 0.6667]])
    """
    check_how(how)
    if soft is None and how.keys() <= {"exact"} and (again := _again(p, targets, given or {})):
        return again
    limit = how.get("max_memory")
    with evaluating(p):
        if (chain := ChainQuestion.of(p, targets, given, soft, limit)) is not None:
            return answer_chain(chain, how)
        question = Question.of(p, targets, given, soft, limit)
        if not question.targets:
            raise GraphError("targets is empty: name at least one variable")
        return replace(_answer(p, question, how), is_single=isinstance(targets, str))


def _again(p: Factor | Joint | Factors, targets: Names, given: Given) -> Answer | None:
    """Answer by what an earlier question of the same form left."""
    names = (targets,) if isinstance(targets, str) else targets
    if not isinstance(names, Sequence) or not isinstance(given, Mapping):
        return None
    if (found := recall(p, names, given)) is None:
        return None
    asked = partial(Question.of, p, names, dict(given))
    return Answer(
        tuple(names),
        found.marginals,
        found.log_evidence,
        _method(found.engines),
        exact=True,
        draw=lambda n: _draw(asked(), None, None, n),
        density=lambda values: _density(asked(), found.log_evidence)(values),
        is_single=isinstance(targets, str),
    )


def _answer(p: object, question: Question, how: How) -> Answer:
    if _is_named(how):
        return approximate(question, how)
    try:
        return _exact_answer(p, question)
    except OpaqueError as error:
        if how.get("exact"):
            raise InadmissibleError(_no_exact(question, error)) from None
    return approximate(question, how)


def _is_named(how: How) -> bool:
    """Whether an approximate method is asked for."""
    return how.get("q") is not None or how.get("method") is not None


def _no_exact(question: Question, error: OpaqueError) -> str:
    method = type(choose_method(question, {})).__name__
    return (
        f"{error}; give it a finite or linear Gaussian CPD. Without exact=True the"
        f" question is answered by dg.infer.{method}()"
    )


def _exact_answer(p: object, question: Question) -> Answer:
    if (taken := rows_of(question)) is not None:
        return taken.members.answer(_exact_answer(None, taken.question), question.targets)
    found: list[Result] = []
    parts: list[Tensor] = []
    engines: dict[str, None] = {}
    is_whole, groups = True, question.groups
    few, place = question.by_members(groups).distinct()
    for rows, plan in plans(few):
        is_whole = is_whole and plan.network.is_whole
        found.append(plan.run())
        parts.append(rows)
        engines |= dict.fromkeys(plan.engines)
        if groups is None:
            remember(p, question, plan)
    result = join_results(found, order_of(parts, place))
    check_possible(result.log_evidence, partial(_said, question))
    return Answer(
        question.targets,
        result.marginals if groups is None else groups.marginals(result.marginals),
        result.log_evidence if is_whole else None,
        _method(engines),
        exact=True,
        draw=partial(_draw, question, groups, None if place is not None else result),
        density=_density(question, result.log_evidence),
    )


def _draw(
    question: Question, groups: Groups | None, result: Result | None, n: int
) -> dict[str, Tensor]:
    """Draw n joint values of the targets, each row on its own.

    Args:
        question: The question.
        groups: How its plates are written out, if it has any.
        result: What answers all its rows; None where rows that say the same were answered once.
        n: How many.
    """
    if result is not None:
        drawn = result.draw(n)
    else:
        parts = [(rows, exact.draw(n)) for rows, exact in plans(question.by_members(groups))]
        drawn = join_draws([one for _, one in parts], order_of([rows for rows, _ in parts]))
    return drawn if groups is None else groups.values(drawn, 1)


def _method(engines: Iterable[str]) -> str:
    return " and ".join(engines) or "nothing to sum: everything is known"


def _said(question: Question, row: int) -> str:
    said = [f"{name} = {question.said(name, row)}" for name in question.evidence.values]
    return ", ".join(said) or "nothing given, or soft evidence alone"


def _density(question: Question, log_total: Tensor) -> Callable[[Mapping[str, Tensor]], Tensor]:
    def density(values: Mapping[str, Tensor]) -> Tensor:
        check_names(values, question.targets)
        known = {**question.evidence.values, **values}
        both = Question.of(
            question.subject, (), known, dict(question.evidence.soft), question.max_memory
        )
        with evaluating(question.subject):
            return _log_evidence(both) - log_total

    return density


def log_evidence(
    p: Factor | Joint | Factors,
    given: Given,
    *,
    soft: Mapping[str, Tensor] | None = None,
    **how: Unpack[How],
) -> Tensor:
    """Return the log-probability (or -density) of the evidence in nats, `[rows]`.

    Impossible evidence gives -inf. Gradients reach the parameters of the model, which is a cost
    to train by: so it is asked in the mode it is in (`p.eval()` turns dropout off). The value is
    exact, or refused; by a named approximate method it is the logarithm of an unbiased estimate,
    without gradients.

    Args:
        p: The model.
        given: Evidence, as for `posterior`.
        soft: Soft evidence, as for `posterior`.
        how: `max_memory`, `q` and `method`, as for `posterior`.

    Raises:
        InadmissibleError: There is no exact value, and no method is named.

    Example:
        >>> from daguerre.compose import model
        >>> from torch.distributions import Categorical, Normal
        >>> p = model(k=Categorical(torch.ones(2)), x=lambda k: Normal(4.0 * k, 1.0))
        >>> log_evidence(p, {"x": torch.tensor([0.0, 2.0])})
        tensor([-1.6118, -2.9189])
    """
    check_how(how)
    limit = how.get("max_memory")
    if (chain := ChainQuestion.of(p, (), given, soft, limit)) is not None:
        return chain_log_evidence(chain, how)
    question = Question.of(p, (), given, soft, limit)
    if _is_named(how):
        return approximate_log_evidence(question, how)
    try:
        return _log_evidence(question)
    except OpaqueError as error:
        raise InadmissibleError(
            f"{error}; name a method to estimate it: q=..., or"
            " method=dg.infer.LikelihoodWeighting()"
        ) from None


def _log_evidence(question: Question) -> Tensor:
    if (taken := rows_of(question)) is not None:
        return taken.members.total(_log_evidence(taken.question))
    few, place = question.by_members(question.groups).distinct()
    parts = [(rows, plan.run().log_evidence) for rows, plan in plans(few)]
    return join_rows([part for _, part in parts], order_of([rows for rows, _ in parts], place))


def most_probable(
    p: Factor | Joint | Factors,
    targets: Names = (),
    *,
    given: Given | None = None,
    soft: Mapping[str, Tensor] | None = None,
    max_memory: float | None = None,
) -> Most:
    r"""Return the most probable values of finite variables given the evidence.

    Without targets it is the most probable explanation, $\arg\max_u p(u, e)$ over all variables u
    that are not given; with targets t, the marginal maximum a posteriori
    $\arg\max_t \sum_u p(t, u, e)$.

    Args:
        p: The model.
        targets: The variables to maximise over; all that are not given, if empty.
        given: Evidence, as for `posterior`.
        soft: Soft evidence, as for `posterior`.
        max_memory: Bytes above which the question is refused.

    Raises:
        InadmissibleError: A variable that is maximised is not finite.
        GraphError: Evidence of probability zero.

    Example:
        >>> from daguerre.compose import model
        >>> from daguerre.cpds import Tabular
        >>> p = model(rain=Tabular([0.8, 0.2]), wet=Tabular([[0.9, 0.1], [0.2, 0.8]], "rain"))
        >>> most_probable(p, given={"wet": 1}).values
        {'rain': tensor([1])}
    """
    with evaluating(p):
        if (chain := ChainQuestion.of(p, targets, given, soft, max_memory)) is not None:
            return chain.most_probable()
        return _most_probable(Question.of(p, targets, given, soft, max_memory))


def _most_probable(question: Question) -> Most:
    names = question.targets or tuple(
        n for n in question.names if n not in question.evidence.values
    )
    question = replace(question, targets=names)
    if (taken := rows_of(question)) is not None:
        return taken.members.most(_most_probable(taken.question))
    groups = question.groups
    laid = question.by_members(groups)
    found: list[tuple[dict[str, Tensor], Tensor]] = []
    parts: list[Tensor] = []
    few, place = laid.distinct()
    for rows, plan in plans(few, frozenset(laid.targets)):
        for name in laid.targets:
            if name in plan.network.linear:
                raise InadmissibleError(
                    f"{name} is continuous; most_probable is over finite variables: name them as"
                    " targets, and the others are integrated out"
                )
        found.append(plan.maximise())
        parts.append(rows)
    order = order_of(parts, place)
    top = join_rows([log for _, log in found], order)
    check_possible(top, partial(_said, question))
    values = {n: join_rows([v[n] for v, _ in found], order) for n in laid.targets}
    return Most(values if groups is None else groups.values(values), top)


def sample_posterior(
    p: Factor | Joint | Factors,
    targets: Names,
    n: int,
    *,
    given: Given | None = None,
    **how: Unpack[How],
) -> PerTarget:
    """Draw n times from the joint posterior of the targets, `[n, rows, *event]` each.

    Example:
        >>> from daguerre.compose import model
        >>> from daguerre.cpds import Tabular
        >>> p = model(rain=Tabular([0.8, 0.2]), wet=Tabular([[1.0, 0.0], [0.2, 0.8]], "rain"))
        >>> sample_posterior(p, "rain", 3, given={"wet": 1})
        tensor([[1],
                [1],
                [1]])
    """
    return posterior(p, targets, given=given, **how).sample(n)


def explain(
    p: Factor | Joint | Factors,
    targets: Names,
    *,
    given: Given | Names = (),
    **how: Unpack[How],
) -> Plan:
    """Say how a question would be answered, without answering it.

    CPDs are called on values drawn from the model, so that their families are known; a plate
    whose size is not declared is planned with two members.

    Args:
        p: The model.
        targets: The variables asked for; none for the evidence alone.
        given: The names of the variables that would be known, or evidence, as for `posterior`.
        how: `max_memory`, `exact`, `q` and `method`, as for `posterior`.

    Raises:
        InadmissibleError: The predicted memory is above `max_memory`, or `exact=True` and there
            is no exact answer.

    Example:
        >>> from daguerre.compose import model
        >>> from daguerre.cpds import Tabular
        >>> p = model(rain=Tabular([0.8, 0.2]), wet=Tabular([[0.9, 0.1], [0.2, 0.8]], "rain"))
        >>> explain(p, "wet").is_exact
        True
    """
    check_how(how)
    limit = how.get("max_memory")
    known = (given,) if isinstance(given, str) else tuple(given)
    with evaluating(p):
        if (chain := ChainQuestion.of(p, targets, given, None, limit)) is not None:
            return chain_plan(chain, how)
        has_data = isinstance(given, Mapping)
        values = given if isinstance(given, Mapping) else _drawn(p, known)
        question = Question.of(p, targets, values, None, limit)
        return _explain(question, known, how, has_data=has_data)


def _explain(question: Question, known: tuple[str, ...], how: How, *, has_data: bool) -> Plan:
    needed = question.requisite()
    pruned = tuple(n for n in question.names if n not in needed)
    if _is_named(how):
        part = approximate_part(question, how, "as asked")
        return Plan(question.targets, known, pruned, (part,))
    if (taken := rows_of(question, has_data=has_data)) is not None:
        plan = _explain(taken.question, known, how, has_data=has_data)
        if plan.is_exact:
            return replace(taken.members.plan(plan, question.targets), given=known)
    groups = question.groups
    laid = question.by_members(groups)
    network = next(pieces(laid)).network
    if network.opaque and not how.get("exact"):
        name, why = next(iter(network.opaque.items()))
        part = approximate_part(question, how, f"{name} is {why}")
        return Plan(question.targets, known, pruned, (part,))
    plan = planned(laid, network, frozenset())
    first = () if groups is None else (groups.part(needed, has_data=has_data),)
    parts, work, memory = (*first, *plan.parts()), plan.sum.work, sum(plan.memory)
    return Plan(question.targets, known, pruned, parts, is_exact=True, work=work, memory=memory)


def _drawn(p: Factor | Joint | Factors, names: Sequence[str]) -> dict[str, Tensor]:
    """Return one drawn value for each name; zeros for inputs and for products of tables."""
    if isinstance(p, Factors):
        return {name: torch.zeros(1, dtype=torch.long) for name in names}
    joint = as_joint(p)
    for name in names:
        joint.graph[name]
    plates = joint.program.plates
    of = dict.fromkeys((plate for own in plates.values() for plate in own), 2)
    of |= declared_sizes(joint.graph)
    given = {
        name: torch.zeros(
            1, *(of[p] for p in plates.get(name, ())), *(shape.shape or ()), dtype=shape.dtype
        )
        for name, shape in inputs_of(joint).items()
    }
    with torch.random.fork_rng(devices=[]), validation(enabled=False):  # an input may be a scale
        drawn = sample(joint.program, 1, given, pathwise=False, sizes=of)
    return {**{name: drawn[name] for name in names}, **given}
