"""Sliced Wasserstein and Sinkhorn: exact values, gradients, one compiled step, mistakes.

Samples are quantile grids that stand in for data on both sides, so nothing is left to chance.
"""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.distributions import Normal
from toys import f64

import daguerre as dg
from daguerre.kernels import imq
from daguerre.objectives.aggregate import total_correlation
from daguerre.objectives.transport import sinkhorn, sliced_wasserstein

# Oracle D6: between N(0, 1) and N(1, 4), and between N(0, 4) and N(0, 1) (the optimum of a WAE)
D6 = [((0.0, 1.0), (1.0, 2.0), 2.0), ((0.0, 2.0), (0.0, 1.0), 1.0)]


class Moved(dg.Model):
    """x = scale y + shift: a second side whose rows are those of the batch."""

    y = dg.Input()

    def __init__(self, shift: float | torch.Tensor = 0.0, scale: float = 1.0):
        super().__init__()
        self.shift, self.scale = (
            nn.Parameter(torch.as_tensor(v).double()) for v in (shift, scale)
        )

    @dg.deterministic
    def x(self, y):
        return y * self.scale + self.shift


def between(distance, q, **options):
    return distance(dg.data("x"), (dg.data("y") * q)["x"], **options)


def loss(cost, x, y):
    return cost.losses({"x": x, "y": y})["model"]


def quantiles(mean, scale, n=400):
    return (mean + scale * Normal(f64(0.0), 1.0).icdf((torch.arange(n) + 0.5) / n))[:, None]


def rows(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


# Sliced Wasserstein


@pytest.mark.parametrize(("one", "other", "exact"), D6)
def test_in_one_dimension_slices_are_exact(one, other, exact):
    cost = between(sliced_wasserstein, Moved(), projections=2)
    # the tails beyond the outermost quantiles weigh less than 0.004
    assert loss(cost, quantiles(*one), quantiles(*other)).item() == pytest.approx(exact, abs=0.004)


def test_order_one_is_the_mean_distance_of_sorted_rows():
    cost = between(sliced_wasserstein, Moved(), projections=1, order=1)
    found = loss(cost, quantiles(0.0, 1.0, 4000), quantiles(0.0, 2.0, 4000)).item()
    assert found == pytest.approx(math.sqrt(2 / math.pi), abs=0.002)  # D6: W_1 = E |Z|


def test_a_unit_shift_in_eight_dimensions_is_an_eighth():
    shift = torch.zeros(8)
    shift[3] = 1.0
    cost, x = between(sliced_wasserstein, Moved(shift), projections=4000), rows(5, 8)
    error = math.sqrt(2 * 7 / (8**2 * 10) / 4000)  # the variance of a squared coordinate
    assert abs(loss(cost, x, x).item() - 1 / 8) < 4 * error  # fails for 1 seed in 16,000


def test_an_orthogonal_basis_of_directions_makes_it_exact(monkeypatch):
    q, x = Moved(torch.arange(8.0)), rows(5, 8)
    monkeypatch.setattr("torch.randn", lambda *shape, **like: 3 * torch.eye(*shape, **like))
    found = loss(between(sliced_wasserstein, q, projections=8), x, x)
    assert found.item() == pytest.approx(140 / 8)
    (gradient,) = torch.autograd.grad(found, [q.shift])
    torch.testing.assert_close(gradient, 2 * torch.arange(8.0).double() / 8)


def test_directions_are_drawn_anew_from_the_generator_of_torch():
    cost, x, y = between(sliced_wasserstein, Moved(), projections=3), rows(6, 4), rows(6, 4, 1)
    first, second = loss(cost, x, y), loss(cost, x, y)
    torch.manual_seed(0)
    assert first != second
    assert loss(cost, x, y) == first


# Sinkhorn


def gaussian_divergence(shift, one, other, epsilon):
    """The Sinkhorn divergence of two normal distributions (Janati et al. 2020, theorem 1)."""

    def root(a, b):
        return math.sqrt(4 * a**2 * b**2 + epsilon**2 / 4)

    def part(a, b):
        return epsilon / 2 * math.log(root(a, b) + epsilon / 2) - root(a, b)

    return shift**2 + part(one, other) - (part(one, one) + part(other, other)) / 2


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 2.0])
@pytest.mark.parametrize(("one", "other", "exact"), D6)
def test_it_is_the_closed_form_of_normal_distributions(one, other, exact, epsilon):
    expected = gaussian_divergence(other[0] - one[0], one[1], other[1], epsilon)
    assert expected == pytest.approx(exact, abs=0.07)  # epsilon goes to 0, and it to W_2^2
    cost = between(sinkhorn, Moved(), epsilon=epsilon)
    found = loss(cost, quantiles(*one, n=150), quantiles(*other, n=150)).item()
    assert found == pytest.approx(expected, abs=0.01)  # the tails again


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_with_little_entropy_it_is_the_best_assignment(order, seed):
    x, y = rows(9, 3, seed), 0.5 + 1.3 * rows(9, 3, seed + 10)
    costs = torch.cdist(x, y).pow(order)
    best = costs[linear_sum_assignment(costs.numpy())].mean().item()
    cost = between(sinkhorn, Moved(), epsilon=1e-3, order=order, iterations=500)
    assert loss(cost, x, y).item() == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("epsilon", [0.05, 1.0])
def test_a_hundred_iterations_are_nearly_as_good_as_many(epsilon):
    x, y = rows(30, 2), 2 + rows(30, 2, 1)
    few, many = (
        loss(between(sinkhorn, Moved(), epsilon=epsilon, iterations=k), x, y).item()
        for k in (100, 3000)
    )
    assert few == pytest.approx(many, rel=1e-3)


def test_equal_samples_are_at_distance_zero_where_the_gradient_is_zero():
    q, x = Moved(), rows(12, 2)
    found = loss(between(sinkhorn, q, epsilon=0.3), x, x.flip(0))
    assert found.item() == pytest.approx(0.0, abs=1e-12)
    for gradient in torch.autograd.grad(found, [q.shift, q.scale]):
        assert gradient.abs() < 1e-6


def test_the_gradient_of_the_optimum_is_that_of_finite_differences():
    x, y, step = rows(10, 2), 1 + rows(10, 2, 1), 1e-5
    q = Moved(0.3, 1.2)
    cost = between(sinkhorn, q, epsilon=1.0, iterations=1000)
    gradients = torch.autograd.grad(loss(cost, x, y), [q.shift, q.scale])
    for parameter, gradient in zip((q.shift, q.scale), gradients, strict=True):
        around = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step
                around.append(loss(cost, x, y).item())
                parameter -= sign * step
        assert gradient.item() == pytest.approx((around[0] - around[1]) / (2 * step), rel=1e-6)


def test_geomloss_agrees():
    geomloss = pytest.importorskip("geomloss", reason="a second implementation, not needed to run")
    x, y = rows(20, 3), 1 + rows(20, 3, 1)
    other = geomloss.SamplesLoss("sinkhorn", p=2, blur=math.sqrt(0.25), scaling=0.99)  # |x-y|^2/2
    expected = 2 * other(x, y).item()
    cost = between(sinkhorn, Moved(), epsilon=0.5, iterations=1000)
    assert loss(cost, x, y).item() == pytest.approx(expected, rel=1e-3)


# Both


@pytest.mark.parametrize("distance", [sliced_wasserstein, sinkhorn])
def test_a_generator_learns_without_a_critic(distance):
    torch.manual_seed(0)
    p = dg.model(
        z=Normal(torch.zeros(1), 1.0),
        x=dg.deterministic(lambda z, net: net(z), net=nn.Linear(1, 1)),
    )
    data, adam = 1.0 + 0.7 * torch.randn(512, 1), dg.Adam(lr=0.05)
    dg.fit(
        distance(dg.data("x"), p["x"]),
        data,
        steps=80,
        batch_size=64,
        optimizer=adam,
        compile=False,
    )
    x = p.sample(4000)["x"]
    assert abs(x.mean() - data.mean()) < 0.1
    assert abs(x.std() - data.std()) < 0.1


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_a_compiled_step_does_what_an_eager_one_does():
    found, x = [], rows(12, 2)
    for compiled in (False, True):
        torch.manual_seed(0)
        net = nn.Linear(2, 2).double()
        q = dg.model(x=dg.Input(2, dtype=torch.float64), z=dg.rv(noisy, net=net))
        prior = dg.model(z=Normal(torch.zeros(2).double(), 1.0))
        joint = dg.data("x") * q
        cost = dg.MMD(joint["z"], prior, kernel=imq(4.0)) + total_correlation(
            joint, of="z", rows=12
        )
        cost += sliced_wasserstein(joint["z"], prior, projections=5)
        cost += sinkhorn(joint["z"], prior)
        dg.fit(cost, x, steps=2, batch_size=6, compile=compiled)
        found.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(*found)


def noisy(x, net):
    return Normal(net(x), 0.5)


def test_the_ledger_and_the_formula_say_what_it_is():
    p = dg.model(z=Normal(torch.zeros(1), 1.0), x=dg.deterministic(lambda z: 2 * z))
    sliced, entropic = (d(dg.data("x"), p["x"]) for d in (sliced_wasserstein, sinkhorn))
    assert "n rows of each side, 100 fresh directions; biased upwards" in str(sliced.explain())
    assert "100 iterations, gradient of the optimum; debiased" in str(entropic.explain())
    law = r"(\mathrm{law}_{p_{\mathrm{data}}(x)}[x], \mathrm{law}_{p(z)}[G_\theta(z)])"
    assert sliced.latex() == rf"\min_{{\theta}}\; \mathrm{{SW}}_{{2}}^{{2}}{law}"
    assert entropic.latex() == rf"\min_{{\theta}}\; S_{{0.05}}{law}"
    assert dg.draw(sliced + entropic)._repr_svg_()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda a, b: sliced_wasserstein(a, b, order=0.5), ValueError, "order is 0.5; expected"),
        (lambda a, b: sinkhorn(a, b, order=math.inf), ValueError, "order is inf; expected"),
        (
            lambda a, b: sliced_wasserstein(a, b, projections=0),
            ValueError,
            "projections is a whol",
        ),
        (lambda a, b: sinkhorn(a, b, iterations=True), ValueError, "iterations is a whole number"),
        (lambda a, b: sinkhorn(a, b, epsilon=0.0), ValueError, "epsilon is 0.0; expected a posit"),
        (
            lambda a, b: sinkhorn(b, a),
            dg.InadmissibleError,
            "sinkhorn takes the data as its first",
        ),
        (lambda a, b: sliced_wasserstein(a, b["y"]), dg.GraphError, "sliced_wasserstein share no"),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    b = dg.model(x=Normal(torch.zeros(1), 1.0), y=Normal(torch.zeros(1), 1.0))
    with pytest.raises(kind, match=message):
        call(dg.data("x"), b if "share no" in message else b["x"])
