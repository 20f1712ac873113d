r"""Sequential Monte Carlo over a chain: particles move by the CPDs and are weighed step by step.

At step t the particles are drawn from $p(h_t \mid h_{t-1})$ and weigh
$w_t = p(e_t \mid h_t, e_{t-1})$. Where their effective size falls below half their number they
are resampled. The product over t of the mean weights is an unbiased estimate of the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution

from daguerre.devices import on_device_of
from daguerre.discrete import state_count, states
from daguerre.graph import GraphError
from daguerre.infer.answer import Answer
from daguerre.infer.approximate.answers import marginal
from daguerre.infer.approximate.methods import SMC
from daguerre.infer.approximate.passes import weigh
from daguerre.infer.approximate.psis import effective_size
from daguerre.infer.approximate.weighting import MOST
from daguerre.infer.chain.reading import Reading, read
from daguerre.infer.distributions import Finite, Particles
from daguerre.joint import Factor, Joint, as_joint
from daguerre.lags import spread_over
from daguerre.locate import located
from daguerre.program import Step, misfit, sample, validation
from daguerre.rows import as_copies, tile

__all__ = ["filter_chain", "systematic"]


def filter_chain(
    joint: Joint | Factor,
    targets: str | Sequence[str],
    observed: Mapping[str, Tensor],
    method: SMC,
    *,
    lengths: Tensor | None = None,
) -> Answer:
    """Answer by a bootstrap particle filter: the smoothed posterior, from whole paths.

    The diagnostics are `ess` and `paths`, `[B, T]`: the effective size at each step before
    resampling, and how many different values the final paths have there. Where `paths` is small
    the filter has forgotten the past; take more particles.

    Args:
        joint: A model with lags, or a product of some.
        targets: Variables of the chain that are not observed; one by its name, several as a list.
        observed: Values `[B, T, *event]` of observed variables and inputs; NaN where missing.
        method: How many particles.
        lengths: The number of steps of each sequence, `[B]`; what comes later weighs nothing.

    Returns:
        An answer of which the marginals have the batch shape `[B, T]`.

    Raises:
        GraphError: Unknown names, values of the wrong shape, particles that all weigh nothing.
        InadmissibleError: A bijection, plates, or an observed deterministic variable.

    References:
        Gordon, Salmond and Smith (1993), *Novel approach to nonlinear/non-Gaussian Bayesian state
        estimation*; Del Moral (2004), *Feynman-Kac formulae*, section 7.4 (no bias); Douc, Cappe
        and Moulines (2005), *Comparison of resampling schemes for particle filtering*.

    Example:
        >>> import daguerre as dg
        >>> from torch.distributions import Normal
        >>> _ = torch.manual_seed(0)
        >>> walk = dg.model(
        ...     z=lambda last=dg.lag("z", init=Normal(0.0, 1.0)): Normal(last, 1.0),
        ...     x=lambda z: Normal(z, 1.0),
        ... )
        >>> found = filter_chain(walk, "z", {"x": torch.ones(1, 2)}, SMC(50_000))
        >>> found.mean.round(decimals=1)  # 0.6 and 0.8
        tensor([[0.6000, 0.8000]])
    """
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    joint = as_joint(joint)
    reading = read(joint, names, observed, lengths)
    for name in names:
        if name in observed:
            raise GraphError(f"{name} is observed; ask for {', '.join(reading.hidden)}")
    with torch.no_grad(), located(), validation(enabled=False), on_device_of(joint.modules):
        run = _Filter(reading, method.particles, names)
        for t in range(reading.size[1]):
            run.advance(t, None if lengths is None else t < lengths)
    paths = run.paths()
    return _answer(run, paths, method, is_single=isinstance(targets, str))


def systematic(weights: Tensor) -> Tensor:
    r"""Choose n of n particles by systematic resampling: numbers `[n, B]` for weights `[n, B]`.

    Particle i is chosen $\lfloor n w_i \rfloor$ or $\lceil n w_i \rceil$ times, $n w_i$ times
    on average.

    Example:
        >>> systematic(torch.tensor([[0.5], [0.0], [0.5], [0.0]]))[:, 0]
        tensor([0, 0, 2, 2])
    """
    n, batch = weights.shape
    start = torch.rand(batch, 1, dtype=weights.dtype, device=weights.device)
    combs = (torch.arange(n, device=weights.device) + start) / n  # [B, n]
    edges = weights.T.cumsum(1).contiguous()
    edges = edges / edges[:, -1:]
    return torch.searchsorted(edges, combs, right=True).clamp(max=n - 1).T


@dataclass
class _Filter:
    """Particles on their way through a chain.

    Attributes:
        reading: The chain and its observations.
        particles: Their number, n.
        targets: What is recorded.
        log_weights: Normalised, `[n, B]`.
        log_evidence: So far, `[B]`.
        slices: The values of the last few slices, latest last, `[n B, *event]` each.
        record: Per step, the targets' values, `[n, B, *event]`.
        parents: Per step, which particle of the step before each comes from, `[n, B]`.
        ess: Per step, `[B]`.
        listed: The states of finite targets.
        known: What is observed, in some steps at least.
    """

    reading: Reading
    particles: int
    targets: tuple[str, ...]
    log_weights: Tensor = field(init=False)
    log_evidence: Tensor = field(init=False)
    slices: list[dict[str, Tensor]] = field(default_factory=list)
    record: list[dict[str, Tensor]] = field(default_factory=list)
    parents: list[Tensor] = field(default_factory=list)
    ess: list[Tensor] = field(default_factory=list)
    listed: dict[str, Tensor] = field(default_factory=dict)
    known: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        n, batch = self.particles, self.reading.size[0]
        device = self.reading.like.device
        shape, double = (n, batch), torch.float64
        self.known = {**self.reading.data, **self.reading.pinned}
        self.log_weights = torch.full(shape, -math.log(n), dtype=double, device=device)
        self.log_evidence = torch.zeros(batch, dtype=double, device=device)
        self._memory = max(
            (lag.steps for name in self.reading.steps for lag in self.reading.lags(name)),
            default=0,
        )

    def advance(self, t: int, inside: Tensor | None) -> None:
        """Resample, draw slice t, and weigh it."""
        self._resample()
        values: dict[str, Tensor] = {}
        total = torch.zeros_like(self.log_weights).flatten()
        for name, data in self.known.items():
            values[name] = tile(data[:, t], len(total))
        for name, step in self.reading.steps.items():
            outcome = self._outcome(step, t, values)
            if step.variable.map == "deterministic":
                if not isinstance(outcome, Tensor):
                    raise TypeError(f"{step}: {misfit(step, outcome)}")
                values[name] = outcome
            elif not isinstance(outcome, Distribution):
                raise TypeError(f"{step}: {misfit(step, outcome)}")
            elif name in self.known:
                values[name], weight = weigh(
                    step, outcome, values[name], is_partial=True, is_random=True
                )
                total = total + weight
            else:
                values[name] = sample(step, outcome, pathwise=False)
                self._list(name, outcome)
        self._weigh(t, as_copies(total, self.reading.size[0]), inside)
        self.slices = [*self.slices, values][-self._memory :] if self._memory else []
        batch = self.reading.size[0]
        self.record.append({name: as_copies(values[name], batch) for name in self.targets})

    def _resample(self) -> None:
        """Choose particles anew for the sequences whose effective size is small."""
        n, batch = self.log_weights.shape
        chosen = torch.arange(n, device=self.log_weights.device).unsqueeze(1).expand(n, batch)
        poor = effective_size(self.log_weights) < n / 2
        chosen = torch.where(poor, systematic(self.log_weights.exp()), chosen)
        self.parents.append(chosen)
        self.log_weights = torch.where(poor, -math.log(n), self.log_weights)
        rows = (chosen * batch + torch.arange(batch, device=chosen.device)).flatten()
        self.slices = [{k: v[rows] for k, v in values.items()} for values in self.slices]

    def _outcome(self, step: Step, t: int, values: Mapping[str, Tensor]) -> Distribution | object:
        """Call a CPD on parents of this slice and of earlier ones."""
        reading, rows = self.reading, self.log_weights.numel()
        arguments = [values[parent] for parent in step.arguments]
        for lagged in reading.lags(step.name):
            if t >= lagged.steps:
                arguments.append(self.slices[-lagged.steps][lagged.variable])
                continue
            start = reading.start(step.name, lagged)
            if isinstance(start, Distribution):
                return start.expand(torch.Size((rows, *start.batch_shape)))
            if lagged.variable in values:
                start = spread_over(start, values[lagged.variable].shape[1:])
            arguments.append(start.expand(rows, *start.shape))
        outcome = reading.call(step.name, arguments)
        if arguments:
            return outcome
        if isinstance(outcome, Distribution):  # a root, of one row
            return outcome.expand(torch.Size((rows, *outcome.batch_shape[1:])))
        assert isinstance(outcome, Tensor)
        return outcome.expand(rows, *outcome.shape[1:])

    def _weigh(self, t: int, weights: Tensor, inside: Tensor | None) -> None:
        weights = weights.double()
        if inside is not None:
            weights = torch.where(inside, weights, 0.0)
        joint = self.log_weights + weights
        total = joint.logsumexp(0)
        if bool((lost := ~total.isfinite()).any()):
            row = int(lost.nonzero()[0])
            raise GraphError(
                f"no particle of {self.particles:,} fits step {t} of sequence {row}, which is"
                " impossible or very unlikely; take more particles"
            )
        self.log_evidence = self.log_evidence + total
        self.log_weights = joint - total
        self.ess.append(effective_size(self.log_weights))

    def _list(self, name: str, cpd: Distribution) -> None:
        if name in self.targets and name not in self.listed:
            count = state_count(cpd, is_root=False)
            if count is not None and count <= MOST:
                self.listed[name] = states(cpd, is_root=False)

    def paths(self) -> Tensor:
        """Return which particle of each step the final ones come from, `[T, n, B]`."""
        numbers = torch.arange(self.particles, device=self.log_weights.device)
        numbers = numbers.unsqueeze(1).expand_as(self.log_weights)
        found = [numbers]
        for parents in reversed(self.parents[1:]):
            numbers = parents.gather(0, numbers)
            found.append(numbers)
        return torch.stack(found[::-1])


def _answer(run: _Filter, paths: Tensor, method: SMC, *, is_single: bool) -> Answer:
    steps, _, batch = paths.shape
    each = torch.arange(batch, device=paths.device)
    values = {
        name: torch.stack([run.record[t][name][paths[t], each] for t in range(steps)], 2)
        for name in run.targets
    }  # [n, B, T, *event]
    logs = run.log_weights
    ordered = paths.sort(1).values
    distinct = 1 + (ordered.diff(dim=1) != 0).sum(1)  # [T, B]

    def draw(count: int) -> dict[str, Tensor]:
        if not count:
            return {name: value[:0] for name, value in values.items()}
        chosen = torch.multinomial(logs.exp().T, count, replacement=True).T
        return {name: value[chosen, each] for name, value in values.items()}

    return Answer(
        run.targets,
        {n: _over_time(value, logs, run.listed.get(n)) for n, value in values.items()},
        run.log_evidence,
        f"sequential Monte Carlo, {method.particles:,} particles",
        exact=False,
        draw=draw,
        diagnostics={"ess": torch.stack(run.ess, 1), "paths": distinct.T},
        is_single=is_single,
    )


def _over_time(values: Tensor, log_weights: Tensor, listed: Tensor | None) -> Distribution:
    """Return the marginal of each step, of batch shape `[B, T]`."""
    steps = values.shape[2]
    logs = log_weights.unsqueeze(2).expand(-1, -1, steps)
    found = marginal(values.flatten(1, 2), logs.flatten(1, 2), listed)
    if isinstance(found, Finite):
        return Finite(found.probs.unflatten(0, (-1, steps)), found.states)
    return Particles(values, logs.to(values.dtype))
