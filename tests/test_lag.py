"""Lagged parents: `dg.lag` in classes and in functions."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Normal, OneHotCategorical

import daguerre as dg
from daguerre.compose import lags_of_cpd, start_of
from daguerre.graph import Lag

START = Normal(0.0, 1.0)


class Chain(dg.Model):
    u = dg.Input()

    def __init__(self):
        super().__init__()
        self.begin = nn.Parameter(torch.tensor(0.5))

    @dg.rv
    def z(self, u, before=dg.lag("z", init=START)):
        return Normal(0.5 * before + u, 1.0)

    @dg.deterministic
    def h(self, z, last=dg.lag("h", init=lambda self: self.begin), older=dg.lag("z", 2, init=0.0)):
        return torch.tanh(last + z - older)

    @dg.rv
    def x(self, h):
        return Normal(h, 1.0)


def test_lagged_parents_are_no_parents_of_the_slice():
    graph = Chain.graph
    assert graph.parents("z") == ("u",)
    assert graph["z"].lags == (Lag("z", 1),)
    assert graph["h"].lags == (Lag("h", 1), Lag("z", 2))
    assert graph["h"].map == "deterministic"
    assert graph.order == ("u", "z", "h", "x")


def test_functions_declare_the_same_graph():
    built = dg.model(
        u=dg.Input(),
        z=lambda u, before=dg.lag("z", init=START): Normal(0.5 * before + u, 1.0),
        h=dg.deterministic(
            lambda z, last=dg.lag("h", init=0.5), older=dg.lag("z", 2, init=0.0): last + z - older
        ),
        x=lambda h: Normal(h, 1.0),
    )
    assert built.graph == Chain.graph


def test_the_cpd_takes_parents_then_lagged_parents():
    model = Chain()
    step = {s.name: s for s in model.steps()}["h"]
    assert step.cpd is not None
    assert [lagged.variable for lagged in lags_of_cpd(step.cpd)] == ["h", "z"]
    one, two, three = torch.ones(1), torch.tensor([2.0]), torch.tensor([3.0])
    assert torch.equal(step.cpd(one, two, three), torch.tanh(torch.zeros(1)))  # type: ignore[arg-type]


def test_init_may_be_learned():
    model = Chain()
    cpd = {s.name: s for s in model.steps()}["h"].cpd
    assert cpd is not None
    first, second = lags_of_cpd(cpd)
    assert start_of(cpd, first) is model.begin
    assert start_of(cpd, second) == 0.0


def test_init_of_a_function_takes_its_modules():
    net = nn.Linear(2, 2)
    rule = dg.rv(
        lambda net, before=dg.lag("z", init=lambda net: net.bias): Normal(net(before), 1), net=net
    )
    model = dg.model(z=rule)
    cpd = model.steps()[0].cpd
    assert cpd is not None
    (lagged,) = lags_of_cpd(cpd)
    assert start_of(cpd, lagged) is net.bias
    law = cpd(torch.zeros(3, 2))
    assert isinstance(law, Normal)
    assert law.mean.shape == (3, 2)


def test_a_module_may_declare_lags():
    class Walk(nn.Module):
        def forward(self, before=dg.lag("z", init=START)):
            return Normal(before, 1.0)

    model = dg.model(z=Walk())
    assert model.graph["z"].lags == (Lag("z", 1),)
    cpd = model.steps()[0].cpd
    assert cpd is not None
    assert start_of(cpd, lags_of_cpd(cpd)[0]) is START


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: dg.lag("z"), r"dg.lag\('z', 1\) needs init"),
        (lambda: dg.lag("z", 0, init=0.0), "1 or less, not 0"),
        (lambda: dg.lag("z", True, init=0.0), "1 or less, not True"),  # noqa: FBT003
        (lambda: dg.lag(3, init=0.0), "a lag names its variable"),  # type: ignore[arg-type]
        (
            lambda: dg.model(z=lambda before=dg.lag("y", init=0.0): Normal(before, 1.0)),
            "'z' has the unknown parent 'y'",
        ),
        (
            lambda: dg.model(z=START, x=lambda z, before=dg.lag("z", init=START): Normal(z, 1.0)),
            "x has the lagged parent 'z' with a Distribution for init",
        ),
        (
            lambda: dg.model(
                z=lambda x, before=dg.lag("z", init=START): Normal(before + x, 1.0),
                x=lambda z: Normal(z, 1.0),
            ),
            "the graph has a cycle",
        ),
        (
            lambda: dg.model(
                z=lambda a=dg.lag("z", init=0.0), b=dg.lag("z", init=1.0): Normal(a + b, 1.0)
            ),
            "cannot be one",
        ),
        (lambda: dg.model(z=lambda before=3.0: Normal(before, 1.0)), "cannot be one"),
    ],
)
def test_what_cannot_be_is_refused(build, text):
    with pytest.raises(dg.GraphError, match=text):
        build()


def test_a_class_says_where_the_unknown_parent_was_named():
    with pytest.raises(dg.GraphError, match=r"Bad: 'z' has the unknown parent 'zz'; did you mean"):

        class Bad(dg.Model):
            @dg.rv
            def z(self, before=dg.lag("zz", init=0.0)):
                return Categorical(torch.ones(2))


def test_other_functions_take_no_lags():
    with pytest.raises(dg.GraphError, match="it cannot have lags"):
        dg.expectation(dg.model(z=START), lambda z, before=dg.lag("z", init=0.0): z)


class Difference(dg.Model):
    """What is seen is how a vector moves: it looks at the vector now and before."""

    @dg.rv
    def z(self, last=dg.lag("z", init=Normal(torch.zeros(2), 1.0))):
        return Normal(0.5 * last, 1.0)

    @dg.rv
    def x(self, z, before=dg.lag("z", init=0.3)):
        return Normal((z - before).sum(1), 0.5)


class Same(Difference):
    @dg.rv
    def x(self, z, before=dg.lag("z", init=torch.full((2,), 0.3))):
        return Normal((z - before).sum(1), 0.5)


class Turning(dg.Model):
    """A finite vector of which the components of the step before are seen."""

    @dg.rv
    def z(self, last=dg.lag("z", init=OneHotCategorical(torch.ones(3)))):
        return OneHotCategorical(logits=last @ torch.eye(3))

    @dg.rv
    def x(self, z, before=dg.lag("z", init=0.3)):
        return Normal((z * before).sum(1) + before[:, 0], 0.5)


class TurningSame(Turning):
    @dg.rv
    def x(self, z, before=dg.lag("z", init=torch.full((3,), 0.3))):
        return Normal((z * before).sum(1) + before[:, 0], 0.5)


@pytest.mark.parametrize(("p", "same"), [(Difference(), Same()), (Turning(), TurningSame())])
def test_a_number_stands_for_all_components_of_what_was_before(p: Any, same: Any):
    torch.manual_seed(0)
    one = p.sample(3, t=4)
    torch.manual_seed(0)
    other = same.sample(3, t=4)
    for name in one:
        torch.testing.assert_close(one[name], other[name])
    torch.testing.assert_close(p.log_prob(one), same.log_prob(one))
    x = {"x": one["x"]}
    if isinstance(p, Turning):  # an exact engine takes it
        torch.testing.assert_close(dg.log_evidence(p, x), dg.log_evidence(same, x))
        found = [dg.posterior(model, "z", given=x).mean for model in (p, same)]
        torch.testing.assert_close(*found)
    flat = p.unroll(4)
    torch.testing.assert_close(flat.log_prob(flat.apart(one)), p.log_prob(one))
    torch.manual_seed(0)
    few = dg.posterior(p, "z", given=x, method=dg.infer.SMC(50))
    torch.manual_seed(0)
    torch.testing.assert_close(
        few.mean, dg.posterior(same, "z", given=x, method=dg.infer.SMC(50)).mean
    )


def test_a_number_for_what_is_not_known_to_be_a_vector_is_told():
    p = dg.model(
        z=lambda last=dg.lag("z", init=0.0): Normal(last @ torch.eye(2), 1.0),
        x=lambda z: Normal(z.sum(1), 1.0),
    )
    text = r"init of z\[t-1\] is 0.0, so give a Tensor if z is more than a number"
    with pytest.raises(dg.GraphError, match=text):
        dg.nll(p, observed=["x"])
    with pytest.raises(dg.GraphError, match=text):
        p.sample(3, t=2)
