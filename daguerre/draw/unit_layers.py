"""Nets unit by unit, as textbooks draw them; large layers as plates with what connects them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from daguerre.draw.notation import Arrow, Figure, Frame, Node, Shape
from daguerre.graph import Graph, GraphError

__all__ = ["unit_figure"]

_LETTERS = "jklmnrstuvw"


def unit_figure(graph: Graph, *, most: int = 12) -> Figure:
    r"""Picture the units of a net: $x_i$ given, hidden layers $h_j$, outputs $y_k$.

    Where a layer has more units than one can read, each layer is a plate with one unit in it, and
    an arrow says how many units above it each unit depends on.

    Args:
        graph: Units such as `fc[3]`, as `dg.units(net, example)` names them.
        most: The most units of a layer that are drawn one by one.

    Raises:
        GraphError: An empty graph.

    Example:
        >>> names = [f"x[{i}]" for i in range(100)], [f"fc[{i}]" for i in range(20)]
        >>> net = Graph.from_edges([(a, b) for a in names[0] for b in names[1]], inputs=names[0])
        >>> [arrow.label for arrow in unit_figure(net).arrows]
        ['\\text{fully connected}']
    """
    if not graph.names:
        raise GraphError("a figure needs at least one node: the graph has no units")
    layers: dict[str, list[str]] = {}
    for name in graph.names:
        layers.setdefault(_layer(name), []).append(name)
    letters = _letters(graph, layers)
    if max(map(len, layers.values())) > most:
        return _plates(graph, layers, letters)
    nodes = tuple(
        _node(graph, name, name, f"{letter}_{{{_place(name)}}}" if _place(name) else letter)
        for layer, letter in letters.items()
        for name in layers[layer]
    )
    arrows = (Arrow(a, b, deterministic=graph[b].map == "deterministic") for a, b in graph.edges)
    return Figure(nodes, tuple(arrows))


def _layer(name: str) -> str:
    return name.partition("[")[0]


def _place(name: str) -> str:
    """Write the place of a unit in its layer, counted from 1."""
    inside = name.partition("[")[2].rstrip("]")
    return ",".join(str(int(i) + 1) for i in inside.split(",")) if inside else ""


def _letters(graph: Graph, layers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Name layers as textbooks do: x what is given, z what is drawn, y what is put out, else h."""
    leaves, kinds = {_layer(name) for name in graph.leaves}, dict[str, str]()
    for layer, units in layers.items():
        map_ = graph[units[0]].map
        inner = "z" if map_ == "stochastic" else "y" if layer in leaves else "h"
        kinds[layer] = "x" if map_ == "input" else inner
    total, seen = Counter(kinds.values()), Counter[str]()
    letters = {}
    for layer, letter in kinds.items():
        seen[letter] += 1
        letters[layer] = letter + (f"^{{({seen[letter]})}}" if total[letter] > 1 else "")
    return letters


def _node(graph: Graph, unit: str, name: str, label: str) -> Node:
    map_ = graph[unit].map
    shape: Shape = "deterministic" if map_ == "deterministic" else "random"
    return Node(name, label, shape, observed=map_ == "input")


def _plates(
    graph: Graph, layers: Mapping[str, Sequence[str]], letters: Mapping[str, str]
) -> Figure:
    nodes, frames = [], []
    for i, (layer, units) in enumerate(layers.items()):
        index = ("i" + _LETTERS)[min(i, len(_LETTERS))]
        is_one = len(units) == 1
        label = letters[layer] if is_one else f"{letters[layer]}_{{{index}}}"
        nodes.append(_node(graph, units[0], layer, label))
        if not is_one:
            frames.append(Frame(layer, _range(index, units), (layer,)))
    joined: dict[tuple[str, str], Counter[str]] = {}
    for source, target in graph.edges:
        joined.setdefault((_layer(source), _layer(target)), Counter())[target] += 1
    arrows = (
        Arrow(
            *pair,
            deterministic=graph[layers[pair[1]][0]].map == "deterministic",
            label=_badge(list(parents.values()), *(len(layers[name]) for name in pair)),
        )
        for pair, parents in joined.items()
    )
    return Figure(tuple(nodes), tuple(arrows), tuple(frames))


def _range(index: str, units: Sequence[str]) -> str:
    sizes = _place(units[-1]).split(",")
    if len(sizes) == 1:
        return rf"{index} = 1, \ldots, {len(units)}"
    return " \\times ".join(sizes)


def _badge(parents: Sequence[int], above: int, below: int) -> str:
    """Say how two layers are connected: the parents that each unit with any has."""
    if len(parents) == below and min(parents) == above:
        return r"\text{fully connected}"
    if max(parents) == 1:
        return r"\text{one to one}"
    return rf"\text{{receptive field }} {max(parents)}"
