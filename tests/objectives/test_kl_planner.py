"""Which terms of an ELBO may be closed, and that every split has the exact expectation."""

import pytest
import torch
from toys import PAIRS, columns, exact_elbo, f64, nodes, per_example

import daguerre as dg


def objective(name):
    pair = PAIRS[name]
    return dg.elbo(pair.p, pair.q, observed=pair.observed)


@pytest.fixture
def expected(monkeypatch):
    """Average an objective exactly: its standard normal draws become quadrature nodes."""

    def average(cost, draws, given):
        rule = nodes(draws, order=4)
        monkeypatch.setattr("torch.distributions.normal._standard_normal", columns(rule))
        n = len(rule.weights)
        rows = {name: f64(value).expand(n) for name, value in given.items()}
        return (rule.weights * per_example(cost, n, rows)).sum().item()

    return average


@pytest.mark.parametrize("name", PAIRS)
def test_every_split_of_the_elbo_is_exact(name, expected):
    pair = PAIRS[name]
    given = {k: v for k, v in pair.given.items() if k in objective(name).given}
    assert given.keys() == pair.given.keys()
    draws = sum(pair.q.graph[v].map == "stochastic" for v in pair.q.graph.names)
    value = -expected(objective(name), draws, given)
    assert value == pytest.approx(exact_elbo(pair.p, pair.q, pair.latent, pair.given), abs=1e-10)


@pytest.mark.parametrize("name", PAIRS)
def test_the_ledger_says_which_terms_are_closed(name):
    rows = [row for row in objective(name).explain() if row["estimator"] == "closed form"]
    closed = {n for n in PAIRS[name].latent if any(f"KL(q({n}" in row["term"] for row in rows)}
    assert closed == {*PAIRS[name].closed}
    assert len(rows) == len(closed)
