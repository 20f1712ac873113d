"""A question asked again in the same form is answered as it was the first time."""

import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import daguerre as dg
from daguerre.infer.routine import recall

STATES = {"a": 2, "b": 3, "c": 5, "d": 2}
PARENTS = {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("c",)}


def table(name, rng, dtype=torch.float64):
    shape = [*(STATES[p] for p in PARENTS[name]), STATES[name]]
    return torch.rand(shape, generator=rng, dtype=dtype).softmax(-1)


def network(seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return dg.model(
        **{
            n: dg.Tabular(
                table(n, rng, dtype),
                *PARENTS[n],
                states=[f"{n}{i}" for i in range(STATES[n])],
                learned=False,
            )
            for n in STATES
        }
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@settings(max_examples=25, deadline=None)
@given(evidence=st.sets(st.sampled_from(list(STATES)), max_size=3), seed=st.integers(0, 99))
def test_asked_again_it_is_the_answer_of_a_model_never_asked(dtype, evidence, seed):
    p, names = network(seed, dtype), sorted(evidence)
    targets = [n for n in STATES if n not in evidence]
    dg.posterior(p, targets, given=dict.fromkeys(names, 0))
    for last in range(2):
        known = {n: f"{n}{last}" if n < "c" else STATES[n] - 1 - last for n in names}
        assert recall(p, targets, known) is not None
        again, fresh = (dg.posterior(m, targets, given=known) for m in (p, network(seed, dtype)))
        assert (again.method, again.exact) == (fresh.method, fresh.exact)
        torch.testing.assert_close(again.probs, fresh.probs)
        torch.testing.assert_close(again.log_evidence, fresh.log_evidence)
        values = {n: torch.tensor([1]) for n in targets}
        torch.testing.assert_close(again.log_prob(values), fresh.log_prob(values))
        torch.manual_seed(0)
        drawn = again.sample(4)
        torch.manual_seed(0)
        torch.testing.assert_close(drawn, fresh.sample(4))


def test_one_target_stays_a_tensor():
    p = network()
    first, again = (dg.posterior(p, "a", given={"d": "d1"}) for _ in range(2))
    assert torch.equal(first.probs, again.probs)


def test_tables_that_change_are_read_again():
    p, other = network(), network(1)
    before = dg.posterior(p, "a", given={"d": 0}).probs
    p.load_state_dict(other.state_dict())
    after = dg.posterior(p, "a", given={"d": 0}).probs
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, dg.posterior(other, "a", given={"d": 0}).probs)


def test_a_model_rewritten_has_a_routine_of_its_own():
    p = network()
    dg.posterior(p, "a", given={"d": 0})
    done = dg.do(p, b=1)
    assert recall(done, ["a"], {"d": 0}) is None
    fresh = dg.posterior(dg.do(network(), b=1), "a", given={"d": 0})
    for _ in range(2):
        torch.testing.assert_close(dg.posterior(done, "a", given={"d": 0}).probs, fresh.probs)


@pytest.mark.parametrize("value", ["d7", 2, -2, 0.5, [0, 7]])
def test_wrong_states_are_refused_the_second_time_too(value):
    p = network()
    dg.posterior(p, "a", given={"d": 0})
    with pytest.raises(dg.GraphError, match="d has"):
        dg.posterior(p, "a", given={"d": value})


def test_what_a_row_lacks_or_says_softly_is_no_routine():
    p, q = network(), network()
    dg.posterior(p, "a", given={"d": 0})
    likely = {"d": torch.tensor([1.0, 3.0])}
    for known, soft in ({"d": [None, 1]}, None), ({}, likely):
        again, fresh = (dg.posterior(m, "a", given=known, soft=soft) for m in (p, q))
        torch.testing.assert_close(again.probs, fresh.probs)


def test_impossible_evidence_is_refused_the_second_time_too():
    p = dg.model(
        a=dg.Tabular([0.5, 0.5], learned=False),
        b=dg.Tabular([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "a", learned=False),
    )
    dg.posterior(p, "a", given={"b": 0})
    with pytest.raises(dg.GraphError, match=r"probability zero.*b = 2"):
        dg.posterior(p, "a", given={"b": 2})


def test_learned_tables_keep_their_gradients():
    p = dg.model(a=dg.Tabular([0.5, 0.5]), b=dg.Tabular([[0.9, 0.1], [0.2, 0.8]], "a"))
    for _ in range(2):
        assert dg.posterior(p, "a", given={"b": 0}).probs.requires_grad


def test_a_model_that_goes_takes_its_routines_along():
    p = network()
    dg.posterior(p, "a", given={"d": 0})
    gone = weakref.ref(p)
    del p
    gc.collect()
    assert gone() is None
