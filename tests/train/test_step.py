"""One player's step, eager and compiled into one graph."""

import warnings

import pytest
import torch
from players import Mean, gan, vae
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import config
from torch.distributions import Distribution, Normal

import daguerre as dg
from daguerre.train import step as module

GLOBAL = {"blur": 1.0}


@pytest.fixture
def fresh():
    torch._dynamo.reset()
    counters.clear()
    yield counters
    torch._dynamo.reset()


def weights(game, **options):
    dg.fit(game.objective, game.x, steps=4, batch_size=16, lr=0.01, **options)
    return [p for m in game.modules.values() for p in m.parameters()]


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
@pytest.mark.parametrize(("build", "players"), [(vae, 1), (gan, 2)], ids=["vae", "gan"])
def test_compiled_steps_are_one_graph_each_and_give_the_eager_numbers(build, players, fresh):
    compiled = weights(build(), compile=True)
    assert fresh["stats"]["unique_graphs"] == players
    assert not fresh["graph_break"]
    for one, other in zip(compiled, weights(build(), compile=False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert Distribution._validate_args
    with pytest.raises(ValueError, match="scale"):
        Normal(0.0, -1.0)


class Painter(dg.Model):
    """A generator of three pixels, of a colour that is given."""

    y = dg.Input(2)

    def __init__(self) -> None:
        super().__init__()
        self.net = dg.nn.mlp(4, 8, 3)

    @dg.rv
    def z(self):
        return dg.StandardNormal(2)

    @dg.deterministic
    def x(self, z: Tensor, y: Tensor):
        return self.net(torch.cat([z, y], 1))


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = dg.nn.mlp(5, 8, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(torch.cat([x, y], 1))


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_players_that_take_turns_never_run_each_others_graph():
    def trained(*, compiled):
        torch.manual_seed(2)
        painter, judge = Painter(), Judge()
        cost = dg.gan(painter, judge)
        steps = [
            dg.train.Step(cost, player, optimizer=dg.SGD(lr=lr), compile=compiled)
            for player, lr in (("critic", 0.1), ("model", 0.3), ("model", 0.01))
        ]
        for _ in range(5):
            batch = {"x": torch.randn(6, 3), "y": torch.rand(6, 2)}
            for step in steps:
                step(batch)
        return [*painter.parameters(), *judge.parameters()]

    for one, other in zip(trained(compiled=True), trained(compiled=False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
@pytest.mark.parametrize(
    "optimizer",
    [
        dg.SGD(lr=0.1),
        dg.SGD(lr=0.1, momentum=0.9, weight_decay=0.1),
        dg.Adam(lr=0.1, weight_decay=0.1),
        dg.RMSprop(lr=0.1),
    ],
    ids=["descent", "momentum", "adam", "rmsprop"],
)
def test_every_optimiser_moves_compiled_as_it_does_eagerly(optimizer):
    def moved(*, compiled):
        torch.manual_seed(3)
        net = nn.Linear(4, 3)
        p = dg.model(x=dg.Input(4), y=dg.rv(lambda x, net: Normal(net(x), 1.0), net=net))
        step = dg.train.Step(dg.nll(p, observed=["y"]), optimizer=optimizer, compile=compiled)
        batch = {"x": torch.randn(6, 4), "y": torch.randn(6, 3)}
        for _ in range(3):
            step(batch)
        return net.weight, net.bias

    for one, other in zip(moved(compiled=True), moved(compiled=False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_a_compiled_step_sees_what_a_user_changes(monkeypatch):
    class Blurred(Mean):
        blur = 1.0

        @dg.rv
        def x(self):
            return Normal(self.mean, GLOBAL["blur"] * self.blur * (1 if self.training else 2))

    p, x = Blurred(), torch.zeros(4)
    step = dg.train.Step(dg.nll(p), optimizer=dg.SGD(lr=1e-12))
    found = [step(x).item()]
    p.blur = 3.0
    found.append(step(x).item())
    p.eval()
    found.append(step(x).item())
    monkeypatch.setitem(GLOBAL, "blur", 5.0)
    found.append(step(x).item())
    expected = [-Normal(0.0, scale).log_prob(torch.tensor(0.0)).item() for scale in (1, 3, 6, 30)]
    assert found == pytest.approx(expected, rel=1e-5)


def test_an_error_inside_a_step_leaves_the_checks_of_torch_on():
    step = dg.train.Step(dg.nll(Mean()), compile=False)
    with pytest.raises(dg.GraphError, match="event shape"):
        step(torch.zeros(4, 2))
    assert Distribution._validate_args
    step(torch.zeros(4))
    assert Distribution._validate_args


def test_a_step_returns_the_loss_before_it():
    p = Mean()
    cost, x = dg.nll(p), torch.full([4], 2.0)
    step = dg.train.Step(cost, optimizer=dg.SGD(lr=0.1), compile=False)
    before = cost.losses(x)["model"].item()
    loss = step(x)
    assert loss.item() == pytest.approx(before)
    assert not loss.requires_grad
    assert cost.losses(x)["model"] < before


def test_a_batch_that_does_not_fit_moves_nothing():
    p = Mean()
    step = dg.train.Step(dg.nll(p), compile=False)
    for batch in ({"y": torch.zeros(4)}, torch.zeros(4, 2), torch.zeros(())):
        with pytest.raises(dg.GraphError):
            step(batch)
    assert p.mean == 0
    assert step.state["steps"][0] == 0


def test_batches_may_come_in_any_form_and_size():
    p = Mean()
    step = dg.train.Step(dg.nll(p), optimizer=dg.SGD(lr=0.1), compile=False)
    for batch in (torch.ones(4), {"x": torch.ones(3)}, {"x": torch.ones(3), "more": p.mean}):
        for _ in range(2):  # the second time the shapes are known
            before = p.mean.item()
            step(batch)
            assert p.mean.item() == pytest.approx(before + 0.1 * (1 - before))


def test_an_objective_without_data_is_stepped_by_the_number_of_draws():
    """Reverse KL, so the draws are the model's own."""
    p = Mean(3.0)
    step = dg.train.Step(
        dg.KL(p, dg.model(x=Normal(1.0, 1.0))), compile=False, optimizer=dg.SGD(lr=0.5)
    )
    for _ in range(20):
        step(16)
    assert p.mean.item() == pytest.approx(1.0, abs=1e-4)


def test_an_unknown_player_is_refused():
    game = gan()
    with pytest.raises(ValueError, match="player 'critc' is none of critic, model"):
        dg.train.Step(game.objective, "critc", compile=False)
    with pytest.raises(ValueError, match="player None is none of critic, model"):
        dg.train.Step(game.objective, compile=False)


@pytest.fixture
def no_compiler():
    """Hide the C++ compiler."""
    module.can_compile.cache_clear()
    with config.patch({"cpp.cxx": ("/no/such/compiler",)}):
        yield
    module.can_compile.cache_clear()


def test_without_a_compiler_it_says_so_once_and_runs(no_compiler):
    game = vae()
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler was found: training steps run eager"):
        history = dg.fit(game.objective, game.x, steps=2, compile=True)
    assert not history.compiled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not dg.fit(game.objective, game.x, steps=2, compile=True).compiled


def test_short_fits_are_not_compiled():
    history = dg.fit(dg.nll(Mean()), torch.ones(4), steps=3)
    assert not history.compiled
    assert history.how == "eager: 3 losses are too few to repay compiling"
    asked = dg.fit(dg.nll(Mean()), torch.ones(4), steps=3, compile=False)
    assert asked.how == "as asked"


class DoubleNumber(torch.nn.Module):
    """A parameter and a buffer that are numbers in double precision."""

    seen: torch.Tensor

    def __init__(self):
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))


def test_a_compiled_step_in_double_precision_counts_and_moves():
    def mean(number):
        number.seen.add_(1.0)
        return torch.distributions.Normal(number.value, 1.0)

    def moved(*, compiled):
        number = DoubleNumber()
        p = dg.model(x=dg.rv(mean, number=number))
        turn = dg.train.Turn(dg.Adam(0.1), average=0.5, accumulate=2)
        step = dg.train.Step(dg.nll(p), optimizer=turn, compile=compiled)
        x = torch.full([4], 3.0, dtype=torch.float64)
        losses = [step(x) for _ in range(4)]
        return [*losses, number.value.detach(), number.seen, *step.average.means]

    for found, expected in zip(moved(compiled=True), moved(compiled=False), strict=True):
        torch.testing.assert_close(found, expected)


@torch._dynamo.config.patch(recompile_limit=1)
def test_numbers_that_keep_changing_are_told():
    p = Mean()
    step = dg.train.Step(dg.nll(p), compile=True)
    step(torch.ones(4))
    with pytest.raises(dg.InadmissibleError, match="compiled 1 times, since shapes of batches"):
        step(torch.ones(5))
    assert step.made == 1
