"""The one entry: anything that has a figure becomes a Drawing, to be shown or saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from daguerre.draw import notation
from daguerre.draw.depths import collapsed
from daguerre.draw.dot import dot
from daguerre.draw.mermaid import mermaid
from daguerre.draw.notation import Figure
from daguerre.draw.page import page
from daguerre.draw.pdf import pdf
from daguerre.draw.png import fitting, is_set, png
from daguerre.draw.sheet import Sheet, sheet
from daguerre.draw.svg import svg
from daguerre.draw.tex import words
from daguerre.draw.tikz import Style, tikz
from daguerre.draw.unset import told
from daguerre.files import write_whole
from daguerre.graph import Graph

__all__ = ["Drawable", "Drawing", "draw"]


@runtime_checkable
class Drawable(Protocol):
    """Anything that can be drawn: it has a method `figure`, as models and objectives have."""

    def figure(self) -> Figure:
        """Return the picture of this object, before layout."""
        ...


@dataclass(frozen=True)
class Drawing:
    """One or more figures, laid out on one page.

    Notebooks show it; `save` writes it.

    Attributes:
        sheet: The placed panels, which every writer prints.

    Example:
        >>> drawing = draw(Graph.from_edges([("z", "x")], deterministic=["x"]))
        >>> drawing.svg.count("<circle"), drawing.png()[1:4]
        (1, b'PNG')
    """

    sheet: Sheet

    @cached_property
    def svg(self) -> str:
        """The drawing as an SVG document."""
        return svg(self.sheet)

    def png(self, scale: float = 2.0) -> bytes:
        """Return the drawing as a PNG image.

        Letters that STIX Two Math lacks are set in fonts of the machine. Where these lack them
        too, a number stands in their place, and a line under the picture says for what.

        Args:
            scale: Image pixels for one pixel of the drawing.

        Raises:
            ValueError: A scale that is not positive or makes the image too large.
        """
        sheet, document = told(self.sheet, is_set)
        return png(document, width=sheet.width, height=sheet.height, scale=scale)

    def pdf(self) -> bytes:
        """Return the drawing as a PDF page of vector paths, a pixel 3/4 of a point wide.

        It holds no fonts: for letters that STIX Two Math lacks stand numbers, told underneath.
        """
        sheet, document = told(self.sheet, lambda text: False)
        return pdf(document, width=sheet.width, height=sheet.height)

    def tikz(self, *, style: Style = "own", document: bool = True) -> str:
        r"""Return the drawing as TikZ, with labels that LaTeX sets.

        Args:
            style: `"own"` needs TikZ alone; `"bayesnet"` uses the library tikz-bayesnet.
            document: A document that compiles; else the picture and its styles, to be included.

        Raises:
            ValueError: Another style.
        """
        return tikz(self.sheet, style=style, document=document)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What is drawn, from left to right, before layout."""
        return tuple(panel.figure for panel in self.sheet.panels)

    @cached_property
    def dot(self) -> str:
        """The structure in the language of Graphviz; what it cannot say is in a comment."""
        return dot(self.figures)

    @cached_property
    def mermaid(self) -> str:
        """The structure as a Mermaid flowchart; what it cannot say is in a comment."""
        return mermaid(self.figures)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drawing; the suffix says how. An old file stays whole until the new one is.

        A PNG has two pixels for one of the drawing, fewer where it would be too large.

        Args:
            path: A name that ends in `.svg`, `.png`, `.pdf`, `.html`, `.tex`, `.dot` or `.mmd`.

        Returns:
            The path.

        Raises:
            ValueError: Another suffix.
            OSError: The folder is missing or cannot be written to.
        """
        path = Path(path)
        write = _WRITERS.get(path.suffix.lower())
        if write is None:
            raise ValueError(
                f"cannot save a drawing as {path.name!r}: the suffix {path.suffix!r} is none of "
                f"{', '.join(_WRITERS)}"
            )
        content = write(self)
        return write_whole(path, content.encode() if isinstance(content, str) else content)

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        titles = "; ".join(figure.title or "a graphical model" for figure in self.figures)
        bundle = {  # some notebooks show LaTeX rather than an image, and HTML rather than both
            "text/html": self.svg,
            "image/svg+xml": self.svg,
            "text/latex": self._latex(f"Drawing of {titles}: it needs the package tikz"),
            "text/plain": f"Drawing of {titles}",
        }
        return {
            kind: data
            for kind, data in bundle.items()
            if (not include or kind in include) and kind not in (exclude or ())
        }

    def _latex(self, instead: str) -> str:
        """Return TikZ that a document without the package can hold as well."""
        picture = self.tikz(document=False)
        return f"\\ifdefined\\tikzset\n{picture}\\else\n\\emph{{{words(instead)}}}\n\\fi\n"


_WRITERS: dict[str, Callable[[Drawing], str | bytes]] = {
    ".svg": lambda drawing: drawing.svg,
    ".png": lambda drawing: drawing.png(fitting(drawing.sheet.width, drawing.sheet.height)),
    ".pdf": Drawing.pdf,
    ".html": lambda drawing: page(drawing.sheet),
    ".tex": Drawing.tikz,
    ".dot": lambda drawing: drawing.dot,
    ".mmd": lambda drawing: drawing.mermaid,
}


def draw(
    *things: Graph | Figure | Drawable, titles: Sequence[str] = (), depth: int | None = None
) -> Drawing:
    """Draw graphs, figures, models or objectives, side by side.

    Args:
        things: What to draw, from left to right.
        titles: Plain text above each; one for each thing, or none at all.
        depth: How many levels of the modules of nets to look into, from 1; by default all.

    Raises:
        GraphError: An empty graph.
        TypeError: Something that has no figure.
        ValueError: Nothing to draw, titles for another number of things, or a depth below 1.

    Example:
        >>> vae = Graph.from_edges([("z", "x")])
        >>> gan = Graph.from_edges([("z", "x")], deterministic=["x"])
        >>> len(draw(vae, gan, titles=["VAE", "GAN"]).sheet.panels)
        2
    """
    if not things:
        raise ValueError("nothing to draw: give draw at least one graph, model or objective")
    if titles and len(titles) != len(things):
        raise ValueError(f"draw got {len(titles)} titles for {len(things)} things")
    figures = [_figure(thing) for thing in things]
    if depth is not None:
        figures = [collapsed(f, depth) for f in figures]
    if titles:
        figures = [replace(f, title=t) for f, t in zip(figures, titles, strict=True)]
    return Drawing(sheet(figures))


def _figure(thing: Graph | Figure | Drawable) -> Figure:
    if isinstance(thing, Figure):
        return thing
    if isinstance(thing, Graph):
        return notation.figure(thing)
    if isinstance(thing, Drawable):
        return thing.figure()
    raise TypeError(
        f"cannot draw a {type(thing).__name__}: expected a Graph, a Figure, or an object "
        "with a method figure(), such as a model or an objective"
    )
