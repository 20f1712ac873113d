"""Hidden Markov models against the sum over all paths."""

import itertools
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from daguerre.graph import GraphError
from daguerre.infer.chain.hmm import HMM, filtered, log_evidence, plan_of, smoothed
from daguerre.infer.chain.paths import draw_paths, viterbi
from daguerre.infer.chain.plan import Plan

INF = math.inf


def close(a: Tensor, b: Tensor, *, atol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=atol)


def enumerate_paths(hmm: HMM, b: int) -> tuple[list[tuple[int, ...]], Tensor]:
    """All paths of one sequence and their joint log-probabilities."""
    _, steps, k = hmm.shape
    length = steps if hmm.lengths is None else int(hmm.lengths[b])
    start = hmm.log_start.expand(hmm.shape[0], k)[b]
    transition = hmm.log_transition.expand(hmm.shape[0], steps - 1, k, k)[b]
    paths = list(itertools.product(range(k), repeat=length))
    total = []
    for path in paths:
        score = start[path[0]] + hmm.log_likelihood[b, 0, path[0]]
        for t in range(1, length):
            score = score + transition[t - 1, path[t - 1], path[t]]
            score = score + hmm.log_likelihood[b, t, path[t]]
        total.append(score)
    return paths, torch.stack(total)


def hmm_of(kind: str, *, batch: int = 2, steps: int = 5, k: int = 3) -> HMM:
    g = torch.Generator().manual_seed(len(kind))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    start, transition = normal(k).log_softmax(-1), normal(k, k).log_softmax(-1)
    likelihood, lengths = normal(batch, steps, k) * 2, None
    match kind:
        case "missing":
            likelihood[0, 1:3] = 0
            likelihood[1, 4] = 0
        case "ragged":
            lengths = torch.tensor([5, 2, 1, 4])
            likelihood = normal(4, steps, k)
        case "left to right":
            transition = transition.masked_fill(torch.ones(k, k).tril(-1).bool(), -INF)
            start = torch.tensor([0.0, -INF, -INF], dtype=torch.float64)
            likelihood[1, 2, 1:] = -INF
        case "per step":
            transition = normal(steps - 1, k, k)
        case "per step and sequence":
            start, transition = normal(batch, k), normal(batch, steps - 1, k, k)
            lengths = torch.tensor([3, 5])
            transition[0, 1, 2, :2] = -INF
        case "unlikely":
            likelihood = normal(batch, steps, k) * 3000
    return HMM(start, transition, likelihood, lengths)


KINDS = (
    "plain",
    "missing",
    "ragged",
    "left to right",
    "per step",
    "per step and sequence",
    "unlikely",
)
PLANS = (
    Plan(4),
    Plan(4, 2),
    Plan(4, 3),
    Plan(4, 2, tree=True),
    Plan(4, 4),
    Plan(4, 4, tree=True),
)
every = pytest.mark.parametrize("kind", KINDS)
planned = pytest.mark.parametrize("plan", PLANS, ids=str)


@every
@planned
def test_posteriors_are_those_of_all_paths(kind: str, plan: Plan) -> None:
    hmm = hmm_of(kind)
    ahead, found = filtered(hmm, plan=plan), smoothed(hmm, plan=plan)
    for b in range(hmm.shape[0]):
        paths, scores = enumerate_paths(hmm, b)
        close(found.log_evidence[b], scores.logsumexp(0))
        close(ahead.log_evidence[b], scores.logsumexp(0))
        close(log_evidence(hmm, plan=plan)[b], scores.logsumexp(0))
        probs = scores.softmax(0)
        marginals = torch.zeros(len(paths[0]), hmm.shape[2], dtype=torch.float64)
        counts = torch.zeros(hmm.shape[2], hmm.shape[2], dtype=torch.float64)
        for path, p in zip(paths, probs, strict=True):
            for t, state in enumerate(path):
                marginals[t, state] += p
                if t:
                    counts[path[t - 1], state] += p
        close(found.probs[b, : len(paths[0])], marginals)
        close(found.counts[b], counts)
        close(ahead.probs[b, len(paths[0]) - 1], marginals[-1])


@every
@planned
def test_the_most_probable_path_is_the_best_of_all(kind: str, plan: Plan) -> None:
    hmm = hmm_of(kind)
    found = viterbi(hmm, plan=plan)
    for b in range(hmm.shape[0]):
        paths, scores = enumerate_paths(hmm, b)
        close(found.log_prob[b], scores.max())
        best = paths[int(scores.argmax())]
        assert tuple(found.states[b, : len(best)].tolist()) == best
        assert set(found.states[b, len(best) :].tolist()) <= {best[-1]}


@every
def test_what_is_filtered_knows_only_the_past(kind: str) -> None:
    hmm = hmm_of(kind)
    ahead = filtered(hmm, plan=Plan(4, 2)).probs
    for t in range(1, 5):
        m = hmm.log_transition
        m = m if m.dim() == 2 else m[..., : t - 1, :, :]
        lengths = None if hmm.lengths is None else hmm.lengths.clamp(max=t)
        close(
            ahead[:, t - 1],
            smoothed(HMM(hmm.log_start, m, hmm.log_likelihood[:, :t], lengths)).probs[:, -1],
        )


@every
def test_draws_have_the_posterior_frequencies(kind: str) -> None:
    hmm, n = hmm_of(kind), 2000
    torch.manual_seed(0)
    draws = draw_paths(hmm, n, plan=Plan(4, 2))
    for b in range(hmm.shape[0]):
        paths, scores = enumerate_paths(hmm, b)
        probs = dict(zip(paths, scores.softmax(0).tolist(), strict=True))
        drawn = [tuple(row) for row in draws[:, b, : len(paths[0])].tolist()]
        for path, p in probs.items():
            error = 5 * math.sqrt(p * (1 - p) / n) + 4 / n  # fails less than once in 10^4 runs
            assert abs(drawn.count(path) / n - p) <= error


@pytest.mark.parametrize(
    "kind", ["plain", "ragged", "left to right", "per step", "per step and sequence"]
)
@pytest.mark.parametrize("plan", [Plan(4), Plan(4, 3), Plan(4, 4, tree=True)], ids=str)
def test_the_gradient_is_that_of_finite_differences(kind: str, plan: Plan) -> None:
    hmm = hmm_of(kind)
    tensors = [hmm.log_start, hmm.log_transition, hmm.log_likelihood]
    leaves = [t.clone().requires_grad_() for t in tensors]
    start, transition, likelihood = leaves
    weight = torch.linspace(1, 2, hmm.shape[0], dtype=torch.float64)
    (
        log_evidence(HMM(start, transition, likelihood, hmm.lengths), plan=plan) * weight
    ).sum().backward()
    for i, leaf in enumerate(leaves):
        for place in list(itertools.product(*map(range, leaf.shape)))[:: 1 + i]:
            ends = []
            for sign in (-1, 1):
                moved = [t.clone() for t in tensors]
                moved[i][place] += sign * 1e-5
                there = HMM(moved[0], moved[1], moved[2], hmm.lengths)
                ends.append((log_evidence(there) * weight).sum())
            assert leaf.grad is not None
            close(leaf.grad[place], (ends[1] - ends[0]) / 2e-5, atol=1e-8)


def test_the_gradient_has_a_gradient() -> None:
    hmm = hmm_of("plain")

    def evidence(likelihood: Tensor, transition: Tensor) -> Tensor:
        return log_evidence(HMM(hmm.log_start, transition, likelihood), plan=Plan(4, 2))

    leaves = (hmm.log_likelihood.requires_grad_(), hmm.log_transition.requires_grad_())
    assert torch.autograd.gradgradcheck(evidence, leaves)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_impossible_observations_have_no_probability_and_no_nan(plan: Plan) -> None:
    for kind in ("plain", "left to right"):
        hmm = hmm_of(kind)
        hmm.log_likelihood[1, 2] = -INF
        found = smoothed(hmm, plan=plan)
        assert found.log_evidence[1] == -INF
        assert found.log_evidence[0].isfinite()
        assert viterbi(hmm, plan=plan).log_prob[1] == -INF
        assert not found.probs.isnan().any()
        assert (found.probs[1] == 0).all()
        likelihood = hmm.log_likelihood.requires_grad_()
        log_evidence(
            HMM(hmm.log_start, hmm.log_transition, likelihood), plan=plan
        ).sum().backward()
        assert likelihood.grad is not None
        assert likelihood.grad.isfinite().all()


def test_swings_of_thousands_of_nats_are_followed_exactly() -> None:
    """State 1 is absorbing and better at first, by more than float64 holds; state 0 wins late."""
    stay = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64).log()
    start = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    likelihood = torch.zeros(1, 9, 2, dtype=torch.float64)
    likelihood[0, :4, 0] = -500
    likelihood[0, 4:, 1] = -900
    hmm = HMM(start, stay, likelihood)
    for plan in (Plan(8), Plan(8, 3), Plan(8, 8, tree=True)):
        _, scores = enumerate_paths(hmm, 0)
        close(log_evidence(hmm, plan=plan)[0], scores.logsumexp(0))
        assert smoothed(hmm, plan=plan).probs[0, 0, 0] > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_chains_agree_however_they_are_scanned(dtype: torch.dtype) -> None:
    hmm = hmm_of("ragged", steps=300)
    lengths = torch.tensor([300, 17, 1, 255])
    start, transition = hmm.log_start.to(dtype), hmm.log_transition.to(dtype)
    hmm = HMM(start, transition, hmm.log_likelihood.to(dtype), lengths)
    alone = smoothed(hmm, plan=Plan(299))
    assert alone.probs.dtype == alone.log_evidence.dtype == dtype
    for plan in (Plan(299, 10), Plan(299, 299, tree=True), Plan(299, 20, tree=True)):
        found = smoothed(hmm, plan=plan)
        for a, b in (
            (found.probs, alone.probs),
            (found.counts, alone.counts),
            (found.log_evidence, alone.log_evidence),
        ):
            torch.testing.assert_close(
                a, b, rtol=1e-10 if dtype == torch.float64 else 1e-6, atol=1e-10
            )


def sticky(stay: float, steps: int = 400) -> HMM:
    """Three states that are hardly left, seen through fog, in sequences of unequal length."""
    g = torch.Generator().manual_seed(5)
    move = torch.full((3, 3), (1 - stay) / 2, dtype=torch.float64).fill_diagonal_(stay)
    start = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    fog = 0.05 * torch.randn(3, steps, 3, generator=g, dtype=torch.float64)
    fog[0, 50, 1] = fog[0, 51, 0] = -INF
    return HMM(start.log(), move.log(), fog, torch.tensor([steps, 205, 1]))


@pytest.mark.parametrize(("stay", "is_proved"), [(0.5, True), (0.9, True), (0.9999, False)])
def test_guesses_are_taken_where_they_are_proved(stay: float, *, is_proved: bool) -> None:
    hmm = sticky(stay)
    found, alone = smoothed(hmm, plan=Plan(399, 4)), smoothed(hmm, plan=Plan(399))
    close(found.probs, alone.probs, atol=1e-10)
    close(found.counts, alone.counts, atol=1e-9)
    close(found.log_evidence, alone.log_evidence, atol=1e-9)
    assert ("summaries" not in vars(found.passes.recursion)) is is_proved


def test_a_guess_is_no_approximation() -> None:
    """Without likelihoods what is left of a start is known, by the second eigenvalue."""
    stay, steps = 0.75, 200
    move = torch.tensor([[stay, 1 - stay], [1 - stay, stay]], dtype=torch.float64)
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    flat = torch.zeros(1, steps, 2, dtype=torch.float64)
    found = filtered(HMM(start.log(), move.log(), flat), plan=Plan(steps - 1, 6)).probs[0, :, 0]
    expected = 0.5 + 0.5 * (2 * stay - 1) ** torch.arange(steps, dtype=torch.float64)
    close(found, expected, atol=1e-12)


def test_a_chain_of_one_step() -> None:
    hmm = HMM(
        torch.tensor([0.2, 0.8]).log(), torch.zeros(2, 2), torch.tensor([[[0.5, 0.25]]]).log()
    )
    found = smoothed(hmm)
    close(found.log_evidence.exp(), torch.tensor([0.3]), atol=1e-6)
    close(found.probs[0, 0], torch.tensor([1 / 3, 2 / 3]), atol=1e-6)
    assert viterbi(hmm).states.tolist() == [[1]]
    assert draw_paths(hmm, 3).shape == (3, 1, 1)
    assert (found.counts == 0).all()


def test_the_plan_is_a_value_and_fits() -> None:
    many = torch.zeros(64, 100, 40)
    assert plan_of(HMM(torch.zeros(40), torch.zeros(40, 40), many)).blocks == 1
    long = torch.zeros(1, 50_000, 4)
    assert 50 < plan_of(HMM(torch.zeros(4), torch.zeros(4, 4), long)).blocks < 5000
    with pytest.raises(GraphError, match="for 7 steps, but there are 4"):
        smoothed(hmm_of("plain"), plan=Plan(7))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"log_start": torch.zeros(4)}, r"log_start has the shape \[4\]; expected \[3\]"),
        ({"log_transition": torch.zeros(5, 3, 3)}, r"log_transition has the shape"),
        ({"log_likelihood": torch.zeros(5, 3)}, r"expected \[B, T, K\]"),
        ({"lengths": torch.tensor([1, 6])}, r"lengths are from 1 to 5"),
        ({"lengths": torch.tensor([1.0, 2.0])}, r"whole numbers"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, Tensor], text: str) -> None:
    hmm = hmm_of("plain")
    fields = {
        "log_start": hmm.log_start,
        "log_transition": hmm.log_transition,
        "log_likelihood": hmm.log_likelihood,
    }
    with pytest.raises(GraphError, match=text):
        HMM(**{**fields, **change})


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fill memory with NaN wherever torch would leave what lay there before."""
    torch.set_deterministic_debug_mode("error")  # fill_uninitialized_memory is on with it
    yield
    torch.set_deterministic_debug_mode("default")


@pytest.mark.usefixtures("poisoned")
@planned
def test_what_lies_beyond_the_ends_is_not_looked_at(plan: Plan) -> None:
    for kind in ("ragged", "per step and sequence"):
        hmm = hmm_of(kind)
        assert hmm.lengths is not None
        likelihood, transition = hmm.log_likelihood.clone(), hmm.log_transition.clone()
        for b, length in enumerate(hmm.lengths.tolist()):
            likelihood[b, length:] = math.nan
            if transition.dim() == 4:
                transition[b, max(length - 1, 0) :] = math.nan
        spoilt = HMM(hmm.log_start, transition, likelihood.requires_grad_(), hmm.lengths)
        for b, length in enumerate(hmm.lengths.tolist()):
            _, scores = enumerate_paths(hmm, b)
            found = smoothed(spoilt, plan=plan)
            close(found.log_evidence[b], scores.logsumexp(0))
            assert found.counts[b].sum().isclose(torch.tensor(length - 1.0).double())
        log_evidence(spoilt, plan=plan).sum().backward()
        assert likelihood.grad is not None
        assert likelihood.grad.isfinite().all()


def test_nan_is_refused() -> None:
    hmm = hmm_of("plain")
    hmm.log_likelihood[0, 1, 1] = math.nan
    with pytest.raises(GraphError, match="NaN"):
        log_evidence(hmm)


FOLDER = os.environ.get("DAGUERRE_DATA")


@pytest.mark.skipif(FOLDER is None, reason="DAGUERRE_DATA names no folder of reference values")
@pytest.mark.parametrize("number", [0, 1])
def test_the_records_of_another_library(number: int) -> None:
    path = Path(FOLDER or "") / "networks/gaussian/reference_hmm.json"
    if not path.exists():
        pytest.skip("no reference_hmm.json in DAGUERRE_DATA")
    record = json.loads(path.read_text())[number]
    start, trans, emit = (
        torch.tensor(record[name], dtype=torch.float64).log()
        for name in ("start", "trans", "emit")
    )
    hmm = HMM(start, trans, emit.T[torch.tensor(record["x"])].unsqueeze(0))
    for plan in (Plan(record["T"] - 1), Plan(record["T"] - 1, 4)):
        found, path = smoothed(hmm, plan=plan), viterbi(hmm, plan=plan)
        assert found.log_evidence.item() == pytest.approx(record["log_evidence"], abs=1e-9)
        assert path.log_prob.item() == pytest.approx(record["viterbi_log_prob"], abs=1e-9)
        assert path.states[0].tolist() == record["viterbi_path"]
        expected = torch.tensor(record["smoothed_first5"], dtype=torch.float64)
        close(found.probs[0, :5], expected, atol=1e-9)
        close(
            found.probs[0, -1],
            torch.tensor(record["smoothed_last"], dtype=torch.float64),
            atol=1e-9,
        )
        sums = torch.tensor(record["smoothed_col_sums"], dtype=torch.float64)
        close(found.probs[0].sum(0), sums, atol=1e-7)
