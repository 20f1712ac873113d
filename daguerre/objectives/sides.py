"""What the two sides of a divergence share: variables, shapes, parameters, and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from torch import nn

from daguerre.declare import Input
from daguerre.draw.labels import index, label
from daguerre.graph import GraphError, InadmissibleError, Plate
from daguerre.infer.question import inputs_of
from daguerre.joint import Empirical, Joint
from daguerre.model import Model
from daguerre.program import Program, Step
from daguerre.scoring import DensityPlan, density_plan
from daguerre.shapes import Shape, trace_shapes
from daguerre.structure.recurrence import TIME, temporal, upstream

__all__ = [
    "PairShapes",
    "SampledSides",
    "all_of",
    "argument",
    "conditional",
    "expectation",
    "in_step",
    "indexed",
    "integrates_out",
    "letters",
    "modules_of",
    "needed",
    "pair_shapes",
    "repeated",
    "repeating",
    "sampled_sides",
    "shapes_alone",
    "shared_names",
]


def in_step(a: Joint, b: Joint) -> tuple[Joint, Joint]:
    """Give both sides the time slices that one of them has, and the data the plates of a model.

    An inference model without lags is one of each slice, where the model is a chain.
    """
    a, b = _placed(a, b), _placed(b, a)
    times = temporal(a.graph) | temporal(b.graph)
    while (more := times | temporal(a.graph, times) | temporal(b.graph, times)) != times:
        times = more
    return (replace(a, temporal=times), replace(b, temporal=times)) if times else (a, b)


def _placed(side: Joint, other: Joint) -> Joint:
    """Put what comes from data into the plates that models have it in."""
    graphs = [f.graph for one in (other, side) for f in one.factors]
    plates: dict[str, tuple[Plate, ...]] = {}
    for graph in graphs:
        known = {plate.name: plate for plate in graph.plates}
        for v in graph.variables:
            if v.plates and v.name in side.data:
                plates[v.name] = tuple(known[name] for name in v.plates)
    if not plates:
        return side
    factors = (
        replace(f, plates=tuple((n, p) for n, p in plates.items() if n in f.names))
        if isinstance(f, Empirical)
        else f
        for f in side.factors
    )
    return replace(side, factors=tuple(factors))


def shared_names(a: Joint, b: Joint, what: str) -> tuple[str, ...]:
    """Return the variables that both sides are over, in the order of b.

    Raises:
        GraphError: The sides are over different variables; says which.
    """
    inputs = {*a.graph.inputs, *b.graph.inputs}
    names = tuple(n for n in b.names if n in a.names and n not in inputs)
    only_a = [n for n in a.names if n not in b.names]
    only_b = [n for n in b.names if n not in a.names and n not in inputs]
    if not names:
        raise GraphError(
            f"the two sides of {what} share no variable: {', '.join(only_a)} against"
            f" {', '.join(only_b)}"
        )
    return names


def integrates_out(side: Joint, names: Iterable[str], what: str) -> DensityPlan:
    """Plan the density of `names` on one side; its other variables must follow from them.

    Raises:
        GraphError: A random variable of this side that the other side lacks.
        InadmissibleError: The density does not exist or needs an integral.
    """
    names = tuple(names)
    plan = density_plan(side.graph, names)
    implied = {*names, *(name for name, _ in plan.moves), *side.graph.inputs}
    for name in side.names:
        if side.graph[name].map == "stochastic" and name not in implied:
            raise GraphError(
                f"the two sides of {what} are over different variables: {name} is on one side"
                f" only; restrict it with [{', '.join(map(repr, names))}], or give the other side"
                f" {name}"
            )
    return plan


class SampledSides(NamedTuple):
    """Two sides that are compared by their samples.

    Attributes:
        names: The variables that are compared, then the inputs of the second side.
        learns: The sides that have parameters, through whose draws gradients flow.
        shapes: What is known of the variables without data.
    """

    names: tuple[str, ...]
    learns: tuple[Joint, ...]
    shapes: PairShapes


def sampled_sides(a: Joint, b: Joint, what: str) -> SampledSides:
    """Check two sides that are compared by their samples alone.

    Raises:
        GraphError: The sides are over different variables or shapes.
        InadmissibleError: The data comes second, or a draw that needs a gradient has none.
    """
    conditioned = (n for n in b.graph.inputs if n in a.data)
    names = (*shared_names(a, b, what), *conditioned)
    for side, other in ((a, b), (b, a)):
        if extra := [n for n in side.names if n not in (*names, *other.graph.inputs)]:
            raise GraphError(
                f"the two sides of {what} are over different variables: {', '.join(extra)} is on"
                f" one side only; restrict it with [{', '.join(map(repr, names))}]"
            )
    if b.data and not a.data and not _has_parameters(b):
        raise InadmissibleError(f"{what} takes the data as its first side: {what}(data, p, ...)")
    learns = tuple(side for side in (a, b) if _has_parameters(side))
    return SampledSides(names, learns, pair_shapes(a, b, pathwise=learns, run=needed))


def repeating(a: Joint, b: Joint) -> dict[str, tuple[str, ...]]:
    """Return the plates of each variable of two sides, time last."""
    return {**b.program.plates, **a.program.plates}


def _has_parameters(side: Joint) -> bool:
    return any(p.requires_grad for m in side.modules for p in m.parameters())


def needed(side: Joint) -> Program:
    """Return the steps that the kept variables follow from, and no others.

    A decoder is not run, nor asked for a gradient, where only the latents are compared.
    """
    program, graph = side.program, side.graph
    relevant = {*side.names, *upstream(graph, side.names)}
    steps = tuple(step for step in program.steps if step.name in relevant)
    return Program(graph, steps, program.by_name)


def _whole(side: Joint) -> Program:
    return side.program


class PairShapes(NamedTuple):
    """The shapes of the variables on each side of a divergence, as far as known."""

    a: dict[str, Shape]
    b: dict[str, Shape]


def shapes_alone(joint: Joint) -> dict[str, Shape]:
    """Find the shapes of the events of one side, as far as they are known without data.

    A chain is taken as one slice, in which parents of earlier slices are given. A number that
    stands in for a parent before the first step may stand for any event, so that what follows
    from it alone stays unknown.

    Args:
        joint: The side.

    Returns:
        The shapes of variables and inputs; the batch of a chain is that of rows and steps.

    Raises:
        GraphError: A CPD that fails on these shapes.

    Example:
        >>> import torch, daguerre as dg
        >>> from torch.distributions import Normal
        >>> walk = dg.model(
        ...     z=lambda z_prev=dg.lag("z", init=Normal(torch.zeros(2), 1.0)): Normal(z_prev, 1.0),
        ...     x=lambda z: Normal(z.sum(1), 1.0),
        ... )
        >>> {name: shape.event for name, shape in shapes_alone(dg.data("u") * walk).items()}
        {'z': (2,), 'x': ()}
    """
    declared = {n: Shape(i.shape, i.dtype) for n, i in inputs_of(joint).items() if i.shape}
    return trace_shapes(joint.program, declared)


def pair_shapes(
    a: Joint,
    b: Joint,
    *,
    pathwise: tuple[Joint, ...],
    run: Callable[[Joint], Program] = _whole,
) -> PairShapes:
    """Find the shapes of both sides with fake tensors and check that they agree.

    Args:
        a: The side whose data has no shape of its own: it takes the shapes of b.
        b: The side of the model.
        pathwise: The sides whose draws must carry gradients.
        run: What is run of a side: all of it, or what is `needed`.

    Raises:
        GraphError: A CPD that fails on the shapes of the other side, or a variable that has
            different event shapes on the two sides.
        InadmissibleError: A draw that must carry a gradient cannot.
    """
    declared = {n: Shape(i.shape, i.dtype) for n, i in _inputs(a, b).items() if i.shape}
    inputs = {n: s for n, s in declared.items() if n in b.graph.inputs}
    of_b = trace_shapes(run(b), inputs, pathwise=b in pathwise)
    for name in declared.keys() & of_b.keys():
        _check_same(b.program.by_name[name], declared[name], of_b[name], "declared with dg.Input")
    known = declared | of_b
    of_a = trace_shapes(
        run(a), {n: known[n] for n in a.given if n in known}, pathwise=a in pathwise
    )
    met = {n: of_a[n] for n in b.graph.inputs if n in of_a and n not in of_b}
    if met:  # b is conditioned on what a draws
        of_b = trace_shapes(b.program, inputs | met, pathwise=b in pathwise)
    for name in of_a.keys() & of_b.keys():
        _check_same(
            b.program.by_name[name], of_a[name], of_b[name], "drawn by the inference model"
        )
    _check_not_empty(a, of_a)
    _check_not_empty(b, of_b)
    return PairShapes(of_a, of_b)


def _check_not_empty(side: Joint, shapes: Mapping[str, Shape]) -> None:
    for name in side.names:
        if name in shapes and 0 in shapes[name].event:
            raise GraphError(
                f"{side.program.by_name[name]}: the event shape of {name} is"
                f" {list(shapes[name].event)}, which holds no number, so there is nothing to"
                " compare; give it a size, or leave the variable out"
            )


def _inputs(*sides: Joint) -> dict[str, Input]:
    models = [m for m in modules_of(*sides) if isinstance(m, Model)]
    return {name: one for model in models for name, one in model.inputs().items()}


def _check_same(step: Step, one: Shape, other: Shape, how: str) -> None:
    if one.event != other.event:
        raise GraphError(
            f"{step}: the model gives {step.name} the event shape {list(other.event)}, but as"
            f" {how} it has {list(one.event)}; nothing is broadcast: make the two equal"
        )


def modules_of(*sides: Joint) -> tuple[nn.Module, ...]:
    """Return the models among the factors of some joints, each once."""
    return tuple(dict.fromkeys(module for side in sides for module in side.modules))


# LaTeX. The model's distributions are p with parameters theta, those of the other side q, phi.


def conditional(side: Joint, name: str, shapes: Mapping[str, Shape], symbol: str) -> str:
    r"""Write one factor: `q_\phi(z \mid x)`, or `p(z)` where there are no parameters."""
    parents = [indexed(side, p) for p in side.graph.parents(name)]
    parents += [indexed(side, lag.variable, ago=lag.steps) for lag in side.graph[name].lags]
    learned = {"p": r"_\theta", "q": r"_\phi"}[symbol]
    shape = shapes.get(name)
    fixed = not parents and (shape is None or not shape.learned)
    bar = rf" \mid {', '.join(parents)}" if parents else ""
    return f"{symbol}{'' if fixed else learned}({indexed(side, name)}{bar})"


def indexed(side: Joint, name: str, *, ago: int = 0) -> str:
    """Write a variable with the indices of its plates, perhaps so many time slices ago."""
    plates = side.program.plates.get(name, ())
    indices = [index(Plate(plate)) for plate in plates if plate != TIME]
    return label(name, [*indices, *[f"t{-ago:+d}" if ago else "t"] * (TIME in plates)])


def repeated(side: Joint, name: str, sign: str) -> str:
    r"""Write the sign of a sum or product over the plates of a variable, `\sum_{t=1}^{T} `."""
    sizes = {plate.name: plate.size for plate in side.graph.plates}

    def over(plate: str) -> str:
        last = "T" if plate == TIME else sizes.get(plate) or label(plate.upper())
        return f"{sign}_{{{index(Plate(plate))}=1}}^{{{last}}} "

    return "".join(map(over, side.program.plates.get(name, ())))


def expectation(side: Joint, shapes: Mapping[str, Shape], symbol: str) -> str:
    r"""Write what is averaged over, such as `p_{\mathrm{data}}(x)\, q_\phi(z \mid x)`."""
    data = [all_of(side, n) for n in side.data]
    factors = [rf"p_{{\mathrm{{data}}}}({', '.join(data)})"] if data else []
    factors += [
        repeated(side, step.name, r"\prod") + conditional(side, step.name, shapes, symbol)
        for step in needed(side).steps
        if step.variable.map == "stochastic" and step.name not in side.data
    ]
    return r"\, ".join(factors)


def all_of(side: Joint, name: str) -> str:
    """Write all values of a variable at once, `x_{1:T}`."""
    plates = side.program.plates.get(name, ())
    return label(name, ["1:T" if plate == TIME else r"\cdot" for plate in plates])


def argument(side: Joint, name: str, mark: str = "", symbol: str = "p") -> str:
    """Write a variable, a deterministic one as the output `G(z)`, of draws with some mark."""
    if side.graph[name].map != "deterministic":
        return f"{label(name)}{mark}"
    parents = (f"{label(parent)}{mark}" for parent in side.graph.parents(name))
    of = {"p": r"G_\theta", "q": r"f_\phi"}[symbol]
    return rf"{of}({', '.join(parents)})"


def letters(a: Joint, b: Joint) -> tuple[str, str]:
    """Return the letters of two sides: q for what follows from data, p for the model."""
    return "p" if b.data and not a.data else "q", "q" if b.data else "p"
