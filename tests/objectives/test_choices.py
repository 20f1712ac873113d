"""Which estimator a discrete latent gets: by itself, by choice, and which are refused."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, OneHotCategorical
from toys import divergence, f64

import daguerre as dg
from daguerre.objectives.estimators import (
    DREG,
    ENUMERATE,
    gumbel_softmax,
    pathwise,
    score_function,
    straight_through,
)
from daguerre.objectives.objective import Round


class Code(dg.Model):
    """q of one one-hot and two binary latents."""

    x = dg.Input(2)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.k_net = dg.nn.mlp(2, 3).double()
        self.h_net = dg.nn.mlp(2, 2).double()

    @dg.rv
    def k(self, x):
        return OneHotCategorical(logits=self.k_net(x))

    @dg.rv
    def h(self, x):
        return Bernoulli(logits=self.h_net(x))


def decoder():
    torch.manual_seed(1)
    return dg.model(
        k=OneHotCategorical(logits=torch.zeros(3, dtype=torch.float64)),
        h=Bernoulli(logits=torch.zeros(2, dtype=torch.float64)),
        x=dg.rv(
            lambda k, h, net: Normal(net(torch.cat([k, h], 1)), 0.7),
            net=dg.nn.mlp(5, 4, 2, activation=nn.Tanh).double(),
        ),
    )


X = torch.randn(4, 2, generator=torch.Generator().manual_seed(2)).double()


def test_relaxed_draws_are_points_of_the_simplex_and_hard_ones_states():
    p, q = decoder(), Code()
    for estimator, is_state in ((gumbel_softmax(0.5), False), (straight_through(0.5), True)):
        part = divergence(dg.elbo(p, q, gradients=estimator))
        torch.manual_seed(0)
        drawn = part.latents.draw(Round(len(X), {"x": X})).trace.values
        assert torch.allclose(drawn["k"].sum(1), f64(1.0))
        states = ((drawn["k"] == 0) | (drawn["k"] == 1)).all() and (
            drawn["h"] * (1 - drawn["h"]) == 0
        ).all()
        assert bool(states) is is_state
        loss = part.loss("model", Round(len(X), {"x": X}))
        for grad in torch.autograd.grad(loss, [*q.parameters()]):
            assert grad.isfinite().all()
            assert grad.any()


def test_the_relaxed_bound_tends_to_the_exact_one_as_it_cools():
    p, q = decoder(), Code()
    exactly = dg.elbo(p, q, gradients=ENUMERATE).losses(X)["model"].item()
    torch.manual_seed(0)
    rows = {"x": X.repeat(20_000, 1)}
    cold = dg.elbo(p, q, gradients=gumbel_softmax(0.01)).losses(rows)["model"].item()
    assert cold == pytest.approx(exactly, abs=0.02)


def test_without_being_asked_few_states_are_summed_and_many_are_scored():
    def chosen(width):
        p = dg.model(h=Bernoulli(logits=torch.zeros(width)), x=lambda h: Normal(h.sum(1), 1.0))
        h = dg.rv(lambda x, net: Bernoulli(logits=net(x[:, None])), net=nn.Linear(1, width))
        q = dg.model(x=dg.Input(), h=h)
        return str(dg.elbo(p, q).explain())

    assert "h: exact, summed over its states" in chosen(6)
    assert "h: score function, leave-one-out baseline, 4 draws for each example" in chosen(7)


def test_a_baseline_learns_what_an_example_costs():
    torch.manual_seed(0)
    p, q, net = decoder(), Code(), nn.Linear(2, 1).double()
    cost = dg.elbo(p, q, gradients={"h": score_function(baseline=net), "k": ENUMERATE})
    assert [player.name for player in cost.players] == ["baseline", "model"]
    before = cost.losses(X.repeat(500, 1), players=["baseline"])["baseline"].item()
    dg.fit(cost, X, steps=300, batch_size=4, lr={"baseline": 0.05, "model": 1e-9}, progress=False)
    after = cost.losses(X.repeat(500, 1), players=["baseline"])["baseline"].item()
    assert after < 0.7 * before
    assert "least squares" in str(cost.explain())
    wrong = dg.elbo(p, q, gradients=score_function(baseline=nn.Linear(2, 3).double()))
    with pytest.raises(
        dg.GraphError, match=r"one number per example, \[4\].*it returned \[4, 3\]"
    ):
        wrong.losses(X)


def test_what_would_be_biased_or_compare_nothing_is_refused():
    p, q = decoder(), Code()
    with pytest.raises(ValueError, match="leave-one-out baseline compares draws"):
        score_function(draws=1)
    with pytest.raises(dg.InadmissibleError, match="takes two particles or more, not 1"):
        dg.iwae(p, q, particles=1, gradients=score_function())
    with pytest.raises(dg.InadmissibleError, match="k summed over states or h by the score"):
        dg.iwae(p, q, gradients={"k": ENUMERATE, "h": score_function()})
    with pytest.raises(dg.InadmissibleError, match="OneHotCategorical carry no pathwise gradient"):
        dg.elbo(p, q, gradients=DREG)
    with pytest.raises(dg.InadmissibleError, match="a learned baseline of k is for single draws"):
        dg.iwae(p, q, gradients=score_function(baseline=nn.Linear(2, 1)))
    with pytest.raises(dg.InadmissibleError, match="a relaxed draw of k is no state, so p / q"):
        dg.iwae(p, q, gradients=gumbel_softmax(0.5))
    with pytest.raises(dg.InadmissibleError, match="relaxed draw of h is no state, and its KL"):
        dg.elbo(p, q, partial=["h"], gradients=gumbel_softmax(0.5))
    with pytest.raises(ValueError, match="temperature is above 0"):
        gumbel_softmax(0.0)
    with pytest.raises(ValueError, match="draws is a number, 1 or more"):
        pathwise(draws=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
def test_compiled_estimators_do_what_eager_ones_do():
    def losses(*, compiled):
        p, q = decoder(), Code()
        costs = (
            dg.elbo(p, q, gradients={"k": ENUMERATE, "h": score_function(draws=2)}),
            dg.elbo(p, q, gradients=straight_through(0.5)),
            dg.iwae(p, q, particles=3, gradients=score_function()),
        )
        step = dg.train.Step(sum(costs[1:], costs[0]), compile=compiled)
        torch.manual_seed(5)
        return [step(X).item() for _ in range(3)]

    assert losses(compiled=True) == pytest.approx(losses(compiled=False), rel=1e-6)


@pytest.mark.parametrize("wrong", ["reinforce", score_function, {"h": 3}])
def test_what_is_no_estimator_is_refused(wrong):
    with pytest.raises(TypeError, match="gradients takes estimators such as"):
        dg.elbo(decoder(), Code(), gradients=wrong)
