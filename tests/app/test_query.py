"""Questions from the command line: files of networks, evidence from words and from CSV files."""

import csv
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import daguerre as dg
from daguerre.cli import app
from daguerre.query import parse_given, read_evidence_rows

BIF = """network garden { }
variable rain { type discrete [ 2 ] { no, yes }; }
variable wet { type discrete [ 3 ] { dry, damp, wet }; }
probability ( rain ) { table 0.75, 0.25; }
probability ( wet | rain ) { (no) 0.5, 0.25, 0.25; (yes) 0.0, 0.25, 0.75; }
"""


@pytest.fixture
def garden(tmp_path) -> Path:
    path = tmp_path / "garden.bif"
    path.write_text(BIF)
    return path


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["query", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_posterior_is_printed(garden):
    said = run(garden, "rain", "--given", "wet=wet")
    assert "rain=yes" in said
    assert "0.5" in said


def test_without_targets_all_that_is_unknown_is_asked(garden):
    assert "wet=damp" in run(garden)


def test_a_plan_is_printed_instead(garden):
    said = run(garden, "rain", "--given", "wet=wet", "--explain")
    assert "exact" in said
    assert "elimination" in said


def test_rows_of_a_csv_are_answered_into_a_csv(garden, tmp_path):
    evidence, out = tmp_path / "evidence.csv", tmp_path / "out.csv"
    evidence.write_text("wet\nwet\n\ndry\ndamp\n")
    assert "3 rows" in run(garden, "rain", "--rows", evidence, "-o", out)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [float(row["rain=yes"]) for row in rows] == pytest.approx([0.5, 0.0, 0.25])
    expected = torch.tensor([0.375, 0.375, 0.25]).log()
    assert [float(row["log_evidence"]) for row in rows] == pytest.approx(expected.tolist())


def test_an_empty_cell_is_missing(garden, tmp_path):
    evidence = tmp_path / "evidence.csv"
    evidence.write_text("rain,wet\nyes,wet\n,wet\nno,\n")
    p = dg.read_bif(garden)
    given = read_evidence_rows(p, evidence)
    assert given["rain"].tolist() == [1, -1, 0]
    assert given["wet"].tolist() == [2, 2, -1]


def test_a_gaussian_network_gives_means_and_variances(tmp_path):
    p = dg.model(a=dg.LinearGaussian(1.0, 2.0), b=dg.LinearGaussian(0.0, 1.0, weights={"a": 1.0}))
    file, out = tmp_path / "pair.json", tmp_path / "out.csv"
    dg.formats.write_network(p, file)
    assert "a:mean" in run(file, "a", "--given", "b=3")
    evidence = tmp_path / "evidence.csv"
    evidence.write_text("b\n1\n6\n")
    run(file, "a", "--rows", evidence, "--out", out)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [float(row["a:mean"]) for row in rows] == pytest.approx([1.0, 5.0])
    assert [float(row["a:variance"]) for row in rows] == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rian"], "did you mean 'rain'"),
        (["rain", "--given", "wet=wett"], "no state 'wett'; did you mean 'wet'"),
        (["rain", "--given", "wet"], "NAME=VALUE"),
        (["rain", "--given", "rain=yes"], "target and given"),
        (["rain", "--rows", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_questions_are_refused(garden, words, message):
    with pytest.raises((ValueError, OSError), match=message):
        run(garden, *words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no evidence"),
        ("wet\n", "no evidence"),
        ("wte\nwet\n", "did you mean 'wet'"),
        ("wet,wet\nwet,wet\n", "twice"),
        ("wet,rain\nwet\n", r"evidence.csv:2: 1 cells, but 2 variables"),
        ("wet\nsoaked\n", "no state 'soaked'"),
    ],
)
def test_a_csv_that_is_none_is_refused(garden, tmp_path, text, message):
    path = tmp_path / "evidence.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_evidence_rows(dg.read_bif(garden), path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a \.bif, \.uai or \.json file"):
        run(tmp_path / "net.xml", "x")


def test_words_are_read_as_states(garden):
    assert parse_given(dg.read_bif(garden), ["wet=damp"])["wet"].tolist() == [1]
