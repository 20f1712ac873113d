"""What is exported: an `nn.Module` that runs a plan in a straight line, inputs by keyword."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from daguerre.devices import device_of
from daguerre.export.asked import DRAW, LOG_PROB, Output, Plan
from daguerre.export.mechanisms import drawn, standard
from daguerre.families import parameter_names
from daguerre.graph import GraphError, did_you_mean
from daguerre.joint import Joint
from daguerre.locate import located
from daguerre.program import Outcome, Step, Trace, Values, check_batch, realise
from daguerre.queries import declared_sizes, entered, read_sizes
from daguerre.repeats import Sizes

__all__ = ["Function"]

MOMENTS = ("mean", "mode", "stddev", "variance")
Noise = Callable[[str, Distribution], Tensor]


class _Start(NamedTuple):
    """What a run begins with: the rows of what is given, the batch size, sizes of plates."""

    rows: dict[str, Tensor]
    n: int
    sizes: Sizes | None


class Function(nn.Module):
    """A plan that can be run: tensors by keyword to tensors by name.

    Args:
        joint: What is exported.
        plan: What is computed from what.
    """

    def __init__(self, joint: Joint, plan: Plan) -> None:
        super().__init__()
        self.parts = nn.ModuleList(joint.modules)
        self.joint, self.plan = joint, plan
        self.forward = _by_keyword(self.run, plan.inputs)

    def run(self, values: Values) -> dict[str, Tensor]:
        """Compute what is asked for.

        Args:
            values: Inputs `[n, *plates, *event]`, and the noise of what is drawn.

        Raises:
            GraphError: A CPD fails, or is no function of its parents in a straight line.
        """
        n = next(iter(values.values())).shape[0]
        if not self.plan.outputs:
            return {LOG_PROB: self._log_prob(values, n)}
        noise = {of: values[name] for of, name in self.plan.noises.items()}
        start = self._start({**{x: values[x] for x in self.plan.given}, **noise}, n)
        found = {of: start.rows.pop(of) for of in noise}
        with located():
            trace = self._trace(start, lambda name, _: found[name])
        return {k: v for one in self.plan.outputs for k, v in self._read(one, trace).items()}

    def noise(self, given: Values, n: int) -> dict[str, Tensor]:
        """Draw the noise that is an input, for so many rows."""
        if not self.plan.drawn:
            return {}
        made: dict[str, Tensor] = {}

        def fresh(name: str, distribution: Distribution) -> Tensor:
            return made.setdefault(name, standard(distribution))

        with located():
            trace = self._trace(self._start(given, n), fresh)
        steps = self.joint.program.by_name
        return {
            name: _left(made[of], steps[of].plates, trace.sizes)
            for of, name in self.plan.noises.items()
        }

    def _start(self, known: Values, n: int) -> _Start:
        plates = self.joint.program.plates
        sizes = read_sizes(plates, known, n, declared_sizes(self.joint.graph))
        return _Start(entered(known, plates, sizes), n, sizes)

    def _trace(self, start: _Start, noise: Noise) -> Trace:
        """Run what is needed, parents first."""
        trace = Trace(start.rows, {}, start.sizes)
        for step in self.joint.program.steps:
            if step.name in self.plan.needed and step.name not in trace.values:
                self._step(step, trace, start.n, noise)
        return trace

    def _step(self, step: Step, trace: Trace, n: int, noise: Noise) -> None:
        rows = n if trace.sizes is None else trace.sizes.rows(step.plates)
        with self._straight(step, n):
            outcome = step.outcome(trace.values, sizes=trace.sizes)
        if not isinstance(outcome, Distribution):
            value = realise(step, outcome, trace.values, rows, pathwise=True)
            check_batch(step, value.shape, rows)
            trace.values[step.name] = value
            return
        if step.is_root:
            outcome = outcome.expand(torch.Size((rows, *outcome.batch_shape)))
        trace.outcomes[step.name] = outcome
        if step.name in self.plan.drawn:
            trace.values[step.name] = drawn(outcome, noise(step.name, outcome))

    def _log_prob(self, values: Values, n: int) -> Tensor:
        """Score, and name the CPD that could not be traced."""
        try:
            with self._straight(LOG_PROB, n):
                return self.joint.log_prob(values)
        except GraphError as error:
            steps = self.joint.program.steps
            step = next((s for s in steps if str(error).startswith(f"{s}: ")), None)
            if step is None or not isinstance(error.__cause__, RuntimeError):
                raise
            raise GraphError(f"{step}: {_untraceable(error.__cause__)}") from error

    @contextmanager
    def _straight(self, step: Step | str, n: int) -> Iterator[None]:
        """Refuse a CPD that is no function of its parents, or none that could be written down."""
        before = self._state()
        try:
            yield
        except (AttributeError, RuntimeError, TypeError) as error:
            if not torch.compiler.is_compiling():  # else it has run before, outside of a trace
                raise
            raise GraphError(f"{step}: {_untraceable(error)}") from error
        if isinstance(n, torch.SymInt) and n.node.maybe_as_int() is not None:
            raise GraphError(
                f"{step}: its code takes the batch size as a Python number, as len(z), range,"
                " tolist() and a loop over rows do, so that it holds for one batch size alone:"
                " use operations of tensors and shape[0]"
            )
        if not torch.compiler.is_compiling() and self._state() != before:
            raise GraphError(
                f"{step}: its code draws by itself, or changes a buffer, so that it is no"
                " function of its parents: declare what it draws as a variable, with @dg.rv"
            )

    def _state(self) -> tuple[object, ...]:
        """Describe what a CPD could change that is not its result."""
        if torch.compiler.is_compiling():
            return ()
        device = device_of([self])
        chance = torch.get_rng_state().numpy().tobytes()
        if device is not None and device.type == "cuda":
            chance += torch.cuda.get_rng_state(device).numpy().tobytes()
        return chance, *(t._version for t in chain(self.parameters(), self.buffers()))

    def _read(self, output: Output, trace: Trace) -> dict[str, Tensor]:
        """Return what is asked of a variable, by name, `[n, *plates, *event]`."""
        name, step = output.variable, self.joint.program.by_name[output.variable]
        if name not in trace.outcomes or output.what == DRAW:
            found = {str(output): trace.values[name]}
        elif output.what:
            found = {str(output): _attribute(step, trace.outcomes[name], output.what)}
        else:
            found = _parameters(step, trace.outcomes[name])
        return {name: _left(value, step.plates, trace.sizes) for name, value in found.items()}


def _left(rows: Tensor, plates: Sequence[str], sizes: Sizes | None) -> Tensor:
    """Arrange rows, of which there is one copy, as `[n, *plates, *event]`."""
    if sizes is None or not plates:
        return rows
    split = rows.unflatten(0, (*(sizes.of[plate] for plate in plates), sizes.n))
    return split.movedim(len(plates), 0).contiguous()


def _by_keyword(
    function: Callable[[Values], dict[str, Tensor]], names: Sequence[str]
) -> Callable[..., dict[str, Tensor]]:
    """Return a function whose signature names its inputs, which is what torch.export reads."""

    def forward(**values: Tensor) -> dict[str, Tensor]:
        return function(values)

    parameters = [Parameter(name, Parameter.KEYWORD_ONLY) for name in names]
    forward.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return forward


def _base(outcome: Outcome) -> Outcome:
    while isinstance(outcome, Independent):
        outcome = outcome.base_dist
    return outcome


def _parameters(step: Step, outcome: Outcome) -> dict[str, Tensor]:
    base = _base(outcome)
    names = parameter_names(base) if isinstance(base, Distribution) else []
    if not names:
        raise GraphError(
            f"{step}: a {type(base).__name__} has no parameters that are tensors: ask for"
            f' "{step.name}.mean"'
        )
    return {f"{step.name}.{name}": getattr(base, name) for name in names}


def _attribute(step: Step, outcome: Outcome, what: str) -> Tensor:
    base = _base(outcome)
    own = base.arg_constraints if isinstance(base, Distribution) else {}
    known = [*(own if isinstance(own, dict) else ()), *MOMENTS]
    if what not in known:
        hint = did_you_mean(what, [*known, DRAW])
        raise GraphError(f"{step}: a {type(base).__name__} has no {what!r}{hint}")
    try:
        value = getattr(outcome if what in MOMENTS else base, what)
    except NotImplementedError:
        value = torch.tensor(torch.nan)
    if not torch.compiler.is_compiling() and value.isnan().all():
        raise GraphError(f"{step}: a {type(base).__name__} has no {what}; ask for its parameters")
    return value


def _untraceable(error: Exception) -> str:
    # imported here: it is slow to load, and an export has loaded it
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    if isinstance(error, GuardOnDataDependentSymNode):
        return (
            f"which way its code goes depends on the contents of a tensor ({_line(error)}), but an"
            " export is one straight line for all values: write torch.where(condition, this, that)"
        )
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return f"its code cannot be traced ({_line(error)}): {reason[0]}"


def _line(error: Exception) -> str:
    """Return file and line of the innermost code that is neither torch's nor ours."""
    inner = (Path(torch.__file__).parent, Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(Path(f.filename).is_relative_to(p) for p in inner)]
    frame = (own or frames)[-1]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"
