"""What a run keeps is enough: to repeat it, to export it, to find its data again."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch

import daguerre as dg

MINE = """
from torch.distributions import Normal
import daguerre as dg

class Line(dg.Model):
    def __init__(self):
        super().__init__()
        self.net = dg.nn.mlp(2, 64)
    @dg.rv
    def z(self):
        return dg.StandardNormal(2)
    @dg.rv
    def x(self, z):
        return Normal(self.net(z), 1.0)

class Code(dg.Model):
    x = dg.Input()
    def __init__(self):
        super().__init__()
        self.net = dg.nn.mlp(64, 2)
    @dg.rv
    def z(self, x):
        return Normal(self.net(x), 1.0)
"""


@pytest.fixture
def fitted(run):
    assert run("fit", "vae", "--out", "run", "--set", "steps=3")[0] == 0
    return run


def rows(path, seed=0):
    np.save(path, np.random.default_rng(seed).random((20, 12), dtype=np.float32))


# Again


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_a_run_that_is_repeated_gives_the_same_weights_and_losses(run, tmp_path, name):
    words = ("--set", "steps=4", "--set", "average.model=0.9", "--lr", "0.01", "--seed", "5")
    run("fit", name, "--out", "one", *words)
    code, out, _ = run("repeat", "one", "--out", "other")
    assert code == 0
    assert "the weights are those of one, to the bit" in out
    one, other = (dg.load(tmp_path / r / "weights.safetensors").tensors for r in ("one", "other"))
    assert all(torch.equal(one[m][k], other[m][k]) for m in one for k in one[m])
    texts = [(tmp_path / r / "history.jsonl").read_text() for r in ("one", "other")]
    assert texts[0] == texts[1]


def test_weights_that_differ_are_told_with_what_was_not_alike(fitted, tmp_path):
    path = tmp_path / "run/run.json"
    made = json.loads(path.read_text())
    made["versions"]["torch"], made["settings"]["seed"] = "1.0", 3
    path.write_text(json.dumps(made))
    _, out, _ = fitted("repeat", "run", "--out", "other")
    assert f"the weights differ from those of run; torch 1.0 then, {torch.__version__} now" in out


def test_a_run_is_not_repeated_over_another_nor_without_trust(run, tmp_path):
    (tmp_path / "mine_r.py").write_text(MINE)
    fit = ("fit", "mine_r:Line", "--q", "mine_r:Code", "--set", "steps=3")
    assert run(*fit, "--out", "run")[0] == 0
    again = ("repeat", "run", "--model", "mine_r:Line", "--out")
    assert "holds a run already" in run(*again, "run")[2]
    assert "say --model mine_r:Line if you trust it" in run("repeat", "run", "--out", "new")[2]
    assert not (tmp_path / "new").exists()
    code, out, _ = run(*again, "new")
    assert code == 0
    assert "to the bit" in out
    sys.modules.pop("mine_r")


def test_data_that_moved_are_named_and_must_be_the_same(run, tmp_path):
    rows(tmp_path / "rows.npy")
    assert run("fit", "vae", "--data", "rows.npy", "--out", "run", "--set", "steps=3")[0] == 0
    shutil.move(tmp_path / "rows.npy", tmp_path / "moved.npy")
    for word in (("resume", "run"), ("repeat", "run", "--out", "new")):
        code, _, err = run(*word)
        assert code == 1
        assert "the data of the run are not where they were" in err
        assert "say where they are now, --data or --folder" in err
    assert run("resume", "run", "--data", "moved.npy")[0] == 0
    again = ("repeat", "run", "--data", "moved.npy", "--out")
    assert "to the bit" in run(*again, "new")[1]
    rows(tmp_path / "moved.npy", seed=1)
    assert "fitted to other data" in run(*again, "newer")[2]
    assert "of another data x" in run("resume", "run", "--data", "moved.npy")[2]


def test_data_are_found_from_other_folders(run, tmp_path, monkeypatch):
    rows(tmp_path / "rows.npy")
    run("fit", "vae", "--data", "rows.npy", "--out", "run", "--set", "steps=3")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "to the bit" in run("repeat", "../run", "--out", "new")[1]


def test_a_run_keeps_versions_and_a_checksum_of_its_data(fitted, tmp_path):
    made = json.loads((tmp_path / "run/run.json").read_text())
    assert {"daguerre", "numpy", "python", "torch"} == {*made["versions"]}
    assert made["checksum"].startswith("[30, 64] torch.float32 ")


def test_tensorboard_is_written_where_it_is_asked_for(run, tmp_path):
    run("fit", "vae", "--out", "run", "--set", "steps=3", "--tensorboard")
    (log,) = (tmp_path / "run/tensorboard").iterdir()
    assert b"validation model" in log.read_bytes()
    assert b"samples" in log.read_bytes()
    run("repeat", "run", "--out", "new")
    assert (tmp_path / "new/tensorboard").is_dir()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=1.5", "seed is a whole number, not 1.5"),
        ("compile=3", "compile is true or false, not 3"),
        ("steps=true", "steps is a number, not true"),
        ("steps=2.5", "steps must be a whole number"),
        ("epochs=NaN", "epochs is a number, true or false, not 'NaN'"),
    ],
)
def test_settings_of_another_kind_are_refused(run, setting, message):
    code, _, err = run("fit", "vae", "--out", "run", "--set", setting)
    assert code == 1
    assert message in err


def test_folders_that_cannot_be_made_or_hold_checkpoints_are_refused(run, tmp_path):
    (tmp_path / "file").touch()
    for out in ("file", "file/run"):
        code, _, err = run("fit", "vae", "--out", out, "--set", "steps=3")
        assert code == 1
        assert f"the folder {out} cannot be made" in err
    (tmp_path / "part/checkpoints").mkdir(parents=True)
    assert "part holds a run already" in run("fit", "vae", "--out", "part")[2]
    assert not (tmp_path / "part/run.json").exists()


@pytest.mark.parametrize(
    "text", ["[]", '{"name": "vae"}', '{"name": "vae", "data": "digits", "pixels": "64"}']
)
def test_a_description_of_another_kind_is_damaged(fitted, tmp_path, text):
    (tmp_path / "run/run.json").write_text(text)
    code, _, err = fitted("export", "run", "-o", "x.pt2")
    assert code == 1
    assert "run.json is damaged" in err


# Exports


def test_a_decoder_of_a_run_is_exported_by_default(fitted, tmp_path):
    code, out, _ = fitted("export", "run", "-o", "decoder.pt2")
    assert code == 0
    assert "output   x.mean  [n, 64]  float32" in out
    loaded = torch.export.load(tmp_path / "decoder.pt2").module()
    assert loaded(z=torch.zeros(3, 16))["x.mean"].shape == (3, 64)


def test_an_encoder_and_draws_are_exported_by_name(fitted, tmp_path):
    assert fitted("export", "run", "-o", "encoder.pt2", "--of", "q")[0] == 0
    loaded = torch.export.load(tmp_path / "encoder.pt2").module()
    assert [*loaded(x=torch.zeros(3, 64))] == ["z.loc", "z.scale"]
    words = ("--output", "z.draw", "--output", "x.draw")
    assert "x_noise  [n, 64]" in fitted("export", "run", "-o", "draws.pt2", *words)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "a.gif"), "exports are .pt2 or .onnx, not .gif"),
        (("-o", "nowhere/a.pt2"), "no folder nowhere to write a.pt2 to"),
        (("-o", "a.pt2", "--of", "r"), "--of names a model of the run, not 'r'"),
        (("-o", "a.pt2", "--output", "y"), "there is no 'y' to export"),
        (("-o", "a.pt2", "--output", "z", "--given", "x"), "takes a posterior"),
    ],
)
def test_exports_that_make_no_sense_are_refused(fitted, words, message):
    code, _, err = fitted("export", "run", *words)
    assert code == 1
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_run_without_weights_is_not_exported(fitted, tmp_path):
    (tmp_path / "run/weights.safetensors").unlink()
    assert fitted("export", "run", "-o", "a.pt2")[0] == 0  # from its newest checkpoint
    shutil.rmtree(tmp_path / "run/checkpoints")
    assert "checkpoints holds no checkpoint" in fitted("export", "run", "-o", "b.pt2")[2]


def test_a_run_of_ones_own_class_is_exported_if_it_is_trusted(run, tmp_path):
    (tmp_path / "mine_e.py").write_text(MINE)
    run("fit", "mine_e:Line", "--q", "mine_e:Code", "--out", "run", "--set", "steps=3")
    assert "say --model mine_e:Line if you trust it" in run("export", "run", "-o", "a.pt2")[2]
    assert run("export", "run", "-o", "a.pt2", "--model", "mine_e:Line")[0] == 0
    assert (tmp_path / "a.pt2").exists()
    sys.modules.pop("mine_e")
