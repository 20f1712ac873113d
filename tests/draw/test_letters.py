"""Names in letters that the font of formulas lacks: text in SVG, numbers where nothing sets it."""

import re
from xml.etree import ElementTree

import pytest
from test_pdf import content

from daguerre.draw import Figure, Frame, Node, draw
from daguerre.draw.formula import formula, formula_svg, text
from daguerre.draw.png import is_set
from daguerre.draw.sheet import sheet
from daguerre.draw.svg import svg
from daguerre.draw.unset import told
from daguerre.graph import Graph

NAMES = ("النص", "שלום", "漢字", "한국어", "😀")
NOBODY = "\U0010fffd"  # for private use: no font has it


def texts(document: str) -> list[str]:
    root = ElementTree.fromstring(document)
    return [e.text or "" for e in root.iter() if e.tag.endswith("}text")]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_text_in_svg_and_no_outline(name):
    drawing = draw(Graph.from_edges([(name, "x")]))
    assert texts(drawing.svg) == [name]
    node, _ = drawing.sheet.panels[0].picture.nodes
    assert node.label.outline.path == ""
    (piece,) = node.label.outline.words
    assert 0 < piece.width < 2 * node.body.width


def test_a_subscript_is_smaller_and_lower():
    outline = formula("z_{漢}", size=20.0)
    (piece,) = outline.words
    assert outline.path.count("Z") == 1
    assert piece.size < 20
    assert 0 < piece.y <= outline.descent
    assert piece.x + piece.width / 2 <= outline.width + 0.5
    assert piece.width == pytest.approx(piece.size)


def test_letters_of_other_fonts_part_at_what_the_font_has():
    assert [p.text for p in formula(r"\mathrm{漢a字}").words] == ["漢", "字"]
    assert [p.text for p in text("שלום עולם").words] == ["שלום עולם"]
    assert formula("x_1").words == text("plain").words == ()


def test_titles_plates_and_formulas_have_text_too():
    figure = Figure(
        (Node("x", "x"),), frames=(Frame("n", r"\mathrm{批次}", ("x",)),), title="漢 a"
    )
    assert texts(draw(figure).svg) == ["漢", "批次"]
    assert texts(formula_svg(r"\mathrm{שלום}")) == ["שלום"]


def test_what_cannot_be_set_is_numbered_and_told_under_the_picture():
    before = sheet([figure_of("漢字", "שלום")])
    after, document = told(before, lambda piece: piece == "שלום")
    assert texts(document) == ["שלום"]
    assert after.height > before.height
    notes = re.findall(r'<path class="note"[^>]* d="([^"]*)"', document)
    lines = ("Written in letters for which there is no font here:", "[1] U+6F22 U+5B57")
    assert notes == [text(line, size=14.0).path for line in lines]
    assert text("[1]", size=21.0).path in document
    assert told(before, lambda piece: True) == (before, svg(before))


def test_a_pdf_says_what_it_cannot_show():
    plain, lacking = (draw(figure_of(name, "x")) for name in ("y", "漢"))
    assert content(lacking.pdf())[-1] == "Q"
    assert len(content(lacking.pdf())) > len(content(plain.pdf()))
    assert lacking.pdf() == lacking.pdf()


def test_no_font_of_this_machine_has_letters_for_private_use():
    assert not is_set(NOBODY)
    drawing = draw(figure_of("x", "y"))
    assert drawing.png(1.0) == drawing.png(1.0)


def figure_of(*names: str) -> Figure:
    return Figure(tuple(Node(name, rf"\mathrm{{{name}}}") for name in names))
