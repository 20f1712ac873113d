"""The interactive page in a browser: every control, and its answers against daguerre.structure."""

import json
import random
import shutil
from xml.etree import ElementTree

import pytest
from dotted import NETS
from figures import DRAWN

from daguerre.draw import Arrow, Figure, Node, figure
from daguerre.draw.page import numbered, page
from daguerre.draw.sheet import sheet
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
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install it")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs the program chromium")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield running
        running.close()


@pytest.fixture(scope="module")
def desk(browser):
    return browser.new_context(viewport={"width": 1000, "height": 720}, reduced_motion="reduce")


@pytest.fixture
def opened(browser, desk, tmp_path):
    """Open figures as a page; at the end nothing was asked for, said or thrown but the page."""
    seen, pages = [], []

    def show(*figures: Figure, **options):
        shown = (browser.new_context(**options) if options else desk).new_page()
        shown.set_default_timeout(5000)
        pages.append(shown)
        for event in ("console", "pageerror", "dialog"):
            shown.on(event, lambda found, event=event: seen.append((event, str(found))))
        shown.on("request", lambda request: seen.append(("request", request.url[-7:])))
        path = tmp_path / f"{len(pages)}.html"
        path.write_text(page(sheet(figures)), encoding="utf-8")
        shown.goto(path.as_uri())
        return shown

    yield show
    for shown in pages:
        shown.close()
    assert seen == [("request", f"/{k + 1}.html") for k in range(len(pages))]


def node(name: str, view: str = ".view:not([hidden])") -> str:
    return f'{view} g.node[data-name="{name}"]'


def body(name: str) -> str:
    return f"{node(name)} > .hit"


def marked(shown, mark: str) -> set[str]:
    names = "nodes => nodes.map(n => n.dataset.name)"
    return {*shown.eval_on_selector_all(f".view:not([hidden]) g.node.{mark}", names)}


def arrows(shown, selector: str) -> set[tuple[str, str]]:
    pairs = "all => all.map(a => [a.dataset.source, a.dataset.target])"
    found = shown.eval_on_selector_all(f".view:not([hidden]) g.arrow{selector}", pairs)
    return {(a, b) for a, b in found}


def window(shown) -> list[float]:
    box = shown.locator(".view:not([hidden]) > svg").first.get_attribute("viewBox")
    return [float(number) for number in box.split()]


def finding(shown) -> str:
    return shown.locator(".finding").first.inner_text()


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


# Nets


def test_a_net_opens_and_closes_by_depth(opened):
    shown = opened(figure(NETS["resnet"]))
    shown.click('[data-view="0"]')
    assert shown.locator(".view:not([hidden])").count() == 1
    assert "layer1" in marked(shown, "module")
    shown.hover(body("layer1"))
    assert "A module of 14 variables" in finding(shown)
    shown.click(body("layer1"))
    assert shown.locator('[data-view="1"]').get_attribute("aria-pressed") == "true"
    assert "layer1" not in marked(shown, "module")
    assert shown.evaluate("document.activeElement.dataset.name") == "layer1.0"
    shown.locator('.view:not([hidden]) g.scope[data-name="layer1"] > .hit').click()
    assert shown.locator('[data-view="0"]').get_attribute("aria-pressed") == "true"
    assert shown.evaluate("document.activeElement.dataset.name") == "layer1"
    shown.keyboard.press("Enter")
    assert shown.locator('[data-view="1"]').get_attribute("aria-pressed") == "true"
    shown.locator('.view:not([hidden]) g.scope[data-name="layer1"] > .hit').focus()
    shown.keyboard.press("Enter")
    assert shown.locator('[data-view="0"]').get_attribute("aria-pressed") == "true"


def test_an_outer_module_is_closed_with_all_in_it(opened):
    shown = opened(figure(NETS["resnet"]))
    shown.click('[data-view="3"]')
    shown.locator('.view:not([hidden]) g.scope[data-name="layer2"] > .hit').focus()
    shown.keyboard.press("Enter")
    assert shown.locator('[data-view="0"]').get_attribute("aria-pressed") == "true"
    assert shown.evaluate("document.activeElement.dataset.name") == "layer2"
    assert "A module of 16 variables" in finding(shown)


def test_what_is_observed_stays_so_behind_closed_modules(opened):
    noisy = Graph.from_edges(
        [("a", "m.p"), ("m.p", "m.q"), ("m.q", "b"), ("b", "c")], nodes=["a", "m.p", "m.q", "b"]
    )
    shown = opened(figure(noisy))
    shown.click(body("m.p"))
    shown.click(body("a"), modifiers=["Shift"])
    shown.click('[data-view="0"]')
    assert marked(shown, "query") == {"a"}
    assert marked(shown, "apart") == {"b", "c"}
    shown.click('[data-view="1"]')
    shown.click(body("m.p"))
    shown.click('[data-view="0"]')
    shown.hover(body("b"))
    assert arrows(shown, ".on-trail") == {("a", "m"), ("m", "b")}
    shown.keyboard.press("Escape")
    shown.click("[data-do=reset]")
    shown.hover(body("b"))
    assert marked(shown, "faint") == {"a"}
    assert arrows(shown, ":not(.faint)") == {("m", "b"), ("b", "c")}


# Pages of all kinds


def test_panels_do_not_touch_one_another(opened):
    shown = opened(DRAWN["vae"], DRAWN["gan"])
    first, second = shown.locator("section").all()
    second.locator('g.node[data-name="z"] > .hit').click()
    assert second.locator(".stage .observed").count() == 2
    assert first.locator(".stage .observed").count() == 1
    assert "Observed: x" in first.locator(".finding").inner_text()


def test_chains_say_why_they_cannot_be_asked(opened):
    shown = opened(DRAWN["chain"])
    assert "depends on an earlier time slice" in finding(shown)
    shown.click(body("z"))
    assert marked(shown, "observed") == {"x"}
    assert shown.locator(".factor.lit").count() == 1


def test_a_cycle_is_drawn_and_not_asked(opened):
    nodes = (Node("a", "a"), Node("b", "b"))
    shown = opened(Figure(nodes, (Arrow("a", "b"), Arrow("b", "a"))))
    shown.click(body("a"))
    assert "no acyclic graph" in finding(shown)
    assert marked(shown, "observed") == set()


def test_the_picture_is_saved_as_it_is_seen(opened, tmp_path):
    shown = opened(DRAWN["mixed"])
    shown.click(body("z"))
    shown.click('.switch[data-kind="inference"]')
    shown.click("[data-do=in]")
    with shown.expect_download() as waiting:
        shown.click("[data-do=save]")
    waiting.value.save_as(tmp_path / "saved.svg")
    root = ElementTree.parse(tmp_path / "saved.svg").getroot()
    assert waiting.value.suggested_filename == "figure.svg"
    classes = [(g.get("class") or "").split() for g in root.iter(f"{SVG}g")]
    assert not [c for c in classes if "arrow" in c and "inference" in c]
    assert sum("observed" in c for c in classes) == 3
    assert not {"faint", "over", "off"} & {word for c in classes for word in c}
    fills = {
        g.get("data-name"): c.get("fill")
        for g in root.iter(f"{SVG}g")
        for c in g.findall(f"{SVG}circle")
    }
    assert fills["z"] == fills["y"] != fills["s"]
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"


def test_hostile_names_stay_names(opened):
    names = ["</script><script>alert(1)</script>", "<!--", "<img src=x onerror=alert(2)>",
             "\"'`${alert(3)}", "a\u2028b", "n" * 10_000, "__proto__", "{{data}}"]  # fmt: skip
    edges = [("constructor", name) for name in names]
    shown = opened(figure(Graph.from_edges(edges), title="<script>alert(4)</script>"))
    assert shown.locator("h2").first.inner_text() == "<script>alert(4)</script>"
    nodes = shown.locator(".stage g.node").all()
    assert [n.evaluate("n => n.dataset.name") for n in nodes] == ["constructor", *names]
    for place in nodes:
        place.focus()
        place.press("Enter")
        place.press("Shift+Enter")
    assert shown.locator(".stage .observed").count() == len(names) + 1
    assert shown.locator("img").count() == 0


def test_the_page_follows_the_reader(opened):
    shown = opened(DRAWN["vae"], color_scheme="dark", reduced_motion="reduce")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = shown.evaluate(ground)
    assert (
        shown.evaluate("getComputedStyle(document.querySelector('g.node')).transitionDuration")
        == "0s"
    )
    shown.emulate_media(color_scheme="light")
    assert shown.evaluate(ground) != dark
    shown.emulate_media(media="print", color_scheme="dark")
    assert shown.evaluate(ground) == "rgb(255, 255, 255)"
    assert not shown.locator(".tools").is_visible()
    assert shown.locator("svg.daguerre").is_visible()


def test_without_scripts_the_picture_is_there(opened):
    shown = opened(DRAWN["vae"], java_script_enabled=False)
    assert shown.locator("svg.daguerre").bounding_box()["height"] > 300
    assert shown.locator(".factor").count() == 2
