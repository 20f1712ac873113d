"""The maximum mean discrepancy as a cost: its value, its gradient, its mistakes."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal
from toys import f64

import daguerre as dg
from daguerre.kernels import energy, imq, rbf

# Oracle D5, after Gretton et al. (2012): N(0, 1) against N(1, 1)
D5 = {0.5: 0.132841731389, 1.0: 0.17726763492, 2.0: 0.130566924162}


class Moved(dg.Model):
    def __init__(self, mean=1.0, scale=1.0):
        super().__init__()
        self.mean, self.scale = nn.Parameter(f64(mean)), scale

    @dg.rv
    def x(self):
        return Normal(self.mean, self.scale)


def folded(shift):
    """E |N(shift, 2)|, the distance of a draw of N(0, 1) to one of N(shift, 1)."""
    normal, ratio = Normal(f64(0.0), 1.0), shift / 2**0.5
    density = torch.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    return 2**0.5 * (2 * density + ratio * (2 * normal.cdf(ratio) - 1))


def estimates(cost, repeats=60, n=400):
    """Losses on batches drawn from N(0, 1), with their standard error."""
    with torch.no_grad():
        found = torch.stack(
            [cost.losses(torch.randn(n, 1, dtype=torch.float64))["model"] for _ in range(repeats)]
        )
    return found.mean().item(), found.std().item() / math.sqrt(repeats)


@pytest.mark.parametrize("lengthscale", D5)
def test_the_loss_estimates_oracle_d5(lengthscale):
    cost = dg.MMD(dg.data("x"), Moved(), kernel=rbf(lengthscale))
    mean, error = estimates(cost)
    assert abs(mean - D5[lengthscale]) < 4 * error


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_with_the_energy_kernel_it_is_the_energy_distance(shift):
    mean, error = estimates(dg.MMD(dg.data("x"), Moved(shift)))
    assert abs(mean - (2 * folded(f64(shift)) - 2 * folded(f64(0.0))).item()) < 4 * error


def test_the_gradient_is_that_of_the_energy_distance():
    p, n = Moved(1.0), 4000
    loss = dg.MMD(dg.data("x"), p).losses(torch.randn(n, 1, dtype=torch.float64))["model"]
    (gradient,) = torch.autograd.grad(loss, [p.mean])
    shift = f64(1.0).requires_grad_()
    (exact,) = torch.autograd.grad(2 * folded(shift), shift)
    assert abs(gradient.item() - exact.item()) < 4 * 2.0 / math.sqrt(n)


@pytest.mark.parametrize(
    "kernel", [energy, rbf(0.5, 1.0, 2.0), imq(0.5, 2.0)], ids=["energy", "rbf", "imq"]
)
def test_a_generator_learns_without_a_critic(kernel):
    torch.manual_seed(0)
    p = dg.model(
        z=Normal(torch.zeros(1), 1.0),
        x=dg.deterministic(lambda z, net: net(z), net=nn.Linear(1, 1)),
    )
    data = 1.0 + 0.7 * torch.randn(4096, 1)
    cost = dg.MMD(dg.data("x"), p["x"], kernel=kernel)
    dg.fit(cost, data, steps=400, batch_size=128, compile=False, optimizer=dg.Adam(lr=0.03))
    x = p.sample(4000)["x"]
    assert abs(x.mean() - 1.0) < 0.1
    assert abs(x.std() - 0.7) < 0.1


def test_joints_are_compared_variable_by_variable():
    a = dg.model(x=Normal(torch.zeros(2), 1.0), y=lambda x: Normal(x.sum(1, keepdim=True), 1.0))
    b = dg.model(y=Normal(torch.zeros(1), 1.0), x=lambda y: Normal(y.expand(-1, 2), 1.0))
    torch.manual_seed(2)
    loss = dg.MMD(a, b).losses(50)["model"]
    torch.manual_seed(2)
    one, two = a.sample(50), b.sample(50)
    x, y = (torch.cat([side["y"], side["x"]], 1) for side in (one, two))
    pairs = 50 * 49
    expected = 2 * torch.cdist(x, y).mean()
    expected = expected - (torch.cdist(x, x).sum() + torch.cdist(y, y).sum()) / pairs
    torch.testing.assert_close(loss, expected)


def test_gradients_are_finite_where_rows_are_equal():
    p = dg.model(
        z=Normal(torch.zeros(1), 1.0), x=dg.deterministic(lambda z, w: w(0 * z), w=nn.Linear(1, 1))
    )
    loss = dg.MMD(dg.data("x"), p["x"]).losses(torch.zeros(8, 1))["model"]
    for gradient in torch.autograd.grad(loss, [*p.parameters()]):
        assert gradient.isfinite().all()


def test_events_without_dimensions_are_rows_of_one_column():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    flat = dg.model(x=dg.rv(lambda m: Normal(m.weight[0, 0], 1.0), m=nn.Linear(1, 1).double()))
    torch.manual_seed(0)
    loss = dg.MMD(dg.data("x"), flat).losses(x)["model"]
    torch.manual_seed(0)
    y = flat.sample(9)["x"]
    assert y.shape == (9,)
    expected = 2 * (x[:, None] - y).abs().mean()
    for side in (x, y):
        expected = expected - (side[:, None] - side).abs().sum() / 72
    torch.testing.assert_close(loss, expected)


# Latents against the prior, as in WAE, InfoVAE and MMD-VAE


def autoencoder():
    p = dg.model(
        z=Normal(torch.zeros(2), 1.0),
        x=dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=nn.Linear(2, 5)),
    )
    q = dg.model(x=dg.Input(5), z=dg.rv(lambda x, net: Normal(net(x), 0.5), net=nn.Linear(5, 2)))
    return p, q, dg.data("x") * q


@pytest.mark.parametrize("data_first", [True, False], ids=["data first", "prior first"])
def test_latents_meet_the_prior_and_the_decoder_is_left_alone(data_first):
    p, q, joint = autoencoder()
    sides = (joint["z"], p["z"]) if data_first else (p["z"], joint["z"])
    cost = dg.MMD(*sides, kernel=imq(4.0))  # the Bernoulli x of p, without gradient, is not drawn
    loss = cost.losses(torch.rand(6, 5))["model"]
    parameters = [*q.parameters(), *p.parameters()]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    assert [g is not None and bool(g.any()) for g in gradients] == [True, True, False, False]
    (row,) = cost.explain().rows
    assert row[2] == "n rows of each side, unbiased, over pairs of a batch; pathwise through z"
    a, b = r"\mathbb{E}_{p_{\mathrm{data}}(x)\, q_\phi(z \mid x)}", r"\mathbb{E}_{p(z)}"
    formula = cost.latex()
    assert rf"{a}\,{a}\left[k(z, z')\right]" in formula
    assert rf"{b}\,{b}\left[k(z, z')\right]" in formula
    assert r"p_\theta(x" not in formula


def test_the_ledger_and_the_formula_say_what_it_is():
    cost = dg.MMD(dg.data("x"), Moved())
    assert "unbiased, over pairs of a batch; pathwise through x" in str(cost.explain())
    assert r"\left[k(x, x')\right]" in cost.latex()
    p = dg.model(z=Normal(torch.zeros(1), 1.0), x=dg.deterministic(lambda z: 2 * z))
    formula = dg.MMD(dg.data("x"), p["x"]).latex()
    assert r"\left[k(G_\theta(z), G_\theta(z'))\right]" in formula
    assert r"\left[k(x, G_\theta(z'))\right]" in formula
    assert dg.draw(cost)._repr_svg_()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: dg.MMD(dg.data("x"), Moved(), kernel=1.0), TypeError, "function of two sets"),  # type: ignore[arg-type]
        (lambda: dg.MMD(Moved(), dg.data("x")), dg.InadmissibleError, "MMD takes the data as its"),
        (lambda: dg.MMD(dg.data("y"), Moved()), dg.GraphError, "share no variable"),
        (
            lambda: dg.MMD(dg.data("x"), Moved(), kernel=lambda a, b: (a - b)[:, 0]).losses(
                torch.zeros(3, 1).double()
            ),
            dg.GraphError,
            r"returns \[n, m\] .* it returned \[3\]",
        ),
        (
            lambda: dg.MMD(dg.data("x"), dg.model(x=Coin())),
            dg.InadmissibleError,
            "no pathwise gradient",
        ),
        (
            lambda: dg.MMD(dg.data("x"), Moved()).losses(torch.zeros(1, 1).double()),
            dg.GraphError,
            "two or more, not 1",
        ),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


class Coin(nn.Module):
    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(1))

    def forward(self):
        return Bernoulli(logits=self.logits)
