"""Figures are values: builders add, never change, and refuse what cannot be drawn."""

import pytest

from daguerre.draw import (
    Arrow,
    Figure,
    Frame,
    Node,
    figure,
    label,
    with_caption,
    with_critic,
    with_inference,
    with_labels,
)
from daguerre.graph import Graph, GraphError, Plate

VAE = figure(Graph.from_edges([("z", "x")]), observed=["x"])


def test_the_three_flags_are_independent():
    encoder = Graph.from_edges([("x", "z")], inputs=["x"], deterministic=["z"])
    both = with_critic(with_inference(VAE, encoder), ["x"])
    assert both.arrows == (
        Arrow("z", "x"),
        Arrow("x", "z", inference=True, deterministic=True),
        Arrow("x", "critic", inference=True, adversarial=True),
    )
    assert VAE.arrows == (Arrow("z", "x"),)


def test_shapes_follow_the_maps():
    graph = Graph.from_edges([("c", "h"), ("h", "x")], deterministic=["h"], inputs=["c"])
    assert [n.shape for n in figure(graph).nodes] == ["constant", "deterministic", "random"]
    assert [n.observed for n in figure(graph, observed=["x"]).nodes] == [False, False, True]


def test_plates_become_frames_and_indices():
    graph = Graph.from_edges([("m", "x")], plates={"n": ["x"]})
    fig = figure(Graph(graph.variables, [Plate("n", 100)]))
    assert fig.frames == (Frame("n", "N = 100", ("x",)),)
    assert [n.label for n in fig.nodes] == ["m", "x_{n}"]


def test_an_empty_plate_is_not_drawn():
    assert figure(Graph(Graph.from_edges([("z", "x")]).variables, [Plate("n")])).frames == ()


def test_lagged_edges_carry_their_lag():
    graph = Graph.from_edges([("z", "x")], lagged=[("z", "z", 2)])
    assert figure(graph).arrows[-1] == Arrow("z", "z", label="t - 2")


def test_the_encoders_own_variables_become_nodes():
    q = Graph.from_edges([("x", "h"), ("h", "z")], inputs=["x"], deterministic=["h"])
    assert with_inference(VAE, q).nodes[-1] == Node("h", "h", "deterministic")


def test_critics_get_names_of_their_own():
    two = with_critic(with_critic(VAE, ["x"]), ["z"], label="d")
    assert [(n.name, n.label) for n in two.nodes[2:]] == [("critic", "y"), ("critic_2", "d")]
    taken = with_critic(figure(Graph.from_edges([("critic_2", "critic")])), ["critic"])
    assert len({n.name for n in taken.nodes}) == 3


def test_captions_and_labels():
    assert with_caption(VAE, "x^2").caption == "x^2"
    assert with_labels(VAE, {("z", "x"): "p"}).arrows == (Arrow("z", "x", label="p"),)
    with pytest.raises(GraphError, match="no arrow x -> z to label; known: z -> x"):
        with_labels(VAE, {("x", "z"): "q"})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: figure(Graph([])), "at least one node"),
        (lambda: Figure((Node("x", "x"), Node("x", "y"))), "node 'x' is in the figure twice"),
        (lambda: Figure((Node("x", "x"),), (Arrow("x", "z"),)), "unknown node 'z'"),
        (lambda: Figure((Node("x", "x"),), (), (Frame("p", "P", ("y",)),)), "plate 'p' names"),
        (lambda: Figure((Node("x", "x"),), (), (Frame("p", "P", ()),)), "'p' has no members"),
        (lambda: figure(Graph.from_edges([("z", "x")]), observed=["X"]), "did you mean 'x'"),
        (lambda: with_critic(VAE, ["xx"]), "unknown node 'xx'"),
    ],
)
def test_what_cannot_be_drawn_says_so(build, message):
    with pytest.raises(GraphError, match=message):
        build()


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("z", "z"),
        ("z_1", "z_{1}"),
        ("z_1_2", "z_{1,2}"),
        ("theta", r"\theta"),
        ("θ", r"\theta"),
        ("theta_x", r"\theta_{x}"),
        ("weight", r"\mathrm{weight}"),
        ("hidden_state", r"\mathrm{hidden}_{\mathrm{state}}"),
        ("_x", r"\mathrm{\_x}"),
        ("100%", r"\mathrm{100\%}"),
        ("$", r"\mathrm{\$}"),
        ("{", r"\mathrm{\{}"),
        ("\\alpha", r"\mathrm{\backslash alpha}"),
        ("a\x00", "\\mathrm{a\ufffd}"),
    ],
)
def test_labels(name, latex):
    assert label(name) == latex


def test_a_long_name_is_cut():
    assert len(label("x" * 10_000)) < 60
