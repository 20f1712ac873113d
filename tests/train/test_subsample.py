"""Batches of the members of a plate: unbiased, checked, and enough to learn from."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

import daguerre as dg
from daguerre.objectives import cross_entropy, rates, subsampled
from daguerre.train.batches import Batches, read_members

F64 = torch.float64
ROW, COLUMN, N = dg.Plate("i"), dg.Plate("j"), dg.Plate("n")


class Regression(dg.Model):
    """Weights that all members of n share."""

    n = N
    x = N(dg.Input(2, dtype=F64))

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.3, dtype=F64))

    @dg.rv
    def w(self):
        return Normal(torch.zeros(2, dtype=F64), 1.0)

    @N
    @dg.rv
    def y(self, w: Tensor, x: Tensor):
        return Normal((w * x).sum(1) + self.bias, 0.5)


class MeanField(dg.Model):
    """A Gaussian of independent weights."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([0.5, -0.2], dtype=F64))
        self.log_scale = nn.Parameter(torch.tensor([-1.0, -0.5], dtype=F64))

    @dg.rv
    def w(self):
        return Normal(self.mean, self.log_scale.exp())


class Switch(dg.Model):
    """A state that all members share, and a number that each has for itself."""

    n = N

    def __init__(self):
        super().__init__()
        self.means = nn.Parameter(torch.tensor([-1.0, 0.5, 2.0], dtype=F64))

    @dg.rv
    def k(self):
        return Categorical(torch.tensor([0.2, 0.3, 0.5], dtype=F64))

    @N
    @dg.rv
    def z(self, k: Tensor):
        return Normal(self.means[k], 1.0)

    @N
    @dg.rv
    def y(self, z: Tensor):
        return Normal(z, 0.7)


class Guess(dg.Model):
    """States with probabilities, and a law of each number given the state and what is seen."""

    n = N
    y = N(dg.Input(dtype=F64))

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.1, 0.0, -0.3], dtype=F64))
        self.shift = nn.Parameter(torch.tensor([-0.5, 0.0, 0.5], dtype=F64))

    @dg.rv
    def k(self):
        return Categorical(logits=self.logits)

    @N
    @dg.rv
    def z(self, k: Tensor, y: Tensor):
        return Normal(0.5 * y + self.shift[k], 0.6)


def table() -> dg.Model:
    """A table with an effect of each row and each column, and its overall mean."""
    return dg.model(
        mean=Normal(torch.tensor(0.0, dtype=F64), 1.0),
        a=ROW(dg.rv(lambda mean: Normal(mean, 1.0))),
        b=COLUMN(dg.rv(lambda mean: Normal(-mean, 2.0))),
        x=ROW(COLUMN(dg.rv(lambda a, b: Normal(a * b, 1.0)))),
    )


def parameters(objective: dg.Objective) -> list[nn.Parameter]:
    return [p for player in objective.players for p in player.parameters()]


def value_and_gradient(objective: dg.Objective, batch: dict[str, Tensor]) -> Tensor:
    """Return loss and gradient in one row, with the draws that all members share held equal."""
    torch.manual_seed(0)
    loss = objective.losses(batch)["model"]
    found = torch.autograd.grad(loss, parameters(objective)) if parameters(objective) else ()
    return torch.cat([loss.detach().reshape(1), *(g.flatten() for g in found)])


def over_subsets(
    objective: dg.Objective, data: dict[str, Tensor], plate: str, m: int
) -> tuple[Tensor, Tensor]:
    """Return value and gradient on all members, and their mean over all subsets of m."""
    dims = read_members(objective.parts[0][1].plates, data, {plate: m})[plate].dims
    size = next(data[name].shape[dim] for name, dim in dims.items())
    part = subsampled(objective, **{plate: size})

    def of(some: Sequence[int]) -> dict[str, Tensor]:
        chosen = torch.tensor(some)
        return {n: v.index_select(dims[n], chosen) if n in dims else v for n, v in data.items()}

    found = [value_and_gradient(part, of(some)) for some in itertools.combinations(range(size), m)]
    return value_and_gradient(objective, data), torch.stack(found).mean(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=F64)


def weighted(p: dg.Model, q: dg.Model) -> dg.Objective:
    return dg.elbo(p, q, rate={"w": 0.3})


PAIRS = {
    "elbo": lambda: dg.elbo(Regression(), MeanField()),
    "weighted": lambda: weighted(Regression(), MeanField()),
    "one particle": lambda: dg.iwae(Regression(), MeanField(), particles=1),
    "twice and a penalty": lambda: (
        2.0 * dg.elbo(Regression(), MeanField()) + dg.nll(Regression(), observed=["w", "y"])
    ),
}


@pytest.mark.parametrize("name", [*PAIRS][:3])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_the_mean_over_all_subsets_is_the_whole(name: str, m: int):
    data = {"x": normal(3, 5, 2), "y": normal(3, 5)}
    torch.testing.assert_close(*over_subsets(PAIRS[name](), data, "n", m))


def test_sums_of_costs_are_unbiased_too():
    data = {"x": normal(2, 4, 2), "y": normal(2, 4), "w": normal(2, 2)}
    torch.testing.assert_close(*over_subsets(PAIRS["twice and a penalty"](), data, "n", 2))


def test_maximum_likelihood_and_maximum_a_posteriori():
    data = {"x": normal(1, 5, 2), "y": normal(1, 5), "w": normal(1, 2)}
    torch.testing.assert_close(
        *over_subsets(dg.nll(Regression(), observed=["w", "y"]), data, "n", 3)
    )
    point = nn.Parameter(torch.tensor([0.4, 0.1], dtype=F64))
    holder = nn.ParameterList([point])
    q = dg.model(w=dg.deterministic(lambda held: held[0], held=holder))
    map_ = cross_entropy(dg.data("x", "y") * q, Regression(), of=["w", "y"])
    whole, mean = over_subsets(map_, {"x": data["x"], "y": data["y"]}, "n", 2)
    torch.testing.assert_close(whole, mean)
    p, w = Regression(), point.detach().expand(1, 2)
    want = -p.log_prob({"x": data["x"], "y": data["y"], "w": w})
    torch.testing.assert_close(whole[0], want[0].detach())


def test_hidden_members_are_summed_out_and_count_alike():
    p = dg.model(
        k=N(dg.Tabular([0.3, 0.7])), y=N(dg.LinearGaussian([0.0, 3.0], [1.0, 0.5], given=["k"]))
    )
    y = 3 * normal(2, 5)
    objective = dg.nll(p, observed=["y"])
    whole, mean = over_subsets(objective, {"y": y.float()}, "n", 2)
    torch.testing.assert_close(whole, mean, rtol=1e-4, atol=1e-4)
    alone = dg.model(
        k=dg.Tabular([0.3, 0.7]), y=dg.LinearGaussian([0.0, 3.0], [1.0, 0.5], given=["k"])
    )
    each = dg.log_evidence(alone, {"y": y.float().flatten()})
    torch.testing.assert_close(whole[0], -each.detach().sum() / 2)


def test_the_formula_of_the_evidence_is_a_product_over_members():
    p = dg.model(m=dg.LinearGaussian(0.0, 1.0), y=N(dg.LinearGaussian(0.0, 1.0, weights={"m": 1})))
    line = dg.nll(p, observed=["y"]).latex()
    assert r"\prod_{n=1}^{N} p_\theta(y_{n} \mid m)\, \mathrm{d}m" in line
    assert r"p_{\mathrm{data}}(y_{\cdot})" in line


def test_evaluation_takes_the_sizes_of_plates_from_the_data():
    p, q = Regression(), MeanField()
    scores = dg.evaluate(p, q, {"x": normal(12, 5, 2), "y": normal(12, 5)}, particles=5)
    assert scores["elbo"].value < scores["iwae"].value
    assert 0 <= scores["c2st"].value <= 1


@pytest.mark.parametrize("plates", [["i"], ["j"]])
def test_crossing_plates_scale_what_is_in_each(plates: list[str]):
    p = table()
    values = {"mean": normal(2), "a": normal(2, 3), "b": normal(2, 4), "x": normal(2, 3, 4)}
    objective = dg.nll(p, observed=["mean", "a", "b", "x"])
    torch.testing.assert_close(*over_subsets(objective, values, plates[0], 2))


def test_both_of_two_crossing_plates_at_once():
    values = {"mean": normal(1), "a": normal(1, 3), "b": normal(1, 4), "x": normal(1, 3, 4)}
    objective = dg.nll(table(), observed=[*values])
    part = subsampled(objective, i=3, j=4)
    found = [
        part.losses(
            {
                "mean": values["mean"],
                "a": values["a"][:, list(rows)],
                "b": values["b"][:, list(columns)],
                "x": values["x"][:, list(rows)][:, :, list(columns)],
            }
        )["model"]
        for rows in itertools.combinations(range(3), 2)
        for columns in itertools.combinations(range(4), 3)
    ]
    whole = objective.losses(values)["model"]
    torch.testing.assert_close(torch.stack(found).mean(), whole)


def test_draws_of_members_and_a_shared_state_leave_it_unbiased():
    """Each of 7 means lies within 5 standard errors: wrong by chance once in 250,000 runs."""
    torch.manual_seed(2)
    y, p, q = 2 * torch.randn(1, 6, dtype=F64), Switch(), Guess()
    objective = dg.elbo(p, q)
    part = subsampled(objective, n=6)
    copies, pieces = 400, []
    for cost, m in ((objective, 6), (part, 2)):
        found = []
        for _ in range(40):
            rows = [torch.randperm(6)[:m] for _ in range(copies)]
            batch = torch.stack([y[0, some] for some in rows])
            loss = cost.losses({"y": batch})["model"]
            gradient = torch.autograd.grad(loss, parameters(cost))
            found.append(torch.cat([loss.detach().reshape(1), *(g.flatten() for g in gradient)]))
        each = torch.stack(found)
        pieces.append((each.mean(0), each.var(0) / len(each)))
    (one, first), (other, second) = pieces
    assert ((one - other).abs() < 5 * (first + second).sqrt() + 1e-12).all()
    assert second[0] > 3 * first[0]  # and it is the batches that make the noise


# Batches, and learning from them


def test_an_epoch_holds_every_member_once_and_those_of_a_batch_belong_together():
    data = {"x": torch.arange(14).reshape(1, 7, 2), "y": torch.arange(7)[None], "w": torch.ones(1)}
    plates = {"x": ("n",), "y": ("n",), "w": ()}
    stream = Batches(data, 128, 0, read_members(plates, data, {"n": 3}))
    assert stream.per_epoch == 2
    for _ in range(3):
        seen = []
        for _ in range(2):
            batch = next(stream)
            assert batch["y"].shape == (1, 3)
            assert torch.equal(batch["x"][..., 0], 2 * batch["y"])
            assert batch["w"].shape == (1,)
            seen += batch["y"][0].tolist()
        assert len(set(seen)) == 6


def test_rows_and_members_of_inner_plates_are_both_drawn():
    x = torch.arange(4 * 3 * 5).reshape(4, 3, 5)
    members = read_members({"x": ("i", "j")}, {"x": x}, {"j": 2})
    stream = Batches({"x": x}, 2, 0, members)
    assert stream.per_epoch == 2 * 2
    batch = next(stream)["x"]
    assert batch.shape == (2, 3, 2)
    within = batch % 5
    assert (within == within[:1, :1]).all()  # the same members in all rows and outer plates


@pytest.mark.slow
def test_subsampled_weights_come_to_the_posterior_of_the_whole():
    torch.manual_seed(0)
    x = torch.randn(200, 2, dtype=F64)
    y = x @ torch.tensor([1.0, -2.0], dtype=F64) + 0.3 + 0.5 * torch.randn(200, dtype=F64)
    p, q = Regression().requires_grad_(requires_grad=False), MeanField()
    objective, data = dg.elbo(p, q), {"x": x[None], "y": y[None]}
    for lr in (0.05, 0.01, 0.002):
        dg.fit(objective, data, subsample={"n": 50}, epochs=150, lr=lr, progress=False)
    precision = torch.eye(2, dtype=F64) + x.T @ x / 0.25
    mean = torch.linalg.solve(precision, x.T @ (y - 0.3) / 0.25)
    best = precision.diagonal().rsqrt()  # the nearest independent Gaussian
    assert ((q.mean - mean).abs() < 0.5 * best).all()
    assert ((q.log_scale.exp() / best).log().abs() < 0.2).all()


def test_the_ledger_says_what_counts_how_often():
    part = subsampled(dg.elbo(Regression(), MeanField()), n=1000)
    row = part.explain().rows[-1]
    assert row[1] == "sum over 1000 members of n"
    assert row[2] == "y count 1000/m times in a batch of m; w once"
    assert part.latex() == dg.elbo(Regression(), MeanField()).latex()


def test_a_larger_whole_replaces_a_smaller_one():
    data = {"x": normal(1, 5, 2), "y": normal(1, 5)}
    objective = dg.elbo(Regression(), MeanField())
    twice = subsampled(subsampled(objective, n=5), n=10)
    once = subsampled(objective, n=10)
    torch.testing.assert_close(*(value_and_gradient(o, data) for o in (twice, once)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_a_compiled_step_is_the_eager_one():
    data = {"x": normal(1, 5, 2), "y": normal(1, 5)}
    losses = []
    for compiled in (False, True):
        part = subsampled(dg.elbo(Regression(), MeanField()), n=50)
        step = dg.train.Step(part, compile=compiled)
        torch.manual_seed(1)
        losses.append(torch.stack([step(data) for _ in range(3)]))
    torch.testing.assert_close(*losses)


# What is refused


def shared_and_hidden() -> dg.Objective:
    p = dg.model(
        m=dg.LinearGaussian(0.0, 1.0), y=N(dg.LinearGaussian(0.0, 1.0, weights={"m": 1.0}))
    )
    return dg.nll(p, observed=["y"])


def sequences() -> dg.Objective:
    law = Normal(0.0, 1.0)
    p = dg.model(
        z=lambda z_prev=dg.lag("z", init=law): Normal(z_prev, 1.0), x=lambda z: Normal(z, 1.0)
    )
    return dg.nll(p, observed=["z", "x"])


def ruled() -> dg.Objective:
    return dg.elbo(Switch(), Guess(), rate={"z": rates.free_bits(0.1)})


DATA = {"x": torch.zeros(1, 5, 2, dtype=F64), "y": torch.zeros(1, 5, dtype=F64)}


def fitted(subsample: Any, data: Any = None) -> Any:
    objective = dg.elbo(Regression(), MeanField())
    return dg.fit(objective, data or DATA, subsample=subsample, progress=False)


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda: fitted({"m": 2}), "subsample names the plate 'm', which holds no variable"),
        (lambda: fitted({"n": 6}), "takes 1 to 5 members of the plate n, of which y has 5, not 6"),
        (lambda: fitted({"n": 0}), "takes 1 to 5 members of the plate n"),
        (lambda: fitted({"n": 2.0}), r"takes 1 to 5 members .* not 2.0"),
        (
            lambda: fitted({"n": 2}, {"x": DATA["x"], "y": DATA["y"][:, :4]}),
            r"size of the plate n differs: 4 \(that of y\), 5 \(that of x\)|differs: 5 .*4",
        ),
        (
            lambda: fitted({"n": 2}, {"x": DATA["x"][0], "y": DATA["y"][0]}),
            r"y is \[n, n, \*event\].* one example is y\[None\]|event shape",
        ),
        (
            lambda: subsampled(dg.elbo(Regression(), MeanField()), k=3),
            "the plate 'k' holds no var",
        ),
        (lambda: subsampled(dg.elbo(Regression(), MeanField()), n=0), "is 1 or more, not 0"),
        (
            lambda: subsampled(dg.elbo(Regression(), MeanField()), n=3).losses(DATA),
            "a batch has 5 members of the plate n, of which there are 3 in all",
        ),
        (
            lambda: subsampled(dg.iwae(Regression(), MeanField(), particles=2), n=9),
            "IWAE-2 .*cannot take batches of n: the logarithm of a mean over draws is no sum",
        ),
        (lambda: subsampled(shared_and_hidden(), n=9), "m is outside the plate"),
        (lambda: subsampled(sequences(), t=9), "steps of a sequence hang on one another"),
        (lambda: subsampled(ruled(), n=9), "the rate of z counts by a rule"),
    ],
)
def test_bad_input_is_one_clear_error(ask: Any, text: str):
    with pytest.raises((dg.GraphError, ValueError), match=text):
        ask()


def test_a_plate_of_a_declared_size_has_that_size():
    five = dg.Plate("i", 5)
    p = dg.model(m=Normal(0.0, 1.0), x=five(dg.rv(lambda m: Normal(m, 1.0))))
    q = dg.model(m=Normal(0.0, 1.0))
    with pytest.raises(dg.GraphError, match=r"size of the plate i differs: 5 .*, 4 \(that of x\)"):
        dg.elbo(p, q).losses({"x": torch.zeros(1, 4)})
    assert subsampled(dg.elbo(p, q), i=5).losses({"x": torch.zeros(1, 4)})["model"] > 0


def test_batches_of_members_resume_to_the_bit_and_with_as_many_members(tmp_path: Path):
    torch.manual_seed(0)
    data = {"x": normal(1, 10, 2), "y": normal(1, 10)}

    def played(steps: int, out: Path | None, members: int = 3, **options: Any) -> MeanField:
        p, q = Regression(), MeanField()
        options |= {"steps": steps, "out": out, "subsample": {"n": members}, "progress": False}
        dg.fit(dg.elbo(p, q), data, compile=False, **options)
        return q

    whole = played(11, None)
    played(5, tmp_path)  # in the second round of the members
    again = played(11, tmp_path, resume=True)
    assert torch.equal(whole.mean, again.mean)
    with pytest.raises(ValueError, match="another subsample of n: 3, here 5"):
        played(12, tmp_path, members=5, resume=True)
