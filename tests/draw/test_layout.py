"""What every picture must satisfy, on drawn examples and on random figures."""

import random
from dataclasses import replace
from itertools import combinations, pairwise
from math import hypot

import pytest
from figures import CROSSING, DRAWN, figures, rich_figures
from hypothesis import HealthCheck, given, settings
from rules import (
    check,
    check_clear,
    check_crowd,
    check_frames,
    check_nodes,
    check_page,
    check_paths,
    check_types,
    clashes,
    trespasses,
)

from daguerre.draw import Arrow, Figure, Frame, Node, draw, figure, layout, with_critic
from daguerre.draw.bodies import body_for
from daguerre.draw.curves import Point
from daguerre.draw.faults import faults
from daguerre.draw.formula import formula
from daguerre.draw.picture import Box, Picture
from daguerre.draw.staircase import staircase
from daguerre.graph import Graph

PICTURES = {name: layout(drawn) for name, drawn in DRAWN.items()}
every = pytest.mark.parametrize("picture", PICTURES.values(), ids=list(PICTURES))


@every
def test_nodes_do_not_overlap_and_hold_their_labels(picture):
    check_nodes(picture)


@every
def test_plates_hold_their_members_and_nothing_else(picture):
    check_frames(picture)


@every
def test_arrows_touch_their_ends_and_miss_all_other_nodes(picture):
    check_paths(picture)


@every
def test_everything_is_on_the_page(picture):
    check_page(picture)


@every
def test_labels_strike_nothing_and_nothing_strikes_them(picture):
    check_types(picture)
    check_clear(picture)


@every
def test_heads_are_apart_and_no_arrow_runs_on_another(picture):
    assert clashes(picture) == []


@every
def test_arrows_enter_no_strange_plate(picture):
    assert trespasses(picture) == []


@every
def test_no_two_arrows_of_a_pair_run_on_top_of_each_other(picture):
    for one, other in combinations(picture.paths, 2):
        if {one.arrow.source, one.arrow.target} == {other.arrow.source, other.arrow.target}:
            a, b = one.curve.samples(2.0), other.curve.samples(2.0)
            middle = a[len(a) // 2]
            assert min(middle.to(point).length for point in b) > 6.0


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(figures())
def test_random_figures_keep_every_rule(fig):
    picture = layout(fig)
    check(picture)
    check_crowd(picture)
    assert layout(fig) == picture


@settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(rich_figures())
def test_crowded_figures_keep_every_rule(fig):
    picture = layout(fig)
    check(picture)
    check_crowd(picture)
    assert faults(picture) == 0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rich_figures(12))
def test_the_last_resort_keeps_every_rule(fig):
    check_stairs(fig)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(figures(9, crossing=True))
def test_the_last_resort_keeps_every_rule_of_crossing_plates(fig):
    check_stairs(fig)


def check_stairs(fig):
    rank = {node.name: i for i, node in enumerate(fig.nodes)}
    types = {n.name: formula(n.label) for n in fig.nodes}
    bodies = {n.name: body_for(n.shape, types[n.name]) for n in fig.nodes}
    counts = {frame: formula(frame.label, size=16.0) for frame in fig.frames}
    found = staircase(fig, rank, bodies, types, counts)
    frames = sorted(found.frames, key=lambda f: -len(f.frame.members))
    points = [p for path in found.paths for p in path.curve.corners]
    corners = [c for thing in (*found.nodes, *frames) for c in thing.box.corners]
    page = Box.around([*points, *corners], margin=3)
    picture = Picture(page, tuple(found.nodes), tuple(found.paths), tuple(frames), 0.0, 0.0)
    check(picture)
    assert faults(picture) == 0
    assert len(frames) + len(found.left_out) == len(fig.frames)


def test_many_parallel_arrows_have_lanes_of_their_own():
    arrows = tuple(Arrow("x", "y", label=f"f_{{{i}}}") for i in range(16))
    loops = tuple(Arrow("y", "y", label=f"t - {i}") for i in range(5))
    picture = layout(Figure((Node("x", "x"), Node("y", "y")), (*arrows, *loops)))
    check(picture)
    assert faults(picture) == 0


@pytest.mark.parametrize("count", [1, 20])
def test_equal_plates_nest_however_many(count):
    nodes = (Node("x", "x"), Node("y", "y"))
    frames = tuple(Frame(f"p{i}", f"N_{{{i}}}", ("y",)) for i in range(count))
    picture = layout(Figure(nodes, (Arrow("x", "y"),), frames))
    check(picture)
    assert len(picture.frames) == count


def test_what_has_no_label_is_drawn_without():
    nodes = (Node("x", ""), Node("y", ""))
    check(layout(Figure(nodes, (Arrow("x", "y"),), (Frame("p", "", ("y",)),))))


def test_loops_stand_off_wide_nodes():
    for shape in ("random", "module", "double"):
        node = Node("x", r"\mathrm{attention\ weights}", shape)
        picture = layout(Figure((node,), (Arrow("x", "x", label="t - 1"),)))
        check(picture)
        assert faults(picture) == 0


def test_generative_arrows_point_down():
    for name in ("vae", "gan", "ali", "hierarchy", "mixed", "units", "bayes"):
        place = {node.node.name: node.centre for node in layout(DRAWN[name]).nodes}
        for arrow in DRAWN[name].arrows:
            if not arrow.inference:
                assert place[arrow.source].y < place[arrow.target].y


def test_inference_does_not_move_the_model():
    alone = layout(figure(Graph.from_edges([("z_2", "z_1"), ("z_1", "x")])))
    joined = layout(DRAWN["hierarchy"])
    assert [n.centre for n in alone.nodes] == [n.centre for n in joined.nodes]


def test_chains_are_vertical_and_parents_centred():
    z2, z1, x = layout(DRAWN["hierarchy"]).nodes
    assert z2.centre.x == z1.centre.x == x.centre.x
    parent, *children = layout(DRAWN["bayes"]).nodes
    centres = [child.centre.x for child in children]
    assert parent.centre.x == (min(centres) + max(centres)) / 2


def test_rows_of_units_are_centred_and_have_no_overlapping_heads():
    picture = layout(DRAWN["units"])
    rows: dict[float, list[float]] = {}
    for node in picture.nodes:
        rows.setdefault(node.centre.y, []).append(node.centre.x)
    middles = {(min(xs) + max(xs)) / 2 for xs in rows.values()}
    assert len(rows) == 3
    assert max(middles) - min(middles) <= 1.0
    for a, b in combinations(picture.paths, 2):
        if a.arrow.target == b.arrow.target:
            assert a.tip.to(b.tip).length > 7.0


def test_the_critic_stands_to_the_right_of_what_it_looks_at():
    z, x, critic = layout(DRAWN["gan"]).nodes
    assert critic.centre.x > x.centre.x
    assert critic.centre.y == x.centre.y
    assert z.centre.x == x.centre.x
    z, x, critic = layout(DRAWN["ali"]).nodes
    assert critic.centre.y == (z.centre.y + x.centre.y) / 2


def test_an_auxiliary_of_the_encoder_stands_between_x_and_z():
    from daguerre.draw import with_inference

    q = Graph.from_edges([("x", "h"), ("h", "z")], inputs=["x"], deterministic=["h"])
    z, x, h = layout(with_inference(figure(Graph.from_edges([("z", "x")])), q)).nodes
    assert z.centre.y < h.centre.y < x.centre.y
    assert z.centre.x == x.centre.x != h.centre.x


def test_shared_baseline_of_panels():
    panels = draw(DRAWN["vae"], DRAWN["hierarchy"], DRAWN["gan"]).sheet.panels
    assert len({panel.offset.y + panel.picture.baseline for panel in panels}) == 1
    assert all(
        a.offset.x + a.picture.box.right < b.offset.x + b.picture.box.left
        for a, b in pairwise(panels)
    )


def test_a_graph_of_two_hundred_nodes_keeps_every_rule():
    rng = random.Random(0)
    pairs = [(i, j) for i in range(200) for j in range(i + 1, min(200, i + 12))]
    edges = [(f"v_{i}", f"v_{j}") for i, j in pairs if rng.random() < 0.12]
    picture = layout(figure(Graph.from_edges(edges, nodes=[f"v_{i}" for i in range(200)])))
    check_nodes(picture)
    check_paths(picture)


def test_the_layout_has_no_more_crossings_than_needed():
    """K(2, 2) cannot be drawn in two rows without one crossing; a matching needs none."""
    matching = Graph.from_edges([("a", "d"), ("b", "c"), ("e", "f")], nodes=list("abecdf"))
    place = {n.node.name: n.centre.x for n in layout(figure(matching)).nodes}
    pairs = sorted((place[a], place[b]) for a, b in matching.edges)
    assert [b for _, b in pairs] == sorted(b for _, b in pairs)


def test_equal_plates_nest():
    nodes = (Node("x", "x"), Node("y", "y"))
    frames = (Frame("a", "A", ("x",)), Frame("b", "B", ("x",)))
    outer, inner = layout(Figure(nodes, frames=frames)).frames
    assert (outer.frame.name, inner.frame.name) == ("a", "b")
    assert all(outer.box.holds(corner) for corner in inner.box.corners)


def test_a_lagged_arrow_is_a_loop_with_its_label():
    picture = layout(DRAWN["chain"])
    loop = next(p for p in picture.paths if p.arrow.source == p.arrow.target)
    assert loop.label is not None
    assert loop.label.source == "t - 1"
    assert hypot(*loop.curve.points[0].to(loop.tip)) > 10


def test_a_plate_makes_room_for_its_label_beside_the_arrows_that_leave_it():
    nodes = tuple(Node(name, name) for name in "zabc")
    arrows = tuple(Arrow("z", name) for name in "abc")
    picture = layout(Figure(nodes, arrows, (Frame("n", r"n = 1, \ldots, N", ("z",)),)))
    check(picture)
    check_clear(picture)


def test_plates_do_not_grow_over_arrows_that_pass_them():
    nodes = tuple(Node(name, name) for name in "zxy")
    arrows = (Arrow("x", "x"), Arrow("z", "y", inference=True), Arrow("z", "x"), Arrow("x", "y"))
    picture = layout(Figure(nodes, arrows, (Frame("n", "N", ("x",)),)))
    assert trespasses(picture) == []


def test_parallel_arrows_of_the_model_bow_apart():
    nodes = (Node("z", "z"), Node("x", "x"))
    one, other = layout(Figure(nodes, (Arrow("z", "x"), Arrow("z", "x", adversarial=True)))).paths
    assert one.tip.to(other.tip).length > 11
    middle = other.curve.samples(2.0)[len(other.curve.samples(2.0)) // 2]
    assert min(middle.to(point).length for point in one.curve.samples(2.0)) > 6


def test_a_loop_stands_where_no_other_arrow_does():
    """A recurrent generator: what the critic sees leaves on the right, the loop on the left."""
    graph = Graph.from_edges([("z", "x")], lagged=[("x", "x", 1)], deterministic=["x"])
    picture = layout(with_critic(figure(graph), ["x"]))
    (loop,) = [p for p in picture.paths if p.arrow.source == p.arrow.target]
    (x,) = [n for n in picture.nodes if n.node.name == "x"]
    assert loop.tip.x < x.centre.x


def test_arrows_are_led_around_a_plate_between_their_ends():
    picture = layout(CROSSING["triangle"])
    assert faults(picture) == 0


def test_faults_are_counted():
    picture = layout(figure(Graph.from_edges([("z", "x")], plates={"n": ["z", "x"]})))
    (frame,), (path,), (z, x) = picture.frames, picture.paths, picture.nodes
    on_label = replace(path, tip=frame.label.box.corners[0].plus(Point(2, 2)))
    twin = replace(path, arrow=replace(path.arrow, inference=True))
    inner = replace(frame, frame=replace(frame.frame, members=("x",)), box=x.box)
    label = replace(frame.label, origin=x.centre)
    assert faults(replace(picture, paths=(on_label,))) == 1
    assert faults(replace(picture, paths=(path, twin))) == 1
    assert faults(replace(picture, nodes=(z, replace(x, centre=z.centre)))) == 1
    assert (
        faults(replace(picture, paths=(), frames=(frame, inner))) == 3
    )  # its label, twice; a side
    assert faults(replace(picture, paths=(), frames=(replace(frame, label=label),))) == 1


def test_a_stranger_in_a_plate_a_member_outside_and_what_passes_are_faults():
    nodes, arrows = tuple(Node(name, name) for name in "abcd"), (Arrow("a", "b"), Arrow("b", "c"))
    picture = layout(Figure(nodes, arrows, (Frame("n", "N", ("d",)),)))
    (frame,), b = picture.frames, picture.nodes[1]
    moved = replace(frame, box=Box.around(b.box.corners, margin=4))
    assert faults(picture) == 0
    # b is in it, d is not, nor is its label; two arrows enter
    assert faults(replace(picture, frames=(moved,))) == 5


def test_a_crowd_keeps_every_rule():
    """A dozen arrows between three nodes, in a plate and beside it: no usual layout has room."""
    pairs = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")] * 3
    arrows = tuple(Arrow(*pair, label=rf"f_{{{i}}}") for i, pair in enumerate(pairs))
    picture = layout(
        Figure(tuple(Node(name, name) for name in "abc"), arrows, (Frame("n", "N", ("a", "b")),))
    )
    check(picture)
    check_crowd(picture)
    assert [path.arrow for path in picture.paths] == [*arrows]
