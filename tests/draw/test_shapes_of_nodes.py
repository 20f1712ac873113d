"""Every mark of the notation reaches the picture: flags of arrows, shapes and shades of nodes."""

import re
from itertools import pairwise, product
from xml.etree import ElementTree

import pytest

from daguerre.draw import (
    Arrow,
    Figure,
    Node,
    draw,
    factor_figure,
    figure,
    layout,
    unit_figure,
    unrolled,
    with_double_outlines,
    with_inference,
    with_laws,
)
from daguerre.graph import Graph, GraphError, Plate, Variable

SVG = "{http://www.w3.org/2000/svg}"
GAN = Graph.from_edges([("z", "x")], deterministic=["x"])
FLAGS = ("inference", "deterministic", "adversarial")


def groups(figure: Figure, kind: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(draw(figure).svg)
    return [e for e in root.iter(f"{SVG}g") if kind in e.get("class", "").split()]


@pytest.mark.parametrize("flags", list(product([False, True], repeat=3)))
def test_all_eight_arrows_are_drawn_apart(flags):
    marks = dict(zip(FLAGS, flags, strict=True))
    pair = Figure((Node("z", "z"), Node("x", "x")), (Arrow("z", "x", **marks),))
    (arrow,) = groups(pair, "arrow")
    line, head = arrow.findall(f"{SVG}path")[:2]
    assert arrow.get("class") == " ".join(["arrow", *(f for f in FLAGS if marks[f])])
    assert (line.get("stroke-dasharray") is not None) is marks["inference"]
    assert (head.get("fill") == "#ffffff") is marks["deterministic"]
    plain = draw(Figure(pair.nodes, (Arrow("z", "x"),))).svg
    assert (f'stroke="{line.get("stroke")}" stroke-width="1.6"' in plain) is not flags[2]
    assert (float(line.get("stroke-width", "0")) > 2) is marks["adversarial"]


def test_what_some_rows_lack_is_half_shaded():
    graph = Graph.from_edges([("z", "x"), ("z", "y")])
    picture = figure(graph, observed=["x", "y"], partial=["y"])
    assert [(n.observed, n.partial) for n in picture.nodes] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    (half,) = groups(picture, "partial")
    assert half.get("data-name") == "y"
    shade, outline = half[1], half[2]
    assert (shade.tag, outline.tag, outline.get("fill")) == (
        f"{SVG}path",
        f"{SVG}circle",
        "none",
    )


@pytest.mark.parametrize("shape", ["random", "deterministic", "double", "module"])
def test_half_of_every_shape_lies_inside_it(shape):
    (placed,) = layout(Figure((Node("x", "x", shape, partial=True),))).nodes
    (group,) = groups(Figure((Node("x", "x", shape, partial=True),)), "partial")
    path = group.findall(f"{SVG}path")[0].get("d", "")
    xs = [float(pair.split()[0]) for pair in re.findall(r"-?[\d.]+ -?[\d.]+", path)]
    assert max(xs) - min(xs) == pytest.approx(2 * placed.body.width, abs=0.02)


def test_double_outlines_replace_diamonds_alone():
    picture = with_double_outlines(figure(GAN))
    assert [node.shape for node in picture.nodes] == ["random", "double"]
    assert draw(picture).svg.count("<circle") == 3


def test_a_factor_graph_has_squares_and_lines_without_heads():
    ring = factor_figure({"psi_1": "ab", "psi_2": "bc", "psi_3": "ca"}, observed=["a"])
    assert len(groups(ring, "factor")) == 3
    lines = groups(ring, "undirected")
    assert len(lines) == 6
    assert {len(line.findall(f"{SVG}path")) for line in lines} == {1}
    assert [n.name for n in ring.nodes if n.observed] == ["a"]


def test_names_of_factors_stand_beside_them_and_on_nothing():
    picture = layout(factor_figure({"psi_1": "ab", "psi_2": "bc", "psi_3": "ca"}))
    points = [p for path in picture.paths for p in (*path.curve.samples(2.0), path.tip)]
    for node in picture.nodes:
        if node.node.shape == "factor":
            assert not node.label.box.meets(node.box)
            assert not any(map(node.label.box.holds, points))


def test_each_cpd_of_a_model_is_a_factor():
    factors = factor_figure(Graph.from_edges([("z", "x"), ("c", "x")], inputs=["c"]))
    assert [n.name for n in factors.nodes] == ["z", "c", "x", "p(z)", "p(x)"]
    assert {(a.source, a.target) for a in factors.arrows} == {
        ("p(z)", "z"),
        ("z", "p(x)"),
        ("c", "p(x)"),
        ("p(x)", "x"),
    }


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: factor_figure({}), "at least one node"),
        (lambda: factor_figure({"f": ""}), "'f' is a function of no variable"),
        (lambda: factor_figure({"f": "ab"}, observed=["c"]), "no factor mentions 'c'"),
        (lambda: factor_figure({"a": "ab"}), "node 'a' is in the figure twice"),
        (lambda: unrolled(GAN, 2), "there is no chain"),
        (lambda: unit_figure(Graph([])), "no units"),
    ],
)
def test_what_cannot_be_drawn_says_so(build, message):
    with pytest.raises(GraphError, match=message):
        build()


# Names at arrows


def test_laws_stand_at_the_arrows_of_model_and_inference():
    picture = with_laws(figure(GAN), GAN, function="G")
    assert picture.arrows[0].label == r"x = G_{\theta}(z)"
    q = Graph.from_edges([("x", "z")], inputs=["x"])
    both = with_laws(with_inference(picture, q), q, symbol="q", parameters=r"\phi")
    assert [a.label for a in both.arrows] == [r"x = G_{\theta}(z)", r"q_{\phi}(z \mid x)"]


def test_laws_carry_the_indices_of_plates_and_stand_once_per_child():
    graph = Graph.from_edges([("z", "x"), ("m", "x")], plates={"n": ["z", "x"]})
    labels = [a.label for a in with_laws(figure(graph), graph).arrows]
    assert labels == [r"p_{\theta}(x_{n} \mid z_{n}, m)", ""]


def test_chains_words_and_large_models_get_no_laws():
    chain = Graph.from_edges([("h", "x")], lagged=[("h", "h", 1), ("h", "x", 1)])
    words = Graph.from_edges([("x", "net.fc")], deterministic=["net.fc"])
    large = Graph.from_edges([(a, b) for a, b in zip("abcdefgh", "bcdefghi", strict=True)])
    for graph in (chain, words, large):
        assert with_laws(figure(graph), graph) == figure(graph)


def test_labels_of_arrows_strike_no_node_and_no_other_label():
    graph = Graph.from_edges([("z", "x"), ("c", "x"), ("x", "y"), ("c", "y")])
    picture = layout(with_laws(figure(graph), graph))
    boxes = [path.label.box for path in picture.paths if path.label]
    assert len(boxes) == 2
    assert not boxes[0].meets(boxes[1])
    assert not any(box.meets(node.box) for box in boxes for node in picture.nodes)


# Chains


def test_a_chain_is_written_out_along_a_row():
    chain = Graph.from_edges([("z", "x")], lagged=[("z", "z", 1), ("x", "z", 2)])
    picture = unrolled(chain, 3)
    assert [(a.source, a.target) for a in picture.arrows if a.level] == [
        ("z[0]", "z[1]"),
        ("z[1]", "z[2]"),
        ("x[0]", "z[2]"),
    ]
    place = {node.node.name: node.centre for node in layout(picture).nodes}
    assert place["z[0]"].y == place["z[1]"].y == place["z[2]"].y < place["x[1]"].y
    assert place["z[0]"].x < place["z[1]"].x < place["z[2]"].x
    assert [node.label for node in picture.nodes] == [
        "z_{0}",
        "x_{0}",
        "z_{1}",
        "x_{1}",
        "z_{2}",
        "x_{2}",
    ]


@pytest.mark.parametrize("time", ["t", "T"])
def test_a_chain_may_bring_its_plate_of_time_and_others(time):
    edges, lags = [("z", "x"), ("s", "x")], [("z", "z", 1)]
    whole = Graph.from_edges(edges, lagged=lags, plates={time: ["z", "x"]})
    assert unrolled(whole, 2).frames == ()
    assert [node.name for node in unrolled(whole, 2).nodes] == [
        "s",
        "z[0]",
        "x[0]",
        "z[1]",
        "x[1]",
    ]
    part = Graph.from_edges(edges, lagged=lags, plates={"N": ["x"], time: ["z", "x"]})
    (frame,) = unrolled(part, 2).frames
    assert (frame.name, frame.members) == ("N", ("x[0]", "x[1]"))
    assert unrolled(part, 2).nodes[2].label == "x_{0,n}"
    with pytest.raises(ValueError, match="1 time slice or more, not 0"):
        unrolled(whole, 0)


# Units


def dense(*sizes: int) -> Graph:
    layers = [
        [f"{'x' if i == 0 else f'fc{i}'}[{k}]" for k in range(n)] for i, n in enumerate(sizes)
    ]
    edges = [(a, b) for above, below in pairwise(layers) for a in above for b in below]
    inner = [name for layer in layers[1:] for name in layer]
    return Graph.from_edges(edges, deterministic=inner, inputs=layers[0])


def test_units_are_named_as_in_textbooks():
    picture = unit_figure(dense(2, 2, 2, 1))
    assert [n.label for n in picture.nodes] == [
        *("x_{1}", "x_{2}", "h^{(1)}_{1}", "h^{(1)}_{2}", "h^{(2)}_{1}", "h^{(2)}_{2}", "y_{1}"),
    ]
    assert len(picture.arrows) == 4 + 4 + 2
    assert {n.shape for n in picture.nodes[2:]} == {"deterministic"}
    assert [n.observed for n in picture.nodes[:3]] == [True, True, False]


def test_large_layers_are_plates_with_what_connects_them():
    picture = unit_figure(dense(30, 20, 1))
    assert [(f.name, f.label) for f in picture.frames] == [
        ("x", r"i = 1, \ldots, 30"),
        ("fc1", r"j = 1, \ldots, 20"),
    ]
    assert [(a.deterministic, a.label) for a in picture.arrows] == [
        (True, r"\text{fully connected}")
    ] * 2
    assert unit_figure(dense(30, 20, 1), most=30) != picture


def test_a_receptive_field_is_counted_and_one_missing_edge_is_no_full_connection():
    window = [(f"x[0,{i + k}]", f"c[0,{i}]") for i in range(20) for k in range(3)]
    sparse = unit_figure(Graph.from_edges(window))
    assert sparse.arrows[0].label == r"\text{receptive field } 3"
    assert sparse.frames[0].label == r"1 \times 22"
    full = dense(20, 20)
    last = full["fc1[19]"]
    almost = full.with_variables(Variable(last.name, last.parents[1:], last.map))
    assert unit_figure(almost).arrows[0].label == r"\text{receptive field } 20"
    single = Graph.from_edges([(f"a[{i}]", f"b[{i}]") for i in range(20)])
    assert unit_figure(single).arrows[0].label == r"\text{one to one}"


def test_plates_of_a_size_keep_their_label():
    graph = Graph([Variable("x", plates=("n",))], [Plate("n", 8)])
    assert figure(graph, partial=["x"]).frames[0].label == "N = 8"


def test_a_ring_of_factors_has_two_rows():
    picture = layout(factor_figure({"psi_1": "ab", "psi_2": "bc", "psi_3": "ca"}))
    levels = {
        n.node.shape: {m.centre.y for m in picture.nodes if m.node.shape == n.node.shape}
        for n in picture.nodes
    }
    assert all(len(rows) == 1 for rows in levels.values())
    assert levels["random"] != levels["factor"]
