"""Models without their deterministic middle: same draws, same density, same gradients."""

import copy
import pickle

import pytest
import torch
from models import MODELS, Chain, Hidden, Latent, Regression
from torch import nn
from torch.distributions import (
    AffineTransform,
    Categorical,
    MixtureSameFamily,
    Normal,
    TanhTransform,
)

import daguerre as dg
from daguerre.gallery.rnn import GRU
from daguerre.model import Unrolled


def middle(model: dg.Model) -> list[str]:
    """Deterministic variables with something below them."""
    g = model.graph
    return [n for n in g.names if g[n].map == "deterministic" and g.children(n)]


class Wide(Latent):
    """Two branches through hidden layers, with noise declared before, between and after them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 4), nn.Linear(4, 3), nn.Linear(3, 2)

    @dg.rv
    def x(self, g, w):
        return Normal(self.c(g) + w, 0.1)

    @dg.deterministic
    def g(self, h):
        return self.b(h).relu()

    @dg.rv
    def y(self, h):
        return Normal(h, 1.0)

    @dg.rv
    def w(self):
        return Normal(self.zero, 1.0)

    @dg.deterministic
    def h(self, z):
        return self.a(z).tanh()


class Flow(Latent):
    """Bijections whose parameters come from a hidden layer over another variable."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 2)

    @dg.rv
    def w(self):
        return Normal(self.zero, 1.0)

    @dg.deterministic
    def h(self, w):
        return self.net(w).tanh()

    @dg.bijection("z")
    def y(self, h):
        return AffineTransform(h, h.exp())

    x = dg.bijection("y", TanhTransform())


CASES = {
    **{name: entry.make for name, entry in MODELS.items()},
    "wide": Wide,
    "flow": Flow,
}
every = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


def given_of(model: dg.Model) -> dict:
    return {n: torch.randn(7, *(i.shape or ())) for n, i in model.inputs().items()}


@every
def test_same_samples_from_the_same_seed(make):
    p = make().eval()
    left = dg.eliminate(p, middle(p))
    given = given_of(p)
    torch.manual_seed(3)
    whole = p.sample(7, given)
    torch.manual_seed(3)
    rest = left.sample(7, given)
    assert set(rest) == set(whole) - set(middle(p))
    assert all(torch.equal(rest[name], whole[name]) for name in rest)


@every
def test_same_density(make):
    p = make().eval()
    left = dg.eliminate(p, middle(p))
    values = left.sample(7, given_of(p))
    if any(left.kind(n) == "implicit" for n in values):
        with pytest.raises(dg.InadmissibleError):
            left.log_prob(values)
        return
    values = {n: v for n, v in values.items() if not left.graph[n].inverts or n in p.graph.leaves}
    implied = [n for n in values if any(left.graph[c].inverts == n for c in left.graph.names)]
    values = {n: v for n, v in values.items() if n not in implied}
    assert torch.allclose(left.log_prob(values), p.log_prob(values), atol=1e-5)


def test_the_flow_keeps_its_density_through_the_composition():
    left = dg.eliminate(Flow(), ["h", "y"])
    assert left.graph["x"].inverts == "z"
    assert left.graph.parents("x") == ("z", "w")
    assert left.kind("x") == "prescribed"


def test_gradients_reach_the_shared_parameters():
    p = Hidden()
    left = dg.eliminate(p, "h")
    values = p.sample(5)
    scored = {n: values[n] for n in ("z", "x")}
    left.log_prob(scored).sum().backward()
    through = [w.grad.clone() for w in p.parameters() if w.grad is not None]
    p.zero_grad()
    p.log_prob(scored).sum().backward()
    again = [w.grad for w in p.parameters() if w.grad is not None]
    assert len(again) == 4
    assert all(torch.equal(a, b) for a, b in zip(through, again, strict=True))
    assert {*map(id, left.parameters())} == {*map(id, p.parameters())}


def test_the_old_model_stays_as_it_was():
    p = Hidden()
    before = p.graph
    dg.eliminate(p, "h")
    assert p.graph == before
    assert set(p.sample(2)) == {"z", "h", "x"}


def test_it_trains_like_any_other():
    class Encoder(dg.Model):
        x = dg.Input(3)

        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 2)

        @dg.rv
        def z(self, x):
            return Normal(self.net(x), 1.0)

    p, q = Hidden(), Encoder()
    batch = torch.randn(6, 3)
    torch.manual_seed(0)
    (whole,) = dg.elbo(p, q).losses({"x": batch}).values()
    torch.manual_seed(0)
    (rest,) = dg.elbo(dg.eliminate(p, "h"), q).losses({"x": batch}).values()
    assert torch.allclose(whole, rest)


def test_it_copies_pickles_and_moves():
    left = dg.eliminate(Hidden(), "h")
    values = left.sample(4)
    expected = left.log_prob(values)
    assert torch.equal(copy.deepcopy(left).log_prob(values), expected)
    assert torch.equal(pickle.loads(pickle.dumps(left)).log_prob(values), expected)
    doubles = left.double().log_prob({n: v.double() for n, v in values.items()})
    assert torch.allclose(doubles.float(), expected)


def test_elimination_can_go_on():
    p = Wide()
    step = dg.eliminate(dg.eliminate(p, "h"), "g")
    assert step.graph == dg.eliminate(p, ["g", "h"]).graph
    torch.manual_seed(1)
    a = step.sample(3)
    torch.manual_seed(1)
    b = p.sample(3)
    assert all(torch.equal(a[n], b[n]) for n in a)


def test_a_leaf_that_is_a_constant_keeps_its_value():
    p = dg.do(Hidden(), z=torch.tensor([1.0, 2.0]))
    left = dg.eliminate(dg.replace(p, x=dg.deterministic(lambda h: h.sum(1))), ["z", "h"])
    torch.testing.assert_close(left.sample(3)["x"], p.sample(3)["h"].sum(1))


def test_errors_name_the_variable_that_has_gone():
    class Torn(Hidden):
        @dg.deterministic
        def h(self, z):
            return self.inner(z[:, :1])

    with pytest.raises(dg.GraphError, match=r"h \(z -> h\)"):
        dg.eliminate(Torn(), "h").sample(2)


@pytest.mark.parametrize(
    ("model", "names", "message"),
    [
        (Hidden, "z", "z is random"),
        (Hidden, "hh", "no variable 'hh' in the graph; did you mean 'h'"),
        (Regression, "u", "u is an input"),
        (Chain, "z", "z is random"),
    ],
)
def test_what_cannot_be_substituted_is_refused(model, names, message):
    with pytest.raises(dg.GraphError, match=message):
        dg.eliminate(model(), names)


def test_what_is_neither_graph_nor_model_is_refused():
    with pytest.raises(TypeError, match="expected a Graph or a Model, not 'h'"):
        dg.eliminate("h", "h")  # type: ignore[call-overload] - the slip that is tested


def test_a_random_variable_may_lose_its_last_parent():
    p = dg.do(Hidden(), z=torch.zeros(2))
    left = dg.eliminate(p, ["z", "h"])
    assert left.graph.parents("x") == ()
    values = {"x": torch.randn(5, 3)}
    torch.testing.assert_close(left.log_prob(values), p["x"].log_prob(values))
    assert left.sample(4)["x"].shape == (4, 3)


def test_it_may_not_where_no_row_can_be_taken():
    def two(h):
        return MixtureSameFamily(Categorical(torch.ones(len(h), 2)), Normal(h, 1.0))

    p = dg.model(h=torch.zeros(2), x=two)
    with pytest.raises(dg.InadmissibleError, match=r"x .*left without parents.*MixtureSameFamily"):
        dg.eliminate(p, "h").sample(2)


# A recurrent net: the graph over its outputs is complete


def recurrent(steps: int) -> tuple[dg.Model, Unrolled, dg.Model]:
    torch.manual_seed(1)
    p = GRU(2, 4)
    flat = p.unroll(steps)
    return p, flat, dg.eliminate(flat, [f"h[{t}]" for t in range(steps)])


def test_a_recurrent_net_without_its_units_is_complete_and_the_same_joint():
    p, flat, left = recurrent(4)
    complete = {(f"x[{s}]", f"x[{t}]") for t in range(4) for s in range(t)}
    assert {*left.graph.edges} == complete
    every = torch.cartesian_prod(*[torch.arange(2)] * 4)
    density = left.log_prob(flat.apart({"x": every}))
    torch.testing.assert_close(density, p["x"].log_prob({"x": every}))
    torch.testing.assert_close(density.exp().sum(), torch.ones(()))


def test_the_edge_from_the_first_output_to_the_third_is_real():
    """With the second one held, the law of the third differs by the first."""
    _, flat, left = recurrent(3)
    every = torch.cartesian_prod(*[torch.arange(2)] * 3)
    joint = left.log_prob(flat.apart({"x": every})).exp().reshape(2, 2, 2).double()
    third = joint / joint.sum(2, keepdim=True)
    assert (third[0] - third[1]).abs().amax(1).min() > 1e-3
    assert not dg.independent(left, "x[0]", "x[2]", given=["x[1]"])


def test_a_recurrent_net_of_independent_outputs_has_no_such_dependence():
    p, flat, left = recurrent(3)
    torch.nn.init.zeros_(p.out.weight)  # type: ignore[attr-defined]
    every = torch.cartesian_prod(*[torch.arange(2)] * 3)
    joint = left.log_prob(flat.apart({"x": every})).exp().reshape(2, 2, 2)
    third = joint / joint.sum(2, keepdim=True)
    torch.testing.assert_close(third[0], third[1])
