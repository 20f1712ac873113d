"""Chains are run and scored: slice by slice where they must be, else all slices at once."""

from itertools import product
from typing import Any

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)
from torch.nn.functional import one_hot

import daguerre as dg
from daguerre.graph import Graph
from daguerre.structure.recurrence import blocks


def walk(start: Any = Normal(torch.zeros(2), 1.0)):
    return dg.model(
        z=lambda before=dg.lag("z", init=start): Normal(0.9 * before, 0.5),
        x=lambda z: Normal(z.sum(1), 1.0),
    )


def language_model(seed=0):
    torch.manual_seed(seed)
    return dg.model(
        h=dg.deterministic(
            lambda cell, before=dg.lag("h", init=torch.zeros(3)), y=dg.lag("y", init=0): cell(
                one_hot(y.long(), 2).float(), before
            ),
            cell=torch.nn.GRUCell(2, 3),
        ),
        y=dg.rv(lambda h, out: Categorical(logits=out(h)), out=torch.nn.Linear(3, 2)),
    )


class LongShort(dg.Model):
    """An LSTM: two variables, each of which needs the other's past."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.out = torch.nn.LSTMCell(2, 3), torch.nn.Linear(3, 2)

    @dg.deterministic
    def c(
        self,
        c=dg.lag("c", init=torch.zeros(3)),
        h=dg.lag("h", init=torch.zeros(3)),
        y=dg.lag("y", init=0),
    ):
        return self.cell(one_hot(y.long(), 2).float(), (h, c))[1]

    @dg.deterministic
    def h(
        self,
        c,
        past=dg.lag("c", init=torch.zeros(3)),
        h=dg.lag("h", init=torch.zeros(3)),
        y=dg.lag("y", init=0),
    ):
        return self.cell(one_hot(y.long(), 2).float(), (h, past))[0] + 0 * c

    @dg.rv
    def y(self, h):
        return Categorical(logits=self.out(h))


def test_a_walk_is_scored_as_its_formula_says():
    p = walk()
    s = p.sample(4, t=6)
    z, x = s["z"], s["x"]
    assert (z.shape, x.shape) == ((4, 6, 2), (4, 6))
    want = Normal(0.0, 1.0).log_prob(z[:, 0]).sum(1)
    want += Normal(0.9 * z[:, :-1], 0.5).log_prob(z[:, 1:]).sum((1, 2))
    want += Normal(z.sum(2), 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(p.log_prob(s), want)


def test_a_start_that_is_a_value_holds_for_the_cpd_from_the_first_step():
    p = walk(torch.tensor([1.0, 2.0]))
    z = p.sample(3, t=4)["z"]
    before = torch.cat([torch.tensor([1.0, 2.0]).expand(3, 1, 2), z[:, :-1]], 1)
    want = Normal(0.9 * before, 0.5).log_prob(z).sum((1, 2))
    torch.testing.assert_close(p["z"].log_prob({"z": z}), want)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_two_lags_have_a_law_for_each_step_without_a_past(steps):
    one, two = dg.lag("z", 1, init=Normal(0.0, 1.0)), dg.lag("z", 2, init=Normal(5.0, 1.0))
    p = dg.model(z=lambda a=one, b=two: Normal(a + 0.1 * b, 1.0))
    z = p.sample(2, t=steps)["z"]
    means = [torch.tensor(0.0), torch.tensor(5.0)]
    means += [z[:, t - 1] + 0.1 * z[:, t - 2] for t in range(2, steps)]
    want = sum(Normal(m, 1.0).log_prob(z[:, t]) for t, m in enumerate(means[:steps]))
    torch.testing.assert_close(p.log_prob({"z": z}), want)


@pytest.mark.parametrize("build", [language_model, LongShort])
def test_a_recurrent_net_sums_to_one_over_all_sequences(build):
    p, steps = build(), 5
    every = torch.tensor(list(product([0, 1], repeat=steps)))
    total = p["y"].log_prob({"y": every}).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-5)


def test_the_eliminated_edges_of_a_recurrent_net_are_real():
    """y_1 is told apart by y_3 though y_2 is given: the unit's memory reaches past it."""
    p = language_model()
    every = torch.tensor(list(product([0, 1], repeat=3)))
    joint = p["y"].log_prob({"y": every}).exp().reshape(2, 2, 2)
    later = joint / joint.sum(2, keepdim=True)  # p(y_3 | y_1, y_2)
    assert (later[0] - later[1]).abs().max() > 1e-3


def test_a_recurrent_net_is_the_loop_that_one_would_write():
    p = language_model()
    s = p.sample(5, t=7)
    cell, out = p.get_submodule("h.cell"), p.get_submodule("y.out")
    h, y, total = torch.zeros(5, 3), torch.zeros(5, dtype=torch.long), 0.0
    for t in range(7):
        h = cell(one_hot(y, 2).float(), h)
        torch.testing.assert_close(s["h"][:, t], h)
        y = s["y"][:, t]
        total = total + Categorical(logits=out(h)).log_prob(y)
    torch.testing.assert_close(p.log_prob(s), total)
    torch.testing.assert_close(p["y"].log_prob({"y": s["y"]}), total)


def test_a_backward_net_reads_what_is_to_come():
    torch.manual_seed(0)
    q = dg.model(
        x=dg.Input(2),
        b=dg.deterministic(
            lambda x, cell, after=dg.lag("b", -1, init=torch.zeros(3)): cell(x, after),
            cell=torch.nn.GRUCell(2, 3),
        ),
        z=dg.rv(
            lambda b, net, before=dg.lag("z", init=torch.zeros(2)): Normal(
                net(torch.cat([b, before], 1)), 1.0
            ),
            net=torch.nn.Linear(5, 2),
        ),
    )
    x = torch.randn(3, 5, 2)
    s = q.sample(given={"x": x})
    cell = q.get_submodule("b.cell")
    b = torch.zeros(3, 3)
    for t in reversed(range(5)):
        b = cell(x[:, t], b)
        torch.testing.assert_close(s["b"][:, t], b)
    assert q.log_prob({"x": x, "z": s["z"]}).shape == (3,)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (Normal(torch.zeros(2), 2.0), lambda z: Normal(z, 1.0)),
        (dg.StandardNormal(2), lambda z: Normal(z, 1.0)),
        (Bernoulli(0.3 * torch.ones(2)), lambda z: Bernoulli(0.2 + 0.5 * z)),
        (
            Categorical(torch.tensor([1.0, 0.0])),
            lambda z: Categorical(one_hot(z.long(), 2).float()),
        ),
        (OneHotCategorical(torch.ones(3)), lambda z: OneHotCategorical(logits=z)),
        (
            MultivariateNormal(torch.zeros(2), torch.eye(2)),
            lambda z: MultivariateNormal(z, 2 * torch.eye(2).expand(len(z), 2, 2)),
        ),
        (Independent(Normal(torch.zeros(2), 1.0), 1), lambda z: Independent(Normal(z, 1.0), 1)),
    ],
)
def test_laws_of_the_first_step_join_those_of_the_others(first, later):
    p = dg.model(z=lambda before=dg.lag("z", init=first): later(before))
    z = p.sample(4, t=3)["z"]
    terms = [first.log_prob(z[:, 0]), *(later(z[:, t - 1]).log_prob(z[:, t]) for t in (1, 2))]
    want = sum(term.reshape(4, -1).sum(1) for term in terms)
    torch.testing.assert_close(p.log_prob({"z": z}), want)


def test_another_family_for_the_first_step_is_refused_when_the_whole_is_scored():
    p = dg.model(
        z=lambda b=dg.lag("z", init=Normal(0.0, 1.0)): torch.distributions.Laplace(b, 1.0)
    )
    with pytest.raises(dg.GraphError, match="is a Normal, but its CPD gives a Laplace"):
        p.log_prob(p.sample(2, t=3))


def test_what_is_outside_time_holds_for_all_steps():
    time = dg.Plate("t")
    p = dg.model(
        s=Normal(0.0, 1.0),
        z=lambda s, before=dg.lag("z", init=Normal(0.0, 1.0)): Normal(before + s, 1.0),
        x=time(dg.rv(lambda z: Normal(z, 1.0))),  # type: ignore[arg-type]
    )
    v = p.sample(3, t=4)
    assert {k: tuple(x.shape) for k, x in v.items()} == {"s": (3,), "z": (3, 4), "x": (3, 4)}
    means = torch.cat([torch.zeros(3, 1), v["z"][:, :-1] + v["s"][:, None]], 1)
    want = Normal(0.0, 1.0).log_prob(v["s"]) + Normal(means, 1.0).log_prob(v["z"]).sum(1)
    want += Normal(v["z"], 1.0).log_prob(v["x"]).sum(1)
    torch.testing.assert_close(p.log_prob(v), want)


def test_without_a_plate_of_time_every_variable_has_slices():
    p = dg.model(
        e=Normal(0.0, 1.0),
        h=dg.deterministic(lambda e, before=dg.lag("h", init=0.0): 0.5 * before + e),  # type: ignore[arg-type]
    )
    v = p.sample(3, t=4)
    assert v["e"].shape == v["h"].shape == (3, 4)
    torch.testing.assert_close(v["h"][:, 1], 0.5 * v["h"][:, 0] + v["e"][:, 1])


def test_gradients_flow_through_a_path():
    net = torch.nn.Linear(1, 1)
    p = dg.model(
        z=dg.rv(
            lambda net, before=dg.lag("z", init=Normal(torch.zeros(1), 1.0)): Normal(
                net(before), 1.0
            ),
            net=net,
        )
    )
    p.rsample(3, t=5)["z"].sum().backward()
    assert net.weight.grad is not None
    assert net.weight.grad.abs() > 0


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda: walk().sample(2), r"number of steps t is not known: .*t=10"),
        (lambda: walk().sample(2, k=3), "no plate 'k' to have a size"),
        (lambda: walk().sample(2, t=0), "size of the plate t is 1 or more, not 0"),
        (
            lambda: walk().log_prob({"z": torch.zeros(2, 3, 2), "x": torch.zeros(2, 4)}),
            "t differs",
        ),
        (
            lambda: walk().log_prob({"z": torch.zeros(2), "x": torch.zeros(2, 4)}),
            r"z is \[n, t, \*event\]",
        ),
        (lambda: walk().sample(2, {"x": torch.zeros(2, 4)}), "ancestors z are not"),
    ],
)
def test_bad_input_is_one_clear_error(ask, text):
    with pytest.raises(dg.GraphError, match=text):
        ask()


def test_a_cycle_with_lags_of_both_signs_is_refused():
    g = Graph.from_edges([], lagged=[("a", "b", 1), ("b", "a", -1)])
    with pytest.raises(dg.InadmissibleError, match="from neither end"):
        blocks(g)
