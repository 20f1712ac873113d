"""Long rows of what no arrow joins are broken; what arrows join stays together."""

from collections import Counter

import pytest
from rules import check

from daguerre.draw import figure
from daguerre.draw.layout import layout
from daguerre.draw.picture import Picture
from daguerre.graph import Graph


def names(letter: str, count: int) -> list[str]:
    return [f"{letter}_{i}" for i in range(count)]


def rows(picture: Picture) -> Counter[float]:
    return Counter(node.centre.y for node in picture.nodes)


@pytest.mark.parametrize("plates", [{}, {"n": names("v", 60)}])
def test_sixty_nodes_stand_in_rows_about_as_wide_as_high(plates):
    picture = layout(figure(Graph.from_edges([], nodes=names("v", 60), plates=plates)))
    check(picture)
    width, height = (b - a for a, b in zip(*picture.box.corners, strict=True))
    assert 0.8 < width / height < 1.25
    assert max(rows(picture).values()) < 10
    order = sorted(picture.nodes, key=lambda n: (n.centre.y, n.centre.x))
    assert [node.node.name for node in order] == names("v", 60)


def test_a_dozen_stand_in_one_row():
    picture = layout(figure(Graph.from_edges([], nodes=names("v", 12))))
    assert list(rows(picture).values()) == [12]


def test_pairs_stay_pairs():
    edges = list(zip(names("a", 20), names("b", 20), strict=True))
    graph = Graph.from_edges(edges, plates={"n": [name for pair in edges for name in pair]})
    picture = layout(figure(graph))
    check(picture)
    at = {n.node.name: n.centre for n in picture.nodes}
    assert len({at[b].y - at[a].y for a, b in edges}) == 1
    assert all(at[a].x == pytest.approx(at[b].x, abs=2) for a, b in edges)
    assert len(rows(picture)) == 6


def test_what_an_arrow_leaves_a_plate_for_stays_in_its_row():
    edges = [("z", x) for x in names("x", 20)]
    picture = layout(figure(Graph.from_edges(edges, plates={"n": names("x", 20)})))
    assert sorted(rows(picture).values()) == [1, 20]


def test_plates_side_by_side_are_broken_each():
    plates = {letter: names(letter, 14) for letter in "ab"}
    nodes = [name for members in plates.values() for name in members]
    picture = layout(figure(Graph.from_edges([], nodes=nodes, plates=plates)))
    check(picture)
    assert len(rows(picture)) == 4
    one, other = (frame.box for frame in picture.frames)
    assert not one.meets(other)
