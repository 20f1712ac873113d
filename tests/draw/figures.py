"""Figures that several tests draw, and Hypothesis strategies for random ones."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from daguerre.draw import (
    Arrow,
    Figure,
    Frame,
    Node,
    figure,
    with_caption,
    with_critic,
    with_inference,
    with_labels,
)
from daguerre.draw.notation import Shape
from daguerre.graph import Graph

__all__ = ["CROSSING", "DRAWN", "HOPELESS", "figures", "rich_figures"]

ENCODER = Graph.from_edges([("x", "z")], inputs=["x"])
DECODER = Graph.from_edges([("z", "x")])
GENERATOR = Graph.from_edges([("z", "x")], deterministic=["x"])
UNITS = [[f"{letter}_{i}" for i in range(n)] for letter, n in (("x", 4), ("h", 5), ("y", 3))]


def _vae() -> Figure:
    vae = with_inference(figure(DECODER, observed=["x"], title="VAE"), ENCODER)
    vae = with_labels(vae, {("z", "x"): r"p_\theta(x \mid z)", ("x", "z"): r"q_\phi(z \mid x)"})
    return with_caption(vae, r"\mathbb{E}_{q}\left[\log p_\theta(x \mid z)\right]")


def _mixed() -> Figure:
    model = Graph.from_edges(
        [
            *(("alpha", "beta"), ("y", "z"), ("z", "h"), ("z", "s"), ("beta", "s")),
            *(("h", "x"), ("s", "x"), ("theta", "x"), ("y", "c"), ("c", "s")),
        ],
        deterministic=["h"],
        inputs=["alpha", "theta"],
        plates={"n": ["y", "z", "h", "s", "x"], "t": ["s"], "k": ["beta"]},
    )
    q = Graph.from_edges([("x", "z"), ("x", "y"), ("x", "d")], inputs=["x"], deterministic=["d"])
    return with_critic(with_inference(figure(model, observed=["x", "y"]), q), ["x", "d"])


def _units() -> Figure:
    x, h, y = UNITS
    edges = [(a, b) for a in x for b in h] + [(a, b) for a in h for b in y]
    return figure(Graph.from_edges(edges, deterministic=h + y, inputs=x))


def _bayes() -> Figure:
    return figure(Graph.from_edges([("c", f"x_{i}") for i in range(8)]))


def _chain() -> Figure:
    model = Graph.from_edges(
        [("z", "x"), ("a", "z")],
        lagged=[("z", "z", 1), ("x", "a", 1)],
        plates={"n": ["z", "x", "a"]},
    )
    return figure(model, observed=["x"])


def _hierarchy() -> Figure:
    q = Graph.from_edges([("x", "z_1"), ("x", "z_2"), ("z_1", "z_2")], inputs=["x"])
    return with_inference(figure(Graph.from_edges([("z_2", "z_1"), ("z_1", "x")])), q)


def _wide() -> Figure:
    edges = [("token_embedding", "attention_weights"), ("attention_weights", "next_token")]
    maps, inputs = ["attention_weights"], ["token_embedding"]
    return figure(Graph.from_edges(edges, deterministic=maps, inputs=inputs))


def _crossed(*edges: str, **plates: str) -> Figure:
    pairs = [(a, b) for a, b in (edge.split() for edge in edges)]
    return figure(Graph.from_edges(pairs, plates={p: m.split() for p, m in plates.items()}))


CROSSING: dict[str, Figure] = {
    "two": _crossed("a ab", "b ab", i="a ab", j="b ab"),
    "down": _crossed("x y", "y z", i="x y", j="y z"),
    "item response": _crossed(
        *("mu ability", "sigma difficulty", "ability answer", "difficulty answer"),
        students="ability answer",
        questions="difficulty answer",
    ),
    "in turn": _crossed("a ab", "b ab", "b bc", "c bc", i="a ab", j="b ab bc", k="c bc"),
    "raters": _crossed("m a", "m b", "m c", "a y", "b y", "c y", i="a y", j="b y", k="c y"),
    "four": _crossed("a y", "b y", "c y", "d y", i="a y", j="b y", k="c y", l="d y"),
    "triangle": _crossed(
        *("a ab", "b ab", "b bc", "c bc", "a ac", "c ac"),
        i="a ab ac",
        j="b ab bc",
        k="c bc ac",
    ),
    "all regions": _crossed(
        *("a ab", "b ab", "b bc", "c bc", "a ac", "c ac", "ab abc", "bc abc", "ac abc"),
        i="a ab ac abc",
        j="b ab bc abc",
        k="c bc ac abc",
    ),
    "nested in crossing": _crossed(
        *("m a", "a w", "w y", "b y", "y e"),
        n="m a w y b e",
        i="a w y",
        j="b y e",
        k="a w",
        t="e",
    ),
}
HOPELESS = _crossed(
    *("a ab", "b ab", "ab abc", "c abc", "abc d", "d e"),
    i="a abc e",
    j="b abc d",
    k="c ab d e",
    l="a c d",
)
DRAWN: dict[str, Figure] = {
    "vae": _vae(),
    "gan": with_critic(figure(GENERATOR, observed=["x"], title="GAN"), ["x"]),
    "ali": with_critic(with_inference(figure(GENERATOR), ENCODER), ["x", "z"]),
    "hierarchy": _hierarchy(),
    "mixed": _mixed(),
    "units": _units(),
    "bayes": _bayes(),
    "chain": _chain(),
    "wide": _wide(),
    "alone": Figure((Node("x", "x"),)),
    **CROSSING,
}


@st.composite
def figures(draw: st.DrawFn, largest: int = 8, *, crossing: bool = False) -> Figure:
    """Make figures with any shapes, flags, cycles, loops and plates, nested or not."""
    count = draw(st.integers(1, largest))
    names = [f"v{i}" for i in range(count)]
    all_shapes: list[Shape] = ["random", "deterministic", "constant", "critic"]
    shapes = st.sampled_from(all_shapes)
    labels = st.sampled_from(["x", "z_{1}", r"\theta", r"\mathrm{weights}", r"\mathrm{h}_{12,n}"])
    nodes = [Node(n, draw(labels), draw(shapes), draw(st.booleans())) for n in names]
    ends = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    arrows = [
        Arrow(names[a], names[b], *draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))
        for a, b in draw(st.lists(ends, max_size=2 * count))
    ]
    placed = [n.name for n in nodes if n.shape != "critic"]
    frames: list[Frame] = []
    for i in range(draw(st.integers(0, 3))):
        members = draw(st.sets(st.sampled_from(placed), min_size=1)) if placed else set()
        others = [set(f.members) for f in frames]
        nests = all(members <= o or o <= members or not members & o for o in others)
        if members and (nests or crossing):
            frames.append(Frame(f"p{i}", f"N_{{{i}}}", tuple(sorted(members))))
    return replace(Figure(tuple(nodes), tuple(arrows)), frames=tuple(frames))


LABELS = ["x", "z_{1}", r"\mathrm{weights}", r"\mathrm{attention\ weights}"]
BESIDE = ["", "", "t - 1", r"p_\theta(x \mid z)", r"q_\phi(z_{1}, z_2 \mid x, y)"]
COUNTS = ["N", r"n = 1, \ldots, N", r"t = 1, \ldots, T"]
ALL_SHAPES: list[Shape] = [
    *("random", "random", "random", "deterministic", "deterministic"),
    *("constant", "critic", "factor", "dot", "double", "module"),
]


@st.composite
def rich_figures(draw: st.DrawFn, largest: int = 8) -> Figure:
    """Make crowded figures of all that there is: factors, labels, lines, scopes, lagged loops."""
    rng = draw(st.randoms(use_true_random=False))
    names = [f"v{i}" for i in range(draw(st.integers(1, largest)))]
    nodes = [
        Node(n, rng.choice(LABELS), rng.choice(ALL_SHAPES), rng.random() < 0.3) for n in names
    ]
    arrows = []
    for _ in range(rng.randrange(2 * len(names))):
        a, b = rng.choice(names), rng.choice(names)
        if rng.random() < 0.6:
            a, b = sorted((a, b))
        inference, deterministic, adversarial = (rng.random() < p for p in (0.35, 0.4, 0.2))
        arrow = Arrow(a, b, inference, deterministic, adversarial, rng.choice(BESIDE))
        level = a != b and rng.random() < 0.08
        arrows.append(replace(arrow, undirected=rng.random() < 0.05, level=level))
    placed = [n.name for n in nodes if n.shape != "critic"]
    frames: list[Frame] = []
    for i in range(rng.randrange(5) if placed else 0):
        members = {*rng.sample(placed, rng.randint(1, len(placed)))}
        others = [set(f.members) for f in frames]
        if all(members <= o or o <= members or not members & o for o in others):
            is_scope = rng.random() < 0.2
            frames.append(Frame(f"p{i}", rng.choice(COUNTS), tuple(sorted(members)), is_scope))
    return Figure(tuple(nodes), tuple(arrows), tuple(frames))
