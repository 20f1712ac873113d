"""The discrete engine alone: random products of tables, against enumeration of all states."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.infer.discrete.plan import plan_sum
from daguerre.infer.discrete.run import Factor, run_sum
from daguerre.infer.discrete.traceback import maximise, sample_states
from daguerre.infer.discrete.tree import BATCH

PRIMES = (2, 3, 5, 2, 3, 2)
ROWS = 3


def product(draw_seed: int, zeros: float = 0.0):
    """Random factors over up to six variables, some with rows of evidence."""
    generator = torch.Generator().manual_seed(draw_seed)
    chance = lambda: torch.rand((), generator=generator).item()  # noqa: E731
    n = 2 + int(chance() * 5)
    factors = []
    for v in range(n):
        scope = [v, *(u for u in range(n) if u != v and chance() < 0.35)][:4]
        batch = [BATCH] if chance() < 0.5 else []
        shape = [*[ROWS] * len(batch), *(PRIMES[a] for a in scope)]
        table = torch.rand(shape, generator=generator, dtype=torch.float64)
        if zeros:
            table = table * (torch.rand(shape, generator=generator) > zeros)
        factors.append(Factor((*batch, *scope), table))
    return n, factors


def joint(n, factors):
    """The whole table, [rows, *sizes]."""
    letters = "abcdefgh"
    terms = [
        "z" * (BATCH in f.axes) + "".join(letters[a] for a in f.axes if a >= 0) for f in factors
    ]
    tables = [f.table for f in factors]
    ones = torch.ones(ROWS, *PRIMES[:n], dtype=torch.float64)
    return torch.einsum(f"{','.join(terms)},z{letters[:n]}->z{letters[:n]}", *tables, ones)


def planned(n, factors, targets=(), held=frozenset()):
    sizes = ((BATCH, ROWS), *((v, PRIMES[v]) for v in range(n)))
    return plan_sum(tuple(f.axes for f in factors), sizes, targets, held)


seeds = st.integers(0, 10**6)
few = settings(max_examples=40, deadline=None)


@few
@given(seeds, st.sampled_from([0.0, 0.4]), st.booleans())
def test_totals_and_all_marginals_are_those_of_enumeration(seed, zeros, is_network):
    n, factors = product(seed, zeros)
    whole = joint(n, factors)
    targets = (*((v,) for v in range(n)), tuple(reversed([a for a in factors[0].axes if a >= 0])))
    found = run_sum(planned(n, factors, targets), factors, ROWS, is_network=is_network)
    total = whole.flatten(1).sum(1)
    torch.testing.assert_close(found.log_total, total.log(), rtol=1e-12, atol=1e-12)
    for target, marginal in zip(targets, found.marginals, strict=True):
        letters = "abcdefgh"
        expected = torch.einsum(
            f"z{letters[:n]}->z{''.join(letters[a] for a in target)}", whole
        ) / torch.where(total > 0, total, 1.0).reshape(-1, *[1] * len(target))
        expected = expected if len(marginal) > 1 else expected[total.argmax()][None]
        possible = (total > 0) if len(marginal) > 1 else slice(None)
        assert marginal.isfinite().all()
        torch.testing.assert_close(marginal[possible], expected[possible], rtol=1e-10, atol=1e-12)


@few
@given(seeds)
def test_the_most_probable_states_are_those_of_enumeration(seed):
    n, factors = product(seed)
    whole = joint(n, factors)
    states, top = maximise(planned(n, factors), factors, ROWS)
    index = tuple(states[v] for v in range(n))
    torch.testing.assert_close(top, whole.flatten(1).amax(1).log())
    torch.testing.assert_close(whole[(torch.arange(ROWS), *index)].log(), top)


@few
@given(seeds)
def test_marginal_map_sums_before_it_maximises(seed):
    n, factors = product(seed)
    whole = joint(n, factors)
    summed = set(range(0, n, 2))
    held = frozenset(range(n)) - summed
    states, top = maximise(planned(n, factors, held=held), factors, ROWS, summed=summed)
    left = whole.sum([v + 1 for v in summed])
    torch.testing.assert_close(top, left.flatten(1).amax(1).log())
    index = tuple(states[v] for v in sorted(held))
    torch.testing.assert_close(left[(torch.arange(ROWS), *index)].log(), top)
    assert set(states) == held


def test_draws_have_the_joint_distribution_of_the_states_given_each_row():
    n, factors = product(3)
    whole = joint(n, factors)
    torch.manual_seed(0)
    copies = 40_000
    drawn = sample_states(planned(n, factors), factors, ROWS, copies)
    flat = torch.stack([drawn[v] * math.prod(PRIMES[v + 1 : n]) for v in range(n)]).sum(0)
    for row in range(ROWS):
        counts = flat.reshape(copies, ROWS)[:, row].bincount(minlength=whole[0].numel())
        expected = whole[row].flatten() / whole[row].sum()
        z = (counts / copies - expected) / (expected * (1 - expected) / copies).sqrt()
        assert z.abs().max() < 5  # fails by chance less than once in a thousand times


def test_a_total_far_below_the_smallest_number_is_found():
    factors = [
        Factor((BATCH, v), torch.full((1, 2), 1e-200, dtype=torch.float64)) for v in range(4)
    ]
    plan = plan_sum(
        tuple(f.axes for f in factors), ((BATCH, 1), *((v, 2) for v in range(4))), ((0,),)
    )
    found = run_sum(plan, factors, 1)
    assert found.log_total.item() == pytest.approx(4 * math.log(2e-200))
    assert found.marginals[0].tolist() == [[0.5, 0.5]]


def test_contradictions_have_no_total_and_no_nan():
    factors = [
        Factor((0,), torch.tensor([1.0, 0.0])),
        Factor((BATCH, 0), torch.tensor([[0.0, 1.0], [1.0, 1.0]])),
    ]
    plan = plan_sum(((0,), (BATCH, 0)), ((BATCH, 2), (0, 2)), ((0,),))
    found = run_sum(plan, factors, 2)
    assert found.log_total.tolist() == [-math.inf, 0.0]
    assert found.marginals[0].tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_gradients_of_the_total_are_its_marginals():
    table = torch.tensor([[0.1, 0.9], [0.6, 0.4]], dtype=torch.float64, requires_grad=True)
    prior = torch.tensor([0.3, 0.7], dtype=torch.float64)
    plan = plan_sum(((0,), (0, 1)), ((0, 2), (1, 2), (BATCH, 1)), ())
    total = run_sum(plan, [Factor((0,), prior), Factor((0, 1), table)], 1).log_total
    total.backward()
    assert table.grad is not None
    assert table.grad.tolist() == [[pytest.approx(0.3)] * 2, [pytest.approx(0.7)] * 2]


def test_a_naive_bayes_of_many_children_is_planned_and_summed():
    features = 300
    tables = [torch.rand(2, 3, dtype=torch.float64) for _ in range(features)]
    tables = [t / t.sum(1, keepdim=True) for t in tables]
    factors = [Factor((0,), torch.tensor([0.5, 0.5], dtype=torch.float64))]
    factors += [Factor((0, i + 1), t) for i, t in enumerate(tables)]
    sizes = ((BATCH, 1), (0, 2), *((i + 1, 3) for i in range(features)))
    plan = plan_sum(tuple(f.axes for f in factors), sizes, ((0,), (features,)))
    found = run_sum(plan, factors, 1)
    assert found.log_total.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(found.marginals[1][0], tables[-1].mean(0))


def test_all_states_of_all_variables_can_be_listed_in_this_test():
    assert len(list(itertools.product(*map(range, PRIMES)))) == 360
