"""Kalman filter and smoother over any plan, with rows of blocks as the last dimension.

A block is summarised by filtering from a known state before it: what follows is affine in that
state, and so is what the block says of it (Särkkä and García-Fernández 2021). Observations enter
one number at a time, so that nothing is inverted but numbers; the smoother goes back by the
adjoints r and N of the states, which need no inverse either (Durbin and Koopman 2012, chapter 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from daguerre.infer.chain.layout import Layout, keep
from daguerre.infer.chain.plan import Plan
from daguerre.infer.chain.scan import Elements, prefixes, suffixes
from daguerre.infer.chain.ssm import Scalars

__all__ = ["Adjoints", "Kalman", "States", "Updates"]


class States(NamedTuple):
    """Gaussians N(x, C), x perhaps affine in an earlier state.

    Attributes:
        x: `[d, q, rows]`, q = 1; or q = d + 1, of which the last column is the constant.
        cov: `[d, d, rows]`.
    """

    x: Tensor
    cov: Tensor


class Updates(NamedTuple):
    """What observed numbers did, per number.

    Attributes:
        gain: `[..., d, rows]`.
        error: The number less its prediction, `[..., q, rows]`.
        variance: The variance of that, `[..., rows]`.
    """

    gain: Tensor
    error: Tensor
    variance: Tensor


class Adjoints(NamedTuple):
    """What later observations say: the posterior of N(x, C) is N(x + C r, C - C N C).

    Attributes:
        r: `[d, rows]`.
        n: `[d, d, rows]`.
    """

    r: Tensor
    n: Tensor


class Score(NamedTuple):
    """Adjoints on the way back, per step.

    Attributes:
        after: Of the states after the observations of the step.
        before: Of the states before them.
        error: Of the observed numbers, `[m, rows]`.
        spread: Of their variances, twice, as `error^2 - spread`: `[m, rows]`.
        gain: `[m, d, rows]`, what is missing in the gradient of the rows of the emission.
    """

    after: Adjoints
    before: Adjoints
    error: Tensor
    spread: Tensor
    gain: Tensor


def lead(m: Tensor, x: Tensor) -> Tensor:
    """Multiply `[a, d]`, or `[a, d, rows]`, by `[d, ..., rows]`."""
    if m.dim() == 2:
        return (m @ x.flatten(1)).view(m.shape[0], *x.shape[1:])
    if x.dim() == 2:
        return (m * x).sum(1)
    return (m.unsqueeze(2) * x).sum(1)


def dot(row: Tensor, x: Tensor) -> Tensor:
    """Multiply a row `[d]`, or `[d, rows]`, by `[d, ..., rows]`."""
    if row.dim() == 1:
        return (row @ x.flatten(1)).view(x.shape[1:])
    return (row * x).sum(0) if x.dim() == 2 else (row.unsqueeze(1) * x).sum(0)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """Return the products of `[a, rows]` and `[b, rows]`, `[a, b, rows]`."""
    return a.unsqueeze(1) * b


def sandwich(m: Tensor, c: Tensor) -> Tensor:
    """Return M C M^T for a symmetric C `[d, d, rows]`, and keep it symmetric."""
    found = lead(m, lead(m, c).transpose(0, 1))
    return (found + found.transpose(0, 1)) / 2


@dataclass(frozen=True, eq=False)
class Step:
    """The tensors of one step for the active rows; constant, or with rows last."""

    transition: Tensor
    offset: Tensor
    noise: Tensor
    rows: Tensor
    variances: Tensor
    values: Tensor
    observed: Tensor | None
    count: int

    def predict(self, states: States) -> States:
        """Carry the states on."""
        x = lead(self.transition, states.x)
        offset = self.offset if self.offset.dim() == 2 else self.offset.unsqueeze(-1)
        last = (x[:, -1] + offset).unsqueeze(1)
        x = last if x.shape[1] == 1 else torch.cat([x[:, :-1], last], 1)
        noise = self.noise if self.noise.dim() == 3 else self.noise.unsqueeze(-1)
        return States(x, sandwich(self.transition, states.cov) + noise)

    def update(self, states: States) -> tuple[States, list[Updates]]:
        """Let the numbers in, one after another."""
        (x, cov), found = states, []
        for j, value in enumerate(self.values):
            row = self.rows[j]
            spread = dot(row, cov)
            variance = dot(row, spread) + self.variances[j]
            error = -dot(row, x)
            error = torch.cat([error[:-1], (error[-1] + value).unsqueeze(0)])
            if self.observed is not None:
                there = self.observed[j]
                variance = torch.where(there, variance, 1.0)
                spread, error = spread * there, error * there
            gain = spread / variance
            x, cov = x + outer(gain, error), cov - outer(gain, spread)
            found.append(Updates(gain, error, variance))
        return States(x, cov), found

    def retreat(self, after: Adjoints, cov: Tensor, updates: Updates) -> Score:
        """Take the numbers back, the last first; cov is the covariance after them."""
        (r, n), found = after, []
        for j in reversed(range(len(self.values))):
            row, gain, variance = self.rows[j], updates.gain[j], updates.variance[j]
            there = 1.0 if self.observed is None else self.observed[j].to(r.dtype)
            row = row.unsqueeze(-1) * there if row.dim() == 1 else row * there
            ng = lead(n, gain)
            spread = (gain * ng).sum(0) + there / variance
            error = updates.error[j, 0] / variance - (gain * r).sum(0)
            found.append((error, spread, gain - lead(cov, ng)))
            cov = cov + outer(gain, gain) * variance
            half = outer(row, ng - row * spread / 2)
            r, n = r + row * error, n - half - half.transpose(0, 1)
        columns = [torch.stack(c[::-1]) for c in zip(*found, strict=True)]
        if not columns:
            empty = r.new_zeros(0, r.shape[-1])
            columns = [empty, empty, empty.unsqueeze(1).expand(0, *r.shape)]
        return Score(after, Adjoints(r, n), *columns)

    def back(self, before: Adjoints) -> Adjoints:
        """Return the adjoints of the states before the transition."""
        turned = self.transition.transpose(0, 1)
        return Adjoints(lead(turned, before.r), sandwich(turned, before.n))


@dataclass(frozen=True, eq=False)
class Kalman:
    """A state space laid out in rows, ready to run.

    Attributes:
        model: The state space.
        layout: How the blocks lie in rows.
    """

    model: Scalars
    layout: Layout

    @classmethod
    def of(cls, model: Scalars, plan: Plan, lengths: Tensor | None) -> Kalman:
        """Lay the sequences out."""
        transitions = None if lengths is None else lengths.to(model.values.device) - 1
        return cls(model, Layout.of(plan, len(model.values), transitions))

    @cached_property
    def steps(self) -> list[Step]:
        """The steps of the blocks."""
        model, pack = self.model, self.layout.pack
        constants = {
            "transition": (model.transition, 2),
            "offset": (model.offset, 1),
            "noise": (model.noise, 2),
            "rows": (model.rows if model.rows.dim() == 2 else model.rows[:, 1:], 2),
            "variances": (
                model.variances if model.variances.dim() == 1 else model.variances[:, 1:],
                1,
            ),
        }
        packed = {n: x if x.dim() == inner else pack(x) for n, (x, inner) in constants.items()}
        values = pack(model.values[:, 1:])
        observed = None if model.observed is None else pack(model.observed[:, 1:])

        def at(name: str, s: int, count: int) -> Tensor:
            x, inner = packed[name], constants[name][1]
            return x if x.dim() == inner else x[s, ..., :count]

        def step(s: int, count: int) -> Step:
            there = None if observed is None else observed[s, :, :count]
            f, b, q = at("transition", s, count), at("offset", s, count), at("noise", s, count)
            h, r = at("rows", s, count), at("variances", s, count)
            return Step(f, b, q, h, r, values[s, :, :count], there, count)

        return [step(s, count) for s, count in enumerate(self.layout.counts)]

    @cached_property
    def first(self) -> Step:
        """The first step, which has no transition, with a row per sequence."""
        model = self.model
        d = model.mean.shape[-1]
        eye = torch.eye(d, dtype=model.mean.dtype, device=model.mean.device)
        rows = model.rows if model.rows.dim() == 2 else model.rows[:, 0].movedim(0, -1)
        variances = model.variances if model.variances.dim() == 1 else model.variances[:, 0].T
        observed = None if model.observed is None else model.observed[:, 0].T
        zeros = eye[0] * 0
        values = model.values[:, 0].T
        return Step(eye, zeros, eye * 0, rows, variances, values, observed, len(model.values))

    @cached_property
    def begun(self) -> tuple[States, Updates]:
        """The states after the first observations, one row per sequence."""
        prior = States(self.model.mean.T.unsqueeze(1), self.model.covariance.movedim(0, -1))
        states, updates = self.first.update(prior)
        return states, self._stacked(updates, len(self.model.values))

    @cached_property
    def summaries(self) -> Elements:
        r"""Per block A, b, C, eta, J, `[n, B, ...]`.

        From x before, the block ends at N(A x + b, C); its observations have the likelihood
        $\exp(\eta^T x - x^T J x / 2)$ up to a constant.
        """
        d, rows = self.model.mean.shape[-1], self.layout.rows
        eye = torch.eye(d, d + 1, dtype=self.model.mean.dtype, device=self.model.mean.device)
        x = eye.unsqueeze(-1).expand(-1, -1, rows).contiguous()
        states, info = States(x, torch.zeros_like(x[:, :d])), x.new_zeros(d + 1, d + 1, rows)
        for step in self.steps:
            active = States(*(s[..., : step.count] for s in states))
            new, updates = step.update(step.predict(active))
            told = info[..., : step.count]
            for u in updates:
                told = told + outer(u.error, u.error / u.variance)
            info = keep(told, info)
            states = States(*(keep(a, b) for a, b in zip(new, states, strict=True)))
        grid = self.layout.to_grid
        x, cov, info = grid(states.x), grid(states.cov), grid(info)
        return x[..., :d], x[..., d], cov, -info[..., :d, d], info[..., :d, :d]

    @cached_property
    def entering(self) -> tuple[Tensor, Tensor]:
        """The filtered mean and covariance before each block, `[n, B, d]` and `[n, B, d, d]`."""
        states, _ = self.begun
        mean, cov = states.x[:, 0].T, states.cov.movedim(-1, 0)
        plan = self.layout.plan
        if plan.blocks == 1:
            return mean[None], cov[None]
        found = [(mean, cov)]
        if plan.tree:
            elements = prefixes(_join, tuple(e[:-1] for e in self.summaries))
            more = _enter(mean.expand(plan.blocks - 1, -1, -1), cov, elements)
            return torch.cat([mean[None], more[0]]), torch.cat([cov[None], more[1]])
        for block in zip(*(e[:-1].unbind(0) for e in self.summaries), strict=True):
            found.append(_enter(*found[-1], block))
        return torch.stack([m for m, _ in found]), torch.stack([c for _, c in found])

    @cached_property
    def forward(self) -> tuple[States, Updates]:
        """The states after each step, and what its numbers did; `[width, ..., rows]`."""
        mean, cov = self.entering
        states = States(self.layout.to_rows(mean).unsqueeze(1), self.layout.to_rows(cov))
        found, did = [], []
        for step in self.steps:
            active = states
            if step.count < states.cov.shape[-1]:
                active = States(*(s[..., : step.count] for s in states))
            states, updates = step.update(step.predict(active))
            found.append(states)
            did.append(self._stacked(updates, step.count))
        stack = self.layout.stack
        states = States(*(stack(list(f)) for f in zip(*found, strict=True)))
        return states, Updates(*(stack(list(u)) for u in zip(*did, strict=True)))

    @cached_property
    def leaving(self) -> Adjoints:
        """The adjoints of the states after each block, `[n, B, d]` and `[n, B, d, d]`."""
        mean, cov = self.entering
        if len(mean) == 1:
            return Adjoints(torch.zeros_like(mean), torch.zeros_like(cov))
        a, _, _, eta, j = (e[1:] for e in self.summaries)
        mean, cov = mean[1:], cov[1:]
        eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
        g = torch.linalg.solve(eye + cov @ j, eye.expand_as(cov))
        u = _times(g.mT, eta - _times(j, mean))
        elements = (a @ g, u, _symmetric(j @ g))
        if self.layout.plan.tree:
            _, r, n = suffixes(_join_adjoints, elements)
            zero = torch.zeros_like(r[:1]), torch.zeros_like(n[:1])
            return Adjoints(torch.cat([r, zero[0]]), torch.cat([n, zero[1]]))
        found = [Adjoints(torch.zeros_like(mean[0]), torch.zeros_like(cov[0]))]
        for phi, u, n in reversed(list(zip(*(e.unbind(0) for e in elements), strict=True))):
            r = u + _times(phi.mT, found[-1].r)
            found.append(Adjoints(r, _symmetric(n + phi.mT @ found[-1].n @ phi)))
        return Adjoints(*(torch.stack(f[::-1]) for f in zip(*found, strict=True)))

    @cached_property
    def backward(self) -> tuple[Score | None, Score]:
        """The adjoints of each step, `[width, ..., rows]`, and of the first, `[..., B]`."""
        begun, did = self.begun
        if not self.steps:
            zero = Adjoints(begun.x[:, 0] * 0, begun.cov * 0)
            return None, self.first.retreat(zero, begun.cov, did)
        states, updates = self.forward
        ends = Adjoints(*(self.layout.to_rows(x) for x in self.leaving))
        now, found = Adjoints(ends.r[:, :0], ends.n[..., :0]), []
        for s, step in reversed(list(enumerate(self.steps))):
            if now.r.shape[-1] < step.count:
                joined = zip(now, ends, strict=True)
                new = slice(now.r.shape[-1], step.count)
                now = Adjoints(*(torch.cat([x, end[..., new]], -1) for x, end in joined))
            one = Updates(*(u[s, ..., : step.count] for u in updates))
            found.append(step.retreat(now, states.cov[s, ..., : step.count], one))
            now = step.back(found[-1].before)
        now = Adjoints(*(keep(x, end) for x, end in zip(now, ends, strict=True)))
        at_first = Adjoints(*(self.layout.to_grid(x)[0].movedim(0, -1) for x in now))
        return self._stack_scores(found[::-1]), self.first.retreat(at_first, begun.cov, did)

    def _stack_scores(self, scores: list[Score]) -> Score:
        stack = self.layout.stack
        after, before = (
            Adjoints(*(stack(list(x)) for x in zip(*part, strict=True)))
            for part in ([s.after for s in scores], [s.before for s in scores])
        )
        rest = (stack(list(x)) for x in zip(*(s[2:] for s in scores), strict=True))
        return Score(after, before, *rest)

    def _stacked(self, updates: list[Updates], rows: int) -> Updates:
        if updates:
            return Updates(*(torch.stack(u) for u in zip(*updates, strict=True)))
        d = self.model.mean.shape[-1]
        empty = self.model.mean.new_zeros(0, d, rows)
        return Updates(empty, empty[:, :1], empty[:, 0])


def _times(m: Tensor, x: Tensor) -> Tensor:
    return (m @ x.unsqueeze(-1)).squeeze(-1)


def _symmetric(m: Tensor) -> Tensor:
    return (m + m.mT) / 2


def _enter(mean: Tensor, cov: Tensor, block: Elements) -> tuple[Tensor, Tensor]:
    """Carry a filtered state through a block."""
    a, b, c, eta, j = block
    eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    told = torch.linalg.solve(eye + cov @ j, cov.expand_as(j))
    mean = mean + _times(told, eta - _times(j, mean))
    return _times(a, mean) + b, _symmetric(a @ told @ a.mT + c)


def _join(one: Elements, two: Elements) -> Elements:
    """Summarise two adjacent stretches (Särkkä and García-Fernández 2021, lemma 8)."""
    (a1, b1, c1, eta1, j1), (a2, b2, c2, eta2, j2) = one, two
    eye = torch.eye(a1.shape[-1], dtype=a1.dtype, device=a1.device)
    m = torch.linalg.solve(eye + c1 @ j2, eye.expand_as(c1))  # its transpose is (1 + J2 C1)^-1
    am = a2 @ m
    b = _times(am, b1 + _times(c1, eta2)) + b2
    ma = m @ a1
    eta = _times(ma.mT, eta2 - _times(j2, b1)) + eta1
    return am @ a1, b, _symmetric(am @ c1 @ a2.mT + c2), eta, _symmetric(ma.mT @ j2 @ a1 + j1)


def _join_adjoints(one: Elements, two: Elements) -> Elements:
    (phi1, u1, n1), (phi2, u2, n2) = one, two
    return phi2 @ phi1, u1 + _times(phi1.mT, u2), _symmetric(n1 + phi1.mT @ n2 @ phi1)
