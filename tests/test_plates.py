"""Plates: nested and crossing, with time inside, sampled, scored and bounded."""

import math
from typing import Any

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

import daguerre as dg

ROW, COLUMN = dg.Plate("i"), dg.Plate("j")


class Schools(dg.Model):
    """Rubin (1981): effects of eight schools, drawn from one population."""

    school = dg.Plate("school", 8)
    sigma = school(dg.Input())

    @dg.rv
    def mu(self):
        return Normal(0.0, 5.0)

    @school
    @dg.rv
    def theta(self, mu):
        return Normal(mu, 2.0)

    @school
    @dg.rv
    def y(self, theta, sigma):
        return Normal(theta, sigma)


def rv(function: Any) -> Any:
    return dg.rv(function)


def standard() -> Any:
    return rv(lambda: Normal(0.0, 1.0))


def test_members_share_what_is_outside():
    p = Schools()
    v = p.sample(3, {"sigma": torch.full((3, 8), 10.0)})
    assert {k: tuple(x.shape) for k, x in v.items()} == {
        "sigma": (3, 8), "mu": (3,), "theta": (3, 8), "y": (3, 8),
    }  # fmt: skip
    want = Normal(0.0, 5.0).log_prob(v["mu"])
    want += Normal(v["mu"][:, None], 2.0).log_prob(v["theta"]).sum(1)
    want += Normal(v["theta"], 10.0).log_prob(v["y"]).sum(1)
    torch.testing.assert_close(p.log_prob(v), want)


def test_crossing_plates_meet_in_a_table():
    p = dg.model(
        a=ROW(standard()), b=COLUMN(standard()), x=ROW(COLUMN(rv(lambda a, b: Normal(a * b, 1.0))))
    )
    v = p.sample(2, i=3, j=5)
    assert v["x"].shape == (2, 3, 5)
    want = Normal(0.0, 1.0).log_prob(v["a"]).sum(1) + Normal(0.0, 1.0).log_prob(v["b"]).sum(1)
    want += Normal(v["a"][:, :, None] * v["b"][:, None], 1.0).log_prob(v["x"]).sum((1, 2))
    torch.testing.assert_close(p.log_prob(v), want)


def test_nested_plates_and_events():
    p = dg.model(
        top=rv(lambda: Normal(torch.zeros(2), 1.0)),
        mid=ROW(rv(lambda top: Normal(top, 1.0))),
        low=ROW(COLUMN(rv(lambda mid, top: Normal(mid + top, 1.0)))),
    )
    v = p.sample(4, i=3, j=5)
    assert v["low"].shape == (4, 3, 5, 2)
    mean = v["mid"][:, :, None] + v["top"][:, None, None]
    want = Normal(0.0, 1.0).log_prob(v["top"]).sum(1)
    want += Normal(v["top"][:, None], 1.0).log_prob(v["mid"]).sum((1, 2))
    want += Normal(mean, 1.0).log_prob(v["low"]).sum((1, 2, 3))
    torch.testing.assert_close(p.log_prob(v), want)


def test_time_is_inside_a_plate():
    time = dg.Plate("t")
    p = dg.model(
        s=ROW(standard()),
        z=ROW(
            time(
                rv(lambda s, last=dg.lag("z", init=Normal(0.0, 1.0)): Normal(0.5 * last + s, 1.0))
            )
        ),
    )
    v = p.sample(2, i=3, t=4)
    assert (v["s"].shape, v["z"].shape) == ((2, 3), (2, 3, 4))
    want = Normal(0.0, 1.0).log_prob(v["s"]).sum(1)
    want += Normal(0.0, 1.0).log_prob(v["z"][:, :, 0]).sum(1)
    mean = 0.5 * v["z"][:, :, :-1] + v["s"][:, :, None]
    want += Normal(mean, 1.0).log_prob(v["z"][:, :, 1:]).sum((1, 2))
    torch.testing.assert_close(p.log_prob(v), want)


def test_a_bound_with_the_exact_posterior_is_the_evidence_of_the_dense_gaussian():
    y = torch.tensor([0.5, -1.0, 2.0])
    p = dg.model(
        mu=rv(lambda: Normal(0.0, 1.0)),
        theta=ROW(rv(lambda mu: Normal(mu, 1.0))),
        y=ROW(rv(lambda theta: Normal(theta, 1.0))),
    )
    precision = 1 + len(y) / 2  # y_i | mu has variance 2
    mean = (y / 2).sum().item() / precision
    q = dg.model(
        y=ROW(dg.Input()),
        mu=rv(lambda: Normal(mean, precision**-0.5)),
        theta=ROW(rv(lambda mu, y: Normal((mu + y) / 2, math.sqrt(0.5)))),
    )
    cov = torch.ones(3, 3) + 2 * torch.eye(3)
    exact = MultivariateNormal(torch.zeros(3), cov).log_prob(y).item()
    torch.manual_seed(0)
    loss = dg.elbo(p, q).losses({"y": y.expand(200_000, 3)})["model"]
    assert -loss.item() == pytest.approx(exact, abs=0.01)
    many = dg.iwae(p, q, particles=3).losses({"y": y.expand(1000, 3)})["model"]
    assert -many.item() == pytest.approx(exact, abs=1e-4)  # all weights are equal


def test_maximum_likelihood_over_plates():
    p = dg.model(
        a=ROW(standard()), b=COLUMN(standard()), x=ROW(COLUMN(rv(lambda a, b: Normal(a * b, 1.0))))
    )
    v = p.sample(4, i=3, j=5)
    torch.testing.assert_close(
        dg.nll(p, observed=["a", "b", "x"]).losses(v)["model"], -p.log_prob(v).mean()
    )


def test_a_subclass_may_swap_the_law_of_a_member():
    class Wide(Schools):
        @Schools.school
        @dg.rv
        def theta(self, mu):
            return Normal(mu, 20.0)

    torch.manual_seed(0)
    spread = Wide().sample(500, {"sigma": torch.ones(500, 8)})["theta"].std(1).mean()
    assert spread > 15
    swapped = dg.replace(Schools(), theta=lambda mu: Normal(mu, 20.0))
    assert swapped.graph["theta"].plates == ("school",)


def test_a_plate_may_be_called_n():
    drawn = dg.model(a=dg.Plate("n")(standard())).sample(8, n=10)
    assert drawn["a"].shape[:2] == (8, 10)


def test_a_plan_without_data_calls_the_size_of_a_plate_an_example():
    p = dg.model(mu=Normal(0.0, 1.0), a=ROW(lambda mu: Normal(mu, 1.0)))
    assert "a variable per member: for example 2 of i" in str(dg.nll(p, observed=["a"]).explain())
    plan = dg.explain(p, "mu", given={"a": torch.zeros(1, 3)})
    assert "a variable per member: 3 of i" in str(plan)


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (
            lambda: dg.model(a=ROW(standard()), x=lambda a: Normal(a, 1.0)).sample(2, i=3),
            "x is outside the plate i of its parent a, .* reduce a first",
        ),
        (lambda: dg.model(a=ROW(standard())).sample(2), "size of the plate i is not known"),
        (lambda: dg.model(a=ROW(standard())).sample(2, i=3, k=2), "no plate 'k'"),
        (
            lambda: dg.model(a=standard()).sample(2, n=3),
            r"no plate 'n' to have a size; the number of draws comes first, sample\(8\)",
        ),
        (
            lambda: Schools().sample(2, {"sigma": torch.ones(2, 7)}),
            r"size of the plate school differs: 8 .*, 7 \(that of sigma\)",
        ),
        (lambda: dg.model(a=dg.Plate("i", 0)(standard())), "has the size 0; it is 1 or more"),
        (lambda: dg.model(a=dg.Plate("a b")(standard())), "is no identifier"),
        (
            lambda: dg.model(a=dg.Plate("i", 2)(standard()), b=dg.Plate("i", 3)(standard())),
            "the plate i has two sizes: 2 and 3",
        ),
        (
            lambda: dg.model(a=ROW(COLUMN(standard())), b=COLUMN(ROW(standard()))),
            "come in another order elsewhere",
        ),
    ],
)
def test_bad_input_is_one_clear_error(ask, text):
    with pytest.raises(dg.GraphError, match=text):
        ask()
