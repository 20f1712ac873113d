r"""The linear-Gaussian state space, with which the Kalman filter reckons.

$z_1 \sim N(m, I)$, $z_t \sim N(A z_{t-1}, Q)$, $x_t \sim N(C z_t + d, R)$, with diagonal Q and R:
the hidden Markov model of which every CPD is linear Gaussian. The states are integrated out
exactly, so it learns by `dg.nll(p, observed=["x"])`; `dg.posterior(p, "z", given={"x": x})` is
the smoother.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal

import daguerre as dg

__all__ = ["StateSpace", "learn"]


class StateSpace(dg.Model):
    """States `[n, T, latent]` that move linearly, seen in x `[n, T, observed]` with noise.

    Other bases of z give the same p(x): of what is learned, only that has a meaning.

    References:
        Kalman (1960), *A new approach to linear filtering and prediction problems*; Roweis and
        Ghahramani (1999), *A unifying review of linear Gaussian models*.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> p = StateSpace(2, 3)
        >>> x = p.sample(5, t=7)["x"]
        >>> dg.posterior(p, "z", given={"x": x}).mean.shape
        torch.Size([5, 7, 2])
    """

    def __init__(self, latent: int, observed: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(latent))
        self.move = nn.Linear(latent, latent, bias=False)
        self.see = nn.Linear(latent, observed)
        self.log_q, self.log_r = (nn.Parameter(torch.zeros(d)) for d in (latent, observed))
        self.move.weight.data.copy_(0.9 * torch.eye(latent))

    @dg.rv
    def z(self, last: Tensor = dg.lag("z", init=lambda self: Normal(self.start, 1.0))):
        return Normal(self.move(last), self.log_q.exp())

    @dg.rv
    def x(self, z: Tensor):
        return Normal(self.see(z), self.log_r.exp())


def learn(x: Tensor, latent: int, *, steps: int = 200, lr: float = 0.03) -> StateSpace:
    """Fit a state space by the gradient of its exact likelihood.

    Args:
        x: Sequences `[n, T, d]`; NaN is missing, or beyond the end.
        latent: The size of a state.
        steps: Of the optimiser, on all sequences together.
        lr: Its learning rate.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = 5.0 + 0.1 * torch.randn(20, 10, 1)  # nothing moves
        >>> round(learn(x, 1, steps=40, lr=0.1).log_r.exp().item(), 1)
        0.1
    """
    p = StateSpace(latent, x.shape[2])
    with torch.no_grad():
        p.see.bias.copy_(x.nanmean((0, 1)))
    cost = dg.nll(p, observed=["x"], partial=["x"])
    dg.fit(cost, x, steps=steps, batch_size=len(x), lr=lr, progress=False)
    return p
