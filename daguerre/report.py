"""A page that shows models side by side: graphs, costs, losses, samples, scores. One HTML file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from daguerre.draw import draw
from daguerre.objectives.objective import Objective
from daguerre.plot import curves_svg, smooth
from daguerre.table import Table

__all__ = ["Panel", "page"]


@dataclass(frozen=True)
class Panel:
    """One model on the page.

    Attributes:
        name: Its title.
        objective: Its cost, which knows model and auxiliaries.
        losses: The loss of each player at every step.
        steps: The number of steps.
        images: PNGs of samples, by title.
    """

    name: str
    objective: Objective
    losses: Mapping[str, Sequence[float]]
    steps: int
    images: Mapping[str, bytes]


def page(panels: Sequence[Panel], table: Table, real: bytes) -> str:
    """Write the page; it asks for nothing from anywhere.

    Args:
        panels: The models, left to right.
        table: The scores.
        real: A PNG of real data, for comparison.
    """
    graphs = draw(*(p.objective for p in panels), titles=[p.name for p in panels]).svg
    curves = [curves_svg(_smooth(p), steps=p.steps, unit="loss") for p in panels]
    return _PAGE.format(
        graphs=graphs,
        ledgers=_side_by_side(panels, [_table(p.objective.explain()) for p in panels]),
        curves=_side_by_side(panels, curves),
        samples="".join(
            _image(f"{p.name}: {title}", png) for p in panels for title, png in p.images.items()
        ),
        real=_image("held-out digits", real),
        scores=_table(table),
    )


def _smooth(panel: Panel) -> dict[str, list[float]]:
    return {name: smooth(values) for name, values in panel.losses.items()}


def _side_by_side(panels: Sequence[Panel], contents: Sequence[str]) -> str:
    cells = zip(panels, contents, strict=True)
    return "".join(f"<div><h3>{escape(p.name)}</h3>{content}</div>" for p, content in cells)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _image(title: str, png: bytes) -> str:
    title, source = escape(title), f"data:image/png;base64,{b64encode(png).decode()}"
    return f'<div><h3>{title}</h3><img alt="{title}" src="{source}"></div>'


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>One graph, two costs</title>
<style>
body {{ font: 16px/1.5 Georgia, serif; color: #1a1a1a; max-width: 1120px; margin: 3rem auto;
        padding: 0 1.5rem; }}
h1 {{ font-weight: normal; font-size: 2.2rem; margin-bottom: .3rem; }}
h2 {{ font-weight: normal; font-size: 1.4rem; border-top: 1px solid #ddd; padding-top: 1.2rem;
      margin-top: 2.4rem; }}
h3 {{ font-weight: normal; font-size: 1rem; color: #666; margin: .4rem 0; }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr));
         gap: 1.6rem; }}
.pair svg, .pair img, .graphs svg {{ max-width: 100%; height: auto; vertical-align: middle; }}
.graphs {{ text-align: center; }}
img {{ image-rendering: pixelated; }}
table {{ border-collapse: collapse; font-size: .86rem; }}
th {{ text-align: left; font-weight: normal; color: #666; }}
td, th {{ padding: .3rem 1rem .3rem 0; border-bottom: 1px solid #eee; vertical-align: top; }}
</style>
<h1>One graph, two costs</h1>
<p>The model on the left and the model on the right are the same directed graph, z pointing to x,
around the same network. On the left x given z has a density, so the cost can be an ELBO; on the
right x is a deterministic function of z, so the cost is a divergence that a critic estimates from
samples. Encoder (dashed) and critic (blue) belong to the cost, not to the graph.</p>
<div class="graphs">{graphs}</div>
<h2>Scores on held-out digits</h2>
{scores}
<p>MMD² is unbiased and zero in the mean if samples and digits have one distribution; ± is its
standard deviation in that case. The classifier tells samples from held-out digits: 0.5 means it
cannot. Bounds are in nats of the density of pixels in [0, 1], ± their standard error; a model
without a density has none.</p>
<h2>Samples</h2>
<div class="pair">{samples}{real}</div>
<h2>How each term is estimated</h2>
<div class="pair">{ledgers}</div>
<h2>Losses</h2>
<div class="pair">{curves}</div>
</html>
"""
