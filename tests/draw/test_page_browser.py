"""The interactive page in a browser: every control, and its answers against daguerre.structure."""

import json
import random

import pytest
from figures import DRAWN
from shown import arrows, body, finding, marked, node, window

from daguerre.draw import figure
from daguerre.draw.page import numbered
from daguerre.graph import Graph, Map, Variable
from daguerre.structure import determined, independent, markov_blanket, separation

pytestmark = pytest.mark.browser

GRAPH = Graph.from_edges(
    [
        *(("z", "h"), ("h", "x_1"), ("h", "x_2"), ("theta", "x_2"), ("x_2", "y"), ("w", "y")),
        *(("y", "v"), ("u", "v")),
    ],
    deterministic=["h"],
    inputs=["theta"],
    bijective=[("u", "t")],
    plates={"n": ["z", "h", "x_1", "x_2", "y"]},
)


# Answers


def random_graph(rng: random.Random, size: int) -> Graph:
    """A graph with maps, constants, bijections and inputs, declared in any order."""
    variables: list[Variable] = []
    for i in range(size):
        names = [v.name for v in variables]
        parents = tuple(rng.sample(names, rng.randint(0, min(3, len(names)))))
        kind: Map = rng.choice(("stochastic", "deterministic"))
        if not parents and rng.random() < 0.3:
            kind = "input"
        inverts = rng.choice((*parents, None, None)) if kind == "deterministic" else None
        variables.append(Variable(f"v{i}", parents, kind, inverts))
    rng.shuffle(variables)
    return Graph(variables)


def read_by_script(graph: Graph) -> object:
    return json.loads(json.dumps(numbered(graph)))


def test_the_browser_answers_as_the_library(opened):
    rng = random.Random(0)
    asked = []
    for _ in range(400):
        g = random_graph(rng, rng.randint(2, 9))
        x, y, *rest = rng.sample(g.names, len(g.names))
        asked.append((g, x, y, rest[: rng.randint(0, min(3, len(rest)))]))
    answers = opened(DRAWN["vae"]).evaluate(
        """asked => asked.map(([data, x, y, given]) => {
          const g = daguerre.graph(data);
          return [daguerre.separation(g, x, y, given), daguerre.apart(g, x, given),
            daguerre.determined(g, given), daguerre.blanket(g, x).all];
        })""",
        [[read_by_script(g), *rest] for g, *rest in asked],
    )
    separated = 0
    for (g, x, y, zs), (answer, apart, known, blanket) in zip(asked, answers, strict=True):
        expected = separation(g, x, y, given=zs)
        separated += expected.independent
        assert answer["independent"] == expected.independent, (g, x, y, zs)
        if expected.trail is None:
            assert tuple(answer["reasons"]) == expected.reasons, (g, x, y, zs)
        else:
            assert tuple(answer["names"]) == expected.trail.names
            assert tuple(answer["forwards"]) == expected.trail.forwards
            assert answer["openBy"] == expected.trail.open_by
        others = [n for n in g.names if n != x and n not in zs]
        assert apart == [n for n in others if independent(g, x, n, given=zs)]
        assert tuple(known) == determined(g, zs)
        assert tuple(blanket) == markov_blanket(g, x)
    assert 80 < separated < 320


def test_observing_shades_and_determines(opened):
    shown = opened(figure(GRAPH, observed=["y"]))
    assert marked(shown, "observed") == {"y"}
    shown.click(body("z"))
    assert marked(shown, "observed") == {"y", "z"}
    assert marked(shown, "determined") == {"h"}
    assert shown.locator(".if-determined").is_visible()
    shown.mouse.move(2, 2)
    assert "Observed: z, y" in finding(shown)
    assert "This determines h" in finding(shown)
    assert shown.locator(node("z")).get_attribute("aria-pressed") == "true"
    shown.click(body("y"))
    shown.click(body("t"))
    assert marked(shown, "observed") == {"z", "t"}
    assert marked(shown, "determined") == {"h", "u"}
    shown.click(body("theta"))
    assert marked(shown, "observed") == {"z", "t"}
    shown.click("[data-do=reset]")
    assert marked(shown, "observed") == {"y"}


@pytest.mark.parametrize("given", [["y"], ["z", "y"], []])
def test_asking_greys_the_independent_and_draws_the_trail(opened, given):
    shown = opened(figure(GRAPH, observed=given))
    shown.click("[data-mode=ask]")
    shown.click(body("x_1"))
    shown.mouse.move(2, 2)
    others = [n for n in GRAPH.names if n not in (*given, "x_1")]
    apart = {n for n in others if independent(GRAPH, "x_1", n, given=given)}
    assert marked(shown, "apart") == apart
    assert marked(shown, "query") == {"x_1"}
    shown.hover(body("w"))
    expected = separation(GRAPH, "x_1", "w", given=given)
    if expected.trail is None:
        assert "x_1 and w are independent" in finding(shown)
        assert arrows(shown, ".on-trail") == set()
    else:
        names, forwards = expected.trail.names, expected.trail.forwards
        pairs = zip(names, names[1:], forwards, strict=False)
        assert arrows(shown, ".on-trail") == {(a, b) if f else (b, a) for a, b, f in pairs}
        assert marked(shown, "opener") == {*expected.trail.open_by.values()}
        assert "x_1 and w may depend on each other" in finding(shown)
    assert all(reason.replace("->", "→").replace("<-", "←") in finding(shown)
               for reason in expected.reasons)  # fmt: skip


def test_a_second_click_pins_the_other_end(opened):
    shown = opened(figure(GRAPH))
    shown.click(body("x_1"), modifiers=["Shift"])
    shown.click(body("x_2"), modifiers=["Shift"])
    shown.mouse.move(2, 2)
    assert arrows(shown, ".on-trail") == {("h", "x_1"), ("h", "x_2")}
    assert marked(shown, "end") == {"x_2"}
    shown.click(body("h"))
    shown.mouse.move(2, 2)
    assert "x_1 and x_2 are independent given h" in finding(shown)
    assert "x_1 ← h → x_2 is blocked at h" in finding(shown)
    shown.click(".stage", position={"x": 4, "y": 4})
    assert marked(shown, "query") == set()
    assert marked(shown, "observed") == {"h"}


def test_pointing_lights_the_blanket_and_the_factor(opened):
    shown = opened(figure(GRAPH))
    shown.hover(body("x_2"))
    lit = {*markov_blanket(GRAPH, "x_2"), "x_2"}
    assert marked(shown, "faint") == {*GRAPH.names} - lit
    inside = {("h", "x_2"), ("theta", "x_2"), ("x_2", "y"), ("w", "y")}
    assert arrows(shown, ":not(.faint)") == inside
    lit_factor = shown.locator(".factor.lit")
    assert lit_factor.evaluate("e => e.dataset.name") == "x_2"
    assert r"p_\theta(x_{2,n}" in lit_factor.locator("svg").get_attribute("aria-label")
    shown.hover('.factor[data-name="w"]')
    assert marked(shown, "over") == {"w"}
    shown.mouse.move(2, 2)
    assert marked(shown, "faint") == set()
    assert shown.locator(".factor.lit").count() == 0


def test_the_blanket_is_that_of_the_model_alone(opened):
    shown = opened(DRAWN["mixed"])
    shown.hover(body("d"))
    assert "not to the model" in finding(shown)
    shown.hover(body("x"))
    assert marked(shown, "faint") == {"alpha", "beta", "y", "z", "c", "d", "critic"}
    assert arrows(shown, ".inference:not(.faint)") == set()


def test_each_kind_of_arrow_can_be_hidden(opened):
    shown = opened(DRAWN["mixed"])
    flags = {"generative": ":not(.inference)", "stochastic": ":not(.deterministic)"}
    for kind in ("generative", "inference", "stochastic", "deterministic", "adversarial"):
        own = arrows(shown, flags.get(kind, f".{kind}"))
        switch = shown.locator(f'.switch[data-kind="{kind}"]')
        switch.click()
        assert own
        assert arrows(shown, ".off") == own
        assert not shown.locator(".arrow.off").first.is_visible()
        assert switch.get_attribute("aria-pressed") == "false"
        switch.click()
        assert arrows(shown, ".off") == set()


def test_the_legend_tells_what_occurs(opened):
    words = opened(DRAWN["gan"]).locator(".legend").inner_text()
    assert "adversarial" in words
    assert "plate" not in words
    assert "inference" not in opened(figure(GRAPH)).locator(".legend").inner_text()


# Moving about


def test_zoom_and_pan_by_buttons_keys_wheel_and_drag(opened):
    shown = opened(figure(GRAPH))
    whole = window(shown)

    def narrower(action) -> bool:
        before = window(shown)[2]
        action()
        return window(shown)[2] < before

    assert narrower(lambda: shown.click("[data-do=in]"))
    assert not narrower(lambda: shown.click("[data-do=out]"))
    shown.locator(node("z")).focus()
    assert narrower(lambda: shown.keyboard.press("+"))
    assert narrower(lambda: shown.keyboard.press("="))
    assert not narrower(lambda: shown.keyboard.press("-"))
    shown.keyboard.press("0")
    assert window(shown) == whole
    shown.hover(body("y"))
    assert narrower(lambda: (shown.mouse.wheel(0, -400), shown.wait_for_timeout(60)))
    before = window(shown)
    shown.keyboard.press("ArrowLeft")
    assert window(shown)[0] < before[0]
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("ArrowDown")
    assert window(shown)[1] > before[1]
    shown.keyboard.press("ArrowUp")
    x, y, *_ = before = window(shown)
    box = shown.locator(".stage").bounding_box()
    shown.mouse.move(box["x"] + 200, box["y"] + 200)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 260, box["y"] + 240, steps=4)
    shown.mouse.up()
    assert window(shown)[0] < x
    assert window(shown)[1] < y
    assert marked(shown, "observed") == set()
    shown.click("[data-do=fit]")
    assert window(shown) == whole


def test_the_whole_picture_is_seen_at_first(opened):
    for name in ("mixed", "bayes"):
        shown = opened(DRAWN[name], viewport={"width": 390, "height": 844})
        stage = shown.locator(".stage").bounding_box()
        inner = shown.locator(".view:not([hidden]) g.panel").bounding_box()
        assert stage["x"] <= inner["x"]
        assert inner["x"] + inner["width"] <= stage["x"] + stage["width"]
        assert inner["y"] + inner["height"] <= stage["y"] + stage["height"]
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_keyboard_alone_is_enough(opened):
    shown = opened(figure(GRAPH))
    shown.locator("[data-do=help]").focus()
    for name in GRAPH.names:
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.dataset.name") == name
        assert (
            shown.evaluate("getComputedStyle(document.activeElement.firstChild).stroke") != "none"
        )
    assert marked(shown, "over") == {GRAPH.names[-1]}
    shown.locator(node("h")).focus()
    shown.keyboard.press("Enter")
    assert marked(shown, "observed") == {"h"}
    shown.keyboard.press(" ")
    assert marked(shown, "observed") == set()
    shown.keyboard.press("Shift+Enter")
    assert marked(shown, "query") == {"h"}
    shown.keyboard.press("Escape")
    assert marked(shown, "query") == set()
    shown.keyboard.press("a")
    assert shown.locator("[data-mode=ask]").get_attribute("aria-pressed") == "true"
    shown.keyboard.press("Enter")
    assert marked(shown, "query") == {"h"}
    shown.keyboard.press("o")
    assert shown.locator("[data-mode=observe]").get_attribute("aria-pressed") == "true"
    assert shown.locator(node("h")).get_attribute("role") == "button"
    assert "h" in shown.locator(node("h")).get_attribute("aria-label")


def test_help_opens_and_closes(opened):
    shown = opened(DRAWN["vae"])
    dialog = shown.locator("dialog")
    assert not dialog.is_visible()
    shown.keyboard.press("?")
    assert dialog.is_visible()
    shown.keyboard.press("Escape")
    assert not dialog.is_visible()
    shown.click("[data-do=help]")
    assert "Markov blanket" in dialog.inner_text()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_a_tap_observes_and_asks(opened):
    shown = opened(figure(GRAPH), has_touch=True, viewport={"width": 390, "height": 844})
    shown.tap(body("z"))
    assert marked(shown, "observed") == {"z"}
    shown.tap("[data-mode=ask]")
    shown.tap(body("x_1"))
    shown.tap(body("x_2"))
    assert "x_1 and x_2 are independent given z" in finding(shown)
    assert "h is determined by z" in finding(shown)


def test_two_fingers_zoom(opened):
    shown = opened(figure(GRAPH), has_touch=True)
    before = window(shown)[2]
    shown.evaluate(
        """() => {
          const stage = document.querySelector(".stage");
          const send = (type, pointerId, clientX, clientY) => stage.dispatchEvent(
            new PointerEvent(type, { pointerId, clientX, clientY, pointerType: "touch" }));
          stage.setPointerCapture = () => {};
          send("pointerdown", 1, 400, 400); send("pointerdown", 2, 500, 400);
          send("pointermove", 2, 600, 400);
          send("pointerup", 1, 400, 400); send("pointerup", 2, 600, 400);
        }"""
    )
    assert window(shown)[2] == pytest.approx(before / 2, rel=0.01)
