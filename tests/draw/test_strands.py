"""Chains written out over time: each in a row of its own, straight."""

import pytest
from rules import check

from daguerre.draw import unrolled
from daguerre.draw.layout import layout
from daguerre.graph import Graph

BOTH_WAYS = Graph.from_edges(
    [("x", "f"), ("x", "b"), ("f", "y"), ("b", "y")],
    lagged=[("f", "f", 1), ("b", "b", -1)],
    deterministic=["f", "b"],
    inputs=["x"],
)
FACTORIAL = Graph.from_edges([("a", "x"), ("b", "x")], lagged=[("a", "a", 1), ("b", "b", 1)])


@pytest.mark.parametrize(("graph", "rows"), [(BOTH_WAYS, "xfby"), (FACTORIAL, "abx")])
def test_each_chain_has_its_row_and_straight_arrows(graph, rows):
    picture = layout(unrolled(graph, 4))
    check(picture)
    heights = [{n.centre.y for n in picture.nodes if n.node.name[0] == letter} for letter in rows]
    assert [len(height) for height in heights] == [1] * len(rows)
    assert heights == sorted(heights, key=min)
    assert len({min(height) for height in heights}) == len(rows)
    assert all(path.curve.is_straight for path in picture.paths if path.arrow.level)


def test_chains_that_tell_one_another_share_what_they_shared():
    graph = Graph.from_edges([("a", "b")], lagged=[("a", "a", 1), ("b", "a", 1)])
    picture = layout(unrolled(graph, 3))
    check(picture)
    assert len({n.centre.y for n in picture.nodes if n.node.name[0] == "a"}) == 1
