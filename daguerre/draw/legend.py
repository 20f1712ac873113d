"""The legend of a page: which of the notation's marks a figure uses, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from daguerre.draw.notation import Arrow, Figure

__all__ = ["legend"]


class _Kind(NamedTuple):
    """One value of a flag: the word for it, what it says, and how it looks."""

    flag: str
    word: str
    says: str
    sample: str
    value: bool


_LINE = '<path d="M1 7H33"/>'
_ARROW = '<path d="M1 7H23"/><path d="M23 2.4L34 7L23 11.6Z"/>'
_CIRCLE = '<circle cx="17" cy="8" r="6.5"/>'
_KINDS = (
    _Kind("inference", "generative", "generates the child", _LINE, value=False),
    _Kind("inference", "inference", "infers the child", _LINE, value=True),
    _Kind("deterministic", "stochastic", "the child has a density", _ARROW, value=False),
    _Kind("deterministic", "deterministic", "the child is a function", _ARROW, value=True),
    _Kind("adversarial", "adversarial", "used with its reverse", _ARROW, value=True),
)
_SAMPLES = {
    "random": _CIRCLE,
    "observed": _CIRCLE,
    "deterministic": '<path d="M9 8L17 0.8L25 8L17 15.2Z"/>',
    "module": '<rect x="3" y="1.5" width="28" height="13" rx="2.5"/>'
    '<rect x="5.5" y="4" width="23" height="8" rx="1"/>',
    "critic": '<circle cx="17" cy="8" r="5"/>',
    "constant": '<text x="17" y="13">θ</text>',
    "determined": _CIRCLE,
    "plate": '<rect x="2" y="1" width="30" height="14" rx="4"/>',
    "scope": '<rect x="2" y="1" width="30" height="14" rx="2"/>',
}
_WORDS = {
    "random": "latent",
    "observed": "observed",
    "deterministic": "deterministic",
    "module": "deterministic, named by a word",
    "critic": "told by the critic",
    "constant": "input or constant",
    "determined": "determined by what is observed",
    "plate": "plate: repeated",
    "scope": "module: click its name",
}


def legend(figure: Figure) -> str:
    """Write the legend of the marks that occur; each kind of arrow is a switch that hides it.

    Args:
        figure: The picture.

    Example:
        >>> from daguerre.draw.notation import figure
        >>> from daguerre.graph import Graph
        >>> html = legend(figure(Graph.from_edges([("z", "x")])))
        >>> "stochastic" in html, "inference" in html
        (True, False)
    """
    switches, marks = "".join(_switches(figure.arrows)), "".join(_marks(figure))
    return f'<div class="switches" role="group" aria-label="Arrows shown">{switches}</div>' + (
        f'<ul class="marks">{marks}</ul>'
    )


def _switches(arrows: Sequence[Arrow]) -> Iterator[str]:
    for kind in _KINDS:
        if any(getattr(arrow, kind.flag) == kind.value for arrow in arrows):
            mark = f"arrow {kind.flag}" if kind.value else "arrow"
            yield (
                f'<button type="button" class="switch" data-kind="{kind.word}" '
                f'aria-pressed="true">{_sample(mark, kind.sample)}'
                f'<span class="word">{kind.word}</span><span class="says">{kind.says}</span>'
                "</button>"
            )


def _marks(figure: Figure) -> Iterator[str]:
    """Explain what occurs, and what a reader's clicks may bring."""
    shapes = {n.shape for n in figure.nodes if n.shape != "random" or not n.observed}
    frames = {"scope" if frame.scope else "plate" for frame in figure.frames}
    for name, word in _WORDS.items():
        if name in ("observed", "determined") or name in shapes | frames:
            mark = name if name in ("plate", "scope") else f"node {name}"
            yield f'<li class="if-{name}">{_sample(mark, _SAMPLES[name])}{word}</li>'


def _sample(mark: str, shapes: str) -> str:
    return (
        '<svg class="sample" width="35" height="16" viewBox="0 0 35 16" aria-hidden="true">'
        f'<g class="{mark}">{shapes}</g></svg>'
    )
