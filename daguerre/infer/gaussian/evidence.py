"""Condition a Gaussian on some of its components, however singular it is."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Conditioned", "atoms_win", "condition"]

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Conditioned(NamedTuple):
    r"""What is known of the noise $\epsilon$ once $A \epsilon$ is known.

    Given the evidence, $\epsilon$ is `noise` plus standard noise from which the part in the span
    of `basis` is taken away: a variable $m + T \epsilon$ has the mean $m + T \cdot$ `noise` and
    the covariance $F F^T$ with $F = T - T Q^T Q$, which loses no digits and is never negative.

    Attributes:
        log_prob: Log-density of the evidence, `[*batch, rows]`; -inf where it contradicts itself.
        atoms: How many components are functions of those before, `[*batch]`; they have a
            probability (0 or 1) and no density.
        basis: Q, `[*batch, o, e]`: orthonormal rows, or zeros for atoms and missing components.
        noise: `[*batch, e, rows]`.
    """

    log_prob: Tensor
    atoms: Tensor
    basis: Tensor
    noise: Tensor


def condition(
    factor: Tensor,
    residual: Tensor,
    *,
    present: Tensor | None = None,
    slack: Tensor | float = 0.0,
    eps: float | None = None,
) -> Conditioned:
    r"""Condition on $A \epsilon = r$, with $\epsilon \sim N(0, I)$.

    The density is that of the chain $\prod_i p(r_i \mid r_1 \dots r_{i-1})$, in the order of the
    components. A component that is a function of those before has no density, and is a check
    instead: the evidence is impossible unless it has the value of that function. $A = L Q$ by
    Householder reflections; where there are atoms, by projections. No covariance is formed, so
    standard deviations are told from zero down to 1e-10 of what they would be without evidence.

    Args:
        factor: A, `[*batch, o, e]`.
        residual: r, `[*batch, o, rows]`: rows that share one A.
        present: Whether a component is observed, `[*batch, o]`; all if None.
        slack: What a check may be off by, `[*batch, o, rows]`, besides rounding of A.
        eps: Relative precision of A; that of its type if None. Of a row, `eps**0.65` of its norm
            counts as zero.

    Example:
        >>> found = condition(torch.tensor([[2.0], [4.0]]), torch.tensor([[1.0, 1.0], [2.0, 3.0]]))
        >>> found.log_prob, found.atoms
        (tensor([-1.7371,    -inf]), tensor(1))
    """
    eps = torch.finfo(factor.dtype).eps if eps is None else eps
    everything = torch.ones(factor.shape[:-1], dtype=torch.bool, device=factor.device)
    present = everything if present is None else present
    factor, residual = factor * present[..., None], residual * present[..., None]
    size = torch.linalg.vector_norm(factor.detach(), dim=-1)
    least = eps**0.65 * size
    found = _by_reflections(factor, present, least) or _by_projections(factor, least)
    lower, basis, free = found
    z = torch.linalg.solve_triangular(lower, residual, upper=False)
    free = free & present
    terms = -0.5 * z.square() - lower.diagonal(dim1=-2, dim2=-1).log()[..., None] - HALF_LOG_TWO_PI
    log_prob = torch.where(free[..., None], terms, 0.0).sum(-2)
    check = present & ~free
    allowed = slack + eps**0.6 * size[..., None]
    possible = ~(check[..., None] & (z.abs() > allowed)).any(-2)
    log_prob = torch.where(possible, log_prob, -math.inf)
    return Conditioned(log_prob, check.sum(-1), basis, basis.mT @ z)


def atoms_win(log_prob: Tensor, atoms: Tensor, possible: Tensor | None = None) -> Tensor:
    """Give what has fewer atoms than another consistent alternative the log-weight -inf.

    A point mass outweighs any density: where some alternative explains more components exactly,
    those that explain fewer have no part of the posterior.

    Args:
        log_prob: Log-densities of the evidence, `[rows, *alternatives]`.
        atoms: Numbers of components without density, `[rows or 1, *alternatives]`.
        possible: Which alternatives have a positive weight elsewhere, of the same shape.

    Example:
        >>> atoms_win(torch.tensor([[-2.0, 0.0], [-2.0, -torch.inf]]), torch.tensor([[0, 1]]))
        tensor([[-inf,  0.],
                [-2., -inf]])
    """
    atoms = atoms.expand(log_prob.shape)
    alive = log_prob > -math.inf
    alive = alive if possible is None else alive & possible
    most = torch.where(alive, atoms, -1).unsqueeze(-1).flatten(1).amax(1)
    return torch.where(atoms >= most.reshape(-1, *[1] * (atoms.dim() - 1)), log_prob, -math.inf)


class _Split(NamedTuple):
    """A = L Q, and which components are no atoms."""

    lower: Tensor
    basis: Tensor
    free: Tensor


def _by_reflections(factor: Tensor, present: Tensor, least: Tensor) -> _Split | None:
    """Return L, Q and what is no atom, of A = L Q; None where there may be atoms."""
    o, e = factor.shape[-2:]
    whole = factor
    if not present.all():  # a missing component, of which the row is zero, is noise of its own
        own = torch.diag_embed((~present).to(factor.dtype)).expand(*factor.shape[:-1], o)
        whole = torch.cat([factor, own], -1)
    if o > whole.shape[-1]:
        return None
    q, r = torch.linalg.qr(whole.mT)
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    if (diagonal.abs() <= least).any():
        return None
    sign = diagonal.detach().sign()
    return _Split((r * sign[..., None]).mT, (q * sign[..., None, :]).mT[..., :e], present)


def _by_projections(factor: Tensor, least: Tensor) -> _Split:
    """Return the same by Gram-Schmidt, each step done twice; atoms have 1 in L and 0 in Q."""
    o = factor.shape[-2]
    basis, lower, free = factor[..., :0, :], [], []
    for i in range(o):
        rest, along = factor[..., i, :, None], factor.new_zeros(())
        for _ in range(2):  # once leaves what rounding adds (Giraud et al. 2005)
            part = basis @ rest
            rest, along = rest - basis.mT @ part, along + part
        square = rest.square().sum((-2, -1))
        free.append(square > least[..., i].square())
        length = torch.where(free[-1], square, 1.0).sqrt()[..., None]
        unit = torch.where(free[-1][..., None], rest[..., 0], 0.0) / length
        basis = torch.cat([basis, unit[..., None, :]], -2)
        zeros = factor.new_zeros(*length.shape[:-1], o - i - 1)
        lower.append(torch.cat([along[..., 0], length, zeros], -1))
    return _Split(torch.stack(lower, -2), basis, torch.stack(free, -1))
