"""Long formulas break before signs, stay whole otherwise, and say the same."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.draw import draw, figure, with_caption
from daguerre.draw.breaking import broken
from daguerre.draw.formula import formula
from daguerre.draw.mathml import mathml
from daguerre.graph import Graph

TERMS = ("x", r"\log p_\theta(x - 1 \mid z)", r"\frac{a + b}{c - d}", r"\left(u\right)", r"\leq y")
NOTHING = re.compile(r"\\begin\{aligned\}|\\end\{aligned\}|\\left\.|\\right\.|\\quad|\\\\|&|\s")


@st.composite
def sums(draw) -> str:
    terms = draw(st.lists(st.sampled_from(TERMS), min_size=1, max_size=8))
    if len(terms) > 1 and draw(st.booleans()):
        i = draw(st.integers(0, len(terms) - 1))
        terms[i] = rf"\mathbb{{E}}_{{q}}\left[{terms[i]}"
        terms[-1] = rf"{terms[-1]}\right]"
    return "".join(t if i == 0 else draw(st.sampled_from((" + ", " - "))) + t
                   for i, t in enumerate(terms))  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(st.lists(sums(), min_size=1, max_size=3), st.sampled_from((60.0, 200.0, 2000.0)))
def test_a_broken_formula_says_the_same_on_lines_that_fit(lines, most):
    latex = r" \\ ".join(rf"& \min_\theta\; {line}" for line in lines)
    latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    found = broken(latex, most=most)
    assert NOTHING.sub("", found) == NOTHING.sub("", latex)
    assert found.count(r"\left") == found.count(r"\right")
    assert formula(found).height >= formula(latex).height - 0.01
    assert formula(found).width <= max(most, formula(latex).width) + 0.01
    assert mathml(found)
    if formula(latex).width <= most:
        assert found == latex


def test_signs_in_brackets_braces_and_indices_are_no_places_to_break():
    for whole in (r"\log(a + b - c)", r"x_{t - 1 + k}", r"\frac{a + b}{c}", r"\left(a\right)"):
        assert broken(whole, most=5) == whole


def test_what_is_aligned_by_itself_stays_as_it_is():
    matrix = r"\begin{matrix}a + b & c \\ d & e + f\end{matrix}"
    assert broken(matrix, most=10) == matrix
    assert broken(r"a + b \\ c", most=10) == r"a + b \\ c"


def test_the_words_before_an_alignment_stay_before_it():
    found = broken(r"\begin{aligned}\text{cost: } & a + b\end{aligned}", most=20)
    assert found == r"\begin{aligned}\text{cost: } & a \\ & \quad + b\end{aligned}"


def test_a_long_cost_makes_a_picture_taller_not_wider():
    vae = figure(Graph.from_edges([("z", "x")]))
    cost = " + ".join(rf"\log p_\theta(x_{{{i}}} \mid z)" for i in range(20))
    shown = draw(with_caption(vae, cost))
    assert shown.sheet.width < 800
    assert shown.figures[0].caption == cost
    assert r"\quad" in shown.tikz()


def test_a_bad_formula_is_still_refused():
    with pytest.raises(ValueError, match=r"unknown LaTeX command \\nonsense"):
        broken(r"a + \nonsense", most=5)
