"""Sequences of different lengths: no rows beyond an end, and the same numbers as with them."""

import math
from functools import partial

import pytest
import torch
from sequences import COSTS, STANDARD, D, at_once, in_a_plate, lengths, net, smoothed, zeros
from torch import Tensor
from torch.distributions import Normal

import daguerre as dg
from daguerre.objectives.density import KullbackLeibler, in_rows
from daguerre.objectives.objective import Round
from daguerre.ragged import Ragged
from daguerre.repeats import Sizes

CASES = {
    "read ahead": (smoothed, lengths(3, 7, 1)),
    "all at once": (at_once, lengths(3, 7, 1)),
    "all at once, told the lengths": (partial(at_once, told=True), lengths(3, 7, 1)),
    "a step each but one": (partial(at_once, told=True), lengths(1, 2)),
    "none reaches the end": (smoothed, lengths(5, 2, 5)),
    "one sequence": (smoothed, lengths(4)),
    "in a plate": (in_a_plate, lengths(3, 7, 1, plates=(4,))),
}


def drawn(law: Normal) -> Tensor:
    """A draw whose noise depends on the copy alone, not on how many rows there are."""
    noise = torch.tensor(0.3)
    if law.loc.dim() == 3:
        noise = torch.linspace(-1, 1, len(law.loc))[:, None, None]
    return law.loc + law.scale * noise


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cost", COSTS)
def test_no_rows_beyond_an_end_change_nothing(case, cost, monkeypatch):
    monkeypatch.setattr("daguerre.program.pathwise_draw", drawn)
    build, x = CASES[case]
    torch.manual_seed(1)
    p, q = build()
    objective = COSTS[cost](p, q)
    found = []
    for _ in range(2):
        loss = objective.losses({"x": x})["model"]
        of = [*p.parameters(), *q.parameters()]
        found.append((loss, torch.autograd.grad(loss, of, materialize_grads=True)))
        monkeypatch.setattr(Sizes, "without_ends", lambda self: self)
    torch.testing.assert_close(*found)


def test_each_sequence_costs_what_it_would_alone(monkeypatch):
    monkeypatch.setattr("daguerre.program.pathwise_draw", drawn)
    torch.manual_seed(1)
    p, q = smoothed()
    x = lengths(3, 7, 1)
    _, part = dg.elbo(p, q, partial=["x"]).parts[0]
    assert isinstance(part, KullbackLeibler)
    together = part.per_example(Round(3, {"x": x}))
    alone = [
        part.per_example(Round(1, {"x": one[None, :last]}))
        for one, last in zip(x, (3, 7, 1), strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_cpd_sees_the_steps_that_there_are():
    seen = []

    def see(z: Tensor) -> Normal:
        seen.append(len(z))
        return Normal(z, 0.5)

    p = dg.model(z=lambda z=dg.lag("z", init=STANDARD): Normal(z, 0.7), x=see)
    q = dg.model(x=dg.Input(D, dtype=torch.float64), z=lambda x: Normal(x, 1.0))
    cost = dg.elbo(p, q, partial=["x"])
    seen.clear()
    cost.losses({"x": lengths(3, 7, 1)})
    assert seen == [11]
    seen.clear()
    cost.losses({"x": lengths(7, 7, 7)})
    assert seen == [21]


def test_gaps_before_an_end_are_steps():
    x = lengths(3, 7, 1)
    x[1, 2:5] = torch.nan
    p, q = at_once()
    at = in_rows(Round(3, {"x": x}), {"x": ("t",), "z": ("t",)}, ["x"])
    assert at.sizes is not None
    assert at.sizes.ragged is not None
    assert at.sizes.ragged.counts == (3, 2, 2, 1, 1, 1, 1)
    assert math.isfinite(dg.elbo(p, q, partial=["x"]).losses({"x": x})["model"].item())


def test_rows_are_found_by_step():
    active = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    ragged = Ragged(active, torch.device("cpu"))
    assert ragged.examples.tolist() == [0, 1, 2, 0, 2, 2]
    assert ragged.shifted(1).tolist() == [6, 6, 6, 0, 2, 4]
    assert ragged.shifted(-2).tolist() == [6, 6, 5, 6, 6, 6]
    assert ragged.turned.tolist() == [3, 1, 5, 0, 4, 2]
    assert ragged.window(1, 2).counts == (2, 1)
    assert ragged.left(-1, 0) is None
    found = [ragged.left(*slices) for slices in ((0, 1), (1, 2), (-1, 2))]
    assert [rows.tolist() for rows in found if rows is not None] == [[0, 2], [1], [2]]


def test_doubly_reparametrised_gradients_over_time_have_the_mean_of_plain_ones():
    """Within 4 standard errors of the difference, a failure in some 3,000 seeds."""
    torch.manual_seed(0)
    p = dg.model(
        z=dg.rv(lambda net, z=dg.lag("z", init=zeros()): Normal(net(z), 0.7), net=net(D)),
        x=lambda z: Normal(z, 0.8),
    )
    q = dg.model(
        x=dg.Input(D, dtype=torch.float64),
        z=dg.rv(
            lambda x, net, z=dg.lag("z", init=zeros()): Normal(net(torch.cat([x, z], 1)), 0.6),
            net=net(2 * D),
        ),
    )
    x = lengths(3, 1, longest=3).repeat(1_000, 1, 1)
    weights, means = [*q.parameters()], []
    for gradients in (dg.estimators.PATHWISE, dg.estimators.DREG):
        cost = dg.iwae(p, q, particles=4, partial=["x"], gradients=gradients)
        grads = [torch.autograd.grad(cost.losses({"x": x})["model"], weights) for _ in range(40)]
        means.append([torch.stack(g) for g in zip(*grads, strict=True)])
    for plain, doubly in zip(*means, strict=True):
        error = (plain.var(0) / 40 + doubly.var(0) / 40).sqrt()
        assert ((plain.mean(0) - doubly.mean(0)).abs() < 4 * error).all()
