"""Gallery models without time: mixtures, factor analysis, a masked net."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

import daguerre as dg
from daguerre.gallery import factor_analysis, gmm, made


def close(a: Tensor, b: Tensor, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def part(p: dg.Model, name: str) -> Tensor:
    return dict(p.named_parameters())[name].detach()


# Mixtures


def clusters(n: int) -> tuple[Tensor, Tensor]:
    """Three clusters of unlike shapes, and who belongs to which."""
    k = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, replacement=True)
    means = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 7.0]]).double()
    shapes = torch.tensor([[[1.0, 0.0], [0.8, 0.5]], [[0.5, 0], [0, 1.5]], [[1.0, 0], [-0.5, 1]]])
    return k, means[k] + (shapes.double()[k] @ r(n, 2, 1)).squeeze(2)


def test_the_density_of_a_mixture_is_the_sum_over_its_components():
    x = r(7, 2)
    p = gmm.mixture(x, 3)
    means, factor = part(p, "x.bias"), part(p, "x.scale_tril")
    assert len(means.unique(dim=0)) == 3
    assert all((x == mean).all(1).any() for mean in means)
    each = [
        MultivariateNormal(m, scale_tril=s).log_prob(x) for m, s in zip(means, factor, strict=True)
    ]
    close(dg.log_evidence(p, {"x": x}).detach(), torch.stack(each).logsumexp(0) - math.log(3))


def test_a_mixture_finds_clusters_of_unlike_shapes():
    k, x = clusters(600)
    p = gmm.learn(x, 3)
    found = dg.posterior(p, "k", given={"x": x}).probs.argmax(1)
    agreement = max(
        (torch.tensor(order)[found] == k).double().mean().item()
        for order in itertools.permutations(range(3))
    )
    assert agreement > 0.97
    assert sorted(part(p, "k.logits").softmax(0).tolist()) == pytest.approx(
        [0.2, 0.3, 0.5], abs=0.04
    )


def test_a_mixture_of_more_components_than_points_is_refused():
    with pytest.raises(ValueError, match="2 points start 1 to 2 components, not 3"):
        gmm.mixture(r(2, 2), 3)


# Probabilistic PCA and factor analysis


def log_likelihood(p: dg.Model, x: Tensor) -> Tensor:
    return dg.log_evidence(p, {"x": x}).mean()


def test_the_density_of_a_linear_decoder_is_one_gaussian():
    weight, mean, scale, x = r(4, 2), r(4), r(4).exp(), r(5, 4)
    p = factor_analysis.linear_decoder(weight, mean, scale)
    dense = MultivariateNormal(mean, weight @ weight.T + scale.square().diag())
    close(dg.log_evidence(p, {"x": x}).detach(), dense.log_prob(x))


def test_pca_is_where_the_gradient_of_the_likelihood_is_zero():
    x = r(200, 5) @ r(5, 5) + 3
    p = factor_analysis.ppca(x, 2)
    loss = dg.nll(p, observed=["x"]).losses(x)["model"]
    names, parameters = zip(*p.named_parameters(), strict=True)
    slopes = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    close(slopes.pop("x.log_scale").sum(), torch.zeros(()).double())  # they are one number
    for slope in slopes.values():
        close(slope, torch.zeros_like(slope))
    size = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    left = size[2:].mean()
    known = 5 * math.log(2 * math.pi) + size[:2].log().sum() + 3 * left.log() + 5
    close(loss.detach(), known / 2)  # Tipping and Bishop (1999), equation 8


def test_factor_analysis_is_above_pca_and_where_the_gradient_is_zero():
    x = r(400, 2) @ r(2, 6) + torch.tensor([0.6, 0.8, 1.0, 1.0, 1.2, 2.0]) * r(400, 6)
    p = factor_analysis.factor_analysis(x, 2, steps=200)
    assert log_likelihood(p, x) > log_likelihood(factor_analysis.ppca(x, 2), x) + 0.05
    loss = dg.nll(p, observed=["x"]).losses(x)["model"]
    slopes = torch.autograd.grad(loss, [*p.parameters()])
    assert max(slope.abs().max() for slope in slopes) < 2e-3


def test_factor_analysis_fills_in_what_rows_lack():
    z = r(500, 1)
    x = z * torch.tensor([1.0, -1.0, 2.0]) + 0.1 * r(500, 3)
    holed = x.masked_fill(torch.rand(500, 3) < 0.2, math.nan)
    p = factor_analysis.factor_analysis(holed, 1, steps=60)
    close(part(p, "x.log_scale").exp(), torch.full([3], 0.1).double(), 0.05)
    found = dg.posterior(p, "z", given={"x": holed}).mean.squeeze(1)
    assert torch.corrcoef(torch.stack([found, z.squeeze(1)]))[0, 1].abs() > 0.97


@pytest.mark.parametrize("latent", [0, 3])
def test_a_latent_as_wide_as_the_data_is_refused(latent: int):
    with pytest.raises(ValueError, match=f"z has 1 to 2, not {latent}"):
        factor_analysis.ppca(r(9, 3), latent)


# A masked net


@pytest.mark.parametrize("hidden", [(), (16,), (16, 32)])
def test_a_masked_net_sums_to_one_and_sees_only_what_comes_before(hidden: tuple[int, ...]):
    p = made.MADE(7, *hidden)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 7)
    close(p.log_prob({"x": every}).exp().sum(), torch.ones(()), 1e-5)
    slopes = torch.autograd.functional.jacobian(p.net, torch.rand(7))
    assert torch.equal(slopes, slopes.tril(-1))
    assert (slopes.abs().sum(0)[:6] > 0).all()  # and each component is seen by some


def test_draws_of_a_masked_net_have_its_probabilities():
    p = made.MADE(3, 16)
    with torch.no_grad():
        for q in p.parameters():
            q.mul_(4)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    want = p.log_prob({"x": every}).exp()
    x = p.sample(20_000)["x"]
    share = (x @ torch.tensor([4.0, 2.0, 1.0])).long().bincount(minlength=8) / 20_000
    assert ((share - want).abs() < 5 * (want * (1 - want) / 20_000).sqrt() + 1e-4).all()


def test_a_masked_net_learns_that_a_bit_is_the_sum_of_two_others():
    x = torch.randint(2, (512, 3)).float()
    x[:, 2] = (x[:, 0] + x[:, 1]) % 2
    p = made.MADE(3, 32)
    dg.fit(dg.nll(p), x, steps=300, lr=0.03, progress=False)
    assert -p.log_prob({"x": x}).mean().item() < 2 * math.log(2) + 0.02


def test_the_game_of_a_masked_net_is_played_on_pictures():
    game, x = made.made(16), torch.bernoulli(torch.full([64, 16], 0.1))
    before = game.objective.losses(x)["model"]
    dg.fit(game.objective, x, steps=60, batch_size=64, lr=0.003, progress=False)
    assert game.objective.losses(x)["model"] < before - 5
