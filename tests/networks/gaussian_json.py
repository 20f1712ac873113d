"""Gaussian and conditional-Gaussian networks, as R prints them in JSON, as models.

Per variable there are coefficients by parent (`(Intercept)` is the bias) and a variance or
standard deviations; configurations of discrete parents run with the first parent fastest.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daguerre.compose import Composed
from daguerre.cpds import LinearGaussian, Tabular
from daguerre.graph import Graph, Variable
from daguerre.model import Model

__all__ = ["gaussian_network", "read_gaussian_network"]

BIAS = "(Intercept)"


def read_gaussian_network(path: str | Path) -> Model:
    """Read one of the files into a model in float64; states are numbered as in `levels`."""
    return gaussian_network(json.loads(Path(path).read_text()))


def gaussian_network(document: dict[str, Any]) -> Model:
    """Return the model of a network whose CPDs are `{name: {"coefficients": ..., ...}}`."""
    described = document["cpds"]
    levels = {n: d["levels"] for n, d in described.items() if d.get("type") == "discrete"}
    cpds = {
        name: _table(described[name], levels) if name in levels else _gaussian(described[name])
        for name in document["nodes"]
    }
    graph = Graph(Variable(name, cpd.parents) for name, cpd in cpds.items())
    return Composed(graph, cpds)


def _table(described: dict[str, Any], levels: dict[str, list[str]]) -> Tabular:
    """A table whose rows are keyed `PARENT=LEVEL`; none here has two parents."""
    own, parents, cpt = described["levels"], described["parents"], described["cpt"]
    if len(parents) > 1:
        raise ValueError(f"a table of one parent or none was expected, not of {parents}")
    rows = [cpt[f"{parent}={level}"] for parent in parents for level in levels[parent]]
    probs = [[row[state] for state in own] for row in rows or [cpt]]
    table = torch.tensor(probs, dtype=torch.float64)
    return Tabular(table if parents else table[0], *parents, states=own)


def _gaussian(described: dict[str, Any]) -> LinearGaussian:
    given = described.get("dparents", [])
    sizes = [len(described["dlevels"][parent]) for parent in given]
    numbers = {
        name: _configured(value, sizes) for name, value in described["coefficients"].items()
    }
    bias = numbers.pop(BIAS)
    scale = (
        _configured(described["sd"], sizes)
        if "sd" in described
        else _configured(described["variance"], sizes).sqrt()
    )
    return LinearGaussian(bias, scale, weights=numbers, given=given)


def _configured(value: float | list[float], sizes: list[int]) -> Tensor:
    """Numbers by configuration, `[*sizes]`; in the file the first parent is fastest."""
    numbers = torch.tensor(value, dtype=torch.float64)
    backwards = numbers.reshape(sizes[::-1])
    return backwards.permute(*reversed(range(len(sizes)))) if sizes else backwards.reshape(())
