"""Hidden Markov models as tensors: evidence, filtering, smoothing, expected counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from daguerre.graph import GraphError
from daguerre.infer.chain.layout import Layout
from daguerre.infer.chain.plan import Plan, Work, choose
from daguerre.infer.chain.recursion import BURN, Recursion
from daguerre.infer.chain.semiring import SMALLEST, Logarithms, Scaled, Semiring, guarded

__all__ = ["HMM", "Filtered", "Smoothed", "filtered", "log_evidence", "plan_of", "smoothed"]

PAIRS = 2**22  # pairs of states held at once where logarithms need all of them


@dataclass(frozen=True, eq=False)
class HMM:
    r"""A hidden Markov model with its observations, $\prod_t p(z_t | z_{t-1})\, p(x_t | z_t)$.

    Everything is in logarithms, and -inf is a zero. What is computed is computed in float64 and
    returned in the type that came, for the sums are long. Transitions need not be normalised.

    Args:
        log_start: $\log p(z_0)$, `[K]` or `[B, K]`.
        log_transition: $\log p(z_t = j \mid z_{t-1} = i)$ at `[i, j]`: `[K, K]`, or one per
            transition, `[T - 1, K, K]` or `[B, T - 1, K, K]`.
        log_likelihood: $\log p(x_t \mid z_t)$, `[B, T, K]`; zeros where x_t is missing.
        lengths: The number of steps of each sequence, `[B]`; what lies beyond is not looked at.

    Raises:
        GraphError: Shapes that do not belong together, lengths outside 1 to T.

    References:
        Rabiner (1989), A tutorial on hidden Markov models.
    """

    log_start: Tensor
    log_transition: Tensor
    log_likelihood: Tensor
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.log_likelihood.dim() != 3 or 0 in self.log_likelihood.shape:
            came = list(self.log_likelihood.shape)
            raise GraphError(f"log_likelihood has the shape {came}; expected [B, T, K]")
        batch, steps, k = self.log_likelihood.shape
        allowed = {
            "log_start": [(k,), (batch, k)],
            "log_transition": [(k, k), (steps - 1, k, k), (batch, steps - 1, k, k)],
        }
        for name, shapes in allowed.items():
            came = tuple(getattr(self, name).shape)
            if came not in shapes:
                expected = " or ".join(str(list(shape)) for shape in shapes)
                raise GraphError(f"{name} has the shape {list(came)}; expected {expected}")
        check_lengths(self.lengths, batch, steps)

    @property
    def shape(self) -> torch.Size:
        """Sequences B, steps T and states K."""
        return self.log_likelihood.shape


def check_lengths(lengths: Tensor | None, batch: int, steps: int) -> None:
    """Refuse lengths that are not one per sequence, from 1 to the number of steps."""
    if lengths is None:
        return
    if lengths.shape != (batch,) or lengths.is_floating_point():
        raise GraphError(
            f"lengths has the shape {list(lengths.shape)} and type {lengths.dtype}; expected"
            f" whole numbers [{batch}]"
        )
    if lengths.min() < 1 or lengths.max() > steps:
        raise GraphError(f"lengths are from 1 to {steps}, but came as {lengths.tolist()}")


@dataclass(frozen=True, eq=False)
class Filtered:
    r"""What the observations up to each step say.

    Attributes:
        probs: $p(z_t | x_{0..t})$, `[B, T, K]`; zeros where the observations are impossible, and
            beyond the end of a sequence as at its end.
        log_evidence: $\log p(x)$ in nats, `[B]`.
        plan: How it was scanned.
    """

    probs: Tensor
    log_evidence: Tensor
    plan: Plan


@dataclass(frozen=True, eq=False)
class Smoothed(Filtered):
    """What all observations say.

    Attributes:
        probs: $p(z_t | x)$, `[B, T, K]`, as for `Filtered`.
    """

    passes: Passes

    @cached_property
    def counts(self) -> Tensor:
        r"""Expected transitions $\sum_t p(z_{t-1} = i, z_t = j \mid x)$, `[B, K, K]`."""
        return self.passes.pairs(summed=True).to(self.probs.dtype)


def plan_of(hmm: HMM, *, ring: Semiring | None = None) -> Plan:
    """Return the plan of least predicted time for a forward and a backward pass.

    Args:
        hmm: The model and its observations.
        ring: What sums and products are; those of probabilities if None.

    Example:
        >>> zeros = torch.zeros(3)
        >>> plan_of(HMM(zeros, zeros.expand(3, 3), zeros.expand(1, 1025, 3))).blocks > 20
        True
    """
    batch, steps, k = hmm.shape
    is_scaled = isinstance(ring or _ring(hmm.log_transition), Scaled)
    factor = 2 if is_scaled else 30
    burn = BURN if is_scaled and hmm.log_transition.dim() == 2 else 0
    cost = Work(factor * k**2, factor * k**3, factor * k**3, 2, burn)
    return choose(steps - 1, batch, cost, hmm.log_likelihood.device)


def log_evidence(hmm: HMM, *, plan: Plan | None = None) -> Tensor:
    r"""Return $\log p(x)$ in nats, `[B]`; -inf where the observations are impossible.

    The gradient is that of Fisher's identity, from a forward and a backward pass:
    $\partial \log p(x) / \partial \log \phi = E[\text{times that } \phi \text{ is used} \mid x]$.

    Args:
        hmm: The model and its observations.
        plan: How to scan; the fastest by prediction where it is left out.

    Example:
        >>> half = torch.full((2,), 0.5).log()
        >>> log_evidence(HMM(half, half.expand(2, 2), half.expand(1, 3, 2))).exp()
        tensor([0.1250])
    """
    start = hmm.log_start.expand(hmm.shape[0], -1)
    tensors = (start, hmm.log_transition, hmm.log_likelihood)
    return _LogEvidence.apply(*tensors, hmm.lengths, plan)  # type: ignore[return-value]


def filtered(hmm: HMM, *, plan: Plan | None = None) -> Filtered:
    """Return the posterior of each state given the observations up to it, and the evidence.

    Args:
        hmm: The model and its observations.
        plan: How to scan; the fastest by prediction where it is left out.

    Example:
        >>> likelihood = torch.tensor([[[0.9, 0.1], [0.9, 0.1]]])
        >>> half = torch.full((2,), 0.5)
        >>> filtered(HMM(half.log(), half.expand(2, 2).log(), likelihood.log())).probs[0]
        tensor([[0.9000, 0.1000],
                [0.9000, 0.1000]])
    """
    passes = Passes.of(hmm, plan)
    dtype = hmm.log_likelihood.dtype
    probs = passes.recursion.semiring.normalised(passes.ahead, -1)
    return Filtered(probs.to(dtype), passes.log_evidence.to(dtype), passes.plan)


def smoothed(hmm: HMM, *, plan: Plan | None = None) -> Smoothed:
    """Return the posterior of each state given all observations, and the expected transitions.

    Args:
        hmm: The model and its observations.
        plan: How to scan; the fastest by prediction where it is left out.

    Example:
        >>> stay = torch.eye(2).log()
        >>> likelihood = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]])
        >>> found = smoothed(HMM(torch.full((2,), 0.5).log(), stay, likelihood.log()))
        >>> found.probs[0, 0], found.counts[0]
        (tensor([0.9000, 0.1000]), tensor([[0.9000, 0.0000],
                [0.0000, 0.1000]]))
    """
    passes = Passes.of(hmm, plan)
    dtype = hmm.log_likelihood.dtype
    evidence = passes.log_evidence.to(dtype)
    return Smoothed(passes.marginals().to(dtype), evidence, passes.plan, passes)


@dataclass(frozen=True, eq=False)
class Passes:
    """A recursion with what it found on the way forward.

    Attributes:
        recursion: The recursion.
        forward: The vector after each step up to scale, `[width, K, rows]`.
        log_evidence: `[B]`.
    """

    recursion: Recursion
    forward: Tensor
    log_evidence: Tensor

    @classmethod
    def of(cls, hmm: HMM, plan: Plan | None) -> Passes:
        """Run the forward pass."""
        recursion, offset = prepare(hmm, plan)
        return cls(recursion, recursion.forward.states, recursion.forward.log_total + offset)

    @property
    def plan(self) -> Plan:
        """How it was scanned."""
        return self.recursion.layout.plan

    @cached_property
    def ahead(self) -> Tensor:
        """The forward vectors up to scale, `[B, T, K]`."""
        return self.recursion.layout.unpack(self.forward, after=self.recursion.start)

    def marginals(self) -> Tensor:
        """Return the smoothed probabilities, `[B, T, K]`."""
        ring, (behind, first) = self.recursion.semiring, self.recursion.backward()
        free = None if self.recursion.has_gradient else behind  # may be written to
        later = ring.normalised(ring.weigh(self.forward, behind, out=free), 1, out=free)
        first = ring.normalised(ring.weigh(self.recursion.start, first), -1)
        return self.recursion.layout.unpack(later, after=first)

    def pairs(self, *, summed: bool) -> Tensor:
        """Return the probabilities of pairs, `[B, T - 1, K, K]`, or their sums, `[B, K, K]`."""
        recursion, ring, layout = self.recursion, self.recursion.semiring, self.recursion.layout
        before = self.ahead[:, :-1]
        after = layout.unpack(ring.weigh(recursion.weights, recursion.backward().states))
        m = recursion.matrices
        m = m if m.dim() == 2 else layout.unpack(m)
        if isinstance(ring, Scaled) and summed and m.dim() == 2:
            total = ((before @ m) * after).sum(-1, keepdim=True)
            before = before * (self._within(3) / total.masked_fill(total == 0, 1.0))
            return m * (before.mT @ after)
        batch, steps, k = before.shape
        size = max(1, PAIRS // (batch * k * k)) if summed else max(steps, 1)
        parts = [slice(i, i + size) for i in range(0, max(steps, 1), size)]
        found = [self._pairs(m, before[:, s], after[:, s], s) for s in parts]
        return torch.stack([f.sum(1) for f in found]).sum(0) if summed else torch.cat(found, 1)

    def _pairs(self, m: Tensor, before: Tensor, after: Tensor, part: slice) -> Tensor:
        ring = self.recursion.semiring
        both = ring.weigh(m if m.dim() == 2 else m[:, part], after.unsqueeze(-2))
        both = ring.weigh(both, before.unsqueeze(-1))
        probs = ring.normalised(both.flatten(-2), -1).unflatten(-1, both.shape[-2:])
        within = self._within(4)
        return probs * (within[:, part] if isinstance(within, Tensor) else within)

    def _within(self, dims: int) -> Tensor | float:
        """Return 1 for transitions inside their sequence and 0 beyond, `[B, T - 1, ...]`."""
        ragged = self.recursion.layout.ragged
        return 1.0 if ragged is None else ragged.inside.double()[(..., *[None] * (dims - 2))]


def prepare(hmm: HMM, plan: Plan | None, ring: Semiring | None = None) -> tuple[Recursion, Tensor]:
    """Return the recursion, and what its logarithms were lowered by, `[B]`."""
    batch, steps, _ = hmm.shape
    plan = plan or plan_of(hmm, ring=ring)
    if plan.steps != steps - 1:
        raise GraphError(f"the plan is for {plan.steps} steps, but there are {steps - 1}")
    likelihood, matrices = _inside(hmm)
    ring = ring or _ring(matrices)
    transitions = None if hmm.lengths is None else hmm.lengths.to(likelihood.device) - 1
    layout = Layout.of(plan, batch, transitions)
    packed = layout.pack(likelihood[:, 1:])
    free = None if packed.requires_grad else packed  # may be written to
    weights, tops = _lowered(packed, 1, out=free)
    if layout.ragged is not None:
        tops = tops * layout.ragged.active
    first, top = _lowered(hmm.log_start.double() + likelihood[:, 0], -1)
    most = guarded(matrices.detach().logsumexp(-1).amax()) if matrices.numel() else top.sum() * 0
    offset = layout.to_grid(tops.sum(0)).sum(0) + top
    offset = offset + most * (steps - 1 if transitions is None else transitions)
    if offset.isnan().any():
        raise GraphError("the logarithms of the model or of the likelihood hold NaN")
    matrices = ring.encode(matrices - most)
    if matrices.dim() > 2:
        matrices = layout.pack(matrices.expand(batch, *matrices.shape[-3:]))
    weights = ring.encode(weights, out=free)
    return Recursion(ring, layout, ring.encode(first), matrices, weights), offset


def _inside(hmm: HMM) -> tuple[Tensor, Tensor]:
    """Return likelihood and transitions in float64, those beyond the sequences' ends made even."""
    likelihood, matrices = hmm.log_likelihood.double(), hmm.log_transition.double()
    if hmm.lengths is None:
        return likelihood, matrices
    _, steps, k = hmm.shape
    lengths = hmm.lengths.to(likelihood.device)
    beyond = torch.arange(steps, device=likelihood.device) >= lengths.unsqueeze(-1)
    if matrices.dim() == 4:
        matrices = matrices.masked_fill(beyond[:, 1:, None, None], -math.log(k))
    return likelihood.masked_fill(beyond.unsqueeze(-1), 0.0), matrices


def _lowered(logs: Tensor, dim: int, *, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return logarithms with maximum 0 along a dimension, and the maxima."""
    top = guarded(logs.detach().amax(dim, keepdim=True))
    return torch.sub(logs, top, out=out), top.squeeze(dim)


def _ring(log_transition: Tensor) -> Semiring:
    """Choose how to add: by scaled probabilities where none is near zero."""
    logs = log_transition.detach().double()
    least = float((logs.min() - logs.logsumexp(-1).max()).exp()) if logs.numel() else 1.0
    return Scaled(least) if least >= SMALLEST else Logarithms()


class _LogEvidence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Any) -> Tensor:
        start, transition, likelihood, lengths, ctx.plan = tensors
        ctx.save_for_backward(start, transition, likelihood, lengths)
        recursion, offset = prepare(HMM(start, transition, likelihood, lengths), ctx.plan)
        return (recursion.log_total + offset).to(likelihood.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        hmm = HMM(*ctx.saved_tensors)
        passes = Passes.of(hmm, ctx.plan)
        weight = gradients[0].double()
        probs = passes.marginals()
        uses = probs * weight[:, None, None]
        if (ragged := passes.recursion.layout.ragged) is not None:
            uses = torch.cat([uses[:, :1], uses[:, 1:] * ragged.inside.unsqueeze(-1)], 1)
        matrices = hmm.log_transition
        if not ctx.needs_input_grad[1]:
            pairs = None
        elif matrices.dim() == 2:
            pairs = torch.tensordot(weight, passes.pairs(summed=True), 1).to(matrices.dtype)
        else:
            pairs = passes.pairs(summed=False) * weight[:, None, None, None]
            pairs = (pairs if matrices.dim() == 4 else pairs.sum(0)).to(matrices.dtype)
        first = (probs[:, 0] * weight[:, None]).to(hmm.log_start.dtype)
        return first, pairs, uses.to(hmm.log_likelihood.dtype), None, None
