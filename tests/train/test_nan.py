"""Losses and gradients that are not finite: found, located, and nothing is spoilt."""

import pytest
import torch
from players import Mean, snapshot, vae
from torch import nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.train import store


class Cliff(Mean):
    """Its mean falls over an edge: a value of `edge` or more makes the scale overflow."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.edge = edge

    @dg.rv
    def x(self):
        return Normal(self.mean, (200.0 * (self.mean > self.edge)).exp())


class Root(Mean):
    """A loss that is finite where its gradient is not."""

    @dg.rv
    def x(self):
        return Normal((self.mean - self.mean.detach()).abs().sqrt(), 1.0)


def climb(p, **options):
    rule = dg.SGD(lr=0.1)
    return dg.fit(dg.nll(p), torch.ones(16) * 2, steps=90, batch_size=4, optimizer=rule, **options)


def test_a_loss_is_located_to_step_player_term_variable_and_function():
    p = Cliff(0.9)  # 2 (1 - 0.9^k) is above it for the first time after 6 updates
    with pytest.raises(dg.GraphError) as error:
        climb(p)
    message = str(error.value)
    assert message.startswith("step 7, player model: ")
    assert "x, CPD at " in message
    assert "test_nan.py:" in message
    assert "exp gave infinity" in message
    assert "no weight has moved since" in message
    assert p.mean.item() == pytest.approx(2 * (1 - 0.9**6), rel=1e-5)


def test_a_gradient_is_located_to_its_parameter():
    p = Root()
    with pytest.raises(
        dg.GraphError, match=r"step 1, player model: the gradient of .* by mean of"
    ):
        climb(p)
    assert p.mean == 0


def test_weights_that_were_broken_before_are_named():
    p = Mean(float("nan"))
    with pytest.raises(dg.GraphError, match=r"parameter mean of model\.0 was not finite before"):
        climb(p)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_compiled_steps_stand_still_too():
    p = Cliff(0.9)
    with pytest.raises(dg.GraphError, match=r"step 7, player model: .*exp gave infinity"):
        climb(p, compile=True)
    assert p.mean.item() == pytest.approx(2 * (1 - 0.9**6), rel=1e-5)


def test_the_last_good_checkpoint_is_kept_and_named(tmp_path):
    p = Cliff(0.9)
    message = r"the last checkpoint, .*000000006\.safetensors, is from before it"
    with pytest.raises(dg.GraphError, match=message):
        climb(p, out=dg.train.Checkpoints(tmp_path, every=2, keep=1))
    (path,) = store.checkpoints(tmp_path)
    assert torch.equal(dg.load(path).tensors["model.0"]["mean"], p.mean)
    assert len(dg.train.read_history(tmp_path / "history.jsonl")) == 8


def test_the_bad_batch_is_found_again_among_those_since_the_last_look():
    """One row of many makes the loss overflow, through a draw of the encoder."""
    game = vae()
    x = game.x.clone()
    x[13] = 1e30  # finite, and no support is violated
    p = dg.replace(
        game.modules["p"],  # type: ignore[arg-type]
        x=dg.rv(lambda z, net: Normal(net(z), 1.0), net=dg.nn.mlp(2, 8, 4)),
    )
    cost = dg.elbo(p, game.modules["q"])  # type: ignore[arg-type]
    before = snapshot(p)
    with pytest.raises(dg.GraphError, match=r"step \d+, player model: .*gave"):
        dg.fit(cost, x, steps=60, batch_size=5)
    moved = [not torch.equal(a, b) for a, b in zip(snapshot(p), before, strict=True)]
    assert all(tensor.isfinite().all() for tensor in snapshot(p))
    assert any(moved)


def test_a_critic_that_breaks_stops_the_model_as_well():
    class Breaking(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            is_real, has_moved = x > 3, (self.scale.detach() - 1).abs() > 0.2
            return (200.0 * (is_real & has_moved)).exp() * self.scale * x

    p = dg.model(
        z=dg.StandardNormal(1), x=dg.deterministic(lambda z, net: net(z), net=nn.Linear(1, 1))
    )
    with pytest.raises(dg.GraphError, match=r"step 2, player critic: the gradient of JS .*by sca"):
        dg.fit(dg.gan(p, Breaking()), torch.randn(32, 1) + 5, steps=9, lr=0.5)
