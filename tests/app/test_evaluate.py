"""daguerre evaluate: what it measures of a run, prints and writes."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from daguerre.data import Split
from daguerre.evaluate.annealed import AIS, Annealing

SAMPLES = {"mmd2", "c2st", "precision", "recall", "density", "coverage", "memorisation"}
CODED = {"elbo", "iwae", "rate", "distortion", "active units", "information", "marginal kl"}


@pytest.fixture
def split():
    x = torch.rand(100, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(100) % 2
    return Split({"x": x[:60], "y": y[:60]}, {"x": x[60:], "y": y[60:]})


@pytest.mark.parametrize(
    ("name", "expected"), [("vae", CODED | SAMPLES), ("gan", SAMPLES | {"critic js", "critic kl"})]
)
def test_a_run_is_measured_by_what_applies(run, tmp_path, name, expected):
    assert run("fit", name, "--out", "run", "--epochs", "1")[0] == 0
    code, out, _ = run("evaluate", "run", "--particles", "7", "--rows", "30")
    assert code == 0
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert written["scores"].keys() == expected
    settings = {"particles": 7, "rows": 30, "seed": 0, "annealed": 0, "classes": False, "test": 40}
    assert written["settings"] == settings
    assert all(score["spread"] >= 0 for score in written["scores"].values())
    lines = out.splitlines()
    assert lines[0].split() == ["measure", "value", "spread", "reading"]
    assert len(lines) == len(expected) + 2
    again = run("evaluate", "run", "--particles", "7", "--rows", "30")
    assert again[1] == out


@pytest.mark.parametrize(("name", "refused"), [("vae", False), ("gan", True)])
def test_labels_and_annealing_are_asked_for(run, tmp_path, monkeypatch, name, refused):
    short = partial(AIS, annealing=Annealing(chains=2, steps=3, leapfrogs=2))
    monkeypatch.setattr("daguerre.runs_scores.AIS", short)
    run("fit", name, "--out", "run", "--epochs", "1")
    code, out, _ = run("evaluate", "run", "--rows", "20", "--classes", "--annealed", "2")
    assert code == 0
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())["scores"]
    assert {"digits-FID", "digits-KID", "class score"} <= scores.keys()
    assert ("ais" in scores) is not refused
    assert ("no AIS: " in out) is refused


def test_data_without_labels_trains_no_classifier(run, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((50, 4), dtype=np.float32))
    run("fit", "gan", "--data", "x.npy", "--out", "run", "--epochs", "1")
    code, _, err = run("evaluate", "run", "--rows", "20", "--classes")
    assert code == 1
    assert "x.npy has no labels" in err


def test_a_folder_without_a_run_is_one_line(run):
    code, _, err = run("evaluate", "nowhere")
    assert code == 1
    assert err.startswith("error: nowhere holds no run")
