"""Exports as ONNX, by torch's own exporter; the one module here that needs onnx."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.export import ExportedProgram

__all__ = ["check_onnx", "onnx_model"]


def onnx_model(
    program: ExportedProgram,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    notes: Mapping[str, Any],
) -> ModelProto:
    """Translate what torch traced into an ONNX model.

    Args:
        program: What torch traced.
        example: Its inputs.
        outputs: The names of its outputs.
        notes: What the model says of itself.

    Raises:
        ImportError: The extra `onnx` is not installed.
        NotImplementedError: ONNX lacks an operation.
    """
    _needed()
    _count_forwards(program)
    batch = torch.export.Dim("n", min=1)
    with _quiet():
        try:
            made = torch.onnx.export(
                program,
                kwargs=dict(example),
                input_names=[*example],
                output_names=[*outputs],
                dynamic_shapes={name: {0: batch} for name in example},
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise NotImplementedError(_reason(error)) from error
    assert made is not None, "there is no file to write to"
    model = made.model_proto
    model.producer_name = "daguerre"
    model.metadata_props.add(key="daguerre", value=json.dumps(notes))
    return model


def check_onnx(model: ModelProto, values: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Run an ONNX model by onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    names = [output.name for output in model.graph.output]
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(model).run(names, dict(values))
    assert isinstance(found, list), "outputs come in order"
    pairs = zip(names, found, strict=True)
    return {name: torch.from_numpy(np.array(value)) for name, value in pairs}


def _count_forwards(program: ExportedProgram) -> None:
    """Count axes of gathers from the first, for onnx's evaluator misreads those below zero."""
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.gather.default):
        values, axis, *rest = node.args
        if axis < 0:
            node.args = (values, axis + values.meta["val"].dim(), *rest)


def _needed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "to write ONNX, install the extra: pip install daguerre[onnx]"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from telling of other libraries, and of what it is going to change in itself."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    line = next((x for x in str(cause).splitlines() if x.strip()), type(cause).__name__)
    return f"this has no ONNX form: {line}; save it as .pt2"
