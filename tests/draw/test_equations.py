"""Graphs as formulas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.draw import factorisation, formula_svg
from daguerre.graph import Graph, GraphError, Plate

edges = Graph.from_edges


@pytest.mark.parametrize(
    ("graph", "latex"),
    [
        (edges([("z", "x")]), r"p_\theta(x, z) = p(z)\,p_\theta(x \mid z)"),
        (
            edges([("z", "x")], deterministic=["x"]),
            r"z \sim p(z),\quad x = f_\theta(z)",
        ),
        (
            edges([("z_2", "z_1"), ("z_1", "x")]),
            r"p_\theta(x, z_{1}, z_{2}) = "
            r"p(z_{2})\,p_\theta(z_{1} \mid z_{2})\,p_\theta(x \mid z_{1})",
        ),
        (
            edges([("z", "x"), ("c", "x")], inputs=["c"]),
            r"p_\theta(x, z \mid c) = p(z)\,p_\theta(x \mid z, c)",
        ),
        (
            edges([("z", "h"), ("h", "x")], deterministic=["h"]),
            r"p_\theta(x, z) = p(z)\,p_\theta(x \mid h),\quad h = f_\theta(z)",
        ),
        (edges([], bijective=[("z", "x")]), r"z \sim p(z),\quad x = T(z)"),
        (edges([], nodes=["z"]), "p(z)"),
        (
            edges([("z", "x")]).do(["z"]),
            r"p_\theta(x) = p_\theta(x \mid z),\quad z = \mathrm{const}",
        ),
        (
            edges([("m", "x"), ("z", "x")], plates={"n": ["z", "x"]}),
            r"p_\theta(x, z, m) = p(m)\,\prod_{n=1}^{N} p(z_{n})\,p_\theta(x_{n} \mid m, z_{n})",
        ),
        (
            edges([("z", "x")], lagged=[("z", "z", 1)]),
            r"p_\theta(x, z) = \prod_{t=1}^{T} "
            r"p_\theta(z_{t} \mid z_{t-1})\,p_\theta(x_{t} \mid z_{t})",
        ),
    ],
)
def test_factorisation(graph, latex):
    assert factorisation(graph) == latex
    formula_svg(latex)


def test_symbol_and_parameters():
    encoder = edges([("x", "z")], inputs=["x"])
    assert factorisation(encoder, symbol="q", parameters=r"\phi") == r"q_\phi(z \mid x)"
    assert factorisation(edges([("z", "x")]), parameters="") == r"p(x, z) = p(z)\,p(x \mid z)"
    assert r"p_{\theta, \phi}(" in factorisation(edges([("z", "x")]), parameters=r"\theta, \phi")


def test_an_implicit_variable_never_gets_a_density():
    two = edges([("z", "h"), ("h", "x"), ("z", "y")], deterministic=["h", "x"])
    latex = factorisation(two)
    left = latex.split(r",\quad ")[0]
    assert left == r"p_\theta(y, z) = p(z)\,p_\theta(y \mid z)"
    assert latex.endswith(r"h = f_\theta^{(1)}(z),\quad x = f_\theta^{(2)}(h)")


def test_products_nest_and_say_where_they_end():
    graph = edges(
        [("m", "z"), ("z", "s"), ("m", "b")],
        plates={"n": ["z", "s"], "t": ["s"], "k": ["b"]},
    )
    assert factorisation(Graph(graph.variables, [Plate("n", 9), Plate("t"), Plate("k")])) == (
        r"p_\theta(b, s, z, m) = p(m)\,"
        r"\prod_{n=1}^{9} \left[p_\theta(z_{n} \mid m)\,"
        r"\prod_{t=1}^{T} p_\theta(s_{nt} \mid z_{n})\right]\,"
        r"\prod_{k=1}^{K} p_\theta(b_{k} \mid m)"
    )


def test_an_empty_graph_is_an_error():
    with pytest.raises(GraphError, match="no factorisation"):
        factorisation(Graph([]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_stochastic_variable_is_one_factor_and_all_can_be_set(data):
    names = ["a", "b_1", "theta", "weight", "e%"][: data.draw(st.integers(1, 5))]
    pairs = [(p, c) for i, p in enumerate(names) for c in names[i + 1 :]]
    chosen = [pair for pair in pairs if data.draw(st.booleans())]
    maps = [n for n in names if data.draw(st.booleans())]
    graph = edges(chosen, deterministic=maps, nodes=names)
    latex = factorisation(graph)
    formula_svg(latex)
    right = latex.split(" = ", 1)[1] if latex.startswith("p") and " = " in latex else latex
    assert right.count("p(") + right.count(r"p_\theta(") == len(names) - len(maps)
    assert latex.count(r"f_\theta") == sum(bool(graph.parents(n)) for n in maps)
