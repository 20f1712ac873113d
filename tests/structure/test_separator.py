"""Separators, against all sets."""

import itertools
import random

import pytest
from test_separation import random_graph, random_query

from daguerre.graph import Graph, GraphError
from daguerre.structure import independent, minimal_separator


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_separator_is_found_where_there_is_one_and_nothing_can_be_left_out(deterministic):
    rng = random.Random(3)
    found = none = 0
    for _ in range(600):
        g = random_graph(rng, rng.randint(2, 7))
        x, y, zs = random_query(rng, g)
        zs = [z for z in zs if z not in g.inputs]
        free = [n for n in g.names if n not in (x, y, *zs) and n not in g.inputs]
        sets = (s for k in range(len(free) + 1) for s in itertools.combinations(free, k))
        exists = any(
            independent(g, x, y, given=[*zs, *s], deterministic=deterministic) for s in sets
        )
        separator = minimal_separator(g, x, y, given=zs, deterministic=deterministic)
        assert (separator is not None) == exists, (g, x, y, zs)
        if separator is None:
            none += 1
            continue
        found += 1
        assert {*zs} <= {*separator} <= {*zs, *free}
        assert independent(g, x, y, given=separator, deterministic=deterministic)
        for name in {*separator} - {*zs}:
            rest = [n for n in separator if n != name]
            assert not independent(g, x, y, given=rest, deterministic=deterministic)
    assert found > 100
    assert none > 50


def test_a_bijection_below_may_be_what_separates():
    g = Graph.from_edges([("a", "b")], bijective=[("a", "w")])
    assert minimal_separator(g, "a", "b") == ("w",)
    assert minimal_separator(g, "a", "b", deterministic=False) is None


def test_large_graphs_are_pruned_by_halves():
    names = [f"v{i}" for i in range(2_000)]
    g = Graph.from_edges(itertools.pairwise(names))
    assert minimal_separator(g, "v0", "v1999") in [(n,) for n in names]


def test_malformed_questions_are_refused():
    g = Graph.from_edges([("a", "b")])
    with pytest.raises(GraphError, match="a is in both xs and ys"):
        minimal_separator(g, "a", "a")
    with pytest.raises(GraphError, match="no variable 'c'"):
        minimal_separator(g, "a", "c")
