"""Weights and graphs on disk: safetensors with a JSON header. Nothing is ever executed.

One file holds the tensors of one or several modules and, in its header, the graph of each model,
so that a file tells what it is without the code that made it.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daguerre.files import write_whole
from daguerre.graph import Graph, GraphError, Lag, Plate, Variable, did_you_mean
from daguerre.model import Model
from daguerre.train.packed import content, packed

__all__ = ["Saved", "load", "read", "save", "saved", "set_weights", "write"]

FORMAT = 1

Modules = nn.Module | Mapping[str, nn.Module]


@dataclass(frozen=True, eq=False)
class Saved:
    """What a file holds.

    Attributes:
        tensors: Per module, its tensors by name.
        graphs: Per model, its graph.
        notes: What was saved beside them: JSON values.
    """

    tensors: dict[str, dict[str, Tensor]]
    graphs: dict[str, Graph]
    notes: dict[str, Any]


def save(
    modules: Modules, path: str | os.PathLike[str], *, notes: dict[str, Any] | None = None
) -> None:
    """Write modules to one safetensors file, atomically: the old one stays until the new is whole.

    Args:
        modules: A model, or `{name: module}` for several, such as a model and its critic.
        path: The file; its folder must exist.
        notes: JSON values to keep beside the weights.

    Raises:
        FileNotFoundError: The folder does not exist.
        TypeError: Something else than modules, or notes that are not JSON.

    Example:
        >>> import daguerre as dg, tempfile
        >>> net = dg.nn.mlp(2, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(net, f"{folder}/net.safetensors")
        ...     saved = load(f"{folder}/net.safetensors", into=net)
        >>> sorted(saved.tensors["model"])
        ['0.bias', '0.weight']
    """
    write(path, saved(modules, notes=notes))


def saved(modules: Modules, *, notes: dict[str, Any] | None = None) -> Saved:
    """Take the tensors and graphs of modules, as `save` writes them.

    Raises:
        TypeError: Something else than modules.
    """
    named = _named(modules)
    return Saved(
        {name: dict(module.state_dict()) for name, module in named.items()},
        {name: module.graph for name, module in named.items() if isinstance(module, Model)},
        notes or {},
    )


def write(path: str | os.PathLike[str], saved: Saved) -> None:
    """Write tensors, graphs and notes to one safetensors file, all of it or nothing.

    Raises:
        FileNotFoundError: The folder does not exist.
        TypeError: Notes that are not JSON.
    """
    tensors = {
        f"{module}/{name}": tensor.detach().cpu().contiguous()
        for module, one in saved.tensors.items()
        for name, tensor in one.items()
    }
    header = {
        "format": FORMAT,
        "modules": [*saved.tensors],
        "graphs": {name: _as_json(graph) for name, graph in saved.graphs.items()},
        "notes": saved.notes,
        "checksum": _checksum(tensors),
    }
    write_whole(path, *packed(tensors, {"daguerre": json.dumps(header)}))


def load(path: str | os.PathLike[str], *, into: Modules | None = None) -> Saved:
    """Read a file that `save` wrote and, with `into`, set the weights of modules, all or none.

    Args:
        path: The file.
        into: A model, or `{name: module}` with the names it was saved under.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or foreign.
        GraphError: The weights belong to another model; says how it differs. Nothing is changed.
    """
    saved = read(path)
    if into is not None:
        set_weights(saved, _named(into), Path(path))
    return saved


def _named(modules: Modules) -> dict[str, nn.Module]:
    named = {"model": modules} if isinstance(modules, nn.Module) else modules
    if not isinstance(named, Mapping) or not all(isinstance(m, nn.Module) for m in named.values()):
        raise TypeError(f"expected a module or {{name: module}}, not {modules!r}")
    return dict(named)


def read(path: str | os.PathLike[str]) -> Saved:
    """Read a file that `save` or `write` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, damaged or foreign.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["daguerre"])
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        if header["format"] != FORMAT:
            raise ValueError(f"{path} has format {header['format']}; this version reads {FORMAT}")
        if header.get("checksum", _checksum(flat)) != _checksum(flat):
            raise ValueError(f"{path} is damaged: its tensors are not those that were written")
        graphs = {name: _from_json(graph) for name, graph in header["graphs"].items()}
        tensors: dict[str, dict[str, Tensor]] = {name: {} for name in header["modules"]}
        for key, tensor in flat.items():
            module, _, name = key.partition("/")
            tensors[module][name] = tensor
        return Saved(tensors, graphs, header["notes"])
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}") from error
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} was not written by daguerre.save: {error!r}") from error


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(content(tensors[name]), zlib.crc32(name.encode(), total))
    return total


def set_weights(saved: Saved, modules: Mapping[str, nn.Module], path: Path) -> None:
    """Set the weights of modules to those of a file, all or none.

    Raises:
        GraphError: They belong to another model; says how it differs.
    """
    for name, module in modules.items():
        if name not in saved.tensors:
            raise GraphError(f"{path} holds no module {name!r}{did_you_mean(name, saved.tensors)}")
        _check_same(name, module, saved, path)
    with torch.no_grad():
        for name, module in modules.items():
            for key, tensor in module.state_dict().items():
                tensor.copy_(saved.tensors[name][key])


def _check_same(name: str, module: nn.Module, saved: Saved, path: Path) -> None:
    graph = saved.graphs.get(name)
    if graph is not None and isinstance(module, Model) and graph != module.graph:
        raise GraphError(f"{path} holds {graph} as {name!r}, but the model has {module.graph}")
    here = {k: (tuple(t.shape), t.dtype) for k, t in module.state_dict().items()}
    there = {k: (tuple(t.shape), t.dtype) for k, t in saved.tensors[name].items()}
    for key in dict.fromkeys((*here, *there)):
        if here.get(key) != there.get(key):
            raise GraphError(
                f"{path}: {key} of {name!r} is {_text(there.get(key))} in the file and"
                f" {_text(here.get(key))} in the module; the weights belong to another model"
            )


def _text(entry: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return (
        "absent" if entry is None else f"{list(entry[0])} {str(entry[1]).removeprefix('torch.')}"
    )


def _as_json(graph: Graph) -> dict[str, Any]:
    return {
        "variables": [asdict(v) for v in graph.variables],
        "plates": [asdict(p) for p in graph.plates],
    }


def _from_json(entry: dict[str, Any]) -> Graph:
    def variable(v: dict[str, Any]) -> Variable:
        lags = tuple(Lag(**lag) for lag in v["lags"])
        fields = {**v, "parents": tuple(v["parents"]), "plates": tuple(v["plates"]), "lags": lags}
        return Variable(**fields)

    return Graph(map(variable, entry["variables"]), (Plate(**p) for p in entry["plates"]))
