"""Pages of nets, of several panels and of hostile names in a browser."""

from xml.etree import ElementTree

import pytest
from dotted import NETS
from figures import DRAWN
from pixels import read_png
from shown import arrows, body, finding, marked

from daguerre.draw import Arrow, Figure, Node, draw, figure, with_caption
from daguerre.draw.png import png
from daguerre.graph import Graph

pytestmark = pytest.mark.browser

SVG = "{http://www.w3.org/2000/svg}"


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


def test_a_saved_picture_spells_its_letters(opened, tmp_path):
    drawn = figure(Graph.from_edges([("sea_surface", "sea_salt"), ("sea_salt", "wave")]))
    shown = opened(drawn)
    with shown.expect_download() as waiting:
        shown.click("[data-do=save]")
    waiting.value.save_as(tmp_path / "saved.svg")
    saved = (tmp_path / "saved.svg").read_text(encoding="utf-8")
    assert "<use" not in saved
    sides = {k: float(ElementTree.fromstring(saved).get(k, 0)) for k in ("width", "height")}
    assert ink(png(saved, **sides)) == pytest.approx(ink(draw(drawn).png()), rel=0.01)


def ink(image: bytes) -> int:
    return sum(255 - light for light in read_png(image)[1])


def test_long_formulas_do_not_widen_the_page(opened):
    names = [f"quantity_number_{i}_of_the_long_model" for i in range(8)]
    long = figure(Graph.from_edges([(a, b) for a in names[:4] for b in names[4:]]))
    shown = opened(with_caption(long, r"\,".join([r"\log p_\theta(x)"] * 60)))
    width = "[document.documentElement.scrollWidth, innerWidth]"
    assert len({*shown.evaluate(width)}) == 1
    assert shown.locator(".cost > div").evaluate("row => row.scrollWidth > row.clientWidth")


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
