"""What comes of an export: a function of tensors that names its inputs and outputs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from daguerre.export.onnx_model import check_onnx, onnx_model
from daguerre.files import write_whole
from daguerre.graph import GraphError, did_you_mean
from daguerre.shapes import Shape
from daguerre.table import Table

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.export import ExportedProgram

__all__ = ["Exported", "largest_gap"]

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-2}
NOTES = "daguerre.json"


@dataclass(frozen=True, eq=False, repr=False)
class Exported:
    """A model as a function of tensors, for any batch size; weights are those of the export.

    Attributes:
        model: The class of the model.
        inputs: Shape and type of each input, by name.
        outputs: Shape and type of each output, by name.
        program: What torch traced.
        gap: The largest difference from the model that was seen.
        example: Inputs that it was checked on.
    """

    model: str
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    program: ExportedProgram
    gap: float
    example: Mapping[str, Tensor]

    def __call__(self, **values: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name.

        Args:
            values: The inputs, `[n, ...]` each.

        Raises:
            GraphError: A missing or unknown input, or one of another shape or type.
        """
        for name, shape in self.inputs.items():
            if name not in values:
                raise GraphError(f"the input {name} {shape} is missing: give {[*self.inputs]}")
            came = values[name]
            if tuple(came.shape[1:]) != shape.event or came.dtype != shape.dtype or not came.dim():
                raise GraphError(
                    f"the input {name} is {shape} {shape.dtype}, not {list(came.shape)}"
                    f" {came.dtype}"
                )
        for name in values:
            if name not in self.inputs:
                raise GraphError(f"no input {name!r}{did_you_mean(name, self.inputs)}")
        with torch.no_grad():
            return self._module(**values)

    @cached_property
    def _module(self) -> nn.Module:
        return self.program.module()

    @property
    def notes(self) -> dict[str, Any]:
        """What a file says of itself: model, inputs, outputs."""

        def told(shapes: Mapping[str, Shape]) -> dict[str, list[str]]:
            return {k: [str(s), str(s.dtype).removeprefix("torch.")] for k, s in shapes.items()}

        return {
            "model": self.model,
            "inputs": told(self.inputs),
            "outputs": told(self.outputs),
            "torch": torch.__version__,
        }

    def onnx(self) -> ModelProto:
        """Return it as an ONNX model, checked by the evaluator that defines ONNX.

        Raises:
            ImportError: The extra `onnx` is not installed.
            NotImplementedError: ONNX lacks an operation, or numpy a type.
            ValueError: What onnx's reference evaluator computes differs.
        """
        if torch.bfloat16 in {s.dtype for s in (*self.inputs.values(), *self.outputs.values())}:
            raise NotImplementedError(
                "numpy, by which ONNX models are checked, has no bfloat16: export model.float()"
            )
        made = onnx_model(self.program, self.example, [*self.outputs], self.notes)
        for rows in (1, len(next(iter(self.example.values())))):
            values = {name: value[:rows] for name, value in self.example.items()}
            found = check_onnx(made, {k: v.cpu().numpy() for k, v in values.items()})
            largest_gap(self(**values), found, "the ONNX model")
        return made

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as `.pt2`, which `torch.export.load` reads, or `.onnx`; all of it or nothing.

        A `.pt2` holds weights as bytes and the graph as JSON, and no pickle.

        Raises:
            ImportError: The extra `onnx` is not installed.
            OSError: The folder or the disk does not take it.
            ValueError: Another suffix; an ONNX model that computes something else.
        """
        match Path(path).suffix:
            case ".pt2":
                buffer = io.BytesIO()
                notes = {NOTES: json.dumps(self.notes)}
                torch.export.save(self.program, buffer, extra_files=notes)
                return write_whole(path, buffer.getvalue())
            case ".onnx":
                return write_whole(path, self.onnx().SerializeToString())
            case suffix:
                raise ValueError(f"exports are .pt2 or .onnx, not {suffix or 'without suffix'}")

    def __repr__(self) -> str:
        sides = (("input", self.inputs), ("output", self.outputs))
        rows = tuple(
            (side, name, str(s), str(s.dtype).removeprefix("torch."))
            for side, shapes in sides
            for name, s in shapes.items()
        )
        table = Table((self.model, "name", "shape", "dtype"), rows)
        return f"{table}\nequal to the model up to {self.gap:.1g}"


def largest_gap(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> float:
    """Return the largest difference of outputs.

    Raises:
        ValueError: It is too large, or the shapes differ.

    Example:
        >>> largest_gap({"x": torch.zeros(2)}, {"x": torch.full([2], 0.5)}, "the export")
        Traceback (most recent call last):
        ValueError: the export gives another x: it differs by up to 0.5 on 2 rows
    """
    gaps = [0.0]
    for name, values in expected.items():
        came, rows = found[name].to(values.device), len(values)
        if came.shape != values.shape or came.dtype != values.dtype:
            raise ValueError(
                f"{what} gives {name} as {list(came.shape)} {came.dtype} for {rows} rows, where"
                f" the model gives {list(values.shape)} {values.dtype}"
            )
        if values.numel():
            gaps.append(_gap(name, values, came, what))
    return max(gaps)


def _gap(name: str, values: Tensor, came: Tensor, what: str) -> float:
    same = (values == came) | (values.isnan() & came.isnan())  # infinities too
    gap = torch.where(same, 0.0, (values.double() - came.double()).abs()).max().item()
    finite = values.double().abs().nan_to_num(0.0, 0.0, 0.0).max().item()
    if not gap <= TOLERANCE.get(values.dtype, 0.0) * max(1.0, finite):
        raise ValueError(
            f"{what} gives another {name}: it differs by up to {gap:.3g} on {len(values)} rows"
        )
    return gap
