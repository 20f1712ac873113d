"""Curves of losses as SVG."""

from xml.etree import ElementTree

import pytest

from daguerre.plot import curves_svg, smooth


def test_curves_stay_inside_the_picture_whatever_they_do():
    series = [1e9, float("nan"), 3.0, float("inf"), -2.0, 1.0]
    root = ElementTree.fromstring(curves_svg({"a<b": series, "flat": [1.0]}, steps=6, unit="&"))
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 2
    points = [tuple(map(float, p.split(","))) for p in lines[0].attrib["points"].split()]
    assert len(points) == 5  # NaN has no place
    assert all(0 <= x <= 520 and 0 <= y <= 260 for x, y in points)


def test_a_plot_of_nothing_finite_is_refused():
    with pytest.raises(ValueError, match="no finite value"):
        curves_svg({"model": [float("nan")]}, steps=1, unit="nats")


def test_smoothing_keeps_the_mean_of_equal_windows():
    values = [float(i) for i in range(1000)]
    assert smooth(values) == [sum(values[i : i + 5]) / 5 for i in range(0, 1000, 5)]
    assert smooth([]) == []
