"""Straight-line execution of a graph: draw forwards, complete, score.

A Program is a list of steps in topological order; each step calls one CPD on the values of its
parents. There are no handlers, no tracing and no reads of tensor contents, so a whole program
compiles into one graph. The first dimension of every value is the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform

from daguerre.families import surprisal
from daguerre.graph import Graph, GraphError, InadmissibleError, Variable

__all__ = [
    "DensityPlan",
    "Outcome",
    "Program",
    "Step",
    "Trace",
    "check_batch",
    "complete",
    "density_plan",
    "draw",
    "is_learned",
    "negative_log_density",
    "obstacle",
    "realise",
    "sum_event",
    "validation",
]

Outcome = Distribution | Tensor | Transform
Values = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Step:
    """One variable and the callable that is its CPD.

    Attributes:
        variable: The variable.
        cpd: Its CPD, a function of the values of `arguments`; None for what is always given.
        place: Where the CPD was declared.
        name: The variable's name.
        arguments: The parents that the CPD is called with: all but one that a bijection maps.
        is_root: Whether the CPD returns one event, which is expanded to the batch.
    """

    variable: Variable
    cpd: Callable[..., Outcome] | None
    place: str = ""
    name: str = field(init=False)
    arguments: tuple[str, ...] = field(init=False)
    is_root: bool = field(init=False)

    def __post_init__(self) -> None:
        v = self.variable
        arguments = tuple(p for p in v.parents if p != v.inverts)
        object.__setattr__(self, "name", v.name)
        object.__setattr__(self, "arguments", arguments)
        object.__setattr__(self, "is_root", not arguments)

    def outcome(self, values: Values) -> Outcome:
        """Call the CPD on the values of its parents."""
        if self.cpd is None:
            raise GraphError(f"{self.name} is an input: it must be given")
        return self.cpd(*[values[name] for name in self.arguments])

    def __str__(self) -> str:
        edge = f" ({', '.join(self.variable.parents)} -> {self.name})"
        place = f", CPD at {self.place}" if self.place else ""
        return f"{self.name}{edge if self.variable.parents else ''}{place}"


@dataclass(frozen=True)
class Program:
    """The steps of a graph in topological order."""

    graph: Graph
    steps: tuple[Step, ...]
    by_name: dict[str, Step]

    @classmethod
    def of(cls, graph: Graph, steps: Iterable[Step]) -> Program:
        """Sort the steps topologically and refuse what cannot be run."""
        for variable in graph.variables:
            if variable.lags or variable.plates:
                what = "a lagged parent" if variable.lags else "a plate"
                raise InadmissibleError(
                    f"{variable.name} has {what}: the graph holds it, but chains and plates beyond"
                    " the batch cannot be run yet; unroll the chain into variables of its own"
                )
        by_name = {step.name: step for step in steps}
        return cls(graph, tuple(by_name[name] for name in graph.order), by_name)


class Trace(NamedTuple):
    """What a program computed: the values, and the outcome of each CPD that was called."""

    values: dict[str, Tensor]
    outcomes: dict[str, Outcome]


def draw(program: Program, n: int, given: Values, *, pathwise: bool) -> Trace:
    """Draw every variable that is not given, parents first.

    Args:
        program: The steps to run.
        n: The batch size.
        given: Values `[n, *event]` that replace the variables of the same name.
        pathwise: Whether gradients flow through the draws (`rsample`).
    """
    trace = Trace(dict(given), {})
    for step in program.steps:
        if step.name not in trace.values:
            outcome = trace.outcomes[step.name] = step.outcome(trace.values)
            value = realise(step, outcome, trace.values, n, pathwise=pathwise)
            trace.values[step.name] = check_batch(step, value, n)
    return trace


def check_batch(step: Step, value: Tensor, n: int) -> Tensor:
    """Return the value of a variable if its first dimension is the batch.

    Raises:
        GraphError: The CPD has lost the batch dimension.
    """
    if value.dim() == 0 or value.shape[0] != n:
        raise GraphError(
            f"{step}: the CPD returned the shape {list(value.shape)}; its first dimension must be"
            f" the batch, [{n}, ...], because {step.name} has parents"
        )
    return value


def realise(step: Step, outcome: Outcome, values: Values, n: int, *, pathwise: bool) -> Tensor:
    """Turn the outcome of a CPD into a value `[n, *event]`: draw, map, or expand a root.

    Raises:
        TypeError: The CPD returned something else than its declaration promises.
    """
    match step.variable.map, outcome:
        case "stochastic", Distribution() as cpd:
            if step.is_root:
                cpd = cpd.expand(torch.Size((n, *cpd.batch_shape)))
            if cpd.has_rsample:  # the same numbers from the same seed, with or without gradient
                return cpd.rsample() if pathwise else cpd.rsample().detach()
            if pathwise and is_learned(cpd):
                raise InadmissibleError(_no_pathwise(step, cpd))
            return cpd.sample()
        case "deterministic", Transform() as transform if step.variable.inverts:
            return transform(values[step.variable.inverts])  # type: ignore[return-value]
        case "deterministic", Tensor() as tensor if not step.variable.inverts:
            return tensor.expand(n, *tensor.shape) if step.is_root else tensor
    raise TypeError(f"{step}: {_misfit(step, outcome)}")


def is_learned(distribution: Distribution) -> bool:
    """Whether a gradient could flow into the parameters of a distribution."""
    parts = vars(distribution).values()
    nested = any(is_learned(part) for part in parts if isinstance(part, Distribution))
    return nested or any(part.requires_grad for part in parts if isinstance(part, Tensor))


def _no_pathwise(step: Step, cpd: Distribution) -> str:
    return (
        f"{step}: draws of {step.name} ~ {type(cpd).__name__} carry no pathwise gradient, so"
        " whatever lies above would silently get none; return a distribution with rsample (such"
        f" as RelaxedOneHotCategorical), or make {step.name} a Tensor with @dg.deterministic"
    )


def _misfit(step: Step, outcome: object) -> str:
    came = f"a {type(outcome).__name__}"
    if isinstance(outcome, Tensor):
        came = f"a Tensor of shape {list(outcome.shape)}"
    if step.variable.map == "stochastic":
        mend = "return a torch Distribution, or declare it with @dg.deterministic"
        return (
            f"declared with dg.rv, so its CPD returns a Distribution; it returned {came}; {mend}"
        )
    if step.variable.inverts:
        return f"declared with dg.bijection, so its CPD returns a Transform; it returned {came}"
    mend = "return a Tensor, or declare it with @dg.rv (a Distribution) or @dg.bijection"
    return (
        f"declared with dg.deterministic, so its CPD returns a Tensor; it returned {came}; {mend}"
    )


# Densities


@dataclass(frozen=True)
class DensityPlan:
    """How the joint density of some variables is computed from their values.

    Attributes:
        names: The variables whose density it is.
        moves: Variables to fill in, in order: `(name, source)` with the bijection that is
            inverted to find it, or `(name, None)` for one that follows from its parents.
        terms: Variables that contribute: log-probabilities of stochastic ones, log-Jacobians of
            inverted bijections.
    """

    names: tuple[str, ...]
    moves: tuple[tuple[str, str | None], ...]
    terms: tuple[str, ...]


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
    relevant = {*implied, *graph.ancestors(implied)}
    known = {*names, *(n for n in relevant if n in graph.inputs)}
    moves: list[tuple[str, str | None]] = []
    while move := next(_moves(graph, relevant, known), None):
        moves.append(move)
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
    return DensityPlan(names, tuple(moves), (*scored, *sorted(inverted, key=graph.order.index)))


def _moves(graph: Graph, relevant: set[str], known: set[str]) -> Iterator[tuple[str, str | None]]:
    """Yield what can be filled in next from what is known."""
    for name in graph.order:
        v = graph[name]
        if name not in relevant or v.map != "deterministic":
            continue
        unknown = [p for p in v.parents if p not in known]
        if name not in known and not unknown:
            yield name, None
        if name in known and v.inverts and unknown == [v.inverts]:
            yield v.inverts, name


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
) -> Trace:
    """Fill in what the plan implies and call every CPD that contributes to the density.

    Outcomes that are passed in (from the draw that made the values) are not computed again.
    The batch size `n` may be left out where there are values.
    """
    trace = Trace(dict(values), dict(outcomes))
    for name, source in plan.moves:
        if name not in trace.values:
            trace.values[name] = _fill(program, name, source, trace, n)
    for name in plan.terms:
        if name not in trace.outcomes:
            trace.outcomes[name] = program.by_name[name].outcome(trace.values)
    return trace


def _fill(program: Program, name: str, source: str | None, trace: Trace, n: int | None) -> Tensor:
    step = program.by_name[source or name]
    outcome = trace.outcomes[step.name] = step.outcome(trace.values)
    if source is not None and isinstance(outcome, Transform):
        return outcome.inv(trace.values[source])  # type: ignore[return-value]
    n = next(iter(trace.values.values())).shape[0] if n is None else n
    return realise(step, outcome, trace.values, n, pathwise=True)


def negative_log_density(step: Step, trace: Trace) -> Tensor:
    """Return the contribution of one variable to -log p, in nats, shape `[n]`."""
    value, outcome = trace.values[step.name], trace.outcomes[step.name]
    if isinstance(outcome, Transform):
        argument = trace.values[step.variable.inverts or ""]
        return sum_event(outcome.log_abs_det_jacobian(argument, value))
    if not isinstance(outcome, Distribution):
        raise TypeError(f"{step}: {_misfit(step, outcome)}")
    expected = outcome.batch_shape + outcome.event_shape
    if (value.shape[1:] if step.is_root else value.shape) != expected:
        raise GraphError(_wrong_shape(step, value, expected))
    return sum_event(surprisal(outcome, value))


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


class validation:  # noqa: N801 - a context manager, called as a function
    """Set the argument checks of `torch.distributions` for a while and give them back.

    Torch's checks read tensors back at every construction; ours are static. The switch is one
    for the process, and the first `torch.compile` turns it off for good: hence the restoring.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled

    def __enter__(self) -> None:
        self.before = Distribution._validate_args
        if self.before != self.enabled:  # code being compiled can read the switch, not set it
            Distribution._validate_args = self.enabled

    def __exit__(self, *error: object) -> None:
        if Distribution._validate_args != self.before:
            Distribution._validate_args = self.before
