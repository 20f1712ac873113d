"""EM over time against Baum and Welch by listing all paths, counts and least squares."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

import daguerre as dg

NAN = math.nan
EVEN, WALK = Categorical(torch.ones(2)), Normal(0.0, 1.0)


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def table(*shape: int) -> Tensor:
    return r(*shape).softmax(-1)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


class Tables(dg.Model):
    """z -> z', z -> x: three hidden and five seen states."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.move = dg.Tabular(table(3)), dg.Tabular(table(3, 3), "last")
        self.see = dg.Tabular(table(3, 5), "z")

    @dg.rv
    def z(self, last=dg.lag("z", init=lambda self: self.first())):
        return self.move(last)

    @dg.rv
    def x(self, z):
        return self.see(z)


class Levels(Tables):
    """Vectors for each of three hidden states, which regress on an input."""

    u = dg.Input(dtype=torch.float64)

    def __init__(self) -> None:
        super().__init__()
        self.see = dg.LinearGaussian(
            r(3, 2), 0.3 * r(3, 2).exp(), weights={"u": r(3, 2)}, given=["z"]
        )

    @dg.rv
    def x(self, z, u):  # type: ignore[override]
        return self.see(u, z)


def paths(p: Tables, x: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """All paths of a sequence `[paths, T]` and their posterior, `[paths]`."""
    z = torch.tensor([*itertools.product(range(3), repeat=len(x))])
    logs = p.first.probs.log()[z[:, 0]] + p.move.probs.log()[z[:, :-1], z[:, 1:]].sum(1)
    logs = logs + scores[torch.arange(len(x)), z].sum(1)
    return z, logs.softmax(0).detach()


def rising(values: Tensor) -> bool:
    return bool((values.diff() > -1e-9).all())


def relative(counts: Tensor) -> Tensor:
    return counts / counts.sum(-1, keepdim=True)


def test_a_step_on_tables_is_that_of_baum_and_welch():
    torch.manual_seed(0)
    p, x = Tables(), torch.randint(5, (3, 5))
    x[0, 2], x[1, 3:] = -1, -1
    first, move, see = (torch.zeros(s, dtype=torch.float64) for s in ((3,), (3, 3), (3, 5)))
    logs = []
    for row in x:
        row = row[: int((row >= 0).nonzero().max()) + 1]
        scores = torch.where(row[:, None] >= 0, p.see.probs.log().T[row], 0.0)
        for path, weight in zip(*paths(p, row, scores), strict=True):
            first[path[0]] += weight
            for a, b in itertools.pairwise(path.tolist()):
                move[a, b] += weight
            for a, b in zip(path.tolist(), row.tolist(), strict=True):
                if b >= 0:
                    see[a, b] += weight
        logs.append(dg.log_evidence(p, {"x": row[None]}).detach())
    found = dg.em(p, {"x": x}, steps=1)
    close(found.log_evidence[0], torch.cat(logs).mean())
    close(p.first.probs, relative(first))
    close(p.move.probs, relative(move))
    close(p.see.probs, relative(see))


def test_a_step_on_gaussians_is_a_weighted_regression():
    torch.manual_seed(0)
    p, x, u = Levels(), r(2, 4, 2), r(2, 4)
    x[1, 1] = NAN
    rows: list[list[Tensor]] = [[], [], []]
    weights: list[list[Tensor]] = [[], [], []]
    for sequence, given in zip(x, u, strict=True):
        law = p.see(given.repeat(3), torch.arange(3).repeat_interleave(4))
        scores = law.log_prob(sequence.repeat(3, 1)).sum(1).nan_to_num().reshape(3, 4).T
        for path, weight in zip(*paths(p, sequence, scores), strict=True):
            for t, z in enumerate(path.tolist()):
                if not sequence[t].isnan().any():
                    one = torch.ones(1, dtype=torch.float64)
                    rows[z].append(torch.cat([one, given[t : t + 1], sequence[t]]))
                    weights[z].append(weight)
    dg.em(p, {"x": x, "u": u}, steps=1)
    for z in range(3):
        both, w = torch.stack(rows[z]), torch.stack(weights[z])
        inside, out = both[:, :2], both[:, 2:]
        solved = torch.linalg.solve(
            inside.mT @ (w[:, None] * inside), inside.mT @ (w[:, None] * out)
        )
        rest = (w[:, None] * (out - inside @ solved).square()).sum(0) / w.sum()
        bias, slopes, scale = p.see.affine()
        close(bias[z], solved[0])
        close(slopes["u"][z].squeeze(-1), solved[1])
        close(scale[z].diagonal().square(), rest)


def test_known_paths_give_relative_counts_in_one_step():
    torch.manual_seed(0)
    p, z, x = Tables(), torch.randint(3, (20, 9)), torch.randint(5, (20, 9))
    found = dg.em(p, {"z": z, "x": x})
    assert len(found) <= 2
    close(p.first.probs, relative(z[:, 0].bincount(minlength=3).double()))
    moves = (3 * z[:, :-1] + z[:, 1:]).flatten().bincount(minlength=9).reshape(3, 3)
    close(p.move.probs, relative(moves.double()))
    close(
        p.see.probs, relative((5 * z + x).flatten().bincount(minlength=15).reshape(3, 5).double())
    )


def test_steps_where_a_hidden_state_is_known_count_as_it():
    torch.manual_seed(0)
    p, x = Tables(), torch.randint(5, (4, 6))
    z = torch.where(torch.rand(4, 6) < 0.5, torch.randint(3, (4, 6)), -1)
    z[0, 0] = 1
    found = dg.em(p, {"z": z, "x": x}, steps=5)
    assert rising(found.log_evidence)
    close(found.log_evidence[-1], dg.log_evidence(p, {"z": z, "x": x}).mean().detach())


KINDS: dict[str, Callable[[], tuple[dg.Model, dict[str, Tensor]]]] = {
    "tables": lambda: (Tables(), {"x": torch.randint(-1, 5, (6, 12))}),
    "levels": lambda: (Levels(), {"x": 2 * r(6, 12, 2), "u": r(6, 12)}),
    "two chains": lambda: (Two(), {"x": torch.randint(-1, 5, (6, 12))}),
    "autoregression": lambda: (Switching(), {"x": r(6, 12)}),
}


class Two(dg.Model):
    """Two hidden chains that move by one table, and both of which are seen in x."""

    def __init__(self) -> None:
        super().__init__()
        self.move, self.see = dg.Tabular(table(2, 2), "last"), dg.Tabular(table(2, 2, 5), "a", "b")

    @dg.rv
    def a(self, last=dg.lag("a", init=EVEN)):
        return self.move(last)

    @dg.rv
    def b(self, last=dg.lag("b", init=EVEN)):
        return self.move(last)

    @dg.rv
    def x(self, a, b):
        return self.see(a, b)


class Switching(dg.Model):
    """An autoregression of which the slope hangs on a hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.move = dg.Tabular(table(2, 2), "last")
        self.see = dg.LinearGaussian(r(2), r(2).exp(), weights={"last": r(2)}, given=["k"])

    @dg.rv
    def k(self, last=dg.lag("k", init=EVEN)):
        return self.move(last)

    @dg.rv
    def x(self, k, last=dg.lag("x", init=0.0)):
        return self.see(last, k)


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_lowers_the_likelihood_and_where_it_ends_the_gradient_is_zero(kind: str):
    torch.manual_seed(0)
    p, data = KINDS[kind]()
    loss = dg.nll(p, observed=["x"], partial=["x"])
    found = dg.em(p, data, steps=120, tolerance=1e-8)
    assert rising(found.log_evidence)
    assert len(found) > 2
    close(found.log_evidence[-1], dg.log_evidence(p, data).mean().detach())
    slopes = torch.autograd.grad(loss.losses(data)["model"], [*p.parameters()])
    assert max(slope.abs().max() for slope in slopes) < 2e-2


def test_pseudo_counts_and_what_is_fixed():
    torch.manual_seed(0)
    p, x = Tables(), torch.randint(5, (3, 4))
    p.move.requires_grad_(requires_grad=False)
    before = p.move.probs.clone()
    found = dg.em(p, {"x": x}, steps=4, prior=0.5)
    assert rising(found.objective)
    assert torch.equal(p.move.probs, before)
    assert (p.see.probs > 0.01).all()


class Loose(Tables):
    """A parameter in no such module."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    @dg.rv
    def x(self, z):
        return Normal(self.level[z], 1.0)


class Sharpened(Tables):
    """A table that is changed before it is returned."""

    @dg.rv
    def x(self, z):
        return Categorical(logits=2 * self.see(z).logits)


class Peeking(Tables):
    """A table that is read without a call."""

    @dg.rv
    def x(self, z):
        return Categorical(self.see.probs[z])


class Fed(Tables):
    """A regression on what is computed by another one."""

    def __init__(self) -> None:
        super().__init__()
        self.see = dg.LinearGaussian(r(1)[0], r(1)[0].exp(), weights={"m": r(1)[0]})

    @dg.deterministic
    def m(self, z):
        return self.first.probs[z] * z

    @dg.rv
    def x(self, m):  # type: ignore[override]
        return self.see(m)


def walk() -> dg.Model:
    return dg.model(
        z=lambda last=dg.lag("z", init=WALK): Normal(last, 1.0),
        x=dg.LinearGaussian(0.0, 1.0, weights={"z": 1.0}),
    )


def holed() -> Tensor:
    x = r(2, 4, 2)
    x[0, 1, 1] = NAN
    return x


REFUSED: dict[str, tuple[Callable[[], dg.Model], Callable[[], dict[str, Tensor]], str]] = {
    "a parameter": (Loose, lambda: {"x": r(2, 4)}, "Loose learns level.*dg.nll.* with dg.fit"),
    "a changed table": (
        Sharpened,
        lambda: {"x": torch.randint(5, (2, 4))},
        r"x \(z -> x\).*depends on see, without being what a call of it returns.*return"
        r" self.see\(...\) as it is, or use dg.nll",
    ),
    "a table without a call": (
        Peeking,
        lambda: {"x": torch.randint(5, (2, 4))},
        "depends on see, without being what a call of it returns",
    ),
    "computed parents": (Fed, lambda: {"x": r(2, 4)}, "depends on first, without being"),
    "a state space": (
        walk,
        lambda: {"x": r(2, 4)},
        "z is hidden and not finite, and over time EM sums out finite variables alone; use dg.nll",
    ),
    "holes below others": (
        Switching,
        lambda: {"x": holed()[:, :, 1]},
        "x is hidden where it is missing and not finite",
    ),
    "holes in vectors": (
        Levels,
        lambda: {"x": holed(), "u": r(2, 4)},
        "x is missing in part at some steps.*use dg.nll",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_em_cannot_do_over_time_is_refused(what: str):
    torch.manual_seed(0)
    build, data, message = REFUSED[what]
    p = build()
    before = [q.clone() for q in p.parameters()]
    with pytest.raises(dg.InadmissibleError, match=message):
        dg.em(p, data())
    for q, old in zip(p.parameters(), before, strict=True):
        assert torch.equal(q, old)
    assert not any(m._forward_hooks for m in p.modules())


def test_impossible_sequences_are_named():
    torch.manual_seed(0)
    p, x = Tables(), torch.zeros(3, 4, dtype=torch.long)
    probs = torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0]], dtype=torch.float64)
    p.see.become(probs.expand(3, 5))
    x[1, 2] = 4
    with pytest.raises(dg.GraphError, match="sequence 1 of the data has probability zero"):
        dg.em(p, {"x": x})
