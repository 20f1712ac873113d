"""Published networks: sizes as published, rows that sum to one, draws, round trips."""

import json
import os
from pathlib import Path

import pytest
import torch

import daguerre as dg
from daguerre.cpds import Tabular
from daguerre.formats import (
    Factors,
    read_bif,
    read_network,
    read_uai,
    read_uai_evidence,
    write_bif,
    write_network,
    write_uai,
)

DATA = os.environ.get("DAGUERRE_DATA")
FOLDER = Path(DATA or ".", "networks")
pytestmark = pytest.mark.skipif(not DATA, reason="DAGUERRE_DATA names no folder of networks")

PUBLISHED = {  # nodes, arcs, parameters: bnlearn.com/bnrepository
    "alarm": (37, 46, 509),
    "asia": (8, 8, 18),
    "barley": (48, 84, 114005),
    "cancer": (5, 4, 10),
    "child": (20, 25, 230),
    "earthquake": (5, 4, 10),
    "hailfinder": (56, 66, 2656),
    "insurance": (27, 52, 1008),
    "mildew": (35, 46, 540150),
    "munin1": (186, 273, 15622),
    "pathfinder": (109, 195, 72079),
    "pigs": (441, 592, 5618),
    "sachs": (11, 17, 178),
    "survey": (6, 6, 21),
    "water": (32, 66, 10083),
}
UAI = {  # variables, factors, observed
    "Alchemy_11": (440, 860, 0),
    "CSP_12": (67, 271, 0),
    "DBN_11": (40, 440, 0),
    "DBN_15": (42, 483, 0),
    "Grids_11": (100, 300, 0),
    "Grids_13": (100, 300, 0),
    "Pedigree_12": (385, 385, 37),
    "Promedus_24": (200, 200, 4),
    "Promedus_35": (467, 467, 2),
    "Segmentation_14": (226, 845, 0),
    "Segmentation_16": (231, 864, 0),
    "grid10x10.f10": (100, 280, 0),
}


def tables(model: dg.Model) -> dict[str, Tabular]:
    return {s.name: s.cpd for s in model.steps() if isinstance(s.cpd, Tabular)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_its_published_size_and_runs(name):
    model = read_bif(FOLDER / f"{name}.bif.gz", strict=True)
    cpds = tables(model)
    rows = {n: cpd.probs.detach().reshape(-1, cpd.probs.shape[-1]) for n, cpd in cpds.items()}
    parameters = sum((p.shape[-1] - 1) * p.shape[0] for p in rows.values())
    found = (len(model.graph.names), len(model.graph.edges), parameters)
    assert found == PUBLISHED[name]
    for probs in rows.values():
        assert probs.dtype == torch.float64
        torch.testing.assert_close(
            probs.sum(-1), torch.ones_like(probs[..., 0]), rtol=1e-14, atol=0
        )
    drawn = model.sample(5)
    assert model.log_prob(drawn).isfinite().all()
    assert all(drawn[n].max() < cpd.probs.shape[-1] for n, cpd in cpds.items())


@pytest.mark.parametrize("name", ["child", "water", "pigs"])
def test_writing_a_network_loses_nothing(tmp_path, name):
    model = read_bif(FOLDER / f"{name}.bif.gz")
    known = tables(model)
    for again in (
        read_bif(write_bif(model, tmp_path / "net.bif"), strict=True),
        read_network(write_network(model, tmp_path / "net.json"), strict=True),
    ):
        assert again.graph == model.graph
        for variable, cpd in tables(again).items():
            before = known[variable]
            assert (cpd.states, cpd.parents) == (before.states, before.parents)
            torch.testing.assert_close(cpd.probs, before.probs, rtol=4e-15, atol=0)


def test_states_with_odd_names_are_kept():
    cpds = tables(read_bif(FOLDER / "child.bif.gz"))
    assert (cpds["ChestXray"].states or [""])[-1] == "Asy/Patch"
    assert cpds["LowerBodyO2"].states == ("<5", "5-12", "12+")
    assert (cpds["CardiacMixing"].states or [""])[-1] == "Transp."


@pytest.mark.parametrize("name", ["asia", "cancer", "earthquake", "survey", "sachs"])
def test_the_joint_gives_the_published_posteriors(name):
    model = read_bif(FOLDER / f"{name}.bif.gz")
    states = {n: list(cpd.states or ()) for n, cpd in tables(model).items()}
    sizes = [len(states[n]) for n in model.graph.names]
    every = torch.cartesian_prod(*map(torch.arange, sizes))
    values = dict(zip(model.graph.names, every.unbind(1), strict=True))
    joint = model.log_prob(values).exp().detach()
    records = json.loads((FOLDER / "reference.json").read_text())["records"]
    records = [record for record in records if record["network"] == name]
    assert records
    for record in records:
        fits = torch.ones(len(joint), dtype=torch.bool)
        for variable, state in record["evidence"].items():
            fits &= values[variable] == states[variable].index(state)
        seen = joint * fits
        assert seen.sum().item() == pytest.approx(record["p_evidence"], rel=1e-9)
        for variable, expected in record["posterior"].items():
            sums = torch.zeros(len(states[variable])).double().index_add(0, values[variable], seen)
            named = dict(zip(states[variable], (sums / seen.sum()).tolist(), strict=True))
            found = [named[state] for state in record["states"][variable]]
            assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", UAI)
def test_a_problem_of_the_competition_is_read_and_written(tmp_path, name):
    product = read_uai(FOLDER / "uai" / f"{name}.uai")
    evidence = read_uai_evidence(FOLDER / "uai" / f"{name}.uai.evid")
    assert isinstance(product, Factors)
    assert (len(product.sizes), len(product.tables), len(evidence)) == UAI[name]
    assert all(state < product.sizes[n] for n, state in evidence.items())
    again = read_uai(write_uai(product, tmp_path / "net.uai"))
    assert isinstance(again, Factors)
    assert (again.sizes, again.scopes) == (product.sizes, product.scopes)
    assert all(a.equal(b) for a, b in zip(again.tables, product.tables, strict=True))
