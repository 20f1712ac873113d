"""Resuming: a fit that ended anywhere goes on as if it had not, to the bit."""

import errno
import json
import os
import pickle
import random
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from players import Mean, gan, vae
from safetensors.torch import save_file
from torch import nn
from torch.distributions import Normal

import daguerre as dg
from daguerre.train import store as store_module
from daguerre.train.checkpoint import read

GAMES = {"vae": vae, "gan": gan}
ADAM = dg.Adam(lr=dg.train.warm_up(dg.train.cosine(0.02, updates=30), updates=5))
TURNS = {
    "plain": None,
    "all at once": dg.train.Turn(ADAM, updates=2, accumulate=2, clip=0.5, average=0.9),
    "momentum": dg.SGD(lr=0.05, momentum=0.9),
    "rmsprop": dg.RMSprop(lr=0.01),
}


def noisy(now):
    """Draw from all generators, as user code may: nothing of it may be lost on resuming."""
    drawn = random.random() + np.random.standard_normal() + torch.rand(()).item()
    return {"drawn": drawn + random.gauss(0.0, 1.0)}


def played(name, out, **options):
    """Play a game of the same first weights; return all its tensors, and the history."""
    game = GAMES[name]()
    options = {"batch_size": 8, "lr": None, "seed": 4, "progress": False} | options
    history = dg.fit(game.objective, game.x, out=out, **options)
    tensors = [t.clone() for m in game.modules.values() for t in m.state_dict().values()]
    return tensors, history


def plan(out, every=5):
    return dg.train.Checkpoints(out, every=every)


def equal(one, other):
    (weights, history), (others, other_history) = one, other
    assert all(map(torch.equal, weights, others))
    assert history.losses.keys() == other_history.losses.keys()
    assert all(torch.equal(history[n], other_history[n]) for n in history.losses)
    assert history.metrics.keys() == other_history.metrics.keys()
    for name, series in history.metrics.items():
        assert torch.equal(series.steps, other_history.metrics[name].steps)
        assert torch.equal(series.values, other_history.metrics[name].values)
    return True


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("name", GAMES)
def test_resumed_is_never_ended_to_the_bit(name, turn, tmp_path):
    options = {"optimizer": TURNS[turn], "callbacks": [noisy]}
    whole = played(name, plan(tmp_path / "whole"), steps=17, **options)
    assert equal(whole, played(name, None, steps=17, **options))
    for first in (3, 10):  # of an epoch of 6 batches: in the middle, and near a checkpoint
        out = tmp_path / str(first)
        played(name, plan(out), steps=first, **options)
        torch.manual_seed(first)
        assert equal(whole, played(name, plan(out), steps=17, resume=True, **options))
        lines = (out / "history.jsonl").read_text()
        assert lines == (tmp_path / "whole/history.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_compiled_steps_resume_to_the_bit(tmp_path):
    turn = dg.train.Turn(ADAM, clip=0.5, average=0.9)
    options = {"optimizer": turn, "compile": True}
    whole = played("vae", None, steps=9, **options)
    played("vae", plan(tmp_path), steps=4, **options)
    assert equal(whole, played("vae", plan(tmp_path), steps=9, resume=True, **options))


def test_a_fit_that_is_done_is_returned_as_it_was(tmp_path):
    whole = played("vae", tmp_path, steps=5, optimizer=TURNS["all at once"])
    again = played("vae", tmp_path, steps=5, optimizer=TURNS["all at once"], resume=True)
    assert equal(whole, again)


def test_without_a_checkpoint_resuming_is_starting(tmp_path):
    whole = played("vae", None, steps=5)
    assert equal(whole, played("vae", tmp_path / "new", steps=5, resume=True))


def test_the_last_k_are_kept(tmp_path):
    played("vae", dg.train.Checkpoints(tmp_path, every=2, keep=2), steps=9)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["000000008.safetensors", "000000009.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "history.jsonl"]


def test_a_checkpoint_is_weights_that_load_reads(tmp_path):
    game = vae()
    dg.fit(game.objective, game.x, steps=3, out=tmp_path)
    saved = dg.load(tmp_path / "checkpoints/000000003.safetensors")
    assert saved.graphs["model.0"] == game.modules["p"].graph
    weights = game.modules["p"].state_dict()
    assert all(torch.equal(saved.tensors["model.0"][k], v) for k, v in weights.items())


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_cut, damage_flip])
def test_a_damaged_newest_falls_back_to_the_one_before(damage, tmp_path):
    whole = played("vae", None, steps=20)
    played("vae", plan(tmp_path), steps=12)
    damage(tmp_path / "checkpoints/000000012.safetensors")
    with pytest.warns(UserWarning, match=r"12\.safetensors is .*; the checkpoint before it is ta"):
        again = played("vae", plan(tmp_path), steps=20, resume=True)
    assert equal(whole, again)
    assert (tmp_path / "checkpoints/000000012.damaged").exists()


def test_when_all_are_damaged_it_says_so(tmp_path):
    played("vae", dg.train.Checkpoints(tmp_path, keep=1), steps=3)
    damage_flip(tmp_path / "checkpoints/000000003.safetensors")
    with pytest.raises(ValueError, match=r"003\.safetensors is damaged: its tensors are not"):
        played("vae", tmp_path, steps=5, resume=True)


def test_a_run_is_never_overwritten_silently(tmp_path):
    played("vae", tmp_path, steps=3)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(FileExistsError, match="holds a run already; say resume=True"):
        played("vae", tmp_path, steps=3)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 9}, "another batch_size: 8, here 9"),
        ({"seed": 5}, "another seed: 4, here 5"),
        ({"optimizer": dg.SGD()}, r"another optimizer of model: Turn\(optimizer=Adam\(lr=0.001"),
        ({"lr": 0.5}, "another optimizer of model: .*lr=0.5"),
    ],
)
def test_another_call_is_refused(options, message, tmp_path):
    played("vae", tmp_path, steps=3)
    with pytest.raises(ValueError, match=message):
        played("vae", tmp_path, steps=5, resume=True, **options)


def test_other_data_are_refused(tmp_path):
    game = vae()
    dg.fit(game.objective, game.x, steps=2, out=tmp_path)
    with pytest.raises(ValueError, match=r"another data x: \[50, 4\] torch.float32, checksum"):
        dg.fit(game.objective, 1 - game.x, steps=4, out=tmp_path, resume=True)


def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(tmp_path):
    class Wide(dg.Model):
        x = dg.Input()

        def __init__(self, width):
            super().__init__()
            self.net = nn.Linear(4, width)
            self.out = nn.Linear(width, 1)

        @dg.rv
        def y(self, x):
            return Normal(self.out(self.net(x)), 1.0)

    data = {"x": torch.ones(4, 4), "y": torch.ones(4, 1)}
    dg.fit(dg.nll(Wide(3), observed=["y"]), data, steps=2, out=tmp_path)
    other = Wide(5)
    before = [p.clone() for p in other.parameters()]
    with pytest.raises(ValueError, match=r"no model/first/0 of moves that fits"):
        dg.fit(dg.nll(other, observed=["y"]), data, steps=4, out=tmp_path, resume=True)
    assert all(map(torch.equal, before, other.parameters()))
    with pytest.raises(ValueError, match="another objective"):
        played("gan", tmp_path, steps=5, resume=True)


def test_weights_alone_are_no_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    game = vae()
    dg.save(game.modules, tmp_path / "checkpoints/000000003.safetensors")
    with pytest.raises(ValueError, match="holds weights only: it is no checkpoint"):
        played("vae", tmp_path, steps=5, resume=True)


class Payload:
    """Executes on unpickling."""

    def __reduce__(self):
        return (Path.touch, (Path(os.environ["PLANTED"]),))


@pytest.mark.parametrize("write", ["pickle", "torch", "foreign"])
def test_hostile_and_foreign_checkpoints_are_refused_and_not_executed(
    write, tmp_path, monkeypatch
):
    monkeypatch.setenv("PLANTED", str(tmp_path / "executed"))
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints/000000009.safetensors"
    if write == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif write == "torch":
        torch.save({"model": Payload()}, path)
    else:
        save_file({"model.0/net.0.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"no safetensors file|was not written by daguerre"):
        played("vae", tmp_path, steps=5, resume=True)
    assert not (tmp_path / "executed").exists()
    assert path.exists()


def test_a_file_that_the_system_cuts_off_is_never_seen(tmp_path):
    """A limit on the size of files stands in for the disk: what is written ends in the middle."""
    played("vae", plan(tmp_path), steps=10)
    before = (tmp_path / "checkpoints/000000010.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"no checkpoint was written; the last checkpoint, .*010\.s"
        ):
            played("vae", plan(tmp_path), steps=20, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["000000005.safetensors", "000000010.safetensors"]  # and no part of another
    assert (tmp_path / "checkpoints/000000010.safetensors").read_bytes() == before
    assert len(dg.train.read_history(tmp_path / "history.jsonl")) >= 10


def test_resuming_needs_a_folder():
    with pytest.raises(ValueError, match="say where its checkpoints are"):
        dg.fit(dg.nll(Mean()), torch.ones(3), resume=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        played("vae", tmp_path, steps=2)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(OSError, match="run"):
        played("vae", tmp_path / "run", steps=2)
    assert (tmp_path / "run").read_text() == "mine"


def test_a_full_disk_leaves_the_last_checkpoint_intact_and_says_so(tmp_path, monkeypatch):
    whole = played("vae", None, steps=20)
    written = store_module.write

    def full(path, saved):
        if saved.notes["steps"] > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(path, saved)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write", full)
        message = r"No space left on device: no checkpoint was written; the last .*10\.safe"
        with pytest.raises(OSError, match=message):
            played("vae", plan(tmp_path), steps=20)
    assert read(tmp_path / "checkpoints/000000010.safetensors").notes["steps"] == 10
    assert equal(whole, played("vae", plan(tmp_path), steps=20, resume=True))


def test_a_disk_that_takes_half_a_line_takes_none(tmp_path, monkeypatch):
    whole = os.write

    def half(handle, content):
        if content.startswith(b'{"step": 6'):
            whole(handle, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(handle, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            played("vae", plan(tmp_path), steps=20)
    assert len(dg.train.read_history(tmp_path / "history.jsonl")) == 5


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_finishes_the_step_and_writes_a_checkpoint(tmp_path):
    def press(now):
        if now.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    whole = played("gan", None, steps=20)
    _, history = played("gan", tmp_path, steps=20, callbacks=[press])
    assert history.interrupted
    assert len(history) == 7
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert equal(whole, played("gan", tmp_path, steps=20, resume=True))


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_twice_ends_at_once(tmp_path):
    def press(now):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    _, history = played("gan", plan(tmp_path), steps=20, callbacks=[press])
    assert history.interrupted
    assert not [*(tmp_path / "checkpoints").iterdir()]


def killed(out, wait):
    """Train in another process, kill it after some time; return whether it had come to its end."""
    child = os.fork()
    if child == 0:
        played("gan", dg.train.Checkpoints(out, every=1), steps=150, resume=True)
        os._exit(0)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


def kill_at_random(out, times):
    """Kill a run again and again, and look at its files each time; return the final weights."""
    chance = random.Random(0)
    for _ in range(times):
        killed(out, chance.uniform(0.0, 0.25))
        if (Path(out) / "history.jsonl").exists():
            lines = (Path(out) / "history.jsonl").read_text().split("\n")
            assert [json.loads(line)["step"] for line in lines[:-1]] == [*range(1, len(lines))]
        for path in store_module.checkpoints(out):
            read(path)
    return played("gan", dg.train.Checkpoints(out, every=1), steps=150, resume=True)


def test_killed_at_random_moments_it_goes_on_to_the_same_weights(tmp_path):
    assert equal(played("gan", None, steps=150), kill_at_random(tmp_path, 4))


@pytest.mark.slow
def test_killed_at_fifty_random_moments_it_goes_on_to_the_same_weights(tmp_path):
    whole = played("gan", None, steps=150)
    for run in range(10):
        assert equal(whole, kill_at_random(tmp_path / str(run), 5))
