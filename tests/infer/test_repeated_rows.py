"""Rows of evidence that say the same are answered once, and each has its answer."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli

import daguerre as dg
from daguerre import rows as rows_module
from daguerre.infer import log_evidence, most_probable, posterior
from daguerre.infer.discrete.plan import plan_sum
from daguerre.infer.question import Question
from daguerre.rows import alike

F64 = torch.float64


def random_table(*sizes):
    return torch.rand(*sizes, dtype=F64).log_softmax(-1).exp()


def network():
    """Variables of 2, 3, 5 and 2 states: a -> b, (a, b) -> c, c -> d."""
    torch.manual_seed(0)
    return dg.model(
        a=dg.Tabular(random_table(2)),
        b=dg.Tabular(random_table(2, 3), "a"),
        c=dg.Tabular(random_table(2, 3, 5), "a", "b"),
        d=dg.Tabular(random_table(5, 2), "c"),
    )


EVIDENCE = {
    "b": torch.tensor([2, 0, 2, -1, 2, -1, 0, 1]),
    "d": torch.tensor([1, 1, 1, 0, -1, 0, 1, 0]),
}
FLOATS = {n: v.double().masked_fill(v < 0, math.nan) for n, v in EVIDENCE.items()}


@pytest.mark.parametrize("given", [EVIDENCE, FLOATS], ids=["integers", "floats"])
def test_each_row_has_the_answer_of_its_own(given):
    p = network()
    found, best = posterior(p, ["a", "c"], given=given), most_probable(p, ["a", "c"], given=given)
    one = [{n: v[i : i + 1] for n, v in EVIDENCE.items() if v[i] >= 0} for i in range(8)]
    alone = [posterior(p, ["a", "c"], given=row) for row in one]
    for name in ("a", "c"):
        expected = torch.cat([answer.probs[name] for answer in alone])
        torch.testing.assert_close(found.probs[name], expected)
        assert len(found.sample(3)[name][0]) == 8
    logs = torch.cat([log_evidence(p, row) for row in one])
    torch.testing.assert_close(found.log_evidence, logs)
    torch.testing.assert_close(log_evidence(p, given), logs)
    torch.testing.assert_close(
        best.log_prob, torch.cat([most_probable(p, ["a", "c"], given=row).log_prob for row in one])
    )


def test_five_of_eight_rows_are_worked_on():
    few, place = Question.of(network(), "a", EVIDENCE).distinct()
    assert few.evidence.rows == 5
    assert place is not None
    for name, values in EVIDENCE.items():
        assert few.evidence.values[name][place].equal(values)


def test_a_row_counts_as_often_as_it_comes_in_a_gradient():
    p = network()
    together = torch.autograd.grad(log_evidence(p, EVIDENCE).sum(), [*p.parameters()])
    one = [{n: v[i : i + 1] for n, v in EVIDENCE.items()} for i in range(8)]
    alone = torch.stack([log_evidence(p, row).sum() for row in one]).sum()
    torch.testing.assert_close(together, torch.autograd.grad(alone, [*p.parameters()]))


def test_rows_that_say_the_same_are_drawn_apart():
    p = dg.model(a=dg.Tabular([0.5, 0.5]), b=dg.Tabular([[0.5, 0.5], [0.5, 0.5]], "a"))
    torch.manual_seed(0)
    drawn = posterior(p, "a", given={"b": torch.zeros(1000, dtype=torch.long)}).sample(2)
    assert drawn.shape == (2, 1000)
    assert (drawn.double().mean(1) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(1000)
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.parametrize("wrong", [1.5, 7.0, -1.0, math.inf])
def test_what_is_no_state_is_not_taken_for_its_neighbour(wrong):
    b = torch.tensor([1.0, 1.0, math.nan, wrong, math.nan])
    with pytest.raises(dg.GraphError, match=rf"b has the states 0 to 2, but .*\b{abs(wrong)}\b"):
        posterior(network(), "a", given={"b": b})


def test_rows_of_a_net_are_left_as_they_are():
    net = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))
    p = dg.model(
        a=dg.Tabular([0.5, 0.5]),
        b=dg.rv(lambda a, net: Bernoulli(logits=net(a[:, None].float())[:, 0]), net=net),
    )
    assert Question.of(p, "a", {"b": torch.zeros(9)}).distinct()[1] is None


def test_numbers_of_rows_stay_numbers_however_many_columns(monkeypatch):
    torch.manual_seed(0)
    columns = torch.randint(3, (50, 4)).unbind(1)
    expected = torch.stack(columns, 1).unique(dim=0, return_inverse=True)[1]
    monkeypatch.setattr(rows_module, "MANY", 100)
    assert alike(columns).equal(expected)


def test_each_slot_is_let_go_once_it_was_read():
    plan = plan_sum(
        ((0,), (0, 1), (0, 1, 2), (2, -1)), ((-1, 10), (0, 2), (1, 3), (2, 5)), ((0,), (1,))
    )
    spent = [slot for slots in plan.spent for slot in slots]
    read = {*plan.tree.roots, *(marginal.slot for marginal in plan.marginals)}
    assert len(spent) == len({*spent})
    assert {*spent} | read == {*range(len(plan.axes))}
    for i, step in enumerate(plan.steps):
        earlier = {slot for slots in plan.spent[:i] for slot in slots}
        assert not earlier & {step.left, step.right}
