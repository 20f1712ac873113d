"""Straight-line execution of a graph: call each CPD once, parents first.

A Program is a list of steps in topological order; each step calls one CPD on the values of its
parents. There are no handlers, no tracing and no reads of tensor contents, so a whole program
compiles into one graph. The first dimension of every value is the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform

from daguerre.families import pathwise_draw
from daguerre.graph import Graph, GraphError, InadmissibleError, Variable
from daguerre.lags import LENGTHS, Past, heeds_lengths
from daguerre.precision import called
from daguerre.repeats import Repeat, Sizes, repeats_of
from daguerre.rows import align, tile
from daguerre.structure.recurrence import TIME

__all__ = [
    "Outcome",
    "Program",
    "Realise",
    "Step",
    "Trace",
    "Values",
    "check_batch",
    "is_learned",
    "misfit",
    "realise",
    "sample",
    "validation",
]

Outcome = Distribution | Tensor | Transform
Values = Mapping[str, Tensor]
Realise = Callable[["Step", Outcome, Values, int, Sizes], Tensor]


@dataclass(frozen=True, slots=True)
class Step:
    """One variable and the callable that is its CPD.

    Attributes:
        variable: The variable.
        cpd: Its CPD, a function of the values of `arguments`, then of its parents in other time
            slices; None for what is always given.
        place: Where the CPD was declared.
        past: What its lagged parents are, in the order of the CPD.
        repeat: How it repeats in plates and time; None in a program without.
        whole: What its CPD gives for all time slices at once, of what it takes in all of them;
            None where it is not declared.
        name: The variable's name.
        arguments: The parents that the CPD is called with: all but one that a bijection maps.
        is_root: Whether the CPD returns one event, which is expanded to the batch.
        heeds_lengths: Whether `whole` takes the lengths of sequences, too.
    """

    variable: Variable
    cpd: Callable[..., Outcome] | None
    place: str = ""
    past: tuple[Past, ...] = ()
    repeat: Repeat | None = None
    whole: Callable[..., Tensor] | None = None
    name: str = field(init=False)
    arguments: tuple[str, ...] = field(init=False)
    is_root: bool = field(init=False)
    heeds_lengths: bool = field(init=False)

    def __post_init__(self) -> None:
        v = self.variable
        arguments = tuple(p for p in v.parents if p != v.inverts)
        object.__setattr__(self, "name", v.name)
        object.__setattr__(self, "arguments", arguments)
        object.__setattr__(self, "is_root", not arguments and not v.lags)
        heeds = self.whole is not None and heeds_lengths(self.whole)
        object.__setattr__(self, "heeds_lengths", heeds)

    def outcome(self, values: Values, rows: int = 0, sizes: Sizes | None = None) -> Outcome:
        """Call the CPD on the values of its parents, each repeated to the rows of the longest.

        Args:
            values: The parents' values; a bijection also looks at what it maps.
            rows: Repeat the values to so many rows at least.
            sizes: How much what repeats does so; None in a program where nothing does.
        """
        if self.cpd is None:
            raise GraphError(f"{self.name} is an input: it must be given")
        if self.repeat is not None and sizes is not None:
            return self._repeated(self.repeat, values, rows, sizes)
        if self.plates:
            raise InadmissibleError(
                f"{self}: {self.name} repeats in {', '.join(self.plates)}; draws, densities and"
                " variational bounds take plates and time, other questions do not yet"
            )
        return self.called([values[name] for name in self.arguments], values, rows)

    def _repeated(self, repeat: Repeat, values: Values, rows: int, sizes: Sizes) -> Outcome:
        """Call the CPD once for all plates and time slices."""
        taken = repeat.take(self.arguments, self.past, values, sizes)
        if not taken.laws:
            return self.called(taken.found, values, rows)
        is_short = len(taken.laws) == sizes.of[TIME]
        rest = None if is_short else self.called(taken.found, values)
        whole = None
        if not isinstance(rest, Tensor | Transform):
            whole = repeat.completed(rest, taken, sizes)
        if whole is None:
            first, later = type(taken.laws[0]).__name__, type(rest).__name__
            raise InadmissibleError(
                f"the law of {self.name} before there is a past is a {first}, but its CPD gives"
                f" a {later}: give init the same family, or a value for the lagged parent"
            )
        return whole

    def called(self, found: Sequence[Tensor], values: Values, rows: int = 0) -> Outcome:
        """Call the CPD on values of its parents, those of other time slices last."""
        assert self.cpd is not None
        if self.variable.inverts:
            mapped = [n for n in (self.variable.inverts, self.name) if n in values]
            rows = max([rows, *[values[n].shape[0] for n in mapped]])
        found = align(found)
        return called(self.cpd, *([tile(value, rows) for value in found] if rows else found))

    def at_once(self, found: Sequence[Tensor], lengths: Tensor | None) -> Tensor:
        """Call what says all time slices at once on what it takes in all of them.

        Args:
            found: Values `[rows, T, *event]`, and `[rows, *event]` of before the first slice.
            lengths: How many steps each row has, where not all have T.
        """
        assert self.whole is not None, "only a recursion that declares it is asked"
        return self.whole(*found, **({LENGTHS: lengths} if self.heeds_lengths else {}))

    @property
    def plates(self) -> tuple[str, ...]:
        """The plates that it is in, time last."""
        return self.repeat.plates if self.repeat is not None else ()

    def rows(self, values: Values, n: int, sizes: Sizes | None = None) -> int:
        """Return how many rows a map has: those of its longest parent, n without parents."""
        if self.repeat is not None and sizes is not None:
            taken = self.repeat.taken
            own, met = sizes.rows(self.plates), [p for p in self.variable.parents if p in values]
            return own * max([1, *(len(values[p]) // max(sizes.rows(taken[p]), 1) for p in met)])
        found = [values[name].shape[0] for name in self.variable.parents]
        return max(found) if found else n

    def __str__(self) -> str:
        past = (f"{p.variable}[t{-p.steps:+d}]" for p in self.past)
        parents = ", ".join([*self.variable.parents, *past])
        edge = f" ({parents} -> {self.name})" if parents else ""
        place = f", CPD at {self.place}" if self.cpd is not None and self.place else ""
        return f"{self.name}{edge}{place}"


@dataclass(frozen=True)
class Program:
    """The steps of a graph in topological order."""

    graph: Graph
    steps: tuple[Step, ...]
    by_name: dict[str, Step]

    @classmethod
    def of(
        cls, graph: Graph, steps: Iterable[Step], temporal: frozenset[str] = frozenset()
    ) -> Program:
        """Sort the steps topologically, each with how it repeats in plates and time.

        Args:
            graph: The graph.
            steps: A step for each variable.
            temporal: Variables that have time slices in another graph, which this one meets.
        """
        found = {step.name: step for step in steps}
        for name, repeat in repeats_of(graph, temporal).items():
            found[name] = replace(found[name], repeat=repeat)
        return cls(graph, tuple(found[name] for name in graph.order), found)

    @property
    def plates(self) -> dict[str, tuple[str, ...]]:
        """The plates of each variable, time last; nothing where nothing repeats."""
        found = {step.name: step.plates for step in self.steps}
        return found if any(found.values()) else {}


class Trace(NamedTuple):
    """What a program computed.

    Attributes:
        values: Rows of each variable.
        outcomes: What each CPD gave that was called.
        sizes: How many there are of what repeats; None where nothing does.
        held: Of what the data lacks here and there, which rows hold it; others score 0.
    """

    values: dict[str, Tensor]
    outcomes: dict[str, Outcome]
    sizes: Sizes | None = None
    held: Mapping[str, Tensor] = MappingProxyType({})


def check_batch(step: Step, shape: torch.Size, n: int) -> None:
    """Check that the first dimension of what a CPD returned is the batch.

    Raises:
        GraphError: The CPD has lost the batch dimension.
    """
    if not shape or shape[0] != n:
        raise GraphError(
            f"{step}: the CPD returned the shape {list(shape)}; its first dimension must be"
            f" the batch, [{n}, ...], because {step.name} has parents"
        )


def realise(step: Step, outcome: Outcome, values: Values, n: int, *, pathwise: bool) -> Tensor:
    """Turn the outcome of a CPD into a value `[n, *event]`: draw, map, or expand a root.

    Raises:
        TypeError: The CPD returned something else than its declaration promises.
    """
    match step.variable.map, outcome:
        case "stochastic", Distribution() as cpd:
            if step.is_root:
                cpd = cpd.expand(torch.Size((n, *cpd.batch_shape)))
            return sample(step, cpd, pathwise=pathwise)
        case "deterministic", Transform() as transform if step.variable.inverts:
            return transform(values[step.variable.inverts])  # type: ignore[return-value]
        case "deterministic", Tensor() as tensor if not step.variable.inverts:
            return tensor.expand(n, *tensor.shape) if step.is_root else tensor
    raise TypeError(f"{step}: {misfit(step, outcome)}")


def sample(step: Step, cpd: Distribution, *, pathwise: bool) -> Tensor:
    """Draw from a distribution that a CPD gave.

    Raises:
        InadmissibleError: A gradient is wanted, and the draw would not carry it.
    """
    if cpd.has_rsample:  # the same numbers from the same seed, with or without gradient
        return pathwise_draw(cpd) if pathwise else pathwise_draw(cpd).detach()
    if pathwise and is_learned(cpd):
        raise InadmissibleError(_no_pathwise(step, cpd))
    return cpd.sample()


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


def misfit(step: Step, outcome: object) -> str:
    """Say what a CPD should have returned, and what it did return."""
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
