"""Modules of imported nets: which scopes are drawn, what names say, and where boxes stand."""

from itertools import combinations, pairwise
from math import cos, sin

import pytest
from dotted import NETS, chain, dotted_graphs, net, resnet
from figures import DRAWN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rules import check

from daguerre.draw import Figure, Frame, Node, draw, figure, layout
from daguerre.draw.bodies import Body
from daguerre.draw.labels import label, path, word
from daguerre.draw.picture import Picture
from daguerre.draw.scopes import scopes, short
from daguerre.graph import Graph, GraphError

PICTURES = {name: layout(figure(graph)) for name, graph in NETS.items()}
every = pytest.mark.parametrize("picture", PICTURES.values(), ids=list(PICTURES))


def labels(graph: Graph) -> dict[str, str]:
    return {node.name: node.label for node in figure(graph).nodes}


def titles(graph: Graph) -> dict[str, str]:
    return {scope.path: scope.title for scope in scopes(graph)}


# Which scopes are drawn


def test_scopes_nest_and_are_named_inside_one_another():
    found = titles(resnet())
    assert list(found)[:4] == ["layer1", "layer2", "layer3", "layer4"]
    assert found["layer2.0"] == "0"
    assert found["layer2.0.downsample"] == "downsample"
    assert "layer1.0.downsample" not in found
    members = {scope.path: set(scope.members) for scope in scopes(resnet())}
    assert members["layer2.0.downsample"] < members["layer2.0"] < members["layer2"]
    assert labels(resnet())["layer2.0.downsample.1"] == r"\mathrm{1}"


def test_a_scope_that_adds_nothing_to_the_one_in_it_is_merged_with_it():
    assert titles(net(chain("x", "a.b.c.one", "a.b.c.two"))) == {"a.b.c": "a.b.c"}
    assert titles(net(chain("x", "a.b.c.one", "a.b.c.two", "a.end"))) == {"a": "a", "a.b.c": "b.c"}


def test_a_scope_of_one_variable_stays_in_its_name():
    graph = net(chain("x", "body.conv", "body.relu", "head.fc"))
    assert titles(graph) == {"body": "body"}
    assert labels(graph)["head.fc"] == r"\mathrm{head.fc}"


def test_lists_of_modules_that_take_turns_get_no_box():
    graph = NETS["interleaved"]
    assert scopes(graph) == ()
    assert labels(graph)["norms.2"] == r"\mathrm{norms.2}"
    blocks = net(chain("x", "convs.0.a", "convs.0.b", "norm", "convs.1.a", "convs.1.b"))
    assert titles(blocks) == {"convs.0": "convs.0", "convs.1": "convs.1"}


def test_a_scope_that_crosses_a_plate_is_left_out():
    members = ["net.fc", "net.relu"]
    edges = [("net.weight", "net.fc"), *chain("x", *members)]
    crossing = Graph.from_edges(edges, deterministic=members, plates={"n": ["x", *members]})
    assert [frame.name for frame in figure(crossing).frames] == ["n"]
    assert labels(crossing)["net.fc"] == r"\mathrm{net.fc}_{n}"
    inside = Graph.from_edges(edges[1:], deterministic=members, plates={"n": ["x", *members]})
    assert [(frame.name, frame.scope) for frame in figure(inside).frames] == [
        ("n", False),
        ("net", True),
    ]
    check(layout(figure(inside)))


def test_boxes_stop_somewhere():
    names = [".".join([*["a"] * depth, "x"]) for depth in range(1, 2000)]
    boxes = scopes(Graph.from_edges(pairwise(names)))
    assert 5 < len(boxes) < 20


def test_a_large_net_is_read_fast_enough_to_finish():
    names = [f"net.{i // 100}.{i // 10 % 10}.{i % 10}" for i in range(20_000)]
    assert len(scopes(Graph.from_edges(pairwise(names)))) == 1 + 200 + 2000


@settings(max_examples=200, deadline=None)
@given(dotted_graphs())
def test_scopes_are_those_of_a_plain_definition(graph):
    def is_worth_a_box(members: set[str]) -> bool:
        between = graph.descendants(members) & graph.ancestors(members)
        return len(members) > 1 and between <= members

    held: dict[str, set[str]] = {}
    for name in graph.names:
        parts = path(name)
        for depth in range(1, len(parts)):
            held.setdefault(".".join(parts[:depth]), set()).add(name)
    kept = {p: m for p, m in held.items() if is_worth_a_box(m)}
    inner = {(p, q) for p in kept for q in kept if q.startswith(f"{p}.")}
    equal = {p for p, q in inner if kept[p] == kept[q]}
    assert {s.path: set(s.members) for s in scopes(graph)} == {
        p: m for p, m in kept.items() if p not in equal
    }


@settings(max_examples=100, deadline=None)
@given(dotted_graphs())
def test_titles_and_names_together_are_the_full_name(graph):
    found = scopes(graph)
    for name in graph.names:
        around = [scope.title for scope in found if name in scope.members]
        assert ".".join([*around, short(name, titles(graph))]) == name


# What names say


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("x[3]", "x_{3}"),
        ("x[0,2,1]", "x_{0,2,1}"),
        ("h_1[4]", "h_{1,4}"),
        ("fc1[3]", r"\mathrm{fc1}_{3}"),
        ("fc@1", r"\mathrm{fc}^{(2)}"),
        ("x@2[5]", "x_{5}^{(3)}"),
        ("layer1.0.conv_a", r"\mathrm{layer1.0.conv{\_}a}"),
        ("block@1.conv@2", r"\mathrm{block}^{(2)}\mathrm{.conv}^{(3)}"),
        ("fc@0", r"\mathrm{fc@0}"),
        ("x[1,]", r"\mathrm{x[1,]}"),
        ("a..b", r"\mathrm{a..b}"),
    ],
)
def test_labels(name, latex):
    assert label(name) == latex
    draw(figure(Graph.from_edges([(name, "other")])))


def test_a_word_is_written_as_the_code_has_it():
    assert word("max_pool2d", ["n"]) == r"\mathrm{max{\_}pool2d}_{n}"
    assert word("a." * 100 + "last").endswith("a.last}")
    assert len(word("a." * 100 + "last")) < 90


def test_units_have_no_scope():
    assert scopes(NETS["units"]) == ()
    assert labels(NETS["units"])["fc1[2]"] == r"\mathrm{fc1}_{2}"
    assert scopes(Graph.from_edges([("fc1[0]", "fc1[1]")])) == ()


def test_noise_is_named_after_the_call_that_it_belongs_to():
    graph = net(
        [*chain("x", "net.fc", "net.drop"), ("net.drop.noise", "net.drop")],
        noise=["net.drop.noise"],
    )
    assert titles(graph) == {"net": "net"}
    assert labels(graph)["net.drop.noise"] == r"\mathrm{noise}"


def test_words_are_boxes_and_letters_diamonds():
    graph = net(chain("x", "h", "z_1", "theta", "fc", "net.0", "net.h"))
    shapes = [node.shape for node in figure(graph).nodes]
    assert shapes == ["constant", *["deterministic"] * 3, *["module"] * 3]
    noise = net(
        [("x", "log_mul"), ("randn_like", "log_mul"), ("y.a", "y.b")], noise=["randn_like"]
    )
    assert labels(noise)["randn_like"] == r"\mathrm{randn{\_}like}"


# Where boxes stand


@every
def test_pictures_of_nets_keep_every_rule(picture):
    check(picture)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dotted_graphs())
def test_random_nets_keep_every_rule(graph):
    picture = layout(figure(graph))
    check(picture)
    assert layout(figure(graph)) == picture


def struck(picture: Picture) -> list[str]:
    """List the boxes whose name is struck by an arrow, a node or another name."""
    points = [point for p in picture.paths for point in (*p.curve.samples(2.0), p.tip)]
    names = {frame.frame.name: frame.label.box for frame in picture.frames}
    bodies = [node.box for node in picture.nodes]
    hit = {name for name, box in names.items() if any(map(box.holds, points))}
    hit |= {name for name, box in names.items() if any(map(box.meets, bodies))}
    hit |= {a for a, b in combinations(names, 2) if names[a].meets(names[b])}
    return sorted(hit)


@every
def test_nothing_strikes_the_name_of_a_scope(picture):
    assert struck(picture) == []


@every
def test_arrows_enter_no_scope_of_others(picture):
    for frame in picture.frames:
        for p in picture.paths:
            if not {p.arrow.source, p.arrow.target} & set(frame.frame.members):
                assert not any(map(frame.box.holds, p.curve.samples(3.0)))


def test_names_of_scopes_stand_at_the_upper_left_counts_at_the_lower_right():
    for picture in (PICTURES["resnet"], layout(DRAWN["chain"])):
        for frame in picture.frames:
            (x, y), box = frame.label.origin, frame.box
            assert (x < box.left + 12) is frame.frame.scope
            assert (y < box.top + 40) is frame.frame.scope
            assert (frame.label.box.right > box.right - 12) is not frame.frame.scope


def test_long_skips_are_straight_lines():
    skips = [p for p in PICTURES["unet"].paths if p.arrow.target.endswith(".cat")]
    long = [p for p in skips if p.arrow.source.startswith("downs")]
    assert len(long) == 4
    assert all(p.curve.is_straight for p in long)
    assert all(abs(p.curve.points[0].x - p.tip.x) < 1.0 for p in long)


def test_chains_in_a_scope_are_vertical():
    place = {node.node.name: node.centre for node in PICTURES["resnet"].nodes}
    block = ["conv1", "bn1", "relu", "conv2", "bn2"]
    assert len({place[f"layer3.0.{name}"].x for name in block}) == 1


def test_every_arrow_of_a_net_points_down():
    for name, picture in PICTURES.items():
        place = {node.node.name: node.centre for node in picture.nodes}
        for source, target in NETS[name].edges:
            assert place[source].y < place[target].y


def test_a_box_has_room_for_all_heads_that_end_at_it():
    wide = net([(f"x_{i}", "cat") for i in range(12)], inputs=[f"x_{i}" for i in range(12)])
    picture = layout(figure(wide))
    tips = sorted(p.tip.x for p in picture.paths)
    assert all(b - a > 11.0 for a, b in pairwise(tips))
    assert len({p.tip.y for p in picture.paths}) == 1


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 6.3), st.floats(1, 80), st.floats(1, 40), st.floats(2, 10))
def test_clipping_ends_on_the_outline_of_a_box(angle, stretch, rise, radius):
    box = Body(radius, stretch, rise)
    reach = box.reach(cos(angle), sin(angle))
    assert abs(box.distance(reach * cos(angle), reach * sin(angle))) < 1e-6


# Scopes in figures and files


def test_scopes_look_unlike_plates():
    graph = Graph.from_edges(
        [*chain("x", "net.a", "net.b")], plates={"n": ["x", "net.a", "net.b"]}
    )
    svg = draw(graph).svg
    assert svg.count('class="scope"') == svg.count('class="plate"') == 1
    scope = svg[svg.index('<g class="scope"') :]
    plate = svg[svg.index('<g class="plate"') :]
    assert 'data-name="net"' in scope
    assert scope[: scope.index("/>")].count('fill="none"') == 0
    assert plate[: plate.index("/>")].count('fill="none"') == 1


def test_a_module_has_a_double_outline():
    assert draw(net(chain("x", "relu"))).svg.count("<rect") == 3  # the page is one
    assert draw(net(chain("x", "h"))).svg.count("<rect") == 1
    assert (
        draw(Figure((Node("f", r"\mathrm{long\ map}", "deterministic"),))).svg.count("<rect") == 3
    )


def test_scopes_by_hand_are_checked_like_plates():
    nodes = tuple(Node(n, n) for n in "abc")
    with pytest.raises(GraphError, match="the scope 's' has no members"):
        Figure(nodes, frames=(Frame("s", "s", (), scope=True),))
    both = (Frame("s", "s", ("a", "b"), scope=True), Frame("t", "t", ("b", "c"), scope=True))
    assert draw(Figure(nodes, frames=both)).svg.count('class="scope"') == 2


def test_a_tall_net_still_fits_an_image(tmp_path):
    names = [f"layer{i}" for i in range(200)]
    drawing = draw(net(chain("x", *names)))
    with pytest.raises(ValueError, match="keeps each side at or below"):
        drawing.png()
    assert drawing.save(tmp_path / "net.png").read_bytes()[1:4] == b"PNG"
