"""From what torch saw of a net to a recording: sizes, noise and names made plain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import SymInt, Tensor, fx, nn
from torch.fx.node import map_aggregate

from daguerre.graph import GraphError
from daguerre.nets.checks import Expect, hold, settle
from daguerre.nets.examples import batch_size, tensors_of
from daguerre.nets.ladder import Rung, Trace
from daguerre.nets.noise import Law, Noise, is_random, noise_of
from daguerre.nets.recording import (
    Held,
    HeldBy,
    Here,
    Layout,
    Op,
    Recording,
    Result,
    Size,
)
from daguerre.nets.sizes import Sizes

__all__ = ["record"]

_FILLED = {  # what uses the shape of a tensor and not its values, and what it fills in
    "zeros_like": 0,
    "ones_like": 1,
    "empty_like": 0,
    "full_like": None,
    "new_zeros": 0,
    "new_ones": 1,
    "new_empty": 0,
    "new_full": None,
}
_BROADCAST = "broadcast_tensors"
_RESHAPED: dict[str, Callable[..., Tensor]] = {  # what uses the shape of its second argument
    "view_as": torch.ops.aten.view.default,
    "reshape_as": torch.ops.aten.reshape.default,
    "expand_as": torch.ops.aten.expand.default,
    _BROADCAST: torch.ops.aten.expand.default,
}
_READ = ("item", "_local_scalar_dense")
_DROPPED = {"_assert_tensor_metadata", "sym_constrain_range", "sym_constrain_range_for_size"}


def record(net: nn.Module, example: Sequence[Any], names: Sequence[str], rung: Rung) -> Recording:
    """Watch a net run on an example and write down what it did.

    Args:
        net: The net, in the mode (train or eval) in which it is to be read.
        example: What it is called with; the first dimension of tensors is the batch.
        names: A name for each tensor among the leaves of the example.
        rung: How to watch it.

    Raises:
        GraphError: The net draws random numbers from a distribution that is not known.
        Exception: Whatever the net, or torch on watching it, raises.
    """
    seen = rung(net, example)
    inputs = dict(zip(seen.inputs, names, strict=True))
    recording = _Reader(seen, batch_size(example), inputs).read()
    if seen.replay:
        settle(recording, HeldBy(net, recording.constants), tensors_of(example))
    return recording


class _Reader:
    """Goes through the nodes of a trace once; `values` holds what stands for each of them."""

    def __init__(self, seen: Trace, n: int, inputs: dict[str, str]) -> None:
        self.seen, self.n, self.inputs = seen, n, inputs
        given = [node.meta.get("val") for node in seen.graph.nodes if node.name in inputs]
        self.sizes = Sizes(given, n)
        self.ops: list[Op] = []
        self.values: dict[fx.Node, Any] = {}
        self.constants: dict[str, Tensor] = {}
        self.read_at: tuple[tuple[str, ...], str] = (), ""

    def read(self) -> Recording:
        """Return the recording."""
        outputs: Any = None
        for node in self.seen.graph.nodes:
            match node.op:
                case "placeholder" | "get_attr":
                    self.values[node] = self._given(node)
                case "call_function":
                    self._call(node)
                case "output":
                    outputs = self._resolve(node.args[0])
        structure = self.seen.structure
        leaves = list(outputs)[: structure.num_leaves]
        outputs = pytree.tree_unflatten(leaves, structure)
        return Recording(
            tuple(self.ops), outputs, self.constants, self.seen.notes, *self.seen.rows
        )

    def _given(self, node: fx.Node) -> Any:
        """Return what stands for a placeholder or an attribute."""
        key = str(node.target) if node.op == "get_attr" else node.name
        if node.name in self.inputs:
            layout = self.sizes.layout(node.meta["val"])
            return self._add(Op(_never, label=self.inputs[node.name], layout=layout, role="input"))
        if key in self.seen.held:
            return Held(self.seen.held[key])
        constant = self.seen.constants.get(key)
        if isinstance(constant, Tensor):
            name = f"constant_{len(self.constants)}"
            self.constants[name] = constant
            return Held(name)
        return constant  # a graph inside an operation such as cond; or None

    def _call(self, node: fx.Node) -> None:
        target: Any = node.target
        value = node.meta.get("val")
        if self._is_size(node) and (size := self.sizes.size(value)) is not None:
            self.values[node] = size
            return
        arguments, options = list(self._resolve(node.args)), dict(self._resolve(node.kwargs))
        if "device" in options:
            options["device"] = Here()
        name = _name(target)
        if name in _DROPPED:
            return
        if is_random(target, tuple(node.args), dict(node.kwargs)):
            self.values[node] = self._random(node, tuple(arguments))
            return
        if (op := self._by_shape(name, node, arguments)) is not None:
            self.values[node] = self._unchanged(op) or self._add(op, node)
            return
        if name == "_assert_scalar":
            self._check(hold, arguments[0])
            return
        label = name
        if name == "getitem":  # part of a tuple: chunk_0
            label = f"{_name(node.all_input_nodes[0].target)}_{arguments[1]}"
        op = Op(target, tuple(arguments), options, label, layout=self.sizes.layout(value))
        self.values[node] = self._add(op, node)
        if name in _READ:
            self.read_at = _path(node), _place(node)
            if self.seen.replay:
                self._check(Expect(), self.values[node])

    def _check(self, function: Callable[..., None], value: Any) -> None:
        """Note what must hold for the path taken, and where the net read the value."""
        path, place = self.read_at
        self._add(Op(function, (value, place), {}, "check", path, place, role="check"))

    def _random(self, node: fx.Node, arguments: tuple[Any, ...]) -> Result:
        """Make a noise variable of a random operation, and a map of what it does with it."""
        if node.kwargs.get("generator") is not None:
            raise GraphError(
                f"{_name(node.target)}{_at(node)} draws from a generator of the net's own, which"
                " no model can draw from; use torch's"
            )
        noise = noise_of(node.target, arguments)
        if noise is None:
            raise GraphError(
                f"{_name(node.target)} draws random numbers from a distribution that is not known"
                f" here{_at(node)}; call net.eval() first, or write the draw with"
                " randn_like, rand_like, bernoulli, normal, poisson or dropout"
            )
        value = node.meta["val"]
        like = self.sizes.layout(value[0] if isinstance(value, tuple | list) else value)
        assert like is not None
        layout = like._replace(shape=noise.shape(like.shape))
        draw = self._add(self._noise(node, noise, layout), node)
        if noise.then is None:
            return draw
        label, result = _name(node.target), self.sizes.layout(value)
        return self._add(Op(noise.then, (*noise.kept, draw), {}, label, layout=result), node)

    def _noise(self, node: fx.Node, noise: Noise, layout: Layout) -> Op:
        if isinstance(noise.law, Law):
            law = replace(noise.law, event=layout.event, dtype=layout.dtype)
            return Op(law, label="noise", layout=layout, role="noise")
        if layout.dim != 0 or layout.inner != 1:
            raise GraphError(
                f"{_name(node.target)}{_at(node)} draws from a distribution whose first"
                f" dimension is not the batch, {list(layout.shape)}; move the batch to the front"
            )
        label = _name(node.target)
        return Op(noise.law, noise.arguments, {}, label, layout=layout, role="noise")

    def _by_shape(self, name: str, node: fx.Node, arguments: list[Any]) -> Op | None:
        """Replace what uses a tensor for its shape alone by what does not use it.

        `zeros_like(x)` becomes zeros of a size, `view_as(h, x)` a view of a size; None if the
        operation is not of that kind, or if the data decides on the size.
        """
        value, kind = node.meta.get("val"), name
        if name == "getitem" and _name((whole := node.all_input_nodes[0]).target) == _BROADCAST:
            kind, arguments = _BROADCAST, [self._resolve(whole.args[0])[arguments[1]]]
        if (kind not in _FILLED and kind not in _RESHAPED) or not isinstance(value, Tensor):
            return None
        shape = [self.sizes.size(s) for s in value.shape]
        if None in shape:
            return None
        layout = self.sizes.layout(value)
        if kind in _RESHAPED:
            return Op(_RESHAPED[kind], (arguments[0], shape), {}, kind, layout=layout)
        fill = _FILLED[kind]
        if fill is None:
            fill = node.kwargs.get("fill_value", arguments[-1])
        options = {"dtype": value.dtype, "device": Here()}
        return Op(torch.full, (shape, fill), options, kind, layout=layout)

    def _unchanged(self, op: Op) -> Result | None:
        """Return what an operation is given, if it is that which it returns."""
        source = op.arguments[0]
        same = isinstance(source, Result) and self.ops[source.number].layout == op.layout
        return source if same and op.label in _RESHAPED else None

    def _add(self, op: Op, node: fx.Node | None = None) -> Result:
        if node is not None:
            op = replace(op, path=_path(node), place=_place(node))
        self.ops.append(op)
        return Result(len(self.ops) - 1)

    def _resolve(self, argument: Any) -> Any:
        return map_aggregate(
            argument, lambda a: self.values.get(a) if isinstance(a, fx.Node) else a
        )

    def _is_size(self, node: fx.Node) -> bool:
        """Whether a node computes with shapes alone."""
        from_sizes = all(isinstance(self.values[a], Size | int) for a in node.all_input_nodes)
        is_size = isinstance(node.meta.get("val"), SymInt)
        return is_size and (from_sizes or _name(node.target) == "sym_size")


def _never(*_: Any) -> None:
    raise AssertionError("an input is given, not computed")


def _name(target: Any) -> str:
    packet = getattr(target, "overloadpacket", target)
    return packet.__name__


def _path(node: fx.Node) -> tuple[str, ...]:
    """Return the module calls a node ran in, the second of a shared module as `fc@1`."""
    path = []
    for key, (name, _) in (node.meta.get("nn_module_stack") or {}).items():
        _, at, count = str(key).partition("@")
        if name and not name.startswith("_empty_nn_module_stack"):
            path.append(f"{name}{at}{count}")
    return tuple(path)


def _at(node: fx.Node) -> str:
    place = _place(node)
    return f" ({place})" if place else ""


def _place(node: fx.Node) -> str:
    """Return file and line of the net's own code, not of torch's modules."""
    frames = [
        line.strip().split('"')
        for line in (node.meta.get("stack_trace") or "").splitlines()
        if line.strip().startswith("File ")
    ]
    own = [f for f in frames if "/torch/" not in f[1]] or frames
    if not own:
        return ""
    _, file, rest = own[-1][:3]
    return f"{file}:{rest.split(',')[1].removeprefix(' line ')}"
