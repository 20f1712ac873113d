"""What would have been: keep the noise of what was observed, set some variables, run again.

Pearl's three steps (2009, *Causality*, theorem 7.1.7): abduction of the noise from the evidence,
action, prediction. The noise must be known or enumerable; where it is neither, the question is
refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.abduction import carry_over
from daguerre.devices import on_device_of
from daguerre.graph import GraphError, InadmissibleError
from daguerre.joint import as_joint
from daguerre.locate import located
from daguerre.model import Model
from daguerre.program import Outcome, Program, Step, Trace, Values, realise, validation
from daguerre.queries import batch_size, check_agreement
from daguerre.running import draw
from daguerre.scoring import fill, moves_from, negative_log_density

__all__ = ["counterfactual"]

ROWS = 2_000_000  # of an enumeration: beyond that it would fill the memory


def counterfactual(
    model: Model, given: Values, do: Mapping[str, Tensor | float]
) -> dict[str, Tensor]:
    r"""Draw what every variable would have been, had some been set to other values.

    What lies not below `do` stays as it was. A random variable below it keeps its noise: the
    increasing map for continuous families, the Gumbel-max for discrete ones. Latent variables
    above the evidence are recovered through declared bijections or drawn from their exact
    posterior by enumeration.

    Args:
        model: The model; its CPDs are read as mechanisms.
        given: What was observed, `{name: Tensor[n, *event]}`, all inputs included.
        do: Per variable, the event `[*event]`, or one per row `[n, *event]`, it is set to.

    Returns:
        `{name: Tensor[n, *event]}`, one draw per row; repeat rows for more.

    Raises:
        GraphError: An unknown or missing name, a wrong shape, evidence that is impossible.
        InadmissibleError: The noise can be neither read off nor enumerated; says of which
            variable and why.

    References:
        Pearl (2009), *Causality*, chapter 7; Oberst and Sontag (2019, arXiv 1905.05824).

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> p = dg.model(z=Normal(0.0, 1.0), x=lambda z: Normal(2 * z, 1.0))
        >>> seen = {"z": torch.tensor([1.0]), "x": torch.tensor([2.5])}  # so the noise is 0.5
        >>> dg.counterfactual(p, seen, do={"z": 3.0})["x"]
        tensor([6.5000])
    """
    program, n = as_joint(model).program, batch_size(given)
    for name in (*given, *do):
        model.graph[name]
    if not do:
        raise GraphError("do is empty: say which variables would have been set, and to what")
    if missing := [name for name in model.graph.inputs if name not in given]:
        raise GraphError(f"{', '.join(missing)} must be given: it has no CPD of its own")
    with located(), on_device_of([model]), validation(enabled=False), torch.no_grad():
        factual = _abduct(program, given, n)
        return _predict(program, factual, do, n)


def _abduct(program: Program, given: Values, n: int) -> dict[str, Tensor]:
    """Complete what was observed to values of all variables, drawn given the evidence."""
    graph, trace = program.graph, Trace(dict(given), {})
    known = set(given)
    while move := next(moves_from(graph, {*graph.names}, known), None):
        name, source = move
        trace.values[name] = fill(program, name, source, trace, n)
        known.add(name)
    evidence = [name for name in given if graph[name].map != "input"]
    above = graph.ancestors(evidence) - known
    latent = [name for name in graph.order if name in above and graph[name].map == "stochastic"]
    if latent:
        trace.values.update(_drawn_by_enumeration(program, latent, trace.values, n))
    values = draw(program, n, trace.values, pathwise=False).values
    for name in given:
        if graph[name].map == "deterministic":
            step = program.by_name[name]
            implied = realise(step, step.outcome(values), values, n, pathwise=False)
            check_agreement(name, given[name], implied)
    return values


def _predict(
    program: Program, factual: Values, do: Mapping[str, Tensor | float], n: int
) -> dict[str, Tensor]:
    """Run the steps below `do` again, with the noise of the factual values."""
    values = {name: _set(name, value, factual[name]) for name, value in do.items()}
    below = program.graph.descendants(do) - {*do}
    for step in program.steps:
        if step.name in do:
            continue
        if step.name not in below:
            values[step.name] = factual[step.name]
            continue
        outcome = step.outcome(values)
        if isinstance(outcome, Distribution):
            values[step.name] = _carried(step, outcome, factual)
        else:
            values[step.name] = realise(step, outcome, values, n, pathwise=False)
    return {name: values[name] for name in program.graph.names}


def _carried(step: Step, after: Distribution, factual: Values) -> Tensor:
    before = step.outcome(factual)
    assert isinstance(before, Distribution), "a CPD does not change its kind"
    try:
        return carry_over(before, after, factual[step.name])
    except NotImplementedError as error:
        raise InadmissibleError(
            f"{step}: {error}. Write {step.name} as a deterministic function of its parents and"
            " of a noise variable of its own"
        ) from None


def _set(name: str, value: Tensor | float, factual: Tensor) -> Tensor:
    tensor = torch.as_tensor(value, dtype=factual.dtype, device=factual.device)
    if tensor.shape == factual.shape:
        return tensor
    if tensor.shape in ((), factual.shape[1:]):
        return tensor.expand(factual.shape)
    raise GraphError(
        f"do sets {name} to the shape {list(tensor.shape)}; expected its event"
        f" {list(factual.shape[1:])}, or one for each row, {list(factual.shape)}"
    )


def _drawn_by_enumeration(
    program: Program, latent: list[str], known: Values, n: int
) -> dict[str, Tensor]:
    """Draw latent variables from their exact posterior, by scoring all their joint values."""
    families = draw(program, n, known, pathwise=False).outcomes
    supports = {name: _support(program.by_name[name], families[name], n) for name in latent}
    k = prod(len(values) for values in supports.values())
    if n * k > ROWS:
        raise InadmissibleError(
            f"{', '.join(latent)} have {k:,} joint values for each of {n:,} rows, more than"
            f" {ROWS:,} in all; give some of them, or fewer rows"
        )
    places = torch.cartesian_prod(*(torch.arange(len(v)) for v in supports.values()))
    places = places.reshape(k, len(latent))
    table = {name: v[places[:, i]] for i, (name, v) in enumerate(supports.items())}
    tiled = {name: v.repeat(n, *[1] * (v.dim() - 1)) for name, v in table.items()}
    repeated = {name: v.repeat_interleave(k, 0) for name, v in known.items()}
    weights = _log_weights(program, repeated | tiled, latent, known).reshape(n, k)
    impossible = weights.isneginf().all(1) | weights.isnan().any(1)
    if impossible.any():
        row = int(impossible.nonzero()[0])
        raise GraphError(
            f"row {row}: no value of {', '.join(latent)} can bring about what is given"
        )
    chosen = torch.multinomial(weights.softmax(1), 1).squeeze(1)
    return {name: v[chosen] for name, v in table.items()}


def _log_weights(program: Program, values: Values, latent: list[str], known: Values) -> Tensor:
    """Return the joint log-density of latent and known values, -inf where a map contradicts."""
    graph, trace = program.graph, Trace(dict(values), {})
    rows = next(iter(values.values())).shape[0]
    relevant = {*latent, *known, *graph.ancestors([*latent, *known])} - {*graph.inputs}
    total = torch.zeros(rows)
    for step in program.steps:
        if step.name not in relevant:
            continue
        outcome = trace.outcomes[step.name] = step.outcome(trace.values)
        if step.variable.map == "stochastic":
            total = total - negative_log_density(step, trace)
            continue
        implied = realise(step, outcome, trace.values, rows, pathwise=False)
        if step.name in known:
            agrees = torch.isclose(implied, trace.values[step.name], rtol=1e-4, atol=1e-5)
            total = torch.where(agrees.reshape(rows, -1).all(1), total, -torch.inf)
        trace.values[step.name] = implied
    return total


def _support(step: Step, outcome: Outcome, n: int) -> Tensor:
    """Return all values of a discrete variable, `[k, *event]`."""
    if not isinstance(outcome, Distribution) or not outcome.has_enumerate_support:
        raise InadmissibleError(
            f"{step}: {step.name} is latent and above what is given, so its noise has a posterior"
            f" instead of a value, and a {type(outcome).__name__} cannot be enumerated. Give"
            f" {step.name} too (a draw from a q, say), or declare what is given as a bijection of"
            " it (dg.bijection)"
        )
    one = outcome.enumerate_support(expand=False)
    one = one.reshape(len(one), *outcome.event_shape)
    shape = outcome.batch_shape if step.is_root else outcome.batch_shape[1:]
    elements = prod(shape)
    if n * len(one) ** elements > ROWS:
        raise InadmissibleError(
            f"{step}: {step.name} has {len(one)}^{elements} values, too many to enumerate for"
            f" {n:,} rows; give {step.name}"
        )
    places = torch.cartesian_prod(*[torch.arange(len(one))] * elements)
    return one[places.reshape(-1, elements)].reshape(-1, *shape, *outcome.event_shape)
