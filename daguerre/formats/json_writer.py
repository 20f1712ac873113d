"""Writing networks in JSON: tables, linear Gaussians, conditional Gaussians."""

from __future__ import annotations

import json
import os
from pathlib import Path

from torch import Tensor

from daguerre.cpds import LinearGaussian, Tabular
from daguerre.formats.json_reader import FORMAT, GAUSSIAN, TABLE, VERSION
from daguerre.formats.network import cpds_of, probs_of
from daguerre.formats.text import write_text
from daguerre.graph import GraphError
from daguerre.model import Model

__all__ = ["write_network"]


def write_network(model: Model, path: str | os.PathLike[str]) -> Path:
    r"""Write a network of tables and linear Gaussians in JSON, one line a variable.

    $p(v) = \prod_i p(v_i \mid \mathrm{pa}(v_i))$. The form, version 1, is described at the head of
    `daguerre.formats.json_reader`. Numbers have as many digits as give the same float64 back.

    Args:
        model: A model of which every CPD is a `Tabular` or a `LinearGaussian`.
        path: The file, overwritten where it exists; one that ends in `.gz` is compressed.

    Returns:
        The path.

    Raises:
        InadmissibleError: Another CPD, or an input.
        GraphError: A parameter that is NaN or infinite.
        OSError: The folder or the disk does not take it.

    Example:
        >>> import tempfile
        >>> from daguerre import model
        >>> p = model(height=LinearGaussian(170.0, 1.0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(write_network(p, f"{folder}/height.json").read_text())
        {"format": "daguerre network", "version": 1, "variables": {
        "height": {"kind": "linear gaussian", "bias": 170.0, "scale": 1.0}
        }}
        <BLANKLINE>
    """
    lines = []
    for name, cpd in cpds_of(model).items():
        fields = _table(name, cpd) if isinstance(cpd, Tabular) else _gaussian(name, cpd)
        lines.append(f"{json.dumps(name)}: {json.dumps(fields)}")
    head = f'{{"format": {json.dumps(FORMAT)}, "version": {VERSION}, "variables": {{\n'
    return write_text(path, head + ",\n".join(lines) + "\n}}\n")


def _table(name: str, cpd: Tabular) -> dict[str, object]:
    fields: dict[str, object] = {"kind": TABLE, "states": cpd.states or cpd.probs.shape[-1]}
    if cpd.parents:
        fields["parents"] = cpd.parents
    return fields | {"table": probs_of(name, cpd).tolist()}


def _gaussian(name: str, cpd: LinearGaussian) -> dict[str, object]:
    fields: dict[str, object] = {"kind": GAUSSIAN}
    if cpd.event:
        fields["event"] = list(cpd.event)
    if cpd.given:
        fields["given"] = cpd.given
    fields["bias"] = _numbers(name, cpd.bias)
    if cpd.continuous:
        pairs = zip(cpd.continuous, cpd.weights, strict=True)
        fields["weights"] = {parent: _numbers(name, weight) for parent, weight in pairs}
    if cpd.scale_tril is not None:
        return fields | {"scale_tril": _numbers(name, cpd.scale_tril.tril())}
    assert cpd.log_scale is not None
    return fields | {"scale": _numbers(name, cpd.log_scale.exp())}


def _numbers(name: str, tensor: Tensor) -> list[object] | float:
    if not tensor.isfinite().all():
        raise GraphError(
            f"the linear Gaussian of {name!r} holds NaN or infinity; no file takes it"
        )
    return tensor.detach().double().tolist()
