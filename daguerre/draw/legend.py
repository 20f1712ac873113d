"""The legend of a page: which of the notation's marks a figure uses, and what they say."""

from __future__ import annotations

from collections.abc import Iterator

from daguerre.draw.notation import Arrow, Figure

__all__ = ["legend"]

_LINE = '<path d="M1 7H33"/>'
_SHORT = '<path d="M1 7H23"/>'
_HEAD = '<path d="M23 2.4L34 7L23 11.6Z"/>'
_ARROWS = (  # flag, its value, class, word, what it says, sample
    ("inference", False, "arrow", "generative", "generates the child", _LINE),
    ("inference", True, "arrow inference", "inference", "infers the child", _LINE),
    ("deterministic", False, "arrow", "stochastic", "the child has a density", _SHORT + _HEAD),
    ("deterministic", True, "arrow deterministic", "deterministic", "the child is a function",
     _SHORT + _HEAD),
    ("adversarial", True, "arrow adversarial", "adversarial", "used with its reverse",
     _SHORT + _HEAD),
)  # fmt: skip
_CIRCLE = '<circle cx="17" cy="8" r="6.5"/>'
_NODES = (  # class, word, sample
    ("random", "latent", _CIRCLE),
    ("observed", "observed", _CIRCLE),
    ("deterministic", "deterministic", '<path d="M9 8L17 0.8L25 8L17 15.2Z"/>'),
    ("module", "module: a map", '<rect x="3" y="1.5" width="28" height="13" rx="2.5"/>'
     '<rect x="5.5" y="4" width="23" height="8" rx="1"/>'),
    ("critic", "told by the critic", '<circle cx="17" cy="8" r="5"/>'),
    ("constant", "input or constant", '<text x="17" y="13">θ</text>'),
)  # fmt: skip
_FRAMES = (
    ("plate", "plate: repeated", '<rect x="2" y="1" width="30" height="14" rx="4"/>'),
    ("scope", "module of a net", '<rect x="2" y="1" width="30" height="14" rx="2"/>'),
)


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


def _switches(arrows: tuple[Arrow, ...]) -> Iterator[str]:
    for flag, value, kind, word, says, sample in _ARROWS:
        if any(getattr(arrow, flag) == value for arrow in arrows):
            yield (
                f'<button type="button" class="switch" data-kind="{word}" aria-pressed="true">'
                f'{_sample(kind, sample)}<span class="word">{word}</span>'
                f'<span class="says">{says}</span></button>'
            )


def _marks(figure: Figure) -> Iterator[str]:
    kinds = {"observed", *(n.shape for n in figure.nodes if n.shape != "random" or not n.observed)}
    frames = {"scope" if frame.scope else "plate" for frame in figure.frames}
    for kind, word, sample in _NODES:
        if kind in kinds:
            name = f"node {kind}"
            yield f"<li>{_sample(name, sample)}{word}</li>"
    yield f'<li class="if-determined">{_sample("node determined", _CIRCLE)}determined</li>'
    for kind, word, sample in _FRAMES:
        if kind in frames:
            yield f"<li>{_sample(kind, sample)}{word}</li>"


def _sample(kind: str, shapes: str) -> str:
    return (
        '<svg class="sample" width="35" height="16" viewBox="0 0 35 16" aria-hidden="true">'
        f'<g class="{kind}">{shapes}</g></svg>'
    )
