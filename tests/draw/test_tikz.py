"""TikZ: what is written, and that LaTeX takes it."""

from dataclasses import replace

import pytest
from dotted import net
from figures import DRAWN
from programs import compiled, rendered

from daguerre.draw import Arrow, Figure, Frame, Node, draw, figure
from daguerre.draw.tex import math, words
from daguerre.draw.tikz import tikz

FLAGS = [(bool(i & 1), bool(i & 2), bool(i & 4)) for i in range(8)]
ALL_FLAGS = Figure(
    tuple(Node(f"{letter}{i}", letter) for letter in "ab" for i in range(8)),
    tuple(Arrow(f"a{i}", f"b{i}", *flags) for i, flags in enumerate(FLAGS)),
)
NET = figure(net([("x", "net.0"), ("net.0", "net.relu"), ("net.relu", "y")]))


def test_each_flag_is_a_style():
    text = draw(ALL_FLAGS).tikz()
    for i, (inference, deterministic, adversarial) in enumerate(FLAGS):
        styles = ["infer" if inference else "gen"]
        styles += ["hollow"] * deterministic + ["adv"] * adversarial
        assert f"\\draw[{', '.join(styles)}] (a{i}) -- (b{i});" in text
        assert f"\\edge[{', '.join(styles)}] {{a{i}}} {{b{i}}};" in draw(ALL_FLAGS).tikz(
            style="bayesnet"
        )


def test_nodes_have_the_styles_and_places_of_the_drawing():
    drawing = draw(DRAWN["gan"])
    text = drawing.tikz()
    assert "\\node[latent] (z) at (" in text
    assert "\\node[det, shaded] (x) at (" in text
    assert "\\node[critic] (critic) at (" in text
    for placed in drawing.sheet.panels[0].picture.nodes:
        x, y = placed.centre
        assert f"at ({x:g},{y:g}) {{${placed.node.label}$}};" in text


def test_plates_are_boxes_or_fitted_by_the_library():
    drawing = draw(DRAWN["mixed"])
    assert drawing.tikz().count("\\draw[plate]") == 3
    text = drawing.tikz(style="bayesnet")
    inner, outer = (text.index(f"}} {{${count}$}};\n") for count in "TN")
    assert inner < outer
    held = text[:outer].rsplit("\\plate", 1)[1]
    assert "(plate " in held  # the inner plate
    assert held.count("(") == 6
    assert "\\draw[plate" not in text


def test_plates_that_cross_are_boxes_in_both_styles():
    nodes = tuple(Node(name, name) for name in "abx")
    sheet = draw(Figure(nodes, frames=(Frame("i", "I", ("a", "x")),))).sheet
    assert tikz(sheet, style="bayesnet").count("\\plate {") == 1
    (panel,), (placed,) = sheet.panels, sheet.panels[0].picture.frames
    other = replace(placed, frame=Frame("j", "J", ("b", "x")))
    crossing = replace(panel, picture=replace(panel.picture, frames=(placed, other)))
    text = tikz(replace(sheet, panels=(crossing,)), style="bayesnet")
    assert "\\plate {" not in text
    assert text.count("\\draw[plate box]") == 2


def test_scopes_and_several_panels():
    text = draw(NET, DRAWN["vae"], titles=["a_b", "100%"]).tikz()
    assert "\\draw[net]" in text
    assert "\\node[net caption]" in text
    assert text.count("name prefix=") == 2
    assert "{a\\_b};" in text
    assert "{100\\%};" in text
    assert "\\node[cost]" in text


def test_the_picture_alone_and_another_style():
    text = draw(DRAWN["vae"]).tikz(document=False)
    assert "documentclass" not in text
    assert text.startswith("% needs \\usepackage{tikz, amsmath")
    with pytest.raises(ValueError, match="'own' or 'bayesnet', not 'daft'"):
        tikz(draw(DRAWN["vae"]).sheet, style="daft")  # pyright: ignore[reportArgumentType]


def test_no_title_is_too_long_for_tex():
    long = draw(DRAWN["vae"], titles=["t" * 10_000]).tikz()
    assert "t" * 90 in long
    assert "t" * 101 not in long


def test_formulas_become_ascii():
    assert math("φ é 变 𝜙") == (
        r"{\ensuremath{\phi}} {\ensuremath{\acute{e}}} \unichar{53D8} {\ensuremath{\phi}}"
    )
    assert math(r"a # b $ \text{^} \# \_") == r"a \# b \$ \text{\textasciicircum} \# \_"
    assert math("…ℓ½") == r"{\ensuremath{\ldots}}{\ensuremath{\ell}}\unichar{00BD}"
    assert words("a\n<%$>\x00") == r"a \textless{}\%\$\textgreater{}\unichar{FFFD}"


@pytest.mark.parametrize("style", ["own", "bayesnet"])
def test_it_compiles_and_looks_like_the_drawing(style, tmp_path):
    drawing = draw(ALL_FLAGS, DRAWN["mixed"], DRAWN["chain"], DRAWN["wide"], NET)
    (tmp_path / "drawing.png").write_bytes(drawing.png(1.0))
    page = compiled(drawing.tikz(style=style), tmp_path)
    (width, height), pixels = rendered(page, dots=72)
    margin = 26 * 0.5  # around a sheet, in points; LaTeX has its own of 6
    assert width == pytest.approx(drawing.sheet.width / 2 - 2 * margin + 12, abs=40)
    assert height == pytest.approx(drawing.sheet.height / 2 - 2 * margin + 12, abs=40)
    assert 0.01 < sum(pixel < 128 for pixel in pixels) / len(pixels) < 0.2


def test_a_notebook_compiles_with_the_package_and_without(tmp_path):
    cell = draw(DRAWN["vae"], titles=["x_1"])._repr_mimebundle_()["text/latex"]
    for packages in ("amsmath", "amsmath, amssymb, textcomp, tikz"):
        head = f"\\documentclass{{article}}\n\\usepackage{{{packages}}}\n\\begin{{document}}\n"
        compiled(f"{head}{cell}\\end{{document}}\n", tmp_path)
