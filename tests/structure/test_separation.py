"""D-separation: known tables, its definition by all trails, and tables of numbers."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.graph import Graph, GraphError, InadmissibleError, Map, Variable
from daguerre.structure import active_trail, determined, independent, requisite, separation

COLLIDER = Graph.from_edges([("A", "C"), ("B", "C"), ("C", "D"), ("C", "E")], deterministic=["C"])
VAE = Graph.from_edges([("z", "h"), ("h", "x1"), ("h", "x2")], deterministic=["h"])
GAN = Graph.from_edges([("z", "x1"), ("z", "x2")], deterministic=["x1", "x2"])


@pytest.mark.parametrize(
    ("g", "x", "y", "known", "plain", "deterministic"),
    [
        (COLLIDER, "D", "E", "", False, False),
        (COLLIDER, "D", "E", "A", False, False),
        (COLLIDER, "D", "E", "A B", False, True),
        (COLLIDER, "D", "E", "C", True, True),
        (COLLIDER, "A", "B", "", True, True),
        (COLLIDER, "A", "B", "D", False, False),
        (COLLIDER, "C", "D", "A B", False, True),
        (VAE, "x1", "x2", "z", False, True),
        (GAN, "z", "x1", "x2", False, False),
        (GAN, "x1", "x2", "z", True, True),
    ],
)
def test_the_canonical_graphs(g, x, y, known, plain, deterministic):
    assert independent(g, x, y, given=known.split(), deterministic=False) is plain
    assert independent(g, x, y, given=known.split()) is deterministic


# Random graphs


def random_graph(rng: random.Random, size: int) -> Graph:
    """A graph with maps, constants, bijections and inputs, declared in any order."""
    variables: list[Variable] = []
    for i in range(size):
        names = [v.name for v in variables]
        parents = tuple(rng.sample(names, rng.randint(0, min(3, len(names)))))
        kind: Map = "stochastic" if rng.random() < 0.5 else "deterministic"
        if not parents and rng.random() < 0.3:
            kind = "input"
        inverts = rng.choice((*parents, None, None)) if kind == "deterministic" else None
        variables.append(Variable(f"v{i}", parents, kind, inverts))
    rng.shuffle(variables)
    return Graph(variables)


def random_query(rng: random.Random, g: Graph) -> tuple[str, str, list[str]]:
    x, y, *rest = rng.sample(g.names, len(g.names))
    return x, y, rest[: rng.randint(0, min(3, len(rest)))]


def closure(g: Graph, known: set[str]) -> set[str]:
    """What is determined, by the definition, over and over."""
    while True:
        more = {v.name for v in g.variables if v.map == "deterministic" and {*v.parents} <= known}
        for v in g.variables:
            if v.inverts and v.name in known and {*v.parents} - known == {v.inverts}:
                more.add(v.inverts)
        if more <= known:
            return known
        known |= more


def joined_by_a_trail(g: Graph, x: str, y: str, zs: set[str]) -> bool:
    """D-connection by its definition: some simple path is active at every variable on it."""
    known = closure(g, {*zs, *({*g.inputs} - {x, y})})
    if {x, y} & known:
        return False
    edges = set(g.edges)

    def walk(path: list[str]) -> bool:
        if path[-1] == y:
            return True
        beside = (*g.parents(path[-1]), *g.children(path[-1]))
        return any(walk([*path, n]) for n in beside if n not in path and passes([*path[-2:], n]))

    def passes(last: list[str]) -> bool:
        if len(last) < 3:
            return True
        a, b, c = last
        if (a, b) in edges and (c, b) in edges:
            return bool({b, *g.descendants([b])} & known)
        return b not in known

    return walk([x])


def test_both_algorithms_and_the_definition_agree_on_ten_thousand_queries():
    rng = random.Random(0)
    separated = 0
    for k in range(10_000):
        g = random_graph(rng, rng.randint(2, 8))
        x, y, zs = random_query(rng, g)
        found = independent(g, x, y, given=zs)
        separated += found
        if y not in g.inputs:
            assert (y in requisite(g, x, given=zs).irrelevant) == found, (g, x, y, zs)
        if k % 4 == 0:
            assert joined_by_a_trail(g, x, y, {*zs}) != found, (g, x, y, zs)
    assert 2_000 < separated < 8_000


def test_on_large_graphs_both_algorithms_agree():
    rng = random.Random(1)
    for _ in range(200):
        g = random_graph(rng, 60)
        x, y, zs = random_query(rng, g)
        if y not in g.inputs:
            assert (y in requisite(g, x, given=zs).irrelevant) == independent(g, x, y, given=zs)


def random_joint(rng: np.random.Generator, g: Graph) -> np.ndarray:
    """A joint distribution over three values each, one axis per variable, maps being functions.

    A declared bijection is a cyclic shift of its argument by a function of the other parents.
    Inputs get a random distribution of their own.
    """
    axes = {name: i for i, name in enumerate(g.names)}
    joint = np.ones((3,) * len(axes))
    for v in g.variables:
        family = [axes[p] for p in v.parents]
        if v.map != "deterministic":
            table = rng.dirichlet(np.ones(3), (3,) * len(family))
        else:
            values = rng.integers(0, 3, (3,) * len(family))
            if v.inverts:
                place = v.parents.index(v.inverts)
                values = values.take([0], place) + np.arange(3).reshape(
                    [3 if i == place else 1 for i in range(len(family))]
                )
            table = np.eye(3)[values % 3]
        order = np.argsort([*family, axes[v.name]])
        shape = [3 if i in (*family, axes[v.name]) else 1 for i in range(len(axes))]
        joint = joint * table.transpose(order).reshape(shape)
    return joint


def information(joint: np.ndarray, x: int, y: int, zs: list[int]) -> float:
    """Conditional mutual information in nats."""

    def entropy(kept: set[int]) -> float:
        p = joint.sum(tuple(i for i in range(joint.ndim) if i not in kept)).ravel()
        return -float((p[p > 0] * np.log(p[p > 0])).sum())

    z = {*zs}
    return entropy({x, *z}) + entropy({y, *z}) - entropy({x, y, *z}) - entropy(z)


def test_no_separated_pair_has_information_in_common():
    rng, tables = random.Random(2), np.random.default_rng(2)
    separated = dependent = informative = 0
    for _ in range(1500):
        g = random_graph(rng, rng.randint(3, 6))
        joint = random_joint(tables, g)
        for _ in range(4):
            x, y, zs = random_query(rng, g)
            fixed = {*zs, *({*g.inputs} - {x, y})}
            place = g.names.index
            shared = information(joint, place(x), place(y), [place(z) for z in fixed])
            if independent(g, x, y, given=zs):
                separated += 1
                assert shared < 1e-9, (g, x, y, zs)
            else:
                dependent += 1
                informative += shared > 1e-9
    assert separated > 1000
    assert informative > 0.8 * dependent  # a particular function may imply more than its graph


# Information in a deterministic collider: A, B fair coins, C a function of both, D and E noisy C


def collider(c: np.ndarray) -> np.ndarray:
    """The joint of A, B, C, D, E for P(C = 1 | A, B); D and E are C flipped one time in ten."""
    p_c, noisy = np.stack([1 - c, c], -1), np.array([[0.9, 0.1], [0.1, 0.9]])
    return np.einsum("abc,cd,ce->abcde", 0.25 * p_c, noisy, noisy)


@pytest.mark.parametrize(
    ("c", "values"),
    [
        ([[0, 0], [0, 1]], {"DE": 0.15904161111, "DE|AB": 0.0, "AB|C": 0.130812035941}),
        (
            [[0, 1], [1, 0]],
            {"DE": 0.22175369375, "DE|AB": 0.0, "AB|C": 0.69314718056, "AC": 0.0},
        ),
        (
            [[0.1, 0.1], [0.1, 0.9]],
            {
                "DE": 0.181659372577,
                "DE|AB": 0.0629028155512,
                "AB|C": 0.0822828785051,
                "AC": 0.101749225079,
            },
        ),
    ],
    ids=["and", "xor", "noisy and"],
)
def test_information_in_a_deterministic_collider(c, values):
    table = np.array(c, dtype=float)
    joint = collider(table)
    is_map = bool(((table == 0) | (table == 1)).all())
    for question, value in values.items():
        pair, _, known = question.partition("|")
        x, y = ("ABCDE".index(n) for n in pair)
        shared = information(joint, x, y, ["ABCDE".index(n) for n in known])
        assert abs(shared - value) < 1e-9
        if independent(COLLIDER, pair[0], pair[1], given=list(known), deterministic=is_map):
            assert value == 0.0
    assert independent(COLLIDER, "D", "E", given=["A", "B"], deterministic=is_map) is is_map
    assert not independent(COLLIDER, "A", "C")  # though the exclusive or hides it from A alone


# Marks


def test_bijections_are_read_both_ways():
    g = Graph.from_edges([("z", "y")], bijective=[("z", "x")])
    assert independent(g, "z", "y", given="x")
    assert not independent(g, "z", "y", given="x", deterministic=False)
    flow = Graph.from_edges([("w", "x"), ("z", "y")], bijective=[("z", "x")])
    assert not independent(flow, "z", "y", given="x")  # w is not known
    assert independent(flow, "z", "y", given=["x", "w"])
    assert determined(flow, ["x", "w"]) == ("w", "x", "z")


def test_constants_depend_on_nothing():
    g = Graph.from_edges([("c", "x")], deterministic=["c"])
    assert independent(g, "c", "x")
    assert determined(g) == ("c",)
    assert not independent(g, "c", "x", deterministic=False)


def test_inputs_are_given_unless_they_are_asked_for():
    g = Graph.from_edges([("u", "x1"), ("u", "x2")], inputs=["u"])
    assert independent(g, "x1", "x2")
    assert not independent(g, "u", "x1")


def test_sets_are_asked_at_once():
    g = Graph.from_edges([("a", "b"), ("c", "d")])
    assert independent(g, ["a", "b"], ["c", "d"])
    assert not independent(g, ["a", "c"], "d")


def test_a_long_chain_and_a_deep_tree_are_no_recursion():
    names = [f"v{i}" for i in range(100_000)]
    chain = Graph.from_edges(itertools.pairwise(names), deterministic=names[1:])
    assert not independent(chain, "v0", "v99999")
    assert independent(chain, "v0", "v99999", given="v50000")
    assert len(requisite(chain, "v99999").cpds) == 100_000
    tree = Graph.from_edges((names[(i - 1) // 2], names[i]) for i in range(1, 100_000))
    assert not independent(tree, "v99998", "v99999")
    assert independent(tree, "v99998", "v99999", given="v0") is False
    assert independent(tree, "v1", "v2", given="v0")


# Witnesses


@given(st.integers(0, 10_000))
def test_a_trail_is_a_real_active_path_exactly_where_there_is_dependence(seed):
    rng = random.Random(seed)
    g = random_graph(rng, rng.randint(2, 8))
    x, y, zs = random_query(rng, g)
    trail = active_trail(g, x, y, given=zs)
    assert (trail is None) == independent(g, x, y, given=zs)
    if trail is None:
        return
    known = closure(g, {*zs, *({*g.inputs} - {x, y})})
    assert (trail.names[0], trail.names[-1]) == (x, y)
    assert len({*trail.names}) == len(trail.names)
    for (a, b), forward in zip(itertools.pairwise(trail.names), trail.forwards, strict=True):
        assert ((a, b) if forward else (b, a)) in g.edges
    for k, name in enumerate(trail.names[1:-1]):
        if trail.forwards[k] and not trail.forwards[k + 1]:
            opener = trail.open_by[name]
            assert opener in known
            assert opener in {name, *g.descendants([name])}
        else:
            assert name not in known


@pytest.mark.parametrize(
    ("g", "x", "y", "known", "text"),
    [
        (VAE, "x1", "x2", ["z"], "h is determined by z\n  x1 <- h -> x2 is blocked at h"),
        (COLLIDER, "A", "B", [], "A -> C <- B is blocked at C, a collider with nothing known"),
        (Graph.from_edges([], nodes=["a", "b"]), "a", "b", [], "no path joins them"),
        (COLLIDER, "A", "B", ["D"], "along A -> C <- B\n  C is a collider above D"),
        (COLLIDER, "A", "B", ["C"], "C is a collider and is known"),
        (COLLIDER, "C", "D", ["A", "B"], "C is determined by A, B"),
        (Graph.from_edges([("c", "x")], deterministic=["c"]), "c", "x", [], "c is a constant"),
        (
            Graph.from_edges([("u", "h"), ("h", "x")], deterministic=["h"], inputs=["u"]),
            "h",
            "x",
            [],
            "h is determined by u",
        ),
        (Graph.from_edges([("z", "y")], bijective=[("z", "w")]), "z", "y", ["w"], "by w"),
    ],
)
def test_the_answer_says_why(g, x, y, known, text):
    answer = separation(g, x, y, given=known)
    assert answer.independent == independent(g, x, y, given=known)
    assert str(answer).startswith("yes" if answer.independent else "no")
    assert text in str(answer)


# Refusals


@pytest.mark.parametrize("ask", [independent, active_trail, separation])
@pytest.mark.parametrize(
    ("xs", "ys", "zs", "message"),
    [
        ("Z", "D", [], "no variable 'Z' in the graph"),
        ("A", "D", ["BB"], "no variable 'BB' in the graph; did you mean 'B'"),
        ("A", ["A", "D"], [], "A is in both xs and ys"),
        ("A", "D", "D", "D is in both ys and given"),
        ([], "D", [], "xs is empty"),
        ("A", [], [], "ys is empty"),
    ],
)
def test_malformed_questions_are_refused(ask, xs, ys, zs, message):
    with pytest.raises(GraphError, match=message):
        ask(COLLIDER, xs, ys, given=zs)


def test_things_that_are_no_names_or_graphs_are_refused():
    with pytest.raises(TypeError, match="xs holds names of variables, not 3"):
        independent(COLLIDER, [3], "D")  # type: ignore[list-item] - the slip that is tested
    with pytest.raises(TypeError, match="expected a Graph or a Model, not 'A'"):
        independent("A", "A", "D")  # type: ignore[arg-type] - the slip that is tested


def test_what_is_asked_of_one_slice_refuses_a_chain():
    g = Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)])
    with pytest.raises(InadmissibleError, match="z depends on z at t - 1"):
        determined(g, "z")
