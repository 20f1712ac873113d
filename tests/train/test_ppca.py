"""A linear VAE reaches the maximum likelihood of probabilistic PCA."""

import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

import daguerre as dg

# Oracle A2: sample covariance with eigenvalues 4, 2, 1, 0.5 in four dimensions, two latents; after
# Tipping and Bishop (1999), and Lucas et al. (2019, arXiv 1911.02469) for the linear VAE
EIGENVALUES = (4.0, 2.0, 1.0, 0.5)
MEAN_LOG_LIKELIHOOD, NOISE_VARIANCE = -6.42779283121, 0.75
COLUMN_NORMS2 = (3.25, 1.25)


class Decoder(dg.Model):
    """x | z ~ N(W z + mu, s^2 I)."""

    def __init__(self):
        super().__init__()
        self.net, self.log_noise = nn.Linear(2, 4), nn.Parameter(torch.zeros(()))

    @dg.rv
    def z(self):
        return dg.StandardNormal(2)

    @dg.rv
    def x(self, z):
        return Normal(self.net(z), self.log_noise.exp())


class Encoder(dg.Model):
    """z | x ~ N(V x + c, diag(d)), as wide as the posterior of an orthogonal W."""

    x = dg.Input()

    def __init__(self):
        super().__init__()
        self.net, self.log_scale = nn.Linear(4, 2), nn.Parameter(torch.zeros(2))

    @dg.rv
    def z(self, x):
        return Normal(self.net(x), self.log_scale.exp())


def sample(n):
    """Draw n points and change their basis so that their covariance is exactly the oracle's."""
    x = torch.randn(n, 4, dtype=torch.float64)
    x -= x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / n), x.T, upper=False).T
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    return (
        white * torch.tensor(EIGENVALUES).double().sqrt() @ turn.T
        + torch.tensor([1.0, -2.0, 0.0, 0.5]).double()
    )


def mean_log_likelihood(p, x):
    weight, mu = p.net.weight.double(), p.net.bias.double()
    covariance = weight @ weight.T + (2 * p.log_noise.double()).exp() * torch.eye(4).double()
    return MultivariateNormal(mu, covariance).log_prob(x).mean().item()


def test_a_linear_vae_reaches_the_optimum_of_probabilistic_pca():
    x = sample(500)
    torch.testing.assert_close(
        torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0),
        torch.tensor(EIGENVALUES).double(),
    )
    p, q = Decoder(), Encoder()
    for lr, steps in ((3e-2, 600), (5e-3, 600), (1e-3, 400)):
        dg.fit(dg.elbo(p, q), x.float(), steps=steps, batch_size=500, lr=lr, progress=False)
    reached = mean_log_likelihood(p, x)
    assert MEAN_LOG_LIKELIHOOD - 0.01 < reached < MEAN_LOG_LIKELIHOOD + 1e-6
    assert abs((2 * p.log_noise).exp().item() - NOISE_VARIANCE) < 0.03
    norms = torch.linalg.svdvals(p.net.weight.detach()).square()
    torch.testing.assert_close(norms, torch.tensor(COLUMN_NORMS2), rtol=0.05, atol=0.05)
