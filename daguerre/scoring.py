"""Densities: planned on the graph alone, then evaluated in a straight line.

A plan says which variables follow from the given ones, through maps or inverted bijections, and
which contribute a term. What has no density is refused when the plan is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform

from daguerre.families import surprisal
from daguerre.graph import Graph, GraphError, InadmissibleError
from daguerre.loops import recur
from daguerre.program import Outcome, Program, Step, Trace, Values, misfit, realise
from daguerre.repeats import Sizes
from daguerre.rows import as_copies, tile
from daguerre.structure.recurrence import Block, blocks, upstream

__all__ = [
    "DensityPlan",
    "complete",
    "density_plan",
    "fill",
    "moves_from",
    "negative_log_density",
    "obstacle",
    "sum_event",
]


@dataclass(frozen=True)
class DensityPlan:
    """How the joint density of some variables is computed from their values.

    Attributes:
        names: The variables whose density it is.
        moves: Variables to fill in, in order: `(name, source)` with the bijection that is
            inverted to find it, or `(name, None)` for one that follows from its parents.
        terms: Variables that contribute: log-probabilities of stochastic ones, log-Jacobians of
            inverted bijections.
        loops: The maps that feed each other through time, by the first of them that is filled in.
    """

    names: tuple[str, ...]
    moves: tuple[tuple[str, str | None], ...]
    terms: tuple[str, ...]
    loops: Mapping[str, Block] = field(default_factory=dict)


def density_plan(graph: Graph, names: Iterable[str], implied: Iterable[str] = ()) -> DensityPlan:
    """Plan the joint density of `names`, with everything else implied by them.

    A declared bijection is inverted and scored by change of variables; variables that are not
    ancestors of `names` integrate to one and are left out.

    Args:
        graph: The graph.
        names: The variables whose density it is.
        implied: Deterministic variables that are filled in as well, though they add nothing.

    Raises:
        InadmissibleError: The density does not exist or needs an integral; says which and why.
    """
    names = tuple(graph[n].name for n in names)
    implied = (*names, *implied)
    relevant = {*implied, *upstream(graph, implied)}
    known = {*names, *(n for n in relevant if n in graph.inputs)}
    moves: list[tuple[str, str | None]] = []
    loops: dict[str, Block] = {}
    while move := next(moves_from(graph, relevant, known), None):
        moves.append(move)
        block = _block_of(graph, move[0], known) if move[1] is None else None
        if block is not None and block.direction:
            loops[move[0]] = block
        known.add(move[0])
    inverted = {source for _, source in moves if source}
    for name in names:  # what can never have a density comes before what is only missing
        if graph[name].map == "deterministic" and name not in inverted:
            raise InadmissibleError(obstacle(graph, name))
    for name in graph.order:
        if name in relevant and graph[name].map == "stochastic" and name not in known:
            raise InadmissibleError(
                f"the density of {', '.join(names)} needs an integral over {name}, which is"
                f" latent; use dg.elbo(p, q) with a q for {name}, or ask for the joint with {name}"
            )
    scored = [n for n in graph.order if n in relevant and graph[n].map == "stochastic"]
    terms = (*scored, *sorted(inverted, key=graph.order.index))
    return DensityPlan(names, tuple(moves), terms, loops)


def moves_from(
    graph: Graph, relevant: set[str], known: set[str]
) -> Iterator[tuple[str, str | None]]:
    """Yield what can be filled in next from what is known: a map, or a bijection inverted."""
    for name in graph.order:
        v = graph[name]
        if name not in relevant or v.map != "deterministic":
            continue
        unknown = {p for p in (*v.parents, *(lag.variable for lag in v.lags)) if p not in known}
        if name not in known and (not unknown or unknown <= _maps_with(graph, name, known)):
            yield name, None
        if name in known and v.inverts and unknown == {v.inverts}:
            yield v.inverts, name


def _maps_with(graph: Graph, name: str, known: set[str]) -> set[str]:
    """Return the maps that a map is run with, slice by slice; nothing if some are drawn."""
    block = _block_of(graph, name, known)
    if block is None or any(graph[n].map != "deterministic" for n in block.names):
        return set()
    return {*block.names}


def _block_of(graph: Graph, name: str, known: set[str]) -> Block | None:
    """Return what a variable is run with, where there are lags."""
    if not graph.adjacency.lagged:
        return None
    return next(b for b in blocks(graph, frozenset(known)) if name in b.names)


def obstacle(graph: Graph, name: str) -> str | None:
    """Say why a variable has no density given its parents, and the ways out; None if it has."""
    if graph.kind(name) == "prescribed":
        if graph[name].map == "deterministic":  # a bijection beside its argument
            return f"{name} is a function of {graph[name].inverts}: the two have no joint density"
        return None
    if graph.kind(name) == "input":
        return f"{name} is an input: it has no distribution of its own"
    of = ", ".join(graph.parents(name)) or "constants"
    return (
        f"{name} is {graph.kind(name)}: a deterministic function of {of} without a density."
        f" Use dg.gan(p, critic), which needs samples only, or return a distribution such as"
        f" Normal(net({of}), scale) from its CPD, declared with @dg.rv, to give it one"
    )


def complete(
    program: Program,
    plan: DensityPlan,
    values: Values,
    outcomes: Mapping[str, Outcome],
    n: int | None = None,
    sizes: Sizes | None = None,
) -> Trace:
    """Fill in what the plan implies and call every CPD that contributes to the density.

    Outcomes that are passed in (from the draw that made the values) are not computed again.
    The batch size `n` may be left out where there are values; `sizes` belongs to programs in
    which something repeats.
    """
    trace = Trace(dict(values), dict(outcomes), sizes)
    for name, source in plan.moves:
        if name not in trace.values:
            if name in plan.loops and sizes is not None:
                loop = plan.loops[name]
                steps = [program.by_name[one] for one in loop.names]
                found = recur(steps, loop.direction, trace.values, sizes, _mapped)
                trace.values.update(found.values)
            else:
                trace.values[name] = fill(program, name, source, trace, n)
    for name in plan.terms:
        if name not in trace.outcomes:
            trace.outcomes[name] = program.by_name[name].outcome(trace.values, sizes=sizes)
    return trace


def fill(program: Program, name: str, source: str | None, trace: Trace, n: int | None) -> Tensor:
    """Return the value of a variable that a plan implies, and note the outcome of its CPD."""
    step, sizes = program.by_name[source or name], trace.sizes
    outcome = trace.outcomes[step.name] = step.outcome(trace.values, sizes=sizes)
    if source is not None and isinstance(outcome, Transform):
        return outcome.inv(trace.values[source])  # type: ignore[return-value]
    n = next(iter(trace.values.values())).shape[0] if n is None else n
    n = n if sizes is None else step.rows(trace.values, n, sizes)
    return realise(step, outcome, trace.values, n, pathwise=True)


def _mapped(step: Step, outcome: Outcome, values: Values, rows: int, _: Sizes) -> Tensor:
    return realise(step, outcome, values, rows, pathwise=True)


def negative_log_density(step: Step, trace: Trace) -> Tensor:
    """Return the contribution of one variable to -log p, in nats, shape `[n]`."""
    term = _surprisal(step, trace)
    if step.name in trace.held:
        term = torch.where(tile(trace.held[step.name], len(term)), term, 0.0)
    return term if trace.sizes is None else trace.sizes.fold(term, step.plates)


def _surprisal(step: Step, trace: Trace) -> Tensor:
    """Return -log p of each row of one variable."""
    value, outcome = trace.values[step.name], trace.outcomes[step.name]
    if isinstance(outcome, Transform):
        argument = trace.values[step.variable.inverts or ""]
        return sum_event(outcome.log_abs_det_jacobian(argument, value))
    if not isinstance(outcome, Distribution):
        raise TypeError(f"{step}: {misfit(step, outcome)}")
    expected = outcome.batch_shape + outcome.event_shape
    if value.shape[1:] != (expected if step.is_root else expected[1:]):
        raise GraphError(_wrong_shape(step, value, expected))
    if step.is_root or value.shape[0] == expected[0]:
        return sum_event(surprisal(outcome, value))
    if value.shape[0] < expected[0]:
        return sum_event(surprisal(outcome, tile(value, expected[0])))
    copies = as_copies(value, expected[0])
    return sum_event(surprisal(outcome, copies).flatten(0, 1))


def _wrong_shape(step: Step, value: Tensor, expected: torch.Size) -> str:
    event = list(expected) if step.is_root else list(expected[1:])
    return (
        f"{step}: the CPD gives {step.name} the event shape {event}, but the value has"
        f" {list(value.shape[1:])} (whole shapes {list(expected)} and {list(value.shape)});"
        " nothing is broadcast: change the CPD or the value"
    )


def sum_event(x: Tensor) -> Tensor:
    """Sum every dimension but the first: `[n, ...]` to `[n]`."""
    return x if x.dim() < 2 else x.sum(1) if x.dim() == 2 else x.flatten(1).sum(1)
