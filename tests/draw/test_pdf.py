"""PDF: structure by parsing it, looks by rendering it beside the PNG."""

import re
import zlib

import pytest
from figures import DECODER, DRAWN, figures
from hypothesis import given, settings
from pixels import read_png
from programs import rendered

from daguerre.draw import Drawing, draw, figure
from daguerre.draw.curves import Point
from daguerre.draw.outlines import read_path, rounded_box
from daguerre.draw.pdf import pdf
from daguerre.graph import Graph

SVG = '<svg xmlns="http://www.w3.org/2000/svg">{}</svg>'


def objects(data: bytes) -> dict[int, bytes]:
    """Read a PDF through its cross-reference table, as a reader does."""
    assert data.startswith(b"%PDF-1.4\n")
    assert data.endswith(b"%%EOF\n")
    start = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
    lines = data[start:].split(b"\n")
    first, count = map(int, lines[1].split())
    assert (lines[0], first) == (b"xref", 0)
    entries = lines[2 : 2 + count]
    assert all(len(entry) == 19 for entry in entries)  # 20 with its end of line
    assert f"/Size {count} ".encode() in data[start:]
    found = {}
    for number, entry in enumerate(entries[1:], 1):
        body = data[int(entry[:10]) :]
        assert body.startswith(b"%d 0 obj\n" % number)
        found[number] = body[: body.index(b"\nendobj\n")].split(b"\n", 1)[1]
    return found


def content(data: bytes) -> list[str]:
    """Unpack the operators of the page."""
    head, rest = objects(data)[4].split(b"\nstream\n", 1)
    packed = rest.removesuffix(b"\nendstream")
    assert b"/Length %d " % len(packed) in head
    return zlib.decompress(packed).decode("ascii").split("\n")


@pytest.mark.parametrize("name", DRAWN)
def test_a_pdf_can_be_read_and_is_the_same_twice(name):
    drawing = draw(DRAWN[name])
    data = drawing.pdf()
    assert data == draw(DRAWN[name]).pdf()
    box = re.search(rb"/MediaBox \[0 0 (\d+) (\d+)\]", objects(data)[3])
    assert box is not None
    sides = (drawing.sheet.width * 0.75, drawing.sheet.height * 0.75)
    assert [int(side) for side in box.groups()] == [pytest.approx(s, abs=1) for s in sides]
    lines = content(data)
    assert lines.count("q") == lines.count("Q") > len(DRAWN[name].nodes)
    assert b"Date" not in data
    strokes = [line for line in lines if line.endswith(" j")]
    assert sum("[6.5 4.5]" in line for line in strokes) == sum(
        arrow.inference for arrow in DRAWN[name].arrows
    )


@settings(max_examples=8, deadline=None)
@given(figures(5))
def test_any_figure_becomes_a_pdf_that_can_be_read(figure):
    assert content(draw(figure).pdf())[-1] == "Q"


def test_tints_are_transparent_and_the_title_is_text():
    net = Graph.from_edges([("x", "net.0"), ("net.0", "net.1")], deterministic=["net.0", "net.1"])
    data = draw(figure(net), titles=["Ein Netz (é) \\"]).pdf()
    page, information = objects(data)[3], objects(data)[5]
    assert b"/ca 0.07 /CA 0.5" in page
    assert any(line.endswith(" gs") for line in content(data))
    written = re.search(rb"/Title <FEFF([0-9A-F]+)>", information)
    assert written is not None
    assert bytes.fromhex(written[1].decode()).decode("utf-16-be").startswith("Ein Netz (é) \\: x")


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ("<text>x</text>", "the element text"),
        ('<path d="M0 0" filter="url(#a)"/>', "filter of a path"),
        ('<g transform="rotate(3)"/>', "the transform 'rotate"),
        ('<path d="M0 0" fill="red"/>', "the colour 'red'"),
        ('<path d="M0 0A1 1 0 0 0 2 2"/>', "cannot hold A with 7"),
        ('<path d="M0 0L1"/>', "cannot hold L with 1"),
        ('<path d="1 2"/>', "cannot hold '1' at 0"),
    ],
)
def test_what_it_cannot_draw_is_refused(element, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pdf(SVG.format(element), width=9, height=9)


def test_paths_become_absolute_lines_and_cubics():
    path = [*read_path("M1 1h2v-1l-1,.5q1 1 2 0C0 0 1 1 9 9Zm1 1")]
    assert [segment.command for segment in path] == [*"MLLLCCZM"]
    assert path[3].points == (Point(2.0, 0.5),)
    assert path[4].points[-1] == Point(4.0, 0.5)
    assert path[4].points[0] == pytest.approx(Point(2 + 2 / 3, 0.5 + 2 / 3))
    assert path[7].points == (Point(2.0, 2.0),)
    assert [*read_path("M0 0 1 1")] == [*read_path("M0 0L1 1")]


def test_a_box_that_is_all_corner_is_a_circle():
    circle = rounded_box(Point(-2, -2), 4, 4, 9)
    curves = [segment for segment in circle if segment.command == "C"]
    assert len(curves) == 4
    for segment in curves:
        assert segment.points[2].length == pytest.approx(2)


@pytest.mark.parametrize("name", ["vae", "gan", "mixed"])
def test_a_page_looks_like_the_png(name, tmp_path):
    drawing: Drawing = draw(DRAWN[name])
    (width, height), shades = rendered(drawing.save(tmp_path / "m.pdf"), dots=96)
    (across, down), pixels = read_png(drawing.png(1.0))
    assert (width, height) == (pytest.approx(across, abs=2), pytest.approx(down, abs=2))
    cell = 12
    for top in range(0, min(height, down) - cell, cell):
        for left in range(0, min(width, across) - cell, cell):
            one = mean(shades, width, left, top, cell)
            other = mean(pixels, across, left, top, cell)
            assert abs(one - other) < 40, (left, top)


def mean(pixels, width: int, left: int, top: int, side: int) -> float:
    rows = range(top, top + side)
    return sum(sum(pixels[r * width + left : r * width + left + side]) for r in rows) / side**2


def test_a_small_pdf_is_small():
    assert len(draw(DECODER).pdf()) < 2_500
