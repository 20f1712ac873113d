"""Pyro: `SVI` with `Trace_ELBO`, one site per time step, made faster than its example.

Nothing is checked, scaled or packed, emissions are logits, and Adam is torch's.
"""

from __future__ import annotations

import pyro
from pyro import distributions as dist
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from contestants import Step
from contestants.chain_nets import Nets, batches
from problem import Chain

__all__ = ["eager"]


class Music(Nets):
    """Model and guide."""

    def model(self, x: Tensor, turned: Tensor, mask: Tensor) -> None:
        """Declare p."""
        pyro.module("music", self)
        z = self.first.expand(len(x), -1)
        with pyro.plate("pieces", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                there = mask[:, t, None]
                law = dist.Normal(*self.transition(z)).mask(there).to_event(1)
                z = pyro.sample(f"z_{t}", law)
                keys = dist.Bernoulli(logits=self.emitter(z)).mask(there).to_event(1)
                pyro.sample(f"x_{t}", keys, obs=x[:, t])

    def guide(self, x: Tensor, turned: Tensor, mask: Tensor) -> None:
        """Declare q."""
        pyro.module("music", self)
        read = self.read(turned, mask)
        z = self.guided.expand(len(x), -1)
        with pyro.plate("pieces", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                law = dist.Normal(*self.combiner(z, read[:, t]))
                z = pyro.sample(f"z_{t}", law.mask(mask[:, t, None]).to_event(1))


def eager(chain: Chain) -> Step:
    """One call of `SVI.step`: model and guide run as Python."""
    pyro.enable_validation(is_validate=False)
    music, of = Music(chain), batches(chain)
    optimizer = pyro.optim.Adam({"lr": chain.lr})
    svi = SVI(music.model, music.guide, optimizer, loss=Trace_ELBO())
    return lambda: svi.step(*next(of)) / chain.batch_size
