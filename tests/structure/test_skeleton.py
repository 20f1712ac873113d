"""Blankets, moral graphs, equivalence and statements."""

import itertools
import random

import pytest

from daguerre.graph import Graph, GraphError
from daguerre.structure import (
    Statement,
    equivalent,
    independent,
    markov_blanket,
    moralize,
    read_statement,
)

DIAMOND = Graph.from_edges([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "e")])


def test_a_blanket_is_parents_children_and_their_parents():
    assert markov_blanket(DIAMOND, "b") == ("a", "c", "d")
    assert markov_blanket(DIAMOND, "d") == ("b", "c", "e")
    assert markov_blanket(DIAMOND, ["b", "c"]) == ("a", "d")


def random_graph(rng: random.Random, size: int) -> Graph:
    names = [f"v{i}" for i in range(size)]
    edges = [pair for pair in itertools.combinations(names, 2) if rng.random() < 0.4]
    return Graph.from_edges(edges, nodes=names)


def test_given_its_blanket_a_variable_is_independent_of_the_rest_and_of_no_less():
    rng = random.Random(0)
    for _ in range(200):
        g = random_graph(rng, 7)
        blanket = markov_blanket(g, "v3")
        rest = {*g.names} - {*blanket, "v3"}
        assert not rest or independent(g, "v3", rest, given=blanket)
        for name in blanket:
            others = [n for n in g.names if n not in (name, "v3")]
            assert not independent(g, "v3", name, given=others)


def test_moral_edges_join_parents():
    assert moralize(DIAMOND) == (
        ("a", "b"), ("a", "c"), ("b", "c"), ("b", "d"), ("c", "d"), ("d", "e"),
    )  # fmt: skip


def test_marginalising_the_latents_of_a_dense_decoder_is_no_small_matter():
    x = [f"x{i}" for i in range(784)]
    pairs = moralize(Graph.from_edges([(name, "all") for name in x]))
    assert len([p for p in pairs if "all" not in p]) == 306_936  # 784 * 783 / 2


def test_graphs_are_equivalent_when_all_their_independences_are():
    rng = random.Random(1)
    found = 0
    for _ in range(400):
        g, h = random_graph(rng, 4), random_graph(rng, 4)
        order = dict(zip(h.names, rng.sample(h.names, 4), strict=True))
        h = Graph.from_edges([(order[a], order[b]) for a, b in h.edges], nodes=g.names)
        same = all(
            independent(g, x, y, given=zs) == independent(h, x, y, given=zs)
            for x, y in itertools.combinations(g.names, 2)
            for k in range(3)
            for zs in itertools.combinations([n for n in g.names if n not in (x, y)], k)
        )
        assert equivalent(g, h) == same, (g, h)
        found += same
    assert found > 5


def test_graphs_over_different_variables_cannot_be_compared():
    with pytest.raises(GraphError, match="only one of the two graphs has c, e"):
        equivalent(DIAMOND, Graph.from_edges([("a", "b"), ("b", "d")]))


def test_blankets_refuse_unknown_names_and_none():
    with pytest.raises(GraphError, match="no variable 'f'"):
        markov_blanket(DIAMOND, "f")
    with pytest.raises(GraphError, match="names is empty"):
        markov_blanket(DIAMOND, [])


@pytest.mark.parametrize("sign", ["_||_", "⫫", "⊥⊥", "⟂", "⊥"])
def test_statements_are_read_with_any_sign(sign):
    assert read_statement(f"a, b {sign} c | d,e") == Statement(("a", "b"), ("c",), ("d", "e"))
    assert read_statement(f"a{sign}b") == Statement(("a",), ("b",), ())
    assert read_statement(f"x[0,1] {sign} y[2] | z") == Statement(("x[0,1]",), ("y[2]",), ("z",))


@pytest.mark.parametrize(
    "text", ["", "a", "a b _||_ c", "a _||_", "_||_ b", "a _||_ b |", "a _||_ b _||_ c", "a | b",
             "a,, b _||_ c", "a _||_ b | c | d"],
)  # fmt: skip
def test_other_forms_are_refused_with_the_one_that_is_expected(text):
    with pytest.raises(ValueError, match=r"write x1, x2 _\|\|_ y \| z"):
        read_statement(text)
