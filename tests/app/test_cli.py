"""The command line, run in process: what it writes, how it exits, what it says."""

import json
import signal
import sys

import numpy as np
import pytest
import torch

import daguerre as dg
from daguerre.settings import fit_options
from daguerre.train import Sharding

MINE = """
import torch
from torch.distributions import Normal
import daguerre as dg

class Decoder(dg.Model):
    def __init__(self):
        super().__init__()
        self.net = dg.nn.mlp(2, 64)
    @dg.rv
    def z(self):
        return dg.StandardNormal(2)
    @dg.rv
    def x(self, z):
        return Normal(self.net(z), 1.0)

class Encoder(dg.Model):
    x = dg.Input()
    def __init__(self):
        super().__init__()
        self.net = dg.nn.mlp(64, 2)
    @dg.rv
    def z(self, x):
        return Normal(self.net(x), 1.0)

class Critic(torch.nn.Sequential):
    def __init__(self):
        super().__init__(dg.nn.mlp(64, 1))
"""


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_a_gallery_model_is_fitted_sampled_and_drawn(run, tmp_path, name):
    assert run("fit", name, "--out", "run", "--epochs", "1")[0] == 0
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {
        "run.json",
        "weights.safetensors",
        "history.jsonl",
        "checkpoints",
        "samples",
        "losses.svg",
        "samples.png",
        "graph.svg",
    }
    assert json.loads((tmp_path / "run/run.json").read_text())["name"] == name
    history = dg.train.read_history(tmp_path / "run/history.jsonl")
    assert [*history.losses] == (["model"] if name == "vae" else ["critic", "model"])
    assert len(history.metrics["validation model"].values) == len(history)
    assert (tmp_path / "run/samples/000000001.png").exists()
    assert run("sample", "run", "-o", "s.npy", "-n", "5")[0] == 0
    assert np.load("s.npy").shape == (5, 64)
    assert run("sample", "run", "-o", "s.png")[0] == 0
    assert run("draw", "run", "-o", "g.png")[0] == 0
    assert (tmp_path / "g.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(run):
    run("fit", "vae", "--out", "run", "--epochs", "1")
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        run("sample", "run", "-o", f"{name}.npy", "--seed", seed)
    a, b, c = (np.load(f"{name}.npy") for name in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_a_model_of_ones_own_brings_its_encoder_or_critic(run, tmp_path):
    (tmp_path / "mine_a.py").write_text(MINE)
    fit = ("fit", "mine_a:Decoder", "--epochs", "1")
    assert run(*fit, "--q", "mine_a:Encoder", "--out", "vae")[0] == 0
    assert run(*fit, "--critic", "mine_a:Critic", "--out", "gan")[0] == 0
    assert run("sample", "vae", "--model", "mine_a:Decoder", "-o", "s.npy")[0] == 0
    assert run("draw", "mine_a:Decoder", "-o", "g.svg")[0] == 0
    code, out, _ = run("check", "mine_a:Decoder", "--q", "mine_a:Encoder")
    assert code == 0
    assert "prescribed" in out
    assert "elbo KL(data * q, p) yes" in " ".join(out.split())


def test_a_run_never_imports_the_code_it_names_by_itself(run, tmp_path):
    (tmp_path / "mine_b.py").write_text(MINE)
    run("fit", "mine_b:Decoder", "--q", "mine_b:Encoder", "--out", "run", "--epochs", "1")
    (tmp_path / "mine_b.py").write_text("raise RuntimeError('executed')")
    sys.modules.pop("mine_b")
    code, _, err = run("sample", "run")
    assert code == 1
    assert "a run never imports code by itself: say --model mine_b:Decoder" in err


def test_check_prints_shapes_kinds_and_why_a_cost_is_refused(run):
    code, out, _ = run("check", "gan")
    assert code == 0
    assert "implicit    [n, 64]" in out
    assert "elbo KL(data * q, p) no x is implicit" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("check", "vea"),
            "'vea' is neither in the gallery nor module:Class; did you mean 'vae'",
        ),
        (("check", "json:JSONDecode"), "no 'JSONDecode'; did you mean 'JSONDecoder'?"),
        (("check", "nowhere:Class"), "No module named 'nowhere'"),
        (("sample", "nothing"), "nothing holds no run: there is no nothing/run.json"),
        (("fit", "vae", "--out", "r", "--data", "mnist"), "--data mnist needs --folder"),
        (("fit", "vae", "--out", "r", "--data", "digit"), "did you mean 'digits'?"),
        (("fit", "vae", "--out", "r", "--data", "gone.npy"), "gone.npy"),
        (("fit", "vae", "--out", "r", "--lr", "0"), "lr must be positive"),
        (("draw", "vae", "-o", "g.gif"), ".gif"),
        (("draw", "vae", "-o", "g.svg", "--view", "Hu"), "did you mean 'hu'?"),
    ],
)
def test_an_error_is_one_line_and_exit_code_one(run, arguments, message, monkeypatch):
    monkeypatch.delenv("DAGUERRE_DATA", raising=False)
    code, _, err = run(*arguments)
    assert code == 1
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_wrong_usage_is_exit_code_two(run):
    assert run("fit", "vae")[0] == 2
    assert run("fit", "vae", "--out", "r", "--batch-size", "0")[0] == 2


def test_a_folder_with_a_run_is_never_overwritten(run, tmp_path):
    run("fit", "vae", "--out", "run", "--epochs", "1")
    before = (tmp_path / "run/weights.safetensors").read_bytes()
    code, _, err = run("fit", "vae", "--out", "run", "--epochs", "1")
    assert code == 1
    assert "run holds a run already; choose another --out" in err
    assert (tmp_path / "run/weights.safetensors").read_bytes() == before


def test_damaged_runs_are_refused(run, tmp_path):
    run("fit", "vae", "--out", "run", "--epochs", "1")
    weights = tmp_path / "run/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert "truncated" in run("sample", "run")[2]
    (tmp_path / "run/run.json").write_text('{"name": ')
    assert "run.json is damaged" in run("sample", "run")[2]


def test_samples_that_are_no_squares_are_written_as_npy_only(run, tmp_path):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).random((20, 12), dtype=np.float32))
    assert run("fit", "vae", "--data", "rows.npy", "--out", "run", "--epochs", "1")[0] == 0
    assert not (tmp_path / "run/samples.png").exists()
    assert run("sample", "run", "-o", "s.npy")[0] == 0
    assert "no square picture; save them as .npy" in run("sample", "run", "-o", "s.png")[2]


def test_samples_have_the_formats_that_are_named(run):
    run("fit", "vae", "--out", "run", "--epochs", "1")
    assert "written as .png or .npy, not .gif" in run("sample", "run", "-o", "s.gif")[2]


# Going on, and comparing


def weights(tmp_path, name):
    return dg.load(tmp_path / name / "weights.safetensors").tensors


@pytest.mark.usefixtures("terminal")
def test_a_run_that_was_interrupted_goes_on_to_the_same_weights(run, tmp_path, monkeypatch):
    fit = ("fit", "gan", "--set", "steps=12", "--batch-size", "8", "--set", "average.model=0.9")
    assert run(*fit, "--out", "whole")[0] == 0
    original = dg.train.Step.__call__
    calls = []

    def press(self, batch):
        calls.append(batch)
        if len(calls) == 9:  # in the middle of a step
            signal.raise_signal(signal.SIGINT)
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(dg.train.Step, "__call__", press)
        code, out, _ = run(*fit, "--out", "broken")
    assert code == 130
    assert "interrupted; go on with daguerre resume broken" in out
    assert not (tmp_path / "broken/weights.safetensors").exists()
    assert run("sample", "broken", "-o", "early.npy")[0] == 0  # from the checkpoint
    assert "to be resumed" in run("runs", "broken")[1]
    assert run("resume", "broken")[0] == 0
    one, other = weights(tmp_path, "whole"), weights(tmp_path, "broken")
    assert all(torch.equal(one[m][k], other[m][k]) for m in one for k in one[m])
    texts = [(tmp_path / name / "history.jsonl").read_text() for name in ("whole", "broken")]
    assert texts[0] == texts[1]


def test_settings_reach_the_fit(run, tmp_path):
    pairs = ("updates.critic=2", "lr.model=0.01", "steps=3", "every=1", "keep=2", "compile=false")
    options = [word for pair in pairs for word in ("--set", pair)]
    assert run("fit", "gan", "--out", "run", *options)[0] == 0
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["000000002.safetensors", "000000003.safetensors"]
    call = dg.load(tmp_path / "run/checkpoints" / names[-1]).notes["call"]
    assert "updates=2" in call["optimizer of critic"]
    assert "lr=0.01" in call["optimizer of model"]
    assert "updates=1" in call["optimizer of model"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "a setting is key=value, or key.player=value, not 'steps'"),
        ("stps=3", "did you mean 'steps'?"),
        ("steps.model=3", "a setting is key=value"),
        ("lr.modle=3", "lr.modle: no player 'modle'; did you mean 'model'?"),
        ("lr=fast", "lr is a number, true or false, not 'fast'"),
        ("clip=-1", "clip must be positive"),
        ("epochs=0", "epochs must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(run, setting, message):
    code, _, err = run("fit", "vae", "--out", "run", "--set", setting)
    assert code == 1
    assert message in err
    assert run("fit", "vae", "--out", "run", "--epochs", "1")[0] == 0  # nothing is in its way


def test_runs_are_listed_and_compared(run, tmp_path):
    for name, lr in (("a", "0.001"), ("b", "0.01")):
        run("fit", "vae", "--out", f"all/{name}", "--epochs", "2", "--lr", lr)
    code, out, _ = run("runs", "all", "--plot", "both.svg")
    assert code == 0
    head, *rows = out.splitlines()
    assert head.split()[:4] == ["run", "model", "data", "settings"]
    assert "loss of model" in head
    assert "validation model" in head
    assert all("done" in row for row in rows[:2])
    assert "lr=0.001" in rows[0]
    assert "lr=0.01" in rows[1]
    assert (tmp_path / "both.svg").read_text().count("<polyline") == 2
    assert "there are no runs in" in run("runs", str(tmp_path / "all/a/checkpoints"))[2]
    assert "there is no folder nowhere" in run("runs", "nowhere")[2]


def test_a_run_says_what_made_it(run, tmp_path):
    run("fit", "vae", "--out", "run", "--epochs", "1", "--set", "average=0.9")
    made = json.loads((tmp_path / "run/run.json").read_text())
    assert made["settings"] == {"epochs": 1.0, "seed": 0, "average": 0.9}
    assert made["versions"]["torch"] == torch.__version__
    assert "git" in made


def test_early_stopping_is_a_setting(run, tmp_path):
    setting = ("--set", "patience=1", "--set", "lr=1e-20", "--set", "epochs=40")
    code, out, _ = run("fit", "vae", "--out", "run", *setting)
    assert code == 0
    assert "validation model has not got better" in out


# Questions to the graph alone

GRAPHS = """
import daguerre as dg

collider = dg.Graph.from_edges([("z1", "x"), ("z2", "x"), ("x", "y")])
hidden = dg.Graph.from_edges([("z", "h"), ("h", "x1"), ("h", "x2")], deterministic=["h"])
mean_field = dg.Graph.from_edges([("x", "z1"), ("x", "z2")], inputs=["x"])
"""


@pytest.fixture
def graphs(run, tmp_path):
    (tmp_path / "graphs.py").write_text(GRAPHS)
    yield run
    sys.modules.pop("graphs", None)


@pytest.mark.parametrize(
    ("what", "statement", "answer", "reason"),
    [
        ("graphs:hidden", "x1 _||_ x2 | z", "yes", "h is determined by z"),
        ("graphs:hidden", "x1 \u2aeb x2 | z", "yes", "h is determined by z"),
        ("graphs:collider", "z1 _||_ z2 | y", "no", "z1 -> x <- z2"),
        ("vae", "z _||_ x", "no", "z -> x"),
    ],
)
def test_ask_answers_with_the_reason_or_the_witness(graphs, what, statement, answer, reason):
    code, out, _ = graphs("ask", what, statement)
    assert code == 0
    assert out.startswith(f"{answer}: ")
    assert reason in out


def test_lint_says_what_q_ignores(graphs):
    code, out, _ = graphs("lint", "graphs:collider", "graphs:mean_field")
    assert code == 0
    assert "z1 -> x <- z2" in out


def test_lint_knows_the_inference_model_of_the_gallery(graphs):
    code, out, _ = graphs("lint", "vae")
    assert code == 0
    assert "nothing else" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask", "graphs:collider", "z1 z2"), "_||_"),
        (("ask", "graphs:collider", "z1 _||_ zz"), "no variable 'zz'"),
        (("ask", "graphs:collider", "z1 _||_ z1"), "z1 is in both"),
        (("lint", "graphs:collider"), "brings no inference model"),
        (("ask", "graphs:nothing", "z1 _||_ z2"), "module graphs has no 'nothing'"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_line(graphs, arguments, message):
    code, _, err = graphs(*arguments)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


# Nets

NETS = """
import torch
from torch import nn

def pair():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
    return net, torch.randn(2, 3)

def bare():
    return pair()[0]

def wide():
    return nn.Linear(30, 2), torch.randn(2, 30)

def number():
    return 3

class Failing(nn.Module):
    def forward(self, x):
        return x.reshape(7, 7)
"""


@pytest.fixture
def nets(run, tmp_path):
    (tmp_path / "mynets.py").write_text(NETS)
    yield run
    sys.modules.pop("mynets", None)


@pytest.mark.parametrize(
    ("arguments", "variables", "drawn"),
    [
        (("mynets:pair",), "4 variables", {"0", "1", "2"}),
        (("mynets:bare", "--input", "3"), "4 variables", {"0", "1", "2"}),
        (("mynets:pair", "--train"), "5 variables", {"noise"}),
        (("mynets:pair", "--units"), "4 variables", {'data-source="input[2]"'}),
        (("mynets:wide", "--units"), "2 variables", {'data-source="input"'}),
    ],
)
def test_a_net_is_drawn_as_a_graph(nets, tmp_path, arguments, variables, drawn):
    code, out, err = nets("net", *arguments, "-o", "net.svg")
    assert (code, err) == (0, "")
    assert variables in out
    assert "torch.export" in out
    picture = (tmp_path / "net.svg").read_text()
    assert all(name in picture for name in drawn)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mynets:bare",), "say what one row of each input of mynets:bare looks like"),
        (("mynets:bare", "--input", "three"), "--input takes sizes such as 3,32,32, not 'three'"),
        (("mynets:bare", "--input", "4"), "Sequential cannot be read"),
        (("mynets:number",), "makes no torch.nn.Module but 3"),
        (("mynets:Failing", "--input", "3"), "Failing cannot be read"),
        (("none.onnx",), "none.onnx"),
        (("none.onnx", "--train"), "leave out --train"),
    ],
)
def test_a_net_that_cannot_be_drawn_is_one_line(nets, arguments, message):
    code, _, err = nets("net", *arguments, "-o", "net.svg")
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(run, tmp_path):
    code, _, err = run("fit", "vae", "--out", "r", "--device", "gpu")
    assert code == 1
    assert err.startswith("error: there is no device 'gpu' here: ")
    assert not (tmp_path / "r").exists()


def test_nets_may_compute_in_bfloat16(run, tmp_path):
    code, out, _ = run("fit", "vae", "--out", "r", "--epochs", "2", "--set", "bf16=true")
    assert (code, "wrote r" in out) == (0, True)
    assert json.loads((tmp_path / "r" / "run.json").read_text())["settings"]["bf16"] is True


def test_settings_share_out_what_processes_keep():
    def asked(**settings):
        return fit_options(["model"], {"epochs": 1}, settings).get("shard")

    assert asked() is None
    assert asked(shard=True) is True
    assert asked(shard_weights=True) == Sharding(weights=True)
    assert asked(shard=True, shard_weights=False) is True
