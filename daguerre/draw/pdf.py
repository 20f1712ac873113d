"""SVG to PDF: one page of vector paths, no fonts, no dates.

It reads the SVG that this package writes (paths, rectangles, circles, moved groups), so a page
shows what the SVG shows; anything else is an error, never left out.

References:
    PDF 32000-1:2008, sections 7.5 (file structure), 8.4 and 8.5 (graphics state, paths).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from math import ceil
from xml.etree import ElementTree

from daguerre.draw.curves import Point
from daguerre.draw.markup import number
from daguerre.draw.outlines import Segment, read_path, rounded_box

__all__ = ["pdf"]

_POINTS = 0.75  # of 1/72 inch in a pixel of 1/96 inch
_SVG = "{http://www.w3.org/2000/svg}"
_SILENT = {"title", "desc"}
_LARGEST = 14_400  # points on a side that readers must accept
_TITLE = 200  # characters
_JOINS = {"miter": "0", "round": "1", "bevel": "2"}
_KNOWN = {
    *("class", "role", "d", "x", "y", "width", "height", "rx", "cx", "cy", "r", "transform"),
    *("fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray"),
    *("stroke-linejoin", "viewBox", "xmlns"),
}


def pdf(svg: str, *, width: float, height: float) -> bytes:
    """Write an SVG document of this package as a PDF document of one page.

    Args:
        svg: The document.
        width: Its width in pixels, each 3/4 of a point.
        height: Its height in pixels.

    Raises:
        ValueError: Something that this writer does not know how to draw.

    Example:
        >>> square = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0H8V8Z"/></svg>'
        >>> pdf(square, width=8, height=8)[:8]
        b'%PDF-1.4'
    """
    root = ElementTree.fromstring(svg)
    scale = _POINTS * min(1.0, _LARGEST / (_POINTS * max(width, height)))
    states = _States()
    lines = [_numbers(scale, 0, 0, -scale, 0, scale * height) + " cm"]
    lines += _painted(root, states)
    title = (root.findtext(f"{_SVG}title") or "")[:_TITLE]
    box = _numbers(0, 0, ceil(scale * width), ceil(scale * height))
    page = (
        f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents 4 0 R"
        f" /Resources << /ExtGState << {states} >> >> >>"
    )
    return _file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            page.encode(),
            _stream("\n".join(lines).encode()),
            f"<< /Title {_text(title)} /Producer (Daguerre) >>".encode(),
        ]
    )


class _States:
    """The named graphics states of a page: one for each pair of opacities."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, str], str] = {}

    def name(self, fill: str, stroke: str) -> str:
        return self.names.setdefault((fill, stroke), f"g{len(self.names)}")

    def __str__(self) -> str:
        return " ".join(
            f"/{name} << /ca {fill} /CA {stroke} >>" for (fill, stroke), name in self.names.items()
        )


def _painted(node: ElementTree.Element, states: _States) -> Iterator[str]:
    for child in node:
        tag = child.tag.removeprefix(_SVG)
        if tag in _SILENT:
            continue
        moved = child.get("transform")
        yield "q"
        if moved:
            x, y = _shift(moved)
            yield _numbers(1, 0, 0, 1, x, y) + " cm"
        if tag == "g":
            yield from _painted(child, states)
        else:
            yield from _paint(child, tag, states)
        yield "Q"


def _paint(node: ElementTree.Element, tag: str, states: _States) -> Iterator[str]:
    unknown = [k for k in node.attrib if k not in _KNOWN and not k.startswith("data-")]
    if unknown:
        raise ValueError(f"a PDF cannot show {', '.join(unknown)} of a {tag}; teach it to pdf.py")
    fill, stroke = node.get("fill", "#000000"), node.get("stroke", "none")
    opacity = (node.get("fill-opacity", "1"), node.get("stroke-opacity", "1"))
    if opacity != ("1", "1"):
        yield f"/{states.name(*opacity)} gs"
    if fill != "none":
        yield f"{_colour(fill)} rg"
    if stroke != "none":
        dashes = node.get("stroke-dasharray", "").replace(",", " ")
        join = _JOINS[node.get("stroke-linejoin", "miter")]
        yield f"{_colour(stroke)} RG {node.get('stroke-width', '1')} w [{dashes}] 0 d {join} j"
    yield " ".join(map(_operator, _segments(node, tag)))
    yield {(True, True): "B", (True, False): "f", (False, True): "S"}.get(
        (fill != "none", stroke != "none"), "n"
    )


def _segments(node: ElementTree.Element, tag: str) -> Iterable[Segment]:
    def side(key: str) -> float:
        return float(node.get(key, 0))

    if tag == "path":
        return read_path(node.get("d", ""))
    if tag == "circle":
        r = side("r")
        return rounded_box(Point(side("cx") - r, side("cy") - r), 2 * r, 2 * r, r)
    if tag == "rect":
        return rounded_box(Point(side("x"), side("y")), side("width"), side("height"), side("rx"))
    raise ValueError(f"a PDF cannot show the element {tag}; teach it to pdf.py")


def _operator(segment: Segment) -> str:
    places = [number(c) for point in segment.points for c in point]
    return " ".join([*places, {"M": "m", "L": "l", "C": "c", "Z": "h"}[segment.command]])


def _shift(transform: str) -> tuple[float, float]:
    name, _, rest = transform.partition("(")
    places = rest.rstrip(")").replace(",", " ").split()
    if name != "translate" or len(places) != 2:
        raise ValueError(f"a PDF cannot apply the transform {transform!r}; only translate(x y)")
    return float(places[0]), float(places[1])


def _colour(hexadecimal: str) -> str:
    digits = hexadecimal.removeprefix("#")
    if not hexadecimal.startswith("#") or len(digits) != 6:
        raise ValueError(f"a PDF cannot show the colour {hexadecimal!r}: write #rrggbb")
    return " ".join(f"{int(digits[i : i + 2], 16) / 255:.4g}" for i in (0, 2, 4))


def _numbers(*values: float) -> str:
    return " ".join(map(number, values))


def _text(words: str) -> str:
    """Write text as a hexadecimal string in UTF-16, in which nothing has a meaning."""
    return f"<FEFF{words.encode('utf-16-be', 'replace').hex().upper()}>"


def _stream(content: bytes) -> bytes:
    packed = zlib.compress(content, 9)
    head = f"<< /Length {len(packed)} /Filter /FlateDecode >>\nstream\n"
    return head.encode() + packed + b"\nendstream"


def _file(objects: Iterable[bytes]) -> bytes:
    """Join numbered objects, catalogue first and information last, with their cross-references."""
    body = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets: list[int] = []
    for i, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n" % i + content + b"\nendobj\n"
    size, start = len(offsets) + 1, len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for offset in offsets:
        body += b"%010d 00000 n \n" % offset
    body += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (size, size - 1)
    return bytes(body + b"startxref\n%d\n%%%%EOF\n" % start)
