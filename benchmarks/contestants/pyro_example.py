"""Pyro: the deep Markov model of its examples, all as there but for names and where data is from.

Pyro checks arguments, as it does by default; pieces are packed, the longest first; emissions are
probabilities; the states' terms are scaled, for annealing, here by 1; one `ClippedAdam` for each
tensor, with a bound that no gradient reaches, so that losses agree. Left out, as the others have
none: the decay of weights.
"""

from __future__ import annotations

from itertools import cycle

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from contestants import Step
from contestants.chain_nets import Nets, backwards
from problem import Array, Chain

__all__ = ["eager"]

Batch = tuple[Tensor, PackedSequence, Tensor, Tensor]


class Music(Nets):
    """Model and guide."""

    def model(
        self, x: Tensor, turned: PackedSequence, mask: Tensor, lengths: Tensor, rate: float
    ) -> None:
        """Declare p."""
        pyro.module("music", self)
        z = self.first.expand(len(x), -1)
        with pyro.plate("pieces", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                there = mask[:, t : t + 1]
                with poutine.scale(scale=rate):
                    law = dist.Normal(*self.transition(z)).mask(there).to_event(1)
                    z = pyro.sample(f"z_{t}", law)
                keys = dist.Bernoulli(torch.sigmoid(self.emitter(z))).mask(there).to_event(1)
                pyro.sample(f"x_{t}", keys, obs=x[:, t])

    def guide(
        self, x: Tensor, turned: PackedSequence, mask: Tensor, lengths: Tensor, rate: float
    ) -> None:
        """Declare q."""
        pyro.module("music", self)
        packed, _ = self.reader(turned, self.end.expand(-1, len(x), -1).contiguous())
        read = backwards(pad_packed_sequence(packed, batch_first=True)[0], lengths)
        z = self.guided.expand(len(x), -1)
        with pyro.plate("pieces", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                law = dist.Normal(*self.combiner(z, read[:, t]))
                with poutine.scale(scale=rate):
                    z = pyro.sample(f"z_{t}", law.mask(mask[:, t : t + 1]).to_event(1))


def eager(chain: Chain) -> Step:
    """One call of `SVI.step`, with batches that have been packed before."""
    music, of = Music(chain), cycle([_packed(*batch) for batch in chain.batches])
    optimizer = ClippedAdam({"lr": chain.lr, "clip_norm": 1e10, "lrd": 0.99996})
    svi = SVI(music.model, music.guide, optimizer, loss=Trace_ELBO())
    return lambda: svi.step(*next(of), 1.0) / chain.batch_size


def _packed(x: Array, lengths: Array) -> Batch:
    """Return pieces, the same backwards and packed, which steps there are, and their lengths."""
    order = (-lengths).argsort(kind="stable")
    pieces, own = torch.from_numpy(x[order]), torch.from_numpy(lengths[order])
    mask = (torch.arange(x.shape[1]) < own[:, None]).float()
    turned = pack_padded_sequence(backwards(pieces, own), own, batch_first=True)
    return pieces, turned, mask, own
