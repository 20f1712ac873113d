"""A player's turn: rates, accumulation, clipping, averages, each against its definition."""

import math

import pytest
import torch
from players import Mean, gan, snapshot, vae
from torch import nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.train.batches import Batches

RATES = {
    "warm-up": (dg.train.warm_up(0.1, updates=4), [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]),
    "cosine": (
        dg.train.cosine(0.1, updates=4, end=0.02),
        [0.06 + 0.04 * math.cos(math.pi * i / 4) for i in (0, 1, 2, 3, 4, 4)],
    ),
    "steps": (dg.train.stepped(0.1, at=[2, 4], factor=0.5), [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]),
    "both": (
        dg.train.warm_up(dg.train.stepped(0.1, at=[3], factor=0.1), updates=2),
        [0.05, 0.1, 0.1, 0.01, 0.01, 0.01],
    ),
    "linear": (dg.rates.linear(0.1, 0.0, steps=5), [0.1, 0.08, 0.06, 0.04, 0.02, 0.0]),
}
RULES = {"sgd": (dg.SGD, torch.optim.SGD), "adam": (dg.Adam, torch.optim.Adam)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", RATES)
def test_a_rate_moves_as_torch_with_that_rate_at_each_step(name, rule):
    rate, values = RATES[name]
    ours, theirs = Mean(), Mean()
    kind, torchs = RULES[rule]
    step = dg.train.Step(dg.nll(ours), optimizer=kind(lr=rate), compile=False)
    reference = torchs(theirs.parameters(), lr=1.0)
    for value in values:
        x = torch.full([4], 2.0)
        reference.param_groups[0]["lr"] = value
        reference.zero_grad()
        dg.nll(theirs).losses(x)["model"].backward()
        reference.step()
        step(x)
        assert ours.mean.item() == pytest.approx(theirs.mean.item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_a_new_rate_is_no_new_graph():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    moved = []
    for compiled in (True, False):
        p = Mean()
        turn = dg.train.Turn(dg.Adam(lr=RATES["both"][0]), clip=0.3, average=0.5)
        dg.fit(dg.nll(p), torch.ones(8), steps=8, optimizer=turn, compile=compiled)
        moved.append(p.mean.item())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert moved[0] == pytest.approx(moved[1], rel=1e-5)


@pytest.mark.parametrize("optimizer", [dg.SGD(lr=0.1), dg.Adam(lr=0.1)], ids=["sgd", "adam"])
def test_accumulated_batches_move_as_one_large_batch(optimizer):
    torch.manual_seed(0)
    x, parts, whole = torch.randn(24), Mean(), Mean()
    turn = dg.train.Turn(optimizer, accumulate=3)
    history = dg.fit(dg.nll(parts), x, steps=5, batch_size=4, optimizer=turn)
    rows = Batches({"x": x}, 4, seed=0)
    step = dg.train.Step(dg.nll(whole), optimizer=optimizer, compile=False)
    for i in range(5):
        loss = step(torch.cat([next(rows)["x"] for _ in range(3)]))
        assert history["model"][i].item() == pytest.approx(loss.item(), rel=1e-5)
    assert parts.mean.item() == pytest.approx(whole.mean.item(), rel=1e-5)
    assert history.epochs == pytest.approx(5 * 12 / 24)


def test_what_the_loss_does_not_reach_accumulates_nothing():
    class Spare(Mean):
        def __init__(self):
            super().__init__()
            self.spare = nn.Parameter(torch.ones(3))

    p = Spare()
    turn = dg.train.Turn(dg.Adam(weight_decay=0.5), accumulate=2)
    dg.fit(dg.nll(p), torch.ones(8), steps=3, optimizer=turn)
    assert torch.equal(p.spare, torch.ones(3))
    assert p.mean != 0


@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_the_gradient_is_clipped_as_by_torch(clip):
    ours, theirs = vae(), vae()
    rule = dg.train.Turn(dg.SGD(lr=1.0), clip=clip)
    torch.manual_seed(3)
    dg.train.Step(ours.objective, optimizer=rule, compile=False)(ours.x)
    torch.manual_seed(3)
    theirs.objective.losses(theirs.x)["model"].backward()
    parameters = [p for m in theirs.modules.values() for p in m.parameters()]
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    assert norm > 0.05
    with torch.no_grad():
        for parameter in parameters:
            parameter -= parameter.grad  # type: ignore[operator]
    found = [p for m in ours.modules.values() for p in m.parameters()]
    for one, other in zip(found, parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_average_is_that_of_its_formula():
    p, q, x = Mean(), Mean(), torch.full([4], 2.0)
    dg.fit(dg.nll(p), x, steps=30, optimizer=dg.train.Turn(dg.SGD(lr=0.1), average=0.7))
    step = dg.train.Step(dg.nll(q), optimizer=dg.SGD(lr=0.1), compile=False)
    mean = 0.0
    for t in range(30):
        step(x)
        decay = min(0.7, (1 + t) / (10 + t))
        mean = decay * mean + (1 - decay) * q.mean.item()
    assert p.mean.item() == pytest.approx(mean, rel=1e-5)
    assert p.mean.item() != pytest.approx(q.mean.item(), rel=1e-3)


def test_buffers_of_layers_are_averaged_with_the_weights():
    net = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    p = dg.model(x=dg.Input(1), y=dg.rv(lambda x, net: Normal(net(x), 1.0), net=net))
    data = {"x": torch.randn(64, 1) * 3, "y": torch.randn(64, 1)}
    seen = []

    def look(now):
        norm = net[1]
        assert isinstance(norm, nn.BatchNorm1d)
        assert norm.running_mean is not None
        raw = norm.running_mean.clone()
        with now.evaluation():
            seen.append((raw, norm.running_mean.clone(), net.training))
        assert torch.equal(norm.running_mean, raw)
        assert net.training

    turn = dg.train.Turn(average=0.9)
    dg.fit(dg.nll(p, observed=["y"]), data, steps=3, optimizer=turn, callbacks=[look])
    raw, mean, training = seen[-1]
    assert not training
    assert not torch.allclose(raw, mean)
    assert torch.equal(net[1].running_mean, mean)  # type: ignore[arg-type]


def test_only_the_players_that_ask_are_averaged():
    averaged, plain = gan(), gan()
    turn = {"model": dg.train.Turn(average=0.9)}
    dg.fit(averaged.objective, averaged.x, steps=9, optimizer=turn)
    dg.fit(plain.objective, plain.x, steps=9)
    for role, is_same in (("critic", True), ("p", False)):
        pairs = zip(snapshot(averaged.modules[role]), snapshot(plain.modules[role]), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) is is_same


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dg.train.Turn(updates=0), "updates must be a whole number, 1 or more, not 0"),
        (lambda: dg.train.Turn(accumulate=1.5), "accumulate must be a whole number"),  # type: ignore[arg-type]
        (lambda: dg.train.Turn(clip=0.0), r"clip must be positive, not 0\.0"),
        (lambda: dg.train.Turn(average=1.0), r"average is a decay between 0 and 1, not 1\.0"),
        (lambda: dg.train.cosine(-1.0, updates=3), r"must be positive and finite, not -1\.0"),
        (lambda: dg.train.cosine(1.0, updates=0), "after 1 update or more"),
        (lambda: dg.train.stepped(1.0, at=[3, 2]), r"must rise, not \[3, 2\]"),
        (lambda: dg.train.stepped(1.0, at=[]), "after 1 update or more, not none"),
        (lambda: dg.train.warm_up(math.nan, updates=2), "must be positive and finite, not nan"),
    ],
)
def test_what_is_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
