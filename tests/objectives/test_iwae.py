"""The importance-weighted bound by value, by gradient and by direction."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from toys import f64

import daguerre as dg

# Oracle A3: z ~ N(0, 1), x | z ~ N(z, 1), x = 2, q the prior; after Burda, Grosse and
# Salakhutdinov (2016, arXiv 1509.00519)
LOG_PX = -2.2655121235
BOUNDS = {1: -3.4189385332, 2: -2.7579018481, 5: -2.4221556532, 50: -2.2782662684}


class P(dg.Model):
    def __init__(self, slope=1.0):
        super().__init__()
        self.slope = nn.Parameter(f64(slope))

    @dg.rv
    def z(self):
        return Normal(f64(0.0), 1.0)

    @dg.rv
    def x(self, z):
        return Normal(self.slope * z, 1.0)


class Q(dg.Model):
    x = dg.Input(dtype=torch.float64)

    def __init__(self, slope=0.0, scale=1.0):
        super().__init__()
        self.slope, self.scale = nn.Parameter(f64(slope)), nn.Parameter(f64(scale))

    @dg.rv
    def z(self, x):
        return Normal(self.slope * x, self.scale)


def at(n, x=2.0):
    return torch.full([n, 1], x, dtype=torch.float64)


@pytest.mark.parametrize("particles", BOUNDS)
def test_the_loss_is_minus_the_bound_of_oracle_a3(particles):
    cost, n = dg.iwae(P(), Q(), particles=particles), 40_000
    with torch.no_grad():
        losses = torch.stack([cost.losses(at(n // 20))["model"] for _ in range(20)])
    assert abs(-losses.mean() - BOUNDS[particles]) < 4 * losses.std() / math.sqrt(20)


def test_the_posterior_closes_the_gap_for_any_number_of_particles():
    for particles in (1, 2, 7):
        loss = dg.iwae(P(), Q(0.5, 0.5**0.5), particles=particles).losses(at(10))["model"]
        assert loss.item() == pytest.approx(-LOG_PX, abs=1e-9)


def test_at_the_posterior_the_gradient_of_the_model_is_that_of_the_evidence():
    """d log N(2; 0, 1 + w^2) / dw at w = 1."""
    p, q = P(), Q(0.5, 0.5**0.5)
    loss = dg.iwae(p, q, particles=5).losses(at(20_000))["model"]
    (gradient,) = torch.autograd.grad(loss, [p.slope])
    w = f64(1.0).requires_grad_()
    (exact,) = torch.autograd.grad(Normal(0.0, (1 + w**2).sqrt()).log_prob(f64(2.0)), w)
    assert abs(gradient.item() + exact.item()) < 4 * 2.0 / math.sqrt(20_000)


@pytest.mark.parametrize("name", ["p.slope", "q.slope", "q.scale"])
def test_the_gradient_is_that_of_the_loss_with_the_same_draws(name):
    def loss(shift):
        torch.manual_seed(3)
        values = {"p.slope": 0.8, "q.slope": 0.3, "q.scale": 0.9}
        values[name] += shift
        p, q = P(values["p.slope"]), Q(values["q.slope"], values["q.scale"])
        value = dg.iwae(p, q, particles=4).losses(at(30))["model"]
        owner, attribute = (p, "slope") if name == "p.slope" else (q, name.split(".")[1])
        return value, getattr(owner, attribute)

    value, parameter = loss(0.0)
    (gradient,) = torch.autograd.grad(value, parameter)
    difference = (loss(1e-5)[0] - loss(-1e-5)[0]) / 2e-5
    assert gradient.item() == pytest.approx(difference.item(), rel=1e-6)


def test_bounds_rise_from_the_elbo_to_the_evidence():
    with torch.no_grad():
        elbo = -dg.elbo(P(), Q(0.3)).losses(at(40_000))["model"]
        bounds = [
            -dg.iwae(P(), Q(0.3), particles=k).losses(at(40_000))["model"] for k in (2, 10, 50)
        ]
    assert elbo < bounds[0] < bounds[1] < bounds[2] < LOG_PX + 0.01


def test_training_tightens_the_bound():
    torch.manual_seed(0)
    q = Q()
    p = P()
    p.requires_grad_(requires_grad=False)
    x = (2**0.5) * torch.randn(512, 1, dtype=torch.float64)
    dg.fit(dg.iwae(p, q, particles=8), x, steps=600, batch_size=128, optimizer=dg.Adam(lr=0.02))
    assert q.slope.item() == pytest.approx(0.5, abs=0.1)
    assert q.scale.item() == pytest.approx(0.5**0.5, abs=0.15)


def test_the_ledger_the_formula_and_the_name_say_what_it_is():
    cost = dg.iwae(P(), Q(), particles=5)
    assert repr(cost) == "Objective(IWAE-5 over z, x; players: model)"
    assert "pathwise in z, 5 draws for each example" in str(cost.explain())
    ratio = r"\frac{p(z)\, p_\theta(x \mid z)}{q_\phi(z \mid x)}"
    weight = rf"\left.{ratio}\right|_{{{{z}}^{{(k)}}}}"
    assert rf"-\log \frac{{1}}{{5}} \sum_{{k=1}}^{{5}} {weight}" in cost.latex()
    assert dg.draw(cost)._repr_svg_()


@pytest.mark.parametrize("particles", [0, -1, 1.5, True])
def test_a_number_of_particles_that_is_none_is_refused(particles):
    with pytest.raises(ValueError, match=r"particles is a number of draws, 1 or more, not"):
        dg.iwae(P(), Q(), particles=particles)


def test_weights_that_all_rows_share_are_refused():
    p = dg.nets.randomize(
        nn.Linear(1, 1), weights=Normal(0.0, 1.0), y=lambda output: Normal(output, 1.0)
    )
    with pytest.raises(dg.InadmissibleError, match=r"weight is shared by all rows.*use dg\.elbo"):
        dg.iwae(p, p.mean_field())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_a_compiled_step_does_what_an_eager_one_does():
    found = []
    for compiled in (False, True):
        p, q = P(0.8), Q(0.3)
        dg.fit(dg.iwae(p, q, particles=3), at(8), steps=2, batch_size=4, compile=compiled)
        found.append(torch.stack([p.slope.detach(), q.slope.detach(), q.scale.detach()]))
    torch.testing.assert_close(*found)


def test_a_mixture_of_both_bounds_lies_between_them():
    """CIWAE of Rainforth et al. (2018, arXiv 1802.04537) is a sum, and so needs no name."""
    p = dg.model(z=Normal(f64(0.0).squeeze(), 1.0), x=lambda z: Normal(z, 1.0))
    q = dg.model(x=dg.Input(), z=lambda x: Normal(0.2 * x, 1.0))
    rows = f64(2.0).expand(20_000)
    torch.manual_seed(0)
    one, many = dg.elbo(p, q), dg.iwae(p, q, particles=10)
    between = (0.3 * one + 0.7 * many).losses(rows)["model"].item()
    assert many.losses(rows)["model"].item() < between < one.losses(rows)["model"].item()
