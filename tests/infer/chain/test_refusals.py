"""What chains refuse, and what they say instead."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Exponential, Normal

import daguerre as dg
from chains import U, V, W, Weather, X, Y, coupled, walk


def test_memory_and_what_else_is_refused():
    with pytest.raises(dg.InadmissibleError, match="more than max_memory"):
        dg.posterior(Weather(), "z", given={"x": X}, max_memory=100)
    with pytest.raises(dg.InadmissibleError, match="soft evidence on x: chains take none"):
        dg.posterior(Weather(), "z", given={"y": Y}, soft={"x": torch.ones(5, 2)})
    with pytest.raises(dg.InadmissibleError, match="b would be summed out"):
        dg.most_probable(coupled(), "a", given={"u": U, "w": W, "v": V})
    with pytest.raises(dg.GraphError, match="u is an input, which has a value at every step"):
        dg.posterior(coupled(), "a", given={"u": U * math.nan, "w": W})
    with pytest.raises(dg.GraphError, match="u must be given"):
        dg.posterior(coupled(), "a", given={"w": W})
    with pytest.raises(dg.GraphError, match=r"event \[2\], but the CPD has the event \[1\]"):
        dg.posterior(walk(), "z", given={"x": torch.ones(1, 3, 2)})


GAUSS = Normal(0.0, 1.0)
ONES = torch.ones(1, 3)
ELEVEN = torch.zeros(11)


@pytest.mark.parametrize(
    ("model", "observed", "text"),
    [
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last.sin(), 1.0),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "not linear Gaussian in the hidden z: sin of a parent",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last, 1.0 + last),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "the scale depends on the parents",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=1.0): Exponential(last), x=lambda z: Normal(z, 1.0)
            ),
            {"x": ONES},
            "Exponential is not Gaussian",
        ),
        (
            dg.model(
                s=lambda last=dg.lag("s", init=0.0): Bernoulli(logits=last),
                z=lambda s, last=dg.lag("z", init=GAUSS): Normal(last + s, 1.0),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "s are finite and z are not",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last.clamp(max=1e9), 1.0),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "clamp of a parent is not affine",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last, 1.0),
                x=lambda z: Normal((z + 1e6).relu(), 1.0),
            ),
            {"x": ONES},
            r"x \(z -> x\), CPD at .*relu of a parent is not affine",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", 2, init=0.0): Bernoulli(logits=last),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": ONES},
            "the hidden z of 2 steps ago",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=ELEVEN): Bernoulli(logits=last),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": torch.ones(1, 3, 11)},
            "2048 states together",
        ),
        (
            dg.model(
                z=lambda past=dg.lag("x", init=0.0), last=dg.lag("z", init=0.0): Bernoulli(
                    logits=past + last
                ),
                x=lambda z: Normal(z, 1.0),
            ),
            {"x": torch.tensor([[1.0, math.nan, 2.0]])},
            r"x is hidden where it is missing \(NaN\)",
        ),
        (
            dg.model(
                z=lambda last=dg.lag("z", init=GAUSS): Normal(last, 1.0),
                x=dg.deterministic(lambda z: z),
            ),
            {"x": ONES},
            "x is observed and deterministic",
        ),
    ],
)
def test_what_is_not_exact_is_refused(model, observed, text):
    with pytest.raises(dg.InadmissibleError, match=text):
        dg.posterior(model, "z", given=observed, exact=True)


@pytest.mark.parametrize(
    ("targets", "observed", "text"),
    [
        ("z", {"x": torch.ones(3)}, r"\[B, T, \*event\]"),
        ("z", {}, "nothing is"),
        ("zz", {"x": X}, "did you mean 'z'"),
        ("x", {"x": X}, "x is a target and given"),
        ((), {"x": X}, "targets is empty"),
        ("z", {"xx": X}, "did you mean 'x'"),
        ("z", {"x": [["a"]]}, "its states have no names"),
        ("z", {"x": X, "y": Y[:, :4]}, "one B and T"),
        ("z", {"x": {}}, "or a list of names per sequence"),
        ("z", {"x": X, "y": torch.ones(2, 5, 1)}, r"event \[1\]"),
    ],
)
def test_wrong_questions_are_refused(targets, observed, text):
    with pytest.raises(dg.GraphError, match=text):
        dg.posterior(Weather(), targets, given=observed)


def _still() -> dg.Model:
    return dg.model(
        s=Normal(0.0, 1.0),
        z=dg.Plate("t")(
            dg.rv(lambda s, last=dg.lag("z", init=Normal(0.0, 1.0)): Normal(last + s, 1.0))
        ),
    )


def _ahead() -> dg.Model:
    return dg.model(z=lambda after=dg.lag("z", -1, init=Normal(0.0, 1.0)): Normal(after, 1.0))


@pytest.mark.parametrize(
    ("build", "given", "text"),
    [
        (_still, {"z": torch.zeros(1, 2)}, "s holds for all time, and it is neither known nor"),
        (_ahead, {}, r"z depends on z at t \+ 1"),
    ],
)
def test_what_is_no_plain_chain_is_refused(build, given, text):
    with pytest.raises(dg.InadmissibleError, match=text):
        dg.posterior(build(), "s" if given else "z", given=given)
