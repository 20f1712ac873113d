"""Plates that cross: rectangles wherever some exist, a line of type where none do."""

import pytest
from figures import CROSSING, HOPELESS, figures
from hypothesis import HealthCheck, given, settings
from rules import check, check_crowd, check_frames, check_nodes

from daguerre.draw import Figure, draw, layout
from daguerre.draw.families import family
from daguerre.draw.ranks import downward
from daguerre.draw.strips import crossing


@pytest.mark.parametrize("name", CROSSING)
def test_these_plates_are_all_drawn(name):
    picture = layout(CROSSING[name])
    assert {f.frame.name for f in picture.frames} == {f.name for f in CROSSING[name].frames}
    assert not picture.notes


def test_a_part_moves_up_where_its_row_is_taken():
    """Three factors of one answer: two stand beside it, the third above one of them."""
    rows = {n.node.name: n.centre.y for n in layout(CROSSING["raters"]).nodes}
    assert len({rows["a"], rows["b"], rows["c"]}) == 2


def test_plates_without_a_rectangle_are_named_in_the_legend():
    picture = layout(HOPELESS)
    check_nodes(picture)
    check_frames(picture)
    drawn = {f.frame.name for f in picture.frames}
    left_out = [f for f in HOPELESS.frames if f.name not in drawn]
    assert len(drawn) == len(left_out) == 2
    for frame, note in zip(left_out, picture.notes, strict=True):
        assert note.source.startswith(frame.label)
        assert picture.box.meets(note.box)
        assert not any(note.box.meets(node.box) for node in picture.nodes)
    assert draw(HOPELESS).svg.count('class="note"') == 2


def test_tikz_prints_the_legend_too():
    notes, written = layout(HOPELESS).notes, draw(HOPELESS).tikz()
    assert all(f"{{${note.source}$}}" in written for note in notes)


def test_no_order_of_four_parts_makes_three_plates_intervals():
    members = {0: ["a", "y"], 1: ["b", "y"], 2: ["c", "y"]}
    level = dict.fromkeys("abcy", 0)
    assert crossing(members, level, []) is None
    apart = {"c": 0, "a": 1, "b": 1, "y": 2}
    found = crossing(members, apart, [])
    assert found is not None
    assert found.spans == {0: (1, 2), 1: (1, 2), 2: (0, 2)}


def test_arrows_decide_which_parts_are_neighbours():
    members = {0: ["a", "b", "y"], 1: ["y", "c", "d"]}
    found = crossing(members, dict.fromkeys("abycd", 0), [])
    assert found is not None
    assert found.strips == (("a", "b"), ("y",), ("c", "d"))


def test_what_is_left_out_changes_no_row_of_what_is_drawn():
    chosen = family(HOPELESS, downward(HOPELESS))
    again = family(chosen.figure, downward(chosen.figure))
    assert again.left_out == ()
    assert again.rank == chosen.rank


@settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(figures(7, crossing=True))
def test_random_plates_keep_every_rule(fig: Figure):
    picture = layout(fig)
    check(picture)
    check_crowd(picture)
    assert len(picture.frames) + len(picture.notes) == len(fig.frames)
    assert layout(fig) == picture
