"""Formulas for browsers, and as values."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daguerre.draw import Equation, equation, label, mathml

NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
CORE = {
    *("math", "mrow", "mi", "mo", "mn", "mtext", "mspace", "msub", "msup", "msubsup", "mover"),
    *("munder", "munderover", "mfrac", "mtable", "mtr", "mtd", "mstyle", "msqrt", "mroot"),
}


def tags(latex: str, tag: str, *, block: bool = False) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(mathml(latex, block=block)).iter(NAMESPACE + tag))


def words(latex: str, tag: str) -> list[str]:
    return [node.text or "" for node in tags(latex, tag)]


def test_a_formula_is_one_element_of_mathml_core():
    root = ElementTree.fromstring(mathml(r"\mathbb{E}_{q}\left[\log p_\theta(x \mid z)\right]"))
    assert root.tag == f"{NAMESPACE}math"
    assert {node.tag.removeprefix(NAMESPACE) for node in root.iter()} <= CORE
    assert "".join(root.itertext()) == "𝔼q[logpθ(x∣z)]"


def test_bold_letters_are_letters_of_their_own():
    assert words(r"\boldsymbol{z} \boldsymbol{\theta} \mathbf{x}", "mi") == ["𝒛", "𝜽", "𝐱"]
    assert not any(node.get("mathvariant") for node in tags(r"\boldsymbol{z}", "mi"))


def test_words_are_one_identifier_and_a_single_letter_is_upright():
    assert words(r"\mathrm{hidden}_{\mathrm{state}}", "mi") == ["hidden", "state"]
    d, x = tags(r"\mathrm{d}x", "mi")
    assert (d.text, d.get("mathvariant")) == ("d", "normal")
    assert (x.text, x.get("mathvariant")) == ("x", None)


def test_relations_are_operators():
    assert words(r"x \sim p", "mo") == ["∼"]
    assert words(r"x \perp y", "mo") == ["⟂"]


def test_the_sign_of_independence_closes_up():
    left, right = tags(r"x \perp\!\!\!\perp y", "mo")
    assert (left.get("rspace"), right.get("lspace")) == ("0", "0")
    widths = [node.get("width") for node in tags(r"x \perp\!\!\!\perp y", "mspace")]
    assert widths == ["-0.167em"] * 3


def test_aligned_lines_become_a_table_without_marks():
    latex = r"\begin{aligned} a &= b \\ &= c \end{aligned}"
    assert len(tags(latex, "mtr")) == 2
    styles = [(node.get("style") or "").split(";")[0] for node in tags(latex, "mtd")]
    assert styles == ["text-align:right", "text-align:left"] * 2
    assert "&" not in "".join(ElementTree.fromstring(mathml(latex)).itertext())


def test_a_function_stands_apart_from_its_argument():
    assert len(tags(r"\log p_\theta(x)", "mspace")) == 1
    assert len(tags(r"\log (x)", "mspace")) == len(tags(r"\mathrm{logp}", "mspace")) == 0


def test_limits_stand_below_on_a_line_of_its_own():
    latex = r"\min_{\theta} \prod_{n=1}^{N} x_n"
    assert (
        len(tags(latex, "munder", block=True)) == len(tags(latex, "munderover", block=True)) == 1
    )
    assert len(tags(latex, "munder")) == len(tags(latex, "munderover")) == 0


@pytest.mark.parametrize("name", ["</math><script>", "a&lt;b", "&#x0003C;b>", "\ud800", "\x00q"])
def test_hostile_names_stay_text(name):
    text = mathml(label(name))
    assert "<script" not in text
    shown = "".join(ElementTree.fromstring(text).itertext())
    assert shown == (name if name.isprintable() else name.translate({0xD800: 0xFFFD, 0: 0xFFFD}))


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=12))
def test_any_name_makes_valid_mathml(name):
    ElementTree.fromstring(mathml(label(name + "q")))


@pytest.mark.parametrize("latex", [r"\foo x", "{x", "a % b", " "])
def test_what_cannot_be_set_is_refused(latex):
    with pytest.raises(ValueError, match=r"formula|LaTeX"):
        mathml(latex)
    with pytest.raises(ValueError, match=r"formula|LaTeX"):
        equation(latex)


def test_an_equation_shows_itself():
    found = equation(r"p(z)\,p_\theta(x \mid z)")
    assert found == Equation(str(found))
    assert hash(found) == hash(Equation(found.latex))
    assert found._repr_latex_() == r"$\displaystyle p(z)\,p_\theta(x \mid z)$"
    assert found._repr_html_() == found.mathml
    assert 'display="block"' in found.mathml
    assert ElementTree.fromstring(found.svg).tag.endswith("svg")
