"""Real networks with reference answers, in a folder of the user's: run by `make reference`.

DAGUERRE_DATA names a folder that holds `networks/`, with the bnlearn repository's networks, its
Gaussian ones and problems of the UAI competition, and answers found by other programs.
"""

import json
import math
import os
from functools import cache
from pathlib import Path

import pytest
import torch
from gaussian_json import read_gaussian_network

from daguerre.formats import Factors, read_bif, read_uai, read_uai_evidence
from daguerre.infer import log_evidence, most_probable, posterior

FOLDER = Path(os.environ.get("DAGUERRE_DATA", "")) / "networks"
HERE = (FOLDER / "reference.json").is_file()
pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(not HERE, reason="DAGUERRE_DATA names no folder that holds networks/"),
]


def records(file: str, key: str | None = "records") -> list[dict]:
    if not HERE:
        return []
    found = json.loads((FOLDER / file).read_text())
    return found[key] if key else found


def named(record: dict) -> str:
    return record["id"]


@cache
def network(name: str):
    return read_bif(FOLDER / f"{name}.bif.gz")


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("record", records("reference.json"), ids=named)
def test_posteriors_evidence_and_explanations_of_discrete_networks(record):
    p, given = network(record["network"]), record["evidence"]
    found = posterior(p, record["query"], given=given)
    assert found.exact
    assert found.log_evidence.item() == pytest.approx(record["log_p_evidence"], abs=1e-9)
    for name in record["query"]:
        expected = torch.tensor(record["posterior"][name], dtype=torch.float64)
        torch.testing.assert_close(found.probs[name][0], expected, rtol=0, atol=1e-9)
    best = most_probable(p, given=given)
    assert best.log_prob.item() == pytest.approx(record["mpe"]["log_p"], abs=1e-9)


@pytest.mark.parametrize("record", records("gaussian/reference.json"), ids=named)
def test_evidence_and_moments_of_gaussian_and_mixed_networks(record):
    p = read_gaussian_network(FOLDER / "gaussian" / f"{record['network']}.json")
    given = {
        name: torch.tensor([value], dtype=torch.float64) if isinstance(value, float) else value
        for name, value in record["evidence"].items()
    }
    states = record.get("posterior_discrete", {})
    free = [name for name in states if name not in given]
    found = posterior(p, [*record["posterior"], *free], given=given)
    assert found.log_evidence.item() == pytest.approx(record["log_density_evidence"], abs=1e-9)
    for name, expected in record["posterior"].items():
        assert found[name].mean.item() == pytest.approx(expected["mean"], rel=1e-9, abs=1e-9)
        assert found[name].variance.item() == pytest.approx(expected["var"], rel=1e-9, abs=1e-9)
    for name in free:
        expected = torch.tensor(states[name], dtype=torch.float64)
        torch.testing.assert_close(found[name].probs[0], expected, rtol=0, atol=1e-9)


def test_a_zero_deviation_makes_one_state_certain():
    p = read_gaussian_network(FOLDER / "gaussian" / "healthcare.json")
    found = posterior(p, "H", given={"T": torch.tensor([1500.0], dtype=torch.float64)})
    assert found.probs[0, 1].item() == pytest.approx(1, abs=1e-15)


def marginals(file: Path) -> list[torch.Tensor]:
    """The printed marginals: a count, then per variable its number of states and the numbers."""
    numbers = iter(file.read_text().split()[1:])
    count = int(next(numbers))
    sizes = (int(next(numbers)) for _ in range(count))
    return [torch.tensor([float(next(numbers)) for _ in range(k)]) for k in sizes]


@pytest.mark.parametrize(
    "record", records("uai/index.json", None), ids=lambda record: record["file"]
)
def test_products_of_tables_of_the_uai_competition(record):
    file = FOLDER / "uai" / record["file"]
    p = read_uai(file)
    assert isinstance(p, Factors)
    given = read_uai_evidence(file.with_name(f"{file.name}.evid"))
    total = log_evidence(p, given, max_memory=2**34).item() / math.log(10)
    assert total == pytest.approx(record["log10_Z_own_numpy_VE"], rel=1e-9)
    assert total == pytest.approx(record["log10_Z_reference"], rel=1e-5)
    if "MAR" in record["answers"] and record["max_clique_entries"] < 5e6:
        expected = dict(zip(p.sizes, marginals(file.with_name(f"{file.name}.MAR")), strict=True))
        free = [name for name in p.sizes if name not in given]
        found = posterior(p, free, given=given, max_memory=2**34)
        for name in free:
            torch.testing.assert_close(
                found[name].probs[0].float(), expected[name], rtol=0, atol=1e-6
            )
    best = record.get("MAP_log_score_optimal_own")
    if best is not None:
        found = most_probable(p, given=given, max_memory=2**34)
        assert found.log_prob.item() == pytest.approx(best, rel=1e-9)
