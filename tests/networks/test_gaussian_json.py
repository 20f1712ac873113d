"""The Gaussian networks of the data folder become models: shapes, moments, densities."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from gaussian_json import gaussian_network, read_gaussian_network
from torch import Tensor
from torch.distributions import MultivariateNormal

from daguerre.cpds import LinearGaussian
from daguerre.formats import read_network, write_network
from daguerre.model import Model

DATA = os.environ.get("DAGUERRE_DATA")
FOLDER = Path(DATA or ".", "networks", "gaussian")
real = pytest.mark.skipif(not DATA, reason="DAGUERRE_DATA names no folder of networks")

SMALL = {
    "nodes": ["s", "t", "a", "b"],
    "cpds": {
        "s": {
            "type": "discrete",
            "parents": [],
            "levels": ["l", "h"],
            "cpt": {"l": 0.3, "h": 0.7},
        },
        "t": {
            "type": "discrete",
            "parents": ["s"],
            "levels": ["x", "y", "z"],
            "cpt": {
                "s=l": {"x": 0.1, "y": 0.2, "z": 0.7},
                "s=h": {"x": 0.5, "y": 0.5, "z": 0.0},
            },
        },
        "a": {
            "type": "cgnode",
            "dparents": ["s", "t"],
            "dlevels": {"s": ["l", "h"], "t": ["x", "y", "z"]},
            "coefficients": {"(Intercept)": [1, 2, 3, 4, 5, 6]},
            "sd": [0, 1, 2, 3, 4, 5],
        },
        "b": {"coefficients": {"(Intercept)": [0.5], "a": [-2.0]}, "variance": [4.0]},
    },
}


def linear_gaussian(model: Model, name: str) -> LinearGaussian:
    cpd = next(step.cpd for step in model.steps() if step.name == name)
    assert isinstance(cpd, LinearGaussian)
    return cpd


def joint(model: Model) -> MultivariateNormal:
    """The dense Gaussian of a network without discrete variables, in the order of its graph."""
    names = model.graph.order
    n = len(names)
    means, maps, scales = torch.zeros(n).double(), torch.zeros(n, n).double(), []
    for i, name in enumerate(names):
        bias, weights, scale = linear_gaussian(model, name).affine()
        means[i] = bias
        scales.append(scale.squeeze())
        for parent, weight in weights.items():
            maps[i, names.index(parent)] = weight
    solve = torch.linalg.inv(torch.eye(n).double() - maps)
    factor = solve * torch.stack(scales)
    return MultivariateNormal(solve @ means, factor @ factor.mT)


def test_configurations_run_with_the_first_parent_fastest():
    model = gaussian_network(SMALL)
    a, b = linear_gaussian(model, "a"), linear_gaussian(model, "b")
    assert a.parents == ("s", "t")
    assert a.bias.tolist() == [[1, 3, 5], [2, 4, 6]]
    assert a.affine().scale.squeeze().diag().tolist() == pytest.approx([0, 3])
    assert (b.parents, b.bias.item()) == (("a",), 0.5)
    assert b.affine().scale.item() == pytest.approx(2.0)


def test_a_model_of_such_a_file_is_drawn_and_written(tmp_path):
    model = gaussian_network(SMALL)
    drawn = model.sample(50)
    still = (drawn["s"] == 0) & (drawn["t"] == 0)
    assert still.any()
    assert (drawn["a"][still] == 1).all()
    again = read_network(write_network(model, tmp_path / "small.json"))
    assert again.graph == model.graph
    assert linear_gaussian(again, "a").bias.equal(linear_gaussian(model, "a").bias)


@real
@pytest.mark.parametrize(("name", "nodes", "arcs"), [("ecoli70", 46, 70), ("magic-niab", 44, 66)])
def test_linear_gaussian_networks_have_the_published_moments(name, nodes, arcs):
    model = read_gaussian_network(FOLDER / f"{name}.json")
    assert (len(model.graph.names), len(model.graph.edges)) == (nodes, arcs)
    records = json.loads((FOLDER / "reference.json").read_text())["records"]
    records = [r for r in records if r["network"] == name]
    assert records
    dense = joint(model)
    order = list(model.graph.order)
    for record in records:
        seen = [order.index(n) for n in record["evidence"]]
        values = torch.tensor(list(record["evidence"].values()), dtype=torch.float64)
        expected = record["log_density_evidence"]
        assert density(dense, seen, values) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        for target, moments in record["posterior"].items():
            mean, variance = posterior(dense, order.index(target), seen, values)
            assert mean == pytest.approx(moments["mean"], rel=1e-8)
            assert variance == pytest.approx(moments["var"], rel=1e-8)


def density(dense: MultivariateNormal, seen: list[int], values: Tensor) -> float:
    if not seen:
        return 0.0
    marginal = MultivariateNormal(dense.mean[seen], dense.covariance_matrix[seen][:, seen])
    return marginal.log_prob(values).item()


def posterior(
    dense: MultivariateNormal, target: int, seen: list[int], values: Tensor
) -> tuple[float, float]:
    mean, cov = dense.mean, dense.covariance_matrix
    if not seen:
        return mean[target].item(), cov[target, target].item()
    gain = torch.linalg.solve(cov[seen][:, seen], cov[seen, target])
    variance = cov[target, target] - gain @ cov[seen, target]
    return (mean[target] + gain @ (values - mean[seen])).item(), variance.item()


@real
def test_healthcare_is_conditional_gaussian_with_a_deterministic_part(tmp_path):
    model = read_gaussian_network(FOLDER / "healthcare.json")
    assert set(model.graph.edges) == {
        *(("A", child) for child in "CHDO"),
        *(("H", "D"), ("C", "I"), ("D", "I"), ("I", "T"), ("O", "T")),
    }
    d = linear_gaussian(model, "D")
    assert d.bias.tolist() == [[0, 1], [0, 4], [0, 7]]
    assert linear_gaussian(model, "T").affine().scale.item() == pytest.approx(math.sqrt(100))
    drawn = model.sample(200)
    assert (drawn["D"][drawn["H"] == 0] == 0).all()
    again = read_network(write_network(model, tmp_path / "healthcare.json"))
    assert again.graph == model.graph
    rows = model.sample(20)
    rows["H"], rows["D"] = torch.ones_like(rows["H"]), rows["D"] + 1  # where D has a density
    torch.testing.assert_close(again.log_prob(rows), model.log_prob(rows))
