"""Names and titles that mean something to some format, in all of them."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import accepted_by_dot, accepted_by_mermaid, compiled
from test_pdf import content

from daguerre.draw import Drawing, draw, figure, mathml
from daguerre.draw.equations import factorisation
from daguerre.graph import Graph, Plate, Variable

HOSTILE = [
    *("</script>", "$", "_", "%", "&alpha;", "a b", '"', "'", "<!--", "]]>", "\\", "^", "{", "}"),
    *("变量", "😀", "\x00", "\ud800", "x" * 10_000, "\n", "~#|", "-", "é", "", "é", "שלום"),
    *(
        "\u202eabc",
        "👩‍👩‍👧",
        "a\u0327\u0301\u0302",
        "%%{init: {'theme':'dark'}}%%",
        "end",
        "`**x**`",
    ),
    *(
        '"]; click n1 "javascript:alert(1)"',
        "x\n  end\n  subgraph y",
        "1. x",
        "\\input{/etc/passwd}",
    ),
    *(
        "\\end{document}",
        "^^5cinput",
        '"; bad -> worse; "',
        "\\N\\G\\l",
        "<b>x</b>",
        "@{shape: x}",
    ),
    *("x;y", "subgraph", "strict digraph", "#35;", "&#60;script>", "{{", "\u2028", "\t", "\\\\"),
]


def hostile(name: str) -> Drawing:
    """Draw a name as that of a variable, of a plate and of the picture."""
    inner = [Variable("z_"), Variable(name, ("z_",), plates=(name,))]
    return draw(figure(Graph(inner, [Plate(name)]), title=name or "none"))


@pytest.mark.parametrize("name", HOSTILE)
def test_svg_png_and_pdf(name):
    drawing = hostile(name)
    root = ElementTree.fromstring(drawing.svg)
    names = [e.get("data-name") for e in root.iter() if "node" in e.get("class", "").split()]
    assert names == ["z_", "".join("\ufffd" if c in "\x00\ud800" else c for c in name)]
    assert "<script" not in drawing.svg
    assert "</script" not in drawing.svg
    assert drawing.sheet.width < 1_500
    assert drawing.png(1.0).startswith(b"\x89PNG")
    assert content(drawing.pdf())[-1] == "Q"


@pytest.mark.parametrize("name", HOSTILE)
def test_equations(name):
    graph = Graph([Variable("z_"), Variable(name, ("z_",), plates=(name,))], [Plate(name)])
    text = mathml(factorisation(graph))
    assert "<script" not in text
    ElementTree.fromstring(text)


def test_latex_compiles_and_reads_no_file(tmp_path):
    drawing = draw(*(hostile(name).figures[0] for name in HOSTILE))
    for style in ("own", "bayesnet"):
        text = drawing.tikz(style=style)
        assert text.isascii()
        assert "\\input" not in text
        assert text.count("\\end{document}") == 1
        compiled(text, tmp_path)


def test_graphviz_sees_two_nodes_and_one_arrow_each():
    texts = [hostile(name).dot for name in HOSTILE]
    assert max(map(len, texts)) < 4_000
    for name, lines in zip(HOSTILE, accepted_by_dot(*texts), strict=True):
        kinds = [line.split(" ", 1)[0] for line in lines]
        assert (kinds.count("node"), kinds.count("edge")) == (2, 1), name


def test_mermaid_sees_two_nodes_and_one_arrow_each():
    texts = [hostile(name).mermaid for name in HOSTILE]
    assert all("%%{" not in text and "click" not in text.split('"')[::2] for text in texts)
    for name, found in zip(HOSTILE, accepted_by_mermaid(*texts), strict=True):
        ids = [node[0] for node in found["nodes"]]
        assert sorted(ids) == ["b1", "b2", "n1", "n2"], name
        assert [edge[:2] for edge in found["edges"]] == [["n1", "n2"]]


@settings(max_examples=10, deadline=None)
@given(st.text(max_size=10))
def test_any_name_keeps_the_structure_of_every_text_format(name):
    drawing = hostile(name + "q")
    assert drawing.tikz().isascii()
    assert drawing.dot.count("\n") == hostile("x").dot.count("\n")
    assert drawing.mermaid.count("\n") == hostile("x").mermaid.count("\n")
    drawing.dot.encode()
    drawing.mermaid.encode()
