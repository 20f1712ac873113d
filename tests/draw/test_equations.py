"""Graphs as formulas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.draw import factor, factorisation, formula_svg, marginal
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
            r"p_\theta(x, z) = p(z_{1})\,\prod_{t=2}^{T} p_\theta(z_{t} \mid z_{t-1})\,"
            r"\prod_{t=1}^{T} p_\theta(x_{t} \mid z_{t})",
        ),
        (
            edges([("z", "y")], plates={"n": ["z"]}),
            r"p_\theta(y, z) = p_\theta(y \mid z_{1:N})\,\prod_{n=1}^{N} p(z_{n})",
        ),
    ],
)
def test_factorisation(graph, latex):
    assert factorisation(graph) == latex
    formula_svg(latex)


@pytest.mark.parametrize(
    ("steps", "latex"),
    [
        ([1], r"p(z_{1})\,\prod_{t=2}^{T} p_\theta(z_{t} \mid z_{t-1})"),
        (
            [1, 2],
            r"p(z_{1})\,p_\theta(z_{2} \mid z_{1})\,"
            r"\prod_{t=3}^{T} p_\theta(z_{t} \mid z_{t-1}, z_{t-2})",
        ),
        ([5], r"\prod_{t=1}^{5} p(z_{t})\,\prod_{t=6}^{T} p_\theta(z_{t} \mid z_{t-5})"),
        (
            [2, 5],
            r"\prod_{t=1}^{2} p(z_{t})\,\prod_{t=3}^{5} p_\theta(z_{t} \mid z_{t-2})\,"
            r"\prod_{t=6}^{T} p_\theta(z_{t} \mid z_{t-2}, z_{t-5})",
        ),
    ],
)
def test_a_chain_begins_where_its_lags_do(steps, latex):
    graph = edges([], lagged=[("z", "z", s) for s in steps])
    assert factorisation(graph) == rf"p_\theta(z) = {latex}"
    formula_svg(latex)


def test_a_recurrent_map_is_one_statement_or_one_dirac_of_each_slice():
    graph = edges([("u", "h"), ("h", "x")], lagged=[("h", "h", 1)], deterministic=["h"])
    body = r"p_\theta(x_{t} \mid h_{t})"
    assert factorisation(graph) == (
        rf"p_\theta(x, u) = \prod_{{t=1}}^{{T}} p(u_{{t}})\,{body},\quad "
        r"h_{t} = f_\theta(u_{t}, h_{t-1})"
    )
    assert factorisation(graph, dirac=True) == (
        r"p_\theta(x, h, u) = \prod_{t=1}^{T} p(u_{t})\,"
        rf"\delta(h_{{t}} - f_\theta(u_{{t}}, h_{{t-1}}))\,{body}"
    )


def test_time_is_inside_the_plates_that_hold_the_whole_chain():
    pairs, lags = [("z", "x")], [("z", "z", 1)]
    start, step = r"p(z_{%s1})", r"p_\theta(z_{%st} \mid z_{%st-1})"
    inner = factorisation(edges(pairs, lagged=lags, plates={"n": ["z", "x"]}))
    outer = factorisation(edges(pairs, lagged=lags, plates={"n": ["x"]}))
    assert inner.startswith(
        rf"p_\theta(x, z) = \prod_{{n=1}}^{{N}} {start % 'n,'}\,\prod_{{t=2}}^{{T}} "
    )
    assert outer == (
        rf"p_\theta(x, z) = {start % ''}\,\prod_{{t=2}}^{{T}} {step % ('', '')}\,"
        r"\prod_{t=1}^{T} \prod_{n=1}^{N} p_\theta(x_{nt} \mid z_{t})"
    )


def test_crossing_plates_are_one_product_over_both_indices():
    pairs = [("a", "x"), ("b", "x")]
    crossing = edges(pairs, plates={"i": ["a", "x"], "j": ["b", "x"]})
    assert factorisation(crossing) == (
        r"p_\theta(x, b, a) = \prod_{i=1}^{I} p(a_{i})\,\prod_{j=1}^{J} p(b_{j})\,"
        r"\prod_{i=1,\,j=1}^{I,\,J} p_\theta(x_{ij} \mid a_{i}, b_{j})"
    )
    inside = edges(pairs, plates={"i": ["a", "x"], "j": ["b", "x"], "n": ["a", "b", "x"]})
    assert r"= \prod_{n=1}^{N} \prod_{i=1}^{I} p(a_{in})\,\prod_{j=1}^{J}" in factorisation(inside)
    formula_svg(factorisation(inside))


def test_maps_become_dirac_factors_on_request():
    graph = edges([("z", "h"), ("h", "x")], deterministic=["h", "x"], bijective=[("x", "y")])
    assert factorisation(graph, dirac=True) == (
        r"p_\theta(y, x, h, z) = p(z)\,\delta(h - f_\theta^{(1)}(z))\,"
        r"\delta(x - f_\theta^{(2)}(h))\,\delta(y - T(x))"
    )
    constant = edges([("z", "x")]).do(["z"])
    assert factorisation(constant, dirac=True) == factorisation(constant)


@pytest.mark.parametrize(
    ("graph", "kept", "latex"),
    [
        (edges([("z", "x")]), "x", r"p_\theta(x) = \int p(z)\,p_\theta(x \mid z)\,\mathrm{d}z"),
        (edges([("k", "x")]), "x", r"p_\theta(x) = \sum_{k} p(k)\,p_\theta(x \mid k)"),
        (edges([("z", "x")]), "z", "p(z)"),
        (edges([("z", "x")]), "xz", r"p_\theta(x, z) = p(z)\,p_\theta(x \mid z)"),
        (
            edges([("c", "z"), ("z", "x"), ("k", "x"), ("x", "w")], inputs=["c"]),
            "x",
            r"p_\theta(x \mid c) = \sum_{k} \int "
            r"p_\theta(z \mid c)\,p(k)\,p_\theta(x \mid z, k)\,\mathrm{d}z",
        ),
        (
            edges([("z", "h"), ("h", "x")], deterministic=["h"]),
            "x",
            r"p_\theta(x) = \int p(z)\,p_\theta(x \mid h)\,\mathrm{d}z,\quad h = f_\theta(z)",
        ),
        (
            edges([("z", "x"), ("z", "w")], deterministic=["x"]),
            "x",
            r"z \sim p(z),\quad x = f_\theta(z)",
        ),
        (
            edges([("z", "x")], lagged=[("z", "z", 1)]),
            "x",
            r"p_\theta(x) = \int p(z_{1})\,\prod_{t=2}^{T} p_\theta(z_{t} \mid z_{t-1})\,"
            r"\prod_{t=1}^{T} p_\theta(x_{t} \mid z_{t})\,\mathrm{d}z",
        ),
    ],
)
def test_marginals_integrate_sum_and_leave_out_what_does_not_matter(graph, kept, latex):
    assert marginal(graph, kept, finite=["k"]) == latex
    formula_svg(latex)


def test_a_marginal_needs_a_variable_of_the_graph():
    graph = edges([("c", "z")], inputs=["c"])
    for names in ([], ["c"]):
        with pytest.raises(GraphError, match="at least one variable to keep"):
            marginal(graph, names)
    with pytest.raises(GraphError, match="no variable 'q'"):
        marginal(graph, ["q"])


def test_factors_are_those_of_the_factorisation():
    graph = edges(
        [("c", "h"), ("h", "x"), ("z", "x")],
        inputs=["c"],
        deterministic=["h"],
        plates={"n": "hxz"},
    )
    whole = factorisation(graph)
    assert factor(graph, "c") == "c"
    for name in "hxz":
        assert factor(graph, name) in whole
    assert factor(graph, "x", symbol="q", parameters=r"\phi") == r"q_\phi(x_{n} \mid h_{n}, z_{n})"
    with pytest.raises(GraphError, match="no variable 'y'"):
        factor(graph, "y")


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
