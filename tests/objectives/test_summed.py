"""Finite latents that q leaves out, against listing all of their states."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal, Poisson

import daguerre as dg
from daguerre.evaluate.bounds import evidence_bound
from daguerre.objectives.objective import Round
from daguerre.objectives.unified import augmented

SERIES = dg.Plate("series")


class Switching(dg.Model):
    """A state that moves by one of two laws, in turn, and is seen through a net."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.move, self.slope = nn.Parameter(torch.randn(2, 2)), nn.Parameter(torch.randn(2))
        self.net = nn.Linear(1, 3)

    @dg.rv
    def k(self, last=dg.lag("k", init=0)):
        return Categorical(logits=self.move[last])

    @dg.rv
    def z(self, k, last=dg.lag("z", init=0.5)):
        return Normal(self.slope[k] * last, 0.8)

    @dg.rv
    def x(self, z):
        return Normal(self.net(z[:, None]).tanh(), 0.4)


class Q(dg.Model):
    x = dg.Input(3)

    def __init__(self, scale: float = 0.5) -> None:
        super().__init__()
        self.net, self.scale = nn.Linear(4, 1), scale

    @dg.rv
    def z(self, x, last=dg.lag("z", init=0.0)):
        return Normal(self.net(torch.cat([x, last[:, None]], 1)).squeeze(1), self.scale)


def drawn(q: dg.Model, x: Tensor, **sizes: int) -> Tensor:
    """The draws that a bound makes from the same seed."""
    torch.manual_seed(1)
    return q.rsample(given={"x": x}, **sizes)["z"]


def summed(p: dg.Model, given: dict[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    """log p of what is given, k of a shape summed out by listing its states."""
    n = len(next(iter(given.values())))
    logs = []
    for states in itertools.product(range(2), repeat=int(torch.tensor(shape).prod())):
        k = torch.tensor(states).reshape(1, *shape).expand(n, *shape)
        logs.append(p.log_prob({**given, "k": k}))
    return torch.stack(logs).logsumexp(0)


def gradients(loss: Tensor, *models: dg.Model) -> list[Tensor]:
    return [*torch.autograd.grad(loss, [w for m in models for w in m.parameters()])]


def test_regimes_are_summed_out_at_the_draws_of_q():
    p, q = Switching(), Q()
    x = torch.randn(4, 3, 3)
    cost = dg.elbo(p, q)
    torch.manual_seed(1)
    loss = cost.losses(x)["model"]
    z = drawn(q, x)
    want = (q.log_prob({"x": x, "z": z}) - summed(p, {"x": x, "z": z}, (3,))).mean()
    torch.testing.assert_close(loss, want)
    for a, b in zip(gradients(loss, p, q), gradients(want, p, q), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_the_bound_lies_below_the_evidence_and_comes_close():
    p, q = Switching(), Q(2.0)
    x = torch.rand(3, 2, 3) - 0.5
    torch.manual_seed(0)
    elbo = -dg.elbo(p, q).losses(x.repeat(3000, 1, 1))["model"]
    some = [-dg.iwae(p, q, particles=n).losses(x.repeat(200, 1, 1))["model"] for n in (5, 1000)]
    grid = torch.linspace(-6, 6, 200)  # quadrature over both states
    z = torch.cartesian_prod(grid, grid)
    each = []
    for row in x:
        joint = summed(p, {"x": row.expand(len(z), 2, 3), "z": z}, (2,))
        each.append(joint.logsumexp(0) + 2 * (grid[1] - grid[0]).log())
    exact = torch.stack(each).mean()
    assert elbo < some[0] < exact + 0.02
    torch.testing.assert_close(some[1], exact, atol=0.03, rtol=0)


def test_the_ledger_says_what_is_summed():
    cost = dg.elbo(Switching(), Q())
    row = next(r for r in cost.explain() if "log p" in r["term"])
    assert row["term"] == "-log p(z[1:T], x[1:T])"
    assert row["estimator"].endswith("k summed out exactly by a scan over the steps")
    assert r"- \log \sum_{k_{1:T}} \prod_{t=1}^{T}" in cost.latex()
    assert "looks at the values" in cost.eager
    several = dg.iwae(Switching(), Q(), particles=3).explain()
    assert next(iter(several))["estimator"].endswith(
        "k summed out exactly by a scan over the steps"
    )


def test_sequences_of_unequal_length():
    p, q = Switching(), Q()
    x = torch.randn(2, 4, 3)
    x[1, 2:] = torch.nan
    cost = dg.elbo(p, q, partial=["x"])
    torch.manual_seed(1)
    rows = divergence(cost, x)
    z = drawn(q, x.nan_to_num())
    whole = {"x": x[:1], "z": z[:1]}
    want = [q.log_prob(whole) - summed(p, whole, (4,))]
    short = {"x": x[1:, :2], "z": z[1:, :2]}
    want += [q.log_prob(short) - summed(p, short, (2,))]
    torch.testing.assert_close(rows, torch.cat(want))


def divergence(cost: dg.Objective, x: Tensor) -> Tensor:
    ((_, part),) = cost.parts
    return part.per_example(Round(len(x), {"x": x}))  # type: ignore[attr-defined]


class Mixture(dg.Model):
    """A latent with a mixture for its prior, of one row or in a plate."""

    def __init__(self) -> None:
        super().__init__()
        self.means, self.net = nn.Parameter(torch.tensor([-1.0, 2.0])), nn.Linear(1, 3)

    @dg.rv
    def k(self):
        return Categorical(torch.tensor([0.3, 0.7]))

    @dg.rv
    def z(self, k):
        return Normal(self.means[k], 0.5)

    @dg.rv
    def x(self, z):
        return Bernoulli(logits=self.net(z[:, None]))


class Amortised(dg.Model):
    x = dg.Input(3)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1)

    @dg.rv
    def z(self, x):
        return Normal(self.net(x).squeeze(1), 2.0)


def test_a_mixture_for_a_prior_needs_no_draw_of_the_component():
    torch.manual_seed(0)
    p, q, x = Mixture(), Amortised(), torch.rand(5, 3).round()
    torch.manual_seed(1)
    loss = dg.elbo(p, q).losses(x)["model"]
    z = drawn(q, x)
    want = (q.log_prob({"x": x, "z": z}) - summed(p, {"x": x, "z": z}, ())).mean()
    torch.testing.assert_close(loss, want)
    for a, b in zip(gradients(loss, p, q), gradients(want, p, q), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    scores = dg.evaluate(p, q, x)
    assert scores["elbo"].value < scores["iwae"].value
    assert "within the sum over k" in dict(scores.refused)["RateDistortion"]
    exact = evidence_bound(p, q, x, particles=2000).value
    grid = torch.linspace(-6, 8, 2000)
    joint = torch.stack(
        [summed(p, {"x": row.expand(2000, 3), "z": grid}, ()).logsumexp(0) for row in x]
    )
    assert exact == pytest.approx((joint + (grid[1] - grid[0]).log()).mean().item(), abs=0.02)


class PlatedSwitching(dg.Model):
    @SERIES
    @dg.rv
    def k(self, last=dg.lag("k", init=0)):
        return Categorical(torch.tensor([[0.8, 0.2], [0.3, 0.7]])[last])

    @SERIES
    @dg.rv
    def z(self, k, last=dg.lag("z", init=0.5)):
        return Normal(last - k, 0.8)

    @SERIES
    @dg.rv
    def x(self, z):
        return Normal(z.sin(), 0.4)


class PlatedQ(dg.Model):
    x = SERIES(dg.Input())

    @SERIES
    @dg.rv
    def z(self, x, last=dg.lag("z", init=0.0)):
        return Normal(x + 0.1 * last, 0.5)


def test_chains_in_plates():
    p, q, x = PlatedSwitching(), PlatedQ(), torch.randn(2, 2, 3)
    torch.manual_seed(1)
    loss = dg.elbo(p, q).losses(x)["model"]
    z = drawn(q, x)
    want = (q.log_prob({"x": x, "z": z}) - summed(p, {"x": x, "z": z}, (2, 3))).mean()
    torch.testing.assert_close(loss, want)
    torch.manual_seed(0)
    bound = -dg.iwae(p, q, particles=7).losses(x)["model"]
    assert bound > -loss


def test_the_unified_view_has_the_arrows_of_what_is_summed():
    found = augmented(dg.elbo(Mixture(), Amortised()))
    assert {("k", "z"), ("z", "x")} <= {
        (parent, one.child) for one in found.conditionals for parent in one.parents
    }


def hidden(law: Any) -> dg.Model:
    return dg.model(k=law, z=lambda k: Normal(1.0 * k, 1.0), x=lambda z: Normal(z, 1.0))


Plain = dg.model(x=dg.Input(), z=lambda x: Normal(x, 1.0))


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda: dg.elbo(hidden(Poisson(3.0)), Plain), "q lacks k, latent in p"),
        (lambda: dg.elbo(hidden(Normal(0.0, 1.0)), Plain), "q lacks k, latent in p"),
        (lambda: dg.elbo(Mixture(), Amortised(), rate=0.5), "the rate of z weighs its KL term"),
        (lambda: dg.recipes.fivo(Switching(), Q()), "a particle filter draws all latents"),
    ],
)
def test_what_cannot_be_summed_is_refused(ask: Any, text: str):
    with pytest.raises(dg.GraphError, match=text):
        ask()


def test_what_holds_for_all_time_is_summed_out_too():
    time, drift = dg.Plate("t"), torch.tensor([-0.5, 1.0])
    p = dg.model(
        c=Categorical(logits=torch.tensor([0.3, 0.0])),
        z=time(
            dg.rv(lambda c, last=dg.lag("z", init=0.5): Normal(last.tanh() + drift[c], 1.0)),
        ),
        x=time(dg.rv(lambda z: Normal(z.sin()[:, None].expand(-1, 3), 0.5))),
    )
    q, x = Q(), torch.randn(4, 5, 3)
    cost = dg.elbo(p, q)
    assert "c summed out exactly by a scan over the steps" in str(cost.explain())
    z = drawn(q, x)
    given = {"x": x, "z": z}
    each = [p.log_prob({**given, "c": torch.full((4,), c)}) for c in range(2)]
    torch.manual_seed(1)
    found = cost.losses({"x": x})["model"]
    want = q.log_prob(given) - torch.stack(each).logsumexp(0)
    torch.testing.assert_close(found, want.mean())
