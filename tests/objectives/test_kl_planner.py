"""Which terms of an ELBO may be closed, and that every split has the exact expectation."""

import pytest
from toys import PAIRS, exact_elbo, integrate, scalar

import daguerre as dg


def objective(name):
    pair = PAIRS[name]
    return dg.elbo(pair.p, pair.q, observed=pair.observed)


@pytest.mark.parametrize("name", PAIRS)
def test_every_split_of_the_elbo_is_exact(name, monkeypatch):
    pair, cost = PAIRS[name], objective(name)
    assert {*cost.given} == {*pair.given}
    draws = sum(pair.q.graph[v].map == "stochastic" for v in pair.q.graph.names)
    given = {k: scalar(v) for k, v in pair.given.items()}
    value = -integrate(monkeypatch, cost, given, draws=draws, order=4)
    assert value == pytest.approx(exact_elbo(pair.p, pair.q, pair.latent, pair.given), abs=1e-10)


@pytest.mark.parametrize("name", PAIRS)
def test_the_ledger_says_which_terms_are_closed(name):
    rows = [row for row in objective(name).explain() if row["estimator"] == "closed form"]
    closed = {n for n in PAIRS[name].latent if any(f"KL(q({n}" in row["term"] for row in rows)}
    assert closed == {*PAIRS[name].closed}
    assert len(rows) == len(closed)
