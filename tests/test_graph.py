"""Graphs as values: what they refuse, what they answer, and laws on random ones."""

import copy
import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.graph import (
    Graph,
    GraphError,
    InadmissibleError,
    Lag,
    Map,
    Plate,
    Variable,
    did_you_mean,
    graph_of,
)

NAMES = ["a", "b", "c", "d", "e", "f", "g"]


@st.composite
def variables(draw: st.DrawFn) -> list[Variable]:
    """Draw an acyclic list of variables of every map, in topological order."""
    out: list[Variable] = []
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        known = [v.name for v in out]
        parents = tuple(draw(st.lists(st.sampled_from(known), unique=True))) if known else ()
        kind: Map = draw(st.sampled_from(("stochastic", "deterministic" if parents else "input")))
        inverts = None
        if kind == "deterministic" and draw(st.booleans()):
            inverts = draw(st.sampled_from(parents))
        out.append(Variable(name, parents, kind, inverts))
    return out


graphs = variables().flatmap(st.permutations).map(Graph)


# Building


def test_from_edges_keeps_the_order_of_first_mention():
    g = Graph.from_edges([("z", "x"), ("y", "x")], nodes=["w"])
    assert g.names == ("w", "z", "x", "y")
    assert g.edges == (("z", "x"), ("y", "x"))


def test_from_edges_reads_every_mark():
    g = Graph.from_edges(
        [("u", "x"), ("h", "x")],
        deterministic=["h"],
        inputs=["u"],
        bijective=[("x", "y")],
        lagged=[("h", "h", 1)],
        plates={"n": ["x", "y"], "t": ["x"]},
    )
    assert g["u"] == Variable("u", map="input")
    assert g["h"] == Variable("h", map="deterministic", lags=(Lag("h", 1),))
    assert g["x"] == Variable("x", ("u", "h"), plates=("n", "t"))
    assert g["y"] == Variable("y", ("x",), "deterministic", "x", ("n",))
    assert g.plates == (Plate("n"), Plate("t"))


@pytest.mark.parametrize("marks", [{"deterministic": ["zz"]}, {"inputs": ["zz"]}])
def test_from_edges_refuses_a_name_that_no_edge_mentions(marks):
    with pytest.raises(GraphError, match="no edge or node mentions 'zz'; did you mean 'z'"):
        Graph.from_edges([("z", "x")], **marks)


def test_from_edges_refuses_a_plate_member_that_no_edge_mentions():
    with pytest.raises(GraphError, match="no edge or node mentions 'w'; known: z, x"):
        Graph.from_edges([("z", "x")], plates={"n": ["w"]})


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Graph([Variable("z"), Variable("z")]), "variable 'z' is declared 2 times"),
        (
            lambda: Graph([], [Plate("n"), Plate("n", 3)]),
            "plate 'n' is declared 2 times, not once",
        ),
        (
            lambda: Graph([Variable("latent"), Variable("x", ("latant",))]),
            "'x' has the unknown parent 'latant'; did you mean 'latent'",
        ),
        (
            lambda: Graph([Variable("z", lags=(Lag("y"),))]),
            "'z' has the unknown parent 'y'; known: z",
        ),
        (
            lambda: Graph([Variable("z", plates=("rows",))], [Plate("row")]),
            "'z' is in the unknown plate 'rows'; did you mean 'row'",
        ),
        (
            lambda: Graph([Variable("z", plates=("n",))]),
            "'z' is in the unknown plate 'n'; there are none",
        ),
        (
            lambda: Graph([Variable("z"), Variable("u", ("z",), "input")]),
            r"'u' is an input, so it cannot have parents: \('z',\)",
        ),
        (
            lambda: Graph([Variable("u", map="input", lags=(Lag("u"),))]),
            "'u' is an input, so it cannot have parents",
        ),
        (
            lambda: Graph([Variable("z"), Variable("x", ("z",), inverts="z")]),
            "'x' can only invert a parent, not 'z'",
        ),
        (
            lambda: Graph([Variable("z"), Variable("x", (), "deterministic", "z")]),
            "'x' can only invert a parent, not 'z'",
        ),
        (
            lambda: Graph.from_edges([("a", "b"), ("b", "c"), ("c", "a")]),
            "the graph has a cycle: .* -> .* -> .* -> .*; remove an edge",
        ),
        (lambda: Graph.from_edges([("a", "a")]), "the graph has a cycle: a -> a; remove an edge"),
    ],
)
def test_what_cannot_be_a_graph_is_refused(made, message):
    with pytest.raises(GraphError, match=message):
        made()


def test_a_cycle_is_told_in_the_direction_of_its_arrows():
    with pytest.raises(GraphError) as error:
        Graph.from_edges([("a", "b"), ("b", "c"), ("c", "a")])
    names = str(error.value).split(": ")[1].split(";")[0].split(" -> ")
    assert set(itertools.pairwise(names)) == {("a", "b"), ("b", "c"), ("c", "a")}


def test_a_lagged_self_edge_is_no_cycle():
    assert Graph.from_edges([], lagged=[("z", "z", 1)]).order == ("z",)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("zz", ["z", "x"], "; did you mean 'z'?"),
        ("Z", ["z", "x"], "; did you mean 'z'?"),
        ("latnet", ["latent", "x"], "; did you mean 'latent'?"),
        ("q", ["z", "x"], "; known: z, x"),
        ("q", [], "; there are none"),
    ],
)
def test_a_misspelt_name_gets_a_suggestion(name, known, hint):
    assert did_you_mean(name, known) == hint


def test_inadmissible_questions_are_graph_errors_and_value_errors():
    assert issubclass(InadmissibleError, GraphError)
    assert issubclass(GraphError, ValueError)


# Reading


@pytest.mark.parametrize("ask", ["__getitem__", "parents", "children", "kind"])
def test_every_question_about_an_unknown_variable_suggests_a_known_one(ask):
    g = Graph.from_edges([("latent", "x")])
    with pytest.raises(GraphError, match="no variable 'latnet' in the graph; did you mean 'lat"):
        getattr(g, ask)("latnet")


@pytest.mark.parametrize("ask", ["ancestors", "descendants", "do"])
def test_every_question_about_unknown_variables_suggests_a_known_one(ask):
    g = Graph.from_edges([("latent", "x")])
    with pytest.raises(GraphError, match="no variable 'latnet' in the graph; did you mean 'lat"):
        getattr(g, ask)(["latnet"])


def test_parents_come_in_the_order_of_the_cpd_and_children_in_that_of_declaration():
    g = Graph([Variable("a"), Variable("b"), Variable("d", ("b", "a")), Variable("c", ("a",))])
    assert g.parents("d") == ("b", "a")
    assert g.children("a") == ("d", "c")
    assert "a" in g
    assert "z" not in g


def test_the_order_is_that_of_declaration_with_parents_just_before():
    g = Graph.from_edges([("b", "a"), ("d", "c")], nodes=["e", "a", "c", "b", "d"])
    assert g.order == ("e", "b", "a", "d", "c")


@given(graphs)
def test_the_order_is_topological_and_repeats_itself(g):
    place = {name: i for i, name in enumerate(g.order)}
    assert all(place[parent] < place[child] for parent, child in g.edges)
    assert sorted(g.order) == sorted(g.names)
    assert Graph([g[name] for name in g.order]).order == g.order


def test_a_long_chain_is_ordered_without_recursion():
    names = [f"v{i}" for i in range(100_000)]
    g = Graph.from_edges(itertools.pairwise(names), nodes=reversed(names))
    assert g.order == tuple(names)


def test_a_cycle_is_shown_along_its_arrows():
    with pytest.raises(GraphError, match="the graph has a cycle: b -> c -> d -> b;"):
        Graph.from_edges([("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")])


@given(graphs)
def test_the_graph_by_numbers_is_the_graph_by_names(g):
    adjacency = g.adjacency
    for name, i in adjacency.number.items():
        assert g.names[i] == name
        assert tuple(g.names[p] for p in adjacency.parents[i]) == g.parents(name)
        assert tuple(g.names[c] for c in adjacency.children[i]) == g.children(name)


def test_models_are_read_as_their_graphs():
    g = Graph.from_edges([("z", "x")])
    assert graph_of(g) is g
    with pytest.raises(TypeError, match=r"expected a Graph or a Model, not 'z'"):
        graph_of("z")  # type: ignore[arg-type] - the slip that is tested


def test_leaves_are_what_the_model_puts_out():
    g = Graph.from_edges([("u", "z"), ("z", "x"), ("z", "y")], inputs=["u"], nodes=["u", "v"])
    assert g.leaves == ("v", "x", "y")
    assert Graph([Variable("u", map="input")]).leaves == ()


@pytest.mark.parametrize(
    ("graph", "kind"),
    [
        (Graph([Variable("x", map="input")]), "input"),
        (Graph.from_edges([("z", "x")]), "prescribed"),
        (Graph.from_edges([("u", "x")], inputs=["u"]), "prescribed"),
        (Graph.from_edges([("z", "x")], deterministic=["x"]), "implicit"),
        (Graph.from_edges([("u", "x")], deterministic=["x"], inputs=["u"]), "deterministic"),
        (Graph([Variable("x", map="deterministic")]), "deterministic"),
        (Graph.from_edges([("z", "h"), ("h", "x")], deterministic=["h"]), "prescribed"),
        (Graph.from_edges([], bijective=[("z", "x")]), "prescribed"),
        (Graph.from_edges([], bijective=[("z", "y"), ("y", "x")]), "prescribed"),
        (Graph.from_edges([], bijective=[("u", "x")], inputs=["u"]), "deterministic"),
        (
            Graph.from_edges([("z", "h")], deterministic=["h"], bijective=[("h", "x")]),
            "implicit",
        ),
        (Graph.from_edges([("y", "x")], bijective=[("z", "x")]), "prescribed"),
        (Graph.from_edges([("u", "x")], bijective=[("z", "x")], inputs=["u"]), "prescribed"),
        (Graph.from_edges([("y", "x")], bijective=[("u", "x")], inputs=["u"]), "implicit"),
        (
            Graph.from_edges(
                [("w", "h"), ("h", "x")], deterministic=["h"], bijective=[("z", "x")]
            ),
            "prescribed",
        ),
        (
            Graph.from_edges(
                [("z", "h"), ("h", "x")], deterministic=["h"], bijective=[("z", "x")]
            ),
            "implicit",
        ),
    ],
)
def test_kind_is_derived_from_the_graph(graph, kind):
    assert graph.kind("x") == kind


# Rewriting


def test_join_lets_one_factor_define_the_input_of_another():
    prior, decoder = Graph.from_edges([("y", "z")]), Graph.from_edges([("z", "x")], inputs=["z"])
    joined = prior.join(decoder)
    assert joined == Graph.from_edges([("y", "z"), ("z", "x")])
    assert decoder.join(prior) == joined


def test_join_keeps_an_input_that_nobody_defines():
    q = Graph.from_edges([("x", "z")], inputs=["x"])
    other = Graph.from_edges([("x", "y")], inputs=["x"])
    assert q.join(other).inputs == ("x",)


def test_join_refuses_two_definitions():
    g = Graph.from_edges([("z", "x")])
    with pytest.raises(GraphError, match="both factors define 'z', 'x'; one must not"):
        g.join(g)


def test_join_refuses_a_cycle_between_the_factors():
    p = Graph.from_edges([("z", "x")], inputs=["z"])
    q = Graph.from_edges([("x", "z")], inputs=["x"])
    with pytest.raises(GraphError, match="cycle"):
        p.join(q)


def test_with_variables_swaps_these_variables_and_no_other():
    g = Graph.from_edges([("z", "x")])
    swapped = g.with_variables(Variable("x", ("z",), "deterministic"))
    assert swapped == Graph.from_edges([("z", "x")], deterministic=["x"])
    with pytest.raises(GraphError, match="no variable 'y'"):
        g.with_variables(Variable("y"))


def test_do_cuts_every_arrow_into_a_variable():
    g = Graph.from_edges([("z", "x"), ("x", "y")], lagged=[("x", "x", 1)])
    assert g.do(["x"]) == Graph.from_edges([("x", "y")], nodes=["z"], deterministic=["x"])
    assert g.do([]) == g


# Being a value


def test_a_graph_prints_its_factors():
    g = Graph.from_edges(
        [("z", "x"), ("u", "z")], deterministic=["x"], inputs=["u"], lagged=[("z", "z", 1)]
    )
    assert repr(g) == "Graph(u, z[t-1] -> z; z => x; u)"


def test_a_graph_cannot_be_changed():
    g = Graph.from_edges([("z", "x")])
    with pytest.raises(AttributeError, match="a Graph is immutable; build a new one"):
        g.variables = ()
    assert g != "Graph(-> z; z -> x)"


@pytest.mark.parametrize(
    "other",
    [
        Graph.from_edges([("x", "z")]),
        Graph.from_edges([("z", "x")], deterministic=["x"]),
        Graph.from_edges([], bijective=[("z", "x")]),
        Graph.from_edges([("z", "x")], plates={"n": ["x"]}),
        Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)]),
        Graph.from_edges([("z", "x")], nodes=["w"]),
    ],
)
def test_every_mark_counts_in_a_comparison(other):
    assert other != Graph.from_edges([("z", "x")])


def test_the_size_of_a_plate_counts_in_a_comparison():
    assert Graph([], [Plate("n", 2)]) != Graph([], [Plate("n", 3)])


# Laws on random graphs


@given(graphs)
def test_the_order_is_topological(g):
    assert sorted(g.order) == sorted(g.names)
    assert all(g.order.index(a) < g.order.index(b) for a, b in g.edges)


@given(graphs)
def test_ancestors_and_descendants_are_the_transitive_closure(g):
    paths = set(g.edges)
    for middle, a, b in itertools.product(g.names, repeat=3):  # Warshall
        if (a, middle) in paths and (middle, b) in paths:
            paths.add((a, b))
    for name in g.names:
        assert g.ancestors([name]) == {a for a, b in paths if b == name}
        assert g.descendants([name]) == {b for a, b in paths if a == name}


@given(variables(), st.data())
def test_equality_ignores_the_order_of_declaration_and_of_parents(declared, data):
    parents = [
        Variable(v.name, tuple(data.draw(st.permutations(v.parents))), v.map, v.inverts)
        for v in data.draw(st.permutations(declared))
    ]
    one, other = Graph(declared), Graph(parents)
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


@given(graphs)
def test_edges_and_marks_rebuild_the_graph(g):
    again = Graph.from_edges(
        g.edges,
        nodes=g.names,
        deterministic=[v.name for v in g.variables if v.map == "deterministic"],
        inputs=g.inputs,
        bijective=[(v.inverts, v.name) for v in g.variables if v.inverts],
    )
    assert again == g
    assert again.names == g.names


@given(graphs)
def test_pickles_and_copies_are_equal(g):
    for clone in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g), copy.copy(g)):
        assert clone == g
        assert hash(clone) == hash(g)
        assert clone.order == g.order


@given(graphs, st.data())
def test_do_leaves_no_ancestors(g, data):
    cut = data.draw(st.lists(st.sampled_from(g.names), unique=True))
    done = g.do(cut)
    assert not any(done.parents(name) for name in cut)
    assert {e for e in g.edges if e[1] not in cut} == set(done.edges)


def spelled_out_kind(g: Graph, name: str) -> str:
    """What a variable offers, by following the bijections up to where its randomness starts."""
    v = g[name]
    if v.map == "input":
        return "input"
    if v.map == "stochastic":
        return "prescribed"
    random = {a for a in g.ancestors([name]) if g[a].map == "stochastic"}
    if not random:
        return "deterministic"
    conditions: set[str] = set()
    followed: set[str] = set()
    while v.map == "deterministic" and v.inverts:
        conditions |= {p for p in v.parents if p != v.inverts}
        v = g[v.inverts]
        followed.add(v.name)
    leaks = followed & (conditions | g.ancestors(conditions))  # x = T(z; h(z)) is no bijection
    return "prescribed" if v.map == "stochastic" and not leaks else "implicit"


@given(graphs)
def test_kinds_agree_with_their_definition_spelled_out(g):
    assert [g.kind(n) for n in g.names] == [spelled_out_kind(g, n) for n in g.names]
