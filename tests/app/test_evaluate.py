"""daguerre evaluate: what it measures of a run, prints and writes."""

import json

import pytest
import torch

from daguerre.data import Split

SAMPLES = {"mmd2", "c2st", "precision", "recall", "density", "coverage", "memorisation"}
CODED = {"elbo", "iwae", "rate", "distortion", "active units", "information", "marginal kl"}


@pytest.fixture
def split():
    x = torch.rand(100, 8, 8, generator=torch.Generator().manual_seed(0))
    return Split({"x": x[:60], "y": torch.zeros(60)}, {"x": x[60:], "y": torch.zeros(40)})


@pytest.mark.parametrize(
    ("name", "expected"), [("vae", CODED | SAMPLES), ("gan", SAMPLES | {"critic js", "critic kl"})]
)
def test_a_run_is_measured_by_what_applies(run, tmp_path, name, expected):
    assert run("fit", name, "--out", "run", "--epochs", "1")[0] == 0
    code, out, _ = run("evaluate", "run", "--particles", "7", "--rows", "30")
    assert code == 0
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert written["scores"].keys() == expected
    assert written["settings"] == {"particles": 7, "rows": 30, "seed": 0, "test": 40}
    assert all(score["spread"] >= 0 for score in written["scores"].values())
    lines = out.splitlines()
    assert lines[0].split() == ["measure", "value", "spread", "reading"]
    assert len(lines) == len(expected) + 2
    again = run("evaluate", "run", "--particles", "7", "--rows", "30")
    assert again[1] == out


def test_a_folder_without_a_run_is_one_line(run):
    code, _, err = run("evaluate", "nowhere")
    assert code == 1
    assert err.startswith("error: nowhere holds no run")
