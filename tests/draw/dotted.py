"""Graphs as an import of a net makes them: dotted names, later calls, noise, long skips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from hypothesis import strategies as st

from daguerre.graph import Graph

__all__ = ["NETS", "chain", "dotted_graphs", "net", "resnet", "transformer", "unet"]

Edges = Iterable[tuple[str, str]]


def net(edges: Edges, *, inputs: Iterable[str] = ("x",), noise: Iterable[str] = ()) -> Graph:
    """Make the graph of a net: whatever is neither input nor noise is deterministic."""
    edges, noise, inputs = list(edges), set(noise), set(inputs)
    names = dict.fromkeys(name for edge in edges for name in edge)
    maps = [name for name in names if name not in inputs | noise]
    return Graph.from_edges(edges, deterministic=maps, inputs=inputs)


def chain(*names: str) -> Iterator[tuple[str, str]]:
    return pairwise(names)


def mlp() -> Graph:
    return net(chain("x", "net.0", "net.1", "net.2", "net.3", "net.4", "softmax"))


def shared() -> Graph:
    left = chain("a", "encoder.fc1", "encoder.relu", "encoder.fc2", "distance")
    right = chain("b", "encoder.fc1@1", "encoder.relu@1", "encoder.fc2@1", "distance")
    return net([*left, *right, ("distance", "head")], inputs=["a", "b"])


def resnet(stages: int = 4) -> Graph:
    edges = [*chain("x", "conv1", "bn1", "relu", "maxpool")]
    last = "maxpool"
    for stage in range(1, stages + 1):
        for block in range(2):
            at = f"layer{stage}.{block}."
            steps = [f"{at}{n}" for n in ("conv1", "bn1", "relu", "conv2", "bn2", "add", "relu@1")]
            edges += chain(last, *steps)
            widens = stage > 1 and block == 0
            shortcut = [f"{at}downsample.{i}" for i in range(2)] if widens else []
            edges += chain(last, *shortcut, f"{at}add")
            last = steps[-1]
    return net([*edges, *chain(last, "avgpool", "flatten", "fc")])


def unet(depth: int = 4) -> Graph:
    def block(start: str, at: str) -> tuple[list[tuple[str, str]], str]:
        steps = [f"{at}.{n}" for n in ("conv1", "relu", "conv2", "relu@1")]
        return [*chain(start, *steps)], steps[-1]

    edges, last, skips = [], "x", []
    for level in range(depth):
        more, end = block(last, f"downs.{level}")
        pool = "pool" if level == 0 else f"pool@{level}"
        edges += [*more, (end, pool)]
        skips.append(end)
        last = pool
    more, last = block(last, "bottleneck")
    edges += more
    for level, skip in enumerate(reversed(skips)):
        up, cat = f"ups.{level}.up", f"ups.{level}.cat"
        more, end = block(cat, f"ups.{level}.conv")
        edges += [(last, up), (up, cat), (skip, cat), *more]
        last = end
    return net([*edges, (last, "head")])


def transformer(layers: int = 6) -> Graph:
    edges, noise, last = [*chain("tokens", "embed", "add")], [], "add"
    edges += [("position", "add")]
    for layer in range(layers):
        at = f"encoder.layers.{layer}."
        heads = [(f"{at}self_attn.{n}", f"{at}self_attn.scores") for n in "qk"]
        edges += [(last, f"{at}norm1"), *((f"{at}norm1", f"{at}self_attn.{n}") for n in "qkv")]
        edges += [*heads, *chain(f"{at}self_attn.scores", f"{at}self_attn.softmax")]
        edges += [(f"{at}self_attn.{n}", f"{at}self_attn.matmul") for n in ("softmax", "v")]
        edges += chain(f"{at}self_attn.matmul", f"{at}self_attn.out_proj", f"{at}dropout1")
        edges += [(f"{at}dropout1.noise", f"{at}dropout1"), (f"{at}dropout1", f"{at}add")]
        noise.append(f"{at}dropout1.noise")
        steps = [f"{at}{n}" for n in ("add", "norm2", "linear1", "gelu", "linear2", "add@1")]
        edges += [(last, f"{at}add"), *chain(*steps), (steps[0], steps[-1])]
        last = steps[-1]
    return net(
        [*edges, *chain(last, "encoder.norm", "head")], inputs=["tokens", "position"], noise=noise
    )


def vae() -> Graph:
    encoder = chain("x", "encoder.fc", "encoder.relu")
    heads = [("encoder.relu", "encoder.mu"), ("encoder.relu", "encoder.log_var")]
    sample = [("encoder.log_var", "exp"), ("exp", "mul"), ("randn_like", "mul"), ("mul", "add")]
    decoder = chain("add", "decoder.fc1", "decoder.relu", "decoder.fc2", "decoder.sigmoid")
    return net([*encoder, *heads, *sample, ("encoder.mu", "add"), *decoder], noise=["randn_like"])


def interleaved() -> Graph:
    edges, last = [], "x"
    for i in range(4):
        steps = [f"convs.{i}", f"norms.{i}", "relu" if i == 0 else f"relu@{i}"]
        edges += chain(last, *steps)
        last = steps[-1]
    return net(edges)


def units() -> Graph:
    x, h, y = ([f"{n}[{i}]" for i in range(k)] for n, k in (("x", 4), ("fc1", 5), ("fc2", 3)))
    return net([(a, b) for one, two in ((x, h), (h, y)) for a in one for b in two], inputs=x)


NETS: dict[str, Graph] = {
    "mlp": mlp(),
    "shared": shared(),
    "resnet": resnet(),
    "unet": unet(),
    "transformer": transformer(),
    "vae": vae(),
    "interleaved": interleaved(),
    "units": units(),
}


@st.composite
def dotted_graphs(draw: st.DrawFn, largest: int = 14) -> Graph:
    """Make graphs whose variables lie in modules at random, in sequence or not."""
    count = draw(st.integers(1, largest))
    modules = st.sampled_from(["", "", "a.", "a.b.", "a.b.c.", "a.d.", "e.", "e.f.g."])
    names = [f"{draw(modules)}v{i}" for i in range(count)]
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    edges = [(names[min(p)], names[max(p)]) for p in draw(st.lists(pairs, max_size=2 * count))]
    edges = [(a, b) for a, b in edges if a != b]
    maps = [name for name in names if draw(st.integers(0, 4))]
    return Graph.from_edges(edges, nodes=names, deterministic=maps)
