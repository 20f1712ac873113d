"""The loop: what moves, what does not, what is left as it was, and what is refused."""

import math
import random
from contextlib import nullcontext
from itertools import count

import pytest
import torch
from players import Mean, gan, snapshot, vae
from torch import nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.train.batches import Batches

GAMES = {"vae": vae, "gan": gan}


def same(module, before):
    return all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize("name", GAMES)
def test_a_hand_written_loop_gives_the_same_weights(name):
    ours, theirs = GAMES[name](), GAMES[name]()
    history = dg.fit(ours.objective, ours.x, steps=20, batch_size=16, lr=0.01, seed=4)
    batches = Batches({"x": theirs.x}, 16, seed=4)
    torch.manual_seed(4)
    parameters = {p.name: p.parameters() for p in theirs.objective.players}
    rules = {name: torch.optim.Adam(ps, lr=0.01) for name, ps in parameters.items()}
    for i in range(20):
        batch = next(batches)
        for player, rule in rules.items():
            loss = theirs.objective.losses(batch, players=[player])[player]
            assert history[player][i].item() == pytest.approx(loss.item(), abs=1e-5)
            gradients = torch.autograd.grad(loss, parameters[player])
            for parameter, gradient in zip(parameters[player], gradients, strict=True):
                parameter.grad = gradient
            rule.step()
    for role, module in ours.modules.items():
        for one, other in zip(module.parameters(), theirs.modules[role].parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_training_lowers_the_cost():
    game = vae()
    history = dg.fit(game.objective, game.x, steps=300, batch_size=50, lr=0.01)
    assert history["model"][-50:].mean() < history["model"][:50].mean() - 0.1


def test_a_seed_is_the_whole_of_chance():
    def weights(seed, noise):
        game = vae()
        torch.manual_seed(noise)
        dg.fit(game.objective, game.x, steps=5, batch_size=16, seed=seed)
        return snapshot(game.modules["p"])

    first = weights(seed=3, noise=0)
    assert all(map(torch.equal, first, weights(seed=3, noise=1)))
    assert not all(map(torch.equal, first, weights(seed=4, noise=0)))


def test_global_generators_are_left_alone():
    game, before = vae(), torch.get_rng_state()
    python = random.getstate()
    dg.fit(game.objective, game.x, steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python


def test_a_critic_step_moves_the_critic_alone():
    game = gan()
    p, critic = game.modules["p"], game.modules["critic"]
    at_p, at_critic = snapshot(p), snapshot(critic)
    dg.train.Step(game.objective, "critic", compile=False)(game.x)
    assert same(p, at_p)
    assert not same(critic, at_critic)
    at_critic = snapshot(critic)
    dg.train.Step(game.objective, "model", compile=False)(game.x)
    assert not same(p, at_p)
    assert same(critic, at_critic)


def test_no_gradient_is_left_on_parameters():
    game = gan()
    dg.fit(game.objective, game.x, steps=2)
    assert all(p.grad is None for m in game.modules.values() for p in m.parameters())


def test_frozen_parameters_do_not_move():
    game = vae()
    p, q = game.modules["p"], game.modules["q"]
    q.requires_grad_(requires_grad=False)
    before = snapshot(q)
    dg.fit(game.objective, game.x, steps=3)
    assert same(q, before)
    assert not same(p, snapshot(vae().modules["p"]))


def test_a_parameter_that_the_loss_does_not_reach_is_left_alone():
    class Spare(Mean):
        def __init__(self):
            super().__init__()
            self.spare = nn.Parameter(torch.ones(3))

    for optimizer in (dg.Adam(weight_decay=0.5), dg.SGD(momentum=0.9), dg.RMSprop()):
        p, alone = Spare(), Mean()
        dg.fit(dg.nll(p), torch.ones(8), steps=4, optimizer=optimizer)
        dg.fit(dg.nll(alone), torch.ones(8), steps=4, optimizer=optimizer)
        assert torch.equal(p.spare, torch.ones(3))
        torch.testing.assert_close(p.mean, alone.mean)


def test_a_player_that_its_loss_does_not_reach_stays():
    class Fixed(dg.Model):
        def __init__(self):
            super().__init__()
            self.spare = nn.Parameter(torch.ones(3))

        @dg.rv
        def x(self):
            return Normal(torch.zeros(1), 1.0)

    p = Fixed()
    for optimizer in (dg.Adam(weight_decay=0.5), dg.SGD(momentum=0.9), dg.RMSprop()):
        dg.fit(dg.gan(p, nn.Linear(1, 1)), torch.ones(8, 1), steps=2, optimizer=optimizer)
        assert torch.equal(p.spare, torch.ones(3))


def test_a_player_may_move_more_often():
    calls = count()

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 1)

        def forward(self, x):
            next(calls)
            return self.net(x)

    game = gan()
    p = game.modules["p"]
    assert isinstance(p, dg.Model)
    played = dg.gan(p, Counting())
    before = next(calls)
    history = dg.fit(
        played, game.x, steps=3, batch_size=10, optimizer={"critic": dg.train.Turn(updates=5)}
    )
    assert next(calls) - before - 1 == 3 * (5 * 2 + 1)  # a critic's move sees real and fake
    assert len(history) == len(history["critic"]) == len(history["model"]) == 3
    assert history.epochs == pytest.approx(3 * 5 * 10 / 50)


def test_each_player_has_its_own_rate_and_optimiser():
    game = gan()
    p, critic = snapshot(game.modules["p"]), snapshot(game.modules["critic"])
    dg.fit(
        game.objective,
        game.x,
        steps=1,
        lr={"critic": 0.5},
        optimizer={"model": dg.Adam(lr=0.25), "critic": dg.Adam(lr=1e-9)},
    )
    for module, before, rate in (("p", p, 0.25), ("critic", critic, 0.5)):
        moves = [
            (a - b).abs().max().item()
            for a, b in zip(game.modules[module].parameters(), before, strict=True)
        ]
        assert max(moves) == pytest.approx(rate, rel=1e-3)  # Adam's first step is the rate


@pytest.mark.parametrize("broken", [False, True])
def test_modules_are_ready_to_be_asked_or_as_they_were_where_it_failed(broken):
    seen = []

    class Probe(nn.Dropout):
        def forward(self, input):  # noqa: A002 - the name that Dropout gives it
            seen.append(self.training)
            if broken and self.training:
                raise ArithmeticError("planted")
            return super().forward(input)

    net = nn.Sequential(nn.Linear(1, 1), Probe(0.0), nn.Dropout())
    net.eval()
    net[2].train()
    p = dg.model(c=dg.Input(1), x=dg.rv(lambda c, net: Normal(net(c), 1.0), net=net))
    data = {"c": torch.zeros(4, 1), "x": torch.zeros(4, 1)}
    cost = dg.nll(p)
    seen.clear()
    with pytest.raises(dg.GraphError, match="planted") if broken else nullcontext():
        dg.fit(cost, data, steps=1)
    assert seen == [True]
    assert [m.training for m in net] == [False, False, broken]


def test_batches_larger_than_the_data_and_one_row_are_played():
    for x in (torch.ones(5), torch.ones(1)):
        p = Mean()
        history = dg.fit(dg.nll(p), x, epochs=3, batch_size=64)
        assert len(history) == 3
        assert history.epochs == 3
        assert p.mean > 0


def test_epochs_and_steps():
    x = torch.ones(10)
    assert len(dg.fit(dg.nll(Mean()), x, epochs=2, batch_size=5)) == 4
    assert len(dg.fit(dg.nll(Mean()), x, epochs=0.5, batch_size=2)) == 2  # of five batches
    assert len(dg.fit(dg.nll(Mean()), x, epochs=0.01, batch_size=2)) == 1
    assert len(dg.fit(dg.nll(Mean()), x, batch_size=3)) == 3
    assert len(dg.fit(dg.nll(Mean()), x, steps=7, batch_size=3)) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs must be positive, not -1"),
        ({"epochs": 0}, "epochs must be positive, not 0"),
        ({"steps": 0}, "steps must be a whole number, 1 or more, not 0"),
        ({"steps": 2.5}, "steps must be a whole number, 1 or more, not 2.5"),
        ({"epochs": 1, "steps": 1}, "in epochs or in steps, not in both"),
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or more, not 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"lr": -1.0}, "lr must be positive, not -1"),
        ({"lr": math.nan}, "lr must be positive, not nan"),
        ({"lr": math.inf}, "lr must be positive, not inf"),
        ({"lr": "fast"}, "lr must be positive, not 'fast'"),
        ({"lr": {"modle": 1.0}}, "lr names 'modle', no player here; did you mean 'model'"),
        ({"optimizer": {"q": dg.SGD()}}, "optimizer names 'q', no player here"),
        ({"optimizer": {"critic": dg.train.Turn()}}, "optimizer names 'critic', no player here"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused(options, message):
    p = Mean()
    with pytest.raises(ValueError, match=message):
        dg.fit(dg.nll(p), torch.ones(4), **options)
    assert p.mean == 0


def test_a_game_with_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="nothing can be trained"):
        dg.fit(dg.nll(dg.model(x=Normal(0.0, 1.0))), torch.ones(4))


def test_a_player_with_nothing_to_learn_sits_out():
    played = gan()
    played.modules["p"].requires_grad_(requires_grad=False)
    before = snapshot(played.modules["critic"])
    history = dg.fit(played.objective, played.x, steps=2)
    assert set(history.losses) == {"critic"}
    assert not all(map(torch.equal, before, snapshot(played.modules["critic"])))


@pytest.mark.parametrize("at", ["cpd", "batch", "second player"])
def test_ctrl_c_keeps_what_was_trained(at, monkeypatch):
    calls = count()

    def interrupt(step):
        if next(calls) == step:
            raise KeyboardInterrupt

    if at == "second player":
        game = gan()
        critic = game.modules["critic"]
        critic.register_forward_hook(lambda *_: interrupt(3 * 5 + 2))  # three looks a step
        before = snapshot(critic)
        history = dg.fit(game.objective, game.x, steps=100)
        assert not same(critic, before)
        assert len(history["critic"]) == len(history["model"]) == 5
    else:
        p = Mean()
        if at == "cpd":
            p.register_buffer("unused", torch.zeros(1))
            original = Mean.x.function
            monkeypatch.setattr(Mean.x, "function", lambda self: (interrupt(6), original(self))[1])
        else:
            following = Batches.__next__
            monkeypatch.setattr(
                Batches, "__next__", lambda self: (interrupt(5), following(self))[1]
            )
        history = dg.fit(dg.nll(p), torch.full([8], 2.0), steps=100, lr=0.1)
        assert p.mean.item() == pytest.approx(0.5, abs=0.01)  # five steps of Adam
    assert history.interrupted
    assert len(history) == 5
    assert "interrupted" in repr(history)


def test_ctrl_c_before_the_first_step_gives_an_empty_history(monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Batches, "__next__", interrupt)
    history = dg.fit(dg.nll(Mean()), torch.ones(4), steps=3)
    assert (len(history), history.epochs, history.interrupted) == (0, 0.0, True)
    assert len(history["model"]) == 0
    assert repr(history).startswith("History(0 steps")


def test_the_history_is_a_table_of_losses():
    game = gan()
    history = dg.fit(game.objective, game.x, steps=4)
    assert {*history.losses} == {"critic", "model"}
    assert history["critic"].shape == (4,)
    assert not history["critic"].requires_grad
    assert not history.compiled
    assert not history.interrupted
    assert history.seconds > 0
    assert history.last(2)["model"] == pytest.approx(history["model"][-2:].mean().item())
    assert "4 steps" in repr(history)
    assert "eager" in repr(history)
    with pytest.raises(KeyError, match="no player 'critc'; did you mean 'critic'"):
        history["critc"]


def test_a_weight_scales_the_loss_that_is_minimised():
    x = torch.full([4], 2.0)
    one, two = Mean(), Mean()
    dg.fit(dg.nll(one), x, steps=1, optimizer=dg.SGD(lr=0.1))
    dg.fit(2 * dg.nll(two), x, steps=1, optimizer=dg.SGD(lr=0.1))
    assert two.mean.item() == pytest.approx(2 * one.mean.item())
    assert one.mean.item() == pytest.approx(0.2)
