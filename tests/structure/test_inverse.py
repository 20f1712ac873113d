"""Inference structures: nothing false, nothing idle; and what lint says of others."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_separation import random_graph

from daguerre.graph import Graph, GraphError
from daguerre.structure import independent, inverse, lint

PAIR = Graph.from_edges([("z1", "x"), ("z2", "x")])
VAE = Graph.from_edges([("z", "h"), ("h", "x")], deterministic=["h"])
HMM = Graph.from_edges(
    [(f"z{t}", f"z{t + 1}") for t in range(1, 5)] + [(f"z{t}", f"x{t}") for t in range(1, 6)]
)
HIERARCHY = Graph.from_edges([("z2", "z1"), ("z1", "x")])
XS = [f"x{t}" for t in range(1, 6)]


def q_of(edges, inputs=("x",), **marks) -> Graph:
    return Graph.from_edges(edges, inputs=inputs, **marks)


def test_a_decoder_is_turned_round():
    assert inverse(VAE, given="x") == q_of([("x", "z")])


def test_explaining_away_ties_the_latents():
    assert inverse(PAIR, given="x") == q_of([("x", "z1"), ("x", "z2"), ("z2", "z1")])


def test_a_hierarchy_is_climbed():
    assert inverse(HIERARCHY, given="x") == q_of([("x", "z1"), ("z1", "z2")])


def test_a_chain_is_walked_backwards():
    q = inverse(HMM, given=XS)
    assert set(q.parents("z5")) == {*XS}
    for t in range(1, 5):
        assert set(q.parents(f"z{t}")) == {f"z{t + 1}", *XS[:t]}


def test_what_a_bijection_tells_is_deterministic():
    g = Graph.from_edges([], bijective=[("z", "x")])
    assert inverse(g, given="x") == q_of([("x", "z")], deterministic=["z"])


def test_of_two_copies_one_is_enough():
    g = Graph.from_edges([], bijective=[("z", "a"), ("z", "b")])
    assert len(inverse(g, given=["a", "b"]).parents("z")) == 1


@given(st.integers(0, 100_000))
def test_nothing_false_is_claimed_and_nothing_can_be_left_out(seed):
    rng = random.Random(seed)
    g = random_graph(rng, rng.randint(2, 7))
    free = [n for n in g.names if n not in g.inputs]
    if not free:
        return
    observed = rng.sample(free, rng.randint(1, len(free)))
    q = inverse(g, given=observed)
    random_roots = g.with_variables(*(replace(g[n], map="stochastic") for n in g.inputs))
    before = list(q.inputs)
    for name in (n for n in q.names if n not in q.inputs):
        parents = q.parents(name)
        rest = [n for n in before if n not in parents]
        assert not rest or independent(random_roots, name, rest, given=parents), (g, q, name)
        for parent in parents:
            others = [n for n in parents if n != parent]
            assert not independent(random_roots, name, parent, given=others), (g, q, parent)
        before.append(name)
    assert not lint(g, q).ignored
    assert not lint(g, q).superfluous


def test_the_observed_must_be_there():
    with pytest.raises(GraphError, match="observed is empty"):
        inverse(PAIR, given=[])
    with pytest.raises(GraphError, match="no variable 'xx'"):
        inverse(PAIR, given="xx")


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        (
            PAIR,
            q_of([("x", "z1"), ("x", "z2")]),
            "q ignores that z1 and z2 depend on each other given x in p (z1 -> x <- z2): it draws"
            " z2 without z1, so its bound cannot be tight. Give q's z2 the parent z1.",
        ),
        (
            HIERARCHY,
            q_of([("x", "z1"), ("x", "z2"), ("z1", "z2")]),
            "q's z2 takes x for nothing: in p the two are independent given z1. Leave x out.",
        ),
        (HIERARCHY, q_of([("x", "z1")]), "q lacks z2, a latent variable of p."),
        (VAE, q_of([("x", "z"), ("x", "zz")]), "q has zz, which p has not; did you mean 'z'?"),
        (
            VAE,
            q_of([], nodes=["x", "z"]),
            "q ignores that x and z depend on each other in p",
        ),
    ],
)
def test_lint_says_it_in_a_sentence(p, q, message):
    found = lint(p, q)
    assert found
    assert message in str(found)


def test_inputs_of_the_model_are_no_latents_but_can_be_ignored():
    p = Graph.from_edges([("u", "x"), ("z", "x")], inputs=["u"])
    found = lint(p, q_of([("x", "z")]))
    assert [(f.variable, f.other) for f in found.findings] == [("z", "u")]
    assert "u -> x <- z" in str(found)
    assert not lint(p, q_of([("x", "z"), ("u", "z")], inputs=("x", "u")))


def test_lint_looks_through_the_nets_of_q():
    q = q_of([("x", "features"), ("features", "z")], deterministic=["features"])
    assert not lint(VAE, q)
    assert str(lint(VAE, q)) == "q takes what the posterior of p needs, and nothing else."
