"""ONNX files, loaded and run by onnx's own reference implementation, and what grows meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daguerre.graph import GraphError
from daguerre.nets.recording import Layout, Size

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

__all__ = [
    "Inputs",
    "Node",
    "Run",
    "Runs",
    "array_of",
    "draws",
    "inside",
    "loaded",
    "option",
    "tensor_of",
]

_RANDOM = ("RandomNormal", "RandomUniform", "Bernoulli", "Multinomial", "Dropout")
_ROWS = (2, 3, 5)  # a file is run on batches of these, to see what grows
_ONLY = (1, 2, 3, 4, 8, 16, 32, 64)  # or else on the first of these that it can be run on
_FREE = (4, 32, 224)  # and with the first of these that it can be run with as other free sizes


def loaded(path: Path) -> ModelProto:
    """Read and check a file, and what it keeps in other files.

    Raises:
        ImportError: onnx is not installed.
        FileNotFoundError: There is no such file.
        ValueError: It is no valid ONNX file, or one for a newer onnx.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx.checker import ValidationError
    except ImportError as error:
        raise ImportError("dg.nets.from_onnx needs onnx: pip install 'daguerre[onnx]'") from error
    if path.is_dir():
        raise ValueError(f"{path} is a folder; from_onnx takes the .onnx file in it")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path} is no ONNX file, or not all of one: {error}") from None
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            raise ValueError(
                f"{path} needs opset {opset.version}, and onnx {onnx.__version__} knows those up"
                f" to {newest}; update onnx, or export the file for an older opset"
            )
    problem = "keeps data in another file, which cannot be read"
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        problem = "is no valid ONNX file"
        onnx.checker.check_model(str(path))
    except (OSError, ValueError, ValidationError) as error:
        raise ValueError(f"{path} {problem}: {error}") from None
    for part in (*model.opset_import, *model.graph.node):
        part.domain = "" if part.domain == "ai.onnx" else part.domain
    return model


@dataclass(frozen=True)
class Node:
    """A node as a function of tensors.

    Attributes:
        model: A model of this node alone, as bytes.
        names: The values it uses, in order; its subgraphs may use some that it does not name.
        layouts: Where the batch is in its results, for runs on shapes alone.
    """

    model: bytes
    names: tuple[str, ...]
    layouts: tuple[Layout | None, ...] = ()

    @classmethod
    def of(cls, node: NodeProto, model: ModelProto) -> Node:
        """Take a node out of a model."""
        from onnx import ValueInfoProto, helper

        outputs = [ValueInfoProto(name=name) for name in node.output if name]
        graph = helper.make_graph([node], "node", [], outputs)
        functions = model.functions if node.domain or any(_graphs(node)) else ()
        opsets = model.opset_import
        alone = helper.make_model(graph, functions=functions, opset_imports=opsets)
        return cls(alone.SerializeToString(), tuple(_read_by(node)))

    @cached_property
    def evaluator(self) -> ReferenceEvaluator:
        """What runs the node."""
        from onnx import load_model_from_string

        return _evaluator(load_model_from_string(self.model))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "evaluator"}

    def __call__(self, *values: Any, n: int) -> Any:
        """Return the result, or the list of results."""
        from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensor

        tensors = [value for value in values if isinstance(value, Tensor)]
        if any(isinstance(tensor, FakeTensor) for tensor in tensors):
            if None in self.layouts:
                raise DynamicOutputShapeException(self)  # type: ignore[arg-type] - only shown
            results = [torch.empty(y.sized(n), dtype=y.dtype) for y in self.layouts if y]
        else:
            device = tensors[0].device if tensors else torch.get_default_device()
            given = dict(zip(self.names, map(array_of, values), strict=True))
            with np.errstate(all="ignore"):  # infinities are no warnings in torch either
                results = tensor_of(self.evaluator.run(None, given), device)
        return results[0] if len(results) == 1 else results


def _evaluator(model: ModelProto) -> ReferenceEvaluator:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model, new_ops=[_multinomial()])


def _multinomial() -> type[OpRun]:
    """Return an implementation of the only random operator that onnx has none of."""
    from onnx import TensorProto, helper
    from onnx.reference.op_run import OpRun

    class Multinomial(OpRun):
        op_domain = ""

        def _run(self, x: Any, dtype: Any, sample_size: int, seed: float) -> Any:
            gumbel = np.random.RandomState(int(seed)).gumbel(size=(sample_size, *x.shape))
            draws = (x + gumbel).argmax(-1).T
            return (draws.astype(helper.tensor_dtype_to_np_dtype(dtype or TensorProto.INT32)),)

    return Multinomial


def array_of(value: Any) -> Any:
    """Return a tensor as an array, without a copy where it is on the CPU; lists likewise."""
    if isinstance(value, list):
        return [array_of(v) for v in value]
    return value.numpy(force=True) if isinstance(value, Tensor) else value


def tensor_of(value: Any, device: torch.device | str = "cpu") -> Any:
    """Undo `array_of`; what torch has no type for (text, four bits, sparse) stays as it is."""
    if isinstance(value, list):
        return [tensor_of(v, device) for v in value]
    if not isinstance(value, np.ndarray):
        return value
    if not value.flags.writeable or any(stride < 0 for stride in value.strides):
        value = value.copy(order="K")
    try:
        return torch.from_numpy(value).to(device)
    except TypeError:
        return value


# What a node uses


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def inside(
    node: NodeProto, functions: Mapping[tuple[str, str], FunctionProto]
) -> Iterator[NodeProto]:
    """Iterate over the nodes in the subgraphs of a node and in the function that it calls."""
    called = functions.get((node.domain, node.op_type))
    for body in (*_graphs(node), *([called] if called else [])):
        for inner in body.node:
            yield inner
            yield from inside(inner, functions)


def draws(node: NodeProto) -> bool:
    """Whether a node draws random numbers, or may."""
    is_random = not node.domain and node.op_type.startswith(_RANDOM)
    return is_random and (node.op_type != "Dropout" or any(node.input[2:]))


def option(node: NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node."""
    from onnx.helper import get_attribute_value

    found = (get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(found, default)


def _read_by(node: NodeProto) -> list[str]:
    names = [name for name in node.input if name]
    for graph in _graphs(node):
        own = {value.name for value in (*graph.input, *graph.initializer)}
        for inner in graph.node:
            names += [name for name in _read_by(inner) if name not in own]
            own.update(inner.output)
        names += [value.name for value in graph.output if value.name not in own]
    return list(dict.fromkeys(names))


# What grows


class Inputs:
    """The inputs of a file, and which of their sizes are free.

    Attributes:
        file: The name of the file.
        dims: The sizes of each input; a symbol where it is free.
        batch: The symbols that stand for the batch.
        free: The other symbols.
    """

    def __init__(self, file: str, model: ModelProto, held: Iterable[str]) -> None:
        self.file = file
        known = {*held}
        declared = [value for value in model.graph.input if value.name not in known]
        self.kinds = {value.name: value.type.tensor_type for value in declared}
        self.dims: dict[str, list[int | str]] = {}
        for name, kind in self.kinds.items():
            if not kind.HasField("shape") or not isinstance(tensor_of(_zeros(kind)), Tensor):
                raise GraphError(
                    f"input {name} of {file} must be a tensor of numbers with declared dimensions"
                )
            self.dims[name] = [
                d.dim_value if d.dim_value > 0 else d.dim_param or f"{name}[{i}]"
                for i, d in enumerate(kind.shape.dim)
            ]
        symbols = {d for dims in self.dims.values() for d in dims if isinstance(d, str)}
        first = {dims[0] for dims in self.dims.values() if dims} & symbols
        self.batch = {s for s in symbols if "batch" in s.lower()} or first
        self.free = sorted(symbols - self.batch)

    def points(self) -> Iterator[list[tuple[int, int]]]:
        """Iterate over runs to try, best first: numbers of rows, with other free sizes."""
        fixed = next((int(dims[0]) for dims in self.dims.values() if dims and not self.batch), 1)
        rows = [_ROWS, *((n,) for n in _ONLY)] if self.batch else [(fixed,)]
        for sizes, free in product(rows, _FREE if self.free else _FREE[:1]):
            points = [(n, free) for n in (*sizes, *sizes)[: max(2, len(sizes))]]
            yield [*points, *([(sizes[0], 2 * free)] if self.free else [])]

    def example(self, number: int, n: int, free: int) -> dict[str, Any]:
        """Return random inputs for a run; integers are 0 or 1, which is an index of most things.

        Every second run has zeros among its numbers, and 0 for 1, so that sizes that depend on
        the data are none that depend on the batch alone.
        """
        generator, example = torch.Generator().manual_seed(0), {}
        for name, dims in self.dims.items():
            shape = [d if isinstance(d, int) else n if d in self.batch else free for d in dims]
            numbers, is_odd = torch.randn(shape, generator=generator), bool(number % 2)
            dtype = _zeros(self.kinds[name]).dtype
            if np.issubdtype(dtype, np.inexact):
                numbers = numbers.where(numbers.abs() > 0.5, 0.0) if is_odd else numbers
            else:
                numbers = (numbers > 0) ^ is_odd
            example[name] = numbers.numpy().astype(dtype)
        return example


def _zeros(kind: Any) -> np.ndarray:
    from onnx.helper import tensor_dtype_to_np_dtype

    return np.zeros(0, tensor_dtype_to_np_dtype(kind.elem_type))


class Run(NamedTuple):
    """All values of a file run on n rows, with other free sizes as given."""

    n: int
    free: int
    values: dict[str, Any]


class Runs(NamedTuple):
    """Runs of a file that tell what grows with the batch.

    Attributes:
        runs: The runs; at least two, and all but the last with the same free sizes.
        batch: The only batch size that the file can be run on; None if any.
        one: A run on one row, which may be special; None if it cannot be run so.
    """

    runs: list[Run]
    batch: int | None
    one: Run | None

    @classmethod
    def of(cls, model: ModelProto, inputs: Inputs) -> Runs:
        """Run a file on as many batches as tell what grows, or on the one it is fixed to.

        Raises:
            GraphError: It cannot be run on random inputs.
        """
        evaluator, reasons = _evaluator(model), []

        def run(number: int, n: int, free: int) -> Run:
            with np.errstate(all="ignore"):
                given = inputs.example(number, n, free)
                return Run(n, free, evaluator.run(None, given, intermediate=True))  # type: ignore[arg-type]

        for points in inputs.points():
            try:
                runs = [run(i, *point) for i, point in enumerate(points)]
            except Exception as error:  # noqa: BLE001 - whatever an operator raises is a reason
                reasons.append(str(error) or type(error).__name__)
                continue
            n, free = points[0]
            if all(n == k for k, _ in points):
                return cls(runs, n, None)
            try:
                return cls(runs, None, run(0, 1, free))
            except Exception:  # noqa: BLE001 - the file wants more rows than one
                return cls(runs, None, None)
        raise GraphError(
            f"{inputs.file} cannot be run by onnx's reference implementation on random inputs"
            f" {inputs.dims}: {reasons[0]}"
        )

    def values(self, name: str) -> list[Any]:
        """Return a value in each run."""
        return [run.values[name] for run in self.runs]

    def size(self, numbers: Iterable[Any]) -> Size | int | None:
        """Return a number as a function of the batch; None if it is none, or not linear."""
        found, (first, *_), factor = [int(k) for k in numbers], self.runs, 0
        if self.batch is None:
            factor = (found[1] - found[0]) // (self.runs[1].n - first.n)
        offset = found[0] - factor * first.n
        if any(k != factor * run.n + offset for k, run in zip(found, self.runs, strict=True)):
            return None
        return Size(factor, offset) if factor else offset

    def layout(self, name: str, *, depends: bool = True) -> Layout | None:
        """Find the batch in a value; None if it is no tensor, or grows in another way.

        Args:
            name: The value.
            depends: Whether it depends on an input; else it has rows only if it grows.
        """
        found = self.values(name)
        first = tensor_of(found[0])
        if not isinstance(first, Tensor) or len({np.ndim(value) for value in found}) > 1:
            return None
        whole = Layout(tuple(first.shape), None, 1, first.dtype)
        shapes = [np.shape(value) for value in found]
        sizes = [self.size(column) for column in zip(*shapes, strict=True)]
        if self.batch is None:
            for dim, size in enumerate(sizes):
                if isinstance(size, Size) and not size.offset:
                    return whole._replace(dim=dim, inner=size.factor)
            return whole if len({*shapes[: len(_ROWS)]}) == 1 else None
        if shapes[0] != shapes[1]:
            return None
        n = self.batch  # the only sign of it is its length
        rows = [
            (i, s // n) for i, s in enumerate(sizes) if isinstance(s, int) and s and s % n == 0
        ]
        if not rows or not depends:
            return whole
        dim, inner = min(rows, key=lambda row: row[1] != 1)
        return whole._replace(dim=dim, inner=inner)
