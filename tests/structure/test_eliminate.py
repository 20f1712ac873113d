"""Substituting deterministic variables away, against walks written out and known sizes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.graph import Graph, GraphError, InadmissibleError, Map, Variable
from daguerre.structure import eliminate


def layers(*sizes: int) -> tuple[Graph, list[str]]:
    """A dense net at the level of units, and the names of the hidden ones."""
    units = [[f"h{k}[{i}]" for i in range(n)] for k, n in enumerate(sizes)]
    edges = [(a, b) for above, below in itertools.pairwise(units) for a in above for b in below]
    nodes = [name for layer in units for name in layer]
    inner = [name for layer in units[1:-1] for name in layer]
    return Graph.from_edges(edges, nodes=nodes, deterministic=nodes[sizes[0] :]), inner


def recurrent(steps: int) -> Graph:
    """h_t = f(h_{t-1}, y_{t-1}), y_t ~ p(y_t | h_t): the net of Deep Learning, figure 10.8."""
    edges = [(f"h{t}", f"y{t}") for t in range(1, steps + 1)]
    for t in range(2, steps + 1):
        edges += [(f"h{t - 1}", f"h{t}"), (f"y{t - 1}", f"h{t}")]
    return Graph.from_edges(edges, deterministic=[f"h{t}" for t in range(1, steps + 1)])


@pytest.mark.parametrize(
    ("sizes", "nodes", "edges", "nodes_after", "edges_after"),
    [
        ((50, 200, 200, 784), 1234, 206_800, 834, 39_200),
        ((2, 16, 16, 3), 37, 336, 5, 6),
    ],
)
def test_a_dense_decoder_becomes_the_complete_bipartite_graph(
    sizes, nodes, edges, nodes_after, edges_after
):
    g, hidden = layers(*sizes)
    assert (len(g.names), len(g.edges)) == (nodes, edges)
    left = eliminate(g, hidden)
    assert (len(left.names), len(left.edges)) == (nodes_after, edges_after)
    inputs = g.names[: sizes[0]]
    assert all(left.parents(name) == inputs for name in left.names[sizes[0] :])


def test_a_recurrent_net_becomes_the_complete_graph_over_its_outputs():
    steps = 7
    left = eliminate(recurrent(steps), [f"h{t}" for t in range(1, steps + 1)])
    assert left.names == tuple(f"y{t}" for t in range(1, steps + 1))
    for t in range(1, steps + 1):
        assert left.parents(f"y{t}") == tuple(f"y{s}" for s in range(1, t))
    assert all(left[name].map == "stochastic" for name in left.names)


def test_a_decoder_becomes_one_arrow():
    edges = [("z", "h1"), ("h1", "h2"), ("h2", "x")]
    g = Graph.from_edges(edges, deterministic=["h1", "h2"])
    assert eliminate(g, ["h1", "h2"]) == Graph.from_edges([("z", "x")])
    assert eliminate(g, "h2").edges == (("z", "h1"), ("h1", "x"))
    assert eliminate(g, []) == g


def test_parents_come_where_the_variable_stood():
    g = Graph.from_edges(
        [("a", "h"), ("b", "h"), ("u", "x"), ("h", "x"), ("v", "x"), ("a", "x")],
        deterministic=["h"],
    )
    assert eliminate(g, "h").parents("x") == ("u", "a", "b", "v")


def test_a_leaf_is_left_out():
    g = Graph.from_edges([("z", "x"), ("z", "h")], deterministic=["h"])
    assert eliminate(g, "h") == Graph.from_edges([("z", "x")])


def test_a_bijection_of_a_bijection_is_one():
    g = Graph.from_edges([("w", "x")], bijective=[("z", "y"), ("y", "x")])
    assert eliminate(g, "y")["x"] == Variable("x", ("w", "z"), "deterministic", "z")


def test_a_bijection_of_another_map_is_none():
    g = Graph.from_edges([("z", "h")], bijective=[("h", "x")], deterministic=["h"])
    assert eliminate(g, "h")["x"] == Variable("x", ("z",), "deterministic")


def test_a_side_branch_of_the_same_source_spoils_a_bijection():
    g = Graph.from_edges([("z", "h"), ("h", "x")], deterministic=["h"], bijective=[("z", "x")])
    assert g["x"].inverts == "z"
    assert eliminate(g, "h")["x"] == Variable("x", ("z",), "deterministic")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, list[str]]:
    names = [f"v{i}" for i in range(draw(st.integers(1, 8)))]
    variables = []
    for i, name in enumerate(names):
        parents = tuple(draw(st.lists(st.sampled_from(names[:i]), unique=True))) if i else ()
        kind: Map = draw(st.sampled_from(("stochastic", "deterministic")))
        variables.append(Variable(name, parents, kind))
    maps = [v.name for v in variables if v.map == "deterministic"]
    gone = draw(st.lists(st.sampled_from(maps), unique=True)) if maps else []
    return Graph(draw(st.permutations(variables))), gone


@given(graphs())
def test_parents_are_what_paths_through_the_eliminated_lead_to(case):
    g, gone = case
    left = eliminate(g, gone)

    def lead(name: str) -> set[str]:
        return {p for q in g.parents(name) for p in (lead(q) if q in gone else {q})}

    assert set(left.names) == {*g.names} - {*gone}
    assert all(set(left.parents(n)) == lead(n) for n in left.names)
    assert left.order == tuple(n for n in g.order if n not in gone)


@given(graphs())
def test_one_after_another_is_all_at_once(case):
    g, gone = case
    left = g
    for name in gone:
        left = eliminate(left, name)
    assert left == eliminate(g, gone)


def test_a_long_chain_is_no_recursion():
    names = [f"h{i}" for i in range(100_000)]
    g = Graph.from_edges(itertools.pairwise(names), deterministic=names[1:])
    assert eliminate(g, names[1:-1]).edges == (("h0", names[-1]),)


def test_random_variables_are_refused_with_the_reason():
    g = Graph.from_edges([("z", "x"), ("u", "x")], inputs=["u"])
    message = r'z is random: leaving it out would integrate it out.*model\["x"\]'
    with pytest.raises(InadmissibleError, match=message):
        eliminate(g, "z")
    with pytest.raises(InadmissibleError, match="u is an input"):
        eliminate(g, "u")


def test_unknown_names_get_a_suggestion():
    g = Graph.from_edges([("z", "hidden"), ("hidden", "x")], deterministic=["hidden"])
    with pytest.raises(GraphError, match=r"no variable 'hiden'.*did you mean 'hidden'"):
        eliminate(g, "hiden")


def test_a_chain_over_time_must_be_written_out():
    g = Graph.from_edges([("h", "y")], deterministic=["h"], lagged=[("h", "h", 1)])
    with pytest.raises(InadmissibleError, match="h depends on h of an earlier time slice"):
        eliminate(g, "h")
