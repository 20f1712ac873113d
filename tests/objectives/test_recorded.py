"""One slice traced, and the others run as its code: the same numbers as slice by slice."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sequences import COSTS, D, Models, in_a_plate, lengths, net, smoothed, zeros
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import daguerre as dg
from daguerre.gallery.dmm import music
from daguerre.gallery.vrnn import piano_rolls
from daguerre.objectives.objective import Objective
from daguerre.program import validation
from daguerre.recorded import Recorder, recording
from daguerre.train.step import Step


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Record short recursions too."""
    monkeypatch.setattr("daguerre.recorded.recorder.FEWEST", 1)


def variational() -> Models:
    """A variational recurrent net: units, not at once, that a state is drawn from and feeds."""
    p = dg.model(
        h=dg.deterministic(
            lambda cell, z=dg.lag("z", init=zeros()), h=dg.lag("h", init=zeros(3)): cell(z, h),
            cell=nn.GRUCell(D, 3).double(),
        ),
        z=dg.rv(lambda h, net: Independent(Normal(net(h), 0.7), 1), net=net(3)),
        x=dg.rv(lambda z, h, net: Normal(net(torch.cat([z, h], 1)), 0.5), net=net(D + 3)),
    )
    q = dg.model(
        x=dg.Input(D, dtype=torch.float64),
        k=dg.deterministic(
            lambda cell, z=dg.lag("z", init=zeros()), k=dg.lag("k", init=zeros(3)): cell(z, k),
            cell=nn.GRUCell(D, 3).double(),
        ),
        z=dg.rv(
            lambda x, k, net: Independent(Normal(net(torch.cat([x, k], 1)), 0.4), 1),
            net=net(D + 3),
        ),
    )
    return p, q


class Moved(nn.Module):
    """A linear layer, and what is made of it."""

    def __init__(self, move: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.move = net(2 * D), move

    def forward(self, x: Tensor) -> Tensor:
        return self.move(self.net, x)


def followed(step: nn.Module) -> Models:
    """A state that follows the one before, and an observation, as a net says."""
    p = dg.model(
        z=dg.rv(lambda net, z=dg.lag("z", init=zeros()): Normal(net(z), 0.7), net=net(D)),
        x=dg.rv(lambda z, net: Normal(net(z), 0.5), net=net(D)),
    )
    q = dg.model(
        x=dg.Input(D, dtype=torch.float64),
        z=dg.rv(
            lambda x, step, z=dg.lag("z", init=zeros()): Normal(step(torch.cat([x, z], 1)), 0.4),
            step=step,
        ),
    )
    return p, q


def found(objective: Objective, x: Tensor, recorder: Recorder | None) -> tuple[Tensor, Any]:
    """The loss of an objective and its gradient."""
    torch.manual_seed(5)
    with recording(recorder), validation(enabled=False):
        (player,) = objective.players
        loss = objective.losses({"x": x})[player.name]
        return loss, torch.autograd.grad(loss, player.parameters(), materialize_grads=True)


CASES = {
    "two lags and units that read ahead": (smoothed, lengths(5, 7, 1, 5)),
    "all of one length": (smoothed, lengths(7, 7, 7)),
    "several variables": (variational, lengths(3, 7, 1)),
    "in a plate, beside what holds for all": (in_a_plate, lengths(4, 7, 1, plates=(3,))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cost", COSTS)
def test_recorded_slices_are_those_that_cpds_give(case, cost):
    build, x = CASES[case]
    torch.manual_seed(1)
    objective, recorder = COSTS[cost](*build()), Recorder()
    right = found(objective, x, None)
    for _ in range(2):
        torch.testing.assert_close(found(objective, x, recorder), right)
    assert "z" in {name for names in recorder.recorded for name in names}
    assert not recorder.refused


def test_cpds_that_call_those_of_another_model_are_recorded():
    torch.manual_seed(1)
    x = (torch.rand(4, 6, 5) < 0.3).float()
    objective, recorder = piano_rolls(5, 2, 3).objective, Recorder()
    torch.testing.assert_close(found(objective, x, recorder), found(objective, x, None))
    assert (recorder.recorded, recorder.refused) == ([("h", "z")], {})


def test_nets_in_bfloat16_are_recorded():
    x, losses = torch.zeros(4, 6, 5), []
    for asked in (None, False):
        torch.manual_seed(1)
        step = Step(music(5, 2).objective, compile=asked, precision=torch.bfloat16)
        losses.append([step({"x": x}) for _ in range(3)])
        if step.recorder is not None:
            assert (step.recorder.recorded, step.recorder.refused) == ([("z",)], {})
    torch.testing.assert_close(*losses, rtol=1e-3, atol=0.0)


def test_batches_of_other_sizes_are_run_by_what_was_traced(monkeypatch):
    torch.manual_seed(1)
    objective, recorder = COSTS["elbo"](*smoothed()), Recorder()
    traced = []
    of = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda *args, **more: traced.append(0) or of(*args, **more)
    )
    for x in (lengths(7, 7), lengths(3, 7, 1), lengths(6, 6, 6, 6, 6, 6)):
        torch.testing.assert_close(found(objective, x, recorder), found(objective, x, None))
    pieces = [one._parted for one in recorder._slices.values()]
    assert [len(parted) for parted in pieces] == [1] * len(traced)


def test_a_batch_of_one_is_run_slice_by_slice():
    torch.manual_seed(1)
    objective, recorder = COSTS["elbo"](*smoothed()), Recorder()
    x = lengths(6)
    torch.testing.assert_close(found(objective, x, recorder), found(objective, x, None))
    assert recorder.recorded == []


class Scaled(nn.Module):
    """A linear layer whose values are scaled and shifted in training."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.by, self.shift = net(2 * D), 1.0, nn.Parameter(zeros())

    def forward(self, x: Tensor) -> Tensor:
        return self.by * self.net(x) + self.shift if self.training else self.net(x)


def test_what_has_changed_is_traced_again():
    torch.manual_seed(1)
    scaled, recorder, x, losses = Scaled(), Recorder(), lengths(4, 7), []
    p, q = followed(scaled)
    (own,) = (module for module in q.modules() if isinstance(module, Scaled))

    def check() -> None:
        objective = COSTS["elbo"](p, q)
        ours = found(objective, x, recorder)
        torch.testing.assert_close(ours, found(objective, x, None))
        losses.append(ours[0].item())

    check()
    own.by = 2.0
    check()
    own.shift = nn.Parameter(zeros() + 0.3)
    check()
    own.eval()
    check()
    assert len({*losses}) == 3
    assert losses[0] == losses[3]
    assert not recorder.refused


class Gru(nn.Module):
    """A gated cell whose state is what comes before."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(D, D).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x[:, :D], x[:, D:])


class Lstm(nn.Module):
    """One whose memory starts with what comes before."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(D, D).double()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.cell(x[:, :D], (x[:, D:], x[:, D:] ** 2)), 1)[:, D:]


STEPS = {
    "gru": Gru,
    "lstm": Lstm,
    "in place": lambda: Moved(lambda net, x: net(x).add_(x[:, :D]).relu_()),
    "norm": lambda: nn.Sequential(net(2 * D, 4), nn.LayerNorm(4).double(), nn.GELU(), net(4)),
    "dropout": lambda: nn.Sequential(net(2 * D, 4), nn.Dropout(0.4), net(4)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(net(2 * D)),
    "rows that see each other": lambda: Moved(lambda net, x: net(x - x.mean(0))),
    "more dimensions": lambda: Moved(lambda net, x: net(x.repeat(3, 1, 1).transpose(0, 1)).sum(1)),
}


@pytest.mark.parametrize("name", STEPS)
def test_all_sorts_of_nets_are_recorded(name):
    torch.manual_seed(1)
    objective, recorder = COSTS["elbo"](*followed(STEPS[name]())), Recorder()
    x = lengths(4, 7, 2)
    torch.testing.assert_close(found(objective, x, recorder), found(objective, x, None))
    assert (recorder.recorded, recorder.refused) == ([("z",)], {})


class Norm(nn.Sequential):
    """What remembers the means of batches."""

    def __init__(self) -> None:
        super().__init__(net(2 * D), nn.BatchNorm1d(D).double())


class Keeps(nn.Module):
    """What remembers its last value."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.last = net(2 * D), torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.net(x)
        return self.last


def centred(net: nn.Linear, x: Tensor) -> Tensor:
    """Values of data alone, less their mean over rows, beside the state."""
    values = net(torch.cat([x[:, :D], torch.zeros_like(x[:, D:])], 1))
    return x[:, D:].tanh() + values - values.mean(0)


def partly(net: nn.Linear, x: Tensor) -> Tensor:
    """Values some of which are changed in place."""
    values = net(x)
    values[:, 0].sigmoid_()
    return values


REFUSED = {
    "in place through another": (lambda: Moved(partly), "seen through another"),
    "memory of batches": (Norm, "in place"),
    "memory of its own": (Keeps, "keeps something for itself"),
    "numbers that are read": (
        lambda: Moved(lambda net, x: net(x) * x.sum().item()),
        "does not trace its gradient",
    ),
    "another net for few": (
        lambda: Moved(lambda net, x: net(x) * (2.0 if len(x) > 2 else 1.0)),
        "another thing for 2 rows",
    ),
    "gradients that see other rows": (lambda: Moved(centred), "other numbers together"),
    "nothing to learn": (
        lambda: Moved(lambda net, x: x[:, :D] + net(x).detach()),
        "nothing that it gives has a gradient",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_recorded_is_run_slice_by_slice(name):
    build, why = REFUSED[name]
    torch.manual_seed(1)
    p, q = followed(build())
    x, recorder, objective = lengths(7, 7, 4, 4), Recorder(), COSTS["elbo"](p, q)
    for _ in range(2):
        torch.testing.assert_close(found(objective, x, recorder), found(objective, x, None))
    assert recorder.recorded == []
    (reason,) = recorder.refused.values()
    assert re.search(why, reason)


def test_the_gradient_can_be_taken_again_but_not_differentiated():
    torch.manual_seed(1)
    objective, x = COSTS["elbo"](*followed(net(2 * D))), lengths(4, 7)
    weights = objective.players[0].parameters()
    with recording(Recorder()), validation(enabled=False):
        loss = objective.losses({"x": x})["model"]
    once = torch.autograd.grad(loss, weights, retain_graph=True)
    torch.testing.assert_close(once, torch.autograd.grad(loss, weights, retain_graph=True))
    with pytest.raises(dg.InadmissibleError, match="make the step with compile=False"):
        torch.autograd.grad(loss, weights, create_graph=True)


def test_steps_record_unless_told_what_to_do():
    torch.manual_seed(1)
    objective, x = COSTS["elbo"](*followed(net(2 * D))), lengths(7, 7)
    step, alone = Step(objective), Step(objective, compile=False)
    step({"x": x})
    assert alone.recorder is None
    assert step.recorder is not None
    assert step.recorder.recorded == [("z",)]
    assert "one slice traced" in dg.fit(objective, {"x": x}, steps=1).how


def test_what_was_recorded_resumes_to_the_bit(tmp_path):
    x = lengths(4, 7, 7, 2, 5, 7)

    def weights(steps: int, **options: Any) -> list[Tensor]:
        torch.manual_seed(1)
        p, q = smoothed()
        more = {"batch_size": 3, "seed": 4, "progress": False, **options}
        dg.fit(COSTS["elbo"](p, q), {"x": x}, steps=steps, **more)
        return [*p.parameters(), *q.parameters()]

    whole = weights(6)
    weights(3, out=tmp_path)
    again = weights(6, out=tmp_path, resume=True)
    assert all(map(torch.equal, whole, again))
