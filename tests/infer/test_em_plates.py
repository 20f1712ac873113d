"""EM over plates: the same as EM on members written out flat, as rows or as variables."""

import copy
from typing import Any

import pytest
import torch
from em_parts import NAN, holes, r, rising, table
from torch import Tensor

import daguerre as dg

N, M, SERIES = dg.Plate("n"), dg.Plate("m"), dg.Plate("series")


def close(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def agree(a: dg.Model, b: dg.Model) -> None:
    """Compare the tables and linear Gaussians of two models, in the order of declaration."""
    some, others = ([m for m in p.modules() if hasattr(m, "parents")] for p in (a, b))
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        for x, y in zip(one.parameters(), other.parameters(), strict=True):
            x, y = (x.softmax(-1), y.softmax(-1)) if hasattr(one, "probs") else (x, y)
            close(x.detach(), y.detach())


def modules(p: dg.Model) -> dict[str, Any]:
    return dict(p.named_modules())


def mixture() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "k": dg.Tabular(table(3)),
        "z": dg.LinearGaussian(torch.zeros(2).double(), torch.ones(2).double()),
        "x": dg.LinearGaussian(r(3, 2), r(3, 2).exp(), weights={"z": r(3, 2, 2)}, given=["k"]),
    }


def test_members_that_share_nothing_are_rows():
    cpds = mixture()
    flat = dg.model(**cpds)
    plated = dg.model(**{n: M(N(copy.deepcopy(cpd))) for n, cpd in cpds.items()})
    x = holes(2 * r(2, 3, 6, 2), 0.2)
    one = dg.em(plated, {"x": x}, steps=3)
    other = dg.em(flat, {"x": x.flatten(0, 2)}, steps=3)
    close(one.log_evidence / 18, other.log_evidence)
    agree(plated, flat)


def test_a_plate_of_many_members_is_a_data_set():
    cpds = mixture()
    plated = dg.model(**{n: N(cpd) for n, cpd in cpds.items()})
    found = dg.em(plated, {"x": r(1, 9000, 2)}, steps=2)  # more than would be written out
    assert rising(found.log_evidence)


def test_members_below_something_hidden_count_all_together():
    torch.manual_seed(0)
    top, low = dg.Tabular(table(2)), dg.LinearGaussian(r(2), r(2).exp(), given=["c"])
    plated = dg.model(c=copy.deepcopy(top), x=N(copy.deepcopy(low)))
    flat = dg.model(c=top, x0=low, x1=low, x2=low)
    x = holes(r(12, 3), 0.2)
    one = dg.em(plated, {"x": x}, steps=4)
    other = dg.em(flat, {f"x{i}": x[:, i] for i in range(3)}, steps=4)
    close(one.log_evidence, other.log_evidence)
    agree(plated, flat)


def test_what_is_known_outside_a_plate_learns_too_and_counts_once():
    torch.manual_seed(0)
    w, k = dg.Tabular(table(2)), dg.Tabular(table(2, 3), "w")
    x = dg.Tabular(table(3, 5), "k")
    plated = dg.model(w=copy.deepcopy(w), k=N(copy.deepcopy(k)), x=N(copy.deepcopy(x)))
    seen, known = torch.randint(5, (8, 4)), torch.tensor([0, 1, 1, 1, 0, 1, 1, 1])
    found = dg.em(plated, {"x": seen, "w": known}, steps=3)
    close(modules(plated)["w"].probs.detach(), torch.tensor([0.25, 0.75]).double())
    flat = dg.model(w=dg.Tabular([0.5, 0.5], learned=False), k=k, x=x)
    rows = {"x": seen.flatten(), "w": known.repeat_interleave(4)}
    dg.em(flat, rows, steps=3)
    for name, cpd in {"k": k, "x": x}.items():
        close(modules(plated)[name].probs.detach(), cpd.probs.detach())
    close(found.log_evidence[-1], dg.log_evidence(plated, {"x": seen, "w": known}).mean().detach())


class Chain(dg.Model):
    """Hidden chains, which hang on a season and on a ward that all of them share."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.move = dg.Tabular(table(3)), dg.Tabular(table(2, 3, 3), "w", "last")
        self.see = dg.LinearGaussian(r(3), r(3).exp(), given=["z"])
        self.ward, self.turn = dg.Tabular(table(2)), dg.Tabular(table(2, 4), "w")

    @dg.rv
    def w(self):
        return self.ward()

    @dg.Plate("t")
    @dg.rv
    def season(self, w):
        return self.turn(w)

    @SERIES
    @dg.Plate("t")
    @dg.rv
    def z(self, w, last=dg.lag("z", init=lambda self: self.first())):
        return self.move(w, last)

    @SERIES
    @dg.Plate("t")
    @dg.rv
    def x(self, z):
        return self.see(z)


class Flat(Chain):
    """The same, a sequence a row."""

    w = dg.Input(dtype=torch.int64)  # type: ignore[assignment]

    @dg.rv
    def season(self, w):
        return self.turn(w)

    @dg.rv
    def z(self, w, last=dg.lag("z", init=lambda self: self.first())):  # type: ignore[override]
        return self.move(w, last)

    @dg.rv
    def x(self, z):  # type: ignore[override]
        return self.see(z)


def test_chains_of_a_plate_are_sequences():
    p, flat = Chain(), Flat()
    x, w, season = r(6, 4, 7), torch.tensor([0, 1, 1, 1, 1, 1]), torch.randint(4, (6, 7))
    x[0, 1, 5:], x[2, 2, 3] = NAN, NAN
    given = {"x": x, "w": w, "season": season}
    before = dg.log_evidence(p, given).mean().detach()
    found = dg.em(p, given, steps=3)
    close(found.log_evidence[0], before)
    close(found.log_evidence[-1], dg.log_evidence(p, given).mean().detach())
    rows = {"x": x.flatten(0, 1), "w": w[:, None, None].expand(6, 4, 7).flatten(0, 1)}
    for cpd in (flat.ward, flat.turn):
        cpd.requires_grad_(requires_grad=False)
    dg.em(flat, rows, steps=3)
    for one, other in ((p.first, flat.first), (p.move, flat.move)):
        close(one.probs.detach(), other.probs.detach())
    close(p.see.bias.detach(), flat.see.bias.detach())
    close(p.ward.probs.detach(), torch.tensor([1 / 6, 5 / 6], dtype=torch.float64))
    counts = torch.zeros(2, 4).double()
    counts.index_put_(
        (w[:, None].expand(6, 7), season), torch.ones(6, 7).double(), accumulate=True
    )
    close(p.turn.probs.detach(), counts / counts.sum(1, keepdim=True))


class Under(dg.Model):
    """Sensors of one hidden chain: variables of it that learn together."""

    def __init__(self, plated: bool) -> None:  # noqa: FBT001 - two models
        super().__init__()
        torch.manual_seed(0)
        self.first, self.move = dg.Tabular(table(2)), dg.Tabular(table(2, 2), "last")
        self.see, self.plated = dg.Tabular(table(2, 3), "z"), plated

    @dg.rv
    def z(self, last=dg.lag("z", init=lambda self: self.first())):
        return self.move(last)


class Sensors(Under):
    @N
    @dg.rv
    def x(self, z):
        return self.see(z)


class Two(Under):
    @dg.rv
    def x0(self, z):
        return self.see(z)

    @dg.rv
    def x1(self, z):
        return self.see(z)


def test_members_of_one_chain_count_all_together():
    p, flat = Sensors(plated=True), Two(plated=False)
    x = holes(torch.randint(3, (5, 2, 6)), 0.2)
    one = dg.em(p, {"x": x}, steps=3)
    other = dg.em(flat, {"x0": x[:, 0], "x1": x[:, 1]}, steps=3)
    close(one.log_evidence, other.log_evidence)
    agree(p, flat)


def test_a_wrong_plate_is_one_clear_error():
    plated = dg.model(y=N(dg.LinearGaussian(0.0, 1.0)), x=M(dg.LinearGaussian(0.0, 1.0)))
    with pytest.raises(dg.GraphError, match="the size of the plate m is not known"):
        dg.em(plated, {"y": Tensor([[1.0]])})
