"""The aggregate posterior: its three terms, the identity between them, shuffles, mistakes."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal
from toys import f64

import daguerre as dg
from daguerre.objectives.aggregate import (
    STRATIFIED,
    WEIGHTED,
    dimension_wise_kl,
    mutual_information,
    total_correlation,
)
from daguerre.objectives.permuted import permuted

both = pytest.mark.parametrize("weights", [WEIGHTED, STRATIFIED], ids=lambda w: w.name)


def gaussian(x, net):
    mean, log_scale = net(x).chunk(2, 1)
    return Normal(mean, log_scale.exp())


def encoder(width=3, latent=2):
    net = nn.Linear(width, 2 * latent).double()
    return dg.model(x=dg.Input(width, dtype=torch.float64), z=dg.rv(gaussian, net=net))


def decoder(latent=2, width=3):
    net = nn.Linear(latent, width).double()
    return dg.model(
        z=Normal(torch.zeros(latent).double(), 1.0),
        x=dg.rv(lambda z, net: Normal(net(z), 0.7), net=net),
    )


def rows(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def value(cost, x, seed=0):
    torch.manual_seed(seed)
    return cost.losses(x)["model"]


def terms(q, p, n, weights):
    joint, how = dg.data("x") * q, {"of": "z", "rows": n, "weights": weights}
    return (
        mutual_information(joint, **how),
        total_correlation(joint, **how),
        dimension_wise_kl(joint, p, **how),
    )


# Values


@both
def test_the_three_terms_of_the_same_draws_are_the_kl_divergence(weights):
    q, p, x = encoder(), decoder(), rows(7, 3)
    found = sum(value(cost, x) for cost in terms(q, p, 1000, weights))
    torch.manual_seed(0)
    z = q.sample(given={"x": x})["z"]
    expected = (q.log_prob({"x": x, "z": z}) - p["z"].log_prob({"z": z})).mean()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_estimate_of_chen_et_al_is_its_definition():
    q, x, n, N = encoder(), rows(5, 3), 5, 40
    torch.manual_seed(0)
    z = q.sample(given={"x": x})["z"]
    weight, bias = q.parameters()
    posteriors = [gaussian(x[[k]], lambda x: x @ weight.T + bias) for k in range(n)]
    joint, product = [], []
    for i in range(n):
        table = torch.stack([posterior.log_prob(z[i])[0] for posterior in posteriors])
        joint.append(table.sum(1).logsumexp(0) - math.log(n * N))
        product.append((table.logsumexp(0) - math.log(n * N)).sum())
    expected = (torch.stack(joint) - torch.stack(product)).mean()
    cost = total_correlation(dg.data("x") * q, of="z", rows=N)
    torch.testing.assert_close(value(cost, x), expected)


def mixture(means, scale):
    """Mutual information, total correlation and dimension-wise KL, by quadrature on a grid."""
    grid = torch.linspace(-6, 6, 401).double()
    step = (grid[1] - grid[0]).item()
    each = Normal(means.unsqueeze(2), scale).log_prob(grid)  # [k, 2, points]
    density = (each[:, 0, :, None] + each[:, 1, None, :]).exp().mean(0)
    marginals = each.exp().mean(0)
    entropy = -(density * density.clamp_min(1e-300).log()).sum() * step**2
    entropies = -(marginals * marginals.clamp_min(1e-300).log()).sum(1) * step
    noise = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(scale))
    cross = -(marginals * Normal(f64(0.0), 1.0).log_prob(grid)).sum(1) * step
    return entropy - noise, entropies.sum() - entropy, (cross - entropies).sum()


def test_a_stratified_estimate_from_all_rows_is_that_of_quadrature():
    means, scale, copies = f64(-1.0, -0.8, 0.3, 0.9, 1.2, -0.2).view(3, 2), 0.5, 3
    p = decoder()
    q = dg.model(x=dg.Input(2, dtype=torch.float64), z=lambda x: Normal(x, scale))
    x = means.repeat(copies, 1)
    for cost, exact in zip(terms(q, p, 9, STRATIFIED), mixture(means, scale), strict=True):
        torch.manual_seed(0)
        found = torch.stack([cost.losses(x)["model"] for _ in range(400)])
        assert abs(found.mean() - exact) < 4 * found.std() / 20  # fails for 1 seed in 16,000
    # the weights of Chen et al. differ from these by a constant
    for seed in range(3):
        gaps = [
            value(a, x, seed) - value(b, x, seed)
            for a, b in zip(terms(q, p, 9, WEIGHTED), terms(q, p, 9, STRATIFIED), strict=True)
        ]
        torch.testing.assert_close(torch.stack(gaps), f64(1, 1, -2) * math.log(9))


def test_stratified_weights_are_unbiased_for_the_density():
    own, other = STRATIFIED.log(8, 100)
    assert math.exp(own) == pytest.approx(1 / 100)
    assert math.exp(own) + 7 * math.exp(other) == pytest.approx(1.0)
    assert WEIGHTED.log(8, 100) == pytest.approx((-math.log(800),) * 2)


@both
def test_gradients_are_those_of_finite_differences(weights):
    q, p, x, h = encoder(), decoder(), rows(6, 3), 1e-6
    total = sum(k * cost for k, cost in enumerate(terms(q, p, 30, weights), 1))
    weight = next(q.parameters())
    (gradient,) = torch.autograd.grad(value(total, x), [weight])
    for place in ((0, 0), (2, 1), (3, 2)):
        around = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * h
                around.append(value(total, x).item())
                weight[place] -= sign * h
        assert gradient[place].item() == pytest.approx((around[0] - around[1]) / 2 / h, rel=1e-5)


def test_a_beta_tc_vae_is_an_elbo_and_more_total_correlation():
    p, q, x, beta = decoder(), encoder(), rows(6, 3), 6.0
    elbo, extra = dg.elbo(p, q), total_correlation(dg.data("x") * q, of="z", rows=50)
    cost = elbo + (beta - 1) * extra
    torch.manual_seed(0)
    expected = elbo.losses(x)["model"] + 5 * extra.losses(x)["model"]
    torch.testing.assert_close(value(cost, x), expected)
    assert [player.name for player in cost.players] == ["model"]
    assert {*cost.players[0].parameters()} == {*p.parameters(), *q.parameters()}
    assert dg.draw(cost)._repr_svg_()


def test_a_scalar_variable_has_information_and_no_total_correlation():
    q = dg.model(x=dg.Input(dtype=torch.float64), z=lambda x: Normal(x, 0.1))
    x = f64(-3.0, -1.0, 1.0, 3.0)
    joint, how = dg.data("x") * q, {"of": "z", "rows": 4, "weights": STRATIFIED}
    assert total_correlation(joint, **how).losses(x)["model"].item() == pytest.approx(0, abs=1e-12)
    found = mutual_information(joint, **how).losses(x)["model"].item()
    assert found == pytest.approx(math.log(4), rel=1e-6)


# Shuffles


def test_a_shuffle_keeps_the_columns_and_breaks_their_ties():
    q = dg.model(x=dg.Input(1), z=lambda x: Normal(x.expand(-1, 2), 0.01))
    x = torch.randn(500, 1)
    torch.manual_seed(1)
    z = (dg.data("x") * q).sample(given={"x": x})["z"]
    torch.manual_seed(1)
    shuffled = permuted(dg.data("x") * q, of="z").sample(given={"x": x})["z"]
    torch.testing.assert_close(shuffled.sort(0).values, z.sort(0).values)
    assert z.T.corrcoef()[0, 1] > 0.99
    assert abs(shuffled.T.corrcoef()[0, 1]) < 4 / 500**0.5
    assert abs(torch.cat([shuffled, x], 1).T.corrcoef()[2, :2]).max() < 4 / 500**0.5


def test_gradients_go_through_a_shuffle():
    q, x, found = encoder(), rows(6, 3), []
    joint = dg.data("x") * q
    for side in (joint["z"], permuted(joint, of="z")):
        torch.manual_seed(0)
        power = (side.sample(given={"x": x}, pathwise=True)["z"] ** 2).sum()  # in any order
        found.append(torch.autograd.grad(power, [*q.parameters()]))
    torch.testing.assert_close(*found)


def test_children_of_what_is_shuffled_see_the_draw_before():
    p = dg.model(z=Normal(torch.zeros(2), 1.0), x=dg.deterministic(lambda z: 2 * z))
    (model,) = permuted(p["z"], of="z").factors
    assert isinstance(model, dg.Model)
    assert repr(model.graph) == "Graph(-> z_paired; z_paired => x; z_paired => z)"
    drawn = model.sample(5)
    torch.testing.assert_close(drawn["x"], 2 * drawn["z_paired"])


def test_a_critic_tells_the_aggregate_posterior_from_its_shuffle():
    torch.manual_seed(0)
    q = dg.model(x=dg.Input(1), z=dg.rv(lambda x, net: Normal(net(x), 0.3), net=nn.Linear(1, 2)))
    joint = dg.data("x") * q
    critic = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
    game = dg.JS(joint["z"], permuted(joint, of="z"), critic=critic)
    assert game.given == ("x",)
    with torch.no_grad():
        weight, bias = q.parameters()
        weight.copy_(torch.tensor([[1.0], [1.0]]))
        bias.zero_()
    x = torch.randn(256, 1)
    step = dg.train.Step(game, "critic", optimizer=dg.Adam(lr=0.03), compile=False)
    for _ in range(80):
        step(x)
    ratio = dg.log_ratio(game, {"z": torch.tensor([[1.2, 1.2], [1.2, -1.2]])})
    assert ratio[0] > 0 > ratio[1]  # together is likelier than shuffled, apart is not
    assert game.losses(x)["model"].requires_grad
    assert dg.draw(game)._repr_svg_()


# Words


def test_the_ledger_and_the_formula_say_what_it_is():
    mi, tc, dwkl = terms(encoder(), decoder(), 50, WEIGHTED)
    table = str((mi + 5 * tc + dwkl).explain())
    assert "5 * total correlation of z" in table
    assert (
        "n rows against each other, minibatch-weighted for 50 rows of data; pathwise through"
        in table
    )
    over = r"\mathbb{E}_{p_{\mathrm{data}}(x)\, q_\phi(z \mid x)}\left[\log"
    assert rf"{over} \frac{{q_\phi(z \mid x)}}{{q_\phi(z)}}\right]" in mi.latex()
    assert rf"{over} \frac{{q_\phi(z)}}{{\prod_j q_\phi({{z}}_j)}}\right]" in tc.latex()
    assert r"\left[\sum_j \log \frac{q_\phi({z}_j)}{p({z}_j)}\right]" in dwkl.latex()


def tc(q, **options):
    return total_correlation(dg.data("x") * q, **({"of": "z", "rows": 10} | options))


def made(**cpds):
    return dg.model(x=dg.Input(2), **cpds)


BAD = {
    "rows": (lambda: tc(encoder(), rows=1), ValueError, "2 or more, not 1"),
    "unknown": (lambda: tc(encoder(), of="zz"), dg.GraphError, "'zz'"),
    "too few": (
        lambda: tc(encoder()).losses(rows(1, 3)),
        dg.GraphError,
        "from 2 to 10, not 1",
    ),
    "too many": (lambda: tc(encoder()).losses(rows(11, 3)), dg.GraphError, "from 2 to 10, not 11"),
    "a map": (
        lambda: tc(made(z=dg.deterministic(lambda x: 2 * x))),
        dg.InadmissibleError,
        "z is a deterministic function; let a CPD",
    ),
    "data": (lambda: tc(encoder(), of="x"), dg.InadmissibleError, "x is given; let a CPD"),
    "no data": (
        lambda: total_correlation(decoder(), of="z", rows=10),
        dg.InadmissibleError,
        "z depends on no data; give the joint",
    ),
    "a chain": (
        lambda: tc(made(e=lambda x: Normal(x, 1.0), z=lambda e: Normal(e, 1.0))),
        dg.InadmissibleError,
        "an integral over e; give z a CPD",
    ),
    "an event": (
        lambda: tc(made(z=lambda x: Independent(Normal(x, 1.0), 1))),
        dg.InadmissibleError,
        "must be independent given its parents",
    ),
    "an event of unknown shape": (
        lambda: total_correlation(
            dg.data("x") * dg.model(x=dg.Input(), z=lambda x: Independent(Normal(x, 1.0), 1)),
            of="z",
            rows=10,
        ).losses(torch.zeros(3, 2)),
        dg.InadmissibleError,
        "without Independent around it",
    ),
    "no gradient": (
        lambda: tc(made(z=dg.rv(lambda x, m: Bernoulli(logits=m(x)), m=nn.Linear(2, 2)))),
        dg.InadmissibleError,
        "no pathwise gradient",
    ),
    "a prior with parents": (
        lambda: dimension_wise_kl(
            dg.data("x") * encoder(),
            dg.model(y=Normal(f64(0.0, 0.0), 1.0), z=lambda y: Normal(y, 1.0)),
            of="z",
            rows=10,
        ),
        dg.InadmissibleError,
        "must factorise, but it has parents",
    ),
    "shuffled data": (
        lambda: permuted(dg.data("x") * encoder(), of="x"),
        dg.GraphError,
        "x comes from no model of the joint but is given",
    ),
    "a name that is taken": (
        lambda: permuted(
            dg.data("x") * made(z_paired=lambda x: Normal(x, 1.0), z=lambda x: Normal(x, 1.0)),
            of="z",
        ),
        dg.GraphError,
        "'z_paired' is the name of z before the shuffle",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
