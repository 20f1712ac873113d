"""Gaussians and mixtures as distributions: moments, draws, densities, singular ones too."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from daguerre.graph import GraphError
from daguerre.infer.gaussian import Gaussian, GaussianMixture

INF = math.inf


def regular(*batch, d=3, seed=0):
    """A random regular mean and covariance."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(*batch, d, d, generator=generator, dtype=torch.float64)
    mean = torch.randn(*batch, d, generator=generator, dtype=torch.float64)
    return mean, root @ root.mT + 0.1 * torch.eye(d, dtype=torch.float64)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


# Gaussian


def test_a_regular_gaussian_is_that_of_torch():
    mean, cov = regular(2, 5)
    ours, torchs = Gaussian(mean, cov), MultivariateNormal(mean, cov)
    x = torch.randn(7, 2, 5, 3).double()
    torch.testing.assert_close(ours.log_prob(x), torchs.log_prob(x))
    torch.testing.assert_close(ours.variance, torchs.variance)
    assert ours.mean is mean
    assert (ours.batch_shape, ours.event_shape) == ((2, 5), (3,))
    assert ours.sample((4, 1)).shape == (4, 1, 2, 5, 3)


def test_a_scalar_and_a_matrix_are_events_too():
    scalar = Gaussian(tensor([1.0, 2.0]), tensor([[[4.0]], [[9.0]]]))
    x = tensor([0.0, 5.0])
    torch.testing.assert_close(
        scalar.log_prob(x), Normal(tensor([1.0, 2.0]), tensor([2, 3])).log_prob(x)
    )
    assert scalar.variance.tolist() == [4.0, 9.0]
    mean, cov = regular(2, d=6)
    matrix = Gaussian(mean.reshape(2, 2, 3), cov)
    assert matrix.event_shape == (2, 3)
    y = torch.randn(5, 2, 2, 3).double()
    expected = MultivariateNormal(mean, cov).log_prob(y.flatten(2))
    torch.testing.assert_close(matrix.log_prob(y), expected)
    torch.testing.assert_close(matrix.variance.flatten(1), cov.diagonal(dim1=1, dim2=2))
    assert matrix.sample((4,)).shape == (4, 2, 2, 3)


def test_one_covariance_serves_a_batch():
    mean, cov = regular(4)
    shared = Gaussian(mean, cov[:1])
    assert shared.batch_shape == (4,)
    assert shared.covariance_matrix.shape == (4, 3, 3)
    x = torch.randn(4, 3).double()
    expected = MultivariateNormal(mean, cov[0]).log_prob(x)
    torch.testing.assert_close(shared.log_prob(x), expected)


@pytest.mark.parametrize(
    "cov",
    [
        regular()[1],
        tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]),
        tensor([[1e-8, 1e-2, 0.0], [1e-2, 1e4, 0.0], [0.0, 0.0, 1.0]]),
        torch.zeros(3, 3).double(),
    ],
    ids=["regular", "singular", "scales", "zero"],
)
def test_draws_have_the_moments_even_if_singular(cov):
    mean = tensor([1.0, -1.0, 2.0])
    gaussian = Gaussian(mean, cov)
    scale = cov.diagonal().sqrt()
    torch.testing.assert_close(gaussian.factor @ gaussian.factor.mT, cov, rtol=1e-9, atol=1e-12)
    n = 20_000
    off = (gaussian.sample((n,)) - mean) / torch.where(scale > 0, scale, 1.0)
    correlation = cov / torch.where(scale > 0, scale, 1.0).outer(
        torch.where(scale > 0, scale, 1.0)
    )
    assert off.mean(0).abs().max() < 5 / math.sqrt(n)  # five standard errors
    assert (off.mT @ off / n - correlation).abs().max() < 5 * math.sqrt(2 / n)


def test_a_singular_density_is_that_of_the_chain_of_components():
    line = Gaussian(tensor([1.0, 0.0, 3.0]), tensor([[4.0, 0, 2], [0, 0, 0], [2, 0, 1]]))
    on, off, aside = [2.0, 0.0, 3.5], [2.0, 0.0, 3.6], [2.0, 0.1, 3.5]
    found = line.score(tensor([on, off, aside]))
    assert found.log_prob.tolist() == [
        pytest.approx(Normal(1.0, 2.0).log_prob(torch.tensor(2.0)).item()),
        -INF,
        -INF,
    ]
    assert found.atoms.tolist() == [2, 2, 2]


def test_draws_of_a_singular_gaussian_are_on_its_support():
    mean, cov = regular(d=2)
    through = tensor([[1.0, 0.0], [2.0, -1.0], [0.5, 0.5], [0.0, 1.0]])
    flat = Gaussian(through @ mean, through @ cov @ through.T)
    x = flat.sample((50,))
    expected = MultivariateNormal(flat.mean[:2], flat.covariance_matrix[:2, :2])
    torch.testing.assert_close(flat.log_prob(x), expected.log_prob(x[:, :2]), rtol=1e-6, atol=1e-6)
    assert (flat.score(x).atoms == 2).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_rank_of_a_covariance_is_found_behind_its_rounding(seed):
    mean, cov = regular(d=2, seed=seed)
    through = torch.randn(6, 2, generator=torch.Generator().manual_seed(seed)).double()
    through = through * 10.0 ** torch.arange(-3, 3)[:, None]
    flat = Gaussian(through @ mean, through @ cov @ through.T)
    found = flat.score(flat.sample((20,)))
    assert (found.atoms == 4).all()
    assert found.log_prob.isfinite().all()


def test_gradients_reach_mean_and_covariance():
    mean, cov = regular(2)
    x = torch.randn(2, 3).double()

    def log_prob(m, c):
        return Gaussian(m, (c + c.mT) / 2).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, (mean.requires_grad_(), cov.requires_grad_()))
    draw = Gaussian(mean, cov).rsample((5,))
    assert draw.requires_grad
    assert not Gaussian(mean, cov).sample().requires_grad


@pytest.mark.parametrize(
    ("mean", "cov"), [((2, 3), (2, 2, 2)), ((3,), (3,)), ((), (4, 1, 1)), ((3,), (2, 3))]
)
def test_shapes_that_do_not_fit_are_refused(mean, cov):
    with pytest.raises(GraphError, match="do not fit together"):
        Gaussian(torch.zeros(mean), torch.zeros(cov))


# mixtures


def mixture(*batch, k=4):
    means, covs = regular(*batch, k)
    weights = torch.rand(*batch, k, generator=torch.Generator().manual_seed(1)).double() + 0.1
    return weights / weights.sum(-1, keepdim=True), means, covs


def test_a_regular_mixture_is_that_of_torch():
    weights, means, covs = mixture(2)
    ours = GaussianMixture(weights, means, covs)
    torchs = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covs))
    x = torch.randn(7, 2, 3).double()
    torch.testing.assert_close(ours.log_prob(x), torchs.log_prob(x))
    torch.testing.assert_close(ours.mean, torchs.mean)
    torch.testing.assert_close(ours.variance, torchs.variance)
    assert (ours.batch_shape, ours.event_shape) == ((2,), (3,))


def test_the_collapsed_mixture_has_its_moments():
    weights, means, covs = mixture(2, 5)
    both = GaussianMixture(weights, means, covs)
    one = both.collapsed()
    torch.testing.assert_close(one.mean, both.mean)
    torch.testing.assert_close(one.variance, both.variance)
    second = (weights[..., None, None] * (covs + means[..., None] * means[..., None, :])).sum(-3)
    expected = second - both.mean[..., None] * both.mean[..., None, :]
    torch.testing.assert_close(one.covariance_matrix, expected)


def test_scalar_and_matrix_events_are_mixed():
    weights, means, covs = mixture(2, k=5)
    scalar = GaussianMixture(weights, means[..., 0], covs[..., :1, :1])
    full = GaussianMixture(weights, means, covs)
    torch.testing.assert_close(scalar.mean, full.mean[:, 0])
    torch.testing.assert_close(scalar.variance, full.variance[:, 0])
    torch.testing.assert_close(scalar.collapsed().covariance_matrix[:, 0, 0], scalar.variance)
    row = GaussianMixture(weights, means[..., None, :], covs)
    assert row.event_shape == (1, 3)
    torch.testing.assert_close(row.mean[:, 0], full.mean)
    torch.testing.assert_close(
        row.collapsed().covariance_matrix, full.collapsed().covariance_matrix
    )
    x = torch.randn(6, 2, 3).double()
    torch.testing.assert_close(row.log_prob(x[..., None, :]), full.log_prob(x))


def test_draws_of_a_mixture_have_its_moments():
    weights, means, covs = mixture(2)
    both, n = GaussianMixture(weights, means, covs), 40_000
    x = both.sample((n // 2, 2))
    assert x.shape == (n // 2, 2, 2, 3)
    flat, error = x.reshape(n, 2, 3), (both.variance / n).sqrt()
    assert ((flat.mean(0) - both.mean).abs() < 5 * error).all()
    assert ((flat.var(0) / both.variance - 1).abs() < 0.1).all()


def test_components_may_share_covariances_over_the_batch():
    weights, means, covs = mixture(3)
    shared = GaussianMixture(weights, means, covs[:1])
    whole = GaussianMixture(weights, means, covs[:1].expand(3, -1, -1, -1))
    assert torch.equal(shared.variance, whole.variance)
    assert shared.sample((2,)).shape == (2, 3, 3)


def test_what_has_no_weight_may_be_nothing():
    weights, means, covs = mixture(2)
    weights = weights.clone()
    weights[..., 1] = 0
    weights = weights / weights.sum(-1, keepdim=True)
    means[..., 1, :], covs[..., 1, :, :] = math.nan, math.nan
    both = GaussianMixture(weights, means, covs)
    keep = [0, 2, 3]
    fewer = GaussianMixture(weights[..., keep], means[:, keep], covs[:, keep])
    x = torch.randn(2, 3).double()
    torch.testing.assert_close(both.mean, fewer.mean)
    torch.testing.assert_close(both.variance, fewer.variance)
    torch.testing.assert_close(both.log_prob(x), fewer.log_prob(x))
    torch.testing.assert_close(
        both.collapsed().covariance_matrix, fewer.collapsed().covariance_matrix
    )
    assert both.sample((100,)).isfinite().all()


def test_a_point_mass_in_a_mixture_has_its_weight():
    weights, means = tensor([0.25, 0.5, 0.25]), tensor([0.0, 1.0, 0.0])
    spiked = GaussianMixture(weights, means, tensor([0.0, 4.0, 0.0]).reshape(3, 1, 1))
    density = 0.5 * Normal(1.0, 2.0).log_prob(torch.tensor(0.5)).exp()
    found = spiked.log_prob(tensor([0.0, 0.5])).exp()
    assert found.tolist() == [pytest.approx(0.5), pytest.approx(density.item())]
    n = 10_000
    share = (spiked.sample((n,)) == 0).double().mean().item()
    assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(n)
