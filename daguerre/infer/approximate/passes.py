"""One pass through a model under evidence: values of all variables, and what they weigh."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Transform

from daguerre.discrete import state_count, states
from daguerre.families import support
from daguerre.graph import GraphError, InadmissibleError
from daguerre.infer.approximate.acts import Act
from daguerre.program import Outcome, Program, Step, check_batch, misfit, realise, sample
from daguerre.queries import declared_sizes, entered, left, read_sizes
from daguerre.repeats import Sizes
from daguerre.rows import is_missing
from daguerre.scoring import sum_event

__all__ = ["Known", "Latent", "Pass", "draw_latent", "run_pass", "weigh"]

Latent = Callable[[Step, Distribution], tuple[Tensor, Tensor | float]]
"""Gives a latent variable a value `[n, *event]`, and the log-weight of that, `[n]`."""


@dataclass(frozen=True)
class Known:
    """What is known in a pass, each with n rows.

    Attributes:
        rows: n.
        values: Evidence and inputs, `[n, *event]`, NaN or negative where a value is missing.
        missing: The names of those that lack something.
        soft: Likelihoods of states, `[n, states]`.
    """

    rows: int
    values: Mapping[str, Tensor]
    missing: frozenset[str]
    soft: Mapping[str, Tensor]


@dataclass
class Pass:
    """What a pass computed.

    Attributes:
        values: Every variable, `[n, *event]`; what evidence lacked is drawn.
        outcomes: What the CPDs of stochastic variables gave.
        log_weight: The log-density of what was known given the rest, plus what the latent
            variables weigh, `[n]`.
        simulated: What maps gave where something else is known, `[n, *event]`.
        sizes: How many there are of what repeats, the values then being rows of it while the pass
            runs.
    """

    values: dict[str, Tensor]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    log_weight: Tensor | float = 0.0
    simulated: dict[str, Tensor] = field(default_factory=dict)
    sizes: Sizes | None = None

    def add(self, step: Step, weight: Tensor | float) -> None:
        """Add what a variable weighs, row by row, over all its members."""
        if self.sizes is not None and isinstance(weight, Tensor):
            weight = self.sizes.fold(weight, step.plates)
        self.log_weight = self.log_weight + weight


def draw_latent(step: Step, cpd: Distribution) -> tuple[Tensor, float]:
    """Draw a latent variable from its CPD, which weighs nothing: likelihood weighting."""
    return sample(step, cpd, pathwise=False), 0.0


def run_pass(program: Program, acts: Sequence[Act], known: Known, latent: Latent) -> Pass:
    """Do what was planned, with n rows at once.

    Args:
        program: The steps of the model.
        acts: What is done with each variable, in order.
        known: The evidence.
        latent: What gives latent variables their values.

    Raises:
        GraphError: Evidence of a wrong shape or outside a support.
    """
    plates, n = program.plates, known.rows
    sizes = read_sizes(plates, known.values, n, declared_sizes(program.graph))
    known = replace(known, values=entered(known.values, plates, sizes))
    found = Pass({k: v for k, v in known.values.items() if k not in known.missing}, sizes=sizes)
    for act in acts:
        step = program.by_name[act.name]
        if act.kind == "invert":
            _invert(step, found)
            continue
        if step.cpd is None:
            raise GraphError(f"{step.name} comes from data: it must be given, [rows, *event]")
        outcome = found.outcomes[act.name] = step.outcome(found.values, sizes=sizes)
        rows = n if sizes is None else sizes.rows(step.plates)
        if act.kind == "fill":
            found.values[act.name] = _mapped(step, outcome, found, rows)
        elif act.kind == "agree":
            _agree(step, act, _mapped(step, outcome, found, rows), found)
        else:
            cpd = _expanded(step, outcome, rows)
            if act.kind == "weigh":
                _weigh(step, act, cpd, known, found)
            else:
                _draw(step, cpd, latent, found)
            _add_soft(step, cpd, known, found)
    found.values = left(found.values, plates, sizes)
    found.simulated = left(found.simulated, plates, sizes)
    return found


def _mapped(step: Step, outcome: Outcome, found: Pass, rows: int) -> Tensor:
    value = realise(step, outcome, found.values, rows, pathwise=True)
    check_batch(step, value.shape, rows)
    return value


def _expanded(step: Step, outcome: Outcome, rows: int) -> Distribution:
    """Return the distribution of n rows that a CPD gave."""
    if not isinstance(outcome, Distribution):
        raise TypeError(f"{step}: {misfit(step, outcome)}")
    if step.is_root:
        return outcome.expand(torch.Size((rows, *outcome.batch_shape)))
    check_batch(step, outcome.batch_shape, rows)
    return outcome


def _draw(step: Step, cpd: Distribution, latent: Latent, found: Pass) -> None:
    value, weight = latent(step, cpd)
    _check_shape(step, value, cpd)
    found.values[step.name] = value
    found.add(step, weight)


def _weigh(step: Step, act: Act, cpd: Distribution, known: Known, found: Pass) -> None:
    is_partial = step.name in known.missing
    value = known.values[step.name] if is_partial else found.values[step.name]
    value, weight = weigh(step, cpd, value, is_partial=is_partial, is_random=act.is_random)
    found.add(step, weight)
    found.values[step.name] = value


def weigh(
    step: Step, cpd: Distribution, value: Tensor, *, is_partial: bool, is_random: bool
) -> tuple[Tensor, Tensor]:
    """Return a known value, its missing components drawn, and the log-density of the others.

    Args:
        step: The variable.
        cpd: Its distribution, of n rows.
        value: What is known, `[n, *event]`.
        is_partial: Whether components may be missing: NaN, or negative integers.
        is_random: Whether the distribution depends on what was drawn; then a value outside its
            support weighs nothing, and is no error.

    Raises:
        GraphError: Another shape, or a value outside the support.
        InadmissibleError: Missing components that depend on known ones.
    """
    _check_shape(step, value, cpd)
    counts = None
    if is_partial:
        value, counts = _completed(step, value, cpd)
    scored = _typed(value, cpd)
    scores = cpd.log_prob(scored)
    if (outside := _outside(step, cpd, scored, is_random=is_random)) is not None:
        scores = torch.where(outside, -torch.inf, scores)
    scores = scores if counts is None else torch.where(counts, scores, 0.0)
    return value, sum_event(scores)


def _typed(value: Tensor, cpd: Distribution) -> Tensor:
    """Return integers as the numbers that a family scores."""
    if value.is_floating_point() or isinstance(cpd, Categorical):
        return value.long() if isinstance(cpd, Categorical) else value
    parts = (part for part in vars(cpd).values() if isinstance(part, Tensor))
    dtype = next((p.dtype for p in parts if p.is_floating_point()), None)
    return value if dtype is None else value.to(dtype)


def _completed(step: Step, value: Tensor, cpd: Distribution) -> tuple[Tensor, Tensor]:
    """Return a value with its missing components drawn, and which of its scores count."""
    while isinstance(cpd, Independent):
        cpd = cpd.base_dist
    lacks = value.isnan() if value.is_floating_point() else value < 0
    batch = lacks.flatten(len(cpd.batch_shape)).any(-1) if cpd.event_shape else lacks
    partly = is_missing(value, partly=True) & ~is_missing(value)
    if cpd.event_shape and bool(partly.any()):
        row = int(partly.nonzero()[0])
        raise InadmissibleError(
            f"row {row} of {step.name} lacks some components of a {type(cpd).__name__}, whose"
            " components depend on one another; give all of them or none, or return a"
            " distribution of independent components"
        )
    return torch.where(lacks, sample(step, cpd, pathwise=False).to(value.dtype), value), ~batch


def _invert(step: Step, found: Pass) -> None:
    """Recover what a bijection maps; its log-density is by change of variables."""
    outcome, source = step.outcome(found.values, sizes=found.sizes), step.variable.inverts
    if not isinstance(outcome, Transform):
        raise TypeError(f"{step}: {misfit(step, outcome)}")
    value = found.values[step.name]
    argument = outcome.inv(value)
    assert isinstance(argument, Tensor)
    assert source is not None
    found.values[source] = argument
    jacobian = outcome.log_abs_det_jacobian(argument, value)
    found.add(step, -sum_event(jacobian))


def _agree(step: Step, act: Act, value: Tensor, found: Pass) -> None:
    """Weigh by 1 or 0 whether a map gives what is known; keep numbers that cannot agree."""
    seen = found.values[step.name]
    if seen.shape != value.shape:
        raise GraphError(
            f"{step}: the evidence on {step.name} has the event shape {list(seen.shape[1:])}, but"
            f" its map gives {list(value.shape[1:])}"
        )
    if act.is_random and seen.is_floating_point():
        found.simulated[step.name] = value
        return
    same = torch.isclose(value.to(seen.dtype), seen, rtol=1e-5, atol=1e-6)
    same = same.unsqueeze(-1).flatten(1).all(1)
    zero = torch.zeros(len(same), dtype=torch.get_default_dtype(), device=same.device)
    found.add(step, zero.masked_fill(~same, -torch.inf))


def _add_soft(step: Step, cpd: Distribution, known: Known, found: Pass) -> None:
    likely, value = known.soft.get(step.name), found.values[step.name]
    if likely is None:
        return
    if state_count(cpd, is_root=False) != likely.shape[1]:
        raise GraphError(
            f"soft evidence on {step.name} is [rows, {likely.shape[1]}], but {step.name} has"
            f" {state_count(cpd, is_root=False) or 'no list of'} states"
        )
    listed = states(cpd, is_root=False)
    same = (
        (value.unsqueeze(1) == listed).flatten(2).all(2)
        if value.dim() > 1
        else (value.unsqueeze(1) == listed)
    )
    found.add(step, (likely * same).sum(1).log())


def _check_shape(step: Step, value: Tensor, cpd: Distribution) -> None:
    expected = cpd.batch_shape + cpd.event_shape
    if value.shape != expected:
        raise GraphError(
            f"{step}: the CPD gives {step.name} the event shape {list(expected[1:])}, but the"
            f" value has {list(value.shape[1:])}; nothing is broadcast: change the CPD or the"
            " value"
        )


def _outside(step: Step, cpd: Distribution, value: Tensor, *, is_random: bool) -> Tensor | None:
    """Say what lies outside the support, which draws may have moved.

    Raises:
        GraphError: It lies outside whatever is drawn.
    """
    allowed = support(cpd)
    if allowed is None or not len(value):
        return None
    inside = allowed.check(value)
    if is_random:
        return ~inside
    if bool(inside.all()):
        return None
    row = int((~inside.reshape(len(value), -1).all(1)).nonzero()[0])
    raise GraphError(
        f"{step}: the support of its {type(cpd).__name__} is {allowed}, but a value that is given"
        f" lies outside: {value[row].tolist()}"
    )
