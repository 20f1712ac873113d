r"""Switching linear dynamics: a hidden state moves linearly, by one of several laws in turn.

$k_t \sim p(k_t \mid k_{t-1})$, $z_t \sim N(A_{k_t} z_{t-1} + b_{k_t}, Q_{k_t})$,
$x_t \sim N(C z_t + d, R)$. Given all regimes k it is a state space, but there are $K^T$ paths of
them: exact inference ends at a few steps, on the plain graph `p.unroll(T)`. Longer
sequences are filtered by particles, `dg.posterior(p, ["k", "z"], given={"x": x},
method=dg.infer.SMC(1000))`, whose evidence is unbiased and has a variance that grows with T.
"""

from __future__ import annotations

import torch
from torch import Tensor

import daguerre as dg

__all__ = ["Switching", "learn"]


class Switching(dg.Model):
    """Regimes `[n, T]`, states `[n, T, latent]` and what is seen, `[n, T, observed]`.

    References:
        Ghahramani and Hinton (2000), *Variational learning for switching state-space models*;
        Murphy (1998), *Switching Kalman filters*.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = Switching(2, 1, 1).sample(4, t=5)["x"]
        >>> x.shape
        torch.Size([4, 5, 1])
    """

    def __init__(self, regimes: int, latent: int, observed: int) -> None:
        super().__init__()
        self.first = dg.Tabular(torch.full([regimes], 1 / regimes))
        self.start = dg.LinearGaussian(torch.zeros(latent), torch.ones(latent))
        self.turn = dg.Tabular(0.8 * torch.eye(regimes) + 0.2 / regimes, "last")
        near_one = 0.9 * torch.eye(latent) + 0.1 * torch.randn(regimes, latent, latent)
        self.move = dg.LinearGaussian(
            torch.randn(regimes, latent),
            torch.full([regimes, latent], 0.5),
            weights={"last": near_one},
            given=["k"],
        )
        self.see = dg.LinearGaussian(
            torch.zeros(observed),
            torch.full([observed], 0.5),
            weights={"z": torch.eye(observed, latent)},
        )

    @dg.rv
    def k(self, last: Tensor = dg.lag("k", init=lambda self: self.first())):
        return self.turn(last)

    @dg.rv
    def z(self, k: Tensor, last: Tensor = dg.lag("z", init=lambda self: self.start())):
        return self.move(last, k)

    @dg.rv
    def x(self, z: Tensor):
        return self.see(z)


def learn(p: Switching, x: Tensor, *, steps: int = 200, lr: float = 0.05) -> dg.Objective:
    """Fit by the gradient of the exact likelihood of short sequences, in place.

    Args:
        p: The model.
        x: Sequences `[n, T, d]`; time and memory are exponential in T, so of a few steps, such as
            windows of a long one (whose law of the first state is then that of any state).
        steps: Of the optimiser.
        lr: Its learning rate.

    Returns:
        The cost, in nats per sequence.
    """
    plain = p.unroll(x.shape[1])
    data = plain.apart({"x": x})
    cost = dg.nll(plain, observed=list(data))
    dg.fit(cost, data, steps=steps, batch_size=min(256, len(x)), lr=lr, progress=False)
    return cost
