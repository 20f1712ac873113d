r"""Hidden Markov models that differ in one CPD: letters, Gaussians, keys of a piano, a net, kinds.

$p(z_{1:T}, x_{1:T}) = \prod_t p(z_t \mid z_{t-1})\, p(x_t \mid z_t)$. The states are summed out
exactly, so each learns by `dg.nll(p, observed=["x"])`; letters and Gaussians, whose CPDs are
tables and linear Gaussians, also by `dg.em(p, {"x": x})`. Sequences `[n, T, *event]` may lack
steps, and shorter ones their last steps: NaN, or -1 for letters, named in `partial=["x"]`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli
from torch.nn.functional import one_hot

import daguerre as dg

__all__ = ["Gaussians", "Keys", "Kinds", "Letters", "NeuralKeys", "States"]

TIME = dg.Plate("t")


class States(dg.Model):
    """The hidden chain alone: tables that begin near even and stay where they are by half."""

    def __init__(self, states: int) -> None:
        super().__init__()
        near_even = torch.rand(states, states) + 1
        stay = near_even / near_even.sum(1, keepdim=True) / 2 + torch.eye(states) / 2
        self.first = dg.Tabular(torch.full([states], 1 / states))
        self.move = dg.Tabular(stay, "last")

    @dg.rv
    def z(self, last: Tensor = dg.lag("z", init=lambda self: self.first())):
        return self.move(last)


class Letters(States):
    """Each state has a table of letters: x is `[n, T]` of numbers 0, 1, ...

    References:
        Rabiner (1989), *A tutorial on hidden Markov models and selected applications in speech
        recognition*.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> p, x = Letters(2, 3), torch.tensor([[0, 0, 0, 1, 1, 1, -1, -1]])
        >>> dg.em(p, {"x": x}, steps=50).log_evidence[-1] > -4.0
        tensor(True)
    """

    def __init__(self, states: int, letters: int) -> None:
        super().__init__(states)
        rough = torch.rand(states, letters) + 0.5
        self.see = dg.Tabular(rough / rough.sum(1, keepdim=True), "z")

    @dg.rv
    def x(self, z: Tensor):
        return self.see(z)


class Gaussians(States):
    """Each state has a Gaussian: x is `[n, T, d]`.

    Args:
        x: Data, at steps of which the Gaussians begin.
        states: How many there are.
    """

    def __init__(self, x: Tensor, states: int) -> None:
        super().__init__(states)
        rows = x.flatten(0, 1)
        rows = rows[~rows.isnan().any(1)]
        means = rows[torch.randperm(len(rows))[:states]]
        self.see = dg.LinearGaussian(means, rows.std(0).expand_as(means), given=["z"])

    @dg.rv
    def x(self, z: Tensor):
        return self.see(z)


class Keys(States):
    """Each state has a chance for each key: x is `[n, T, keys]` of 0 and 1.

    Args:
        rate: How often each key sounds in the data, `[keys]`.
        states: How many there are.
    """

    def __init__(self, rate: Tensor, states: int) -> None:
        super().__init__(states)
        logits = rate.clamp(1e-3, 1 - 1e-3).logit()
        self.logits = nn.Parameter(logits + 0.5 * torch.randn(states, len(rate)))

    @dg.rv
    def x(self, z: Tensor):
        return Bernoulli(logits=self.logits[z])


class NeuralKeys(States):
    """A net of the state and of the chord before has the chances: $p(x_t | z_t, x_{t-1})$."""

    def __init__(self, keys: int, states: int, hidden: int = 64) -> None:
        super().__init__(states)
        self.states, self.net = states, dg.nn.mlp(states + keys, hidden, keys)
        self.register_buffer("silence", torch.zeros(keys))

    @dg.rv
    def x(self, z: Tensor, before: Tensor = dg.lag("x", init=lambda self: self.silence)):
        state = one_hot(z, self.states).to(before.dtype)
        return Bernoulli(logits=self.net(torch.cat([state, before], 1)))


class Kinds(dg.Model):
    """Sequences of letters of several kinds, each of which moves by a table of its own.

    The cluster of a sequence is outside the plate t, so it holds for all time: a mixture of hidden
    Markov models, which `dg.posterior(p, "cluster", given={"x": x})` sorts sequences by.

    References:
        Smyth (1997), *Clustering sequences with hidden Markov models*.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> turns, stays = torch.arange(24) % 2, torch.arange(24) // 6 % 2
        >>> x = torch.stack([turns, stays, 1 - turns, 1 - stays])
        >>> p = Kinds(2, 2, 2)
        >>> cost, optimizer = dg.nll(p, observed=["x"]), dg.Adam(lr=0.1)
        >>> _ = dg.fit(cost, x, steps=100, optimizer=optimizer, progress=False)
        >>> dg.posterior(p, "cluster", given={"x": x}).probs.round().detach()
        tensor([[1., 0.],
                [0., 1.],
                [1., 0.],
                [0., 1.]])
    """

    def __init__(self, kinds: int, states: int, letters: int) -> None:
        super().__init__()
        move, see = torch.rand(kinds, states, states) + 0.5, torch.rand(states, letters) + 0.5
        self.share = dg.Tabular(torch.full([kinds], 1 / kinds))
        self.move = dg.Tabular(move / move.sum(2, keepdim=True), "cluster", "last")
        self.see = dg.Tabular(see / see.sum(1, keepdim=True), "z")

    @dg.rv
    def cluster(self):
        return self.share()

    @TIME
    @dg.rv
    def z(self, cluster: Tensor, last: Tensor = dg.lag("z", init=0)):
        return self.move(cluster, last)

    @TIME
    @dg.rv
    def x(self, z: Tensor):
        return self.see(z)
