"""Measure the processor time of layout and SVG, on one core.

    python benchmarks/drawing.py [NODES ...]

Random sparse graphs with 1.3 edges a node, the same with plates in plates, and a chain of blocks.
Setting the type of a first small picture is not timed.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Callable
from string import ascii_lowercase
from time import process_time

import daguerre as dg
from daguerre.draw import draw
from report import circumstances, table

__all__ = ["main"]

_PER_NODE = 1.3
_NEAR = 20  # how far an arrow reaches in a graph with plates


def main(sizes: list[int]) -> None:
    """Print one table: a row for each kind of graph and size."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(circumstances(["daguerre"]), end="\n\n")
    kinds: dict[str, Callable[[int], dg.Graph]] = {
        "random": _random,
        "with plates": _plated,
        "chain of blocks": _blocks,
    }
    draw(_random(5))
    rows = []
    for kind, make in kinds.items():
        for size in sizes:
            graph = make(size)
            start = process_time()
            length = len(draw(graph).svg)
            spent = process_time() - start
            counts = (len(graph.names), len(graph.edges), length // 1000)
            rows.append([kind, *map(str, counts), f"{spent:.2f}"])
    print(table(["graph", "nodes", "edges", "SVG, kB", "CPU seconds"], rows))


def _names(size: int) -> list[str]:
    return [f"v_{i}" for i in range(size)]


def _random(size: int) -> dg.Graph:
    rng, names = random.Random(0), _names(size)
    pairs = (sorted(rng.sample(range(size), 2)) for _ in range(int(_PER_NODE * size)))
    return dg.Graph.from_edges(sorted({(names[a], names[b]) for a, b in pairs}), nodes=names)


def _plated(size: int) -> dg.Graph:
    rng, names = random.Random(0), _names(size)
    sources = (rng.randrange(size - 1) for _ in range(int(_PER_NODE * size)))
    pairs = {(a, min(a + rng.randrange(1, _NEAR), size - 1)) for a in sources}
    tenth = max(size // 10, 4)
    starts = range(0, size, tenth)
    outer = {
        letter: names[k : k + tenth] for letter, k in zip(ascii_lowercase, starts, strict=False)
    }
    inner = {
        letter: names[k + 1 : k + tenth // 2]
        for letter, k in zip(ascii_lowercase[13:], starts, strict=False)
    }
    edges = sorted((names[a], names[b]) for a, b in pairs)
    return dg.Graph.from_edges(edges, nodes=names, plates=outer | inner)


def _blocks(size: int) -> dg.Graph:
    """Chain blocks of five modules, each with a shortcut, as a residual net does."""
    names = [f"block{i // 5}.step{i % 5}" for i in range(size)]
    edges = [*itertools.pairwise(names), *zip(names[::5], names[4::5], strict=False)]
    return dg.Graph.from_edges(edges, nodes=names, deterministic=names[1:], inputs=names[:1])


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [200, 1000])
