"""Members of plates as rows, against the same members written out as variables."""

from typing import Any

import pytest
import torch
from em_parts import holes, r, table
from torch import Tensor
from torch.distributions import Normal

import daguerre as dg
from daguerre.infer import questions

OUTER, INNER, N = dg.Plate("outer"), dg.Plate("inner"), dg.Plate("n")


def close(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def nested() -> dg.Model:
    """Components and factors of members, below what groups and all of them have."""
    torch.manual_seed(0)
    return dg.model(
        w=dg.Tabular(table(2)),
        g=OUTER(dg.Tabular(table(2, 3), "w")),
        k=OUTER(INNER(dg.Tabular(table(3, 2), "g"))),
        z=OUTER(INNER(dg.LinearGaussian(torch.zeros(2).double(), torch.ones(2).double()))),
        x=OUTER(INNER(dg.LinearGaussian(r(2), r(2).exp(), weights={"z": r(2, 2)}, given=["k"]))),
    )


@pytest.fixture
def written_out(monkeypatch: pytest.MonkeyPatch) -> Any:
    def ask(question: Any) -> Any:
        with monkeypatch.context() as changed:
            changed.setattr(questions, "rows_of", lambda *_, **__: None)
            return question()

    return ask


X = r(2, 3, 4)
GIVEN: dict[str, dict[str, Tensor]] = {
    "all above is known": {"w": torch.tensor([0, 1]), "g": torch.tensor([[0, 1, 2], [2, 2, 0]])},
    "groups are hidden": {"w": torch.tensor([0, 1])},
    "some groups are hidden": {"w": torch.tensor([0, 1]), "g": torch.tensor([[0, 1, -1]] * 2)},
    "all is hidden": {},
}


@pytest.mark.parametrize("above", GIVEN)
def test_rows_answer_as_variables_do(above: str, written_out: Any):
    p = nested()
    given = {**GIVEN[above], "x": holes(X, 0.2)}
    targets = ["k", "z"] if "known" in above else ["k", "z", *{"w", "g"} - {*given}]
    found = dg.posterior(p, targets, given=given)
    want = written_out(lambda: dg.posterior(p, targets, given=given))
    close(found.log_evidence, want.log_evidence)
    for name in targets:
        assert found[name].batch_shape == want[name].batch_shape
        close(found[name].mean, want[name].mean)
        close(found[name].variance, want[name].variance)
    values = {name: draws[0] for name, draws in found.sample(1).items()}
    assert {n: v.shape for n, v in values.items()} == {
        n: v.shape[1:] for n, v in want.sample(1).items()
    }
    close(found.log_prob(values), want.log_prob(values))
    close(dg.log_evidence(p, given), want.log_evidence)


def test_most_probable_components(written_out: Any):
    p, given = nested(), {**GIVEN["all above is known"], "x": X}
    found = dg.most_probable(p, "k", given=given)
    want = written_out(lambda: dg.most_probable(p, "k", given=given))
    assert torch.equal(found.values["k"], want.values["k"])
    close(found.log_prob, want.log_prob)


def test_gradients_are_those_of_members_written_out(written_out: Any):
    p, given = nested(), {**GIVEN["all above is known"], "x": X}

    def slopes() -> tuple[Tensor, ...]:
        return torch.autograd.grad(dg.log_evidence(p, given).sum(), [*p.parameters()])

    for a, b in zip(slopes(), written_out(slopes), strict=True):
        close(a, b)


def test_a_plate_of_many_members_is_answered():
    flat = dg.model(
        k=dg.Tabular([0.3, 0.7]), x=dg.LinearGaussian([0.0, 2.0], [1.0, 0.5], given=["k"])
    )
    p = dg.model(**{n: N(cpd) for n, cpd in dict(flat.named_children()).items()})
    x = torch.randn(1, 9000)
    found, want = (dg.posterior(m, "k", given={"x": v}) for m, v in ((p, x), (flat, x[0])))
    torch.testing.assert_close(found.probs[0], want.probs)
    torch.testing.assert_close(found.log_evidence[0], want.log_evidence.sum())
    plan = dg.explain(p, "k", given={"x": x})
    assert (plan.parts[0].engine, plan.parts[-1].engine) == ("members as rows", "elimination")
    assert plan.parts[0].why == "9000 of n: they share nothing that is unknown"
    assert "for example 2 of n" in str(dg.explain(p, "k", given="x"))


def test_impossible_members_are_told():
    p = dg.model(k=N(dg.Tabular([1.0, 0.0])), x=N(dg.Tabular([[0.5, 0.5], [0.5, 0.5]], "k")))
    with pytest.raises(dg.GraphError, match="row 1 of the evidence has probability zero"):
        dg.posterior(p, "x", given={"k": torch.tensor([[0, 1, 0]])})


def test_what_no_exact_engine_takes_is_drawn_for_the_whole_data_set():
    p = dg.model(z=N(dg.StandardNormal()), x=N(dg.rv(lambda z: Normal(z.sin(), 1.0))))
    torch.manual_seed(0)
    found = dg.posterior(p, "z", given={"x": torch.zeros(1, 2)})
    assert not found.exact
    assert found.mean.shape == (1, 2)
