"""The deep Markov model and its smoother, against loops by hand."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

import daguerre as dg
from daguerre.gallery.dmm import DeepMarkov, Smoother, music

KEYS, LATENT = 5, 3


def pieces() -> Tensor:
    """Three pieces of 6, 4 and 1 steps."""
    torch.manual_seed(0)
    x = torch.rand(3, 6, KEYS).round()
    x[1, 4:] = x[2, 1:] = torch.nan
    return x


def models() -> tuple[DeepMarkov, Smoother]:
    torch.manual_seed(1)
    return DeepMarkov(KEYS, LATENT, 4, 6), Smoother(KEYS, LATENT, 7)


def by_hand(p: DeepMarkov, q: Smoother, x: Tensor) -> Tensor:
    """The bound of each piece, with the noise that is drawn for those that last, step by step."""
    count = (~x[..., 0].isnan()).sum(1)
    b = torch.zeros(*x.shape[:2], 7)
    for i, steps in enumerate(count.tolist()):
        after = q.end[None]
        for t in reversed(range(steps)):
            after = q.cell(x[i, t][None], after)
            b[i, t] = after[0]
    last, before, total = q.start.expand(3, -1), p.start.expand(3, -1), torch.zeros(3)
    for t in range(x.shape[1]):
        law = q.z(b[:, t], last)
        noise = torch.zeros(3, LATENT)
        noise[t < count] = torch.randn(int((t < count).sum()), LATENT)
        z = law.loc + law.scale * noise
        term = kl_divergence(law, p.z(before)).sum(1)
        logits = p.emit(z)
        term += binary_cross_entropy_with_logits(
            logits, x[:, t].nan_to_num(), reduction="none"
        ).sum(1)
        total = total + torch.where(t < count, term, 0.0)
        last = before = z
    return total


def test_the_bound_is_that_of_a_loop_by_hand_with_its_gradients():
    x, (p, q) = pieces(), models()
    weights = [*p.parameters(), *q.parameters()]
    torch.manual_seed(2)
    ours = dg.elbo(p, q, partial=["x"]).losses({"x": x})["model"]
    torch.manual_seed(2)
    theirs = by_hand(p, q, x).mean()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, weights),
        torch.autograd.grad(theirs, weights),
        atol=1e-5,
        rtol=1e-4,
    )


def test_a_state_moves_as_the_gate_says():
    p, _ = models()
    last = torch.randn(4, LATENT)
    gate = p.gate(last).sigmoid()
    law = p.z(last)
    mean = (1 - gate) * p.linear(last) + gate * p.proposal(last)
    assert isinstance(law, Normal)
    torch.testing.assert_close(law.loc, mean)
    torch.testing.assert_close(p.linear(last), last)  # it begins as the identity


@pytest.mark.slow
def test_music_is_learned_from_pieces_of_different_length():
    torch.manual_seed(0)
    beat = torch.eye(KEYS).repeat(1, 3, 1).expand(64, -1, -1).clone()
    beat[::2, 8:] = torch.nan
    game = music(KEYS, LATENT, anneal=50)
    history = dg.fit(game.objective, {"x": beat}, steps=300, batch_size=32, progress=False)
    assert history["model"][-20:].mean() < 0.5 * history["model"][:20].mean()
