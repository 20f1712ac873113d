"""One small plot, curves over steps, as an SVG that needs no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["curves_svg", "smooth"]

WIDTH, HEIGHT, LEFT, BELOW, ABOVE = 520, 260, 56, 34, 26
COLOURS = ("#1a1a1a", "#2450d6", "#b3402a", "#2a7f4f")


def smooth(values: Sequence[float], points: int = 200) -> list[float]:
    """Average a long series in equal windows, to at most `points` values.

    Example:
        >>> smooth([1.0, 3.0, 5.0, 7.0], points=2)
        [2.0, 6.0]
    """
    window = max(1, -(-len(values) // points))
    chunks = (values[i : i + window] for i in range(0, len(values), window))
    return [sum(chunk) / len(chunk) for chunk in chunks]


def curves_svg(curves: Mapping[str, Sequence[float]], *, steps: int, unit: str) -> str:
    """Draw named series over the same range of steps.

    Args:
        curves: Values by name; each is spread evenly over the steps.
        steps: The number on the right of the horizontal axis.
        unit: What the vertical axis counts.

    Raises:
        ValueError: No finite value to draw.

    Example:
        >>> curves_svg({"model": [3.0, 2.0, 1.0]}, steps=3, unit="nats").count("<polyline")
        1
    """
    finite = [v for series in curves.values() for v in series if abs(v) < float("inf")]
    if not finite:
        raise ValueError("there is no finite value to draw")
    low, high = _range(finite)
    parts = [_axes(low, high, steps, unit)]
    for i, (name, series) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _points(series, low, high))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        x = LEFT + 90 * i
        parts.append(f'<text x="{x}" y="15" fill="{colour}">{escape(name)}</text>')
    style = 'font-family="sans-serif" font-size="12" stroke-width="1.4"'
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(parts)}</svg>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Leave out the first steps' outliers: from the least value to the 98th percentile."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[int(0.98 * (len(ordered) - 1))]
    return (low, high) if high > low else (low - 1, low + 1)


def _points(series: Sequence[float], low: float, high: float) -> list[tuple[float, float]]:
    across = (WIDTH - LEFT - 10) / max(1, len(series) - 1)
    tall = HEIGHT - BELOW - ABOVE
    return [
        (LEFT + i * across, ABOVE + tall * (1 - (min(max(v, low), high) - low) / (high - low)))
        for i, v in enumerate(series)
        if v == v
    ]


def _axes(low: float, high: float, steps: int, unit: str) -> str:
    bottom, right = HEIGHT - BELOW, WIDTH - 10
    lines = f"M{LEFT},{ABOVE}V{bottom}H{right}"
    return (
        f'<path d="{lines}" fill="none" stroke="#999"/>'
        f'<g fill="#555"><text x="{LEFT - 6}" y="{bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{LEFT - 6}" y="{ABOVE + 10}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 14}">0</text>'
        f'<text x="{right}" y="{HEIGHT - 14}" text-anchor="end">{steps} steps</text>'
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(unit)}'
        "</text></g>"
    )
