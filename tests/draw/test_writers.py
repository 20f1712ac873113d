"""SVG, PNG, formulas and files."""

import importlib
import os
import stat
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from figures import DECODER, DRAWN, GENERATOR
from hypothesis import given, settings
from hypothesis import strategies as st
from pixels import read_png

from daguerre.draw import Drawable, Figure, Node, draw, figure, formula_svg
from daguerre.draw.formula import formula, text
from daguerre.graph import Graph, GraphError, Variable

SVG = "{http://www.w3.org/2000/svg}"


def classes(svg: str, name: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    return [e for e in root.iter() if name in e.get("class", "").split()]


@pytest.mark.parametrize("name", DRAWN)
def test_svg_is_valid_and_the_same_twice(name):
    svg = draw(DRAWN[name]).svg
    assert svg == draw(DRAWN[name]).svg
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title")
    assert len(classes(svg, "node")) == len(DRAWN[name].nodes)
    assert len(classes(svg, "arrow")) == len(DRAWN[name].arrows)
    assert len(classes(svg, "plate")) == len(DRAWN[name].frames)
    assert not {e.tag.removeprefix(SVG) for e in root.iter()} & {"text", "image", "script", "use"}


def test_the_same_bytes_in_another_process():
    code = (
        "from daguerre.draw import draw; from daguerre.graph import Graph; import hashlib;"
        "g = Graph.from_edges([(a, b) for a in 'abc' for b in 'xyz'], plates={'n': ['x', 'y']});"
        "print(hashlib.sha256(draw(g).svg.encode()).hexdigest())"
    )
    seeds = ("0", "1")
    runs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in seeds
    ]
    assert runs[0] == runs[1]
    assert len(runs[0].strip()) == 64


def test_the_flags_are_visible_and_can_be_found():
    svg = draw(DRAWN["gan"], DRAWN["vae"]).svg
    generator, critic, decoder, encoder = classes(svg, "arrow")
    assert generator.get("class") == "arrow deterministic"
    assert critic.get("class") == "arrow inference adversarial"
    assert (critic.get("data-source"), critic.get("data-target")) == ("x", "critic")
    line, head = encoder.findall(f"{SVG}path")[:2]
    assert line.get("stroke-dasharray")
    assert head.get("fill") == line.get("stroke")
    line, head = generator.findall(f"{SVG}path")[:2]
    assert line.get("stroke-dasharray") is None
    assert head.get("fill") == "#ffffff"
    assert head.get("stroke-dasharray") is None
    strokes = [arrow.findall(f"{SVG}path")[0].get("stroke") for arrow in (decoder, critic)]
    assert strokes[0] != strokes[1]
    assert [n.get("data-name") for n in classes(svg, "observed")] == ["x", "x"]


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=12))
def test_any_name_makes_valid_xml(name):
    fig = figure(Graph([Variable("z_"), Variable(name + "q", ("z_",))]))
    ElementTree.fromstring(draw(fig).svg)


def test_png_has_the_right_size_and_is_not_blank():
    drawing = draw(DRAWN["vae"])
    for scale in (1.0, 2.0):
        size, pixels = read_png(drawing.png(scale))
        assert size == (drawing.sheet.width * scale, drawing.sheet.height * scale)
        assert 0.01 < sum(p < 250 for p in pixels) / len(pixels) < 0.3
        assert pixels[0] == 255


@pytest.mark.parametrize("scale", [0, -1, 1e6, float("nan")])
def test_an_impossible_scale_is_refused(scale):
    with pytest.raises(ValueError, match="scale"):
        draw(DECODER).png(scale)


def test_save_writes_by_suffix_and_leaves_nothing_else(tmp_path):
    drawing = draw(DECODER)
    assert drawing.save(tmp_path / "m.svg").read_text(encoding="utf-8") == drawing.svg
    assert drawing.save(str(tmp_path / "m.PNG")).read_bytes() == drawing.png()
    assert drawing.save(tmp_path / "m.pdf").read_bytes() == drawing.pdf()
    assert drawing.save(tmp_path / "m.tex").read_text(encoding="ascii") == drawing.tikz()
    assert drawing.save(tmp_path / "m.dot").read_text(encoding="utf-8") == drawing.dot
    assert drawing.save(tmp_path / "m.mmd").read_text(encoding="utf-8") == drawing.mermaid
    suffixes = sorted(p.suffix for p in tmp_path.iterdir())
    assert suffixes == [".PNG", ".dot", ".mmd", ".pdf", ".svg", ".tex"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "m.svg").stat().st_mode) == 0o666 & ~mask


def test_another_suffix_is_refused_with_the_list(tmp_path):
    with pytest.raises(
        ValueError, match=r"'.jpeg' is none of .svg, .png, .pdf, .html, .tex, .dot, .mmd"
    ):
        draw(DECODER).save(tmp_path / "m.jpeg")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = draw(DECODER).save(tmp_path / "m.svg")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        draw(GENERATOR).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.svg"]


def test_notebooks_get_svg_first_and_tikz_for_latex():
    drawing = draw(DECODER, titles=["Decoder"])
    assert drawing._repr_svg_() == drawing.svg
    bundle = drawing._repr_mimebundle_()
    assert bundle["image/svg+xml"] == drawing.svg
    assert bundle["text/plain"] == "Drawing of Decoder"
    assert list(drawing._repr_mimebundle_(include=["text/plain"])) == ["text/plain"]
    assert "text/plain" not in drawing._repr_mimebundle_(exclude=["text/plain"])
    assert bundle["text/html"] == drawing.svg
    assert drawing.tikz(document=False) in bundle["text/latex"]


def test_anything_with_a_figure_is_drawn():
    class Model:
        def figure(self) -> Figure:
            return Figure((Node("x", "x"),), title="mine")

    assert isinstance(Model(), Drawable)
    panels = draw(Model(), DECODER, DRAWN["gan"]).sheet.panels
    assert [p.figure.title for p in panels] == ["mine", "", "GAN"]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="nothing to draw"):
        draw()
    with pytest.raises(ValueError, match="1 titles for 2 things"):
        draw(DECODER, GENERATOR, titles=["one"])
    with pytest.raises(TypeError, match="cannot draw a int"):
        draw(3)  # pyright: ignore[reportArgumentType] - the wrong type is the test
    with pytest.raises(GraphError, match="no variables"):
        draw(Graph([]))
    with pytest.raises(ValueError, match=r"unknown LaTeX command \\oops in 'x \\\\oops'"):
        draw(Figure((Node("x", r"x \oops"),)))


@pytest.mark.parametrize(
    ("latex", "message"),
    [
        (r"\foo x", r"unknown LaTeX command \\foo"),
        ("{x", "do not balance"),
        ("}x{", "do not balance"),
        ("a % b", "bare %"),
        ("  ", "empty formula"),
        (r"\frac{1}", "cannot set the formula"),
        ("^", "cannot set the formula"),
        (r"\left( x", "cannot set the formula"),
        (r"\color{red} x", "colour"),
        (r"\boxed{x}", "colour, a box"),
        (r"\def\x{y}\x", r"uses \\def, which no formula needs"),
        (r"\href{a}{b}", r"uses \\href, which no formula needs"),
        ("x^^5cinput", r"uses \^\^, which no formula needs"),
    ],
)
def test_formulas_that_would_be_set_wrongly_are_errors(latex, message):
    with pytest.raises(ValueError, match=message):
        formula(latex)


def test_formula_svg_stands_alone_and_takes_the_colour_of_the_text():
    root = ElementTree.fromstring(formula_svg(r"\frac{x}{2} < 1", size=30))
    assert root.findtext(f"{SVG}title") == r"\frac{x}{2} < 1"
    assert root.findall(f"{SVG}path")[0].get("fill") == "currentColor"
    assert float(root.get("height", 0)) > 30


@pytest.mark.parametrize(
    "latex",
    [
        *("v_{12}", r"\theta_{k}", "h^{(1)}_{2}", "x^{2}", r"\mu_{\mathrm{x}}"),
        *(r"\mathrm{w}_{1}", r"{{x_{1}}}", r"p_\theta(x \mid z_{t-1})", r"\hat{x}_{\hat{t}}"),
    ],
)
def test_rows_of_one_thing_are_taken_away_without_a_trace(latex):
    outline = formula(latex, size=21)
    zmath = importlib.import_module("ziamath.zmath")  # already imported, so that nothing warns
    whole = zmath.Latex(latex, size=21)
    assert (outline.width, outline.height) == pytest.approx(whole.getsize())
    assert outline.descent == pytest.approx(-whole.getyofst())


def test_a_list_of_indices_is_set_as_one_word():
    zmath = importlib.import_module("ziamath.zmath")
    whole = zmath.Latex(r"\mathrm{h}_{12,n}", size=21).getsize()
    outline = formula(r"\mathrm{h}_{12,n}", size=21)
    assert outline.height == pytest.approx(whole[1])
    assert whole[0] < outline.width < whole[0] + 1.5  # the comma takes a word's room


def test_outlines_scale_with_the_size():
    small, large = formula("x^2", size=10), formula("x^2", size=20)
    assert large.width == pytest.approx(2 * small.width, rel=0.02)
    assert large.ascent == pytest.approx(2 * small.ascent, rel=0.02)


def test_the_sign_of_independence_is_two_bars_wide():
    wide, narrow = formula(r"\perp\!\!\!\perp"), formula("⫫")
    assert wide.width > narrow.width > 0.6 * formula(r"\perp").width


def test_plain_text_gives_no_character_a_meaning():
    assert text(r"\foo $x$ {}_^%").width > text("foo").width
