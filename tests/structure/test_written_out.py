"""Chains written out: names, edges, plates, what substitution leaves, and what feeds back."""

import re

import pytest

from daguerre.draw import label
from daguerre.graph import Graph, GraphError, InadmissibleError, Lag, Plate, Variable
from daguerre.structure import eliminate, feedback, unroll

RNN = Graph.from_edges([("h", "y")], lagged=[("h", "h", 1), ("y", "h", 1)], deterministic=["h"])


def test_slices_are_subscripts_and_earlier_ones_are_parents():
    g = Graph.from_edges(
        [("z", "x"), ("s", "x"), ("u", "z")],
        lagged=[("z", "z", 1), ("x", "z", 2)],
        inputs=["u"],
        plates={"t": ["u", "z", "x"]},
    )
    flat = unroll(g, 3)
    assert flat.names[0] == "s"
    assert flat.parents("z[0]") == ("u[0]",)
    assert flat.parents("z[1]") == ("u[1]", "z[0]")
    assert flat.parents("z[2]") == ("u[2]", "z[1]", "x[0]")
    assert flat.parents("x[2]") == ("z[2]", "s")
    assert flat.inputs == ("u[0]", "u[1]", "u[2]")
    assert label("z[2]") == "z_{2}"
    with pytest.raises(GraphError, match=r"did you mean 'z\[2\]'"):
        flat["z[3]"]


def test_a_net_that_reads_backwards_has_its_start_at_the_end():
    flat = unroll(Graph.from_edges([("x", "b")], lagged=[("b", "b", -2)]), 4)
    assert [flat.parents(f"b[{t}]") for t in range(4)] == [
        ("x[0]", "b[2]"),
        ("x[1]", "b[3]"),
        ("x[2]",),
        ("x[3]",),
    ]


def test_plates_and_bijections_are_kept():
    g = Graph.from_edges(
        [], bijective=[("z", "x")], lagged=[("z", "z", 1)], plates={"n": ["z", "x"]}
    )
    flat = unroll(g, 2)
    assert flat.plates == g.plates
    assert flat["x[1]"] == Variable("x[1]", ("z[1]",), "deterministic", "z[1]", ("n",))
    assert flat.kind("x[1]") == "prescribed"


def test_bijections_of_what_holds_for_all_time():
    g = Graph(
        [
            Variable("s"),
            Variable("h", plates=("t",), lags=(Lag("h", 1),)),
            Variable("x", ("s", "h"), "deterministic", "s", ("t",)),
        ],
        [Plate("t")],
    )
    assert unroll(g, 2)["x[1]"].inverts == "s"


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_without_its_units_a_recurrent_net_is_the_complete_graph(steps):
    left = eliminate(unroll(RNN, steps), [f"h[{t}]" for t in range(steps)])
    assert left.names == tuple(f"y[{t}]" for t in range(steps))
    for t in range(steps):
        assert {*left.parents(f"y[{t}]")} == {f"y[{s}]" for s in range(t)}


def test_units_that_go_back_without_end_stay_until_the_chain_is_written_out():
    with pytest.raises(InadmissibleError, match=r"all earlier slices; .*dg.structure.unroll"):
        eliminate(RNN, "h")


def test_units_within_a_slice_go_from_the_chain_itself():
    g = Graph.from_edges([("z", "h"), ("h", "x")], lagged=[("z", "z", 1)], deterministic=["h"])
    left = eliminate(g, "h")
    assert left == Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)])
    assert unroll(left, 3) == eliminate(unroll(g, 3), ["h[0]", "h[1]", "h[2]"])


@pytest.mark.parametrize(
    ("g", "steps", "text"),
    [
        (RNN, 0, "for 1 time slice or more, not 0"),
        (RNN, True, "or more, not True"),
        (RNN, 10**7, "20000000 variables, more than"),
        (Graph.from_edges([("z", "x")]), 2, "there is no chain"),
        (Graph.from_edges([("z[1]", "z")], lagged=[("z", "z", 1)]), 2, "name of a time slice"),
    ],
)
def test_what_cannot_be_written_out_says_so(g, steps, text):
    with pytest.raises(GraphError, match=text):
        unroll(g, steps)


@pytest.mark.parametrize(
    ("edges", "lagged", "maps", "inputs", "text"),
    [
        ("hy", "hh yh", "h", "", "y feeds back into h: .* teacher forcing, and determines h."),
        ("hy ey", "hh yh eh", "h", "", "y feeds back into h: .* teacher forcing.$"),
        ("hy", "hh", "", "", "y does not feed back: given h, its time slices are independent."),
        ("uh hy", "hh", "h", "u", "y does not feed back: given u, its time slices are ind"),
        ("hy", "yy hh", "h", "", "y feeds back into y"),
        ("hy", "hh zh zz zy", "h", "", "y does not feed back, but what it depends on"),
    ],
)
def test_feedback_is_told(edges, lagged, maps, inputs, text):
    g = Graph.from_edges(
        [tuple(e) for e in edges.split()],
        lagged=[(*e, 1) for e in lagged.split()],
        deterministic=maps,
        inputs=inputs,
    )
    (sentence,) = [s for s in feedback(g).splitlines() if s.startswith("y")]
    assert re.search(text, sentence), sentence


def test_nothing_feeds_back_without_time():
    with pytest.raises(InadmissibleError, match="nothing can feed back"):
        feedback(Graph.from_edges([("z", "x")]))
