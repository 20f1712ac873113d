"""Recursions step by step, all steps at once, and compiled to one scan."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.nn import over_time
from daguerre.repeats import Sizes
from daguerre.train.step import Step

NAN = float("nan")
CELLS = [
    nn.RNNCell(3, 4),
    nn.RNNCell(3, 4, nonlinearity="relu", bias=False),
    nn.GRUCell(3, 4),
    nn.LSTMCell(3, 4),
    nn.LSTMCell(3, 4, bias=False),
]


def by_hand(cell: nn.Module, x: Tensor, state: Tensor) -> Tensor:
    states = []
    for one in x.unbind(1):
        taken = state.chunk(2, 1) if isinstance(cell, nn.LSTMCell) else state
        made = cell(one, taken)
        state = torch.cat(made, 1) if isinstance(made, tuple) else made
        states.append(state)
    return torch.stack(states, 1)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cell_over_time_is_the_cell_step_by_step_with_its_gradients(cell):
    torch.manual_seed(0)
    cell = cell.double()
    size = 8 if isinstance(cell, nn.LSTMCell) else 4
    x = torch.randn(2, 5, 3).double().requires_grad_()
    before = torch.randn(2, size).double().requires_grad_()
    weight = torch.randn(2, 5, size).double()
    ours, theirs = over_time(cell, x, before), by_hand(cell, x, before)
    torch.testing.assert_close(ours, theirs)
    of = [x, before, *cell.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((ours * weight).sum(), of),
        torch.autograd.grad((theirs * weight).sum(), of),
    )


@pytest.mark.parametrize("cell", [CELLS[0], CELLS[3]], ids=str)
def test_a_gradient_of_its_gradient_is_refused_not_zero(cell):
    cell = cell.double()
    x = torch.zeros(2, 5, 3).double().requires_grad_()
    before = torch.zeros(2, 8 if isinstance(cell, nn.LSTMCell) else 4).double()
    with pytest.raises(dg.InadmissibleError, match="call the cell step by step"):
        torch.autograd.grad(over_time(cell, x, before).sum(), x, create_graph=True)


EMBEDDINGS = {
    "few letters": nn.Embedding(3, 3),
    "more letters than steps": nn.Embedding(11, 3),
    "a letter that is nothing": nn.Embedding(3, 3, padding_idx=1),
    "scaled gradients": nn.Embedding(3, 3, scale_grad_by_freq=True),
}


@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_letters_over_time_are_their_vectors_step_by_step(cell, name):
    torch.manual_seed(0)
    cell, embedding = cell.double(), EMBEDDINGS[name].double()
    size = 8 if isinstance(cell, nn.LSTMCell) else 4
    x, before = torch.tensor([[0, 2, 1, 1, 0], [2, 2, 0, 1, 2]]), torch.randn(2, size).double()
    weight = torch.randn(2, 5, size).double()
    ours = over_time(cell, x, before, embedding=embedding)
    theirs = by_hand(cell, embedding(x), before)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(over_time(cell, x.double(), before, embedding=embedding), ours)
    of = [embedding.weight, *cell.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((ours * weight).sum(), of),
        torch.autograd.grad((theirs * weight).sum(), of),
    )


@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("lengths", [[2, 5, 1, 5], [3, 1, 2, 2], [5, 5, 5, 5], [1, 1, 1, 1]])
@pytest.mark.parametrize("letters", [False, True])
def test_rows_of_any_length_are_those_of_their_own_steps(cell, lengths, letters):
    torch.manual_seed(0)
    cell, embedding = cell.double(), nn.Embedding(3, 3).double()
    size = 8 if isinstance(cell, nn.LSTMCell) else 4
    x = torch.randint(3, (4, 5)) if letters else torch.randn(4, 5, 3).double().requires_grad_()
    before = torch.randn(4, size).double().requires_grad_()
    weight = torch.randn(4, 5, size).double()
    options = {"embedding": embedding if letters else None, "lengths": torch.tensor(lengths)}
    ours = over_time(cell, x, before, **options)
    inside = torch.arange(5) < torch.tensor(lengths)[:, None]
    theirs = by_hand(cell, embedding(x) if letters else x, before) * inside[..., None]
    torch.testing.assert_close(ours, theirs)
    of = [before, embedding.weight if letters else x, *cell.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((ours * weight).sum(), of),
        torch.autograd.grad((theirs * weight).sum(), of),
    )
    with torch.no_grad():
        again = over_time(cell, x, before, **options)
    torch.testing.assert_close(again, ours.detach())


@pytest.mark.parametrize("lengths", [[1, 6], [0, 2], [1, 2, 3], [[1], [2]], [1.0, 2.0]])
def test_lengths_that_do_not_fit_are_refused(lengths):
    with pytest.raises(ValueError, match=r"whole numbers \[2\] from 1 to 5.*not \["):
        over_time(
            nn.GRUCell(3, 4),
            torch.zeros(2, 5, 3),
            torch.zeros(2, 4),
            lengths=torch.tensor(lengths),
        )


def test_a_cell_over_time_refuses_what_does_not_fit():
    cell, letters = nn.GRUCell(3, 4), nn.Embedding(5, 3)
    with pytest.raises(ValueError, match=r"reads inputs \[n, T\].*\[2, 5, 3\]"):
        over_time(cell, torch.zeros(2, 5, 3), torch.zeros(2, 4), embedding=letters)
    with pytest.raises(ValueError, match=r"size 3, but Embedding\(5, 7\) makes some of size 7"):
        over_time(cell, torch.zeros(2, 5), torch.zeros(2, 4), embedding=nn.Embedding(5, 7))
    with pytest.raises(IndexError, match="out of range"):
        over_time(nn.LSTMCell(3, 4), torch.full((2, 5), 5), torch.zeros(2, 8), embedding=letters)
    with pytest.raises(TypeError, match="not Linear"):
        over_time(nn.Linear(3, 4), torch.zeros(2, 5, 3), torch.zeros(2, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"reads inputs \[n, T, 3\].*\[2, 3\]"):
        over_time(cell, torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"of a step or more.*\[2, 0, 3\]"):
        over_time(cell, torch.zeros(2, 0, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"starts with a state \[2, 4\].*\[2, 8\]"):
        over_time(cell, torch.zeros(2, 5, 3), torch.zeros(2, 8))


# Recursions of a model in both forms


def smoother(steps: int, *, at_once: bool) -> dg.Model:
    """Units that read x in one direction, and a latent that follows them and its own past."""
    torch.manual_seed(1)
    units = torch.full([4], 0.5)

    def read(x: Tensor, cell: nn.Module, near=dg.lag("b", steps, init=units)):
        return cell(x, near)

    def read_all(x: Tensor, cell: nn.GRUCell, near: Tensor):
        return over_time(cell, x, near)

    def follow(
        b: Tensor,
        net: nn.Module,
        old=dg.lag("z", 2, init=torch.ones(2)),
        last=dg.lag("z", init=torch.zeros(2)),
    ):
        return Normal(net(torch.cat([b, old, last], 1)), 0.5)

    form = read_all if at_once else None
    return dg.model(
        x=dg.Input(3),
        b=dg.deterministic(read, over_time=form, cell=nn.GRUCell(3, 4)),
        z=dg.rv(follow, net=nn.Linear(8, 2)),
    )


def chain() -> dg.Model:
    torch.manual_seed(0)
    return dg.model(
        z=dg.rv(
            lambda net, before=dg.lag("z", init=dg.StandardNormal(2)): Normal(net(before), 0.7),
            net=nn.Linear(2, 2),
        ),
        x=dg.rv(lambda z, out: Normal(out(z), 0.5), out=nn.Linear(2, 3)),
    )


def ragged() -> Tensor:
    torch.manual_seed(3)
    x = torch.randn(3, 7, 3)
    x[1, 4:] = NAN
    x[2, 1:] = NAN
    return x


@pytest.mark.parametrize("steps", [1, -1])
@pytest.mark.parametrize("particles", [1, 3])
def test_both_forms_give_the_same_bound_for_sequences_of_any_length(steps, particles):
    losses = []
    for at_once in (False, True):
        p, q = chain(), smoother(steps, at_once=at_once)
        torch.manual_seed(2)
        bound = dg.iwae(p, q, particles=particles, partial=["x"])
        loss = bound.losses({"x": ragged()})["model"]
        losses.append((loss, torch.autograd.grad(loss, [*p.parameters(), *q.parameters()])))
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("steps", [1, -1])
def test_both_forms_draw_the_same(steps):
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    drawn = []
    for at_once in (False, True):
        torch.manual_seed(2)
        drawn.append(smoother(steps, at_once=at_once).sample(given={"x": x}))
    torch.testing.assert_close(drawn[0], drawn[1])


def test_a_form_for_all_steps_is_called_once_on_what_is_known():
    """In a plate, with a parent that holds for all time, and never where it feeds itself."""
    shapes = []

    def summed(self, x: Tensor, s: Tensor, before: Tensor) -> Tensor:
        shapes.append((x.shape, s.shape, before.shape))
        return before[:, None] + (x * s).cumsum(1)

    band = dg.Plate("band", size=3)

    class Sums(dg.Model):
        @dg.rv
        def s(self):
            return Normal(0.0, 1.0)

        @band
        @dg.Plate("t")
        @dg.rv
        def x(self):
            return Normal(0.0, 1.0)

        @band
        @dg.deterministic(over_time=summed)
        def y(self, x, s, before=dg.lag("y", init=1.0)):
            return before + x * s

    drawn = Sums().sample(2, t=5)
    assert shapes == [((6, 5), (6, 5), (6,))]
    want = 1 + (drawn["x"] * drawn["s"][:, None, None]).cumsum(2)
    torch.testing.assert_close(drawn["y"], want)


def test_gaps_in_what_nothing_hangs_on_leave_all_steps_at_once():
    """Units read u, and x has gaps: the likelihood is that of the form step by step."""
    calls = []

    def read_all(u: Tensor, cell: nn.GRUCell, last: Tensor):
        calls.append(u.shape)
        return over_time(cell, u, last)

    def read(u: Tensor, cell: nn.Module, last=dg.lag("h", init=torch.zeros(4))):
        return cell(u, last)

    x, u = torch.randn(3, 7), torch.randn(3, 7, 2)
    x[1, 3] = x[2, 5:] = NAN
    losses = []
    for form in (None, read_all):
        torch.manual_seed(0)
        p = dg.model(
            u=dg.Input(2),
            h=dg.deterministic(read, over_time=form, cell=nn.GRUCell(2, 4)),
            x=lambda h: Normal(h.sum(1), 1.0),
        )
        cost = dg.nll(p, observed=["x"], partial=["x"])
        calls.clear()
        losses.append(cost.losses({"x": x, "u": u})["model"])
    torch.testing.assert_close(*losses)
    assert calls == [(3, 7, 2)]


def test_a_form_for_all_steps_must_be_that_of_a_recursion():
    def shorter(x, before):
        return x

    with pytest.raises(dg.GraphError, match="one lag on itself, of one step"):
        dg.model(x=Normal(0.0, 1.0), y=dg.deterministic(lambda x: x, over_time=shorter))
    step = dg.deterministic(
        lambda x, before=dg.lag("y", init=0.0): x + before, over_time=lambda x: x
    )
    with pytest.raises(dg.GraphError, match=r"parameters of the map, \(x, before\), not \(x\)"):
        dg.model(x=Normal(0.0, 1.0), y=step)
    short = dg.deterministic(
        lambda x, before=dg.lag("y", init=0.0): x + before, over_time=lambda x, before: x[:, 0]
    )
    p = dg.model(x=Normal(0.0, 1.0), y=short)
    with pytest.raises(dg.GraphError, match=r"over_time returned \[2\]; expected .*\[2, 4, ...\]"):
        p.sample(given={"x": torch.zeros(2, 4)})


# Compiled


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_a_compiled_scan_is_the_loop(monkeypatch):
    """With lags of two steps, gaps at the end, and draws from torch's own generator."""
    monkeypatch.setattr(Sizes, "without_ends", lambda self: self)  # so that both draw the same
    losses = []
    for compiled in (False, True):
        p, q = chain(), smoother(-1, at_once=False)
        step = Step(dg.elbo(p, q, partial=["x"]), optimizer=dg.Adam(1e-2), compile=compiled)
        torch.manual_seed(2)
        losses.append([step({"x": ragged()}).item() for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
