"""ONNX files as models: each node an operation that onnx's own reference implementation runs."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal, Uniform

from daguerre.graph import GraphError
from daguerre.nets.imported import Imported
from daguerre.nets.noise import Kept, Law, Noise
from daguerre.nets.onnx_run import (
    Inputs,
    Node,
    Run,
    Runs,
    array_of,
    draws,
    inside,
    loaded,
    option,
    tensor_of,
)
from daguerre.nets.recording import Held, Layout, Op, Recording, Result, Size, used

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["from_onnx"]

_SCOPES = "pkg.torch.onnx.name_scopes"


def from_onnx(path: str | os.PathLike[str], *, depth: int | None = None) -> Imported:
    r"""Read an ONNX file into a directed graphical model with deterministic CPDs.

    Each node becomes a variable, $p(h \mid \mathrm{pa}(h)) = \delta(h - f(\mathrm{pa}(h)))$, or
    each module where the file tells them (`blocks.0.conv` of `/blocks.0/conv/Conv`); what the file
    draws at random becomes latent variables; `If`, `Loop`, `Scan` and the file's own functions are
    one variable each. Edges that carry a size alone are left out. Nodes are run by onnx's
    reference implementation, on the CPU and without gradients; no code of the file is run.

    The batch is the symbolic dimension called batch, or else the first of each input if symbolic
    or unknown. The file is run on 2, 3 and 5 rows, and 4, 32 or 224 for other symbolic sizes, to
    see where the batch is in other values. A file for one batch size gives a model for that size.

    Args:
        path: The `.onnx` file; what it keeps in other files must be in its folder.
        depth: How many levels of modules to look into; by default all.

    Returns:
        A Model: `model.sample(given={"x": x})` gives every variable, `model(x)` the output, or a
        dictionary of outputs by name if there are several, equal to the bit to what the reference
        implementation gives.

    Raises:
        ImportError: onnx is not installed.
        FileNotFoundError: There is no such file.
        ValueError: It is no valid ONNX file, lacks data that it keeps in another file, or needs
            an opset newer than the installed onnx.
        GraphError: It has no inputs, has an operator without reference implementation, couples
            the rows of a batch, or draws random numbers in a way that is not known.
    """
    if depth is not None and depth < 1:
        raise ValueError(f"depth counts levels of modules from 1, not {depth}")
    reader = _Reader(Path(path).name, loaded(Path(path)))
    net, recording = OnnxFile(str(path)), reader.read()
    model = Imported(net, recording, depth)
    reader.verify(model)
    if not recording.is_bounded and not reader.fits_one(model):
        return Imported(net, replace(recording, least=2), depth)
    return model


class OnnxFile(nn.Module):
    """Stands for the net in a file, whose weights are constants of the recording."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def extra_repr(self) -> str:
        """Return the path of the file."""
        return self.path


class _Reader:
    """Goes through the nodes of a file once; `values` holds what stands for each value."""

    def __init__(self, name: str, model: ModelProto) -> None:
        from onnx.numpy_helper import to_array

        self.name, self.graph = name, model.graph
        if self.graph.sparse_initializer:
            raise GraphError(f"{name} holds sparse tensors, which are not known here")
        self.opset = max((o.version for o in model.opset_import if not o.domain), default=1)
        self.functions = {(f.domain, f.name): f for f in model.functions}
        self.known: dict[str, Any] = {t.name: to_array(t) for t in self.graph.initializer}
        self.inputs = Inputs(name, model, self.known)
        if not self.inputs.dims:
            raise GraphError(f"{name} has no inputs, so it is a function of nothing")
        self.nodes = [self._prepared(i, node, model) for i, node in enumerate(self.graph.node)]
        self.runs = Runs.of(model, self.inputs)
        self.ops: list[Op] = []
        self.values: dict[str, Any] = {"": None}
        self.sizes: set[str] = set()  # values made of sizes alone
        self.depends: set[int] = set()  # operations that depend on an input or on noise
        self.drawn: dict[int, tuple[str, Layout]] = {}  # what each noise operation draws
        self.constants: dict[str, Tensor] = {}

    def read(self) -> Recording:
        """Return the recording."""
        self.values |= {name: self._held(constant) for name, constant in self.known.items()}
        for name in self.inputs.dims:
            op = Op(_never, label=name, layout=self.runs.layout(name), role="input")
            self.values[name] = self._add(op)
        for node, function in zip(self.graph.node, self.nodes, strict=True):
            if self._is_random(node):
                self._random(node)
            elif node.output[0] not in self.known:
                self._map(node, function)
        outputs = {output.name: self._output(output.name) for output in self.graph.output}
        result = outputs if len(outputs) > 1 else next(iter(outputs.values()))
        how = "run by onnx's reference implementation: on the CPU, without gradients"
        notes = [f"read from {self.name} (ONNX, opset {self.opset}), {how}"]
        if free := self.inputs.free:
            notes.append(f"seen with {' = '.join(free)} = {self.runs.runs[0].free}")
        known = self.constants, tuple(notes), self.runs.batch or 1, self.runs.batch
        return Recording(tuple(self.ops), result, *known)

    def verify(self, model: Imported) -> None:
        """Compare the model to the bit with all runs of the file.

        Raises:
            GraphError: They differ.
        """
        for run in self.runs.runs:
            if name := self.differs(model, run):
                raise GraphError(
                    f"the model of {self.name} gives another {name} than onnx's reference"
                    f" implementation, on {run.n} rows"
                )

    def differs(self, model: Imported, run: Run) -> str | None:
        """Return the first output that is another on the inputs and draws of a run, if any is."""
        inputs = tuple(tensor_of(run.values[name]) for name in self.inputs.dims)
        drawn = {
            number: tensor_of(run.values[name]).to(layout.dtype).reshape(layout.sized(run.n))
            for number, (name, layout) in self.drawn.items()
        }
        found = model.replay(inputs, drawn)
        for output in self.graph.output:
            ours = array_of(found[output.name] if isinstance(found, dict) else found)
            theirs = run.values[output.name]
            same = (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            if not same or ours.tobytes() != theirs.tobytes():
                return output.name
        return None

    def fits_one(self, model: Imported) -> bool:
        """Whether one row is like more rows, for the file and for the model."""
        if (one := self.runs.one) is None:
            return False
        for name, value in self.values.items():
            layout = self.ops[value.number].layout if isinstance(value, Result) else None
            if layout is not None and layout.sized(1) != np.shape(one.values[name]):
                return False
        with suppress(GraphError, TypeError, NotImplementedError):
            return not self.differs(model, one)
        return False

    def _where(self, node: NodeProto) -> str:
        return f"{node.op_type} ({node.name or node.output[0]} in {self.name})"

    def _prepared(self, number: int, node: NodeProto, model: ModelProto) -> Node:
        """Refuse what has no graph of one row; make what is random the same in every run."""
        from onnx import __version__, helper

        where, parts = self._where(node), [node, *inside(node, self.functions)]
        if found := [part for part in parts[1:] if draws(part)]:
            raise GraphError(f"{where} draws random numbers inside it, with {found[0].op_type}")
        if node.op_type == "BatchNormalization" and (
            option(node, "training_mode", 0) or any(node.output[1:])
        ):
            raise GraphError(
                f"{where} is in training mode, in which the rows of a batch depend on each other,"
                " so there is no graph of one row; export the net in eval mode"
            )
        if self._is_random(node):
            is_dropout = node.op_type == "Dropout"
            if option(node, "seed", None) is None:
                seed = number if is_dropout else float(number)
                node.attribute.append(helper.make_attribute("seed", seed))
            if is_dropout and not any(node.output[1:]):
                node.output[1:] = [f"{node.output[0]}/mask"]
        function = Node.of(node, model)
        try:
            found = function.evaluator
        except Exception as error:
            kinds = {f"{part.op_type} of {part.domain or 'ai.onnx'}": None for part in parts}
            raise GraphError(
                f"{where} cannot be run: the reference implementation of onnx {__version__} does"
                f" not have {' or '.join(kinds)} (opset {self.opset})"
            ) from error
        if node.op_type == "Constant":
            self.known[node.output[0]], *_ = found.run(None, {})
        return function

    def _is_random(self, node: NodeProto) -> bool:
        if node.op_type != "Dropout" or not draws(node):
            return draws(node)
        if not {*node.input[1:]} <= {"", *self.known}:
            raise GraphError(
                f"{self._where(node)} decides when it is run whether and how much it drops out;"
                " export the net either in training or in eval mode"
            )
        return bool(self.known[node.input[2]])

    def _held(self, constant: Any) -> Any:
        """Return what stands for a constant: a buffer, or itself if torch has no such type."""
        tensor = tensor_of(constant)
        if not isinstance(tensor, Tensor):
            return tensor
        name = f"constant_{len(self.constants)}"
        self.constants[name] = tensor.clone()
        return Held(name)

    def _add(self, op: Op) -> Result:
        if op.role in ("input", "noise") or self._depend(op.arguments):
            self.depends.add(len(self.ops))
        self.ops.append(op)
        return Result(len(self.ops) - 1)

    def _depend(self, arguments: Any) -> bool:
        return any(isinstance(u, Result) and u.number in self.depends for u in used(arguments))

    def _map(self, node: NodeProto, function: Node) -> None:
        """Add a deterministic node; of several results, each is picked out of a list."""
        names = {i: name for i, name in enumerate(node.output) if name}
        given = {*function.names} - self.known.keys()
        is_size = node.op_type in ("Shape", "Size") or bool(given and given <= self.sizes)
        if is_size:
            self.sizes.update(names.values())
            if False not in [self._sized(name) for name in names.values()]:
                return
        arguments = tuple(self.values[name] for name in function.names)
        depends = self._depend(arguments)
        layouts = tuple(self.runs.layout(name, depends=depends) for name in names.values())
        function = replace(function, layouts=layouts)
        label, place = _label(node), self._where(node)
        op = Op(function, arguments, {"n": Size(1)}, label, _path(node), place)
        whole = self._add(replace(op, layout=None if is_size or len(names) > 1 else layouts[0]))
        for k, (i, name) in enumerate(names.items()):
            self.values[name] = whole
            if len(names) > 1:
                layout = None if is_size else layouts[k]
                part = Op(itemgetter(k), (whole,), {}, f"{label}_{i}", op.path, place, layout)
                self.values[name] = self._add(part)

    def _sized(self, name: str) -> bool:
        """Put a constant, or integers that grow with the batch, in place of a value."""
        found = self.runs.values(name)
        if not all(isinstance(a, np.ndarray) and a.shape == found[0].shape for a in found):
            return False
        if all(np.array_equal(a, found[0]) for a in found):
            self.values[name] = self._held(found[0])
            return True
        sizes = [self.runs.size(column) for column in zip(*(a.flat for a in found), strict=True)]
        if found[0].dtype.kind != "i" or None in sizes:
            return False
        fill = partial(_filled, shape=found[0].shape, dtype=tensor_of(found[0]).dtype)
        self.values[name] = self._add(Op(fill, (sizes,), label="size"))
        return True

    def _random(self, node: NodeProto) -> None:
        """Add a noise variable, and a map of what the node does with the draw."""
        where, path, is_dropout = self._where(node), _path(node), node.op_type == "Dropout"
        like = self.runs.layout(node.output[0])
        if like is None or option(node, "sample_size", 1) != 1:
            raise GraphError(f"{where} draws numbers in a shape that is not known here")
        noise = self._noise(node, like.dtype)
        layout = like._replace(shape=noise.shape(like.shape))
        if isinstance(noise.law, Law):
            law = replace(noise.law, event=layout.event, dtype=layout.dtype)
            op = Op(law, (), {}, "noise", path, where, layout, "noise")
        elif like.dim == 0 and like.inner == 1:
            op = Op(noise.law, noise.arguments, {}, _label(node), path, where, layout, "noise")
        else:
            raise GraphError(
                f"{where} draws from a distribution whose first dimension is not the batch,"
                f" {list(like.shape)}; move the batch to the front"
            )
        draw = self._add(op)
        drawn = node.output[1 if is_dropout else 0]
        self.values[drawn], self.drawn[draw.number] = draw, (drawn, layout)
        if noise.then is not None:
            op = Op(noise.then, (*noise.kept, draw), {}, _label(node), path, where, like)
            self.values[node.output[0]] = self._add(op)
        if is_dropout:
            layout = like._replace(dtype=torch.bool)
            mask = Op(Tensor.bool, (draw,), {}, "mask", path, where, layout)
            self.values[drawn] = self._add(mask)

    def _noise(self, node: NodeProto, dtype: torch.dtype) -> Noise:
        """Take a random node apart, the result of which has some type."""
        given = tuple(self.values[name] for name in node.input)
        match node.op_type:
            case "RandomNormal" | "RandomNormalLike":
                mean, scale = option(node, "mean", 0.0), option(node, "scale", 1.0)
                return Noise(Law(Normal, (mean, scale)))
            case "RandomUniform" | "RandomUniformLike":
                low, high = option(node, "low", 0.0), option(node, "high", 1.0)
                return Noise(Law(Uniform, (low, high)))
            case "Bernoulli":
                cast = partial(Tensor.to, dtype=dtype) if option(node, "dtype", 0) else None
                return Noise(Bernoulli, given, cast)
            case "Multinomial":
                column = partial(_column, dtype=dtype)
                return Noise(_categorical, given, column, shape=lambda shape: shape[:-1])
        ratio = self.known[node.input[1]]
        keep = float(1 - ratio)
        dropped = partial(_dropped, scale=torch.tensor(1 / (1 - ratio), dtype=dtype).item())
        return Noise(Law(partial(Kept, keep=keep), (keep,)), (), dropped, given[:1])

    def _output(self, name: str) -> Result:
        """Return a result that is a tensor."""
        value = self.values[name]
        if isinstance(value, Result) and self.ops[value.number].layout is not None:
            return value
        depends = self._depend([value])
        if (layout := self.runs.layout(name, depends=depends)) is None:
            tensor = tensor_of(self.runs.values(name)[0])
            if not isinstance(tensor, Tensor):
                raise GraphError(f"output {name} of {self.name} is no tensor of numbers")
            layout = Layout(tuple(tensor.shape), None, 1, tensor.dtype)
        # what is made of the size of the batch alone has to know it
        is_sized = isinstance(value, Result) and not depends
        rows = [self.values[name] for name in self.inputs.dims] if is_sized else []
        return self._add(Op(_first, (value, *rows), label=name, layout=layout))


def _never(*_: Any) -> None:
    raise AssertionError("an input is given, not computed")


def _first(value: Tensor, *_: Tensor) -> Tensor:
    return value


def _filled(numbers: list[int], *, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.tensor(numbers, dtype=dtype).reshape(shape)


def _dropped(x: Tensor, kept: Tensor, *, scale: float) -> Tensor:
    return kept.bool() * x * scale


def _categorical(logits: Tensor) -> Categorical:
    return Categorical(logits=logits)


def _column(draw: Tensor, *, dtype: torch.dtype) -> Tensor:
    return draw.unsqueeze(-1).to(dtype)


def _path(node: NodeProto) -> tuple[str, ...]:
    """Return the modules that a node is part of, outermost first.

    Newer exports of torch list them, `['', 'net', 'net.0', 'relu_2']`; older ones name them.
    """
    scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), None)
    if scopes is not None:
        return tuple(filter(None, re.findall(r"'([^']*)'", scopes)[:-1]))
    path, last = list[str](), ""
    for part in filter(None, node.name.split("/")[:-1]):
        above = path[-1] if path else ""
        if last and part.startswith(f"{last}."):
            above = above[: -len(last)].rstrip(".")
        path.append(f"{above}.{part}" if above else part)
        last = part
    return tuple(path)


def _label(node: NodeProto) -> str:
    """Return the name of a node where a person chose it, else the operator."""
    kind = node.op_type.lower()
    counted = rf"(node_.*|n?\d*|{re.escape(kind)}_?\d*)"
    is_chosen = "/" not in node.name and not re.fullmatch(counted, node.name.lower())
    return node.name if is_chosen else kind
