"""The variational recurrent net against a loop written by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

import daguerre as dg
from daguerre.gallery import vrnn


def by_hand(p: vrnn.VRNN, q: vrnn.Encoder, x: Tensor) -> Tensor:
    """Return minus the bound of whole sequences, `[n]`, KL terms in closed form."""
    n, costs = len(x), []
    h, z, last = torch.zeros(n, p.hidden), torch.zeros(n, p.latent), torch.zeros(n, p.pixels)
    for one in x.unbind(1):
        h = p.cell(torch.cat([z, last], 1), h)
        mean, log_scale = q.encode(torch.cat([one, h], 1)).chunk(2, 1)
        posterior = Normal(mean, log_scale.exp())
        z = posterior.rsample()
        mean, log_scale = p.prior(h).chunk(2, 1)
        kl = kl_divergence(posterior, Normal(mean, log_scale.exp())).sum(1)
        costs.append(kl - Bernoulli(logits=p.decode(torch.cat([z, h], 1))).log_prob(one).sum(1))
        last = one
    return torch.stack(costs, 1).sum(1)


def test_the_bound_is_the_loop_with_its_gradients():
    torch.manual_seed(0)
    game = vrnn.piano_rolls(5, 2, 8)
    p, q = game.p, game.q
    assert isinstance(p, vrnn.VRNN)
    assert isinstance(q, vrnn.Encoder)
    x, of = (torch.rand(3, 4, 5) > 0.5).float(), [*q.parameters()]
    torch.manual_seed(1)
    ours = dg.elbo(p, q).losses({"x": x})["model"]
    torch.manual_seed(1)
    theirs = by_hand(p, q, x).mean()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, of), torch.autograd.grad(theirs, of))


def test_shorter_sequences_count_their_steps_alone():
    torch.manual_seed(0)
    game = vrnn.piano_rolls(5, 2, 8)
    x = (torch.rand(1, 6, 5) > 0.5).float()
    padded = torch.cat([x[:, :4], torch.full((1, 2, 5), math.nan)], 1)
    losses = []
    for one in (padded, x[:, :4]):
        torch.manual_seed(2)
        losses.append(game.objective.losses({"x": one})["model"])
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.slow
def test_it_learns_an_alternation():
    torch.manual_seed(0)
    start = torch.randint(2, (64, 1))
    x = ((torch.arange(12) + start) % 2)[..., None].expand(-1, -1, 4).float()
    game = vrnn.piano_rolls(4, 2, 16)
    dg.fit(game.objective, x, steps=300, batch_size=32, lr=1e-2, progress=False)
    assert game.objective.losses({"x": x})["model"] < 3.0  # independent keys: 48 log 2 = 33.3
