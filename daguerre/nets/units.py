"""A net unit by unit: every number that flows through it is a node."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import product
from math import prod
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from daguerre.graph import Graph, GraphError, Variable
from daguerre.joint import as_joint
from daguerre.nets.connections import (
    ClosedForm,
    closed_form,
    is_elementwise,
    perturbed,
    redraw,
    stirred,
    worker,
)
from daguerre.nets.examples import tensors_of
from daguerre.nets.imported import Imported
from daguerre.nets.ladder import SEED
from daguerre.nets.modules import from_module
from daguerre.program import Program
from daguerre.running import draw
from daguerre.structure import eliminate

__all__ = ["units"]

DRAWS = 16  # of all parameters: a unit behind a dead ReLU is seen by another draw
_MOST_PAIRS = 2**28  # of units that are held against each other

Connections = dict[tuple[str, str], Tensor]


def units(net: nn.Module, *example: Any, fold: bool = True, max_edges: int = 2_000_000) -> Graph:
    r"""Read a net into the graph of its units: one node per number, one edge per dependence.

    A dense layer is a complete bipartite graph, a convolution connects receptive fields, and where
    no closed form is known (attention, pooling, masks, `round`, your own layers) the connections
    are found by perturbation, with parameters drawn anew 16 times: what is found is there, what is
    not found is absent but for a small chance. The weights of an ONNX file stay as they are.
    `dg.eliminate` then leaves out hidden units.

    Args:
        net: Any `nn.Module`, in the mode in which it is to be read, or what `dg.from_module` made
            of one.
        example: What it is called with. The first dimension of its tensors is the batch.
        fold: Whether an activation is one node with the unit it is applied to, as in textbooks;
            otherwise both are nodes.
        max_edges: The most edges to build.

    Returns:
        A Graph with nodes such as `fc[3]` or `conv[0,2,1]`: variable, and place in the event.

    Raises:
        GraphError: As for `from_module`; also a net whose path depends on the data, whose rows
            depend on each other, or that has too many edges.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> units(net, torch.randn(4, 2)).edges[:4]
        (('input[0]', '1[0]'), ('input[1]', '1[0]'), ('input[0]', '1[1]'), ('input[1]', '1[1]'))
    """
    model = net if isinstance(net, Imported) else from_module(net, *example)
    _check(model, example)
    connections = _connections(model, example)
    count = sum(int(c.sum()) for c in connections.values())
    if count > max_edges:
        raise GraphError(
            f"the unit graph has {count:,} edges, more than max_edges={max_edges:,}; look at fewer"
            " units, or at the graph of the modules, dg.from_module(net, example)"
        )
    graph = _graph(model, connections)
    return _folded(model, graph) if fold else graph


def _check(model: Imported, example: tuple[Any, ...]) -> None:
    recording = model.recording
    if not example:
        raise GraphError("units needs what the net is called with: dg.units(model, x)")
    checked = {i for block in model.plan.blocks.values() for i in block.inner}
    for number, op in enumerate(recording.ops):
        if op.role == "check" and number in checked:
            raise GraphError(
                f"the path through the net depends on the data ({op.place}), so other values may"
                " connect other units; there is no unit graph of all paths"
            )
        if op.role == "input" and (op.layout is None or op.layout.dim is None):
            raise GraphError(f"{op.label} is one value for all rows, so its units are no row's")
    if recording.is_bounded:
        raise GraphError(
            f"the net was read for batches of {recording.rows} rows, and its units are found in"
            " batches of other sizes; is the first dimension of the example the batch?"
        )


def _connections(model: Imported, example: tuple[Any, ...]) -> Connections:
    """Return the connected units of every pair of variables that the graph connects."""
    ops, plan, events = model.recording.ops, model.plan, _events(model)
    found: Connections = {}
    unknown: dict[tuple[str, str], ClosedForm | None] = {}
    for name, block in plan.blocks.items():
        for source in block.sources:
            pair = plan.names[source], name
            above, below = (events[n] for n in pair)
            known = closed_form(model, block, source, above)
            if known is not None and known.certain:
                found[pair] = known.connected
                continue
            if known is None:
                _refuse_many(pair, prod(above) * prod(below))
            unknown[pair] = known
            found[pair] = torch.zeros(prod(above), prod(below), dtype=torch.bool)
    inputs = [op.label for op in ops if op.role == "input"]
    if unknown:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(SEED)
            _perturb(
                copy.deepcopy(model),
                dict(zip(inputs, tensors_of(example), strict=True)),
                unknown,
                found,
            )
    return found


def _events(model: Imported) -> dict[str, tuple[int, ...]]:
    """Return the event shape of every variable."""
    layouts = {name: model.recording.ops[i].layout for i, name in model.plan.names.items()}
    return {name: layout.event for name, layout in layouts.items() if layout is not None}


def _refuse_many(pair: tuple[str, str], count: int) -> None:
    if count > _MOST_PAIRS:
        raise GraphError(
            f"{pair[0]} -> {pair[1]} connects {count:,} pairs of units by an operation that no"
            f" closed form is known for, more than {_MOST_PAIRS:,} that can be tried; take a"
            " smaller example"
        )


def _perturb(
    model: Imported,
    example: Mapping[str, Tensor],
    unknown: Mapping[tuple[str, str], ClosedForm | None],
    found: Connections,
) -> None:
    """Add what moves, for several draws of parameters and inputs."""
    program, dtype = _precise(model, example)
    for _ in range(DRAWS):
        redraw(model.net)
        values = draw(program, 2, _inputs(example, dtype), pathwise=False).values
        for (parent, name), form in unknown.items():
            step = program.by_name[name]
            if form is None:
                found[parent, name] |= perturbed(step, parent, values)
            else:
                found[parent, name] |= form.connected & stirred(step, parent, values)


def _precise(model: Imported, example: Mapping[str, Tensor]) -> tuple[Program, torch.dtype]:
    """Put the model in double precision, unless an operation in it insists on another."""
    program = as_joint(model.double()).program
    try:
        draw(program, 2, _inputs(example, torch.float64), pathwise=False)
    except RuntimeError:
        return as_joint(model.float()).program, torch.float32
    return program, torch.float64


def _inputs(example: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Draw two rows of inputs: normal, or for whole numbers those of the example."""
    drawn = {}
    for name, tensor in example.items():
        if tensor.is_floating_point():
            drawn[name] = torch.randn(2, *tensor.shape[1:], dtype=dtype)
        else:
            seen = tensor.unique()
            drawn[name] = seen[torch.randint(len(seen), (2, *tensor.shape[1:]))]
    return drawn


def _graph(model: Imported, connections: Connections) -> Graph:
    """Build the nodes and edges; constants of the net are no units."""
    graph, events, names = model.graph, _events(model), {}
    variables = []
    for v in graph.variables:
        if v.map == "deterministic" and not v.parents:
            continue
        names[v.name] = _unit_names(v.name, events[v.name])
        above: list[list[str]] = [[] for _ in names[v.name]]
        for parent in v.parents:
            if parent not in names:
                continue
            for below, up in connections[parent, v.name].T.nonzero().tolist():
                above[below].append(names[parent][up])
        units = zip(names[v.name], above, strict=True)
        variables += [Variable(name, tuple(parents), v.map) for name, parents in units]
    return Graph(variables)


def _unit_names(name: str, event: tuple[int, ...]) -> list[str]:
    places = product(*map(range, event))
    return [f"{name}[{','.join(map(str, place))}]" if place else name for place in places]


def _folded(model: Imported, graph: Graph) -> Graph:
    """Substitute what an activation is applied to into the activation."""
    outputs, events, gone = set(pytree.tree_leaves(model.outputs)), _events(model), []
    for v in model.graph.variables:
        children = model.graph.children(v.name)
        if v.map != "deterministic" or v.name in outputs or len(children) != 1 or not v.parents:
            continue
        child = model.plan.blocks[children[0]]
        op = worker(model.recording.ops, child)
        if len(child.sources) == 1 and op is not None and is_elementwise(op):
            gone += _unit_names(v.name, events[v.name])
    return eliminate(graph, gone)
