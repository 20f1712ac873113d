"""Nets with random weights: against the exact posterior where there is one, and as models."""

import copy
import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Laplace, MultivariateNormal, Normal
from zoo import Shared as Tied
from zoo import build

import daguerre as dg
from daguerre.families import Shared, SharedNormal, shared

SIGMA = 0.5


def regression(n: int = 60, d: int = 3):
    """Data of a linear model with correlated inputs, and its exact posterior."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    x[:, 1] += 0.7 * x[:, 0]
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)
    y = y + SIGMA * torch.randn(n, 1, generator=g, dtype=torch.float64)
    precision = torch.eye(d, dtype=torch.float64) + x.T @ x / SIGMA**2
    mean = torch.linalg.solve(precision, x.T @ y / SIGMA**2)[:, 0]
    evidence = MultivariateNormal(
        torch.zeros(n, dtype=torch.float64),
        SIGMA**2 * torch.eye(n, dtype=torch.float64) + x @ x.T,
    ).log_prob(y[:, 0])
    return x, y, precision, mean, evidence


def linear(d: int = 3, rows: int = 60):
    net = nn.Linear(d, 1, bias=False).double()
    prior = Normal(torch.zeros((), dtype=torch.float64), 1.0)
    return dg.nets.randomize(net, weights=prior, rows=rows, y=lambda output: Normal(output, SIGMA))


def test_the_mean_field_bound_of_linear_regression_is_what_theory_says():
    """ELBO = log p(y | x) - KL(q || posterior), for the q that makes it largest."""
    x, y, precision, mean, evidence = regression()
    p = linear()
    q = p.mean_field()
    with torch.no_grad():
        q.loc[0].copy_(mean[None])
        q.log_scale[0].copy_(-0.5 * precision.diagonal().log()[None])
    cost = dg.elbo(p, q)
    torch.manual_seed(0)
    with torch.no_grad():
        bounds = torch.stack(
            [-60 * cost.losses({"input": x, "y": y})["model"] for _ in range(400)]
        )
    kl = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    assert abs(bounds.mean() - (evidence - kl)) < 4 * bounds.std() / math.sqrt(400)
    assert kl > 0.1


def test_training_finds_the_exact_mean_field_posterior():
    x, y, precision, mean, _ = regression()
    torch.manual_seed(0)
    p = linear()
    q = p.mean_field()
    for lr, epochs in ((0.03, 800), (0.003, 400)):
        options = {"epochs": epochs, "batch_size": 60, "optimizer": dg.Adam(lr=lr)}
        dg.fit(dg.elbo(p, q), {"input": x, "y": y}, compile=False, **options)
    assert torch.allclose(q.loc[0][0], mean, atol=0.03)
    exact = precision.diagonal().rsqrt()
    assert torch.allclose(q.log_scale[0][0].exp(), exact, rtol=0.2)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_a_compiled_step_does_what_an_eager_one_does():
    x, y, _, _, _ = regression()
    found = []
    for compiled in (False, True):
        p = linear()
        q = p.mean_field()
        with torch.no_grad():
            q.loc[0].zero_()
        data = {"input": x, "y": y}
        dg.fit(dg.elbo(p, q), data, steps=2, batch_size=60, seed=1, compile=compiled)
        found.append(q.loc[0].detach())
    assert torch.allclose(*found)


def test_the_density_of_all_rows_counts_shared_weights_once():
    x, y, _, _, _ = regression(n=5)
    p = linear(rows=5)
    w = torch.randn(1, 1, 3, dtype=torch.float64)
    total = p.log_prob({"weight": w.expand(5, 1, 3), "input": x, "y": y}).sum()
    expected = Normal(0.0, 1.0).log_prob(w).sum() + Normal(x @ w[0].T, SIGMA).log_prob(y).sum()
    assert torch.allclose(total, expected)


def test_each_row_has_weights_of_its_own():
    p = linear()
    x = torch.ones(4, 3, dtype=torch.float64)
    values = p.sample(given={"input": x})
    assert torch.allclose(values["output"], (values["weight"] * x[:, None]).sum(-1))
    assert values["output"].unique().numel() == 4


def test_weights_are_parents_of_what_uses_them():
    net, example = build("mlp")
    p = dg.nets.randomize(net, *example, weights=Normal(0.0, 1.0))
    assert p.graph.parents("0") == ("input", "0.weight", "0.bias")
    assert p.graph.parents("1") == ("0",)
    assert dg.independent(p, "0.weight", "2.weight")
    assert not dg.independent(p, "0.weight", "2.weight", given="2")


def test_only_what_is_named_becomes_random_and_the_rest_is_trained_with_the_net():
    net, example = build("mlp")
    p = dg.nets.randomize(net, *example, weights={"2": Normal(0.0, 1.0)})
    assert [n for n in p.graph.names if p.graph[n].map == "stochastic"] == ["2.weight", "2.bias"]
    assert {id(w) for w in p.parameters()} == {id(w) for w in net.get_submodule("0").parameters()}


def test_the_net_is_left_as_it_was():
    net, example = build("mlp")
    before, parameters = copy.deepcopy(net.state_dict()), list(net.parameters())
    dg.nets.randomize(net, *example, weights=Normal(0.0, 1.0)).sample(given={"input": example[0]})
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))


@pytest.mark.parametrize("name", ["mlp", "unet", "transformer", "shared", "in place"])
def test_with_the_weights_of_the_net_the_model_gives_what_the_net_gives(name):
    net, example = build(name)
    p = dg.nets.randomize(net, *example, weights=Normal(0.0, 1.0))
    weights = {n: w.detach().expand(3, *w.shape) for n, w in net.named_parameters()}
    output = dg.from_module(net, *example).outputs
    given = {p.graph.inputs[0]: example[0], **weights}
    assert torch.allclose(p.sample(given=given)[output], net(*example), atol=1e-5)


def test_a_tied_weight_is_one_variable():
    tokens = torch.randint(7, (3, 5))
    p = dg.nets.randomize(Tied(), tokens, weights={"embedding": Normal(0.0, 1.0)})
    assert p.graph.children("embedding.weight") == ("embedding", "head")
    assert "head.weight" not in p.graph


def test_an_activation_becomes_random():
    net, example = build("mlp")
    p = dg.nets.randomize(net, *example, activations={"1": lambda h: Normal(h, 0.1)})
    assert p.kind("1") == "prescribed"
    assert p.kind("2") == "implicit"
    assert dg.independent(p, "input", "2", given="1")


def test_a_bayesian_net_learns_and_knows_what_it_does_not_know():
    torch.manual_seed(0)
    x = torch.rand(100, 1) * 2 - 1
    y = torch.sin(3 * x) + 0.1 * torch.randn(100, 1)
    net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
    p = dg.nets.randomize(
        net, weights=Normal(0.0, 1.0), rows=100, y=lambda output: Normal(output, 0.1)
    )
    q = p.mean_field()
    dg.fit(
        dg.elbo(p, q),
        {"input": x, "y": y},
        epochs=800,
        batch_size=100,
        optimizer=dg.Adam(lr=0.01),
        compile=False,
    )

    def predicted(at: float) -> Tensor:
        weights = q.sample(300)
        return p.sample(given={"input": torch.full((300, 1), at), **weights})["output"]

    assert abs(predicted(0.5).mean() - math.sin(1.5)) < 0.2
    assert predicted(4.0).std() > predicted(0.5).std()


def test_a_prior_that_is_not_normal_is_averaged():
    p = dg.nets.randomize(
        nn.Linear(2, 1), weights=Laplace(0.0, 1.0), y=lambda output: Normal(output, 1.0)
    )
    ledger = str(dg.elbo(p, p.mean_field()).explain())
    assert "Monte Carlo" in ledger
    assert "Shared" in ledger


@pytest.mark.parametrize("base", [Normal(torch.zeros(2), 1.5), Laplace(torch.zeros(2), 1.5)])
def test_a_shared_distribution_draws_as_its_base_and_scores_its_part(base):
    ten = shared(base, 10).expand(torch.Size((4, 2)))
    assert isinstance(ten, SharedNormal | Shared)
    value = ten.rsample()
    assert value.shape == (4, 2)
    assert torch.allclose(10 * ten.log_prob(value), base.log_prob(value))
    assert ten.support is base.support


# Refusals


class Many(nn.Module):
    def forward(self, *xs: Tensor) -> Tensor:
        return sum(xs[1:], start=xs[0])


NORMAL = Normal(0.0, 1.0)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda n: dg.nets.randomize(n), dg.GraphError, "nothing is random"),
        (
            lambda n: dg.nets.randomize(n, weights={"0.wieght": NORMAL}),
            dg.GraphError,
            "did you mean '0.weight'",
        ),
        (lambda n: dg.nets.randomize(n, weights=NORMAL, rows=0), ValueError, "1 or more, not 0"),
        (
            lambda n: dg.nets.randomize(n, weights=cast(Any, 1.0)),
            TypeError,
            "weights is a Distribution",
        ),
        (
            lambda n: dg.nets.randomize(n, weights=cast(Any, {"0": 1.0})),
            TypeError,
            "prior of 0.weight is a Dist",
        ),
        (
            lambda n: dg.nets.randomize(n, weights={"0.bias": Normal(torch.zeros(3), 1.0)}),
            dg.GraphError,
            r"prior of 0.bias has the shape \[3\], the parameter \[8\]",
        ),
        (
            lambda n: dg.nets.randomize(
                n, weights=Normal(torch.zeros((), requires_grad=True), 1.0)
            ),
            dg.GraphError,
            "requires a gradient",
        ),
        (
            lambda n: dg.nets.randomize(n, torch.ones(2, 3), activations={"7": lambda h: NORMAL}),
            dg.GraphError,
            "no variable '7'",
        ),
        (
            lambda n: dg.nets.randomize(n, weights=NORMAL, output=lambda w: Normal(w, 1.0)),
            dg.GraphError,
            "has a variable 'output' already",
        ),
        (
            lambda _: dg.nets.randomize(Many(), weights=NORMAL),
            dg.GraphError,
            "any number of arguments",
        ),
        (
            lambda _: dg.nets.randomize(cast(Any, "net"), weights=NORMAL),
            TypeError,
            "takes an nn.Module",
        ),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    net, _ = build("mlp")
    with pytest.raises(kind, match=message):
        call(net)
