"""Questions that a program answers by running forwards: draws and joint densities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.families import support
from daguerre.graph import Graph, GraphError, InadmissibleError, did_you_mean
from daguerre.locate import located
from daguerre.program import Program, Step, Trace, Values, validation
from daguerre.repeats import Sizes
from daguerre.running import draw
from daguerre.scoring import complete, density_plan, negative_log_density, obstacle
from daguerre.structure.recurrence import TIME, upstream

__all__ = [
    "batch_size",
    "check_agreement",
    "declared_sizes",
    "entered",
    "left",
    "log_prob",
    "read_sizes",
    "sample",
]


def batch_size(values: Values, n: int | None = None) -> int:
    """Return the common first dimension of all values, which must be `n` where that is given.

    Raises:
        GraphError: Nothing tells the size, a value without a batch dimension, two sizes, no size.
    """
    if n is not None and (not isinstance(n, int | torch.SymInt) or n < 0):
        raise GraphError(f"n is the number of draws, 0 or more, not {n!r}")
    sizes = {} if n is None else {"n": n}
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.dim() == 0:
            came = "a tensor without dimensions" if isinstance(value, Tensor) else repr(value)
            raise GraphError(f"{name} must be a Tensor [n, *event], not {came}")
        sizes[name] = value.shape[0]
    if not sizes:
        raise GraphError("say how many draws: n is missing and nothing is given")
    first, *others = sizes.values()
    if any(size != first for size in others):
        raise GraphError(f"the first dimension is the batch, but the sizes differ: {sizes}")
    return first


def read_sizes(
    plates: Mapping[str, Sequence[str]],
    values: Values,
    n: int,
    sizes: Mapping[str, int] | None = None,
) -> Sizes | None:
    """Find how many there are of what repeats, from values `[n, *plates, *event]`.

    Args:
        plates: The plates of each variable, time last.
        values: What is given.
        n: The batch size.
        sizes: What is known of the sizes of plates.

    Returns:
        None where nothing repeats.

    Raises:
        GraphError: Two sizes for a plate, or none; an unknown plate; too few dimensions; no steps.
    """
    known = dict.fromkeys(plate for those in plates.values() for plate in those)
    _check_plates(sizes or {}, known)
    if not known:
        return None
    found = {plate: dict[int, str]() for plate in known}
    for plate, size in (sizes or {}).items():
        found[plate][size] = "asked for"
    for name, value in values.items():
        own = plates.get(name, ())
        if value.dim() <= len(own):
            raise GraphError(
                f"{name} is [n, {', '.join(own)}, *event], so it has {len(own) + 1}"
                f" dimensions or more, not the shape {list(value.shape)}; one example is"
                f" {name}[None]"
            )
        for plate, size in zip(own, value.shape[1:], strict=False):
            found[plate].setdefault(size, f"that of {name}")
    return Sizes(n, {plate: _one_size(plate, those) for plate, those in found.items()})


def _check_plates(sizes: Mapping[str, int], known: Iterable[str]) -> None:
    for name, size in sizes.items():
        if name not in known:
            raise GraphError(f"no plate {name!r} to have a size{did_you_mean(name, known)}")
        if not isinstance(size, int | torch.SymInt) or size < 1:
            raise GraphError(f"the size of the plate {name} is 1 or more, not {size!r}")


def _one_size(plate: str, found: Mapping[int, str]) -> int:
    what = "the number of steps t" if plate == TIME else f"the size of the plate {plate}"
    if not found:
        declare = "" if plate == TIME else f"declare it, dg.Plate({plate!r}, 10), or "
        raise GraphError(
            f"{what} is not known: no data tells it; {declare}give it, as in"
            f" p.sample(8, {plate}=10)"
        )
    if len(found) > 1:
        said = ", ".join(f"{size} ({whose})" for size, whose in found.items())
        raise GraphError(f"{what} differs: {said}")
    ((size, whose),) = found.items()
    if plate == TIME and size == 0:
        raise GraphError(f"{what} is 0 ({whose}): a sequence has a step or more")
    return size


def entered(
    values: Values, plates: Mapping[str, Sequence[str]], sizes: Sizes | None
) -> dict[str, Tensor]:
    """Arrange values `[n, *plates, *event]` as rows."""
    if sizes is None:
        return dict(values)
    return {name: sizes.enter(value, plates.get(name, ())) for name, value in values.items()}


def left(
    rows: Values, plates: Mapping[str, Sequence[str]], sizes: Sizes | None
) -> dict[str, Tensor]:
    """Arrange rows as values `[n, *plates, *event]`."""
    if sizes is None:
        return dict(rows)
    return {name: sizes.leave(value, plates[name]) for name, value in rows.items()}


def sample(
    program: Program,
    n: int | None,
    given: Values,
    *,
    pathwise: bool,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Draw what is not given; see `Joint.sample`.

    Raises:
        GraphError: An unknown name, a batch of another size.
        InadmissibleError: A given variable whose random ancestors are not given.
    """
    n, graph = batch_size(given, n), program.graph
    for name in given:
        above = upstream(graph, [name]) - {name}
        ancestors = {a for a in above if graph[a].map == "stochastic"}
        if missing := sorted(ancestors - {*given}):
            raise InadmissibleError(_unconditioned(graph, name, missing))
    plates = program.plates
    found = read_sizes(plates, given, n, {**declared_sizes(graph), **(sizes or {})})
    with located(), torch.set_grad_enabled(pathwise and torch.is_grad_enabled()):
        known = entered(given, plates, found)
        drawn = draw(program, n, known, pathwise=pathwise, sizes=found)
        return left(drawn.values, plates, found)


def declared_sizes(graph: Graph) -> dict[str, int]:
    """Return the sizes of the plates that are declared with one."""
    return {plate.name: plate.size for plate in graph.plates if plate.size is not None}


def _unconditioned(graph: Graph, name: str, missing: list[str]) -> str:
    message = (
        f"{name} is given but its ancestors {', '.join(missing)} are not, so a forward draw would"
        f" ignore {name}; give them too, or intervene with dg.do(model, {name}=...)"
    )
    if graph.kind(name) == "implicit":
        message += (
            f". What it means to condition on {name}, a deterministic function, depends on the"
            " limit that is taken: the same event can be written as two functions with different"
            f" answers (Borel's paradox). Observe it with noise, Normal({name}, scale), to say"
            " which is meant"
        )
    return message


def log_prob(program: Program, names: tuple[str, ...], values: Values) -> Tensor:
    """Return the joint log-density of the prescribed among `names`; see `Joint.log_prob`.

    Raises:
        InadmissibleError: A variable is implicit, or latent and must be integrated out.
        GraphError: An unknown or missing name, a wrong shape, a value that disagrees.
    """
    n, graph = batch_size(values), program.graph
    for name in values:
        graph[name]
    scored = [x for x in names if not _is_implied(graph, names, x, values)]
    if missing := [x for x in (*scored, *graph.inputs) if x not in values]:
        raise GraphError(
            f"log_prob is the joint density of {', '.join(scored)}: {', '.join(missing)}"
            f" is missing (given: {', '.join(values) or 'nothing'}); a marginal is"
            " model[names].log_prob(values)"
        )
    constants = [x for x in names if x in values and graph.kind(x) == "deterministic"]
    plan = density_plan(graph, scored, constants)
    sizes = read_sizes(program.plates, values, n, declared_sizes(graph))
    values = entered(values, program.plates, sizes)
    known = {k: v for k, v in values.items() if k in scored or k in graph.inputs}
    with located(), validation(enabled=False):  # NaN in, NaN out; supports are checked below
        trace = complete(program, plan, known, {}, n, sizes)
        terms = [negative_log_density(program.by_name[name], trace) for name in plan.terms]
    if not torch.compiler.is_compiling():  # nothing else reads the contents of a tensor
        for name in values.keys() & trace.values.keys() - known.keys():
            check_agreement(name, values[name], trace.values[name])
        for name in plan.terms:
            _check_support(program.by_name[name], trace)
    return -torch.stack([t.expand(n) for t in terms]).sum(0) if terms else torch.zeros(n)


def _is_implied(graph: Graph, names: tuple[str, ...], name: str, values: Values) -> bool:
    """Whether a variable follows from others that are scored, and so is not scored itself.

    Raises:
        InadmissibleError: The variable is implicit and nothing that has a density depends on it.
    """
    if _is_recovered(graph, names, name, values):
        return True
    match graph.kind(name):
        case "prescribed":
            return graph[name].map == "deterministic" and name not in values
        case "implicit":
            below = graph.descendants([name]) & {*names}
            if not any(graph.kind(d) == "prescribed" for d in below):
                raise InadmissibleError(obstacle(graph, name))
    return True


def _is_recovered(graph: Graph, names: tuple[str, ...], name: str, values: Values) -> bool:
    """Whether a chain of declared bijections leads back to a variable from one that is scored."""
    return any(
        (child in values and child in names) or _is_recovered(graph, names, child, values)
        for child in graph.children(name)
        if graph[child].inverts == name
    )


def check_agreement(name: str, given: Tensor, implied: Tensor) -> None:
    """Refuse a given value of a deterministic variable that its parents do not imply.

    Raises:
        GraphError: Another shape, or another value, with the largest difference.
    """
    if given.shape != implied.shape:
        raise GraphError(
            f"{name} has shape {list(given.shape)}, but its parents imply {list(implied.shape)}"
        )
    if not torch.allclose(given, implied, rtol=1e-4, atol=1e-5, equal_nan=True):
        gap = (given - implied).abs().max().item()
        raise GraphError(
            f"{name} is a function of other variables, but the given value differs from what they"
            f" imply by up to {gap:.3g}; leave it out, or give values that belong together"
        )


def _check_support(step: Step, trace: Trace) -> None:
    """Refuse values that a family would score wrongly; rows with NaN are let through."""
    value, outcome = trace.values[step.name], trace.outcomes[step.name]
    allowed = support(outcome) if isinstance(outcome, Distribution) else None
    if allowed is None or not len(value):  # torch cannot check events of an empty batch
        return
    bad = ~_rows(allowed.check(value)).all(1) & ~_rows(value.isnan()).any(1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise GraphError(
            f"{step}: the support of its {type(outcome).__name__} is {allowed}, but row {row} of"
            f" {step.name} lies outside: {value[row].tolist()}; rescale the values, or return"
            " another family"
        )


def _rows(x: Tensor) -> Tensor:
    return x.unsqueeze(-1).flatten(1)
