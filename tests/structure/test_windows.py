"""Questions to chains: known answers, and all chains up to a length that is more than enough."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.graph import Graph, GraphError, InadmissibleError, Lag, Map, Variable
from daguerre.structure import active_trail, independent, separation, unroll
from daguerre.structure.moments import read_moments
from daguerre.structure.recurrence import temporal

HMM = Graph.from_edges([("z", "x")], lagged=[("z", "z", 1)])
RNN = Graph.from_edges([("h", "y")], lagged=[("h", "h", 1), ("y", "h", 1)], deterministic=["h"])
SILENT = Graph.from_edges(  # its outputs do not come back
    [("u", "h"), ("h", "y")], lagged=[("h", "h", 1)], deterministic=["h"], inputs=["u"]
)
NOISY = Graph.from_edges([("h", "y")], lagged=[("h", "h", 1), ("e", "h", 1)], deterministic=["h"])
STILL = Graph.from_edges(
    [("z", "x"), ("s", "x")], lagged=[("z", "z", 1)], plates={"t": ["z", "x"]}
)
TWO = Graph.from_edges([], lagged=[("z", "z", 2)])
BACK = Graph.from_edges(
    [("x", "b"), ("b", "z")],
    lagged=[("b", "b", -1), ("z", "z", 1)],
    inputs=["x"],
    deterministic=["b"],
)
YEAR = Graph.from_edges([("z", "x")], lagged=[("z", "z", 1), ("z", "z", 12)])


@pytest.mark.parametrize(
    ("g", "xs", "ys", "known", "answer"),
    [
        (HMM, "z[t+1]", "z[t-1]", "z[t]", True),
        (HMM, "z[t+1]", "z[t-1]", "x[t]", False),
        (HMM, "x[:t]", "x[t:]", "z[t]", True),
        (HMM, "x[:t]", "x[t:]", "z[t-1]", True),
        (HMM, "x[:t-1]", "x[t:]", "z[t+1]", False),
        (HMM, "z[0]", "x[t]", "z[2]", False),  # t may be 1
        (HMM, "z[0]", "x[t+3]", "z[2]", True),
        (HMM, "x[t]", "x[t+1]", "z", True),
        (RNN, "y[t]", "y[t-2]", "y[t-1]", False),
        (RNN, "y[t]", "h[t]", "y[:t]", True),  # conditioning on the past is teacher forcing
        (RNN, "y[:t]", "y[t:]", "h[t]", True),
        (RNN, "y[:t+1]", "y[t+1:]", "h[t]", False),
        (RNN, "y[:t+1]", "y[t+1:]", "h[t+1]", True),
        (SILENT, "y[:t]", "y[t:]", "", True),
        (SILENT, "y[t]", "u[t+1]", "", True),
        (SILENT, "y[t]", "u[t-5]", "", False),
        (NOISY, "y[t]", "y[t+1]", "", False),
        (NOISY, "y[t]", "y[t+1]", "e", True),
        (NOISY, "y[t]", "y[t+1]", "e[:t+1]", True),
        (NOISY, "y[t]", "y[t+1]", "e[1:t+1]", False),
        (STILL, "x[t]", "x[t+1]", "z", False),
        (STILL, "x[t]", "x[t+1]", "z s", True),
        (STILL, "s", "z", "x[t]", False),
        (STILL, "s", "z", "", True),
        (TWO, "z[t]", "z[t+1]", "", True),
        (TWO, "z[0]", "z[t+1]", "", False),
        (TWO, "z[t]", "z[t+4]", "z[t+2]", True),
        (BACK, "z[t+1]", "z[t-1]", "z[t]", True),
        (BACK, "z[t]", "x[:t]", "z[t-1]", True),
        (BACK, "z[t]", "x[t+7]", "z[t-1]", False),
        (YEAR, "z[t]", "x[:t]", "z[:t]", True),
        (YEAR, "z[t]", "z[:t-12]", "z[t-12:t]", True),
        (YEAR, "z[t]", "z[:t-12]", "z[t-11:t]", False),
    ],
)
def test_chains_that_are_known(g, xs, ys, known, answer):
    assert independent(g, xs, ys, given=known.split()) is answer
    assert (active_trail(g, xs, ys, given=known.split()) is None) is answer


# All chains up to a length

Build = Callable[[random.Random], Graph]


def random_chain(rng: random.Random) -> Graph:
    """A graph with maps, bijections, inputs and lags, ahead in one part and back in the other."""
    variables: list[Variable] = []
    names = [f"v{i}" for i in range(rng.randint(1, 4))]
    ahead = rng.randint(0, len(names)) if rng.random() < 0.3 else 0
    for i, name in enumerate(names):
        parents = tuple(rng.sample(names[:i], rng.randint(0, min(2, i))))
        peers = names[:ahead] if i < ahead else names
        lags = {
            Lag(rng.choice(peers), rng.choice([1, 1, 1, 2, 3]) * (-1 if i < ahead else 1))
            for _ in range(rng.randint(0, 2))
        }
        kind: Map = "deterministic" if rng.random() < 0.5 else "stochastic"
        if not parents and not lags and rng.random() < 0.4:
            kind = "input"
        inverts = rng.choice((*parents, None, None)) if kind == "deterministic" else None
        variables.append(Variable(name, parents, kind, inverts, lags=tuple(lags)))
    return Graph(variables)


def slow_chain(rng: random.Random) -> Graph:
    """A graph of long lags, whose trails take many slices and whose facts have periods."""
    names = [f"v{i}" for i in range(rng.randint(2, 5))]
    variables: list[Variable] = []
    for i, name in enumerate(names):
        parents = tuple(rng.sample(names[:i], min(i, rng.choice([0, 0, 0, 1]))))
        lags = {Lag(name, rng.choice([2, 3]))} if rng.random() < 0.5 else set()
        for _ in range(rng.choice([0, 1, 1, 2])):
            lags.add(Lag(rng.choice(names), rng.choice([1, 2, 3])))
        kind: Map = "deterministic" if rng.random() < 0.4 else "stochastic"
        inverts = rng.choice((*parents, None)) if kind == "deterministic" else None
        variables.append(Variable(name, parents, kind, inverts, lags=tuple(lags)))
    return Graph(variables)


def random_moment(rng: random.Random, g: Graph) -> str:
    name = rng.choice(g.names)
    if name not in temporal(g):
        return name
    times = ["t", "t-1", "t+1", "t-2", "t+2", "0", "1", ":t", "t:", ":t-1", "t+1:", "t-1:t+1"]
    times += [":", "2:", ":1", "1:t", "2", "t+4", "3:"]
    return f"{name}[{rng.choice(times)}]"


def in_all_chains(g: Graph, sides: list[list[str]], longest: int) -> bool | None:
    """Whether the sides are apart in each chain and for each t; None where none can be asked."""
    read = [read_moments(g, side, "names") for side in sides]
    asked = None
    for steps in range(1, longest + 1):
        chain = unroll(g, steps)
        for t in range(steps):
            found = [[one.names(t, steps) for one in side] for side in read]
            if any(names is None for side in found for names in side):
                continue
            xs, ys, zs = ({n for names in side for n in names or ()} for side in found)
            if not xs or not ys or xs & ys or xs & zs or ys & zs:
                continue
            if not independent(chain, xs, ys, given=zs):
                return False
            asked = True
    return asked


def answer(g: Graph, sides: list[list[str]]) -> bool | str:
    try:
        return independent(g, sides[0], sides[1], given=sides[2])
    except GraphError as error:
        return str(error)


def agree(rng: random.Random, longest: int, build: Build = random_chain) -> str:
    g = build(rng)
    if not any(v.lags for v in g.variables):
        return "static"
    counts = [1, rng.randint(1, 2), rng.randint(0, 3)]
    sides = [[random_moment(rng, g) for _ in range(n)] for n in counts]
    truth, found = in_all_chains(g, sides, longest), answer(g, sides)
    if isinstance(found, str):
        assert "in both" in found or "is empty" in found, (g, sides)
        return "refused"
    if not found and truth:  # it takes more slices than were tried
        where = separation(g, sides[0], sides[1], given=sides[2]).where
        assert int(where.split()[0]) > longest, (g, sides)
    else:
        assert found is truth, (g, sides, found, truth)
    return str(found)


@pytest.mark.slow
def test_chains_of_every_length_agree_with_all_that_are_longer():
    for seed in range(1500):
        agree(random.Random(seed), longest=12)
        agree(random.Random(seed), longest=14, build=slow_chain)


@settings(deadline=None, max_examples=100)
@given(st.randoms(use_true_random=False))
def test_no_chain_that_is_longer_answers_otherwise(rng):
    agree(rng, longest=10)


def test_chains_of_every_length_agree():
    answers = [agree(random.Random(seed), longest=9) for seed in range(300)]
    assert answers.count("True") > 40
    assert answers.count("False") > 40


# Reasons and refusals


def test_the_trail_names_its_slices_as_seen_from_t():
    found = separation(RNN, "y[t]", "y[t-2]", given="y[t-1]")
    assert str(found) == (
        "no: y[t] and y[t-2] may depend on each other given y[t-1]\n"
        "  along y[t] <- h[t] <- h[t-1] <- y[t-2] (with 3 time slices and t = 2)"
    )
    assert str(separation(HMM, "z[0]", "z[t+1]")).endswith(
        "along z[0] -> z[t+1] (with 2 time slices and t = 0)"
    )


def test_the_reasons_name_their_slices():
    found = str(separation(RNN, "y[:t]", "y[t]", given="h[t]"))
    assert found.startswith("yes: y[:t] and y[t] are independent given h[t] in every chain; with")
    assert found.endswith("y[t-1] -> h[t] -> y[t] is blocked at h[t]")


def test_plain_separation_takes_maps_for_random():
    assert independent(RNN, "y[t]", "h[t]", given="y[:t]")
    assert not independent(RNN, "y[t]", "h[t]", given="y[:t]", deterministic=False)


def test_periods_of_several_slices_are_followed():
    g = Graph.from_edges([], lagged=[("a", "a", 2), ("b", "b", 3), ("a", "c", 1), ("b", "c", 1)])
    assert independent(g, "a[t]", "b[t]")
    assert not independent(g, "a[t]", "b[t]", given="c[t+7]")  # one back, then six
    assert independent(g, "a[t]", "b[t]", given="c[t+6]")
    assert not independent(g, "a[t]", "b[t]", given="c[t:]")


def test_trails_that_take_many_slices_are_found():
    """To stop where blocks of slices merely exist, and do not repeat, would say yes."""
    lagged = [("a", "a", 3), ("a", "c", 2), ("d", "c", 1), ("c", "d", 3), ("d", "d", 2)]
    found = separation(Graph.from_edges([], lagged=lagged), "a[t+4]", "d[t+1]")
    assert str(found.trail) == (
        "a[t+4] <- a[t+1] <- a[t-2] <- a[t-5] <- a[t-8] -> c[t-6] -> d[t-3] -> c[t-2] -> d[t+1]"
    )
    lagged = [("a", "b", 3), ("b", "c", 3), ("c", "d", 3), ("b", "b", 2), ("d", "b", 1)]
    g = Graph.from_edges([], lagged=lagged, deterministic=["d"])
    assert independent(g, "d[t]", "a[0]", given="b[t-6]")
    assert separation(g, "d[t]", "a[0]").where == "10 time slices and t = 9"


@pytest.mark.parametrize(
    ("xs", "ys", "text"),
    [
        ("z[u]", "x", r"cannot read 'z\[u\]' as a time slice: write z\[t\], z\[t-1\]"),
        ("z[-1]", "x", "cannot read"),
        ("z[t-1:3:2]", "x", "cannot read"),
        ("zz[t]", "x", "no variable 'zz' .*did you mean 'z'"),
        ("s[t]", "x", r"s holds for all time, so it has no time slices; write s"),
        ("x", "x[t]", r"x\[t\] is in both xs and ys"),
        ("x[:0]", "z", "xs is empty"),
    ],
)
def test_times_that_make_no_question_are_refused(xs, ys, text):
    with pytest.raises(GraphError, match=text):
        independent(STILL, xs, ys)


def test_only_names_are_read():
    with pytest.raises(TypeError, match="ys holds names of variables, not 3"):
        independent(HMM, "z", [3])  # type: ignore[list-item] - the slip that is tested


def test_a_circle_within_time_is_refused():
    with pytest.raises(GraphError, match="the graph has a cycle"):
        independent(Graph.from_edges([], lagged=[("a", "b", 1), ("b", "a", -1)]), "a[0]", "b[0]")


def test_what_repeats_only_after_long_is_followed_or_refused(monkeypatch):
    """Known d[2] ties a[1] to b[0], which meet again at 1 + 3 * 7 = 2 * 11."""
    lagged = [("a", "a", 7), ("b", "b", 11), ("a", "d", 1), ("b", "d", 2)]
    g = Graph.from_edges([], lagged=lagged)
    assert separation(g, "a[t]", "b[t]", given="d[2]").where == "23 time slices and t = 22"
    monkeypatch.setattr("daguerre.structure.windows.LONGEST", 20)
    with pytest.raises(InadmissibleError, match="does not repeat itself within 20"):
        independent(g, "a[t]", "b[t]", given="d[2]")
