"""Errors that say where: which variable, which edge, which layer, at which line.

Hot paths carry no bookkeeping. When something raises, the traceback is read once, at the
outermost call, for the step that was running and the innermost layer below it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from daguerre.graph import GraphError
from daguerre.program import Step

__all__ = ["located"]


@contextmanager
def located() -> Iterator[None]:
    """Turn an error raised inside a CPD into a GraphError that names variable, edge and layer."""
    try:
        yield
    except (GraphError, TypeError, NotImplementedError) as error:
        if isinstance(error, GraphError) or (step := _running(error)[0]) is None:
            raise
        raise type(error)(f"{error}" if str(step) in str(error) else f"{step}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, ValueError) as error:
        step, values, layer = _running(error)
        if step is None:
            raise
        shapes = {p: list(values[p].shape) for p in step.variable.parents if p in values}
        lines = [f"{step}: {str(error).strip() or type(error).__name__}"]
        lines += [f"  in layer {_layer_name(step, layer)}"] if layer is not None else []
        lines += [f"  {parent} has shape {shape}" for parent, shape in shapes.items()]
        raise GraphError("\n".join(lines)) from error


def _running(error: Exception) -> tuple[Step | None, dict[str, Tensor], nn.Module | None]:
    """Read the traceback: the step that ran last, its values, the innermost layer inside it."""
    step, values, layer = None, {}, None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        local = frame.f_locals
        found = next((local[k] for k in ("self", "step") if isinstance(local.get(k), Step)), None)
        if found is not None:
            step, layer = found, None
            trace = local.get("values", getattr(local.get("trace"), "values", {}))
            values = trace if isinstance(trace, dict) else {}
        elif frame.f_code.co_name == "forward" and isinstance(local.get("self"), nn.Module):
            layer = local["self"]
    return step, values, layer


def _layer_name(step: Step, layer: nn.Module) -> str:
    owner = getattr(step.cpd, "__self__", None)
    modules = owner.named_modules() if isinstance(owner, nn.Module) else ()
    name = next((name for name, module in modules if module is layer), "")
    return f"{name} = {layer}" if name else str(layer)
