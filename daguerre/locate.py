"""Errors that say where: which variable, which edge, which layer, at which line.

Hot paths carry no bookkeeping. When something raises, the traceback is read once, at the
outermost call, for the step that was running and the innermost layer below it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from daguerre.graph import GraphError
from daguerre.program import Step

__all__ = ["located"]


@contextmanager
def located() -> Iterator[None]:
    """Turn an error raised inside a CPD into a GraphError that names variable, edge and layer."""
    try:
        yield
    except (GraphError, TypeError, NotImplementedError) as error:
        if isinstance(error, GraphError) or (step := _running(error).step) is None:
            raise
        raise type(error)(f"{error}" if str(step) in str(error) else f"{step}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, ValueError) as error:
        site = _running(error)
        if site.step is None:
            raise
        lines = [f"{site.step}: {str(error).strip() or type(error).__name__}"]
        lines += _layer(site.step, site.layer)
        lines += _indices(site) if "index" in str(error) else _starts(site.step)
        lines += _parents(site.step, site.values)
        raise GraphError("\n".join(lines)) from error


class _Site(NamedTuple):
    """Where an error came from.

    Attributes:
        step: The step that ran last.
        values: What was known then, `[rows, *event]`.
        layer: The innermost layer inside it.
        read: What the layer was called with, if that is one tensor.
    """

    step: Step | None = None
    values: dict[str, Tensor] = {}  # noqa: RUF012 - nobody writes into it
    layer: nn.Module | None = None
    read: Tensor | None = None


def _running(error: Exception) -> _Site:
    """Read the traceback."""
    site = _Site()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        local = frame.f_locals
        found = next((local[k] for k in ("self", "step") if isinstance(local.get(k), Step)), None)
        if found is not None:
            trace = local.get("values", getattr(local.get("trace"), "values", {}))
            site = _Site(found, trace if isinstance(trace, dict) else {})
        elif frame.f_code.co_name == "forward" and isinstance(local.get("self"), nn.Module):
            read = local.get("input")
            site = site._replace(
                layer=local["self"], read=read if isinstance(read, Tensor) else None
            )
    return site


def _layer(step: Step, layer: nn.Module | None) -> list[str]:
    if layer is None:
        return []
    owner = getattr(step.cpd, "__self__", None)
    modules = owner.named_modules() if isinstance(owner, nn.Module) else ()
    name = next((name for name, module in modules if module is layer), "")
    return [f"  in layer {name} = {layer}" if name else f"  in layer {layer}"]


def _parents(step: Step, values: Mapping[str, Tensor]) -> list[str]:
    met = [name for name in step.variable.parents if name in values]
    return [f"  {name} has shape {list(values[name].shape)}" for name in met]


def _starts(step: Step) -> list[str]:
    """Say what stands in for lagged parents, which only the first steps are called with."""
    lines = []
    for past in step.past:
        if not isinstance(start := past.start(), Distribution):
            shape = list(torch.as_tensor(start).shape)
            what = f"has shape {shape}" if shape else f"is {start}, so give a Tensor if"
            mend = "" if shape else f" {past.variable} is more than a number"
            lines.append(f"  init of {past.variable}[t{-past.steps:+d}] {what}{mend}")
    return lines


def _indices(site: _Site) -> list[str]:
    """Say which numbers were looked up, and how many there are."""
    if isinstance(site.layer, nn.Embedding) and site.read is not None:
        last, low, high = site.layer.num_embeddings - 1, *_ends(site.read)
        return [f"  it has rows 0 to {last}, but is asked for rows {low} to {high}"]
    assert site.step is not None
    names = [n for n in (site.step.name, *site.step.variable.parents) if n in site.values]
    whole = [n for n in names if not site.values[n].is_floating_point() and len(site.values[n])]
    return ["  {} holds numbers {} to {}".format(n, *_ends(site.values[n])) for n in whole]


def _ends(value: Tensor) -> tuple[int, int]:
    return int(value.min()), int(value.max())
