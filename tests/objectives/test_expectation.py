"""Expectations as terms: value, gradient, what they serve for, mistakes."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal
from toys import f64

import daguerre as dg
from daguerre.objectives.expectation import covariance_penalty, expectation


def rows(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def encoder(width=3, latent=2):
    return dg.model(
        x=dg.Input(width, dtype=torch.float64),
        mean=dg.deterministic(lambda x, net: net(x), net=nn.Linear(width, latent).double()),
        z=lambda mean: Normal(mean, 0.5),
    )


def test_rows_are_averaged_and_a_statistic_is_taken_as_it_is():
    joint, x = dg.data("x") * encoder(), rows(5, 3)

    def length(mean):
        return (mean**2).sum(1)

    def whole(mean):
        return (mean**2).sum() / len(mean)

    one, other = (expectation(joint, f).losses(x)["model"] for f in (length, whole))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one, (joint.sample(given={"x": x})["mean"] ** 2).sum(1).mean())


def test_the_gradient_runs_through_the_draws():
    mean = nn.Parameter(f64(1.5))
    p = dg.model(z=dg.rv(lambda m: Normal(m.weight[0], 2.0), m=nn.Linear(1, 1).double()))
    cost = expectation(p, lambda z: (z[:, 0] - 3.0) ** 2)
    (parameter, *_) = p.parameters()
    with torch.no_grad():
        parameter.fill_(mean.item())
    (gradient,) = torch.autograd.grad(cost.losses(40_000)["model"], [parameter])
    assert abs(gradient.item() - 2 * (1.5 - 3.0)) < 4 * 2 * 2.0 / 40_000**0.5


def test_bound_modules_are_trained_and_others_are_left_alone():
    joint, head, fixed = (
        dg.data("x") * encoder(),
        nn.Linear(2, 3).double(),
        nn.Linear(3, 3).double(),
    )
    cost = expectation(
        joint, lambda x, z, head: ((head(z) - fixed(x)) ** 2).sum(1), name="target", head=head
    )
    (player,) = cost.players
    assert {*head.parameters()} < {*player.parameters()}
    assert not {*fixed.parameters()} & {*player.parameters()}
    x = rows(64, 3)
    before = cost.losses(x)["model"]
    dg.fit(cost, x, steps=30, compile=False, optimizer=dg.Adam(lr=0.05))
    assert cost.losses(x)["model"] < before


def test_only_what_the_function_follows_from_is_drawn():
    p = dg.model(
        z=Normal(torch.zeros(2), 1.0),
        x=dg.rv(lambda z, net: Bernoulli(logits=net(z)), net=nn.Linear(2, 3)),  # without gradient
    )
    assert expectation(p, lambda z: z.sum(1)).losses(4)["model"].isfinite()
    with pytest.raises(dg.InadmissibleError, match="no pathwise gradient"):
        expectation(p, lambda x: x.sum(1))


def test_a_commitment_loss_moves_the_encoder_alone():
    codes = nn.Embedding(4, 2).double()

    def nearest(e, codes):
        near = torch.cdist(e.detach(), codes.weight.detach()).argmin(1)
        return codes(near)

    q = dg.model(
        x=dg.Input(3, dtype=torch.float64),
        e=dg.deterministic(lambda x, net: net(x), net=nn.Linear(3, 2).double()),
        c=dg.deterministic(nearest, codes=codes),
    )
    cost = 0.25 * expectation(
        dg.data("x") * q, lambda e, c: ((e - c.detach()) ** 2).sum(1), name="commitment"
    )
    loss = cost.losses(rows(6, 3))["model"]
    names = dict(q.named_parameters())
    found = torch.autograd.grad(loss, [*names.values()], allow_unused=True)
    assert {n for n, g in zip(names, found, strict=True) if g is not None} == {
        n for n in names if "codes" not in n
    }
    assert "0.25 * E[commitment(e, c)]" in str(cost.explain())


def test_a_cycle_comes_back_to_where_it_began():
    there = dg.model(x=dg.Input(2), y=dg.deterministic(lambda x, m: m(x), m=nn.Linear(2, 2)))
    back = dg.model(y=dg.Input(2), again=dg.deterministic(lambda y, m: m(y), m=nn.Linear(2, 2)))
    cycle = expectation(
        dg.data("x") * there * back, lambda x, again: (x - again).abs().sum(1), name="cycle"
    )
    assert cycle.given == ("x",)
    x = torch.randn(7, 2)
    y = there.sample(given={"x": x})["y"]
    expected = (x - back.sample(given={"y": y})["again"]).abs().sum(1).mean()
    torch.testing.assert_close(cycle.losses(x)["model"], expected)


# Covariances


def test_the_penalty_is_its_definition():
    z = rows(9, 3)
    covariance = z.T.cov()
    itself = ((covariance.diagonal() - 1) ** 2).sum()
    others = sum(covariance[i, j] ** 2 for i in range(3) for j in range(3) if i != j)
    found = covariance_penalty(z, off_diagonal=2.0, diagonal=3.0)
    torch.testing.assert_close(found, 2 * others + 3 * itself)
    torch.testing.assert_close(covariance_penalty(z[:, 0]), 10 * (z[:, 0].var() - 1) ** 2)


@pytest.mark.parametrize("variable", ["mean", "z"], ids=["DIP-VAE-I", "DIP-VAE-II"])
def test_means_or_draws_become_uncorrelated(variable):
    torch.manual_seed(0)
    x = rows(256, 3) @ torch.tensor([[1.0, 0.9, 0.8], [0.0, 0.4, 0.3], [0.0, 0.0, 0.5]]).double()
    q = encoder()
    penalties = {
        "mean": lambda mean: covariance_penalty(mean),
        "z": lambda z: covariance_penalty(z),
    }
    cost = expectation(dg.data("x") * q, penalties[variable], name="dip")
    dg.fit(cost, x, steps=150, batch_size=128, compile=False, optimizer=dg.Adam(lr=0.03))
    covariance = q.sample(given={"x": x.repeat(20, 1)})[variable].T.cov()
    torch.testing.assert_close(covariance, torch.eye(2).double(), atol=0.15, rtol=0)


# Words


def test_the_ledger_and_the_formula_say_what_it_is():
    q = encoder()
    cost = expectation(dg.data("x") * q, lambda mean, z: (z - mean).sum(1))
    assert cost.explain().rows == (
        (
            "model",
            "E[f(mean, z)]",
            "n rows, pathwise through mean, z",
            "a mean of draws: no density, no critic",
        ),
    )
    over = r"p_{\mathrm{data}}(x)\, q_\phi(z \mid \mathrm{mean})"
    assert rf"\mathbb{{E}}_{{{over}}}\left[f(\mathrm{{mean}}, z)\right]" in cost.latex()
    assert "n rows of the data" in str(expectation(dg.data("x"), lambda x: x.sum(1)).explain())
    p = dg.model(z=Normal(f64(0.0, 0.0), 1.0), x=lambda z: Normal(z.repeat(1, 2)[:, :3], 1.0))
    assert dg.draw(dg.elbo(p, dg.eliminate(q, "mean")) + cost)._repr_svg_()


class Unbound(nn.Module):
    def forward(self, z):
        return z


@pytest.mark.parametrize(
    ("function", "modules", "kind", "message"),
    [
        (1.0, {}, TypeError, "a function of the variables, not of 1.0"),
        (lambda zz: zz.sum(1), {}, dg.GraphError, "function of 'zz'.*did you mean 'z'"),
        (lambda: torch.zeros(()), {}, dg.GraphError, "of no variable.*parameters: x, mean, z"),
        (lambda z, k=2: k * z.sum(1), {}, dg.GraphError, "`k=2` cannot be one"),
        (lambda z: z, {}, dg.GraphError, r"one number per row, \[n\].*the shape \[n, 2\]"),
        (Unbound(), {}, dg.GraphError, r"Unbound.*the shape \[n, 2\]: sum or average"),
        (lambda z: 1.0, {}, TypeError, "returned 1.0, not a Tensor"),
        (lambda z: z.sum(1), {"net": Unbound()}, dg.GraphError, "binds the module 'net', which"),
        (lambda z, m: m(z)[:, 7], {"m": Unbound()}, dg.GraphError, "index 7 is out of bounds"),
    ],
)
def test_bad_arguments_are_named(function, modules, kind, message):
    with pytest.raises(kind, match=message):
        expectation(dg.data("x") * encoder(), function, **modules)


def test_a_covariance_is_that_of_two_rows():
    with pytest.raises(dg.GraphError, match="two rows or more, not 1"):
        covariance_penalty(torch.zeros(1, 2))
