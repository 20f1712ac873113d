"""The interactive page as a file: size, safety, what it is told; nets with scopes closed."""

import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from dotted import NETS, dotted_graphs
from figures import DRAWN, figures
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.draw import (
    Arrow,
    Figure,
    Frame,
    Node,
    draw,
    figure,
    with_caption,
    with_critic,
    with_inference,
)
from daguerre.draw.augmented import Augmented, Conditional
from daguerre.draw.closing import closed, deepest
from daguerre.draw.curves import Point
from daguerre.draw.equations import factor, factorisation
from daguerre.draw.formula import formula
from daguerre.draw.glyphs import Glyphs
from daguerre.draw.layout import layout
from daguerre.draw.outlines import read_path
from daguerre.draw.page import asked, numbered, page
from daguerre.draw.sheet import sheet
from daguerre.draw.shorter import shorter
from daguerre.draw.svg import svg
from daguerre.graph import Graph, GraphError

HOSTILE = [
    "</script><b>",
    "<!--",
    "\"quoted'",
    "${alert(1)}",
    "a\u2028b",
    "n" * 10_000,
    "{{data}}",
]


SVG = "{http://www.w3.org/2000/svg}"


def html(*figures: Figure) -> str:
    return page(sheet(figures))


class Tags(HTMLParser):
    """Counts the elements of a page and keeps its JSON."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: list[str | None] = []
        self.data = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        known = dict(attrs)
        if (known.get("class") or "").startswith("node ") and "data-name" in known:
            self.names.append(known["data-name"])

    def handle_data(self, data):
        if data.startswith("[{"):
            self.data = data


@pytest.mark.parametrize("name", ["vae", "gan", "mixed", "chain", "wide"])
def test_a_page_is_small_and_always_the_same(name):
    source = html(DRAWN[name])
    assert len(source.encode()) < 150_000
    assert source == html(DRAWN[name])


LONG = [
    *("temperature_of_the_sea_surface", "salinity_of_the_deep_water", "speed_of_the_north_wind"),
    *("height_of_the_longest_wave", "pressure_at_the_ground", "rainfall_over_the_last_week"),
    *("depth_of_the_mixed_layer", "cloudiness_in_the_morning", "direction_of_the_current"),
    "concentration_of_chlorophyll",
]


def test_a_page_of_ten_long_names_with_equations_is_small():
    model = Graph.from_edges([*pairwise(LONG), *zip(LONG, LONG[2:], strict=False)])
    q = Graph.from_edges([(x, z) for x in LONG[5:] for z in LONG[:5]], inputs=LONG[5:])
    drawn = with_inference(figure(model, observed=LONG[5:]), q)
    cost = rf"\mathbb{{E}}_{{q}}\left[\log \frac{{{factorisation(model)}}}{{q}}\right]"
    assert len(html(with_caption(drawn, cost)).encode()) < 150_000


def test_shared_letters_stand_where_they_stood():
    drawn = with_caption(figure(Graph.from_edges(list(pairwise(LONG)))), r"\frac{a}{\sqrt{b}}")
    shown = draw(drawn).sheet
    plain = ElementTree.fromstring(svg(shown))
    glyphs = Glyphs()
    again = ElementTree.fromstring(glyphs.shared(svg(shown)))
    known = ElementTree.fromstring(f"<svg>{glyphs.outlines}</svg>")
    assert len(known.findall("g")) == len(LONG)
    lines = [p for p in plain.iter(f"{SVG}path") if p.get("class") == "label"]
    shared = [g for g in again.iter(f"{SVG}g") if g.get("class") == "label"]
    assert len(lines) == len(LONG)
    for line, group in zip(lines, shared, strict=True):
        points = [p for s in read_path(line.get("d", "")) for p in s.points]
        found = [p for use in group for p in spelled(use, {k.get("id"): k for k in known})]
        assert found == [pytest.approx(p, abs=0.03) for p in points]


def spelled(use: Element, known: Mapping[str | None, Element]) -> Iterator[Point]:
    """List the points of what an element uses, letters and the letters of words."""
    used = known[use.get("href", "")[1:]]
    at = Point(float(use.get("x", 0)), float(use.get("y", 0)))
    inner = (p for letter in used for p in spelled(letter, known))
    own = (p for s in read_path(used.get("d", "")) for p in s.points)
    yield from (Point(p.x + at.x, p.y + at.y) for p in (*own, *inner))


def test_nothing_is_asked_of_anyone():
    source = html(*DRAWN.values())
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", source))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest| src=", source)


def test_hostile_names_neither_break_nor_inject():
    graph = Graph.from_edges(list(pairwise(HOSTILE)))
    source = html(figure(graph, title="</title><script>alert(1)</script>"))
    read = Tags(source)
    assert read.tags.count("script") == 2
    assert "b" not in read.tags[: read.tags.index("dialog")]
    assert read.names == HOSTILE
    assert json.loads(read.data)[0]["graph"]["names"] == HOSTILE
    assert read.data.isascii()
    assert "<" not in read.data


@settings(max_examples=20)
@given(figures())
def test_any_figure_becomes_a_page(drawn):
    read = Tags(html(drawn))
    assert read.names == [node.name for node in drawn.nodes]
    assert read.tags.count("section") == 1


def test_a_drawing_is_saved_as_a_page(tmp_path):
    path = draw(DRAWN["vae"], DRAWN["gan"]).save(tmp_path / "m.html")
    assert Tags(path.read_text()).tags.count("section") == 2


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.floats(-99, 99)] * 6), min_size=1, max_size=6))
def test_shorter_paths_lead_to_the_same_places(points):
    places = [[round(v, 2) for v in row] for row in points]
    path = "".join(f"M{a} {b}L{c} {d}H{e}V{f}Z" for a, b, c, d, e, f in places)
    short = shorter(path)
    assert shorter(short) == short
    assert walked(short) == pytest.approx([v for row in places for v in row], abs=1e-9)


def walked(path: str) -> list[float]:
    """Follow M, l, h, v and z, and list where each leads."""
    found: list[float] = []
    x = y = 0.0
    start = (x, y)
    for letter, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        numbers = [float(n) for n in re.findall(r"-?\d*\.?\d+", rest)]
        if letter == "M":
            x, y = numbers
        elif letter in "lm":
            x, y = x + numbers[0], y + numbers[1]
        elif letter == "h":
            x += numbers[0]
        elif letter == "v":
            y += numbers[0]
        if letter in "Mm":
            start = (x, y)
        elif letter == "z":
            x, y = start
        found += {"M": [x, y], "m": [x, y], "l": [x, y], "h": [x], "v": [y], "z": []}[letter]
    return found


def test_outlines_become_shorter_by_a_quarter():
    path = formula(r"p_\theta(x \mid z)").path
    assert len(shorter(path)) < 0.75 * len(path)


def test_a_path_with_an_arc_is_refused():
    with pytest.raises(ValueError, match="cannot shorten the path command 'A'"):
        shorter("M0 0A5 5 0 0 1 10 10")


# What is asked of a figure


def test_a_figure_keeps_the_graph_it_was_made_from():
    graph = Graph.from_edges([("z", "x")], bijective=[("x", "y")])
    assert asked(with_critic(figure(graph), ["x"])) is graph
    assert numbered(graph)["inverts"] == {2: 1}


def test_a_figure_without_a_graph_is_read_from_its_solid_black_arrows():
    y_to_x = Conditional("x", frozenset("zy"), r"p_\theta", through=frozenset("z"))
    x_to_y = Conditional("y", frozenset("x"), r"q_\phi", adversarial=True)
    drawn = Augmented(frozenset({y_to_x, x_to_y}), frozenset("y")).figure()
    assert asked(drawn) == Graph.from_edges([("y", "x"), ("z", "x")])
    nodes = (Node("a", "a", "constant"), Node("h", "h", "deterministic"), Node("g", "g"))
    arrows = (
        Arrow("a", "h"),
        Arrow("h", "g", deterministic=True),
        Arrow("g", "a", inference=True),
    )
    expected = Graph.from_edges([("a", "h"), ("h", "g")], deterministic=["h", "g"], inputs=["a"])
    assert asked(Figure(nodes, arrows)) == expected


def test_of_a_cycle_nothing_is_asked():
    nodes = (Node("a", "a"), Node("b", "b"))
    cyclic = Figure(nodes, (Arrow("a", "b"), Arrow("b", "a")))
    assert asked(cyclic) is None
    assert json.loads(Tags(html(cyclic)).data)[0]["graph"] is None


@pytest.mark.parametrize("name", ["mixed", "chain", "hierarchy", "units"])
def test_each_factor_is_a_part_of_the_factorisation(name):
    graph = DRAWN[name].graph
    assert graph is not None
    whole = factorisation(graph)
    for variable in graph.names:
        part = factor(graph, variable)
        assert part in whole
        assert part


def test_an_unknown_variable_has_no_factor():
    with pytest.raises(GraphError, match="no variable 'y'"):
        factor(Graph.from_edges([("z", "x")]), "y")


# Scopes, closed


@settings(max_examples=50)
@given(dotted_graphs(), st.integers(0, 3))
def test_a_closed_figure_is_the_quotient(graph, depth):
    whole = figure(graph)
    shown, holds = closed(whole, depth)
    seat = {name: box for box, inside in holds.items() for name in inside}
    names = [node.name for node in shown.nodes]
    assert names == list(dict.fromkeys(seat.get(n, n) for n in graph.names))
    pairs = {(seat.get(a, a), seat.get(b, b)) for a, b in graph.edges}
    assert {(a.source, a.target) for a in shown.arrows} == {(a, b) for a, b in pairs if a != b}
    assert deepest(shown) == min(depth, deepest(whole))
    assert closed(whole, deepest(whole)) == (whole, {})


def test_closed_modules_keep_plates_and_say_what_is_random():
    nodes = (
        Node("x", "x"),
        Node("m.f", "f", "module"),
        Node("m.z", "z"),
        Node("k.g", "g", "module"),
    )
    into_maps = [Arrow(*pair, deterministic=True) for pair in (("x", "m.f"), ("m.z", "k.g"))]
    arrows = (*into_maps, Arrow("m.f", "m.z"))
    frames = (
        Frame("n", "N", ("m.f", "m.z")),
        Frame("m", "m", ("m.f", "m.z"), scope=True),
        Frame("k", "k", ("k.g",), scope=True),
        Frame("t", "T", ("k.g", "m.z")),
    )
    shown = closed(Figure(nodes, arrows, frames), 0).figure
    assert {n.name: n.shape for n in shown.nodes} == {"x": "random", "m": "random", "k": "module"}
    assert [(f.name, f.members) for f in shown.frames] == [("n", ("m",))]
    heads = {(a.source, a.target): a.deterministic for a in shown.arrows}
    assert heads == {("x", "m"): False, ("m", "k"): True}  # m is no map of x: it draws


def test_a_variable_called_as_a_scope_keeps_its_name():
    frames = (Frame("f", "f", ("f.a", "f.b"), scope=True),)
    drawn = Figure((Node("f", "f"), Node("f.a", "a"), Node("f.b", "b")), (), frames)
    assert closed(drawn, 0).holds == {"f (module)": ("f.a", "f.b")}
    assert [node.name for node in closed(drawn, 0).figure.nodes] == ["f", "f (module)"]


def test_a_residual_net_has_a_picture_for_each_depth():
    shown = figure(NETS["resnet"])
    counts = [
        len(layout(closed(shown, depth).figure).nodes) for depth in range(deepest(shown) + 1)
    ]
    assert counts == sorted(counts)
    assert counts[0] == 12
    data = json.loads(Tags(html(shown)).data)[0]
    assert [len(holds) for holds in data["holds"]] == [4, 8, 3, 0]
    assert {name for name, _ in data["holds"][0]} == {f"layer{i}" for i in range(1, 5)}
